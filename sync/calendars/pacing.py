"""What a person may ask of the calendars: full syncs, one at a time and one in ten minutes, and another look."""

from dataclasses import replace
from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING

from storage.tables import Conflict, Row, Table, Write
from sync.calendars.store import load_rooms, load_states
from sync.errors import RequestError
from sync.runs import RUN, STATE, Run, active_run, run_row

if TYPE_CHECKING:
    from sync.wiring import App

SYNC = "calendars"
PAUSE = timedelta(minutes=10)
FULL_START, READ_START = "full_start", "read_start"
_ATTEMPTS = 10


def begin_full(app: "App", connection: str) -> Run | None:
    """The full sync that is in progress; None where another one may begin, which then counts as begun.

    A run that is active becomes that one: it sees that every room is to be read from the beginning. Raises RequestError
    `full-sync-too-soon` with how long to wait, Conflict.
    """
    data = app.tables.data
    for _ in range(_ATTEMPTS):
        found = active_run(data, connection, SYNC)
        if found is not None and found[0].mode == "full":
            return found[0]
        row, now = data.get(connection, STATE + SYNC), app.clock()
        last: datetime | None = row.get(FULL_START) if row else None
        rest = found is not None and last is not None and now - last < PAUSE and _is_undone(data, connection, last)
        if not rest:
            _refuse(now, last)
        begun = [] if rest else [_begun(now, row)]
        try:
            data.commit(connection, [*begun, *([_made_full(*found)] if found else [])])
        except Conflict:
            continue
        if not rest:
            return None
    raise Conflict("others kept writing")


def _is_undone(data: Table, connection: str, started: datetime) -> bool:
    """Whether a full sync has left rooms to the run that follows: it came too late for the one before."""
    states = load_states(data, connection)
    done = [state.full_at for room in load_rooms(data, connection) if room.active and (state := states.get(room.id))]
    return any(at is None or at < started for at in done)


def _begun(now: datetime, row: Row | None) -> Write:
    if row is None:
        return Write("insert", STATE + SYNC, {FULL_START: now})
    return Write("merge", STATE + SYNC, {FULL_START: now}, row["etag"])


def _made_full(run: Run, etag: str) -> Write:
    return Write("replace", RUN + run.id, run_row(replace(run, mode="full")), etag)


def begin_reading(app: "App", connection: str) -> None:
    """Have every calendar read that was not read since now, by whatever run is active or comes next."""
    app.tables.data.commit(connection, [Write("merge", STATE + SYNC, {READ_START: app.clock()})])


def _refuse(now: datetime, last: datetime | None) -> None:
    wait = last + PAUSE - now if last is not None else timedelta(0)
    if wait > timedelta(0):
        raise RequestError(
            "All calendars were synced less than ten minutes ago",
            code="full-sync-too-soon",
            status=429,
            remedy="Wait; what changes meanwhile is synced as it happens.",
            headers={"Retry-After": str(ceil(wait.total_seconds()))},
        )
