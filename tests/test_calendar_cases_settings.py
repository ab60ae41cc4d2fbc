"""The calendars' cases, of the three settings. The names are those of the reference, section 7.

The settings are written as in the reference: delegation, strict mode, create on user calendar.
"""

import pytest

from sync.calendars.model import PLACEHOLDER
from tests.office import DAY, HOUR, SEARCH, VIEW, Make, graph_time, make_office, opened, span
from tests.rooms import problem

__all__ = ["make_office"]
# --- read ------------------------------------------------------------------------------------------------------------


def test_000_user_meeting(make_office: Make) -> None:
    """Room subject = organizer name; one user GET, real title."""
    office = opened(make_office, "000")
    office.meet(0, subject="Review")
    assert office.events()[0]["subject"].strip() == office.names[office.people[0]]

    with office.counting() as count:
        office.sync()
        office.sync()

    assert (office.only()["title"], office.only()["titleSource"]) == ("Review", "organizer")
    assert count.to(office.people[0]) == [SEARCH]


def test_010_import(make_office: Make) -> None:
    """Import + webhook + full sync; zero user-mailbox calls, placeholder."""
    office = opened(make_office, "010")
    office.meet(0)

    with office.counting() as count:
        office.sync()
        office.hear()
        office.full()

    assert (office.only()["title"], office.only()["titleSource"]) == (PLACEHOLDER, "placeholder")
    assert office.only()["owner"]["email"] == office.people[0]
    assert count.to(office.people[0]) == []


def test_110_import(make_office: Make) -> None:
    """User GET made, real title."""
    office = opened(make_office, "110")
    office.meet(0)

    with office.counting() as count:
        office.sync()

    assert office.only()["title"] == "Planning"
    assert count.to(office.people[0]) == [SEARCH]
    assert office.room()["warnings"] == ["strict-without-effect"]


def test_the_first_real_title_wins(make_office: Make) -> None:
    """A placeholder yields as soon as reading is allowed and the title is asked for again."""
    office = opened(make_office, "010")
    office.meet(0)
    office.sync()

    office.settings("000")
    office.full()

    assert office.only()["title"] == "Planning"


def test_a_known_title_stays(make_office: Make) -> None:
    """A placeholder never replaces it, whatever is changed once reading is not allowed any more."""
    office = opened(make_office, "000")
    meeting = office.meet(0)
    office.sync()

    office.settings("010")
    office.change(0, meeting, subject="Review", **span(office.noon + 2 * HOUR))
    office.full()

    assert (office.only()["title"], office.only()["start"]) == ("Planning", graph_time(office.noon + 2 * HOUR))


# --- create ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "warnings"),
    [
        ("000", []),
        ("001", ["edits-only-in-outlook"]),
        ("010", []),
        ("011", ["strict-overrides-create"]),
        ("100", []),
        ("101", []),
        ("110", ["strict-without-effect"]),
        ("111", ["strict-without-effect"]),
    ],
)
def test_portal_creates(make_office: Make, flags: str, warnings: list[str]) -> None:
    """In the room's calendar, without a word to the owner's; or in the owner's where that is enabled and not overruled."""
    office = opened(make_office, flags)
    on_user = flags in ("001", "101", "111")
    one = office.book(owner={"name": "Ann", "email": office.people[0]})

    with office.counting() as count:
        office.send()

    mailbox = office.people[0] if on_user else office.rooms[0]
    [(method, where, fields)] = count.writes
    assert (method, where) == ("POST", mailbox)
    assert ("attendees" in fields) == on_user
    assert bool(count.to(office.people[0])) == on_user
    office.sync()
    after = office.only()
    assert (after["id"], after["status"], after["syncState"]) == (one["id"], "confirmed", "synced")
    assert after["organizer"] == ("user" if on_user else "room")
    assert office.room()["warnings"] == warnings


def test_101_portal_creates(make_office: Make) -> None:
    """POST to owner, resource attendee, AwaitingRoom; room accepts; Confirmed, one reservation."""
    office = opened(make_office, "101")
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    one = office.book(owner={"name": "Ann", "email": office.people[0]})

    with office.counting() as count:
        office.send()

    [write] = count.graph_writes
    [invited] = write["body"]["attendees"]
    assert (write["mailbox"], invited["type"]) == (office.people[0], "resource")
    assert invited["emailAddress"]["address"] == office.rooms[0]
    assert write["body"]["location"]["locationEmailAddress"] == office.rooms[0]
    assert (office.again(one)["status"], office.again(one)["organizer"]) == ("awaitingRoom", "user")

    office.tenant.control.post("meetings/deliver")
    office.hear()

    assert (office.only()["id"], office.only()["status"]) == (one["id"], "confirmed")
    assert len(office.events()) == 1


