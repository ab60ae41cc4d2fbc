"""Rooms and reservations as data: what overlaps, what is compared, what the settings allow, and ids."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from sync.calendars.model import (
    Agreed,
    Link,
    Policy,
    Reservation,
    Times,
    imported_id,
    occurrence_id,
    transaction_id,
)

NOW = datetime(2026, 4, 15, 9, tzinfo=UTC)


def hours(first: int, last: int) -> Times:
    midnight = datetime(2026, 4, 15, tzinfo=UTC)
    return Times(midnight + timedelta(hours=first), midnight + timedelta(hours=last), "Europe/Berlin")


def reservation(**changes: Any) -> Reservation:
    fields: dict[str, Any] = {
        "id": "res-1",
        "room": "room-1",
        "kind": "single",
        "origin": "portal",
        "title": "Planning",
        "title_source": "local",
        "owner": None,
        "times": hours(9, 10),
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Reservation(**fields | changes)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (hours(9, 10), hours(10, 11), False),
        (hours(9, 11), hours(10, 11), True),
        (hours(9, 12), hours(10, 11), True),
        (hours(9, 10), hours(11, 12), False),
        (hours(9, 10), hours(9, 10), True),
    ],
)
def test_overlaps(one: Times, other: Times, overlap: bool) -> None:
    """Two need the room at once, or not; the end of one may be the start of the other. Both see it alike."""
    assert one.overlaps(other) == overlap
    assert other.overlaps(one) == overlap


@pytest.mark.parametrize(
    ("zone", "first", "start", "length"),
    [
        ("Australia/Sydney", date(2026, 3, 5), "2026-03-04T13:00", 24),
        ("America/Los_Angeles", date(2026, 3, 5), "2026-03-05T08:00", 24),
        ("Europe/Berlin", date(2026, 3, 29), "2026-03-28T23:00", 23),
        ("Europe/Berlin", date(2026, 10, 25), "2026-10-24T22:00", 25),
    ],
)
def test_days(zone: str, first: date, start: str, length: int) -> None:
    """A whole day runs from local midnight to local midnight."""
    times = Times.days(first, first + timedelta(days=1), zone)

    assert times.start == datetime.fromisoformat(f"{start}+00:00")
    assert times.end - times.start == timedelta(hours=length)
    assert times.all_day
    assert times.canonical() == (first.isoformat(), (first + timedelta(days=1)).isoformat())


def test_times_are_compared_to_the_second() -> None:
    assert hours(9, 10).canonical() == ("2026-04-15T09:00:00+00:00", "2026-04-15T10:00:00+00:00")
    assert not hours(9, 10).all_day


@pytest.mark.parametrize(
    ("changes", "live", "takes_time"),
    [
        ({}, True, True),
        ({"status": "tentative"}, True, True),
        ({"status": "awaitingRoom"}, True, True),
        ({"status": "declined"}, False, False),
        ({"status": "cancelled"}, False, False),
        ({"blocking": False}, True, False),
        ({"kind": "series"}, True, False),
        ({"kind": "occurrence"}, True, True),
    ],
)
def test_takes_time(changes: dict[str, Any], live: bool, takes_time: bool) -> None:
    """Whatever may still take place keeps others out, unless it is shown as free; a series does by its occurrences."""
    one = reservation(**changes)

    assert (one.live, one.takes_time) == (live, takes_time)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"title": "Planning", "free": False, "private": False, "cancelled": False}),
        ({"title_source": "placeholder"}, {"title": None}),
        ({"private": True}, {"title": "Planning", "private": True}),
        ({"private": True, "title_source": "organizer"}, {"title": None, "private": True}),
        ({"blocking": False}, {"free": True}),
        ({"status": "cancelled"}, {"cancelled": True}),
        ({"status": "declined"}, {"cancelled": False}),
        ({"link": Link(organizer_address="Ann@Contoso.com")}, {"organizer": "ann@contoso.com"}),
    ],
)
def test_agreed(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """What is compared with the event; a title that is not the real one is not."""
    agreed = reservation(**changes).agreed()

    assert isinstance(agreed, Agreed)
    assert {name: getattr(agreed, name) for name in expected} == expected


def test_linked() -> None:
    """The link changes and the rest stays."""
    before = reservation(link=Link(room_event="E"))
    after = before.linked(state="linked")

    assert after.link == Link(room_event="E", state="linked")
    assert replace(after, link=before.link) == before


@pytest.mark.parametrize(
    ("switches", "may", "warnings"),
    [
        ("000", "read", ()),
        ("001", "read create", ("edits-only-in-outlook",)),
        ("010", "", ()),
        ("011", "", ("strict-overrides-create",)),
        ("100", "read write", ()),
        ("101", "read write create", ()),
        ("110", "read write", ("strict-without-effect",)),
        ("111", "read write create", ("strict-without-effect",)),
    ],
)
def test_policy(switches: str, may: str, warnings: tuple[str, ...]) -> None:
    """What each combination of delegation, strict mode and creating on user calendars comes to."""
    policy = Policy(*(switch == "1" for switch in switches))
    allowed = {"read": policy.read_user, "write": policy.write_user, "create": policy.create_on_user}

    assert " ".join(name for name, granted in allowed.items() if granted) == may
    assert policy.warnings == warnings


def test_ids() -> None:
    """The same event, occurrence or attempt has the same id each time; any other one another."""
    berlin = NOW.astimezone(tz=datetime.fromisoformat("2026-04-15T11:00+02:00").tzinfo)
    one = reservation()

    assert occurrence_id("series", NOW) == occurrence_id("series", berlin)
    assert transaction_id(one) == transaction_id(replace(one, title="Other"))
    assert imported_id("room", "event") == imported_id("room", "event")
    others = {
        imported_id("room", "event"),
        imported_id("room", "event2"),
        imported_id("room2", "event"),
        occurrence_id("series", NOW),
        occurrence_id("series", NOW + timedelta(seconds=1)),
        transaction_id(one),
        transaction_id(replace(one, generation=1)),
        transaction_id(replace(one, room="room-2")),
    }
    assert len(others) == 8
