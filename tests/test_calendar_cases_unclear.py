"""What is sent to Outlook where Graph's answers are lost, or a mailbox does not answer."""

from typing import Any

import pytest

from sync.calendars.run import waiting
from sync.graph.client import GraphClient
from sync.graph.protocol import Answer
from tests.answers import LOST, losing, refusal, refusing, rewriting
from tests.office import (
    DAY,
    HOUR,
    INSTANCES,
    MINUTE,
    NAME,
    PATCH,
    Json,
    Make,
    Office,
    graph_time,
    make_office,
    office,
    opened,
    span,
    weekly,
)

__all__ = ["make_office", "office"]


def deliver(office: Office) -> None:
    office.tenant.control.post("meetings/deliver", {})


# --- changes ----------------------------------------------------------------------------------------------------------


def test_both_retitle_an_occurrence_of_a_users_series(make_office: Make) -> None:
    """The room has not heard of Outlook's change yet: it counts all the same, and the portal is told."""
    office = opened(make_office, "100")
    office.meet(0, recurrence=weekly(office.noon))
    office.sync()
    one = office.reservations()[1]
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    office.edit(one, title="Ours")
    office.change(0, office.events(office.people[0])[1], subject="Theirs")

    office.send()

    assert [event["subject"] for event in office.events(office.people[0])][:3] == ["Planning", "Theirs", "Planning"]
    after = office.again(one)
    assert (after["title"], after["syncState"], after["note"]) == ("Theirs", "conflict", "outlook-won")


