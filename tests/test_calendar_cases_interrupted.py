"""The calendars when something comes in between: workers die, the portal is faster than the sync, time is up, Graph says
less than it could.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import cycle
from typing import Any

import pytest

from sync import jobs
from sync.calendars.mailboxes import Round, fetch_round
from sync.errors import Deferred
from sync.graph.client import GraphClient
from tests.dying import Killed, Reaper, process
from tests.office import DAY, GET, HOUR, MINUTE, NAME, Json, Office, graph_time, make_office, office, span, weekly

__all__ = ["make_office", "office"]


@pytest.mark.parametrize("after", [3, 4, 5, 6])
def test_a_worker_dies_while_it_takes_over(office: Office, after: int) -> None:
    """The cursor is stored after the effects: everything is there once, and told of once."""
    for number in range(60):
        office.outlook("POST", "oak", body={"subject": f"Event {number}", **span(office.noon + number * HOUR)})
    office.house.start(NAME, "calendars")
    [message] = list(office.house.messages())
    with suppress(Killed), process(Reaper(after)):
        jobs.work(office.house.app, message)
    office.advance(2 * MINUTE)

    jobs.work(office.house.app, message)

    assert [one["title"] for one in office.reservations()] == [f"Event {number}" for number in range(60)]
    told = office.changes()
    assert len(told) == len(set(told)) == 60


def test_its_version_stays_while_it_is_sent(office: Office) -> None:
    """That Microsoft has been told is no other version for who edits it; that Outlook has changed it is one."""
    made = office.ask_to_book()
    path, etag = f"rooms/oak/reservations/{made.json['id']}", made.headers["ETag"]
    office.send()

    sent = office.portal("GET", path)
    assert (made.json["syncState"], sent.json["syncState"], sent.headers["ETag"]) == ("pending", "synced", etag)
    assert office.portal("PATCH", path, {}, If_Match=etag).status == 200
    [event] = office.events()
    office.outlook("PATCH", "oak", event["id"], {"subject": "Changed"})
    office.hear()
    assert office.portal("PATCH", path, {"title": "Mine"}, If_Match=etag).status == 412


def test_portal_changes_it_while_it_is_sent(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither change is lost, and nothing is sent that nobody wants."""
    one = office.book(title="First")
    real = GraphClient.write
    titles = ["Second", "Third"]

    def slow(self: GraphClient, method: Any, path: str, *args: Any, **kwargs: Any) -> Json:
        answer = real(self, method, path, *args, **kwargs)
        if titles:
            office.edit(one, title=titles.pop(0))
        return answer

    monkeypatch.setattr(GraphClient, "write", slow)
    with office.counting() as count:
        office.send()

    assert [event["subject"] for event in office.events()] == ["Third"]
    assert (office.only()["title"], office.only()["syncState"]) == ("Third", "synced")
    assert [write["method"] for write in count.graph_writes].count("POST") == 1
    assert office.room()["pendingChanges"] == 0


