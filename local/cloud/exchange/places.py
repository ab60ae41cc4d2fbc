"""Rooms and lists of rooms (Learn: List places, Get place)."""

from uuid import NAMESPACE_DNS, uuid5

from local.cloud.exchange.mailbox import Mailbox, Properties
from local.cloud.odata import Filter, bad
from local.cloud.paging import link
from local.cloud.protocol import Answer, Call, Refused, Route

READ_PLACES = frozenset({"Place.Read.All", "Place.ReadWrite.All"})
PAGE = 100
OPTIONS = {"$filter", "$select", "$top", "$skip", "$count", "$format"}
FILTERED = frozenset({"displayName", "emailAddress", "building", "capacity", "label", "floorNumber"})


def list_rooms(call: Call) -> Answer:
    return _page(call, [_room(mailbox) for mailbox in call.tenant.exchange.rooms.values()], "microsoft.graph.room")


def list_room_lists(call: Call) -> Answer:
    return _page(call, list(_room_lists(call).values()), "microsoft.graph.roomList")


def list_rooms_of_list(call: Call, address: str) -> Answer:
    if address.lower() not in _room_lists(call):
        raise _not_found(address)
    members = [mailbox for mailbox in call.tenant.exchange.rooms.values() if _list_of(mailbox) == address.lower()]
    return _page(call, [_room(mailbox) for mailbox in members], "microsoft.graph.room")


def get_place(call: Call, key: str) -> Answer:
    """A room by the id of its place, its mailbox or its address, or a list by its address."""
    every = [_room(mailbox) for mailbox in call.tenant.exchange.rooms.values()] + list(_room_lists(call).values())
    found = next((each for each in every if key.lower() in (each["id"].lower(), each["emailAddress"].lower())), None)
    if found is None:
        raise _not_found(key)
    return Answer(body={"@odata.context": f"{call.base}/$metadata#places/$entity"} | _chosen(call, found))


def _not_found(key: str) -> Refused:
    return Refused(404, "ErrorItemNotFound", f"The place '{key}' was not found.")


def _room(mailbox: Mailbox) -> Properties:
    room = mailbox.room
    assert room
    place = str(uuid5(NAMESPACE_DNS, f"place {mailbox.guid}"))
    return {
        "@odata.type": "#microsoft.graph.room",
        "id": place,
        "placeId": place,
        "emailAddress": room.email_address,
        "displayName": room.display_name,
        "nickname": room.display_name,
        "label": room.label,
        "capacity": room.capacity,
        "building": room.building,
        "floorNumber": room.floor_number,
        "floorLabel": "",
        "phone": "",
        "bookingType": "standard",
        "isWheelChairAccessible": False,
        "tags": [],
        "address": None,
        "geoCoordinates": None,
        "audioDeviceName": None,
        "videoDeviceName": None,
        "displayDeviceName": None,
    }


def _list_of(mailbox: Mailbox) -> str | None:
    return mailbox.room.list.lower() if mailbox.room and mailbox.room.list else None


def _room_lists(call: Call) -> dict[str, Properties]:
    lists: dict[str, Properties] = {}
    for mailbox in call.tenant.exchange.rooms.values():
        if address := _list_of(mailbox):
            lists[address] = {
                "@odata.type": "#microsoft.graph.roomList",
                "id": str(uuid5(NAMESPACE_DNS, f"list {address}")),
                "emailAddress": address,
                "displayName": address.partition("@")[0],
                "phone": "",
                "address": None,
                "geoCoordinates": None,
            }
    return lists


def _page(call: Call, every: list[Properties], name: str) -> Answer:
    for option in sorted(set(call.query) - OPTIONS):
        raise bad(f"The query parameter '{option}' is not supported.")
    if "$filter" in call.query:
        every = list(filter(Filter(call.query["$filter"], FILTERED).test, every))
    skip, size = _number(call, "$skip", 0), min(PAGE, _number(call, "$top", PAGE))
    shown = [_chosen(call, each) for each in every[skip : skip + size]]
    body: Properties = {"@odata.context": f"{call.base}/$metadata#places/{name}", "value": shown}
    if call.query.get("$count", "").lower() == "true":
        body["@odata.count"] = len(every)
    if len(every) > skip + size and not call.tenant.faults.places_without_next_link:
        options = {option: value for option, value in call.query.items() if option != "$skip"}
        body["@odata.nextLink"] = link(call, call.path, options | {"$skip": str(skip + size)})
    return Answer(body=body)


def _number(call: Call, name: str, default: int) -> int:
    text = call.query.get(name, str(default))
    if not text.isdecimal() or (name == "$top" and text == "0"):
        raise bad(f"The value '{text}' of {name} is invalid.")
    return int(text)


def _chosen(call: Call, properties: Properties) -> Properties:
    if "$select" not in call.query:
        return properties
    names = [*call.query["$select"].split(","), "@odata.type"]
    return {name: value for name, value in properties.items() if name in names}


ROUTES = [
    Route("GET", "places/microsoft.graph.room", list_rooms, READ_PLACES, units=0, mailbox=True),
    Route("GET", "places/graph.room", list_rooms, READ_PLACES, units=0, mailbox=True),
    Route("GET", "places/microsoft.graph.roomList", list_room_lists, READ_PLACES, units=0, mailbox=True),
    Route("GET", "places/microsoft.graph.roomlist", list_room_lists, READ_PLACES, units=0, mailbox=True),
    Route("GET", "places/graph.roomList", list_room_lists, READ_PLACES, units=0, mailbox=True),
    Route(
        "GET", "places/{list}/microsoft.graph.roomList/rooms", list_rooms_of_list, READ_PLACES, units=0, mailbox=True
    ),
    Route(
        "GET", "places/{list}/microsoft.graph.roomlist/rooms", list_rooms_of_list, READ_PLACES, units=0, mailbox=True
    ),
    Route("GET", "places/{list}/graph.roomList/rooms", list_rooms_of_list, READ_PLACES, units=0, mailbox=True),
    Route("GET", "places/{place}/microsoft.graph.room", get_place, READ_PLACES, units=0, mailbox=True),
    Route("GET", "places/{place}/graph.room", get_place, READ_PLACES, units=0, mailbox=True),
    Route("GET", "places/{place}", get_place, READ_PLACES, units=0, mailbox=True),
]
