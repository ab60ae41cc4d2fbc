"""Whether a room is free: by what is stored here, and by what its calendar holds at Microsoft."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from storage.tables import Row, Table, Write
from sync.calendars import store
from sync.calendars.clashes import clashing
from sync.calendars.event import READ_HEADERS, SELECT, Unreadable, parse_event
from sync.calendars.model import Reservation, Room, Times
from sync.calendars.series import is_there
from sync.errors import RequestError, TenantsyncError

if TYPE_CHECKING:
    from sync.graph.client import GraphClient
    from sync.wiring import App

log = logging.getLogger(__name__)

ASKED = timedelta(seconds=5)
PAGE = 500
PAGES = 10
SHOWN = 20
_TAKES_TIME = (
    "start lt @until and end gt @since and status ne 'cancelled' and status ne 'declined' and kind ne 'series'"
)


@dataclass(frozen=True)
class Slots:
    """What is `found` in a room from one moment to another, and the etag under which time may be taken there."""

    etag: str | None
    found: Sequence[Reservation]

    def claim(self, room: str) -> Write:
        """Take time, unless others took or freed some since this was read. Conflict then: look again."""
        token = store.touch_slots(room).row
        return Write("replace" if self.etag else "insert", store.slots_key(room), token, self.etag)


def look(data: Table, connection: str, room: str, wanted: Sequence[Times]) -> Slots:
    """What is stored in the room from the first to the last moment of `wanted`."""
    row = data.get(connection, store.slots_key(room))
    bounds = {"since": min(each.start for each in wanted), "until": max(each.end for each in wanted)}
    rows = data.scan(connection, store.reservation_key(room, ""), where=_TAKES_TIME, values=bounds)
    return Slots(row["etag"] if row else None, [store.parse_reservation(one) for one in rows])


def visible(data: Table, connection: str, room: str, found: Iterable[Reservation]) -> list[Reservation]:
    """Those that count: occurrences whose series is not there (yet, or any more) do not."""
    listed = list(found)
    names = {one.series for one in listed if one.series and one.origin == "portal"}
    series = _load_series(data, connection, room, names)
    return [one for one in listed if is_there(one, series.get(one.series))]


def _load_series(data: Table, connection: str, room: str, names: set[str]) -> Mapping[str, Reservation]:
    """These series by id: one by one where there are few."""
    rows: Iterable[Row | None]
    if len(names) <= 3:
        rows = [data.get(connection, store.reservation_key(room, name)) for name in names]
    else:
        rows = data.scan(connection, store.reservation_key(room, ""), where="kind eq 'series'")
    return {one.id: one for one in (store.parse_reservation(row) for row in rows if row)}


def refuse(busy: Sequence[Times]) -> None:
    """Raises RequestError `room-busy`, with when the room is taken, where it is."""
    if busy:
        times = [{"start": _wire(each.start), "end": _wire(each.end)} for each in busy[:SHOWN]]
        raise RequestError(
            "The room is taken at that time",
            code="room-busy",
            status=409,
            remedy="Choose another time or another room.",
            extra={"busy": times},
        )


def _wire(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


# --- at Microsoft ----------------------------------------------------------------------------------------------------


def ask(app: "App", connection: str, room: Room, wanted: Sequence[Times]) -> list[Times]:
    """When the room's calendar has something in the way that is not known here yet.

    Nothing where Microsoft does not answer soon: whatever is sent is checked again before it is written there.
    """
    try:
        graph = app.graph(connection, deadline=app.clock() + ASKED)
        events = _events(graph, room, wanted)
    except TenantsyncError as error:
        log.info("calendar not asked connection=%s code=%s", connection, error.code)
        return []
    return _busy(app.tables.data, connection, room, wanted, events)


def _events(graph: "GraphClient", room: Room, wanted: Sequence[Times]) -> list[Mapping[str, Any]]:
    """The calendar from the first to the last moment of `wanted` (Learn: List calendarView)."""
    params = {
        "startDateTime": _wire(min(each.start for each in wanted)),
        "endDateTime": _wire(max(each.end for each in wanted)),
        "$select": SELECT,
        "$top": str(PAGE),
    }
    path = f"/users/{quote(room.external_calendar, safe='@')}/calendarView"
    page = graph.page(path, params=params, headers=READ_HEADERS)
    found: list[Mapping[str, Any]] = list(page.items)
    for _ in range(PAGES):
        if not page.next_link:
            break
        page = graph.page(page.next_link, headers=READ_HEADERS)
        found += page.items
    return found


def _busy(
    data: Table, connection: str, room: Room, wanted: Sequence[Times], raws: Sequence[Mapping[str, Any]]
) -> list[Times]:
    ours: Callable[[str], bool] | None = None
    taken = []
    for raw in raws:
        try:
            event = parse_event(raw, room.time_zone)
        except Unreadable:
            continue
        if event.cancelled or event.free or not clashing(wanted, [event.times]):
            continue
        if ours is None:
            ours = _known_events(data, connection, room.id)
        if not any(map(ours, (event.id, event.master, event.transaction))):
            taken.append(event.times)
    return clashing(wanted, taken)


def _known_events(data: Table, connection: str, room: str) -> Callable[[str], bool]:
    """Whether an id of an event, a master or a transaction is one of a reservation here: that has been looked at."""
    known: set[str] = set()
    for one, _ in store.load_reservations(data, connection, room):
        known |= {one.link.room_event, one.link.master, one.link.transaction}
    return lambda name: bool(name) and name in known
