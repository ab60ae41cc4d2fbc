"""Rooms and reservations for tests: linked and made through the API, their sync's side put in place of a run."""

from dataclasses import replace
from typing import Any

from storage.tables import Write
from sync import jobs
from sync.calendars import store
from sync.calendars.model import Reservation, RoomState
from sync.sync_settings import CalendarsSettings
from tests.cloud import TestTenant
from tests.house import Answer, House

NAME = "primary"
ROOMS = f"connections/{NAME}/rooms"
ROOM = {"displayName": "Oak", "calendarType": "office365", "externalCalendar": "oak@contoso.com", "active": True}


def at(time: str, zone: str | None = "America/New_York") -> dict[str, str]:
    """A moment as requests say it."""
    return {"dateTime": time, **({} if zone is None else {"timeZone": zone})}


def connect(house: House, tenant: TestTenant) -> None:
    house.connect(tenant, NAME)


def enable(house: House, **settings: Any) -> None:
    """Switch the calendar sync on, with these settings over the defaults."""
    wanted = CalendarsSettings.model_validate({"enabled": True, "schedule": {"mode": "manual"}, **settings})
    _, etag = jobs.load_settings(house.app, NAME, "calendars")
    jobs.save_settings(house.app, NAME, "calendars", wanted, etag)


def link(house: House, room: str = "oak", **fields: Any) -> dict[str, Any]:
    """A room, with a calendar of its own name unless it is told."""
    answer = house.call("PUT", f"{ROOMS}/{room}", {**ROOM, "externalCalendar": f"{room}@contoso.com", **fields})
    assert answer.status in (200, 201), answer.content
    linked: dict[str, Any] = answer.json
    return linked


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
