"""When a sync is due: the time in its state, and the due index, whose rows make the timers look.

table due    family, {time}|{connection}|{what}    connection, and what the timer of the family needs to know

A row counts only while the state of its sync names the same time.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from storage.tables import Row, Write
from sync import schedule
from sync.runs import STATE
from sync.sync_settings import DailyIn, IntervalIn, ManualIn, SyncSettings, clock_time, parse_duration

if TYPE_CHECKING:
    from sync.wiring import App

DUE_FAMILY = {"photos": "photos", "calendars": "calendars"}
FAMILIES = ("photos", "directory", "calendars", "renewals", "credentials")


def due_key(due: datetime, connection: str, what: str) -> str:
    """A key of the due index: what is due first comes first."""
    return f"{due.isoformat(timespec='microseconds')}|{connection}|{what}"


def put_due(app: "App", sync: str, connection: str, due: datetime | None) -> None:
    if due is None:
        return
    row = {"connection": connection, "sync": sync, "due": due.isoformat()}
    app.tables.due.commit(DUE_FAMILY.get(sync, "directory"), [Write("replace", due_key(due, connection, sync), row)])


def put_poll(app: "App", sync: str, connection: str, due: datetime) -> None:
    """Have the timer of the sync's family look whether anything has to be polled."""
    row = {"connection": connection, "sync": sync, "due": due.isoformat(), "poll": True}
    app.tables.due.commit(DUE_FAMILY[sync], [Write("replace", due_key(due, connection, f"{sync}|poll"), row)])


def move_due(sync: str, due: datetime | None, state: Row) -> Write:
    """Set when a sync is due, unless its state has been written since `state` was read."""
    row = {"j_due": due and due.isoformat()}
    return Write("merge", STATE + sync, row, state["etag"]) if state else Write("insert", STATE + sync, row)


def move_poll(sync: str, due: datetime | None, state: Row) -> Write:
    """Set when to look whether anything has to be polled, on the same terms as `move_due`."""
    row = {"j_poll": due and due.isoformat()}
    return Write("merge", STATE + sync, row, state["etag"]) if state else Write("insert", STATE + sync, row)


def forget_due(app: "App", connection: str) -> None:
    """Drop every due row of a connection (a scan of the index: only for a connection that is removed)."""
    for family in FAMILIES:
        for row in app.tables.due.scan(family, where="connection eq @name", values={"name": connection}):
            app.tables.due.commit(family, [Write("delete", row["key"])])


def next_run(state: Mapping[str, Any]) -> datetime | None:
    """When a sync is due next, from its state row."""
    text = state.get("j_due")
    return datetime.fromisoformat(text) if text else None


def next_poll(state: Mapping[str, Any]) -> datetime | None:
    """When to look whether anything has to be polled, from the state row of a sync that polls."""
    text = state.get("j_poll")
    return datetime.fromisoformat(text) if text else None


def schedule_of(settings: SyncSettings) -> schedule.Schedule:
    match settings.schedule:
        case DailyIn(at=at, time_zone=zone):
            return schedule.Daily(clock_time(at), zone)
        case IntervalIn(every=every):
            return schedule.Interval(parse_duration(every))
        case ManualIn():
            return schedule.Manual()
