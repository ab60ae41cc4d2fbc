"""The calendars' cases, of changes on both sides at once and of two that want one room. The names are those of the
reference, section 7.
"""

from collections.abc import Callable
from datetime import timedelta

from tests.office import DAY, HOUR, MINUTE, NAME, VIEW, Json, Office, graph_time, make_office, office, span, weekly

__all__ = ["make_office", "office"]


def booked(office: Office) -> tuple[Json, str]:
    """A reservation of the portal's and the id of its event in the room's calendar."""
    one = office.book()
    office.sync()
    return one, office.events()[0]["id"]


def log_of(office: Office, run: Json) -> list[str]:
    return [line["reason"] for line in office.house.get(f"connections/{NAME}/runs/{run['id']}/log")["items"]]


# --- both changed it -------------------------------------------------------------------------------------------------


def test_portal_title_outlook_time(office: Office) -> None:
    """Both kept, whichever is seen first."""
    one, event = booked(office)
    for hours in (2, 4):
        office.outlook("PATCH", "oak", event, span(office.noon + hours * HOUR))
        office.edit(one, title=f"Ours {hours}")
        if hours == 2:
            office.hear()
        else:
            office.send()
        office.sync()

        after = office.only()
        assert (after["title"], after["start"]) == (f"Ours {hours}", graph_time(office.noon + hours * HOUR))
        assert (after["syncState"], office.events()[0]["subject"]) == ("synced", f"Ours {hours}")


def test_both_move_time(office: Office) -> None:
    """Outlook's, logged. The editor is told, and the log tells no title."""
    one, event = booked(office)
    office.outlook("PATCH", "oak", event, span(office.noon + 2 * HOUR))
    office.edit(one, **span(office.noon + 4 * HOUR))

    with office.counting() as count:
        office.hear()

    after = office.only()
    assert (after["id"], after["start"]) == (one["id"], graph_time(office.noon + 2 * HOUR))
    assert (after["syncState"], after["note"]) == ("conflict", "outlook-won")
    assert count.graph_writes == []
    runs = office.house.get(f"connections/{NAME}/runs")["items"]
    assert ["outlook-won"] in [log_of(office, run) for run in runs]
    assert office.room()["pendingChanges"] == 0


def test_a_conflict_is_over_with_the_next_change(office: Office) -> None:
    one, event = booked(office)
    office.outlook("PATCH", "oak", event, {"subject": "Theirs"})
    office.edit(one, title="Ours")
    office.hear()
    assert office.only()["syncState"] == "conflict"

    office.edit(one, title="Ours again")
    office.sync()

    assert (office.only()["syncState"], office.only()["note"]) == ("synced", None)
    assert office.events()[0]["subject"] == "Ours again"


def test_remote_cancel_always_wins(office: Office) -> None:
    one, event = booked(office)
    office.outlook("DELETE", "oak", event)
    office.edit(one, title="Ours", **span(office.noon + 2 * HOUR))

    office.sync()

    assert (office.reservations(), office.events()) == ([], [])
    assert office.again(one)["status"] == "cancelled"


def test_local_cancel_and_a_new_time(office: Office) -> None:
    """The reservation is restored at the new time."""
    one, event = booked(office)
    office.outlook("PATCH", "oak", event, span(office.noon + 2 * HOUR))
    office.cancel(one)

    office.hear()

    after = office.only()
    assert (after["id"], after["start"]) == (one["id"], graph_time(office.noon + 2 * HOUR))
    assert (after["syncState"], after["note"]) == ("conflict", "moved-in-outlook")
    assert len(office.events()) == 1


def test_local_cancel_and_a_new_title(office: Office) -> None:
    """Cancel proceeds."""
    one, event = booked(office)
    office.outlook("PATCH", "oak", event, {"subject": "Theirs"})
    office.cancel(one)

    office.hear()
    office.sync()

    assert (office.reservations(), office.events()) == ([], [])


def test_a_title_learnt_while_a_cancel_waits(make_office: Callable[..., Office]) -> None:
    """Inbound state is recorded while a local cancel is pending: refused, the reservation is as Outlook has it."""
    office = make_office("100")
    office.link()
    meeting = office.meet(0)
    office.sync()
    one = office.only()
    office.change(0, meeting, subject="Theirs")
    office.cancel(one)
    office.settings("000")

    office.hear()

    after = office.only()
    assert (after["id"], after["title"]) == (one["id"], "Theirs")
    assert (after["syncState"], after["note"]) == ("rejected", "organizer-locked")


