"""The calendars' cases, from the portal to Outlook: nothing twice, nothing lost. The names are those of the reference,
section 7.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from storage.tables import Write
from sync import jobs
from sync.calendars import store
from sync.errors import CursorExpired, Deferred, Forbidden
from sync.graph.client import GraphClient
from tests.clock import never_wait
from tests.dying import Killed, Reaper, process
from tests.house import Answer
from tests.office import (
    DELETE,
    DELTA,
    GET,
    HOUR,
    MINUTE,
    NAME,
    PATCH,
    POST,
    VIEW,
    Json,
    Office,
    graph_time,
    lose_answers,
    make_office,
    office,
    span,
    weekly,
)

__all__ = ["make_office", "office"]


def problem(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["code"]


def no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    never_wait(monkeypatch)


# --- create ----------------------------------------------------------------------------------------------------------


def test_portal_creates_in_the_room(office: Office) -> None:
    """Clash check, then one POST without attendees; its echo writes no reservation."""
    one = office.book(owner={"name": "Ann", "email": office.people[0]}, notes="Bring cake")

    with office.counting() as count:
        office.send()
    with office.counting() as echo:
        office.hear()

    assert count.by_template == {VIEW: 1, POST: 1}
    [(method, mailbox, fields)] = count.writes
    assert (method, mailbox) == ("POST", office.rooms[0])
    assert not fields & {"attendees", "organizer"}
    after = office.only()
    assert (after["id"], after["syncState"], after["status"], after["note"]) == (one["id"], "synced", "confirmed", None)
    assert (echo.rows, echo.graph_writes, echo.by_template) == (set(), [], {DELTA: 1})
    assert office.events()[0]["subject"] == "Planning"


def test_same_create_message_twice(office: Office) -> None:
    """One event."""
    office.book()
    [message] = list(office.house.messages())

    for _ in range(2):
        jobs.work(office.house.app, message)
    office.sync()

    assert len(office.events()) == 1
    assert len(office.reservations()) == 1


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_worker_dies_while_it_creates(office: Office, after: int) -> None:
    """Whatever it had written: one event, bound to the reservation."""
    one = office.book()
    messages = list(office.house.messages())
    for message in messages:
        with suppress(Killed), process(Reaper(after)):
            jobs.work(office.house.app, message)
    office.advance(2 * MINUTE)

    for message in messages:
        jobs.work(office.house.app, message)
    office.sync()

    assert len(office.events()) == 1
    assert (office.only()["id"], office.only()["syncState"]) == (one["id"], "synced")
    assert office.stored(one).link.room_event == office.events()[0]["id"]


@pytest.mark.parametrize("recurring", [False, True], ids=["single", "series"])
def test_an_answer_is_lost(office: Office, monkeypatch: pytest.MonkeyPatch, recurring: bool) -> None:
    """After an unclear POST: the own event is found; no clash with itself, no second one."""
    one = office.book(recurrence=weekly(office.noon, 3) if recurring else None)
    lose_answers(office, monkeypatch)
    assert len(office.events()) == (3 if recurring else 1)

    office.advance(6 * MINUTE)
    with office.counting() as count:
        office.wake()

    assert [write["method"] for write in count.graph_writes] == []
    assert len(office.events()) == (3 if recurring else 1)
    assert {each["syncState"] for each in office.reservations()} == {"synced"}
    assert office.again(one)["status"] == "confirmed"


def test_outlook_edits_before_the_answer_came(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base is the payload that was sent: an edit that was already made in Outlook counts as inbound."""
    office.book()
    lose_answers(office, monkeypatch)
    [event] = office.events()
    office.outlook("PATCH", "oak", event["id"], {"subject": "Theirs"})

    office.advance(6 * MINUTE)
    office.wake()

    assert len(office.events()) == 1
    assert (office.only()["title"], office.only()["syncState"]) == ("Theirs", "synced")