def test_portal_cancels_it_while_it_is_sent(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    one = office.book()
    real = GraphClient.write

    def slow(self: GraphClient, method: Any, path: str, *args: Any, **kwargs: Any) -> Json:
        answer = real(self, method, path, *args, **kwargs)
        if method == "POST":
            office.cancel(one)
        return answer

    monkeypatch.setattr(GraphClient, "write", slow)
    office.send()

    assert (office.events(), office.reservations()) == ([], [])
    assert office.room()["pendingChanges"] == 0


def test_portal_keeps_changing_it(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run gives way, and comes back."""
    one = office.book(title="0")
    real = GraphClient.write
    numbers = iter(range(1, 8))

    def slow(self: GraphClient, method: Any, path: str, *args: Any, **kwargs: Any) -> Json:
        answer = real(self, method, path, *args, **kwargs)
        if (number := next(numbers, None)) is not None:
            office.edit(one, title=str(number))
        return answer

    monkeypatch.setattr(GraphClient, "write", slow)
    office.send()
    for _ in range(3):
        office.advance(6 * MINUTE)
        jobs.tick(office.house.app, "calendars")
        office.send()

    assert [event["subject"] for event in office.events()] == ["7"]
    assert office.only()["syncState"] == "synced"


def test_time_is_up(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a slice leaves, the next one does."""
    office.link("elm", 1)
    for hours in (0, 3, 6):
        office.book(start=office.noon + hours * HOUR)
        office.meet(0, "elm", start=office.noon + hours * HOUR)
    answers = cycle([False, False, True])
    monkeypatch.setattr(jobs.Work, "time_is_up", lambda _self: next(answers))

    office.house.start(NAME, "calendars")
    slices = office.house.work()

    assert slices > 3
    assert len(office.events()) == 3
    assert {one["syncState"] for one in office.reservations()} == {"synced"}
    assert len(office.reservations("elm")) == 3


def test_a_lost_clash_is_told_later(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice that ends before it could delete the event leaves a word for the next."""
    office.tenant.control.patch(f"rooms/{office.rooms[0]}", {"allowConflicts": True})
    meeting = office.meet(0, start=office.noon + 3 * HOUR)
    office.sync()
    office.advance(MINUTE)
    office.book()
    office.sync()
    office.change(0, meeting, **span(office.noon))
    real = GraphClient.write

    def lost(*_: Any, **__: Any) -> Json:
        raise Deferred("Graph did not answer", until=office.now())

    with monkeypatch.context() as patch:
        patch.setattr(GraphClient, "write", lost)
        office.hear()
    assert len(office.events()) == 2
    assert office.room()["pendingChanges"] == 1
    assert GraphClient.write is real

    office.advance(6 * MINUTE)
    office.wake()
    assert len(office.events()) == 1
    assert office.room()["pendingChanges"] == 0


def without_masters(*args: Any) -> Round:
    """A round as Graph may give it: of a series only what has changed (Learn: event: delta)."""
    found = fetch_round(*args)
    return replace(found, events={key: raw for key, raw in found.events.items() if raw.get("type") != "seriesMaster"})


def test_a_round_without_the_master(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for; while it cannot be had, the round does not count as read, for it would not come again."""
    monkeypatch.setattr("sync.calendars.findings.fetch_round", without_masters)
    office.outlook("POST", "oak", body={"subject": "Weekly", "recurrence": weekly(office.noon, 3), **span(office.noon)})
    real = GraphClient.ask

    def lost(*_: Any, **__: Any) -> Json:
        raise Deferred("Graph did not answer", until=office.now())

    with monkeypatch.context() as patch:
        patch.setattr(GraphClient, "ask", lost)
        office.hear()
    assert office.reservations() == []
    assert GraphClient.ask is real

    office.advance(6 * MINUTE)
    with office.counting() as count:
        office.wake()

    assert [one["title"] for one in office.reservations()] == ["Weekly"] * 3
    assert count.by_template[GET] == 1


def test_a_round_without_a_master_that_is_gone(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The series is over, with all of its occurrences."""
    office.outlook("POST", "oak", body={"subject": "Weekly", "recurrence": weekly(office.noon, 3), **span(office.noon)})
    office.sync()
    stale = office.events()[0]
    real = fetch_round

    def with_a_stale_row(*args: Any) -> Round:
        found = real(*args)
        row = {name: stale[name] for name in ("id", "type", "seriesMasterId", "start", "end")}
        return replace(found, events={**found.events, stale["id"]: row}, removed=found.removed - {stale["id"]})

    office.outlook("DELETE", "oak", office.masters()[0]["id"])
    monkeypatch.setattr("sync.calendars.findings.fetch_round", with_a_stale_row)
    office.sync()

    assert office.reservations() == []


def test_what_is_not_compared(office: Office) -> None:
    """Not its etag, body, categories or reminder: nothing is told."""
    meeting = office.meet(0)
    office.sync()
    office.changes()

    office.change(0, meeting, body={"contentType": "text", "content": "Agenda"}, categories=["Red"])
    office.sync()
    office.outlook("PATCH", "oak", office.events()[0]["id"], {"categories": ["Blue"]})
    office.sync()

    assert office.changes() == []


def test_the_room_is_looked_at_before_every_attempt(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A create that did not go through, and a meeting that came in between: it is not sent again."""
    one = office.book()

    def lost(*_: Any, **__: Any) -> Json:
        raise Deferred("Graph did not answer", until=office.now())

    with monkeypatch.context() as patch:
        patch.setattr(GraphClient, "write", lost)
        office.send()
    office.meet(0)
    office.advance(6 * MINUTE)

    with office.counting() as count:
        office.wake()

    assert count.graph_writes == []
    assert (office.again(one)["status"], office.again(one)["note"]) == ("declined", "room-busy")


def test_a_user_may_not_be_written_any_more(
    make_office: Callable[..., Office], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A create in an owner's calendar whose answer was lost, and the settings do not allow such any more: no call there.
    If the room hears of the meeting, the reservation is back.
    """
    office = make_office("101")
    office.link()
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    one = office.book(owner={"name": "Ann", "email": office.people[0]})
    real = GraphClient.write

    def lost(self: GraphClient, method: Any, path: str, *args: Any, **kwargs: Any) -> Json:
        real(self, method, path, *args, **kwargs)
        raise Deferred("Graph did not answer", until=office.now())

    with monkeypatch.context() as patch:
        patch.setattr(GraphClient, "write", lost)
        office.send()
    office.settings("010")
    office.advance(6 * MINUTE)

    with office.counting() as count:
        office.wake()
    assert (count.graph_writes, count.to(office.people[0])) == ([], [])
    assert (office.again(one)["status"], office.again(one)["note"]) == ("declined", "user-calendar-not-allowed")

    office.tenant.control.post("meetings/deliver")
    office.sync()
    after = office.only()
    assert (after["id"], after["status"], after["organizer"]) == (one["id"], "confirmed", "user")


def test_an_exception_of_the_portal_outlives_a_longer_series(office: Office) -> None:
    """What the portal changed of one occurrence is kept when Outlook makes the series longer."""
    office.book(recurrence=weekly(office.noon, 3))
    office.sync()
    office.edit(office.reservations()[1], title="Ours")
    office.sync()

    office.outlook("PATCH", "oak", office.masters()[0]["id"], {"recurrence": weekly(office.noon, 4)})
    office.sync()

    assert [one["title"] for one in office.reservations()] == ["Planning", "Ours", "Planning", "Planning"]
    assert [one["start"] for one in office.reservations()][3] == graph_time(office.noon + 21 * DAY)