def test_both_change_a_series(office: Office) -> None:
    """One its length, the other its time: both kept, and each occurrence has its event."""
    one = office.book(recurrence=weekly(office.noon, 3))
    office.sync()
    office.outlook("PATCH", "oak", office.masters()[0]["id"], {"recurrence": weekly(office.noon, 4)})
    office.edit(one, **span(office.noon + 2 * HOUR))

    office.hear()
    office.sync()

    found = office.reservations()
    assert [each["start"] for each in found] == [
        graph_time(office.noon + week * 7 * DAY + 2 * HOUR) for week in range(4)
    ]
    assert [event["start"]["dateTime"][:19] for event in office.events()] == [
        each["start"]["dateTime"] for each in found
    ]
    assert {each["syncState"] for each in found} == {"synced"}
    assert office.room()["pendingChanges"] == 0


def test_both_move_a_series(office: Office) -> None:
    """Outlook's time, with the reservations that there were."""
    one = office.book(recurrence=weekly(office.noon, 3))
    office.sync()
    office.outlook("PATCH", "oak", office.masters()[0]["id"], span(office.noon + HOUR))
    office.edit(one, **span(office.noon + 2 * HOUR))

    office.hear()
    office.sync()

    found = office.reservations()
    assert [each["start"] for each in found] == [graph_time(office.noon + week * 7 * DAY + HOUR) for week in range(3)]
    assert len(office.events()) == 3
    assert (office.again(one)["syncState"], office.again(one)["note"]) == ("conflict", "outlook-won")


# --- two want one room -----------------------------------------------------------------------------------------------


def test_portal_create_over_outlook_event(office: Office) -> None:
    """409, no POST. Outlook is asked, although nothing has been read yet."""
    office.meet(0)

    with office.counting() as count:
        refused = office.ask_to_book(start=office.noon + HOUR / 2)
        office.send()

    assert (refused.status, refused.json["code"]) == (409, "room-busy")
    assert refused.json["busy"] == [
        {
            "start": office.noon.isoformat().replace("+00:00", "Z"),
            "end": (office.noon + HOUR).isoformat().replace("+00:00", "Z"),
        }
    ]
    assert count.graph_writes == []
    assert count.by_template == {VIEW: 1}


def test_outlook_was_first(office: Office) -> None:
    """A meeting that came between the portal's check and its write: the clash check before the POST sees it."""
    one = office.book()
    office.meet(0)

    with office.counting() as count:
        office.send()

    assert count.graph_writes == []
    after = office.again(one)
    assert (after["status"], after["syncState"], after["note"]) == ("declined", "rejected", "room-busy")
    office.sync()
    assert [each["origin"] for each in office.reservations(status="confirmed")] == ["microsoft"]


def test_portal_moves_onto_outlook_event(office: Office) -> None:
    """Clash before a move: nothing sent, the reservation is where it was."""
    one, _ = booked(office)
    office.edit(one, **span(office.noon + 2 * HOUR))
    office.meet(0, start=office.noon + 2 * HOUR)

    with office.counting() as count:
        office.send()

    assert count.graph_writes == []
    after = office.again(one)
    assert (after["start"], after["syncState"], after["note"]) == (graph_time(office.noon), "rejected", "room-busy")


def conflicts_allowed(office: Office) -> None:
    office.tenant.control.patch(f"rooms/{office.rooms[0]}", {"allowConflicts": True})


def test_clash_seen_after_both_exist(office: Office) -> None:
    """Earlier createdDateTime keeps the room; ours, if local-origin and later, is Declined and deleted."""
    conflicts_allowed(office)
    meeting = office.meet(0, start=office.noon + 3 * HOUR)
    office.sync()
    office.advance(timedelta(minutes=1))
    one, _ = booked(office)
    office.change(0, meeting, **span(office.noon))

    office.hear()

    after = office.again(one)
    assert (after["status"], after["syncState"], after["note"]) == ("declined", "rejected", "room-busy")
    assert [event["organizer"]["emailAddress"]["address"] for event in office.events()] == [office.people[0]]
    office.full()
    assert [each["status"] for each in office.reservations()] == ["declined", "confirmed"] or [
        each["status"] for each in office.reservations()
    ] == ["confirmed", "declined"]


def test_ours_was_first(office: Office) -> None:
    """Then it stays, and both say so."""
    conflicts_allowed(office)
    one, _ = booked(office)
    office.advance(timedelta(minutes=1))
    office.meet(0)

    office.hear()

    found = office.reservations()
    assert {each["note"] for each in found} == {"double-booked"}
    assert {each["status"] for each in found} == {"confirmed"}
    assert len(office.events()) == 2
    assert one["id"] in [each["id"] for each in found]


def test_two_outlook_events(office: Office) -> None:
    """Both kept, flagged, until one has left."""
    conflicts_allowed(office)
    office.meet(0)
    other = office.meet(1)
    office.hear()
    assert {each["note"] for each in office.reservations()} == {"double-booked"}
    with office.counting() as count:
        office.full()
    assert count.rows == set()

    office.change(1, other, **span(office.noon + 2 * HOUR))
    office.hear()

    assert {each["note"] for each in office.reservations()} == {None}


