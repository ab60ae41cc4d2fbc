"""The run's row and the claim through which alone a worker writes: on real tables."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError
from azure.data.tables import TableClient

from storage.tables import Conflict, Table, Write
from sync import feed
from sync.errors import Cancelled, LeaseLost, TenantsyncError
from sync.feed import Change
from sync.runs import ACTIVE, LEASE, LOG, RUN, Claim, LogLine, Run, active_run, load_run, new_id, parse_run, run_row
from tests.house import House

NOW = datetime(2026, 11, 22, 6, 0, 0, 123456, tzinfo=UTC)
ANN = Change("user", "ann", "created")
LINE = LogLine("warning", "user", "ann", "failed", "unreadable-mail", "Look at this user.")


def queued(run_id: str = "1") -> Run:
    return Run(run_id, "primary", "users", "manual", "delta", dry_run=False, queued_at=NOW)


@pytest.fixture
def data(house: House) -> Table:
    return house.app.tables.data


def stored(data: Table, run: Run) -> tuple[Run, str]:
    """`run` as a row, with its etag."""
    return run, data.commit(run.connection, [Write("insert", RUN + run.id, run_row(run))])[0]


def take(data: Table, run: Run | None = None, now: datetime = NOW) -> Claim:
    claim = Claim.take(data, *stored(data, run or queued()), now=now)
    assert claim is not None
    return claim


def load(data: Table, run_id: str = "1") -> Run:
    found = load_run(data, "primary", run_id)
    assert found is not None
    return found[0]


def told(data: Table) -> list[str]:
    return [change["id"] for _, change in feed.read(data, "primary", (0, 0), 1000)]


FULL = Run(
    id="1",
    connection="primary",
    sync="photos",
    trigger="timer",
    mode="full",
    dry_run=True,
    queued_at=NOW,
    status="running",
    unit="people",
    total=5,
    counts={"created": 2, "failed": 1},
    graph={"requests": 3},
    transactions=7,
    slice=4,
    commits=9,
    attempt=2,
    checkpoint={"after": "user|~20ü", "pending": [["user|1", "bytes", True, ""]]},
    owner="abc",
    lease_until=NOW + LEASE,
    not_before=NOW + timedelta(hours=1),
    cancel=True,
    started_at=NOW,
    finished_at=NOW,
    error={"code": "x", "detail": "y", "remedy": "z"},
)


@pytest.mark.parametrize("run", [queued(), FULL], ids=["just queued", "every field set"])
def test_row(data: Table, run: Run) -> None:
    """A run comes back from its row as it was; the columns for filters say the same."""
    stored(data, run)
    row = data.get("primary", RUN + run.id)
    assert row is not None
    assert parse_run("primary", row) == run
    assert (row["sync"], row["status"], row["cancel"]) == (run.sync, run.status, run.cancel)


def test_ids_are_newest_first() -> None:
    """A later run comes first in the order of keys, and no two runs share an id."""
    earlier, later = new_id(NOW), new_id(NOW + timedelta(milliseconds=1))
    assert later < earlier
    assert new_id(NOW) != new_id(NOW)


@pytest.mark.parametrize(
    ("owner", "lease", "expected"),
    [("", None, False), ("a", None, False), ("a", 1, True), ("a", 0, False), ("a", -1, False), ("", 1, False)],
)
def test_held_by_other(owner: str, lease: int | None, expected: bool) -> None:
    """A run is held while its owner's lease runs, to the very second."""
    until = None if lease is None else NOW + timedelta(seconds=lease)
    assert replace(queued(), owner=owner, lease_until=until).held_by_other(NOW) is expected


def test_done_is_the_sum_of_counts() -> None:
    """Progress is what the counts add up to."""
    assert (queued().done, FULL.done) == (0, 3)


def test_load_what_is_not_there(data: Table) -> None:
    """A run or an active run that is not there is None, also where only the pointer is left."""
    assert load_run(data, "primary", "1") is None
    assert active_run(data, "primary", "users") is None
    data.commit("primary", [Write("insert", ACTIVE + "users", {"run": "1"})])
    assert active_run(data, "primary", "users") is None


def test_take(data: Table) -> None:
    """A claimed run is running under a lease, counts one slice more, and keeps when it began first."""
    claim = take(data, replace(queued(), slice=3, started_at=NOW - LEASE, not_before=NOW, attempt=2))

    assert claim.run == load(data)
    assert claim.run.owner
    assert claim.run == replace(
        queued(),
        status="running",
        owner=claim.run.owner,
        lease_until=NOW + LEASE,
        slice=4,
        started_at=NOW - LEASE,
        attempt=2,
    )