def test_011_portal_creates(make_office: Make) -> None:
    """POST to room, no user call, warning. The portal cannot ask for the other either."""
    office = opened(make_office, "011")
    owner = {"name": "Ann", "email": office.people[0]}

    with office.counting() as count:
        office.book(owner=owner)
        office.sync()

    assert count.writes[0][:2] == ("POST", office.rooms[0])
    assert len(count.writes) == 1
    assert count.to(office.people[0]) == []
    refused = office.ask_to_book(start=office.noon + 3 * HOUR, owner=owner, organizer="user")
    assert problem(refused) == (409, "user-calendar-not-allowed")


def test_create_on_user_is_a_choice(make_office: Make) -> None:
    """For each reservation; the setting says only what is usual."""
    office = opened(make_office, "101")

    with office.counting() as count:
        office.book(owner={"name": "Ann", "email": office.people[0]}, organizer="room")
        office.send()

    assert [write[1] for write in count.writes] == [office.rooms[0]]


def test_settings_are_looked_at_when_it_is_sent(make_office: Make) -> None:
    """What was accepted for the owner's calendar goes to the room's once that is not allowed any more."""
    office = opened(make_office, "101")
    one = office.book(owner={"name": "Ann", "email": office.people[0]})
    office.settings("000")

    with office.counting() as count:
        office.send()

    assert [write[1] for write in count.writes] == [office.rooms[0]]
    after = office.again(one)
    assert (after["status"], after["organizer"], after["note"]) == ("confirmed", "room", "created-on-room")


# --- change ----------------------------------------------------------------------------------------------------------


def test_d_off_user_organized_portal_moves(make_office: Make) -> None:
    """409, no call."""
    office = opened(make_office, "000")
    office.meet(0)
    office.sync()
    one = office.only()

    with office.counting() as count:
        for flags in ("000", "001", "010", "011"):
            office.settings(flags)
            moved = office.ask_to_edit(one, **span(office.noon + 3 * HOUR))
            renamed = office.ask_to_edit(one, title="Ours")
            gone = office.ask_to_cancel(one)
            assert {problem(moved), problem(renamed), problem(gone)} == {(409, "organizer-locked")}

    assert count.requests == 0
    assert office.only() == one


@pytest.mark.parametrize("flags", ["100", "101", "110", "111"])
def test_d_on_portal_moves_and_cancels(make_office: Make, flags: str) -> None:
    """PATCH, then DELETE on organizer copy only; the room's copy follows, and nothing is written because of it."""
    office = opened(make_office, flags)
    office.meet(0)
    office.sync()
    one = office.only()
    office.edit(one, **span(office.noon + 3 * HOUR))

    with office.counting() as count:
        office.send()
    with office.counting() as echo:
        office.hear()

    told = [change for _, change in office.changes()]
    assert told == ["created", "updated", "updated"]  # by the portal, and that it is sent
    assert set(count.to(office.rooms[0])) <= {VIEW}
    assert [(method, mailbox) for method, mailbox, _ in count.writes] == [("PATCH", office.people[0])]
    assert echo.graph_writes == []
    after = office.only()
    assert (after["id"], after["start"], after["syncState"]) == (
        one["id"],
        graph_time(office.noon + 3 * HOUR),
        "synced",
    )
    assert office.events()[0]["start"]["dateTime"][:16] == after["start"]["dateTime"][:16]

    office.cancel(one)
    with office.counting() as count:
        office.send()

    assert count.writes == [("DELETE", office.people[0], set())]
    assert count.to(office.rooms[0]) == []
    office.sync()
    assert (office.reservations(), office.events()) == ([], [])
    assert office.again(one)["status"] == "cancelled"


def test_d_on_portal_renames(make_office: Make) -> None:
    """PATCH of the subject on the organizer's copy."""
    office = opened(make_office, "100")
    office.meet(0)
    office.sync()
    office.edit(office.only(), title="Ours")

    with office.counting() as count:
        office.send()
    office.sync()

    assert count.writes == [("PATCH", office.people[0], {"subject"})]
    assert (office.only()["title"], office.only()["syncState"]) == ("Ours", "synced")
    assert office.events(office.people[0])[0]["subject"] == "Ours"


