"""Reservations that go from room to room before anything was sent, or while answers get lost."""

from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest

from sync.calendars.event import Remote, Unreadable
from sync.errors import Deferred
from sync.graph.client import GraphClient
from tests.office import HOUR, Json, Office, graph_time, make_office, office, span

__all__ = ["make_office", "office"]


@pytest.fixture
def three(make_office: Callable[..., Office]) -> Office:
    """An office with three rooms."""
    office = make_office(rooms=3)
    for number, room in enumerate(("oak", "elm", "ash")):
        office.link(room, number)
    return office


def where(office: Office, one: Json) -> list[tuple[str, str]]:
    """The rooms where a reservation stands, and its status there."""
    shown = [(room, each) for room in ("oak", "elm", "ash") for each in office.reservations(room)]
    return [(room, each["status"]) for room, each in shown if each["id"] == one["id"]]


def events(office: Office) -> list[int]:
    """How many events the calendars of the rooms hold."""
    return [len(office.events(room)) for room in ("oak", "elm", "ash")]


def go(office: Office, one: Json, *rooms: str) -> None:
    """Move the reservation along these rooms before anything is sent."""
    for here, there in pairwise(rooms):
        office.edit(one, here, room=there)


def test_over_another_room(three: Office) -> None:
    """Its event is made in the last room and deleted in the first; the one in between never hears of it."""
    one = three.book()
    three.sync()
    go(three, one, "oak", "elm", "ash")

    with three.counting() as count:
        three.send()

    assert where(three, one) == [("ash", "confirmed")]
    assert events(three) == [0, 0, 1]
    assert [(method, mailbox) for method, mailbox, _ in count.writes] == [
        ("POST", three.rooms[2]),
        ("DELETE", three.rooms[0]),
    ]


def test_over_another_room_to_a_taken_one(three: Office) -> None:
    """What the last room refuses is again where its event is: nothing was deleted meanwhile."""
    one = three.book()
    three.sync()
    go(three, one, "oak", "elm", "ash")
    three.outlook("POST", "ash", body={"subject": "First", **span(three.noon)})

    with three.counting() as count:
        three.send()

    assert where(three, one) == [("oak", "confirmed")]
    assert (three.again(one)["syncState"], three.again(one)["note"]) == ("rejected", "room-busy")
    assert events(three) == [1, 0, 1]
    assert count.graph_writes == []


def test_round_and_round(three: Office) -> None:
    """Back in its first room it has the event that it always had."""
    one = three.book()
    three.sync()
    [before] = three.events()
    go(three, one, "oak", "elm", "ash", "oak", "elm", "ash", "oak")

    three.send()

    assert where(three, one) == [("oak", "confirmed")]
    assert [event["id"] for event in three.events()] == [before["id"]]
    assert events(three) == [1, 0, 0]


def test_never_sent(three: Office) -> None:
    """One that Microsoft never heard of is made in the last room alone."""
    one = three.book()
    go(three, one, "oak", "elm", "ash")

    with three.counting() as count:
        three.send()

    assert where(three, one) == [("ash", "confirmed")]
    assert [method for method, _, _ in count.writes] == ["POST"]


def test_the_answer_to_an_invitation_is_lost(
    make_office: Callable[..., Office], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The organizer's copy names the new room already: what its organizer changes before the next try counts."""
    office = make_office("100")
    office.link()
    office.link("elm", 1)
    meeting = office.meet(0)
    office.sync()
    one = office.only()
    office.edit(one, room="elm", title="Ours", **span(office.noon + HOUR))
    real = GraphClient.write

    def lost(self: GraphClient, method: Any, path: str, *args: Any, **kwargs: Any) -> Json:
        real(self, method, path, *args, **kwargs)
        raise Deferred("No answer", until=office.now(), code="graph-unavailable")

    with monkeypatch.context() as patch, suppress(Deferred):
        patch.setattr(GraphClient, "write", lost)
        office.send()
    office.change(0, meeting, subject="Theirs", **span(office.noon + 4 * HOUR))
    for _ in range(2):
        office.advance(6 * HOUR / 60)
        office.sync()

    after = office.only("elm")
    assert (after["id"], after["status"]) == (one["id"], "confirmed")
    assert (after["title"], after["start"]) == ("Theirs", graph_time(office.noon + 4 * HOUR))
    assert office.reservations() == []
    assert (office.events(), len(office.events("elm"))) == ([], 1)


def test_a_copy_that_makes_no_sense(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that was changed and cannot be understood is left alone: the change is taken back and told of."""
    one = office.book()
    office.sync()
    [event] = office.events()
    office.outlook("PATCH", "oak", event["id"], {"subject": "Theirs"})
    office.edit(one, title="Ours")

    def unreadable(raw: Json, zone: str) -> Remote:
        raise Unreadable("unreadable-time")

    with monkeypatch.context() as patch:
        patch.setattr("sync.calendars.outcomes.parse_event", unreadable)
        office.send()

    after = office.only()
    assert (after["syncState"], after["note"]) == ("rejected", "unreadable-time")
    assert [each["subject"] for each in office.events()] == ["Theirs"]
    office.sync()
    assert office.only()["title"] == "Theirs"


def test_an_owners_copy_that_makes_no_sense(
    make_office: Callable[..., Office], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That says nothing of the meeting, which goes on waiting for its room."""
    office = make_office("101")
    office.link()
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    one = office.book(owner={"name": "Ann", "email": office.people[0]})
    office.send()

    def unreadable(raw: Json, zone: str) -> Remote:
        raise Unreadable("unreadable-time")

    with monkeypatch.context() as patch:
        patch.setattr("sync.calendars.organizers.parse_event", unreadable)
        office.sync()

    assert office.again(one)["status"] == "awaitingRoom"


def test_moved_onto_another_meeting_in_outlook(make_office: Callable[..., Office]) -> None:
    """The room declines what its organizer moves onto another meeting: declined here, and the slot is free."""
    office = make_office("100")
    office.link()
    office.meet(0, subject="First")
    second = office.meet(1, start=office.noon + 2 * HOUR, subject="Second")
    office.sync()
    one = next(each for each in office.reservations() if each["title"] == "Second")

    office.change(1, second, **span(office.noon))
    with office.counting() as count:
        office.hear()

    assert (office.again(one)["status"], office.again(one)["note"]) == ("declined", "room-declined")
    assert count.graph_writes == []
    assert len(office.events(office.people[1])) == 1
    assert office.ask_to_book(start=office.noon + 2 * HOUR).status == 201
