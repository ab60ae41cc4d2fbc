"""The calls about rooms and their reservations, and the tenant's rooms to choose from."""

import re
from dataclasses import replace

from storage.tables import encode_key
from sync.calendars import booking, changing, listed, reservations, rooms, store
from sync.calendars.desk import Desk, load, open_desk
from sync.calendars.model import Reservation, Status
from sync.calendars.models import (
    ROOM_PATTERN,
    PlaceOut,
    ReservationIn,
    ReservationOut,
    ReservationPatch,
    ReservationQuery,
    ReservationsQuery,
    RoomIn,
    RoomOut,
)
from sync.errors import RequestError
from sync.http import Call, ListQuery, Operation, Reply, connection_of, decode_cursor, dump, listing, public_etag

_KEY = r"[A-Za-z0-9._~-]{1,800}"


def list_places(call: Call) -> Reply:
    connection = connection_of(call)
    skip = int(decode_cursor(call.query.cursor, r"\d{1,6}")) if call.query.cursor else 0
    found, more = rooms.places(call.app, connection.name, skip, call.query.top)
    return Reply(200, listing(found, str(skip + len(found)) if more else None))


# --- rooms -----------------------------------------------------------------------------------------------------------


def list_rooms(call: Call) -> Reply:
    name = connection_of(call).name
    after = decode_cursor(call.query.cursor, _KEY) if call.query.cursor else ""
    top = call.query.top
    found = [
        store.parse_room(row)
        for row in call.app.tables.data.page(name, store.ROOM, after=after and store.ROOM + after, top=top)
    ]
    following = encode_key(found[-1].id) if len(found) == top else None
    return Reply(200, listing(rooms.show_all(call.app, name, found), following))


def get_room(call: Call) -> Reply:
    name = connection_of(call).name
    room, _ = rooms.load(call.app, name, call.path["room"])
    return Reply(200, rooms.show(call.app, name, room), public_etag(rooms.version(room)))


def put_room(call: Call) -> Reply:
    connection = connection_of(call)
    if not re.fullmatch(ROOM_PATTERN, call.path["room"]):
        told = "must be 1 to 64 letters, digits, -, _ or ."
        raise RequestError("The room's id in the address is not valid", fields=[("/room", told)])
    room, new = rooms.put(call.app, connection, call.path["room"], call.body, call.match)
    rooms.start_run(call.app, connection, rooms.settings_of(call.app, connection.name))
    headers = {"Location": f"/api/connections/{connection.name}/rooms/{room.id}"} if new else {}
    return Reply(
        201 if new else 200, rooms.show(call.app, connection.name, room), public_etag(rooms.version(room)), headers
    )


def delete_room(call: Call) -> Reply:
    connection = connection_of(call)
    rooms.remove(call.app, connection.name, call.path["room"], call.match)
    rooms.start_run(call.app, connection, rooms.settings_of(call.app, connection.name))
    return Reply(204)


# --- reservations ----------------------------------------------------------------------------------------------------


def _desk(call: Call) -> Desk:
    return open_desk(call.app, connection_of(call), call.path["room"])


def _version(reservation: Reservation) -> str:
    """What may be edited, and whether it stands: how far Microsoft has been told of that makes no other version."""
    status: Status = "confirmed" if reservation.live else "cancelled"
    still = replace(reservation, status=status, sync_state="synced", note="", updated_at=reservation.created_at)
    return dump(reservations.render(still)).decode()


def _match(call: Call) -> changing.Match:
    return lambda reservation: call.match(_version(reservation))


def _reservation(reservation: Reservation, status: int = 200, **headers: str) -> Reply:
    return Reply(status, reservations.render(reservation), public_etag(_version(reservation)), headers)


def list_reservations(call: Call) -> Reply:
    desk, query = _desk(call), call.query
    after = decode_cursor(query.cursor, listed.POSITION) if query.cursor else ""
    wanted = listed.Wanted(*listed.range_of(desk, query.from_, query.to), query.status, query.type)
    found = listed.find(desk, wanted, after)
    page = found[: query.top]
    following = listed.position(page[-1]) if len(found) > len(page) else None
    return Reply(200, listing(map(reservations.render, page), following))


def create_reservation(call: Call) -> Reply:
    desk = _desk(call)
    made = booking.create(desk, call.body, call.token)
    address = f"/api/connections/{desk.name}/rooms/{desk.room.id}/reservations/{made.id}"
    return _reservation(made, 201, Location=address)


def get_reservation(call: Call) -> Reply:
    return _reservation(load(_desk(call), call.path["id"], ended=call.query.status == "any")[0])


def edit_reservation(call: Call) -> Reply:
    desk, patch = _desk(call), call.body
    if patch.room in (None, desk.room.id):
        return _reservation(changing.edit(desk, call.path["id"], patch, _match(call)))
    found = store.load_room(call.app.tables.data, desk.name, patch.room)
    if found is None:
        raise RequestError("The room does not exist", fields=[("/room", "must be a room of this connection")])
    return _reservation(changing.move(desk, desk.next_door(found[0]), call.path["id"], patch, _match(call)))


def delete_reservation(call: Call) -> Reply:
    changing.cancel(_desk(call), call.path["id"], _match(call))
    return Reply(204)


_C = "connections/{name}"
_ROOM = _C + "/rooms/{room}"
_RESERVATIONS = _ROOM + "/reservations"

OPERATIONS = (
    Operation(
        "list_places",
        "GET",
        _C + "/places",
        "Rooms of the tenant, to choose from",
        list_places,
        {200: list[PlaceOut]},
        query=ListQuery,
        errors=(409, 502),
    ),
    Operation("list_rooms", "GET", _C + "/rooms", "Rooms", list_rooms, {200: list[RoomOut]}, query=ListQuery),
    Operation("get_room", "GET", _ROOM, "One room", get_room, {200: RoomOut}),
    Operation(
        "put_room",
        "PUT",
        _ROOM,
        "Link a room to its calendar",
        put_room,
        {200: RoomOut, 201: RoomOut},
        body=RoomIn,
        errors=(412,),
    ),
    Operation(
        "delete_room", "DELETE", _ROOM, "Remove a room and its reservations", delete_room, {204: None}, errors=(412,)
    ),
    Operation(
        "list_reservations",
        "GET",
        _RESERVATIONS,
        "Reservations of a room",
        list_reservations,
        {200: list[ReservationOut]},
        query=ReservationsQuery,
    ),
    Operation(
        "create_reservation",
        "POST",
        _RESERVATIONS,
        "Reserve a room, once or as a series",
        create_reservation,
        {201: ReservationOut},
        body=ReservationIn,
        errors=(409,),
    ),
    Operation(
        "get_reservation",
        "GET",
        _RESERVATIONS + "/{id}",
        "One reservation",
        get_reservation,
        {200: ReservationOut},
        query=ReservationQuery,
    ),
    Operation(
        "edit_reservation",
        "PATCH",
        _RESERVATIONS + "/{id}",
        "Change a reservation or move it to another room",
        edit_reservation,
        {200: ReservationOut},
        body=ReservationPatch,
        errors=(409, 412),
    ),
    Operation(
        "delete_reservation",
        "DELETE",
        _RESERVATIONS + "/{id}",
        "Cancel a reservation or a series",
        delete_reservation,
        {204: None},
        errors=(409, 412),
    ),
)
