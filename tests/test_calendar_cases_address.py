"""The calendars' cases, of a room that gets another address: of another mailbox, of one it had before, of the same one."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest

from sync import jobs
from tests.dying import Killed, Reaper, process
from tests.office import DAY, HOUR, Json, Office, graph_time, make_office, office, span, weekly

__all__ = ["make_office", "office"]

SHOWN = ("id", "title", "start", "end", "type", "status", "syncState", "note", "origin", "organizer", "owner")


def shown(office: Office) -> list[Json]:
    """What the portal shows, cancelled ones too, but for what changes with every write."""
    every = office.reservations(status="any") + office.reservations(type="series", status="any")
    return [{name: one[name] for name in SHOWN} for one in every if one["status"] != "cancelled"]


def rename(office: Office) -> None:
    """The room's mailbox gets another address, and the admin writes it into the room."""
    old = office.rooms[0]
    new = old.replace("@", "-new@")
    office.tenant.control.patch(f"rooms/{old}", {"emailAddress": new})
    office.rooms[0] = new
    office.link()


def furnish(office: Office) -> list[Json]:
    """Whatever there can be: single meetings and series, of the portal and of Outlook, some occurrences changed."""
    office.book(title="Single")
    office.book(title="Weekly", start=office.noon + 2 * HOUR, recurrence=weekly(office.noon, 4))
    office.meet(0, start=office.noon + 4 * HOUR, subject="Theirs")
    office.meet(1, start=office.noon + 6 * HOUR, subject="Their weekly", recurrence=weekly(office.noon, 4))
    office.outlook("POST", "oak", body={"subject": "Room's", **span(office.noon + 8 * HOUR)})
    office.sync()
    parts = [one for one in office.reservations() if one["title"] == "Weekly"]
    office.edit(parts[1], title="Review", **span(office.noon + 7 * DAY + 3 * HOUR))
    office.cancel(parts[2])
    office.send()
    office.sync()
    found = shown(office)
    assert {one["syncState"] for one in found} == {"synced"}
    return found


def settled(office: Office) -> None:
    """Once the echo of what was sent has come in, a full sync finds nothing to do."""
    office.sync()
    with office.counting() as echo:
        office.full()
    assert (echo.rows, echo.graph_writes) == (set(), [])


def test_renamed(office: Office) -> None:
    """Another address of the same mailbox: everything is known again, nothing is written, and nobody is told anything."""
    before = furnish(office)
    office.changes()

    with office.counting() as count:
        rename(office)

    assert shown(office) == before
    assert count.graph_writes == []
    assert office.changes() == []
    assert office.status() == ("active", "polling-only")
    settled(office)


def test_renamed_with_changes_on_both_sides(make_office: Callable[..., Office]) -> None:
    """What was not told yet is told under the new address, whoever the organizer is."""
    office = make_office("100")
    office.link()
    ours, theirs, gone = (office.book(start=office.noon + number * HOUR) for number in range(3))
    office.meet(0, start=office.noon + 4 * HOUR, subject="Theirs")
    office.sync()
    meeting = office.reservations()[3]
    office.link(active=False)
    office.edit(ours, title="Ours")
    office.edit(meeting, title="Ours, too")
    office.cancel(gone)
    event = office.events(office.rooms[0])[1]
    office.outlook("PATCH", office.rooms[0], event["id"], {"subject": "Outlook's"})

    rename(office)

    assert [one["title"] for one in office.reservations()] == ["Ours", "Outlook's", "Ours, too"]
    assert [event["subject"] for event in office.events()][:2] == ["Ours", "Outlook's"]
    assert office.events(office.people[0])[0]["subject"] == "Ours, too"
    assert len(office.events()) == 3
    assert {one["syncState"] for one in office.reservations()} == {"synced"}
    assert office.again(theirs)["title"] == "Outlook's"
    settled(office)


def test_renamed_beyond_the_window(office: Office) -> None:
    """What no round shows is found when it would be created."""
    far = office.book(start=office.noon + 800 * DAY)
    series = office.book(start=office.noon + 801 * DAY, recurrence=weekly(office.noon + 801 * DAY, 2))
    office.sync()

    with office.counting() as count:
        rename(office)

    assert count.graph_writes == []
    for one in (far, series):
        assert (office.again(one)["status"], office.again(one)["syncState"]) == ("confirmed", "synced")
    assert len(office.events(days=900)) == 3


