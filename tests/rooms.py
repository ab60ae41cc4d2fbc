"""Rooms and reservations for tests: linked and made through the API, their sync's side put in place of a run."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread
from typing import Any

import pytest

from storage.tables import Write
from sync import jobs
from sync.calendars import occupancy, store
from sync.calendars.model import Link, Reservation, RoomState, Times
from sync.sync_settings import CalendarsSettings
from tests.cloud import Cloud, NewTenant, TestTenant
from tests.house import Answer, House

NAME = "primary"
ROOMS = f"connections/{NAME}/rooms"
ROOM = {"displayName": "Oak", "calendarType": "office365", "externalCalendar": "oak@contoso.com", "active": True}


def at(time: str, zone: str | None = "America/New_York") -> dict[str, str]:
    """A moment as requests say it."""
    return {"dateTime": time, **({} if zone is None else {"timeZone": zone})}


OAK, ELM = f"{ROOMS}/oak/reservations", f"{ROOMS}/elm/reservations"
ANN = {"name": "Ann Lee", "email": "ann@contoso.com"}
SPRING = "from=2027-03-01&to=2027-05-01"
WEEKLY = {
    "pattern": {"type": "weekly", "interval": 1, "daysOfWeek": ["monday"], "firstDayOfWeek": "sunday"},
    "range": {"type": "endDate", "startDate": "2027-03-01", "endDate": "2027-03-29"},
}


def daily(count: int, **pattern: Any) -> dict[str, Any]:
    """So many occurrences of BODY, one a day."""
    return {
        "pattern": {"type": "daily", "interval": 1, **pattern},
        "range": {"type": "numbered", "startDate": "2027-03-01", "numberOfOccurrences": count},
    }


def connect(house: House, tenant: TestTenant) -> None:
    house.connect(tenant, NAME)


def enable(house: House, **settings: Any) -> None:
    """Switch the calendar sync on, with these settings over the defaults."""
    wanted = CalendarsSettings.model_validate({"enabled": True, "schedule": {"mode": "manual"}, **settings})
    _, etag = jobs.load_settings(house.app, NAME, "calendars")
    jobs.save_settings(house.app, NAME, "calendars", wanted, etag)


BODY = {"title": "Planning", "start": at("2027-03-01T09:00"), "end": at("2027-03-01T10:00")}


def book(house: House, room: str = "oak", **fields: Any) -> dict[str, Any]:
    """A reservation made through the API: BODY, but for what is told."""
    answer = house.call("POST", f"{ROOMS}/{room}/reservations", {**BODY, **fields})
    assert answer.status == 201, answer.content
    made: dict[str, Any] = answer.json
    return made


def together(*calls: Callable[[], Answer]) -> list[Answer]:
    """What these answer when they are called at the same moment."""
    barrier = Barrier(len(calls))
    answers: dict[int, Answer] = {}

    def run(number: int, call: Callable[[], Answer]) -> None:
        barrier.wait()
        answers[number] = call()

    threads = [Thread(target=run, args=(number, call)) for number, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[number] for number in range(len(calls))]


def link(house: House, room: str = "oak", **fields: Any) -> dict[str, Any]:
    """A room, with a calendar of its own name unless it is told."""
    answer = house.call("PUT", f"{ROOMS}/{room}", {**ROOM, "externalCalendar": f"{room}@contoso.com", **fields})
    assert answer.status in (200, 201), answer.content
    linked: dict[str, Any] = answer.json
    return linked


def open_portal(house: House, tenant: TestTenant) -> House:
    """A portal with two rooms, oak and elm, and the calendar sync off."""
    connect(house, tenant)
    link(house, "oak")
    link(house, "elm")
    return house


@pytest.fixture
def portal(house: House, new_tenant: NewTenant) -> House:
    """A portal of the test's own."""
    return open_portal(house, new_tenant())


