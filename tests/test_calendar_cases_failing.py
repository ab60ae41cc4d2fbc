"""Rooms that cannot be looked at: no run follows another without a pause, and nothing is lost once they can be again."""

from datetime import timedelta
from typing import Any

import pytest

from sync.calendars.failing import LONGEST_RETRY, PATIENCE, RETRY, backoff, refused, unanswered
from sync.calendars.model import Room, RoomState
from sync.calendars.run import waiting
from sync.graph.client import GraphClient
from tests.clock import START
from tests.office import DAY, HOUR, MINUTE, NAME, Json, Make, Office, graph_time, make_office, office, span, weekly
from tests.rooms import problem

__all__ = ["make_office", "office"]


def wait(office: Office) -> float | None:
    """Seconds until another run follows the last one by itself."""
    return waiting(office.house.app, NAME)


def whole_day(office: Office) -> Json:
    day = office.noon.replace(hour=0)
    body = {"title": "Day", "allDay": True, "start": graph_time(day), "end": graph_time(day + DAY)}
    made: Json = office.portal("POST", "rooms/oak/reservations", body).json
    return made


# --- pauses ----------------------------------------------------------------------------------------------------------


def test_a_late_notification_then_an_error(office: Office) -> None:
    """A room that was to be looked at again waits for its next try like any other."""
    office.hear()
    office.deny("oak")
    office.advance(2 * MINUTE)
    office.wake()

    assert office.status() == ("error", "room-denied")
    assert wait(office) is None


def test_a_late_notification_then_off(office: Office) -> None:
    office.hear()
    office.link(active=False)
    office.advance(2 * MINUTE)
    office.wake()

    assert office.status()[0] == "inactive"
    assert wait(office) is None


def test_moved_to_a_room_that_is_off(office: Office) -> None:
    """It waits until somebody switches the room on; no run asks for that over and over."""
    office.link("elm", 1)
    one = office.book()
    office.sync()
    office.edit(one, room="elm")
    office.link("elm", 1, active=False)
    assert wait(office) is None

    office.link("elm", 1)
    office.send()

    assert [each["id"] for each in office.reservations("elm")] == [one["id"]]
    assert office.events() == []
    assert wait(office) is None


def test_moved_to_a_room_in_error(office: Office) -> None:
    """It waits for that room's next try."""
    office.link("elm", 1)
    one = office.book()
    office.sync()
    office.deny("elm")
    office.edit(one, room="elm")
    office.send()
    retry_at = office.state("elm").retry_at
    assert retry_at
    assert wait(office) == pytest.approx((retry_at - office.now()).total_seconds(), abs=5)

    office.deny("elm", denied=False)
    office.advance(retry_at - office.now())
    office.wake()

    assert [each["id"] for each in office.reservations("elm")] == [one["id"]]
    assert (office.events(), len(office.events("elm"))) == ([], 1)


def test_later_and_later() -> None:
    """Five minutes at first, six hours at most."""
    room = Room("oak", "Oak", "office365", "oak@contoso.com", active=True, time_zone="UTC")
    assert [backoff(failures) for failures in (0, 1, 2, 40)] == [RETRY, 2 * RETRY, 4 * RETRY, LONGEST_RETRY]
    now, state, waits = START, RoomState(mailbox=room.external_calendar, status="active"), []
    for _ in range(30):
        state = unanswered(room, state, now)
        assert state.retry_at
        waits.append(state.retry_at - now)
        assert (state.status == "error") == (state.failing_since is not None and now - state.failing_since >= PATIENCE)
        now = state.retry_at
    assert waits[0] == RETRY
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_RETRY
    assert refused(room, RoomState(), now, "room-denied").mailbox == room.external_calendar


# --- other settings meanwhile ----------------------------------------------------------------------------------------


