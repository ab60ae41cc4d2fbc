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
    instances: list[Remote],
    held: list[Reservation],
    single: Reservation | None = None,
    *,
    shift: timedelta | None = None,
    now: datetime = MONDAY - WEEK,
) -> list[tuple[str, str]]:
    found = pair(instances, held, single, shift=shift, now=now)
    return [(remote.id, one.id if one else "") for remote, one in found]


def series(*numbers: int, start: datetime = MONDAY) -> list[Reservation]:
    """Occurrences of a weekly series, named by their week."""
    return [occurrence(f"{number}", f"E{number}", start + number * WEEK) for number in numbers]


def moved(by: timedelta, *numbers: int) -> list[Remote]:
    """Instances of a weekly series that has moved, all with new ids."""
    return [instance(f"F{number}", MONDAY + number * WEEK + by) for number in numbers]


@pytest.mark.parametrize("shift", [None, 0 * HOUR])
def test_by_event(shift: timedelta | None) -> None:
    """The same ids are the same occurrences, wherever they have been moved to; in the order of time."""
    away = instance("E1", MONDAY, at=MONDAY + 2 * WEEK)

    assert names([away, instance("E2", MONDAY + WEEK)], [ONE, TWO], shift=shift) == [("E2", "two"), ("E1", "one")]


def test_by_place() -> None:
    """Of a series of the portal's own whose events are not known yet, and of one that was made anew."""
    unknown = replace(ONE, link=Link())

    assert names([instance("F1", MONDAY), instance("F2", MONDAY + WEEK)], [unknown, TWO]) == [
        ("F1", "one"),
        ("F2", "two"),
    ]


def test_new_ones() -> None:
    assert names([instance("E1", MONDAY), instance("E3", MONDAY + 2 * WEEK)], [ONE, TWO]) == [("E1", "one"), ("E3", "")]


MINUTES = timedelta(minutes=30)
SHIFTS = [-MINUTES, HOUR, -5 * HOUR, 24 * HOUR, -48 * HOUR, 96 * HOUR, WEEK, -WEEK, WEEK + HOUR, 10 * WEEK]
GAPS = [(shift, missing) for shift in SHIFTS for missing in (None, 0, 1, 2, 3)]


@pytest.mark.parametrize(("shift", "missing"), [each for each in GAPS if each not in ((WEEK, 0), (-WEEK, 3))], ids=str)
def test_a_shift(shift: timedelta, missing: int | None) -> None:
    """New ids and places: each keeps its number in the series, and only the one that had been deleted is new."""
    held = series(*(number for number in range(4) if number != missing))

    found = names(moved(shift, 0, 1, 2, 3), held[::-1], shift=shift)

    assert found == [(f"F{number}", "" if number == missing else f"{number}") for number in range(4)]


@pytest.mark.parametrize(("shift", "left"), [(WEEK, (1, 2, 3)), (-WEEK, (0, 1, 2))], ids=str)
def test_a_shift_that_changes_nothing(shift: timedelta, left: tuple[int, ...]) -> None:
    """A week's shift of what has lost its first (or last) one: the others stay in their places."""
    found = dict(names(moved(shift, 0, 1, 2, 3), series(*left), shift=shift))

    places = {f"E{number}": instance(f"E{number}", MONDAY + number * WEEK) for number in left}
    assert sorted(one for one in found.values() if one) == [f"{number}" for number in left]
    for remote in moved(shift, 0, 1, 2, 3):
        if found[remote.id]:
            assert places[f"E{found[remote.id]}"].original_start == remote.original_start


def test_a_shift_without_news() -> None:
    """What has another place and another id and is not told to have moved is something else."""
    assert names(moved(HOUR, 0, 1, 2), [TWO, ONE]) == [("F0", ""), ("F1", ""), ("F2", "")]


def test_a_shift_that_is_shorter() -> None:
    """The last ones are over; what is the nearest keeps its reservation."""
    assert names(moved(HOUR, 0, 1), series(0, 1, 2, 3), shift=HOUR) == [("F0", "0"), ("F1", "1")]
    assert names(moved(HOUR, 1, 3), series(0, 1, 2, 3), shift=HOUR) == [("F1", "1"), ("F3", "3")]


def test_a_series_that_begins_later() -> None:
    """Its first occurrences are dropped: the others stay where they were, which fits better than a shift."""
    assert names(moved(HOUR, 2, 3, 4, 5), series(0, 2, 4, 5), shift=2 * WEEK + HOUR) == [
        ("F2", "0"),
        ("F3", "2"),
        ("F4", "4"),
        ("F5", "5"),
    ]
    assert names(moved(HOUR, 2, 3, 4, 5), series(2, 4, 5), shift=2 * WEEK + HOUR) == [
        ("F2", "2"),
        ("F3", ""),
        ("F4", "4"),
        ("F5", "5"),
    ]


def test_a_shift_to_places_that_others_have() -> None:
    """The order stays: a reservation is the next one, not the one that has its old place."""
    later = [instance("F1", MONDAY + WEEK), instance("F2", MONDAY + 2 * WEEK)]

    assert names(later, [ONE, TWO], shift=WEEK) == [("F1", "one"), ("F2", "two")]


def test_a_shift_of_a_series_that_is_under_way() -> None:
    """What has taken place stays what it was, however much of it there is; today's counts as that once it is over."""
    held, now = series(*range(6)), MONDAY + 3 * WEEK + 2 * HOUR

    assert names(moved(WEEK, 3, 4), held, shift=WEEK, now=now) == [("F3", "4"), ("F4", "5")]
    assert names(moved(HOUR / 2, 3, 4, 5), held, shift=HOUR / 2, now=now) == [("F3", "3"), ("F4", "4"), ("F5", "5")]
    assert names(moved(3 * HOUR, 3, 4, 5), held, shift=3 * HOUR, now=now) == [("F3", ""), ("F4", "4"), ("F5", "5")]


def test_a_shift_of_an_occurrence_that_was_moved() -> None:
    """It counts by its place in the series, not by where it is."""
    early, late = series(0, 1)
    swapped = replace(early, times=Times(late.times.start + HOUR, late.times.end + HOUR, "UTC"))

    assert names(moved(HOUR, 0, 1), [swapped, late], shift=HOUR) == [("F0", "0"), ("F1", "1")]


def test_a_shift_of_what_is_about_to_be_deleted() -> None:
    """It is in its series until Graph is told: what it has become decides whether it still goes."""
    first, second = series(0, 1)
    leaving = replace(first, status="cancelled").linked(state="deleting")

    assert names(moved(HOUR, 0, 1), [leaving, second], shift=HOUR) == [("F0", "0"), ("F1", "1")]


def test_what_has_ended_comes_last() -> None:
    """A shift pairs what lives, although something that has ended had the very place."""
    ended = occurrence("ended", "E0", MONDAY + HOUR, live=False)

    assert names([instance("F1", MONDAY + HOUR)], [ended, ONE], shift=HOUR) == [("F1", "one")]
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
