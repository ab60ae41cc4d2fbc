"""Schedules: what is due is started by the timers, once, and settings move it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from storage.meter import METER, Meter
from storage.tables import Conflict, Table, Write
from sync import jobs
from sync.due import put_due
from sync.errors import RequestError
from sync.jobs import WATCH, Finish, load_settings, save_settings, tick
from sync.runs import STATE, active_run
from sync.sync_settings import UsersSettings
from tests.house import House
from tests.runs import NAME, do, dues, next_run, portal, runs, schedule

__all__ = ["portal"]


def test_idle_tick_is_one_read(portal: House) -> None:
    """A tick with nothing due costs one storage transaction, however many syncs wait."""
    for sync in ("users", "photos"):
        schedule(portal, sync, mode="daily", at="01:00")
    for family in ("photos", "directory"):
        meter = Meter()
        token = METER.set(meter)
        tick(portal.app, family)
        METER.reset(token)
        assert meter.transactions == 1
    assert runs(portal) == runs(portal, "photos") == []


def test_interval_keeps_its_rhythm(portal: House) -> None:
    """An interval sync begins at once and goes on in its rhythm; after an outage it catches up once."""
    first = schedule(portal, mode="interval", every="PT4H")
    assert first
    for ahead, count in [(0, 1), (3.9, 1), (0.2, 2), (4, 3), (21, 4), (0, 4)]:
        portal.clock.ahead += timedelta(hours=ahead)
        tick(portal.app, "directory")
        portal.work()
        assert len(runs(portal)) == count
    assert next_run(portal) == first + timedelta(hours=32)
    assert {run["trigger"] for run in runs(portal)} == {"timer"}
    portal.clock.ahead += WATCH
    tick(portal.app, "directory")
    assert dues(portal) == [("users", first + timedelta(hours=32))]


def autumn_of(year: int) -> datetime:
    """00:00 in New York of the day in November on which the clocks go back: the first Sunday."""
    first = datetime(year, 11, 1, 4, tzinfo=UTC)
    return first + timedelta(days=6 - first.weekday())


def test_daily_across_the_autumn_change(portal: House) -> None:
    """Ticking through the night with two 01:00s and the days around it, a daily sync runs once a day."""
    change = autumn_of(portal.clock().year + 1)
    assert change.weekday() == 6
    move_to(portal, change - timedelta(hours=1))
    due = schedule(portal, "photos", mode="daily", at="01:00", timeZone="America/New_York")
    assert due == change + timedelta(hours=1)

    started: list[datetime] = []
    do(portal, lambda job: started.append(job.now()) or Finish({}))  # type: ignore[func-returns-value] # append gives None
    while portal.clock() < change + timedelta(hours=28):
        tick(portal.app, "photos")
        portal.work()
        portal.clock.ahead += timedelta(minutes=15)

    wanted = [change + timedelta(hours=1), change + timedelta(hours=26)]  # 01:00 EDT, then 01:00 EST
    assert [at - wish < timedelta(minutes=16) for at, wish in zip(started, wanted, strict=True)] == [True, True]


def move_to(house: House, at: datetime) -> None:
    house.clock.ahead += at - house.clock()


def test_manual_run_absorbs_an_overdue_one(portal: House) -> None:
    """A manual run in the place of a scheduled one that is overdue moves the schedule on: no second run at the tick."""
    due = schedule(portal, mode="interval", every="PT4H")
    assert due
    portal.clock.ahead += timedelta(minutes=1)
    portal.run(NAME, "users")
    assert next_run(portal) == due + timedelta(hours=4)
    tick(portal.app, "directory")
    assert [run["trigger"] for run in runs(portal)] == ["manual"]


def test_manual_run_before_its_time_moves_nothing(portal: House) -> None:
    """A manual run before the scheduled one is due leaves the schedule as it is."""
    due = schedule(portal, mode="daily", at="01:00")
    portal.run(NAME, "users")
    assert next_run(portal) == due


def test_due_while_active(portal: House) -> None:
    """A sync that is due while a run of it goes on becomes that run; its schedule moves on."""
    due = schedule(portal, mode="interval", every="PT4H")
    assert due
    tick(portal.app, "directory")
    portal.clock.ahead += timedelta(hours=4)
    tick(portal.app, "directory")
    assert len(runs(portal)) == 1
    assert next_run(portal) == due + timedelta(hours=8)


@pytest.mark.parametrize("off", [{"enabled": False}, {"schedule": {"mode": "manual"}}], ids=["disabled", "manual only"])
def test_stale_due_row(portal: House, off: dict[str, Any]) -> None:
    """What was due is not started once the sync is off or manual only; its row goes."""
    schedule(portal, mode="interval", every="PT4H")
    portal.enable(NAME, "users", **off)
    assert next_run(portal) is None
    tick(portal.app, "directory")
    assert (runs(portal), dues(portal)) == ([], [])


def test_rescheduled(portal: House) -> None:
    """A new schedule counts from now; the old due time leads to nothing."""
    schedule(portal, mode="daily", at="01:00")
    due = schedule(portal, mode="interval", every="PT1H")
    assert due
    assert timedelta(0) <= portal.clock() - due < timedelta(minutes=1)
    tick(portal.app, "directory")
    portal.work()
    portal.clock.ahead += timedelta(days=1)
    assert len(runs(portal)) == 1


def test_other_settings_keep_the_schedule(portal: House) -> None:
    """A setting that has nothing to do with the schedule leaves when the sync is due."""
    due = schedule(portal, mode="daily", at="01:00")
    assert due
    portal.enable(NAME, "users", schedule={"mode": "daily", "at": "01:00"}, includeGuests=True)
    assert next_run(portal) == due
    move_to(portal, due + timedelta(minutes=1))
    tick(portal.app, "directory")
    assert len(runs(portal)) == 1


def test_due_of_a_connection_that_is_gone(portal: House) -> None:
    """A due row without a state leads to nothing and goes."""
    row = {"connection": "gone", "sync": "users", "due": portal.clock().isoformat()}
    portal.app.tables.due.commit("directory", [Write("insert", f"{row['due']}|gone|users", row)])
    portal.clock.ahead += timedelta(seconds=1)
    tick(portal.app, "directory")
    assert dues(portal) == []


def test_tick_meets_a_run_that_ends(portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the state changes under a tick, the due row stays for the next one: no schedule is ever lost."""
    schedule(portal, mode="interval", every="PT4H")
    tick(portal.app, "directory")
    portal.clock.ahead += timedelta(hours=4, minutes=1)
    plain = active_run
    with monkeypatch.context() as patch:

        def ends(data: Table, connection: str, sync: str, **dry: bool) -> Any:
            found = plain(data, connection, sync, **dry)
            data.commit(connection, [Write("merge", STATE + sync, {"last_run": "x"})])
            return found

        patch.setattr("sync.jobs.active_run", ends)
        tick(portal.app, "directory")
    portal.work()

    tick(portal.app, "directory")
    portal.work()
    assert len(runs(portal)) == 2