@pytest.fixture(scope="module")
def standing(shared_house: House, cloud: Cloud) -> Iterator[House]:
    """A portal for tests that leave nothing behind but reservations that nobody else looks at."""
    tenant = cloud.generate()
    yield open_portal(shared_house, tenant)
    tenant.control.delete("")


def open_room(house: House, tenant: TestTenant, **fields: Any) -> House:
    """A portal whose room oak is the first one of the tenant: it is active, and nothing is in it yet."""
    house.connect(tenant, NAME, calendars={})
    link(house, "oak", externalCalendar=f"room1@{tenant.domain}", **fields)
    house.work()
    assert house.get(f"{ROOMS}/oak")["status"] == "active"
    return house


def removing(house: House, room: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the room removed while the next request that looks whether a room is free is at work."""
    look = occupancy.look

    def looking(*args: Any) -> occupancy.Slots:
        found = look(*args)
        monkeypatch.setattr(occupancy, "look", look)
        assert house.call("DELETE", f"{ROOMS}/{room}").status == 204
        return found

    monkeypatch.setattr(occupancy, "look", looking)


def rows_of(house: House, room: str) -> list[str]:
    """The keys of all rows about a room, but for that which tells the next run of it."""
    rows = house.app.tables.data.scan(NAME, columns=())
    return [row["key"] for row in rows if f"|{room}" in row["key"] and row["key"] != store.heard_key(room)]


def listed(house: House, query: str = SPRING) -> list[dict[str, Any]]:
    """The reservations of room oak in a time, all pages."""
    found, cursor = [], ""
    while True:
        page = house.get(f"{OAK}?{query}&top=1000{cursor}")
        found += page["items"]
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"


def starts(house: House, query: str = SPRING) -> list[str]:
    """When they begin, by the clocks of the room."""
    return [one["start"]["dateTime"][5:16] for one in listed(house, query)]


def put_state(house: House, room: str, **fields: Any) -> RoomState:
    """The state of a room as a run would leave it: active unless it is told."""
    found = store.load_room(house.app.tables.data, NAME, room)
    assert found
    known = {"status": "active", "detail": "webhook", "mailbox": found[0].external_calendar, "since": found[0].since}
    state = replace(RoomState(), **{**known, **fields})
    house.app.tables.data.commit(NAME, [Write("replace", store.state_key(room), store.state_row(state))])
    return state


def stored(house: House, room: str, reservation: str) -> Reservation:
    found = store.load_reservation(house.app.tables.data, NAME, room, reservation)
    assert found
    return found[0]


START = datetime(2027, 3, 1, 14, tzinfo=UTC)


def make_reservation(reservation: str = "r", **changes: Any) -> Reservation:
    """As a run or a request would have left it: BODY in room oak, linked to an event."""
    values: dict[str, Any] = {
        "id": reservation,
        "room": "oak",
        "kind": "single",
        "origin": "portal",
        "title": "Planning",
        "title_source": "local",
        "owner": None,
        "times": Times(START, START + timedelta(hours=1), "America/New_York"),
        "created_at": START,
        "updated_at": START,
        "sync_state": "synced",
        "link": Link(state="linked", room_event=f"event of {reservation}", organizer_address="oak@contoso.com"),
    }
    return Reservation(**{**values, **changes})


def put_reservation(house: House, reservation: Reservation) -> Reservation:
    """Store a reservation as a run would."""
    key = store.reservation_key(reservation.room, reservation.id)
    house.app.tables.data.commit(NAME, [Write("replace", key, store.reservation_row(reservation))])
    return reservation


def to_send(house: House, room: str) -> list[str]:
    """The ids of what waits to be sent."""
    rows = house.app.tables.data.scan(NAME, store.send_key(room, ""))
    return [row["reservation"] for row in rows]


def problem(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["code"]


def pointers(answer: Answer) -> list[str]:
    assert problem(answer) == (422, "invalid-request"), answer.content
    return sorted(error["pointer"] for error in answer.json["errors"])
