"""The calendars' cases, from Outlook to the portal. The names are those of the reference, section 7."""

from datetime import timedelta

from sync.calendars.model import PLACEHOLDER, PRIVATE
from sync.calendars.store import load_reservations
from tests.office import DAY, DELTA, GET, HOUR, NAME, SEARCH, Office, graph_time, make_office, office, span

__all__ = ["make_office", "office"]


def test_user_invites_room(office: Office) -> None:
    """Delta; one reservation, owner by address. In the portal after one notification, with at most 3 Graph requests."""
    meeting = office.meet(0)

    with office.counting() as count:
        office.hear()

    one = office.only()
    assert (one["title"], one["titleSource"], one["origin"]) == ("Planning", "organizer", "microsoft")
    assert one["owner"]["email"] == office.people[0]
    assert (one["start"], one["end"]) == (graph_time(office.noon), graph_time(office.noon + HOUR))
    assert (one["status"], one["syncState"], one["organizer"], one["blocking"]) == ("confirmed", "synced", "user", True)
    assert count.requests <= 3
    assert count.by_template == {DELTA: 1, SEARCH: 1}
    assert count.to(office.people[0]) == [SEARCH]
    assert office.changes() == [(one["id"], "created")]
    assert meeting["iCalUId"] == office.stored(one).link.ical


def test_organizer_moves_time(office: Office) -> None:
    """Delta; same id, new time."""
    meeting = office.meet(0)
    office.hear()
    before = office.only()

    office.change(0, meeting, **span(office.noon + 3 * HOUR))
    office.hear()

    after = office.only()
    assert after["id"] == before["id"]
    assert after["start"] == graph_time(office.noon + 3 * HOUR)


def test_organizer_changes_the_title(office: Office) -> None:
    """The room's copy shows nothing of it, the organizer's copy does: it is read once for each version of the room's."""
    meeting = office.meet(0)
    office.hear()
    before = office.only()
    office.changes()

    office.change(0, meeting, subject="Review")
    office.hear()
    with office.counting() as count:
        office.hear()

    assert (office.only()["title"], office.only()["id"]) == ("Review", before["id"])
    assert office.changes() == [(before["id"], "updated")]
    assert count.by_template == {DELTA: 1}


def test_room_copy_gone(office: Office) -> None:
    """GET 404; Cancelled. Its organizer's copy would tell whether only the room has declined it."""
    meeting = office.meet(0)
    office.hear()
    one = office.only()

    office.call_off(0, meeting)
    with office.counting() as count:
        office.hear()

    assert office.reservations() == []
    assert office.again(one)["status"] == "cancelled"
    assert office.changes()[-1] == (one["id"], "deleted")
    assert count.by_template == {DELTA: 1, GET: 1, SEARCH: 1}
    assert count.requests == 3


def test_removed_and_still_there(office: Office) -> None:
    """`@removed`, but GET 200: it has left the window of the delta link, so it is an update like any other."""
    meeting = office.meet(0)
    office.hear()
    one = office.only()

    office.change(0, meeting, **span(office.noon + 100 * DAY))
    office.tenant.control.patch(f"rooms/{office.rooms[0]}", {"bookingWindowInDays": 1000})
    office.change(0, meeting, **span(office.noon + 500 * DAY))
    office.hear()

    after = office.again(one)
    assert (after["status"], after["start"]) == ("confirmed", graph_time(office.noon + 500 * DAY))


def test_is_cancelled_copy_stays(office: Office) -> None:
    """Cancelled, at no further call."""
    office.tenant.control.patch(f"rooms/{office.rooms[0]}", {"removeCanceledMeetings": False})
    meeting = office.meet(0)
    office.hear()
    one = office.only()

    office.call_off(0, meeting)
    with office.counting() as count:
        office.hear()

    assert office.again(one)["status"] == "cancelled"
    assert count.by_template == {DELTA: 1}
    office.sync(mode="full")
    assert office.reservations() == []


