"""What every request about a room's reservations rests on: the room, the settings, and whether the room is free."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from storage.tables import Write
from sync.calendars import occupancy, rooms, store
from sync.calendars.clashes import clashing
from sync.calendars.commits import Step, transact
from sync.calendars.model import Policy, Reservation, Room, Times
from sync.calendars.terms import policy_of, window_of
from sync.errors import RequestError

if TYPE_CHECKING:
    from sync.connections import Connection
    from sync.sync_settings import CalendarsSettings
    from sync.wiring import App

Found = tuple[Reservation, str]
T = TypeVar("T")


@dataclass(frozen=True)
class Desk:
    """Where one request is served."""

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

    def next_door(self, room: Room) -> "Desk":
        """The same in another room."""
        return replace(self, room=room)

    def must_be_active(self) -> None:
        """Raises RequestError `room-inactive`."""
        if not self.room.active:
            raise RequestError(
                "The room's calendar sync is not active",
                code="room-inactive",
                status=409,
                remedy="Switch the room on first.",
            )

    def transact(self, decide: Callable[[], Step[T]], *others: "Desk") -> tuple[T, str]:
        """Commit as `commits.transact` does while this room and the others are there. Raises RequestError `room-not-found`
        where one has been removed meanwhile.
        """
        wanted = [desk.room.id for desk in (self, *others)]
        there = [Write("update", store.room_key(room)) for room in wanted]
        attempts = count()

        def among_these() -> Step[T]:
            if next(attempts):
                for room in wanted:
                    rooms.load(self.app, self.name, room)
            step = decide()
            return replace(step, writes=[*step.writes, *there]) if step.writes else step

        return transact(self.app, self.name, among_these)

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


class Check:
    """Whether a room is free, as often as a transaction needs to know it; Microsoft is asked once."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._asked = False

    def claim(self, wanted: Sequence[Times], own: Callable[[Reservation], bool]) -> Write:
        """The write that takes the time; its `own` reservations are not in its way. Raises RequestError `room-busy`."""
        desk, data = self._desk, self._desk.app.tables.data
        if not wanted:
            return store.touch_slots(desk.room.id)
        slots = occupancy.look(data, desk.name, desk.room.id, wanted)
        others = [one for one in slots.found if not own(one) and one.takes_time]
        if clashing(wanted, [one.times for one in others]):
            others = occupancy.visible(data, desk.name, desk.room.id, others)
            occupancy.refuse(clashing(wanted, [one.times for one in others]))
        if not self._asked:
            self._asked = True
            occupancy.refuse(self._ask(wanted))
        return slots.claim(desk.room.id)

    def _ask(self, wanted: Sequence[Times]) -> list[Times]:
        """What Microsoft says, for a room whose calendar is in sync."""
        desk = self._desk
        state, _ = store.load_state(desk.app.tables.data, desk.name, desk.room.id)
        if not desk.settings.enabled or rooms.status_of(desk.room, state) != "active":
            return []
        return occupancy.ask(desk.app, desk.name, desk.room, wanted)
