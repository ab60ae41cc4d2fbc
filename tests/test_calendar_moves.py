"""A meeting in its organizer's calendar is moved to another room by the portal, with delegation."""

from typing import Any

import pytest

from sync.calendars import store
from tests.calendars import CALENDARS, at, event
from tests.cloud import NewTenant, TestTenant
from tests.house import House
from tests.rooms import ELM, NAME, OAK, ROOMS, link, problem, stored


class Meeting:
    """A meeting that Ann made in Outlook, in room oak, as the portal has it."""

    def __init__(self, house: House, tenant: TestTenant) -> None:
        self.house, self.tenant = house, tenant
        self.ann, self.bob = (user["mail"] for user in tenant.control.get("users"))
        people = [(f"room1@{tenant.domain}", "resource"), (self.bob, "required")]
        attendees = [{"type": kind, "emailAddress": {"address": address}} for address, kind in people]
        tenant.control.post(f"mailboxes/{self.ann}/events", event(attendees=attendees))
        self.settle()
        (found,) = self.listed(OAK)
        self.id = found["id"]

    def settle(self) -> None:
        """Let every message arrive and every calendar be read."""
        for _ in range(2):
            self.house.run(NAME, "calendars")

    def listed(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.house.get(f"{path}?from=2020-01-01&to=2100-01-01")["items"]
        return found

    def move(self, path: str = OAK, room: str = "elm", **fields: Any) -> Any:
        return self.house.call("PATCH", f"{path}/{self.id}", {"room": room, **fields})

    def shown(self) -> list[tuple[str, str, str]]:
        """Where the portal has it, its status, and how far it is in step."""
        found = [(one["room"], one["status"], one["syncState"]) for path in (OAK, ELM) for one in self.listed(path)]
        assert {one["id"] for path in (OAK, ELM) for one in self.listed(path)} <= {self.id}
        return found

    def invited(self) -> list[str]:
        """Who is invited by Ann's own copy."""
        (copy,) = self.tenant.control.get(f"mailboxes/{self.ann}/events")
        return sorted(each["emailAddress"]["address"].partition("@")[0] for each in copy["attendees"])

    def rooms(self) -> list[int]:
        """How many meetings each room's calendar has."""
        return [len(self.tenant.control.get(f"mailboxes/room{n}@{self.tenant.domain}/events")) for n in (1, 2)]


@pytest.fixture
def meeting(house: House, new_tenant: NewTenant) -> Meeting:
    tenant = new_tenant(rooms=2, users=2, guestShare=0, roles=CALENDARS)
    house.connect(tenant, NAME, calendars={"delegation": True})
    link(house, "oak", externalCalendar=f"room1@{tenant.domain}", timeZone="UTC")
    link(house, "elm", externalCalendar=f"room2@{tenant.domain}", timeZone="UTC")
    return Meeting(house, tenant)


def test_moved(meeting: Meeting) -> None:
    """Ann's copy names the other room, which answers; the reservation keeps its id, and nobody else is told off."""
    moved = meeting.move(title="Review")

    assert (moved.status, moved.json["room"], moved.json["status"]) == (200, "elm", "awaitingRoom")
    assert meeting.shown() == [("elm", "awaitingRoom", "pending")]
    meeting.settle()
    assert meeting.shown() == [("elm", "confirmed", "synced")]
    assert meeting.invited() == sorted([meeting.bob.partition("@")[0], "room2"])
    assert meeting.rooms() == [0, 1]
    assert meeting.listed(ELM)[0]["title"] == "Review"
    assert meeting.house.call("GET", f"{OAK}/{meeting.id}").status == 404
    assert [room["pendingChanges"] for room in meeting.house.get(ROOMS)["items"]] == [0, 0]


def test_and_back(meeting: Meeting) -> None:
    """Moved back once the other room has it, it comes back; moved back before Microsoft was told, nothing has happened."""
    meeting.move()
    meeting.settle()
    assert meeting.move(ELM, "oak").status == 200
    meeting.settle()
    assert meeting.shown() == [("oak", "confirmed", "synced")]
    assert meeting.rooms() == [1, 0]

    meeting.move()
    assert meeting.move(ELM, "oak").json["status"] == "confirmed"
    meeting.settle()

    assert meeting.shown() == [("oak", "confirmed", "synced")]
    assert meeting.rooms() == [1, 0]


def test_the_other_room_declines(meeting: Meeting) -> None:
    """Where somebody else has the other room, the reservation is declined; Ann's meeting goes on without a room."""
    meeting.tenant.control.post(f"mailboxes/room2@{meeting.tenant.domain}/events", event())
    link(meeting.house, "elm", externalCalendar=f"room2@{meeting.tenant.domain}", timeZone="Asia/Tokyo")
    assert meeting.move().status == 200

    meeting.settle()

    assert ("elm", "declined", "rejected") in [
        (one["room"], one["status"], one["syncState"]) for one in meeting.listed(ELM)
    ]
    assert meeting.invited() == sorted([meeting.bob.partition("@")[0], "room2"])


@pytest.mark.parametrize("change", ["denied", "locked"])
def test_the_organizers_mailbox_is_closed(meeting: Meeting, change: str) -> None:
    """Where Ann's copy cannot be changed after all, the reservation is again in its first room, and says why."""
    meeting.move()
    if change == "denied":
        meeting.tenant.control.patch(f"mailboxes/{meeting.ann}", {"denied": True})
    else:
        meeting.house.enable(NAME, "calendars", delegation=False)

    meeting.settle()

    (one,) = meeting.listed(OAK)
    assert (one["id"], one["status"]) == (meeting.id, "confirmed")
    assert meeting.listed(ELM) == []
    assert one["note"] == ("user-mailbox-denied" if change == "denied" else "organizer-locked")
    assert meeting.rooms() == [1, 0]


def test_the_organizer_cancelled_it(meeting: Meeting) -> None:
    """A meeting that Ann has cancelled meanwhile is over in both rooms."""
    meeting.move()
    (copy,) = meeting.tenant.control.get(f"mailboxes/{meeting.ann}/events")
    meeting.tenant.control.delete(f"mailboxes/{meeting.ann}/events/{copy['id']}")

    meeting.settle()

    assert meeting.shown() == []
    assert meeting.rooms() == [0, 0]


def test_taken_in_the_portal(meeting: Meeting) -> None:
    """A room that the portal knows to be taken is refused at once."""
    body = {"title": "Planning", "start": at(0, 9), "end": at(0, 10)}
    assert meeting.house.call("POST", ELM, body).status == 201

    assert problem(meeting.move()) == (409, "room-busy")
    assert stored(meeting.house, "oak", meeting.id).live
    assert store.load_reservation(meeting.house.app.tables.data, NAME, "elm", meeting.id) is None