def test_tentative_then_accepted(office: Office) -> None:
    """Tentative→Confirmed, same id."""
    office.tenant.control.patch(f"rooms/{office.rooms[0]}", {"autoAccept": False})
    office.meet(0)
    office.hear()
    before = office.only()

    [copy] = office.events()
    office.outlook("POST", "oak", f"{copy['id']}/accept", {})
    office.hear()

    assert before["status"] == "tentative"
    assert (office.only()["status"], office.only()["id"]) == ("confirmed", before["id"])


def test_show_as_free(office: Office) -> None:
    """Imported, not blocking."""
    office.outlook("POST", "oak", body={"subject": "Open day", "showAs": "free", **span(office.noon)})
    office.hear()

    assert (office.only()["title"], office.only()["blocking"]) == ("Open day", False)
    assert office.ask_to_book().status == 201


def test_an_event_of_the_rooms_own(office: Office) -> None:
    """Organizer = room: title and times from the room's copy, without a call."""
    office.outlook("POST", "oak", body={"subject": "Cleaning", **span(office.noon)})

    with office.counting() as count:
        office.hear()

    one = office.only()
    assert (one["title"], one["titleSource"], one["organizer"], one["owner"]) == ("Cleaning", "room", "room", None)
    assert count.by_template == {DELTA: 1}


def test_an_external_organizer(office: Office) -> None:
    """No copy that could be read: a placeholder, the owner by address, one call in a day for whoever it is."""
    office.tenant.control.patch(f"rooms/{office.rooms[0]}", {"processExternalMeetingMessages": True})
    for number in range(3):
        body = {"subject": "Pitch", "attendees": [{"type": "resource", "emailAddress": {"address": office.rooms[0]}}]}
        guest = {"organizer": {"emailAddress": {"name": "Kim", "address": "kim@fabrikam.com"}}}
        office.outlook("POST", "kim@fabrikam.com", body={**body, **guest, **span(office.noon + 2 * number * HOUR)})

    with office.counting() as count:
        office.hear()

    found = office.reservations()
    assert [(one["title"], one["titleSource"], one["owner"]["email"]) for one in found] == [
        (PLACEHOLDER, "placeholder", "kim@fabrikam.com")
    ] * 3
    assert count.by_template[SEARCH] == 1
    assert office.room()["warnings"] == []


def test_the_room_keeps_a_subject(office: Office) -> None:
    """Without read: the room's subject where it is not the organizer's name."""
    office.settings("010")
    office.tenant.control.patch(f"rooms/{office.rooms[0]}", {"deleteSubject": False, "addOrganizerToSubject": False})
    office.meet(0, subject="Open house")
    office.hear()

    assert (office.only()["title"], office.only()["titleSource"]) == ("Open house", "room")


def test_a_private_meeting(office: Office) -> None:
    """The room's copy has lost the flag, the organizer's has it: "Private meeting", and the real title is nowhere."""
    office.meet(0, subject="Salary of Bo", sensitivity="private")
    office.hear()

    one = office.only()
    assert (one["title"], one["private"], one["attendees"]) == (PRIVATE, True, [])
    rows = list(office.house.app.tables.data.scan("primary"))
    assert "Salary" not in repr(rows)


def test_a_private_meeting_that_is_made_public(office: Office) -> None:
    meeting = office.meet(0, subject="Salary of Bo", sensitivity="private")
    office.hear()

    office.change(0, meeting, sensitivity="normal", subject="Lunch")
    office.hear()

    assert (office.only()["title"], office.only()["private"]) == ("Lunch", False)


def test_attendees(office: Office) -> None:
    """People are attendees; a room is none."""
    guest = {"type": "required", "emailAddress": {"address": office.people[1], "name": "B"}}
    office.meet(0, attendees=[guest, {"type": "resource", "emailAddress": {"address": office.rooms[0]}}])
    office.hear()

    assert [one["email"] for one in office.only()["attendees"]] == [office.people[1]]


