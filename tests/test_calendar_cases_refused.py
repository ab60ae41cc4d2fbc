"""What Graph refuses for good of one reservation: that one is told of it, and everything else in its room goes on."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from sync.calendars.mailboxes import wire_time
from sync.errors import Deferred
from sync.graph.client import GraphClient
from sync.graph.protocol import Answer, Headers, parse_error
from tests.office import DAY, HOUR, MINUTE, NAME, Json, Office, graph_time, make_office, office, span, weekly

__all__ = ["make_office", "office"]

LONG_AGO = datetime(2019, 12, 2, 9, tzinfo=UTC)
Asked = Callable[[str, Mapping[str, str]], bool]


@contextmanager
def refused(asked: Asked, status: int = 400) -> Iterator[None]:
    """Graph refuses pages with this status, by their path and parameters."""
    real = GraphClient.page

    def page(self: GraphClient, path: str, **kwargs: Any) -> Any:
        if asked(path, kwargs.get("params") or {}):
            raise parse_error(Answer(status, Headers({}), {}))
        return real(self, path, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GraphClient, "page", page)
        yield


def view_at(start: datetime) -> Asked:
    """The look whether the room is free from `start` on."""
    return lambda path, params: path.endswith("/calendarView") and params["startDateTime"] == wire_time(start)


def outcome(office: Office, one: Json) -> tuple[str, str, str | None]:
    now = office.again(one)
    return now["status"], now["syncState"], now["note"]


# --- what is asked for -----------------------------------------------------------------------------------------------


def test_a_series_from_long_ago(office: Office) -> None:
    """It is sent, and its room goes on: nobody asks for the years before the window, which are more than Graph tells of."""
    series = office.book(start=LONG_AGO, recurrence=weekly(LONG_AGO, None))
    one = office.book()
    office.meet(0, start=office.noon + 3 * HOUR)
    office.sync()

    assert outcome(office, series) == outcome(office, one) == ("confirmed", "synced", None)
    assert len(office.masters()) == 1
    assert office.status() == ("active", "polling-only")
    assert office.noon + 3 * HOUR in [
        datetime.fromisoformat(f"{one['start']['dateTime'][:19]}Z") for one in office.events()
    ]
    assert office.room()["pendingChanges"] == 0


def test_an_occurrence_far_ahead(office: Office) -> None:
    """One that was moved by years before its series was sent is looked for by itself: all the time until then would be too
    long.
    """
    series = office.book(recurrence=weekly(office.noon))
    moved = office.reservations(type="occurrence")[1]
    office.edit(moved, **span(office.noon + 2200 * DAY))
    office.sync()

    assert outcome(office, series) == ("confirmed", "synced", None)
    [far] = office.reservations(**{"from": (office.noon + 2199 * DAY).strftime("%Y-%m-%d"), "to": "2199-01-01"})
    assert (far["start"], far["syncState"]) == (graph_time(office.noon + 2200 * DAY), "synced")


def test_a_series_that_is_over(office: Office) -> None:
    """What its room has at the time of its first occurrence, long ago, is in nobody's way."""
    office.outlook("POST", "oak", body={"subject": "Old", **span(LONG_AGO)})
    series = office.book(start=LONG_AGO, recurrence=weekly(LONG_AGO))
    office.send()

    assert outcome(office, series) == ("confirmed", "synced", None)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 405, 409, 422, 501])
def test_the_look_before_a_create(office: Office, status: int) -> None:
    """The reservation is declined, its time is free again, and the next one is sent in the same run."""
    first, second = office.book(title="First"), office.book(start=office.noon + 3 * HOUR)

    with refused(view_at(office.noon), status):
        office.send()

    assert outcome(office, first) == ("declined", "rejected", "graph-refused")
    assert outcome(office, second) == ("confirmed", "synced", None)
    assert office.status()[0] == "active"
    assert office.state().retry_at is None
    assert office.room()["pendingChanges"] == 0
    assert office.ask_to_book().status == 201


def test_the_look_before_a_change(office: Office) -> None:
    """The reservation is again when it was, and the next change is sent in the same run."""
    first, second = office.book(title="First"), office.book(start=office.noon + 3 * HOUR)
    office.sync()
    office.edit(first, **span(office.noon + 6 * HOUR))
    office.edit(second, title="Second")

    with refused(view_at(office.noon + 6 * HOUR)):
        office.send()

    assert outcome(office, first) == ("confirmed", "rejected", "graph-refused")
    assert office.again(first)["start"] == graph_time(office.noon)
    assert outcome(office, second) == ("confirmed", "synced", None)
    assert [event["subject"] for event in office.events()] == ["First", "Second"]


def test_the_look_after_a_lost_answer(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier try may have made comes back where the room hears of it after all."""
    one = office.book()
    lost: list[Json] = []

    def write(_: GraphClient, _method: str, _path: str, body: Json, **__: Any) -> Json:
        lost.append(body)
        raise Deferred("No answer", until=office.now())

    with monkeypatch.context() as patch:
        patch.setattr(GraphClient, "write", write)
        office.send()
    office.advance(6 * MINUTE)
    with refused(view_at(office.noon)):
        office.wake()
    assert outcome(office, one) == ("declined", "rejected", "graph-refused")

    office.house.app.graph(NAME, deadline=office.now() + HOUR).write(
        "POST", f"/users/{office.rooms[0]}/events", lost[0]
    )
    office.sync()

    assert outcome(office, one) == ("confirmed", "synced", None)


def test_the_occurrences_of_a_new_series(office: Office) -> None:
    """A series that was made is made, although its occurrences are not told of at once."""
    series, second = office.book(recurrence=weekly(office.noon)), office.book(start=office.noon + 3 * HOUR)

    with refused(lambda path, _: path.endswith("/instances")):
        office.send()

    assert outcome(office, series) == outcome(office, second) == ("confirmed", "synced", None)
    office.sync()
    assert {one["syncState"] for one in office.reservations()} == {"synced"}
    assert len(office.events()) == 5


def test_a_series_that_stays(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither the cancellation is taken nor the occurrences are told of, they are all back."""
    series = office.book(recurrence=weekly(office.noon))
    office.sync()
    office.cancel(series)
    second = office.book(start=office.noon + 3 * HOUR)
    real = GraphClient.write

    def write(self: GraphClient, method: Any, path: str, *args: Any, **kwargs: Any) -> Json:
        return real(self, method, path + ("x" if method == "DELETE" else ""), *args, **kwargs)

    monkeypatch.setattr(GraphClient, "write", write)
    with refused(lambda path, _: path.endswith("/instances")):
        office.send()

    assert outcome(office, series) == ("confirmed", "rejected", "graph-refused")
    assert outcome(office, second) == ("confirmed", "synced", None)
    assert len(office.reservations(type="occurrence")) == 4