def test_renamed_with_meetings_of_the_portal_in_peoples_calendars(make_office: Callable[..., Office]) -> None:
    """Known by the copy that the room has."""
    office = make_office("101")
    office.link()
    owner = {"name": "Ann", "email": office.people[0]}
    office.book(owner=owner, organizer="user")
    office.sync()
    office.sync()
    before = shown(office)
    assert [(one["organizer"], one["status"]) for one in before] == [("user", "confirmed")]

    with office.counting() as count:
        rename(office)

    assert (shown(office), count.graph_writes) == (before, [])
    assert (len(office.events()), len(office.events(office.people[0]))) == (1, 1)


def test_another_mailbox(office: Office) -> None:
    """What the portal booked moves along, with what was changed of its occurrences; what came from Outlook goes."""
    before = furnish(office)

    office.link(number=1)

    ours = [one for one in before if one["origin"] == "portal"]
    assert shown(office) == ours
    assert [event["subject"] for event in office.events()] == ["Single", "Weekly", "Review", "Weekly"]
    assert len(office.events(office.rooms[0])) == len(before) - 2  # an address change is no cause for a deletion
    settled(office)


def test_there_and_back(office: Office) -> None:
    """The events that the portal's reservations had are theirs again, before anything is made; each has one."""
    before = furnish(office)
    events = office.events()
    office.link(number=1)

    with office.counting() as count:
        office.link(number=0)

    assert shown(office) == before
    assert office.events() == events
    assert count.graph_writes == []
    assert len(office.events(office.rooms[1])) == 4
    settled(office)
    for number in (1, 0, 1, 0):
        office.link(number=number)
    assert (shown(office), office.events()) == (before, events)
    assert len(office.events(office.rooms[1])) == 4


def test_there_and_back_with_changes(office: Office) -> None:
    """What the portal changed meanwhile goes out, what Outlook changed meanwhile comes in, and what the portal cancelled
    is deleted.
    """
    first, second, third = (office.book(start=office.noon + number * HOUR) for number in range(3))
    series = office.book(start=office.noon + 4 * HOUR, recurrence=weekly(office.noon, 3))
    whole = office.book(start=office.noon + 6 * HOUR, recurrence=weekly(office.noon, 3))
    office.sync()
    parts = [one for one in office.reservations() if one["seriesId"] == series["id"]]
    office.link(number=1)
    office.edit(first, title="Ours", notes="Bring a pen", **span(office.noon + 10 * HOUR))
    event = office.events(office.rooms[0])[1]
    office.outlook("PATCH", office.rooms[0], event["id"], {"subject": "Outlook's"})
    office.cancel(third)
    office.cancel(parts[1])
    office.edit(parts[2], title="Last")
    office.cancel(whole)
    office.send()

    with office.counting() as count:
        office.link(number=0)

    assert sorted(method for method, *_ in count.writes) == ["DELETE"] * 3 + ["PATCH"] * 2
    subjects = [(event["subject"], event["start"]["dateTime"][:16]) for event in office.events()]
    assert subjects == [
        (title, graph_time(at)["dateTime"][:16])
        for title, at in [
            ("Outlook's", office.noon + HOUR),
            ("Planning", office.noon + 4 * HOUR),
            ("Ours", office.noon + 10 * HOUR),
            ("Last", office.noon + 14 * DAY + 4 * HOUR),
        ]
    ]
    found = office.reservations()
    assert [one["id"] for one in found] == [each["id"] for each in (second, parts[0], first, parts[2])]
    assert ["Bring a pen" in event["body"]["content"] for event in office.events()] == [False, False, True, False]
    assert {one["syncState"] for one in found} == {"synced"}
    settled(office)


def test_there_and_back_after_a_refusal(office: Office) -> None:
    """What the other calendar had no room for, or lost, stands again where its event does."""
    busy, lost = office.book(), office.book(start=office.noon + 2 * HOUR)
    office.outlook("POST", office.rooms[1], body={"subject": "In the way", **span(office.noon)})
    office.sync()
    office.link(number=1)
    assert (office.again(busy)["status"], office.again(busy)["note"]) == ("declined", "room-busy")
    event = next(each for each in office.events() if each["subject"] == "Planning")
    office.outlook("DELETE", "oak", event["id"])
    office.hear()
    assert office.again(lost)["status"] == "cancelled"

    office.link(number=0)

    found = office.reservations()
    assert [(one["id"], one["status"], one["syncState"], one["note"]) for one in found] == [
        (one["id"], "confirmed", "synced", None) for one in (busy, lost)
    ]
    assert len(office.events()) == 2
    settled(office)