def test_second_taker_loses(data: Table) -> None:
    """Of two workers that saw the same run one gets it."""
    run, etag = stored(data, queued())
    first = Claim.take(data, run, etag, now=NOW)
    assert first is not None
    assert Claim.take(data, run, etag, now=NOW) is None
    assert load(data) == first.run


def test_take_what_is_gone(data: Table) -> None:
    """A run whose row was removed meanwhile is not taken."""
    run, etag = stored(data, queued())
    data.commit("primary", [Write("delete", RUN + "1")])
    assert Claim.take(data, run, etag, now=NOW) is None


def test_commit_is_one_transaction(data: Table) -> None:
    """Rows, feed, log, counts, checkpoint, cost and lease are written together, and the run's claim goes on."""
    claim = take(data, replace(queued(), counts={"created": 1}, attempt=2))
    claim.cost = lambda: {"transactions": 5}
    later = NOW + timedelta(seconds=30)

    claim.commit(
        later, [Write("merge", "user|ann", {"a": 1})], changes=[ANN], log=[LINE], outcomes={"created": 2, "failed": 1},
        checkpoint={"after": "ann"},
    )  # fmt: skip

    assert claim.run == load(data)
    assert claim.run.counts == {"created": 3, "failed": 1}
    assert (claim.run.lease_until, claim.run.attempt, claim.run.transactions) == (later + LEASE, 0, 5)
    assert claim.run.checkpoint == {"after": "ann"}
    assert told(data) == ["ann"]
    assert [row["j_lines"] for row in data.scan("primary", LOG)] == [
        [["warning", "user", "ann", "failed", "unreadable-mail", "Look at this user."]]
    ]
    claim.commit(later, [Write("delete", "user|ann")])
    assert data.get("primary", "user|ann") is None


def test_commit_of_nothing_renews_the_lease(data: Table) -> None:
    """A commit without anything to write still says that the worker lives."""
    claim = take(data)
    claim.commit(NOW + LEASE)
    assert load(data).lease_until == NOW + 2 * LEASE


def test_log_is_in_order_and_whole(data: Table) -> None:
    """Every row of the log stays, in the order of slices and commits."""
    claim = take(data)
    claim.commit(NOW, log=[replace(LINE, id="a")])
    claim.commit(NOW, log=[replace(LINE, id="b"), replace(LINE, id="c")])
    claim.release(NOW)
    again = Claim.take(data, *(load_run(data, "primary", "1") or pytest.fail()), now=NOW)
    assert again is not None
    again.commit(NOW, log=[replace(LINE, id="d")])

    assert [line[2] for row in data.scan("primary", LOG + "1|") for line in row["j_lines"]] == ["a", "b", "c", "d"]


def test_two_runs_share_the_feed(data: Table) -> None:
    """Two claims that write by turns meet at the head of the feed; both get through and nothing is lost."""
    one, two = take(data, queued("1")), take(data, queued("2"))
    for number in range(3):
        one.commit(
            NOW, [Write("merge", f"user|{number}", {"by": 1})], changes=[Change("user", f"1-{number}", "created")]
        )
        two.commit(NOW, changes=[Change("user", f"2-{number}", "created")], outcomes={"created": 1})

    assert told(data) == ["1-0", "2-0", "1-1", "2-1", "1-2", "2-2"]
    assert load(data, "2").counts == {"created": 3}


def lose_lease(data: Table, claim: Claim) -> None:
    assert Claim.take(data, *(load_run(data, "primary", "1") or pytest.fail()), now=NOW) is not None


def remove(data: Table, claim: Claim) -> None:
    data.commit("primary", [Write("delete", RUN + "1")])


def finish(data: Table, claim: Claim) -> None:
    ended = replace(claim.run, status="cancelled", owner="", lease_until=None)
    data.commit("primary", [Write("replace", RUN + "1", run_row(ended))])


def ask_to_cancel(data: Table, claim: Claim) -> None:
    data.commit("primary", [Write("replace", RUN + "1", run_row(replace(claim.run, cancel=True)))])


@pytest.mark.parametrize(
    ("happens", "error"),
    [(lose_lease, LeaseLost), (remove, LeaseLost), (finish, LeaseLost), (ask_to_cancel, Cancelled)],
)
def test_stale_worker_cannot_write(
    data: Table, happens: Callable[[Table, Claim], None], error: type[TenantsyncError]
) -> None:
    """A worker whose run was taken, removed, finished or cancelled meanwhile writes nothing, and learns why."""
    claim = take(data)
    happens(data, claim)
    before = list(data.scan("primary"))

    with pytest.raises(error):
        claim.commit(NOW, [Write("merge", "user|ann", {"a": 1})], changes=[ANN], log=[LINE], outcomes={"created": 1})

    assert list(data.scan("primary")) == before