def test_a_change_that_nobody_sees(office: Office) -> None:
    """What changes in Outlook alone, such as the text of a meeting, makes no other version of the reservation."""
    meeting = office.meet(0)
    office.sync()
    one = office.only()
    path = f"rooms/oak/reservations/{one['id']}"
    read = office.portal("GET", path)

    office.change(0, meeting, body={"contentType": "text", "content": "Bring cake"})
    with office.counting() as count:
        office.sync()

    again = office.portal("GET", path)
    assert count.rows
    assert (again.json, again.headers["ETag"]) == (read.json, read.headers["ETag"])
    changed = office.portal("PATCH", path, {"notes": "Cake"}, If_Match=read.headers["ETag"])
    assert changed.status == 200
    assert office.portal("GET", path).headers["ETag"] == changed.headers["ETag"]
    assert office.portal("PATCH", path, {"notes": "Tea"}, If_Match=read.headers["ETag"]).status == 412
    assert office.portal("DELETE", path, If_Match=read.headers["ETag"]).status == 412


def test_idle_poll(office: Office) -> None:
    """Nothing has changed: one request for the room, nothing written here."""
    office.link("elm", 1)
    office.meet(0)
    office.sync()
    office.advance(timedelta(minutes=16))

    with office.counting() as count:
        run = office.sync()

    assert count.by_template == {DELTA: 2}
    assert count.rows == set()
    assert run["counts"]["updated"] == run["counts"]["created"] == 0


def test_accepted_again(office: Office) -> None:
    """Same iCalUId accepted again; same reservation revived."""
    meeting = office.meet(0)
    office.hear()
    one = office.only()
    office.change(0, meeting, attendees=[])
    office.hear()
    assert office.reservations() == []

    invited = {"type": "resource", "emailAddress": {"address": office.rooms[0], "name": "Room"}}
    office.change(0, meeting, attendees=[invited])
    office.hear()

    assert office.only()["id"] == one["id"]
    assert [change for _, change in office.changes()] == ["created", "deleted", "restored"]


def test_room_switched_in_outlook(office: Office) -> None:
    """A cancelled, B created."""
    office.link("elm", 1)
    meeting = office.meet(0)
    office.hear("oak", "elm")

    invited = {"type": "resource", "emailAddress": {"address": office.rooms[1], "name": "Room"}}
    office.change(0, meeting, attendees=[invited])
    office.hear("elm", "oak")

    assert office.reservations("oak") == []
    assert office.only("elm")["title"] == "Planning"


def test_one_meeting_in_a_and_b(office: Office) -> None:
    """A removed; only A cancelled."""
    office.link("elm", 1)
    meeting = office.meet(0, "oak", "elm")
    office.hear("oak", "elm")
    assert office.only("oak")["id"] != office.only("elm")["id"]

    invited = {"type": "resource", "emailAddress": {"address": office.rooms[1], "name": "Room"}}
    office.change(0, meeting, attendees=[invited])
    office.hear("oak", "elm")

    assert office.reservations("oak") == []
    assert office.only("elm")["status"] == "confirmed"


def test_a_meeting_changes_its_organizer(office: Office) -> None:
    """The same iCalUId under another organizer: the same reservation, another owner."""
    meeting = office.meet(0)
    office.hear()
    one = office.only()

    office.call_off(0, meeting)
    invited = {"type": "resource", "emailAddress": {"address": office.rooms[0], "name": "Room"}}
    body = {"subject": "Planning", "iCalUId": meeting["iCalUId"], "attendees": [invited], **span(office.noon)}
    office.outlook("POST", office.people[1], body=body)
    office.hear()

    after = office.only()
    assert after["id"] == one["id"]
    assert after["owner"]["email"] == office.people[1]


def test_tombstones_end_after_thirty_days(office: Office) -> None:
    """A cancelled reservation is kept for 30 days, in which its event may come back, and is forgotten after that."""
    meeting = office.meet(0)
    office.hear()
    one = office.only()
    office.call_off(0, meeting)
    office.hear()
    assert office.stored(one).status == "cancelled"

    office.advance(29 * DAY)
    office.sync()
    assert office.stored(one).status == "cancelled"
    office.advance(2 * DAY)
    office.sync()

    data = office.house.app.tables.data
    assert load_reservations(data, NAME, "oak") == []
