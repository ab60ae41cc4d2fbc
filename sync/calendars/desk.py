"""What every request about a room's reservations rests on: the room, the settings, whether it is free, what is written."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from storage.tables import Write
from sync.calendars import occupancy, rooms, series, store
from sync.calendars.clashes import clashing
from sync.calendars.model import Policy, Reservation, Room, Times
from sync.calendars.terms import policy_of, window_of
from sync.errors import RequestError
from sync.feed import Change, ChangeKind

if TYPE_CHECKING:
    from sync.connections import Connection
    from sync.sync_settings import CalendarsSettings
    from sync.wiring import App

_ROWS = 90  # in one transaction, beside what goes with them
_SIZE = 3_000_000  # bytes in one: it has 4 MiB (Learn: Performing entity group transactions)

Found = tuple[Reservation, str]


@dataclass(frozen=True)
class Desk:
    """What one request about a room's reservations rests on."""

    app: "App"
    connection: "Connection"
    room: Room
    settings: "CalendarsSettings"
    now: datetime

    @property
    def name(self) -> str:
        return self.connection.name

    @property
    def policy(self) -> Policy:
        return policy_of(self.settings)

    @property
    def window(self) -> tuple[datetime, datetime]:
        return window_of(self.settings, self.room.time_zone, self.now)

    def at(self, room: Room) -> "Desk":
        """The same for another room."""
        return replace(self, room=room)

    def start_run(self) -> None:
        rooms.start_run(self.app, self.connection, self.settings)


def open_desk(app: "App", connection: "Connection", room_id: str) -> Desk:
    """Raises RequestError `room-not-found`."""
    room, _ = rooms.load(app, connection.name, room_id)
    return Desk(app, connection, room, rooms.settings_of(app, connection.name), app.clock())


def load(desk: Desk, reservation_id: str, *, ended: bool = False) -> Found:
    """The reservation and its etag; a cancelled one only if `ended`. Raises RequestError `reservation-not-found`."""
    data = desk.app.tables.data
    found = store.load_reservation(data, desk.name, desk.room.id, reservation_id)
    shown = found is not None and occupancy.visible(data, desk.name, desk.room.id, [found[0]])
    if found is None or not shown or (found[0].status == "cancelled" and not ended):
        raise RequestError(
            "There is no such reservation",
            code="reservation-not-found",
            status=404,
            remedy="Check the address; ids are case-sensitive.",
        )
    return found


# --- free or taken ---------------------------------------------------------------------------------------------------


class Check:
    """Whether a room is free, as often as a transaction needs to know; Microsoft is asked once."""

    def __init__(self, desk: Desk, wanted: Sequence[Times], own: Callable[[Reservation], bool]) -> None:
        self._desk = desk
        self._wanted = wanted
        self._own = own
        self._asked = False

    def claim(self) -> tuple[list[Write], list[Found]]:
        """The write that takes the time, and what is stored there of its own. Raises RequestError `room-busy`."""
        if not self._wanted:
            return [store.touch_slots(self._desk.room.id)], []
        desk, data = self._desk, self._desk.app.tables.data
        slots = occupancy.look(data, desk.name, desk.room.id, self._wanted)
        others = [one for one, _ in slots.found if not self._own(one) and one.takes_time]
        near = clashing(self._wanted, [one.times for one in others])
        if near:
            others = occupancy.visible(data, desk.name, desk.room.id, others)
            occupancy.refuse(clashing(self._wanted, [one.times for one in others]))
        if not self._asked:
            self._asked = True
            occupancy.refuse(self._ask())
        return [slots.claim(desk.room.id)], [found for found in slots.found if self._own(found[0])]

    def _ask(self) -> list[Times]:
        desk = self._desk
        state, _ = store.load_state(desk.app.tables.data, desk.name, desk.room.id)
        if not desk.settings.enabled or rooms.status_of(desk.room, state) != "active":
            return []
        return occupancy.ask(desk.app, desk.name, desk.room, self._wanted)


def must_be_active(room: Room) -> None:
    if not room.active:
        raise RequestError(
            "The room's calendar sync is not active",
            code="room-inactive",
            status=409,
            remedy="Switch the room on first.",
        )


# --- written ---------------------------------------------------------------------------------------------------------


def parts_of(desk: Desk, made: Reservation, known: Iterable[Reservation]) -> list[Reservation]:
    """The occurrences of a series that have to be written; none for anything else."""
    if made.kind != "series":
        return []
    since, until = desk.window
    return series.expand(made, known, (min(since, made.times.start), until), desk.now)


def insert(one: Reservation) -> Write:
    return Write("insert", store.reservation_key(one.room, one.id), store.reservation_row(one))


def write(one: Reservation) -> Write:
    return Write("replace", store.reservation_key(one.room, one.id), store.reservation_row(one))


def change(one: Reservation, change: ChangeKind) -> Change:
    return Change("reservation", one.id, change)


class Written:
    """Occurrences that do not fit into the transaction of their series: they are written ahead of it, and count as
    soon as it is there.
    """

    def __init__(self) -> None:
        self._ahead: list[Reservation] | None = None

    def ahead(self, desk: Desk, parts: Sequence[Reservation]) -> Sequence[Reservation]:
        """Write what has to be, once; what is left for the transaction."""
        if fits(parts):
            return parts
        if self._ahead is None:
            self._ahead = list(parts)
            write_parts(desk, parts)
        return ()

    def take_back(self, desk: Desk) -> None:
        """Delete what was written ahead of a series that is not to be."""
        for part in _batches(self._ahead or ()):
            writes = [Write("delete", store.reservation_key(one.room, one.id)) for one in part]
            desk.app.tables.data.commit(desk.name, writes)


def fits(parts: Sequence[Reservation]) -> bool:
    """Whether these rows fit into one transaction beside that of their series."""
    return len(list(_batches(parts))) <= 1


def write_parts(desk: Desk, parts: Sequence[Reservation]) -> None:
    """Write occurrences in as few transactions as they need."""
    for part in _batches(parts):
        desk.app.tables.data.commit(desk.name, [write(one) for one in part])


def _batches(parts: Sequence[Reservation]) -> Iterable[list[Reservation]]:
    """The rows in parts that a transaction takes. All occurrences of a series are about as large as the first."""
    if not parts:
        return []
    document = store.reservation_row(parts[0])["j_reservation"]
    size = 1000 + len(json.dumps(json.dumps(document, ensure_ascii=False)))  # as the SDK sends it
    step = max(1, min(_ROWS, _SIZE // size))
    return [list(parts[at : at + step]) for at in range(0, len(parts), step)]
