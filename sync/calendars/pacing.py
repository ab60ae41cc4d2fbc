"""What a person may ask of the calendars: full syncs, one at a time and one in ten minutes, and another look."""

from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING

from storage.tables import Conflict, Write
from sync.errors import RequestError
from sync.runs import STATE, Run, active_run

if TYPE_CHECKING:
    from sync.wiring import App

SYNC = "calendars"
PAUSE = timedelta(minutes=10)
FULL_START, READ_START = "full_start", "read_start"
_ATTEMPTS = 10


def begin_full(app: "App", connection: str) -> Run | None:
    """The full sync that is in progress; None where another one may begin, which then counts as begun.

    Raises RequestError `full-sync-too-soon` with how long to wait, Conflict.
    """
    data = app.tables.data
    for _ in range(_ATTEMPTS):
        found = active_run(data, connection, SYNC)
        if found is not None and found[0].mode == "full":
            return found[0]
        row, now = data.get(connection, STATE + SYNC), app.clock()
        _refuse(now, row.get(FULL_START) if row else None)
        begun = Write("merge", STATE + SYNC, {FULL_START: now}, row["etag"]) if row else None
        try:
            data.commit(connection, [begun or Write("insert", STATE + SYNC, {FULL_START: now})])
        except Conflict:
            continue
        return None
    raise Conflict("others kept writing")


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
