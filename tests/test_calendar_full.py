"""Sync all calendars: asked for by a person, at most once in ten minutes."""

from datetime import timedelta
from typing import Any

import pytest

from sync import jobs
from sync.calendars import run, store
from sync.calendars.pull import pull as real_pull
from sync.runs import load_run
from tests.calendars import CALENDARS
from tests.cloud import NewTenant
from tests.house import Answer, House
from tests.rooms import NAME, open_room, problem, together

RUNS = f"connections/{NAME}/syncs/calendars/runs"


@pytest.fixture
def portal(house: House, new_tenant: NewTenant) -> House:
    """A portal with the calendar of one room."""
    return open_room(house, new_tenant(rooms=1, roles=CALENDARS))


def ask(house: House, mode: str = "full", **body: object) -> Answer:
    return house.call("POST", RUNS, {"mode": mode, **body})


def full_at(house: House) -> object:
    return store.load_state(house.app.tables.data, NAME, "oak")[0].full_at


def test_ten_minutes(portal: House) -> None:
    """The second press comes too soon until ten minutes have passed since the first; then every room is read anew."""
    first = ask(portal)
    portal.work()
    seen = full_at(portal)
    portal.clock.ahead += timedelta(minutes=9)

    too_soon = ask(portal)

    assert first.status == 202
    assert problem(too_soon) == (429, "full-sync-too-soon")
    assert 0 < int(too_soon.headers["Retry-After"]) <= 60
    assert ask(portal, "delta").status == 202
    assert ask(portal, dryRun=True).status == 202
    portal.work()
    assert full_at(portal) == seen
    portal.clock.ahead += timedelta(minutes=1)
    assert ask(portal).status == 202
    portal.work()
    assert full_at(portal) != seen


def test_the_one_in_progress(portal: House) -> None:
    """While a full sync is under way, whoever asks is given that one."""
    first = ask(portal)

    again = ask(portal)

    assert (again.status, again.json["id"]) == (202, first.json["id"])
    assert again.headers["Location"] == first.headers["Location"]


def test_two_at_once(portal: House) -> None:
    """Of two presses at the same moment at most one starts a run, and none of them two."""
    answers = together(*(lambda: ask(portal) for _ in range(3)))

    assert {answer.status for answer in answers} <= {202, 429}
    runs = portal.get(f"connections/{NAME}/runs?sync=calendars")["items"]
    assert len([one for one in runs if one["mode"] == "full"]) == 1
    assert {answer.json["id"] for answer in answers if answer.status == 202} == {runs[0]["id"]}


def test_asked_for_as_a_worker_takes_the_run_that_waits(portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run becomes the full sync in the very moment in which a worker takes it: that worker does it."""
    first = ask(portal, "delta")

    def and_meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr("sync.jobs.load_run", load_run)
        found = load_run(*arguments)
        assert ask(portal).json["id"] == first.json["id"]
        return found

    monkeypatch.setattr("sync.jobs.load_run", and_meanwhile)
    portal.work()

    done = portal.get(f"connections/{NAME}/runs/{first.json['id']}")
    assert (done["mode"], done["status"]) == ("full", "succeeded")


def test_asked_for_while_another_run_is_at_work(portal: House) -> None:
    """Asked for in the very last moment of another run, it is done by the next, which follows at once."""
    ask(portal, "delta")
    executor = portal.app.executors["calendars"]

    def late(work: jobs.Work) -> jobs.Finish | None:
        finish = executor(work)
        portal.app.executors = {**portal.app.executors, "calendars": executor}
        assert ask(portal).json["id"] == work.run.id
        return finish

    portal.app.executors = {**portal.app.executors, "calendars": late}
    seen = full_at(portal)

    portal.work()

    assert full_at(portal) != seen


def test_joined_to_a_run_that_waits(portal: House) -> None:
    """Pressed while another run is active, that run does it and shows it, and whoever presses again is given it."""
    active = ask(portal, "delta").json["id"]
    seen = full_at(portal)

    presses = [ask(portal) for _ in range(2)]
    portal.work()

    assert [(one.status, one.json["id"], one.json["mode"]) for one in presses] == [(202, active, "full")] * 2
    shown = portal.get(f"connections/{NAME}/runs/{active}")
    assert (shown["mode"], shown["status"]) == ("full", "succeeded")
    assert full_at(portal) != seen
    assert problem(ask(portal)) == (429, "full-sync-too-soon")


@pytest.mark.parametrize("moment", ["while a room is read", "at the very end"])
def test_joined_to_a_run_at_work(portal: House, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """The same while a worker holds it, and for the run that follows where it came too late."""
    presses: list[Answer] = []
    executor = portal.app.executors["calendars"]

    def press(at: str) -> None:
        if (moment == at and not presses) or (presses and len(presses) < 3):
            presses.append(ask(portal))

    def pull(*args: Any, **kwargs: Any) -> Any:
        found = real_pull(*args, **kwargs)
        press("while a room is read")
        return found

    def late(work: jobs.Work) -> jobs.Finish | None:
        finish = executor(work)
        press("at the very end")
        return finish

    active = ask(portal, "delta").json["id"]
    seen = full_at(portal)
    monkeypatch.setattr(run, "pull", pull)
    monkeypatch.setattr(portal.app, "executors", {**portal.app.executors, "calendars": late})
    portal.work()

    assert full_at(portal) != seen
    assert {(one.status, one.json["mode"]) for one in presses} == {(202, "full")}
    assert len(presses) == 3
    assert presses[0].json["id"] == active
    runs = portal.get(f"connections/{NAME}/runs?sync=calendars")["items"]
    assert {one["id"] for one in runs if one["mode"] == "full"} == {one.json["id"] for one in presses}


def test_where_the_sync_is_off(portal: House) -> None:
    """A request that is refused does not count."""
    portal.enable(NAME, "calendars", enabled=False)
    refused = ask(portal)
    portal.enable(NAME, "calendars")

    assert problem(refused) == (409, "sync-disabled")
    assert ask(portal).status == 202
