"""The reservations of a room that somebody wants to see: of a time, a kind, a status."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from sync.calendars import occupancy, store
from sync.calendars.desk import Desk
from sync.calendars.model import Reservation
from sync.calendars.models import FIRST, LAST
from sync.calendars.recurrence import end_of_series
from sync.calendars.zones import to_utc
from sync.errors import RequestError

POSITION = r"[0-9TZ:+.-]{19,40}\|[^|]{1,800}"


@dataclass(frozen=True)
class Wanted:
    """What begins before `until` and ends after `since`. `status` and `kind` are None for what is usually shown."""

    since: datetime
    until: datetime
    status: str | None = None
    kind: str | None = None


def range_of(desk: Desk, first: date | datetime | None, last: date | datetime | None) -> tuple[datetime, datetime]:
    """The time between two days of the room, or instants; as far as there are reservations where an end is not told.

    Raises RequestError where the two are told and there is none between them.
    """
    since, until = (_instant(moment, desk.room.time_zone) for moment in (first or FIRST, last or LAST))
    if first is not None and last is not None and until <= since:
        raise RequestError("A parameter is not valid", fields=[("/to", "must be after from")])
    return since, until


def _instant(moment: date | datetime, zone: str) -> datetime:
    if isinstance(moment, datetime):
        return moment.astimezone(UTC)
    return to_utc(datetime.combine(moment, time()), zone)


def find(desk: Desk, wanted: Wanted, after: str) -> list[Reservation]:
    """All of them that come after the position `after`, in the order of their starts."""
    data = desk.app.tables.data
    clauses = ["start lt @until", "kind eq @kind" if wanted.kind else "kind ne 'series'"]
    if wanted.kind != "series":  # its row has the times of its first occurrence
        clauses.append("end gt @since")
    if wanted.status != "any":
        clauses.append("status eq @status" if wanted.status else "status ne 'cancelled'")
    values = {"since": wanted.since, "until": wanted.until, "kind": wanted.kind, "status": wanted.status}
    where = " and ".join(clauses)
    used = {name: value for name, value in values.items() if f"@{name}" in where}
    rows = data.scan(desk.name, store.reservation_key(desk.room.id, ""), where=where, values=used)
    found = [one for one in map(store.parse_reservation, rows) if _reaches(one, wanted.since)]
    shown = occupancy.visible(data, desk.name, desk.room.id, found)
    return sorted((one for one in shown if position(one) > after), key=position)


def _reaches(one: Reservation, since: datetime) -> bool:
    """Whether it is still going on at `since`; a series until its last occurrence."""
    if one.kind != "series" or one.recurrence is None:
        return one.kind == "series" or one.times.end > since
    end = end_of_series(one.recurrence, one.times)
    return end is None or end > since


def position(reservation: Reservation) -> str:
    """Where a reservation stands in the order of the list."""
    return f"{reservation.times.start.isoformat(timespec='seconds')}|{reservation.id}"
