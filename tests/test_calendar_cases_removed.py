"""Rooms that are removed, or get another calendar, while something that the portal cancelled waits to be sent."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from sync.calendars import rooms, store
from sync.calendars.parts import insert
from sync.calendars.push import push
from sync.calendars.visit import Visit
from sync.errors import Deferred
from sync.graph.client import GraphClient
from tests.office import DAY, DELETE, HOUR, MINUTE, NAME, Json, Office, make_office, office, weekly

__all__ = ["make_office", "office"]


@pytest.fixture
def cancelled(office: Office) -> Office:
    """An office with a reservation that was cancelled in the portal, and its event."""
    one = office.book()
    office.sync()
    office.cancel(one)
    assert len(office.events()) == 1
    return office


def remove(office: Office, room: str = "oak") -> None:
    """Remove the room, and let the run that follows come to an end."""
    assert office.portal("DELETE", f"rooms/{room}").status == 204
    office.house.work()


def left(office: Office, room: str = "oak") -> list[str]:
    """The keys of all rows about the room."""
    return [row["key"] for row in office.house.app.tables.data.scan(NAME) if f"|{room}" in row["key"]]


def log(office: Office) -> list[tuple[str, str]]:
    """What the last run said of single items."""
    runs = office.house.get(f"connections/{NAME}/runs?sync=calendars")["items"]
    lines = office.house.get(f"connections/{NAME}/runs/{runs[0]['id']}/log")["items"]
    return [(line["entity"], line["reason"]) for line in lines]


def test_what_was_cancelled_is_deleted(cancelled: Office) -> None:
    """Its event goes with one request; the events of what was not cancelled stay, and no row of the room does."""
    kept = cancelled.book(start=cancelled.noon + 3 * HOUR)
    cancelled.send()
    again = cancelled.book(start=cancelled.noon + 6 * HOUR)
    cancelled.send()
    cancelled.cancel(again)

    with cancelled.counting() as count:
        remove(cancelled)

    assert [event["subject"] for event in cancelled.events()] == [kept["title"]]
    assert [method for method, *_ in count.writes] == ["DELETE"]
    assert left(cancelled) == []


def test_it_is_told_of_once(cancelled: Office) -> None:
    """The portal hears of each reservation that was shown that it is deleted, and no more of the cancelled one."""
    shown = cancelled.book(start=cancelled.noon + 3 * HOUR)
    cancelled.changes()

    remove(cancelled)

    assert cancelled.changes() == [(shown["id"], "deleted")]


def test_a_calendar_that_is_closed(cancelled: Office) -> None:
    """What cannot be deleted now is tried again later; nothing shows of the room meanwhile."""
    cancelled.deny("oak")
    remove(cancelled)
    assert cancelled.portal("GET", "rooms/oak").status == 404
    cancelled.deny("oak", denied=False)
    with cancelled.counting() as early:
        cancelled.wake()
    cancelled.advance(6 * MINUTE)

    cancelled.wake()

    assert (early.writes, cancelled.events(), left(cancelled)) == ([], [], [])


def test_a_graph_that_does_not_answer(cancelled: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it lost where Graph is out of reach."""

    def silent(self: GraphClient, method: str, path: str, *_: object, **__: object) -> Json:
        raise Deferred("No answer", until=cancelled.now(), code="graph-unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(GraphClient, "write", silent)
        remove(cancelled)
    assert len(cancelled.events()) == 1
    cancelled.advance(6 * MINUTE)

    cancelled.wake()

    assert (cancelled.events(), left(cancelled)) == ([], [])


def test_a_graph_that_asks_for_a_pause(cancelled: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on where it stopped."""
    real = GraphClient.write
    asked = [True]

    def throttled(self: GraphClient, *args: object, **kwargs: object) -> Json:
        if asked:
            asked.clear()
            raise Deferred("Later", until=cancelled.now(), throttled=True)
        return real(self, *args, **kwargs)  # type: ignore[arg-type] # as they were given

    monkeypatch.setattr(GraphClient, "write", throttled)
    remove(cancelled)
    cancelled.house.work()

    assert (cancelled.events(), left(cancelled)) == ([], [])


def test_the_end_of_a_slice(cancelled: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the time is up before all is sent, the next slice goes on."""
    times: list[bool] = []

    def short(visit: Visit, **how: object) -> bool:
        times.append(True)
        return len(times) > 1 and push(visit, **how)  # type: ignore[arg-type] # as they were given

    monkeypatch.setattr("sync.calendars.leaving.push", short)

    remove(cancelled)

    assert (len(times), cancelled.events(), left(cancelled)) == (2, [], [])


def test_a_calendar_that_stays_closed(cancelled: Office) -> None:
    """After a day it is let go, and the run log says of what."""
    cancelled.deny("oak")
    remove(cancelled)
    begun = cancelled.now()
    while left(cancelled):
        cancelled.advance(6 * HOUR)
        cancelled.wake()

    assert DAY <= cancelled.now() - begun < DAY + HOUR
    assert log(cancelled) == [("reservation", "room-removed")]


def test_linked_anew(cancelled: Office) -> None:
    """The same calendar under the same id: what waits is sent from there."""
    cancelled.deny("oak")
    remove(cancelled)
    cancelled.deny("oak", denied=False)

    cancelled.link()

    assert cancelled.status()[0] == "active"
    assert (cancelled.reservations(status="any")[0]["status"], cancelled.events()) == ("cancelled", [])
    assert not [key for key in left(cancelled) if key.startswith(("removed", "todo"))]


@pytest.mark.parametrize("closed", [False, True])
def test_linked_anew_to_another_calendar(cancelled: Office, closed: bool) -> None:
    """What waits is sent to the former calendar, and let go where that is out of reach."""
    if closed:
        cancelled.deny("oak")
        remove(cancelled)
    else:
        assert cancelled.portal("DELETE", "rooms/oak").status == 204

    cancelled.link("oak", 1)

    assert cancelled.status()[0] == "active"
    assert len(cancelled.events(cancelled.rooms[0])) == closed
    assert cancelled.reservations() == []
    assert not [key for key in left(cancelled) if key.startswith(("removed", "todo"))]


def test_a_removal_that_ends_late(office: Office) -> None:
    """Whoever has the removal of a room still before them takes nothing away from one that has its id by now."""
    remove(office)
    office.link()
    one = office.book()

    rooms.finish_removal(office.house.app, NAME, "oak", keep=False)
    office.send()

    assert office.only()["id"] == one["id"]
    assert len(office.events()) == 1


def test_what_nobody_says_was_removed(office: Office) -> None:
    """Whatever is there of a room of which nothing says that it is, or was, goes with the next run."""
    lost = replace(office.stored(office.book()), room="elm")
    data = office.house.app.tables.data
    data.commit(NAME, [insert(lost), store.touch_slots("elm"), *store.writes_to_send([lost])])

    office.send()

    assert left(office, "elm") == []
    assert len(office.events()) == 1


def test_a_room_that_was_off(cancelled: Office) -> None:
    """Nothing is asked of the calendar of a room that was off when it was removed."""
    body = {"displayName": "Oak", "externalCalendar": cancelled.rooms[0], "active": False}
    cancelled.portal("PUT", "rooms/oak", body)
    cancelled.house.work()

    with cancelled.counting() as count:
        remove(cancelled)

    assert (count.requests, len(cancelled.events()), left(cancelled)) == (0, 1, [])


def test_what_has_moved_to_another_room(office: Office) -> None:
    """Its event in the removed room goes once there is one in the other room."""
    office.link("elm", 1)
    one = office.book()
    office.sync()
    office.edit(one, room="elm")

    remove(office)

    assert (len(office.events()), len(office.events("elm")), left(office)) == (0, 1, [])


def test_an_occurrence_of_somebodys_series(make_office: Callable[..., Office]) -> None:
    """One occurrence that was cancelled is deleted in its organizer's calendar; the others stay."""
    office = make_office("100")
    office.link()
    office.meet(0, recurrence=weekly(office.noon, 4))
    office.sync()
    office.cancel(office.reservations()[1])

    remove(office)

    assert len(office.events(office.people[0])) == 3
    assert left(office) == []


@pytest.mark.parametrize("closed", [False, True])
def test_another_calendar(cancelled: Office, closed: bool) -> None:
    """A room that gets another calendar first sends what is cancelled to the former one, unless that is out of reach."""
    former = cancelled.rooms[0]
    if closed:
        cancelled.deny("oak")

    with cancelled.counting() as count:
        cancelled.link("oak", 1)

    assert cancelled.status()[0] == "active"
    assert len(cancelled.events(former)) == closed
    assert (DELETE in count.to(former)) is True