def test_an_occurrence_of_a_users_series_changes_while_it_is_sent(
    make_office: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written under the version that was just read, so the change of the other field is kept."""
    office = opened(make_office, "100")
    office.meet(0, recurrence=weekly(office.noon))
    office.sync()
    one = office.reservations()[1]
    office.edit(one, title="Ours")
    real = GraphClient.write
    moves = [span(office.noon + 7 * DAY + HOUR)]

    def late(self: GraphClient, method: Any, path: str, *args: Any, **kwargs: Any) -> Json:
        if method == "PATCH" and moves:
            office.change(0, office.events(office.people[0])[1], **moves.pop())
        return real(self, method, path, *args, **kwargs)

    monkeypatch.setattr(GraphClient, "write", late)
    office.send()

    [event] = [each for each in office.events(office.people[0]) if each["subject"] == "Ours"]
    assert event["start"]["dateTime"][:19] == graph_time(office.noon + 7 * DAY + HOUR)["dateTime"]
    after = office.again(one)
    assert (after["title"], after["start"]) == ("Ours", graph_time(office.noon + 7 * DAY + HOUR))


def test_what_an_edit_of_a_users_occurrence_costs(make_office: Make) -> None:
    """Its instances are listed and it is written, both once."""
    office = opened(make_office, "100")
    office.meet(0, recurrence=weekly(office.noon))
    office.sync()
    office.edit(office.reservations()[1], title="Ours")

    with office.counting() as count:
        office.send()

    assert count.to(office.people[0]) == [INSTANCES, PATCH]


# --- cancellations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("series", [False, True], ids=["single", "occurrence"])
def test_the_answer_to_a_cancellation_is_lost(make_office: Make, monkeypatch: pytest.MonkeyPatch, series: bool) -> None:
    """The 404 that its repetition meets is the first one's doing, although the room still shows the meeting."""
    office = opened(make_office, "100")
    repeated: Json = {"recurrence": weekly(office.noon, 2)} if series else {}
    office.meet(0, **repeated)
    office.sync()
    one = office.reservations()[0]
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    office.changes()
    rewriting(monkeypatch, losing("DELETE"))
    office.cancel(one)

    office.send()
    office.sync()

    assert office.again(one)["status"] == "cancelled"
    assert office.changes() == [(one["id"], "deleted")]
    assert len(office.events(office.people[0])) == series
    deliver(office)
    office.sync()
    assert (office.changes(), len(office.events())) == ([], series)


def test_a_worker_dies_after_a_cancellation(make_office: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run finds nothing in the organizer's calendar, and knows why."""
    office = opened(make_office, "100")
    office.meet(0)
    office.sync()
    one = office.only()
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    office.cancel(one)
    with monkeypatch.context() as patch:
        rewriting(patch, lambda method, path, answer: LOST if method == "DELETE" else answer)
        office.send()
    assert office.events(office.people[0]) == []

    office.advance(HOUR)
    office.sync()

    after = office.again(one)
    assert (after["status"], after["syncState"], office.room()["pendingChanges"]) == ("cancelled", "synced", 0)


def test_a_users_meeting_is_moved_while_its_cancellation_waits(make_office: Make) -> None:
    """It is back at the new time, although the room has not heard of that yet."""
    office = opened(make_office, "100")
    meeting = office.meet(0)
    office.sync()
    one = office.only()
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    office.change(0, meeting, **span(office.noon + 3 * HOUR))
    office.cancel(one)

    with office.counting() as count:
        office.send()

    assert count.graph_writes == []
    after = office.again(one)
    assert (after["status"], after["start"]) == ("confirmed", graph_time(office.noon + 3 * HOUR))
    assert (after["syncState"], after["note"]) == ("conflict", "moved-in-outlook")
    deliver(office)
    office.sync()
    assert office.only()["start"] == graph_time(office.noon + 3 * HOUR)


# --- one organizer's mailbox is out of reach ---------------------------------------------------------------------------

AWAY = [refusal(503, "ErrorMailboxStoreUnavailable"), refusal(400, "ErrorInvalidRequest"), LOST]


@pytest.mark.parametrize("answer", AWAY, ids=["503", "400", "none"])
def test_one_organizers_mailbox_does_not_answer(
    make_office: Make, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    """Its cancellation waits, everything else goes on; the next run tries again, and comes no sooner than in a minute."""
    office = opened(make_office, "100")
    office.meet(0)
    office.sync()
    one = office.only()
    office.cancel(one)
    other = office.book(start=office.noon + 5 * HOUR)
    with monkeypatch.context() as patch:
        asked = refusing(patch, office.people[0], answer)
        office.send()

        assert office.again(other)["syncState"] == "synced"
        assert (office.again(one)["syncState"], office.room()["pendingChanges"]) == ("pending", 1)
        assert office.status()[0] == "active"
        assert asked
        assert waiting(office.house.app, NAME) == 60

    office.advance(6 * MINUTE)
    office.sync()
    assert (office.events(office.people[0]), office.room()["pendingChanges"]) == ([], 0)
    assert office.again(one)["status"] == "cancelled"


def test_a_mailbox_that_does_not_answer_is_left_alone(make_office: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """For five minutes nobody asks again, whatever else waits for it."""
    office = opened(make_office, "100")
    office.meet(0)
    office.meet(0, start=office.noon + 2 * HOUR)
    office.sync()
    for one in office.reservations():
        office.edit(one, title="Ours")
    with monkeypatch.context() as patch:
        asked = refusing(patch, office.people[0], LOST)
        office.send()
        assert asked == ["PATCH"] * 10
        office.sync()
        assert len(asked) == 10

    office.advance(6 * MINUTE)
    office.sync()
    assert [event["subject"] for event in office.events(office.people[0])] == ["Ours", "Ours"]


def test_a_create_for_a_mailbox_that_does_not_answer(make_office: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It never falls back to the room; what else is booked there goes on."""
    office = opened(make_office, "101")
    one = office.book(owner={"name": "Ann", "email": office.people[0]})
    other = office.book(start=office.noon + 2 * HOUR, owner={"name": "Bo", "email": office.people[1]})
    with monkeypatch.context() as patch:
        refusing(patch, office.people[0], LOST)
        office.send()
        office.sync()
    assert (office.again(one)["syncState"], office.again(other)["status"]) == ("pending", "confirmed")

    office.advance(6 * MINUTE)
    office.sync()

    assert [event["subject"] for event in office.events(office.people[0])] == ["Planning"]
    assert [each["status"] for each in office.reservations()] == ["confirmed", "confirmed"]


@pytest.mark.parametrize("series", [False, True], ids=["single", "series"])
def test_the_room_hears_of_a_meeting_before_the_answer_comes(
    make_office: Make, monkeypatch: pytest.MonkeyPatch, series: bool
) -> None:
    """Moved meanwhile, it is taken in as somebody's own; the late answer tells whose it is, and there is one of it."""
    office = opened(make_office, "101")
    repeated: Json = {"recurrence": weekly(office.noon, 2)} if series else {}
    one = office.book(owner={"name": "Ann", "email": office.people[0]}, **repeated)
    with monkeypatch.context() as patch:
        rewriting(patch, lambda method, _, answer: LOST if method == "POST" and "id" in answer.body else answer)
        office.send()
        meeting = (office.masters if series else office.events)(office.people[0])[0]
        office.change(0, meeting, **span(office.noon + 3 * HOUR))
        office.sync()
        assert {each["seriesId"] if series else each["id"] for each in office.reservations()} > {one["id"]}

    office.advance(6 * MINUTE)
    office.sync()

    found = office.reservations()
    assert {each["seriesId"] if series else each["id"] for each in found} == {one["id"]}
    assert [each["start"] for each in found] == [
        graph_time(office.noon + 3 * HOUR + week * 7 * DAY) for week in range(1 + series)
    ]
    assert {(each["status"], each["syncState"]) for each in found} == {("confirmed", "synced")}
    office.full()
    assert office.reservations() == found


def test_a_move_to_another_room_waits_for_its_organizer(make_office: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    office = opened(make_office, "100")
    office.link("elm", 1)
    office.meet(0)
    office.sync()
    one = office.only()
    office.edit(one, room="elm")
    with monkeypatch.context() as patch:
        refusing(patch, office.people[0], LOST)
        office.send()
    assert (office.again(one, "elm")["syncState"], office.status("elm")[0]) == ("pending", "active")

    office.advance(6 * MINUTE)
    office.sync()
    office.sync()

    assert (office.reservations(), office.only("elm")["id"]) == ([], one["id"])
    assert office.only("elm")["status"] == "confirmed"