def test_settings_meet_a_tick(portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that are saved while the state changes are saved, with the due time of that moment."""
    due = schedule(portal, mode="interval", every="PT4H")
    assert due
    settings, etag = load_settings(portal.app, NAME, "users")
    plain = put_due

    def meanwhile(*args: Any) -> None:
        monkeypatch.setattr("sync.jobs.put_due", plain)
        tick(portal.app, "directory")
        plain(*args)

    monkeypatch.setattr("sync.jobs.put_due", meanwhile)
    save_settings(portal.app, NAME, "users", settings.model_copy(update={"include_guests": True}), etag)

    changed, _ = load_settings(portal.app, NAME, "users")
    assert isinstance(changed, UsersSettings)
    assert (changed.include_guests, next_run(portal)) == (True, due + timedelta(hours=4))


def test_two_writers_of_settings(portal: House) -> None:
    """Of two people who change the same settings, the second hears of it."""
    settings, etag = load_settings(portal.app, NAME, "users")
    save_settings(portal.app, NAME, "users", settings, etag)
    with pytest.raises(Exception, match="UpdateConditionNotSatisfied"):
        save_settings(portal.app, NAME, "users", settings, etag)


@pytest.mark.parametrize("fault", [RequestError("busy", code="sync-busy"), Conflict("others wrote first")])
def test_tick_passes_over_a_fault(portal: House, monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    """One sync that cannot be started now does not keep the others; it is started at the next tick."""
    schedule(portal, mode="interval", every="PT4H")
    portal.connect(portal.tenants[NAME], "zz", users={"schedule": {"mode": "interval", "every": "PT4H"}})
    plain = jobs.start

    def busy(app: Any, connection: str, *args: Any, **options: Any) -> Any:
        if connection == NAME:
            raise fault
        return plain(app, connection, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "start", busy)
        tick(portal.app, "directory")
    assert runs(portal) == []
    assert len(portal.get("connections/zz/runs")["items"]) == 1

    tick(portal.app, "directory")
    assert len(runs(portal)) == 1
