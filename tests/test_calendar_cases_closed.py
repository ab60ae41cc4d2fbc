"""People's mailboxes that close, or have no copy, while the portal changes their meetings: the room goes on as ever."""

from collections.abc import Callable
from typing import Any

import pytest

from sync.errors import Deferred
from sync.graph.client import GraphClient
from tests.office import BATCH, DAY, DELTA, HOUR, MINUTE, Json, Office, graph_time, make_office, span, weekly

__all__ = ["make_office"]

CLOSED = pytest.mark.parametrize("change", [{"denied": True}, {"mailbox": "onPremises"}], ids=["denied", "on-premises"])


@pytest.fixture
def office(make_office: Callable[..., Office]) -> Office:
    """With delegation: a meeting of the first of its people in room oak."""
    office = make_office("100")
    office.link()
    office.meet(0)
    office.sync()
    return office


@CLOSED
def test_after_a_lost_answer(office: Office, monkeypatch: pytest.MonkeyPatch, change: Json) -> None:
    """Read 403 or 404 is no error of the room; the change is taken back, and told of."""
    one = office.only()
    office.edit(one, **span(office.noon + 5 * HOUR))

    def lost(*_: Any, **__: Any) -> Json:
        raise Deferred("No answer", until=office.now(), code="graph-unreachable")

    with monkeypatch.context() as patch:
        patch.setattr(GraphClient, "write", lost)
        office.send()
    office.deny(office.people[0], **change)
    office.advance(15 * MINUTE)
    office.sync()

    after = office.only()
    assert office.status() == ("active", "polling-only")
    assert (after["syncState"], after["start"]) == ("rejected", one["start"])
    assert after["note"] == "user-mailbox-denied"
    assert office.room()["pendingChanges"] == 0


@CLOSED
def test_after_a_412(office: Office, monkeypatch: pytest.MonkeyPatch, change: Json) -> None:
    """The copy was changed meanwhile, and cannot be read again."""
    one = office.only()
    [meeting] = office.events(office.people[0])
    office.edit(one, title="Ours")
    office.change(0, meeting, subject="Theirs")
    real = GraphClient.write

    def closing(self: GraphClient, *args: Any, **kwargs: Any) -> Json:
        try:
            return real(self, *args, **kwargs)
        finally:
            office.deny(office.people[0], **change)

    with monkeypatch.context() as patch:
        patch.setattr(GraphClient, "write", closing)
        office.send()

    after = office.only()
    assert office.status() == ("active", "polling-only")
    assert (after["syncState"], after["note"]) == ("rejected", "user-mailbox-denied")


@CLOSED
def test_moved_to_another_room(office: Office, change: Json) -> None:
    """It is again in the room where its event is, and takes its time there."""
    office.link("elm", 1)
    one = office.only()
    office.deny(office.people[0], **change)
    office.edit(one, room="elm")

    office.send()
    office.full()

    after = office.only()
    assert (after["id"], after["status"], after["note"]) == (one["id"], "confirmed", "user-mailbox-denied")
    assert office.reservations("elm") == []
    assert office.ask_to_book().status == 409


@pytest.mark.parametrize("there", [True, False])
def test_moved_without_a_copy(office: Office, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """Where the organizer has no copy, the former room decides: it still has the meeting, or that is over."""
    office.link("elm", 1)
    one = office.only()
    if not there:
        office.call_off(0, office.events(office.people[0])[0])
    office.edit(one, room="elm")

    with monkeypatch.context() as patch:
        patch.setattr("sync.calendars.moves.fetch_organizers", lambda *_: None)
        office.send()
    office.sync()

    assert [(each["id"], each["note"]) for each in office.reservations()] == (
        [(one["id"], "organizer-event-missing")] if there else []
    )
    assert office.reservations("elm") == []


@pytest.mark.parametrize("flags", ["010", "000"])
def test_moved_while_its_copy_was_never_read(make_office: Callable[..., Office], flags: str) -> None:
    """The organizer's copy is searched for; until its new room has answered, the time there is its own."""
    office = make_office(flags)
    office.link()
    office.link("elm", 1)
    office.meet(0)
    office.sync()
    one = office.only()
    office.settings("100")
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    office.edit(one, room="elm")
    office.sync()
    office.sync()

    assert office.again(one, "elm")["status"] == "awaitingRoom"
    assert office.ask_to_book("elm").status == 409
    office.tenant.control.post("meetings/deliver")
    office.sync()
    after = office.only("elm")
    assert (after["id"], after["status"]) == (one["id"], "confirmed")


def test_moved_long_after_it_was_made(make_office: Callable[..., Office]) -> None:
    """The room has 24 hours to answer from the move on, not from when the meeting was made."""
    office = make_office("101")
    office.link()
    office.link("elm", 1)
    one = office.book(owner={"name": "Ann", "email": office.people[0]}, start=office.noon + 5 * DAY)
    office.sync()
    office.advance(DAY + HOUR)
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    office.edit(one, room="elm")
    office.sync()
    assert (office.again(one, "elm")["status"], office.again(one, "elm")["note"]) == ("awaitingRoom", None)

    office.advance(DAY + HOUR)
    office.sync()

    assert office.again(one, "elm")["note"] == "room-no-response"


def test_a_search_at_its_time_is_refused(make_office: Callable[..., Office], monkeypatch: pytest.MonkeyPatch) -> None:
    """A mailbox that goes away between two calls is the organizer's affair, not the room's."""
    office = make_office("000")
    office.link()
    monkeypatch.setattr("sync.calendars.organizers.fetch_copies", lambda _graph, keys, _ids: dict.fromkeys(keys))
    office.meet(0)
    office.deny(office.people[0], mailbox="onPremises")

    with office.counting() as count:
        office.hear()

    assert count.by_template[DELTA] == 1
    assert count.by_template[BATCH] == 0
    assert office.status() == ("active", "polling-only")
    assert office.only()["start"] == graph_time(office.noon)


def test_an_occurrence_of_a_series_that_was_never_read(make_office: Callable[..., Office]) -> None:
    """The portal renames a series that it knows no title of: a changed occurrence keeps the title of its organizer's copy."""
    office = make_office("010")
    office.link()
    master = office.meet(0, subject="Lunch", recurrence=weekly(office.noon, 3))
    office.sync()
    second = office.events(office.people[0])[1]
    office.outlook(
        "PATCH", office.people[0], second["id"], {"subject": "Special", **span(office.noon + 7 * DAY + HOUR)}
    )
    office.sync()
    assert {one["titleSource"] for one in office.reservations()} == {"placeholder"}
    office.settings("110")
    [series] = office.reservations(type="series")
    office.edit(series, title="Review")

    for _ in range(3):
        office.sync()

    titles = [event["subject"] for event in office.events(office.people[0])]
    assert [one["title"] for one in office.reservations()] == titles
    assert titles[0] == "Review"
    assert master["subject"] == "Lunch"
