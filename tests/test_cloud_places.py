"""Rooms of the simulated Exchange as Graph lists them, and as tests make them."""

import time
from itertools import pairwise
from typing import Any

import pytest

from local.cloud.population import Population, generate
from tests.calendars import CALENDARS, refusal, rooms_of, window
from tests.cloud import NewTenant, TestTenant


@pytest.fixture
def tenant(new_tenant: NewTenant) -> TestTenant:
    """A tenant of nine rooms with an app that may read places."""
    return new_tenant(rooms=9, roles=CALENDARS)


def places(graph: Any, url: str = "/places/microsoft.graph.room") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while url:
        page = graph.get(url).json()
        found += page["value"]
        url = page.get("@odata.nextLink", "")
    return found


def test_a_room_as_a_place(tenant):
    graph, truth = tenant.graph(), rooms_of(tenant)[0]
    place = places(graph)[0]

    assert {name: place[name] for name in ("emailAddress", "displayName", "capacity", "building", "floorNumber")} == {
        name: truth[name] for name in ("emailAddress", "displayName", "capacity", "building", "floorNumber")
    }
    assert place["@odata.type"] == "#microsoft.graph.room"
    assert place["bookingType"] == "standard"
    assert place["id"] != truth["id"]
    for key in (place["id"], place["placeId"], truth["emailAddress"].upper()):
        assert graph.get(f"/places/{key}").json()["displayName"] == truth["displayName"]
    assert refusal(graph.get("/places/nowhere@x.example")) == (404, "ErrorItemNotFound")


def test_a_hundred_rooms_to_a_page(new_tenant):
    tenant = new_tenant(rooms=230, roles=CALENDARS)
    graph = tenant.graph()
    first = graph.get("/places/microsoft.graph.room?$count=true").json()

    assert (len(first["value"]), first["@odata.count"]) == (100, 230)
    assert [each["emailAddress"] for each in places(graph)] == [each["emailAddress"] for each in rooms_of(tenant)]
    assert len(graph.get("/places/microsoft.graph.room?$top=999").json()["value"]) == 100
    assert len(graph.get("/places/microsoft.graph.room?$top=20&$skip=225").json()["value"]) == 5


def test_a_cloud_that_forgets_the_next_link(new_tenant):
    tenant = new_tenant(rooms=120, roles=CALENDARS)
    graph = tenant.graph()
    tenant.control.post("faults", {"placesWithoutNextLink": True})

    assert len(places(graph)) == 100
    assert len(places(graph, "/places/microsoft.graph.room?$skip=100")) == 20


def test_lists_of_rooms(tenant):
    graph, lists = tenant.graph(), places(tenant.graph(), "/places/microsoft.graph.roomlist")
    members = [
        room["emailAddress"]
        for each in lists
        for room in places(graph, f"/places/{each['emailAddress']}/microsoft.graph.roomlist/rooms")
    ]

    assert len(lists) == 4
    assert sorted(members) == sorted(each["emailAddress"] for each in rooms_of(tenant))
    assert refusal(graph.get("/places/no@list.example/microsoft.graph.roomlist/rooms")) == (404, "ErrorItemNotFound")


def test_options(tenant):
    graph, url = tenant.graph(), "/places/microsoft.graph.room"
    chosen = graph.get(f"{url}?$select=displayName&$filter=displayName eq 'Room 3'").json()["value"]

    assert chosen == [{"@odata.type": "#microsoft.graph.room", "displayName": "Room 3"}]
    assert graph.get(f"{url}?$search=x").status_code == 400
    assert graph.get(f"{url}?$top=none").status_code == 400


def test_rooms_come_change_and_go(tenant):
    graph, control = tenant.graph(), tenant.control
    made = control.post("rooms", {"emailAddress": "new@x.example", "displayName": "New", "timeZone": "Asia/Tokyo"})
    assert control.get(f"mailboxes/{made['id']}")["timeZone"] == "Asia/Tokyo"
    assert control.get()["rooms"] == 10

    control.patch("rooms/new@x.example", {"displayName": "Newer", "capacity": 4})
    assert graph.get("/places/new@x.example").json()["capacity"] == 4
    assert graph.get("/users/new@x.example/calendar").json()["owner"]["name"] == "Newer"
    with pytest.raises(AssertionError, match="is taken"):
        control.post("rooms", {"emailAddress": "NEW@x.example", "displayName": "Twin"})
    with pytest.raises(AssertionError, match="keeps its id"):
        control.patch("rooms/new@x.example", {"id": "5d2f5f44-1111-4222-8333-944445555666"})
    with pytest.raises(AssertionError, match="422"):
        control.patch("rooms/new@x.example", {"allowEverything": True})
    control.delete("rooms/new@x.example")
    assert refusal(graph.get("/places/new@x.example")) == (404, "ErrorItemNotFound")
    assert refusal(graph.get("/users/new@x.example/events")) == (404, "ErrorInvalidUser")


def test_a_room_gets_another_address(tenant):
    """The old one leads to it, too, until it is removed; nobody else can have either."""
    graph, control = tenant.graph(), tenant.control
    made = control.post("rooms", {"emailAddress": "old@x.example", "displayName": "Oak"})

    control.patch("rooms/old@x.example", {"emailAddress": "new@x.example"})

    assert {control.get(f"mailboxes/{name}@x.example")["id"] for name in ("old", "new")} == {made["id"]}
    assert graph.get("/users/old@x.example/calendar").json()["owner"]["address"] == "new@x.example"
    for taken in ("old@x.example", "new@x.example"):
        with pytest.raises(AssertionError, match="is taken"):
            control.post("rooms", {"emailAddress": taken, "displayName": "Twin"})
    other = control.get("rooms")[0]["emailAddress"]
    with pytest.raises(AssertionError, match="is taken"):
        control.patch("rooms/new@x.example", {"emailAddress": other})
    control.delete("rooms/new@x.example")
    assert refusal(graph.get("/users/old@x.example/events")) == (404, "ErrorInvalidUser")


def test_five_hundred_rooms_in_a_moment():
    """Seconds of the processor, which no neighbour on the machine lengthens."""
    started = time.process_time()
    tenant = generate(Population(users=50, guest_share=0, rooms=500, events_per_room=50, seed=77))

    assert time.process_time() - started < 8
    assert {len(mailbox.items) for mailbox in tenant.exchange.rooms.values()} == {50}


def test_generated_events_do_not_overlap(new_tenant):
    tenant = new_tenant(users=5, guestShare=0, rooms=2, eventsPerRoom=120, roles=CALENDARS)
    graph, room = tenant.graph(), rooms_of(tenant)[1]
    view = graph.get(f"/users/{room['id']}/calendarView?{window(-30, 300)}&$top=1000&$orderby=start/dateTime").json()
    times = [(each["start"]["dateTime"], each["end"]["dateTime"]) for each in view["value"]]

    assert len(tenant.control.get(f"mailboxes/{room['id']}/events")) == 120
    assert all(before[1] <= after[0] for before, after in pairwise(times))
    assert {each["isOrganizer"] for each in view["value"]} == {True, False}


def test_the_same_seed_gives_the_same_calendars(cloud):
    def calendars() -> list[Any]:
        tenant = cloud.generate(users=3, guestShare=0, rooms=3, eventsPerRoom=11, roles=CALENDARS, seed=78)
        found = [tenant.control.get(f"mailboxes/{room['id']}/events") for room in rooms_of(tenant)]
        tenant.control.delete("")
        return [
            [(each["id"], each["subject"], each["start"], each["organizer"]) for each in events] for events in found
        ]

    assert calendars() == calendars()
