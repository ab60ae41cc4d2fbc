"""What is sent to Outlook where Graph's answers say less than they could, or say it in another way."""

from collections.abc import Callable
from typing import Any

import pytest

from sync.graph.protocol import Answer
from tests.answers import LOST, Rewrite, instead, refusal, rewriting
from tests.office import (
    DAY,
    HOUR,
    MINUTE,
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


# --- answers that say little --------------------------------------------------------------------------------------------

FIELDS = {"id": {"id"}, "few": {"id", "iCalUId", "@odata.etag", "subject", "start", "end"}}


def saying_little(fields: set[str]) -> Rewrite:
    """What is created is told of by these fields alone."""

    def rewrite(method: str, path: str, answer: Answer) -> Answer:
        if method != "POST" or not path.endswith("/events"):
            return answer
        return Answer(answer.status, answer.headers, {name: answer.body[name] for name in fields})

    return rewrite


def saying_nothing(method: str, path: str, answer: Answer) -> Answer:
    """What is created is not told of at all."""
    return Answer(202, answer.headers, {}) if method == "POST" and path.endswith("/events") else answer


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
def test_a_create_is_answered_with_little(office: Office, monkeypatch: pytest.MonkeyPatch, fields: set[str]) -> None:
    """Its id is enough: what either side changes from then on reaches the other."""
    one = office.book()
    with monkeypatch.context() as patch:
        rewriting(patch, saying_little(fields))
        office.send()
    [event] = office.events()
    office.outlook("PATCH", "oak", event["id"], span(office.noon + HOUR))
    office.edit(one, title="Ours")

    office.send()

    assert [(each["subject"], each["start"]["dateTime"][:13]) for each in office.events()] == [
        ("Ours", graph_time(office.noon + HOUR)["dateTime"][:13])
    ]
    after = office.only()
    assert (after["id"], after["title"], after["start"]) == (one["id"], "Ours", graph_time(office.noon + HOUR))
    assert (after["status"], after["syncState"]) == ("confirmed", "synced")


def test_a_series_is_answered_with_its_id(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its occurrences is bound to its event all the same."""
    one = office.book(recurrence=weekly(office.noon, 3))
    with monkeypatch.context() as patch:
        rewriting(patch, saying_little({"id"}))
        office.send()
    office.cancel(office.reservations()[1])

    office.sync()

    assert len(office.events()) == 2
    assert {(each["seriesId"], each["syncState"]) for each in office.reservations()} == {(one["id"], "synced")}


@pytest.mark.parametrize("flags", ["000", "101"], ids=["room", "user"])
def test_a_create_is_answered_with_nothing(make_office: Make, monkeypatch: pytest.MonkeyPatch, flags: str) -> None:
    """What it has made is looked for, and nothing is made twice."""
    office = opened(make_office, flags)
    one = office.book(owner={"name": "Ann", "email": office.people[0]})
    with monkeypatch.context() as patch, office.counting() as count:
        rewriting(patch, saying_nothing)
        office.send()
    office.sync()

    assert [method for method, _, _ in count.writes] == ["POST"]
    after = office.only()
    assert (after["id"], after["status"], after["syncState"]) == (one["id"], "confirmed", "synced")


def test_what_was_created_is_not_to_be_seen_yet(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for the next run, which asks for the same again."""
    one = office.book()

    def hide(method: str, path: str, answer: Answer) -> Answer:
        if path.endswith("/calendarView"):
            return Answer(200, answer.headers, {"value": []})
        return saying_nothing(method, path, answer)

    with monkeypatch.context() as patch:
        rewriting(patch, hide)
        office.send()
    assert (office.again(one)["syncState"], office.room()["pendingChanges"]) == ("pending", 1)

    office.sync()

    assert (office.only()["id"], office.only()["syncState"], len(office.events())) == (one["id"], "synced", 1)


@pytest.mark.parametrize("closed", [False, True])
def test_a_users_event_is_answered_without_the_id_that_all_copies_share(
    make_office: Make, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    """It is asked for; where that is refused, the room's copy is known by what was asked for."""
    office = opened(make_office, "101")
    one = office.book(owner={"name": "Ann", "email": office.people[0]})
    little = saying_little({"id", "type", "subject", "start", "end"})

    def rewrite(method: str, path: str, answer: Answer) -> Answer:
        if closed and method == "GET" and f"/users/{office.people[0]}/events/" in path:
            return refusal(403, "ErrorAccessDenied")
        return little(method, path, answer)

    with monkeypatch.context() as patch:
        rewriting(patch, rewrite)
        office.send()
        office.sync()

    office.full()
    after = office.only()
    assert (after["id"], after["status"], after["organizer"]) == (one["id"], "confirmed", "user")
    assert len(office.events(office.people[0])) == 1


# --- conflicts that Exchange calls by another status -------------------------------------------------------------------


def conflicting(method: str, meanwhile: Callable[[], object]) -> Callable[[str, str], Answer | None]:
    """Something happens before the first request with this method, so that Exchange cannot resolve it."""
    asked: list[str] = []

    def answer(asked_for: str, path: str) -> Answer | None:
        if asked_for != method or asked:
            return None
        asked.append(path)
        meanwhile()
        return refusal(409, "ErrorIrresolvableConflict")

    return answer


def test_409_to_a_change(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """As 412: refetch, merge, one retry."""
    office.book()
    office.send()
    office.edit(office.only(), title="Ours")
    event = office.events()[0]["id"]
    instead(monkeypatch, conflicting("PATCH", lambda: office.outlook("PATCH", "oak", event, span(office.noon + HOUR))))

    office.send()

    after = office.only()
    assert (after["title"], after["start"], after["syncState"]) == ("Ours", graph_time(office.noon + HOUR), "synced")
    assert [each["subject"] for each in office.events()] == ["Ours"]


@pytest.mark.parametrize("flags", ["000", "100"], ids=["room", "user"])
@pytest.mark.parametrize("moved", [False, True])
def test_409_to_a_cancellation(make_office: Make, monkeypatch: pytest.MonkeyPatch, flags: str, moved: bool) -> None:
    """It is looked at anew: moved, it is back at the new time; else the cancellation is sent once more."""
    office = opened(make_office, flags)
    whose = "oak" if flags == "000" else office.people[0]
    office.meet(0) if flags == "100" else office.book()
    office.sync()
    one, [event] = office.only(), office.events(whose)
    change = span(office.noon + HOUR) if moved else {"subject": "Theirs"}
    office.cancel(one)
    instead(monkeypatch, conflicting("DELETE", lambda: office.outlook("PATCH", whose, event["id"], change)))

    office.send()
    office.sync()

    assert len(office.events(whose)) == moved
    after = office.again(one)
    assert after["status"] == ("confirmed" if moved else "cancelled")
    assert not moved or after["start"] == graph_time(office.noon + HOUR)


# --- transactions that are not told --------------------------------------------------------------------------------------


def untold(_method: str, _path: str, answer: Answer) -> Answer:
    """No event says by which transaction it was made."""
    body = answer.body
    if isinstance(body.get("value"), list):
        body = {**body, "value": [{**one, "transactionId": None} for one in body["value"]]}
    return Answer(answer.status, answer.headers, {**body, "transactionId": None} if "id" in body else body)


def lose_a_create(office: Office, patch: pytest.MonkeyPatch, **fields: Any) -> Json:
    """A reservation whose event is there, nobody having heard of that."""
    one = office.book(**fields)
    with patch.context() as lost:
        rewriting(lost, lambda method, _, answer: LOST if method == "POST" and "id" in answer.body else answer)
        office.send()
    assert (office.again(one)["syncState"], len(office.events())) == ("pending", 1 if not fields else 3)
    return one


@pytest.mark.parametrize("series", [False, True], ids=["single", "series"])
@pytest.mark.parametrize("read", [False, True])
def test_the_transaction_of_a_lost_create_is_not_told(
    office: Office, monkeypatch: pytest.MonkeyPatch, series: bool, read: bool
) -> None:
    """An event that nobody knows and that is as it was asked for is that one, whether it is read or looked for."""
    repeated: Json = {"recurrence": weekly(office.noon, 3)} if series else {}
    one = lose_a_create(office, monkeypatch, **repeated)
    rewriting(monkeypatch, untold)

    office.advance(6 * MINUTE)
    if not read:
        monkeypatch.setattr("sync.calendars.run.pull", lambda *_, **__: False)
    office.sync()

    found = office.reservations()
    assert {each["seriesId"] if series else each["id"] for each in found} == {one["id"]}
    assert {(each["status"], each["syncState"]) for each in found} == {("confirmed", "synced")}
    assert len(office.events()) == len(found) == (3 if series else 1)


def test_two_events_are_as_it_was_asked_for(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reservation has one of them, the other is a meeting of its own."""
    one = lose_a_create(office, monkeypatch)
    office.outlook("POST", "oak", body={"subject": "Planning", **span(office.noon)})
    rewriting(monkeypatch, untold)

    office.advance(6 * MINUTE)
    office.sync()
    office.full()

    found = office.reservations()
    assert len({office.stored(each).link.room_event for each in found}) == len(office.events()) == len(found) == 2
    assert one["id"] in {each["id"] for each in found}


# --- places in a series that are not told --------------------------------------------------------------------------------


def test_a_moved_occurrence_of_a_users_series(make_office: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose place in the series is not told: it is known by its time, and can be changed."""
    office = opened(make_office, "100")
    office.meet(0, recurrence=weekly(office.noon, 3))
    office.sync()

    def without_place(_method: str, _path: str, answer: Answer) -> Answer:
        listed = answer.body.get("value")
        if not isinstance(listed, list):
            return answer
        short = [{name: value for name, value in one.items() if name != "originalStart"} for one in listed]
        return Answer(answer.status, answer.headers, {**answer.body, "value": short})

    rewriting(monkeypatch, without_place)
    office.change(0, office.events(office.people[0])[1], **span(office.noon + 8 * DAY))
    office.sync()
    office.edit(office.reservations()[1], title="Ours")

    office.send()

    assert [event["subject"] for event in office.events(office.people[0])] == ["Planning", "Ours", "Planning"]
    assert [(each["title"], each["syncState"]) for each in office.reservations()][1] == ("Ours", "synced")