def test_cancelled_worker_can_finish(data: Table) -> None:
    """Whoever learned that the run was cancelled still holds it, to write down its end."""
    claim = take(data)
    claim.commit(NOW, outcomes={"created": 1})
    ask_to_cancel(data, claim)
    with pytest.raises(Cancelled):
        claim.commit(NOW, outcomes={"created": 5})

    claim.commit(NOW, status="cancelled")

    assert (load(data).status, load(data).counts) == ("cancelled", {"created": 1})


def test_impossible_transaction(data: Table) -> None:
    """A condition of a sync's own write that does not hold is told at once, with its place and nothing written."""
    data.commit("primary", [Write("insert", "user|ann", {"a": 1})])
    claim = take(data)
    before = list(data.scan("primary"))

    with pytest.raises(Conflict) as caught:
        claim.commit(NOW, [Write("merge", "user|bob", {"a": 2}), Write("insert", "user|ann", {"a": 2})], changes=[ANN])

    assert caught.value.place == 2  # the run's own row comes first
    assert list(data.scan("primary")) == before


def test_release(data: Table) -> None:
    """A released run has no owner and no lease and keeps its count of attempts; anybody may take it."""
    claim = take(data, replace(queued(), attempt=3))
    claim.release(NOW, not_before=NOW + LEASE)

    run = load(data)
    assert (run.owner, run.lease_until, run.attempt, run.not_before) == ("", None, 3, NOW + LEASE)
    assert Claim.take(data, *(load_run(data, "primary", "1") or pytest.fail()), now=NOW) is not None


# --- answers that are lost -------------------------------------------------------------------------------------------


def send_twice(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """The next write by `method` arrives, its answer does not, and the SDK sends it again."""
    plain = getattr(TableClient, method)

    def twice(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(TableClient, method, plain)
        plain(*args, **options)
        return plain(*args, **options)

    monkeypatch.setattr(TableClient, method, twice)


def test_commit_whose_answer_is_lost(data: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that arrived although its answer did not is not done twice, and the worker goes on."""
    claim = take(data)
    send_twice(monkeypatch, "submit_transaction")
    claim.commit(NOW, [Write("insert", "user|ann", {"a": 1})], changes=[ANN], log=[LINE], outcomes={"created": 1})
    claim.commit(NOW, changes=[Change("user", "bob", "created")], outcomes={"created": 1})

    assert told(data) == ["ann", "bob"]
    assert (load(data), claim.run.counts) == (claim.run, {"created": 2})


def test_last_commit_whose_answer_is_lost(data: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a commit that gives the run up is known again."""
    claim = take(data)
    send_twice(monkeypatch, "update_entity")
    claim.commit(NOW, status="succeeded", owner="", lease_until=None)
    assert load(data).status == "succeeded"


def test_commit_that_failed_only_here(data: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that came through although the worker was told otherwise is not undone by what the worker writes next."""
    claim = take(data)
    claim.commit(NOW, outcomes={"created": 1})
    plain = Table.commit

    def fail(*args: Any) -> list[str]:
        monkeypatch.setattr(Table, "commit", plain)
        plain(*args)
        raise ServiceRequestError("no answer")

    monkeypatch.setattr(Table, "commit", fail)
    with pytest.raises(ServiceRequestError):
        claim.commit(NOW, changes=[ANN], outcomes={"created": 2}, checkpoint={"after": "ann"})

    claim.release(NOW)

    run = load(data)
    assert (run.owner, run.counts, run.checkpoint) == ("", {"created": 3}, {"after": "ann"})
    assert told(data) == ["ann"]


def test_take_whose_answer_is_lost(data: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim that arrived although its answer did not is held by the worker that made it."""
    run, etag = stored(data, queued())
    send_twice(monkeypatch, "update_entity")
    claim = Claim.take(data, run, etag, now=NOW)
    assert claim is not None
    claim.commit(NOW, outcomes={"created": 1})
    assert load(data).counts == {"created": 1}


def test_conflict_is_a_conflict(data: Table) -> None:
    """What the tests above rely on: a write that is sent twice with the same etag fails the second time."""
    run, etag = stored(data, queued())
    data.commit("primary", [Write("replace", RUN + run.id, run_row(run), etag)])
    with pytest.raises(Conflict):
        data.commit("primary", [Write("replace", RUN + run.id, run_row(run), etag)])
