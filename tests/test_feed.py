"""The change feed: numbered in the order of commits, so that a reader with a cursor never skips."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from threading import Barrier, Event
from uuid import uuid4

import pytest
from azure.data.tables import TableServiceClient
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.tables import Table, Write
from sync.feed import Change, Head, read
from sync.runs import RUN, Claim, Run, run_row
from tests.house import House

NOW = datetime(2026, 11, 22, 6, tzinfo=UTC)
START = (0, 0)


@pytest.fixture
def data(house: House) -> Table:
    return house.app.tables.data


def changes(*ids: str) -> list[Change]:
    return [Change("user", each, "created") for each in ids]


def commit(data: Table, head: Head, items: Sequence[Change], connection: str = "primary", run: str = "1") -> None:
    head.advance(data.commit(connection, head.append(items, run, NOW))[-1])


def poll(data: Table, top: int, after: tuple[int, int] = START, connection: str = "primary") -> list[str]:
    """The ids that a reader sees who polls with its last cursor until nothing comes."""
    found: list[str] = []
    while got := read(data, connection, after, top):
        assert len(got) <= top
        found += [change["id"] for _, change in got]
        after = got[-1][0]
    return found


def test_what_a_reader_sees(data: Table) -> None:
    """Each change comes with its place, time, object, kind and run."""
    commit(data, Head(data, "primary"), [Change("user", "ann", "created"), Change("photo", "ann", "deleted")])

    assert read(data, "primary", START, 10) == [
        ((1, 0), {"at": NOW, "entity": "user", "id": "ann", "change": "created", "run": "1"}),
        ((1, 1), {"at": NOW, "entity": "photo", "id": "ann", "change": "deleted", "run": "1"}),
    ]


@pytest.mark.parametrize(
    ("after", "top", "expected"),
    [
        pytest.param((0, 0), 10, "abcde", id="from the start"),
        pytest.param((0, 0), 2, "ab", id="no more than asked for"),
        pytest.param((1, 0), 10, "bcde", id="from the middle of a row"),
        pytest.param((1, 1), 10, "cde", id="from the end of a row"),
        pytest.param((1, 1), 3, "cde", id="up to the very end"),
        pytest.param((2, 0), 1, "d", id="across rows"),
        pytest.param((3, 1), 10, "", id="after the last"),
        pytest.param((9, 9), 10, "", id="after what is not there yet"),
    ],
)
def test_read_from_a_place(data: Table, after: tuple[int, int], top: int, expected: str) -> None:
    """A reader goes on right behind its cursor, wherever in a row that is."""
    head = Head(data, "primary")
    for group in ("ab", "c", "de"):
        commit(data, head, changes(*group))

    assert "".join(change["id"] for _, change in read(data, "primary", after, top)) == expected


def test_connections_do_not_mix(data: Table) -> None:
    """Each connection has a feed of its own."""
    commit(data, Head(data, "primary"), changes("a"))
    commit(data, Head(data, "other"), changes("b"), "other")
    assert (poll(data, 9), poll(data, 9, connection="other")) == (["a"], ["b"])


def test_forget(data: Table) -> None:
    """A head that somebody else moved is read again once it is forgotten."""
    one, two = Head(data, "primary"), Head(data, "primary")
    commit(data, one, changes("a"))
    commit(data, two, changes("b"))
    one.forget()
    commit(data, one, changes("c"))
    assert poll(data, 1) == ["a", "b", "c"]


@settings(max_examples=15)
@given(
    writes=st.lists(st.tuples(st.sampled_from("12"), st.integers(1, 4)), min_size=1, max_size=8),
    tops=st.lists(st.integers(1, 5), min_size=1, max_size=4),
)
def test_reader_between_writers(azurite_data: Table, writes: list[tuple[str, int]], tops: list[int]) -> None:
    """Whatever two writers do by turns, a reader that polls in between sees all, once, in order."""
    connection = uuid4().hex
    claims = {run: claim(azurite_data, connection, run) for run in "12"}
    written: list[str] = []
    seen: list[str] = []
    after = START
    for step, (run, count) in enumerate(writes):
        ids = [f"{step}.{number}" for number in range(count)]
        claims[run].commit(NOW, changes=changes(*ids))
        written += ids
        got = read(azurite_data, connection, after, tops[step % len(tops)])
        seen += [change["id"] for _, change in got]
        after = got[-1][0] if got else after

    assert seen + poll(azurite_data, 3, after, connection) == written


@pytest.fixture(scope="module")
def azurite_data(azurite: str) -> Table:
    """A table for many connections: Hypothesis and fixtures of a test do not go together."""
    service = TableServiceClient.from_connection_string(azurite)
    return Table(service.create_table_if_not_exists("feeds"))


def claim(data: Table, connection: str, run_id: str) -> Claim:
    run = Run(run_id, connection, "users", "manual", "delta", dry_run=False, queued_at=NOW)
    etag = data.commit(connection, [Write("insert", RUN + run_id, run_row(run))])[0]
    taken = Claim.take(data, run, etag, now=NOW)
    assert taken is not None
    return taken


def test_two_writers_at_once(data: Table) -> None:
    """While two runs write at the same time, a reader that keeps polling sees each change once, each run's in order."""
    commits, start, done = 25, Barrier(3), Event()
    claims = [claim(data, "primary", run) for run in ("one", "two")]

    def write(mine: Claim) -> None:
        start.wait()
        for number in range(commits):
            mine.commit(NOW, changes=changes(f"{mine.run.id}-{number}a", f"{mine.run.id}-{number}b"))

    def watch() -> list[str]:
        seen: list[str] = []
        after = START
        start.wait()
        while True:
            last = done.is_set()
            got = read(data, "primary", after, 3)
            seen += [change["id"] for _, change in got]
            after = got[-1][0] if got else after
            if last and not got:
                return seen

    with ThreadPoolExecutor(3) as pool:
        watching = pool.submit(watch)
        writing = [pool.submit(write, mine) for mine in claims]
        wait(writing)
        done.set()
        seen = watching.result()
    for each in writing:
        each.result()

    for run in ("one", "two"):
        mine = [each for each in seen if each.startswith(run)]
        assert mine == [f"{run}-{number}{part}" for number in range(commits) for part in "ab"]
    assert len(seen) == 4 * commits


def test_cursor_of_the_api(house: House) -> None:
    """The portal's cursor is good for ever: an empty answer gives one to poll with, and a foreign one is refused."""
    tenant = house.cloud.generate(users=0)
    name = house.connect(tenant)
    assert house.changes(name)[0] == []
    _, cursor = house.changes(name)
    commit(house.app.tables.data, Head(house.app.tables.data, name), changes("a", "b", "c"))

    first = house.get(f"connections/{name}/changes?after={cursor}&top=2")
    assert [change["id"] for change in first["items"]] == ["a", "b"]
    assert first["next"] == first["items"][-1]["cursor"]
    second = house.get(f"connections/{name}/changes?after={first['next']}&top=2")
    assert [change["id"] for change in second["items"]] == ["c"]
    again = house.get(f"connections/{name}/changes?after={second['next']}")
    assert again == {"items": [], "next": second["next"]}
    assert house.call("GET", f"connections/{name}/changes?after=bm9uc2Vuc2U").status == 422
