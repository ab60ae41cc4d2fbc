"""What is sent to Outlook where Graph's answers are lost, late, or say less than they could."""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pytest

from sync.graph.client import GraphClient
from sync.graph.protocol import NO_ANSWER, Answer, Headers
from tests.clock import never_wait
from tests.office import (
    DAY,
    HOUR,
    INSTANCES,
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
Rewrite = Callable[[str, str, Answer], Answer]
LOST = Answer(NO_ANSWER, Headers({}), {})


def rewriting(monkeypatch: pytest.MonkeyPatch, rewrite: Rewrite) -> None:
    """Have Graph's answers say something else, by method and path; what was asked for has happened all the same."""
    real = GraphClient._send
    never_wait(monkeypatch)

    def send(self: GraphClient, request: Any, token: str) -> Answer:
        return rewrite(request.method, unquote(request.url), real(self, request, token))

    monkeypatch.setattr(GraphClient, "_send", send)


def losing(method: str) -> Rewrite:
    """The first answer to this method gets lost."""
    lost: list[str] = []

    def rewrite(asked: str, path: str, answer: Answer) -> Answer:
        if asked == method and not lost:
            lost.append(path)
            return LOST
        return answer

    return rewrite


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