def test_cancelled_before_the_room_has_heard(make_office: Make) -> None:
    """The tombstone stays bound by iCalUId until the room's copy is gone, even if it was never seen."""
    office = opened(make_office, "101")
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    one = office.book(owner={"name": "Ann", "email": office.people[0]})
    office.send()
    office.cancel(one)
    office.send()
    assert office.events(office.people[0]) == []

    office.tenant.control.post("meetings/deliver", {"count": 1})
    office.hear()
    assert len(office.events()) == 1
    assert office.reservations() == []

    office.tenant.control.post("meetings/deliver")
    office.hear()
    assert office.events() == []
    assert [change for _, change in office.changes()] == ["created", "updated", "deleted"]


def test_a_room_copy_that_is_late(make_office: Make) -> None:
    """After our own PATCH on the organizer's copy, a room's copy that still shows the old time is stale."""
    office = opened(make_office, "100")
    meeting = office.meet(0)
    office.sync()
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    office.edit(office.only(), **span(office.noon + 3 * HOUR))
    office.send()

    [copy] = office.events()
    office.outlook("PATCH", "oak", copy["id"], {"categories": ["Seen"]})
    office.hear()
    assert office.only()["start"] == graph_time(office.noon + 3 * HOUR)

    office.tenant.control.post("meetings/deliver")
    office.hear()
    assert office.only()["start"] == graph_time(office.noon + 3 * HOUR)
    office.tenant.control.post("meetings", {"delayMs": 0})
    office.change(0, meeting, **span(office.noon))
    office.hear()
    assert office.only()["start"] == graph_time(office.noon)


def test_delegation_taken_away_before_it_is_sent(make_office: Make) -> None:
    """An accepted change that is no longer permitted is rolled back to what both agreed on, and reported."""
    office = opened(make_office, "100")
    office.meet(0)
    office.meet(1, start=office.noon + 5 * HOUR)
    office.sync()
    first, second = office.reservations()
    office.edit(first, title="Ours", **span(office.noon + 2 * HOUR))
    office.cancel(second)
    office.settings("000")

    with office.counting() as count:
        office.send()

    assert count.graph_writes == []
    found = office.reservations()
    assert [(one["id"], one["title"], one["start"]) for one in found] == [
        (one["id"], one["title"], one["start"]) for one in (first, second)
    ]
    assert {(one["syncState"], one["note"], one["status"]) for one in found} == {
        ("rejected", "organizer-locked", "confirmed")
    }


# --- the room's time zone --------------------------------------------------------------------------------------------


def test_all_day_in_another_time_zone(make_office: Make) -> None:
    """The block runs from midnight to midnight on the clocks of the room, whoever made it."""
    office = opened(make_office, "000")
    day = office.noon.replace(hour=0)
    whole = {"isAllDay": True, "start": graph_time(day), "end": graph_time(day + DAY)}
    office.outlook("POST", "oak", body={"subject": "Fair", **whole})
    office.book(start=day + DAY, allDay=True, end=graph_time(day + 2 * DAY))
    office.sync()
    before = office.reservations()

    office.link(timeZone="America/Los_Angeles")
    with office.counting() as count:
        office.sync()

    after = office.reservations()
    assert [one["id"] for one in after] == [one["id"] for one in before]
    assert [one["start"]["dateTime"] for one in after] == [one["start"]["dateTime"] for one in before]
    assert {one["start"]["timeZone"] for one in after} == {"America/Los_Angeles"}
    assert office.ask_to_book(start=day + 2 * DAY + 7 * HOUR).status == 409
    assert office.ask_to_book(start=day + 2 * DAY + 8 * HOUR).status == 201
    assert count.graph_writes == []


# --- owner -----------------------------------------------------------------------------------------------------------


def test_user_organized_owner_change(make_office: Make) -> None:
    """409 `owner_locked`, whatever the settings."""
    office = opened(make_office, "000")
    office.meet(0)
    office.sync()

    for flags in ("000", "100"):
        office.settings(flags)
        refused = office.ask_to_edit(office.only(), owner={"name": "Bo", "email": office.people[1]})
        assert problem(refused) == (409, "owner-is-organizer")


def test_room_organized_owner_change(make_office: Make) -> None:
    """Accepted, no organizer in any body."""
    office = opened(make_office, "100")
    one = office.book(owner={"name": "Ann", "email": office.people[0]})
    office.sync()

    with office.counting() as count:
        after = office.edit(one, owner={"name": "Bo", "email": office.people[1]})
        office.sync()

    assert after["owner"]["email"] == office.people[1]
    assert count.graph_writes == []
    assert office.only()["owner"]["email"] == office.people[1]