def test_another_calendar_that_is_closed_at_first(office: Office) -> None:
    """The portal's bookings go there once it is open."""
    one = office.book()
    office.sync()
    office.deny(office.rooms[1])
    office.link("oak", 1)
    assert office.status() == ("error", "room-denied")

    office.deny(office.rooms[1], denied=False)
    office.advance(10 * MINUTE)
    office.sync()

    assert office.again(one)["status"] == "confirmed"
    assert [event["subject"] for event in office.events()] == ["Planning"]


def test_another_calendar_that_was_a_mistake(office: Office) -> None:
    """Back at the former one, nothing has happened."""
    one = office.book()
    office.meet(0, start=office.noon + 3 * HOUR)
    office.sync()
    before = [(each["id"], each["status"]) for each in office.reservations()]
    office.deny(office.rooms[1])
    office.link("oak", 1)

    office.link("oak", 0)
    with office.counting() as count:
        office.sync()

    assert [(each["id"], each["status"]) for each in office.reservations()] == before
    assert one["id"] in dict(before)
    assert count.graph_writes == []


@pytest.mark.parametrize("also", ["calendar", "closed"])
def test_another_time_zone_and_more(office: Office, also: str) -> None:
    """All-day reservations follow it, whatever else happens to the room at that time."""
    one = whole_day(office)
    office.sync()
    if also == "closed":
        office.deny("oak")
    office.link("oak", 1 if also == "calendar" else 0, timeZone="America/New_York")
    if also == "closed":
        office.deny("oak", denied=False)
        office.advance(10 * MINUTE)
    office.sync()

    assert office.stored(one).times.zone == "America/New_York"
    assert office.stored(one).times.start == office.noon.replace(hour=5)


# --- moves in between ------------------------------------------------------------------------------------------------


def test_moved_while_it_is_sent_to_its_owner(make_office: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows yet which meeting of the owner it is: try again in a minute."""
    office = make_office("101")
    office.link()
    office.link("elm", 1)
    one = office.book(owner={"name": "Ann", "email": office.people[0]})
    real, refusals = GraphClient.write, []

    def slow(self: GraphClient, method: Any, path: str, *args: Any, **kwargs: Any) -> Json:
        answer = real(self, method, path, *args, **kwargs)
        refusals.append(problem(office.ask_to_edit(one, room="elm")))
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(GraphClient, "write", slow)
        office.send()
    assert refusals == [(409, "being-sent")]

    office.edit(one, room="elm")
    office.sync()
    office.sync()

    assert office.again(one, "elm")["status"] == "confirmed"
    assert (office.events(), len(office.events("elm"))) == ([], 1)


def test_refused_after_its_room_was_removed(office: Office) -> None:
    """Nothing comes back to a room that is no more: its event goes, and the reservation says why it was declined."""
    office.link("elm", 1)
    one = office.book()
    office.sync()
    office.edit(one, room="elm")
    office.outlook("POST", "elm", body={"subject": "First", **span(office.noon)})
    assert office.portal("DELETE", "rooms/oak").status == 204

    for _ in range(3):
        office.advance(10 * MINUTE)
        office.wake()

    assert office.events(office.rooms[0]) == []
    assert (office.again(one, "elm")["status"], office.again(one, "elm")["note"]) == ("declined", "room-busy")


def test_what_took_place_of_a_series_of_the_portal(office: Office) -> None:
    """A series that is deleted in Outlook has no more occurrences; those that there were stay, and are shown."""
    office.book(recurrence=weekly(office.noon, 8))
    office.sync()
    office.advance(10 * DAY)
    office.sync()
    [master] = office.masters()
    office.outlook("DELETE", "oak", master["id"])
    shown = {"from": office.today.strftime("%Y-%m-%d")}

    for later in (timedelta(0), 32 * DAY):
        office.advance(later)
        office.sync()
        assert [(each["start"], each["status"]) for each in office.reservations(**shown)] == [
            (graph_time(office.noon), "confirmed"),
            (graph_time(office.noon + 7 * DAY), "confirmed"),
        ]