# --- the room declines -----------------------------------------------------------------------------------------------


def test_room_declines(make_office: Callable[..., Office]) -> None:
    """Declined, slot free, user event untouched: within a minute, although nobody tells of it."""
    office = make_office("101")
    office.link()
    office.tenant.control.patch(f"rooms/{office.rooms[0]}", {"bookingWindowInDays": 0})
    one = office.book(owner={"name": "Ann", "email": office.people[0]})
    office.send()
    assert office.again(one)["status"] == "awaitingRoom"

    office.advance(MINUTE)
    with office.counting() as count:
        office.wake()

    after = office.again(one)
    assert (after["status"], after["syncState"], after["note"]) == ("declined", "rejected", "room-declined")
    assert count.graph_writes == []
    assert len(office.events(office.people[0])) == 1
    assert office.ask_to_book(organizer="room").status == 201


def test_room_declines_later(make_office: Callable[..., Office]) -> None:
    """Confirmed → Declined, the meeting going on without the room."""
    office = make_office("101")
    office.link()
    one = office.book(owner={"name": "Ann", "email": office.people[0]})
    office.sync()
    office.sync()
    assert office.again(one)["status"] == "confirmed"

    office.outlook("POST", "oak", f"{office.events()[0]['id']}/decline", {})
    office.hear()

    assert (office.again(one)["status"], office.again(one)["note"]) == ("declined", "room-declined")
    assert len(office.events(office.people[0])) == 1


def test_room_accepts_again(make_office: Callable[..., Office]) -> None:
    """Same iCalUId accepted again; same reservation revived."""
    office = make_office("101")
    office.link()
    office.tenant.control.patch(f"rooms/{office.rooms[0]}", {"bookingWindowInDays": 0})
    one = office.book(owner={"name": "Ann", "email": office.people[0]})
    office.send()
    office.sync()
    assert office.again(one)["status"] == "declined"

    office.tenant.control.patch(f"rooms/{office.rooms[0]}", {"bookingWindowInDays": 180})
    [meeting] = office.events(office.people[0])
    office.change(0, meeting, **span(office.noon + HOUR))
    office.hear()

    after = office.only()
    assert (after["id"], after["status"], after["start"]) == (one["id"], "confirmed", graph_time(office.noon + HOUR))


def test_owner_moves_it_while_the_room_waits(make_office: Callable[..., Office]) -> None:
    """AwaitingRoom follows the organizer copy's time meanwhile; 24 h without answer → warning `room_no_response`."""
    office = make_office("101")
    office.link()
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    one = office.book(owner={"name": "Ann", "email": office.people[0]})
    office.send()
    [meeting] = office.events(office.people[0])
    office.change(0, meeting, **span(office.noon + 2 * HOUR))

    office.sync()
    after = office.again(one)
    assert (after["status"], after["start"]) == ("awaitingRoom", graph_time(office.noon + 2 * HOUR))
    assert after["note"] is None

    office.advance(DAY + HOUR)
    office.sync()
    assert (office.again(one)["status"], office.again(one)["note"]) == ("awaitingRoom", "room-no-response")

    office.tenant.control.post("meetings/deliver")
    office.hear()
    assert (office.only()["status"], office.only()["note"]) == ("confirmed", None)


def test_owner_cancels_while_the_room_waits(make_office: Callable[..., Office]) -> None:
    office = make_office("101")
    office.link()
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    one = office.book(owner={"name": "Ann", "email": office.people[0]})
    office.send()
    office.call_off(0, office.events(office.people[0])[0])

    office.sync()

    assert office.again(one)["status"] == "cancelled"


def test_owners_mailbox_closes_while_the_room_waits(make_office: Callable[..., Office]) -> None:
    """That says nothing of the meeting."""
    office = make_office("101")
    office.link()
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    one = office.book(owner={"name": "Ann", "email": office.people[0]})
    office.send()
    office.deny(office.people[0], mailbox="onPremises")

    office.sync()

    assert office.again(one)["status"] == "awaitingRoom"


def test_room_switched_in_outlook_in_the_other_order(office: Office) -> None:
    """A Cancelled, B created, any order."""
    office.link("elm", 1)
    meeting = office.meet(0)
    office.hear("oak", "elm")
    invited = {"type": "resource", "emailAddress": {"address": office.rooms[1], "name": "Room"}}
    office.change(0, meeting, attendees=[invited])

    office.hear("oak")
    office.hear("elm")

    assert office.reservations("oak") == []
    assert office.only("elm")["status"] == "confirmed"
