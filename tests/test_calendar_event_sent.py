"""Events of Graph: what is written of a reservation."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from sync.calendars.event import render_update
from sync.calendars.model import Link, Person, Times, transaction_id
from tests.events import ANN, BERLIN, NEW_YORK, PLACEHOLDER, PRIVATE, ROOM, SYDNEY, created, reservation


def test_create_in_the_rooms_calendar() -> None:
    """Nobody is invited, so that no mail goes out, and the owner is named nowhere."""
    one = reservation(attendees=(Person("Bo", "bo@contoso.com"),), notes="Bring cake")

    assert created(one) == {
        "subject": "Planning",
        "body": {"contentType": "text", "content": "Bring cake"},
        "start": {"dateTime": "2026-04-15T09:00:00", "timeZone": "Eastern Standard Time"},
        "end": {"dateTime": "2026-04-15T10:00:00", "timeZone": "Eastern Standard Time"},
        "isAllDay": False,
        "sensitivity": "normal",
        "showAs": "busy",
        "transactionId": transaction_id(one),
    }


def test_create_in_the_owners_calendar() -> None:
    """The room is invited as a resource, everybody else once, and the owner, who is the organizer, not at all."""
    people = (
        Person("Bo", "bo@contoso.com"),
        ANN,
        Person("Bo again", "BO@contoso.com"),
        replace(ROOM, email="Room1@contoso.com"),
    )
    body = created(reservation(attendees=people), on_user=True)

    assert body["attendees"] == [
        {"type": "resource", "emailAddress": {"name": "Room 1", "address": "room1@contoso.com"}},
        {"type": "required", "emailAddress": {"name": "Bo", "address": "bo@contoso.com"}},
    ]
    assert body["location"] == {"displayName": "Room 1", "locationEmailAddress": "room1@contoso.com"}
    assert set(body) - set(created(reservation())) == {"attendees", "location"}


def test_create_without_owner() -> None:
    invited = created(reservation(attendees=(ANN,)), on_user=True, owner=None)["attendees"]

    assert [each["emailAddress"]["address"] for each in invited] == [ROOM.email, ANN.email]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"private": True}, {"sensitivity": "private", "subject": "Planning"}),
        ({"blocking": False}, {"showAs": "free"}),
        ({"blocking": False, "kind": "series"}, {"showAs": "busy"}),
        ({"notes": ""}, {"body": None}),
        ({"title": PLACEHOLDER[0], "title_source": "placeholder"}, {"subject": None}),
        ({"title": PRIVATE, "title_source": "room", "private": True}, {"subject": None, "sensitivity": "private"}),
        ({"title": "Hall", "title_source": "room"}, {"subject": "Hall"}),
    ],
)
def test_create(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """What a reservation is goes along; what is only shown in place of an unknown title never does."""
    body = created(reservation(**changes))

    assert {name: body.get(name) for name in expected} == expected


def sent_times(times: Times, kind: str = "single") -> tuple[str, str, str]:
    body = render_update(reservation(times=times, kind=kind), frozenset({"time"}))
    assert body["start"]["timeZone"] == body["end"]["timeZone"]
    return body["start"]["dateTime"], body["end"]["dateTime"], body["start"]["timeZone"]


def hour(start: str, zone: str) -> Times:
    begin = datetime.fromisoformat(f"{start}+00:00")
    return Times(begin, begin + timedelta(hours=1), zone)


@pytest.mark.parametrize(
    ("times", "kind", "expected"),
    [
        pytest.param(
            hour("2026-07-01T10:00", BERLIN),
            "single",
            ("2026-07-01T12:00:00", "2026-07-01T13:00:00", "W. Europe Standard Time"),
            id="the wall clock's time and the Windows name",
        ),
        pytest.param(
            hour("2026-11-01T06:30", NEW_YORK),
            "single",
            ("2026-11-01T06:30:00", "2026-11-01T07:30:00", "UTC"),
            id="an hour that comes twice: UTC",
        ),
        pytest.param(
            hour("2026-11-01T06:30", NEW_YORK),
            "series",
            ("2026-11-01T01:30:00", "2026-11-01T02:30:00", "Eastern Standard Time"),
            id="a series keeps its hours all the same",
        ),
        pytest.param(
            hour("2026-07-01T10:00", "Antarctica/Troll"),
            "single",
            ("2026-07-01T10:00:00", "2026-07-01T11:00:00", "UTC"),
            id="no Windows name: UTC",
        ),
        pytest.param(
            hour("2026-07-01T10:00", "America/Scoresbysund"),
            "single",
            ("2026-07-01T10:00:00", "2026-07-01T11:00:00", "UTC"),
            id="a Windows name that no longer fits: UTC",
        ),
        pytest.param(
            Times.days(date(2026, 3, 5), date(2026, 3, 8), SYDNEY),
            "single",
            ("2026-03-05T00:00:00", "2026-03-08T00:00:00", "AUS Eastern Standard Time"),
            id="whole days by their dates",
        ),
        pytest.param(
            Times.days(date(2026, 3, 8), date(2026, 3, 9), "America/Havana"),
            "single",
            ("2026-03-08T00:00:00", "2026-03-09T00:00:00", "UTC"),
            id="a day that does not begin at midnight",
        ),
    ],
)
def test_times(times: Times, kind: str, expected: tuple[str, str, str]) -> None:
    """Both ends are told in one zone, in which nothing about them is in doubt."""
    assert sent_times(times, kind) == expected


def weekly(**span: Any) -> dict[str, Any]:
    pattern = {"type": "weekly", "interval": 1, "daysOfWeek": ["wednesday"], "firstDayOfWeek": "sunday"}
    return {"pattern": pattern, "range": {"type": "noEnd", "startDate": "2026-04-15", **span}}


def test_a_series_brings_its_recurrence() -> None:
    """With the zone that its hours follow; a plain occurrence never does."""
    one = reservation(kind="series", recurrence=weekly(), blocking=False)

    expected = weekly(recurrenceTimeZone="Eastern Standard Time")
    assert created(one)["recurrence"] == expected
    assert render_update(one, frozenset({"time"}))["recurrence"] == expected
    assert "recurrence" not in render_update(one, frozenset({"title"}))
    assert "recurrence" not in created(replace(one, kind="occurrence"))
    assert "recurrence" not in created(replace(one, recurrence=None))


BASE = reservation().agreed()


@pytest.mark.parametrize(
    ("changes", "groups", "expected"),
    [
        ({}, {"title"}, {"subject"}),
        ({}, {"time"}, {"start", "end", "isAllDay"}),
        ({}, {"time", "title"}, {"subject", "start", "end", "isAllDay"}),
        ({}, set(), set()),
        ({"private": True}, {"title"}, {"subject", "sensitivity"}),
        ({"private": True}, {"time"}, {"start", "end", "isAllDay"}),
        ({"link": Link()}, {"title"}, {"subject"}),
        ({"title_source": "placeholder"}, {"title"}, set()),
    ],
)
def test_update(changes: dict[str, Any], groups: set[str], expected: set[str]) -> None:
    """A change holds the changed fields alone; that a meeting became private goes with its title."""
    assert set(render_update(reservation(**{"link": Link(base=BASE), **changes}), frozenset(groups))) == expected
