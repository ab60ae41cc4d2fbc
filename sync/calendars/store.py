"""Rooms and reservations as rows of the connection's partition.

room|{room}                 the room as the admin set it up; written by the API alone
mailbox|{address}           which active room has this calendar: there is one at most
roomstate|{room}            how far its sync has come; written by runs alone
slots|{room}                changes with every write that takes up or frees time: whoever checks for a clash
                            writes under the condition that it has not changed since
res|{room}|{id}             a reservation with its link
todo|{room}|heard           a notification came; its row is written anew each time
todo|{room}|send|{id}       a reservation has something to be sent
removed|{room}              the room is gone, since when, and what it was; what is left of it, here and at Graph, has
                            to go too
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from pydantic import TypeAdapter

from storage.tables import Row, Table, Write, decode_key, encode_key
from sync.calendars.model import Reservation, Room, RoomState

ROOM = "room|"
MAILBOX = "mailbox|"
ROOM_STATE = "roomstate|"
SLOTS = "slots|"
RESERVATION = "res|"
WAITS = "todo|"
REMOVED = "removed|"
_ROOMS = TypeAdapter(Room)
_STATES = TypeAdapter(RoomState)
_RESERVATIONS = TypeAdapter(Reservation)


def room_key(room: str) -> str:
    return ROOM + encode_key(room)


def state_key(room: str) -> str:
    return ROOM_STATE + encode_key(room)


def slots_key(room: str) -> str:
    return SLOTS + encode_key(room)


def reservation_key(room: str, reservation: str) -> str:
    return f"{RESERVATION}{encode_key(room)}|{encode_key(reservation)}"


def mailbox_key(address: str) -> str:
    return MAILBOX + encode_key(address)


def removed_key(room: str) -> str:
    return REMOVED + encode_key(room)


def heard_key(room: str) -> str:
    return f"{WAITS}{encode_key(room)}|heard"


def send_key(room: str, reservation: str) -> str:
    return f"{WAITS}{encode_key(room)}|send|{encode_key(reservation)}"


# --- rows ------------------------------------------------------------------------------------------------------------


def room_row(room: Room) -> Row:
    return {"j_room": _ROOMS.dump_python(room, mode="json")}


def parse_room(row: Row) -> Room:
    return _ROOMS.validate_python(row["j_room"])


def state_row(state: RoomState) -> Row:
    return {"j_state": _STATES.dump_python(state, mode="json")}


def parse_state(row: Row | None) -> RoomState:
    """The state in a row; that of a room which no run has looked at yet where there is none."""
    return RoomState() if row is None else _STATES.validate_python(row["j_state"])


def reservation_row(reservation: Reservation) -> Row:
    """The row of a reservation; the columns beside the document serve filters."""
    return {
        "j_reservation": _RESERVATIONS.dump_python(reservation, mode="json"),
        "start": reservation.times.start,
        "end": reservation.times.end,
        "kind": reservation.kind,
        "status": reservation.status,
        "series": reservation.series,
    }


def parse_reservation(row: Row) -> Reservation:
    return _RESERVATIONS.validate_python(row["j_reservation"])


def load_room(data: Table, connection: str, room: str) -> tuple[Room, str] | None:
    """The room and its etag, or None."""
    row = data.get(connection, room_key(room))
    return None if row is None else (parse_room(row), row["etag"])


def load_rooms(data: Table, connection: str) -> list[Room]:
    return [parse_room(row) for row in data.scan(connection, ROOM)]


def load_removed(data: Table, connection: str, room: str) -> tuple[Room, datetime] | None:
    """What a removed room was, and since when it is gone; None where nothing is left of it."""
    row = data.get(connection, removed_key(room))
    return None if row is None else (parse_room(row), row["at"])


def load_state(data: Table, connection: str, room: str) -> tuple[RoomState, str | None]:
    row = data.get(connection, state_key(room))
    return parse_state(row), None if row is None else row["etag"]


def load_states(data: Table, connection: str) -> dict[str, RoomState]:
    """The states of all rooms that have one, by room."""
    rows = data.scan(connection, ROOM_STATE)
    return {decode_key(row["key"][len(ROOM_STATE) :]): parse_state(row) for row in rows}


def load_reservation(data: Table, connection: str, room: str, reservation: str) -> tuple[Reservation, str] | None:
    """The reservation and its etag, or None."""
    row = data.get(connection, reservation_key(room, reservation))
    return None if row is None else (parse_reservation(row), row["etag"])


def load_reservations(data: Table, connection: str, room: str) -> list[tuple[Reservation, str]]:
    """All reservations of a room, ended and cancelled ones too, with their etags."""
    rows = data.scan(connection, f"{RESERVATION}{encode_key(room)}|")
    return [(parse_reservation(row), row["etag"]) for row in rows]


@dataclass(frozen=True)
class Todo:
    """What waits in a room: the etags of the rows that say so. `flags` came with a lifecycle event."""

    heard: str | None = None
    flags: frozenset[str] = frozenset()
    sends: Mapping[str, str] = field(default_factory=dict)


def load_todos(data: Table, connection: str) -> dict[str, Todo]:
    """What waits, by room: one transaction where nothing does."""
    found: dict[str, Todo] = {}
    for row in data.scan(connection, WAITS):
        room, what, *_ = row["key"][len(WAITS) :].split("|")
        room = decode_key(room)
        todo = found.get(room, Todo())
        if what == "heard":
            flags = frozenset(name for name in ("renew", "recreate") if row.get(name))
            found[room] = replace(todo, heard=row["etag"], flags=flags)
        else:
            found[room] = replace(todo, sends={**todo.sends, row["reservation"]: row["etag"]})
    return found


def touch_slots(room: str) -> Write:
    """Says that time was taken up or freed in the room."""
    return Write("merge", slots_key(room), {"token": secrets.token_hex(8)})


def writes_to_send(reservations: Iterable[Reservation]) -> list[Write]:
    """What makes the next run send these."""
    return [Write("replace", send_key(one.room, one.id), {"reservation": one.id}) for one in reservations]
