"""Which reservation an instance of a series is, by table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync.calendars.event import Remote
from sync.calendars.model import Agreed, Link, Reservation, Times
from sync.calendars.pairing import is_as_asked, pair

MONDAY = datetime(2026, 4, 13, 9, tzinfo=UTC)
WEEK, HOUR = timedelta(days=7), timedelta(hours=1)


def instance(event: str, place: datetime, *, at: datetime | None = None) -> Remote:
    """An instance that belongs to a place of its series, and takes place there or somewhere else."""
    start = at or place
    return Remote(
        id=event,
        etag="1",
        kind="occurrence",
        master="M",
        ical="",
        subject="Weekly",
        times=Times(start, start + HOUR, "UTC"),
        original_start=place,
        cancelled=False,
        free=False,
        private=False,
        organizer=None,
        is_organizer=True,
        response="organizer",
        created_at=None,
        transaction="",
        attendees=(),
        recurrence=None,
        zone="UTC",
        zone_unknown=False,
        stub=False,
    )


def occurrence(name: str, event: str, place: datetime | None, *, live: bool = True) -> Reservation:
    start = place or MONDAY
    return Reservation(
        id=name,
        room="oak",
        kind="occurrence" if place else "single",
        origin="microsoft",
        title="Weekly",
        title_source="room",
        owner=None,
        times=Times(start, start + HOUR, "UTC"),
        created_at=MONDAY,
        updated_at=MONDAY,
        status="confirmed" if live else "cancelled",
        series="S" if place else "",
        original_start=place,
        link=Link(state="linked", room_event=event),
    )


ONE, TWO = occurrence("one", "E1", MONDAY), occurrence("two", "E2", MONDAY + WEEK)


def names(
    instances: list[Remote], held: list[Reservation], single: Reservation | None = None, *, shifted: bool = False
) -> list[tuple[str, str]]:
    found = pair(instances, held, single, shifted=shifted)
    return [(remote.id, one.id if one else "") for remote, one in found]


@pytest.mark.parametrize("shifted", [False, True])
def test_by_event(shifted: bool) -> None:
    """The same ids are the same occurrences, wherever they have been moved to; in the order of time."""
    moved = instance("E1", MONDAY, at=MONDAY + 2 * WEEK)

    assert names([moved, instance("E2", MONDAY + WEEK)], [ONE, TWO], shifted=shifted) == [("E2", "two"), ("E1", "one")]


def test_by_place() -> None:
    """Of a series of the portal's own whose events are not known yet, and of one that was made anew."""
    unknown = replace(ONE, link=Link())

    assert names([instance("F1", MONDAY), instance("F2", MONDAY + WEEK)], [unknown, TWO]) == [
        ("F1", "one"),
        ("F2", "two"),
    ]


def test_new_ones() -> None:
    assert names([instance("E1", MONDAY), instance("E3", MONDAY + 2 * WEEK)], [ONE, TWO]) == [("E1", "one"), ("E3", "")]


def test_a_shift() -> None:
    """New ids and places: paired in their order; one more than before is new."""
    later = [instance(f"F{number}", MONDAY + number * WEEK + HOUR) for number in range(3)]

    assert names(later, [TWO, ONE], shifted=True) == [("F0", "one"), ("F1", "two"), ("F2", "")]
    assert names(later, [TWO, ONE]) == [("F0", ""), ("F1", ""), ("F2", "")]


def test_a_shift_to_a_place_that_another_has() -> None:
    """Each reservation is one instance only."""
    later = [instance("F1", MONDAY + WEEK), instance("F2", MONDAY + 2 * WEEK)]

    assert names(later, [ONE, TWO], shifted=True) == [("F1", "two"), ("F2", "one")]


def test_what_has_ended_comes_last() -> None:
    """A shift pairs what lives, although something that has ended had the very place."""
    ended = occurrence("ended", "E0", MONDAY + HOUR, live=False)

    assert names([instance("F1", MONDAY + HOUR)], [ended, ONE], shifted=True) == [("F1", "one")]
    assert names([instance("F1", MONDAY + HOUR)], [ended, ONE]) == [("F1", "ended")]


def test_a_single_event_that_became_a_series() -> None:
    """It is the first instance, unless that is known."""
    single = occurrence("single", "M", None)
    instances = [instance("E1", MONDAY), instance("E2", MONDAY + WEEK)]

    assert names(instances, [], single) == [("E1", "single"), ("E2", "")]
    assert names(instances, [ONE], single) == [("E1", "one"), ("E2", "")]
    assert names([], [], single) == []


ASKED = replace(instance("E", MONDAY), kind="single", original_start=None)
BASE = Agreed(
    "Weekly", "2026-04-13T09:00:00+00:00", "2026-04-13T10:00:00+00:00", False, "oak@contoso.com", False, False
)
WAITS = replace(
    occurrence("waits", "", None),
    link=Link(state="creating", payload={"subject": "Weekly"}, base=BASE, transaction="T"),
)


def test_what_was_asked_for() -> None:
    """Known by its kind, times and subject."""
    assert is_as_asked(WAITS, ASKED)


@pytest.mark.parametrize(
    "change",
    [
        {"transaction": "another"},
        {"cancelled": True},
        {"kind": "series"},
        {"subject": "Other"},
        {"times": Times(MONDAY, MONDAY + 2 * HOUR, "UTC")},
    ],
    ids=["transaction", "cancelled", "kind", "subject", "times"],
)
def test_what_was_not_asked_for(change: dict[str, Any]) -> None:
    assert not is_as_asked(WAITS, replace(ASKED, **change))


@pytest.mark.parametrize("change", [{"state": "deleting"}, {"payload": None}, {"base": None}])
def test_nothing_was_asked_for(change: dict[str, Any]) -> None:
    """By what has been answered, or is not wanted any more."""
    assert not is_as_asked(WAITS.linked(**change), ASKED)