def test_there_and_back_beyond_the_window(office: Office) -> None:
    far = office.book(start=office.noon + 800 * DAY)
    office.sync()
    office.link(number=1)
    office.edit(far, title="Far")
    office.send()

    office.link(number=0)

    assert office.again(far)["syncState"] == "synced"
    assert [event["subject"] for event in office.events(days=900)] == ["Far"]


def test_there_and_back_without_its_events(make_office: Callable[..., Office]) -> None:
    """Deleted meanwhile, or called off by their organizers: they are made anew."""
    office = make_office("101")
    office.link()
    owner = {"name": "Ann", "email": office.people[0]}
    first, second = office.book(), office.book(start=office.noon + 2 * HOUR, owner=owner, organizer="user")
    office.sync()
    office.link(number=1)
    office.outlook("DELETE", office.rooms[0], office.events(office.rooms[0])[0]["id"])
    office.call_off(0, office.events(office.people[0])[0])

    office.link(number=0)

    assert [(one["id"], one["organizer"], one["syncState"]) for one in office.reservations()] == [
        (one["id"], "room", "synced") for one in (first, second)
    ]
    assert len(office.events()) == 2


@pytest.mark.parametrize("flags", ["101", "001"])
def test_there_and_back_of_meetings_in_peoples_calendars(make_office: Callable[..., Office], flags: str) -> None:
    """Known by the id that all copies of a meeting share; one that the portal has cancelled meanwhile is its organizer's."""
    office = make_office(flags)
    office.link()
    for number in (0, 2):
        owner = {"name": "Ann", "email": office.people[0]}
        office.book(start=office.noon + number * HOUR, owner=owner, organizer="user")
    office.sync()
    office.sync()
    before = shown(office)
    assert [(one["organizer"], one["status"]) for one in before] == [("user", "confirmed")] * 2
    office.link(number=1)
    assert [one["organizer"] for one in shown(office)] == ["room", "room"]
    office.cancel(before[1])
    office.send()

    office.link(number=0)

    found = shown(office)
    assert found[0] == before[0]
    assert [(one["origin"], one["organizer"]) for one in found] == [("portal", "user"), ("microsoft", "user")]
    assert (len(office.events()), len(office.events(office.people[0]))) == (2, 2)


@pytest.mark.parametrize(("how", "after"), [("renamed", 2), ("renamed", 3), ("back", 2), ("back", 4)])
def test_a_worker_dies_on_the_way(office: Office, how: str, after: int) -> None:
    """Whatever was written by then, in as many transactions as it takes: each reservation has one event in the end."""
    one, days = office.book(), weekly(office.noon, 50)
    days["pattern"] = {"type": "daily", "interval": 1}
    office.book(start=office.noon + 2 * HOUR, recurrence=days)
    office.sync()
    before = shown(office)
    if how == "back":
        office.link(number=1)
        office.edit(one, title="Ours")
        office.send()
    else:
        new = office.rooms[0].replace("@", "-new@")
        office.tenant.control.patch(f"rooms/{office.rooms[0]}", {"emailAddress": new})
        office.rooms[0] = new

    body = {"displayName": "Oak", "externalCalendar": office.rooms[0], "active": True, "timeZone": "UTC"}
    assert office.portal("PUT", "rooms/oak", body).status == 200
    messages = list(office.house.messages())
    for message in messages:
        with suppress(Killed), process(Reaper(after)):
            jobs.work(office.house.app, message)
    office.advance(timedelta(minutes=2))
    for message in messages:
        jobs.work(office.house.app, message)
    office.sync()

    found, title = shown(office), "Ours" if how == "back" else "Planning"
    assert found == [{**each, "title": title} if each["id"] == one["id"] else each for each in before]
    events = office.events(office.rooms[0])
    assert len(events) == 51
    assert title in [event["subject"] for event in events]