def test_portal_edits_before_the_answer_came(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frozen payload is sent again, then the change."""
    no_sleep(monkeypatch)
    one = office.book()
    office.tenant.control.post("faults", {"rate503": 1, "retryAfter": {"seconds": 0}})
    office.send()
    office.tenant.control.post("faults", {})
    office.edit(one, title="Ours")

    office.advance(6 * MINUTE)
    office.wake()
    office.sync()

    assert [event["subject"] for event in office.events()] == ["Ours"]
    assert (office.only()["title"], office.only()["syncState"]) == ("Ours", "synced")


@pytest.mark.parametrize("made", [True, False], ids=["made", "not made"])
def test_portal_cancels_before_the_answer_came(office: Office, monkeypatch: pytest.MonkeyPatch, made: bool) -> None:
    """Whether there is an event is found out; there is none in the end."""
    one = office.book()
    lose_answers(office, monkeypatch, made=made)
    assert len(office.events()) == made
    office.cancel(one)

    office.advance(6 * MINUTE)
    office.wake()
    office.sync()

    assert office.events() == []
    assert office.reservations() == []


def test_cancelled_before_it_was_sent(office: Office) -> None:
    """Nothing is ever sent."""
    one = office.book()
    office.cancel(one)

    with office.counting() as count:
        office.send()

    assert count.graph_writes == []
    assert office.again(one)["status"] == "cancelled"


def test_transaction_id_is_taken(office: Office) -> None:
    """A transactionId that another event has had is given up for the next."""
    one = office.book()
    office.send()
    [event] = office.events()
    office.outlook("DELETE", "oak", event["id"])
    again = replace(office.stored(one), status="confirmed")
    again = replace(again, link=replace(again.link, state="creating", room_event="", payload=None, transaction=""))
    key, row = store.reservation_key("oak", one["id"]), store.reservation_row(again)
    office.house.app.tables.data.commit(NAME, [Write("replace", key, row), *store.writes_to_send([again])])

    office.wake()
    office.sync()

    assert len(office.events()) == 1
    assert office.stored(one).generation == 1
    assert office.only()["syncState"] == "synced"


def test_graph_refuses_a_create(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slot is free again, and the editor is told; the rest of the room goes on."""
    first, second = office.book(title="First"), office.book(start=office.noon + 3 * HOUR)
    real = GraphClient.write

    def refuse(self: GraphClient, method: Any, path: str, json: Any = None, **kwargs: Any) -> Json:
        broken = {**json, "showAs": "sideways"} if json["subject"] == "First" else json
        return real(self, method, path, broken, **kwargs)

    monkeypatch.setattr(GraphClient, "write", refuse)
    office.send()

    assert office.again(first)["status"] == "declined"
    assert (office.again(first)["syncState"], office.again(first)["note"]) == ("rejected", "graph-refused")
    assert office.again(second)["syncState"] == "synced"
    assert office.ask_to_book().status == 201
    run = office.house.get(f"connections/{NAME}/runs")["items"][-2]
    assert run["counts"]["failed"] == 1


def test_fails_closed(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a clash check nothing is written."""
    no_sleep(monkeypatch)
    one = office.book()
    real = GraphClient.page

    def no_view(self: GraphClient, path: str, **kwargs: Any) -> Any:
        if path.endswith("calendarView"):
            raise Deferred("No answer", until=office.now() + MINUTE)
        return real(self, path, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(GraphClient, "page", no_view)
        with office.counting() as count:
            office.send()

    assert count.graph_writes == []
    assert office.again(one)["syncState"] == "pending"


# --- change ----------------------------------------------------------------------------------------------------------


def test_title_change(office: Office) -> None:
    """PATCH has subject only, If-Match sent. One write, and its echo writes nothing."""
    one = office.book()
    office.sync()
    office.edit(one, title="Ours")

    with office.counting() as count:
        office.send()
    with office.counting() as echo:
        office.hear()

    assert count.by_template == {PATCH: 1}
    assert count.writes == [("PATCH", office.rooms[0], {"subject"})]
    assert (echo.rows, echo.by_template) == (set(), {DELTA: 1})
    assert (office.only()["title"], office.only()["syncState"]) == ("Ours", "synced")


def test_time_change(office: Office) -> None:
    """The room is looked at first; the PATCH has the times alone."""
    one = office.book()
    office.sync()
    office.edit(one, **span(office.noon + 3 * HOUR))

    with office.counting() as count:
        office.send()

    assert count.by_template == {VIEW: 1, PATCH: 1}
    assert count.writes == [("PATCH", office.rooms[0], {"start", "end", "isAllDay"})]
    assert office.events()[0]["start"]["dateTime"][:19] == graph_time(office.noon + 3 * HOUR)["dateTime"]


@pytest.mark.parametrize("field", ["owner", "attendees"])
def test_what_is_no_field_of_the_event(office: Office, field: str) -> None:
    """No event field: kept here, nothing sent."""
    one = office.book()
    office.sync()
    person = {"name": "Bo", "email": office.people[1]}

    with office.counting() as count:
        office.edit(one, **{field: {"owner": person, "attendees": [person]}[field]})
        office.send()

    assert count.graph_writes == []
    assert office.only()["syncState"] == "synced"


def test_412(office: Office) -> None:
    """Refetch, merge, one retry: both changes are kept."""
    one = office.book()
    office.sync()
    [event] = office.events()
    office.outlook("PATCH", "oak", event["id"], span(office.noon + 3 * HOUR))
    office.edit(one, title="Ours")

    with office.counting() as count:
        office.send()

    assert count.by_template == {PATCH: 2, GET: 1}
    assert [status for status in (call["status"] for call in count.calls) if status == 412] == [412]
    after = office.only()
    assert (after["title"], after["start"], after["syncState"]) == (
        "Ours",
        graph_time(office.noon + 3 * HOUR),
        "synced",
    )
    assert office.events()[0]["subject"] == "Ours"


def test_412_of_an_organizers_copy(make_office: Callable[..., Office]) -> None:
    """The same there: a change of the same field in Outlook is not written over."""
    office = make_office("100")
    office.link()
    meeting = office.meet(0)
    office.sync()
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    office.change(0, meeting, subject="Theirs", **span(office.noon + 3 * HOUR))
    office.edit(office.only(), title="Ours")

    with office.counting() as count:
        office.send()

    assert [write for write in count.graph_writes if write["method"] != "PATCH"] == []
    assert office.events(office.people[0])[0]["subject"] == "Theirs"
    after = office.only()
    assert (after["title"], after["syncState"], after["note"]) == ("Theirs", "conflict", "outlook-won")
    assert after["start"] == graph_time(office.noon + 3 * HOUR)


def test_412_and_gone(office: Office) -> None:
    """The event was deleted in Outlook: a remote cancel always wins."""
    one = office.book()
    office.sync()
    [event] = office.events()
    office.outlook("DELETE", "oak", event["id"])
    office.edit(one, title="Ours")

    office.send()

    assert office.reservations() == []
    assert office.again(one)["status"] == "cancelled"
    assert office.room()["pendingChanges"] == 0


def test_429_retry_after(office: Office) -> None:
    """Waits, nothing lost."""
    office.book()
    office.tenant.control.post("faults", {"rate429": 1, "retryAfter": {"style": "seconds", "seconds": 120}})
    office.send()
    office.tenant.control.post("faults", {})
    office.advance(2 * MINUTE + MINUTE)
    jobs.tick(office.house.app, "calendars")
    office.advance(6 * MINUTE)
    jobs.tick(office.house.app, "calendars")
    office.sync()

    assert len(office.events()) == 1
    assert office.only()["syncState"] == "synced"


def test_nothing_is_sent_twice_while_a_change_waits(office: Office) -> None:
    """A change that is not taken does not keep a run busy: it is tried again a minute later."""
    one = office.book()
    office.sync()
    office.deny("oak")
    office.edit(one, title="Ours")

    with office.counting() as count:
        office.send()

    assert count.requests <= 2
    assert office.status() == ("error", "room-denied")
    assert office.room()["pendingChanges"] == 1
    office.deny("oak", denied=False)
    office.advance(6 * MINUTE)
    office.wake()
    assert office.events()[0]["subject"] == "Ours"


# --- cancel ----------------------------------------------------------------------------------------------------------


def test_portal_cancels(office: Office) -> None:
    """One DELETE; its echo writes nothing, and the room is free."""
    one = office.book()
    office.sync()
    office.cancel(one)
    assert office.ask_to_book(title="Next").status == 201

    with office.counting() as count:
        office.send()
    with office.counting() as echo:
        office.hear()

    assert [write[0] for write in count.writes] == ["DELETE", "POST"]
    assert echo.rows == set()
    assert [event["subject"] for event in office.events()] == ["Next"]


def test_delete_404(office: Office) -> None:
    """Success."""
    one = office.book()
    office.sync()
    office.outlook("DELETE", "oak", office.events()[0]["id"])
    office.cancel(one)

    with office.counting() as count:
        office.send()

    assert count.by_template == {DELETE: 1}
    assert (office.again(one)["status"], office.room()["pendingChanges"]) == ("cancelled", 0)
    assert office.status() == ("active", "polling-only")


@pytest.mark.parametrize(
    ("error", "there", "done"),
    [
        (CursorExpired("Gone", http=410, graph_code="ErrorItemNotFound"), True, True),
        (Forbidden("Refused", http=403, graph_code="ErrorAccessDenied"), False, True),
        (Forbidden("Refused", http=403, graph_code="ErrorAccessDenied"), True, False),
    ],
    ids=["410", "403 and gone", "403 and there"],
)
def test_delete_410_403(
    office: Office, monkeypatch: pytest.MonkeyPatch, error: Exception, there: bool, done: bool
) -> None:
    """410: success. 403: GET decides."""
    one = office.book()
    office.sync()
    if not there:
        office.outlook("DELETE", "oak", office.events()[0]["id"])
    office.cancel(one)

    def refuse(*_: Any, **__: Any) -> Json:
        raise error

    monkeypatch.setattr(GraphClient, "write", refuse)
    with office.counting() as count:
        office.send()

    assert count.by_template[GET] == isinstance(error, Forbidden)
    assert (office.room()["pendingChanges"] == 0) == done
    assert office.status()[0] == ("active" if done else "error")


def test_graph_refuses_a_delete(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reservation is back, and its editor is told; nothing else waits for it."""
    one = office.book()
    office.sync()
    office.cancel(one)
    real = GraphClient.write

    def broken(self: GraphClient, method: Any, path: str, *args: Any, **kwargs: Any) -> Json:
        return real(self, method, path + "x", *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(GraphClient, "write", broken)
        office.send()

    after = office.only()
    assert (after["id"], after["status"], after["syncState"], after["note"]) == (
        one["id"],
        "confirmed",
        "rejected",
        "graph-refused",
    )
    assert office.room()["pendingChanges"] == 0
