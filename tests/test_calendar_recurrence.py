"""Series: which patterns are taken, and when their occurrences are."""

from copy import deepcopy
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from sync.calendars import recurrence
from sync.calendars.model import Times
from sync.calendars.recurrence import DAYS, MAX_OCCURRENCES, end_of_series, occurrences, validate
from tests.recurrences import BERLIN, MONDAY, NEUTRAL, NEW_YORK, days, meeting, series

# --- when ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "start", "expected"),
    [
        pytest.param({"type": "daily", "interval": 3}, "2026-01-30", "01-30 02-02 02-05", id="every third day"),
        pytest.param(
            {"type": "weekly", "daysOfWeek": ["monday", "thursday"]}, "2026-01-05", "01-05 01-08 01-12", id="two days"
        ),
        pytest.param(
            {"type": "weekly", "interval": 2, "daysOfWeek": ["saturday", "sunday"], "firstDayOfWeek": "monday"},
            "2026-01-03",
            "01-03 01-04 01-17",
            id="every other week from Monday: Sunday belongs to the Saturday before",
        ),
        pytest.param(
            {"type": "weekly", "interval": 2, "daysOfWeek": ["saturday", "sunday"]},
            "2026-01-03",
            "01-03 01-11 01-17",
            id="every other week from Sunday: it belongs to the Saturday after",
        ),
        pytest.param({"type": "absoluteMonthly", "dayOfMonth": 15}, "2026-01-15", "01-15 02-15 03-15", id="15th"),
        pytest.param({"type": "absoluteMonthly", "dayOfMonth": 31}, "2026-01-31", "01-31 02-28 03-31 04-30", id="31st"),
        pytest.param(
            {"type": "absoluteMonthly", "dayOfMonth": 31}, "2026-02-28", "02-28 03-31 04-30", id="31st, short"
        ),
        pytest.param({"type": "absoluteMonthly", "dayOfMonth": 29}, "2026-01-29", "01-29 02-28 03-29", id="29th"),
        pytest.param(
            {"type": "relativeMonthly", "daysOfWeek": ["tuesday"], "index": "second"},
            "2026-01-13",
            "01-13 02-10 03-10",
            id="second Tuesday",
        ),
        pytest.param(
            {"type": "relativeMonthly", "daysOfWeek": ["friday"], "index": "last"},
            "2026-01-30",
            "01-30 02-27",
            id="last",
        ),
        pytest.param(
            {"type": "relativeMonthly", "daysOfWeek": list(DAYS[:5])}, "2026-02-02", "02-02 03-02 04-01", id="workday"
        ),
    ],
)
def test_days(pattern: dict[str, Any], start: str, expected: str) -> None:
    """Each kind of pattern falls on the days that Outlook shows it on."""
    wanted = [f"2026-{day}" for day in expected.split()]
    times = meeting(f"{start}T09:00")
    recurrence = series(pattern, start)

    assert validate(recurrence, times) == []
    assert days(recurrence, times, len(wanted)) == wanted


@pytest.mark.parametrize(
    ("pattern", "start", "expected"),
    [
        ({"type": "absoluteYearly", "dayOfMonth": 29, "month": 2}, "2024-02-29", ["2024-02-29", "2025-02-28"]),
        (
            {"type": "relativeYearly", "daysOfWeek": ["thursday"], "index": "fourth", "month": 11},
            "2026-11-26",
            ["2026-11-26", "2027-11-25"],
        ),
        (
            {"type": "absoluteYearly", "interval": 2, "dayOfMonth": 1, "month": 5},
            "2026-05-01",
            ["2026-05-01", "2028-05-01"],
        ),
    ],
)
def test_years(pattern: dict[str, Any], start: str, expected: list[str]) -> None:
    """Yearly patterns fall into their month; the 29th of February is the 28th in other years."""
    assert days(series(pattern, start), meeting(f"{start}T09:00"), len(expected)) == expected


def test_weekly_over_the_clock_change() -> None:
    """A weekly 09:00 in New York over 1 November 2026 is 13:00 and then 14:00 in UTC."""
    times = meeting("2026-10-26T09:00")
    recurrence = series({"type": "weekly", "daysOfWeek": ["monday"]}, "2026-10-26", endDate="2026-11-02")

    found = occurrences(recurrence, times, times.start, times.start + timedelta(days=60), 10)
    assert [each.start.isoformat() for each in found] == ["2026-10-26T13:00:00+00:00", "2026-11-02T14:00:00+00:00"]
    assert {each.end - each.start for each in found} == {timedelta(hours=1)}


@pytest.mark.parametrize(
    ("start", "minutes", "expected"),
    [
        pytest.param("02:30", 60, ("07:30", "08:30"), id="the start is skipped: an hour later, as long as ever"),
        pytest.param("02:30", 120, ("07:30", "08:30"), id="the start is skipped: until the clocks show the end"),
        pytest.param("01:30", 60, ("06:30", "07:30"), id="the end is skipped"),
        pytest.param("01:00", 180, ("06:00", "08:00"), id="the jump is inside: until the clocks show the end"),
    ],
)
def test_the_day_the_clocks_jump(start: str, minutes: int, expected: tuple[str, str]) -> None:
    """On 8 March 2026 New York's clocks skip from 02:00 to 03:00."""
    times = meeting(f"2026-03-07T{start}", minutes=minutes)
    _, there = occurrences(
        series({"type": "daily"}, "2026-03-07"), times, times.start, times.start + timedelta(days=2), 2
    )

    assert (f"{there.start:%H:%M}", f"{there.end:%H:%M}") == expected


def test_a_first_occurrence_inside_the_hour_that_comes_twice() -> None:
    """20 minutes over the moment that the clocks are put back stay 20 minutes where the wall clock cannot tell."""
    start = datetime(2026, 11, 1, 5, 50, tzinfo=UTC)
    times = Times(start, start + timedelta(minutes=20), NEW_YORK)

    found = occurrences(series({"type": "daily"}, "2026-11-01"), times, start, start + timedelta(days=2), 9)
    assert [each.end - each.start for each in found] == [timedelta(minutes=20)] * 2


def test_all_day_series() -> None:
    """Occurrences are whole local days, 25 hours where the clocks are put back."""
    times = Times.days(date(2026, 10, 24), date(2026, 10, 25), BERLIN)
    recurrence = series({"type": "daily"}, "2026-10-24", numberOfOccurrences=3)

    assert validate(recurrence, times) == []
    found = occurrences(recurrence, times, times.start, times.start + timedelta(days=9), 9)
    assert [each.canonical() for each in found] == [
        ("2026-10-24", "2026-10-25"),
        ("2026-10-25", "2026-10-26"),
        ("2026-10-26", "2026-10-27"),
    ]
    assert [(each.end - each.start) // timedelta(hours=1) for each in found] == [24, 25, 24]


def test_the_window() -> None:
    """What overlaps with it counts, also what began before; neither what ends when it opens nor starts when it closes."""
    times = meeting("2026-01-01T09:00", "UTC")
    recurrence = series({"type": "daily"}, "2026-01-01")

    def between(since: str, until: str, limit: int = 99) -> list[str]:
        window = [datetime.fromisoformat(f"2026-01-{text}:00+00:00") for text in (since, until)]
        return [f"{each.start:%d}" for each in occurrences(recurrence, times, window[0], window[1], limit)]

    assert between("03T09:30", "05T09:00") == ["03", "04"]
    assert between("03T10:00", "05T09:01") == ["04", "05"]
    assert between("03T10:00", "31T09:01", limit=2) == ["04", "05"]
    assert between("03T10:00", "03T11:00") == []


@pytest.mark.parametrize(
    "pattern",
    [{"type": "daily"}, {"type": "daily", "interval": 3}, {"type": "weekly", "daysOfWeek": list(DAYS)}],
)
def test_a_series_from_long_ago(pattern: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The years before the window cost nothing."""
    made: list[datetime] = []
    real = recurrence._occurrence

    def spy(times: Times, start: datetime) -> Times:
        made.append(start)
        return real(times, start)

    monkeypatch.setattr(recurrence, "_occurrence", spy)
    since = datetime(2026, 12, 7, tzinfo=UTC)

    found = occurrences(
        series(pattern, "2000-01-01"), meeting("2000-01-01T09:00", "UTC"), since, since + timedelta(days=30), 99
    )

    assert found[0].start == since + timedelta(hours=9)
    assert len(made) < 60


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ({"numberOfOccurrences": 3}, "2026-01-07T10:00:00+00:00"),
        ({"endDate": "2026-01-06"}, "2026-01-05T10:00:00+00:00"),
        ({"endDate": "2026-01-07"}, "2026-01-07T10:00:00+00:00"),
        ({"endDate": "2025-12-31"}, "2026-01-03T10:00:00+00:00"),
        ({"endDate": "2036-01-04"}, "2036-01-03T10:00:00+00:00"),
        ({"endDate": "9999-12-31"}, "2199-12-30T10:00:00+00:00"),
        ({}, None),
    ],
)
def test_end_of_series(span: dict[str, Any], expected: str | None) -> None:
    """The end of its last occurrence; the day of an end date still counts."""
    recurrence = series({"type": "daily", "interval": 2}, "2026-01-03", **span)
    end = end_of_series(recurrence, meeting("2026-01-03T09:00", "UTC"))

    assert (end and end.isoformat()) == expected


# --- what is refused -------------------------------------------------------------------------------------------------

MONDAYS = series({"type": "weekly", "daysOfWeek": ["monday"]}, "2026-01-05", endDate="2026-03-30")
GONE = object()


@pytest.mark.parametrize(
    ("part", "changes", "pointer", "text"),
    [
        ("pattern", {"type": "hourly"}, "pattern/type", "one of daily"),
        ("pattern", {"type": ["daily"]}, "pattern/type", "one of daily"),
        ("pattern", {"interval": 0}, "pattern/interval", "from 1 to 99"),
        ("pattern", {"interval": True}, "pattern/interval", "from 1 to 99"),
        ("pattern", {"interval": 1.5}, "pattern/interval", "from 1 to 99"),
        ("pattern", {"daysOfWeek": []}, "pattern/daysOfWeek", "one or more of monday"),
        ("pattern", {"daysOfWeek": GONE}, "pattern/daysOfWeek", "one or more of monday"),
        ("pattern", {"daysOfWeek": "monday"}, "pattern/daysOfWeek", "one or more of monday"),
        ("pattern", {"daysOfWeek": ["Monday"]}, "pattern/daysOfWeek", "one or more of monday"),
        ("pattern", {"daysOfWeek": ["tuesday"]}, "pattern/daysOfWeek", "fit the start"),
        ("pattern", {"firstDayOfWeek": "moonday"}, "pattern/firstDayOfWeek", "one of monday"),
        ("pattern", {"dayOfMonth": 5}, "pattern/dayOfMonth", "left out of the type weekly"),
        ("pattern", {"type": "daily"}, "pattern/daysOfWeek", "left out of the type daily"),
        ("range", {"type": "forever"}, "range/type", "one of endDate"),
        ("range", {"type": GONE}, "range/type", "one of endDate"),
        ("range", {"startDate": "2026-01-06"}, "range/startDate", "the date of the start"),
        ("range", {"startDate": "5 January"}, "range/startDate", "a date such as"),
        ("range", {"startDate": "2026-02-30"}, "range/startDate", "a date such as"),
        ("range", {"startDate": "2026-W02-1"}, "range/startDate", "a date such as"),
        ("range", {"startDate": 20260105}, "range/startDate", "a date such as"),
        ("range", {"endDate": GONE}, "range/endDate", "a date such as"),
        ("range", {"endDate": "2026-01-04"}, "range/endDate", "from the start to five years"),
        ("range", {"endDate": "2036-01-04"}, "range/endDate", "from the start to five years"),
        ("range", {"numberOfOccurrences": 3}, "range/numberOfOccurrences", "left out of the type endDate"),
        ("range", {"type": "numbered"}, "range/numberOfOccurrences", "from 1 to 999"),
        ("range", {"type": "noEnd"}, "range/endDate", "left out of the type noEnd"),
        ("range", {"recurrenceTimeZone": "Tokyo Standard Time"}, "range/recurrenceTimeZone", "zone of the start"),
        ("range", {"recurrenceTimeZone": "tzone://Microsoft/Custom"}, "range/recurrenceTimeZone", "zone of the start"),
        ("range", {"recurrenceTimeZone": 5}, "range/recurrenceTimeZone", "name of a time zone"),
    ],
)
def test_faults(part: str, changes: dict[str, Any], pointer: str, text: str) -> None:
    """Each thing that is wrong is named by where it is and by what must be there."""
    recurrence = deepcopy(MONDAYS)
    recurrence[part] |= changes
    recurrence[part] = {name: value for name, value in recurrence[part].items() if value is not GONE}

    [(found, why), *more] = validate(recurrence, MONDAY)
    assert (found, more) == (f"/recurrence/{pointer}", [])
    assert why.startswith("must ")
    assert text in why


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("pattern", {**NEUTRAL, "daysOfWeek": ["monday"]}),
        ("pattern", {"interval": None, "firstDayOfWeek": None}),
        ("range", {"numberOfOccurrences": 0, "recurrenceTimeZone": "Eastern Standard Time"}),
        ("range", {"recurrenceTimeZone": NEW_YORK}),
        ("range", {"recurrenceTimeZone": "America/Detroit"}),
        ("range", {"recurrenceTimeZone": None}),
    ],
)
def test_taken(part: str, changes: dict[str, Any]) -> None:
    """What Graph itself shows is taken, with its neutral values; so is a zone by any of its names."""
    recurrence = deepcopy(MONDAYS)
    recurrence[part] |= changes

    assert validate(recurrence, MONDAY) == []


def test_all_faults_at_once() -> None:
    """Whatever is wrong with the form is named at once."""
    faults = validate({"pattern": {"type": "weekly", "interval": 0}, "range": []}, MONDAY)

    assert [pointer for pointer, _ in faults] == [
        "/recurrence/pattern/daysOfWeek",
        "/recurrence/pattern/interval",
        "/recurrence/range/type",
    ]


@pytest.mark.parametrize(
    ("pattern", "times", "span", "pointer", "text"),
    [
        pytest.param(
            {"type": "absoluteYearly", "dayOfMonth": 5, "month": 2},
            MONDAY,
            {},
            "/recurrence/pattern/month",
            "fit",
            id="month",
        ),
        pytest.param(
            {"type": "absoluteYearly", "dayOfMonth": 6, "month": 1},
            MONDAY,
            {},
            "/recurrence/pattern/dayOfMonth",
            "fit",
            id="day",
        ),
        pytest.param(
            {"type": "relativeMonthly", "daysOfWeek": ["monday"], "index": "second"},
            MONDAY,
            {},
            "/recurrence/pattern/daysOfWeek",
            "fit",
            id="second Monday, not the first",
        ),
        pytest.param(
            {"type": "daily"},
            MONDAY,
            {"endDate": "2029-01-05"},
            "/recurrence/range/endDate",
            "no more than 999",
            id="too many",
        ),
        pytest.param(
            {"type": "daily", "interval": 2},
            MONDAY,
            {"numberOfOccurrences": 999},
            "/recurrence/range/numberOfOccurrences",
            "five years",
            id="too far",
        ),
        pytest.param(
            {"type": "daily"}, meeting("2026-01-05T09:00", minutes=1441), {}, "/end", "before the next", id="too long"
        ),
        pytest.param(
            {"type": "daily"},
            meeting("2026-01-05T09:00", "Antarctica/Troll"),
            {},
            "/start/timeZone",
            "Windows",
            id="no name",
        ),
    ],
)
def test_no_sense(pattern: dict[str, Any], times: Times, span: dict[str, Any], pointer: str, text: str) -> None:
    """A series must begin with its start, end in time, not overlap with itself, and keep its hours at Microsoft."""
    [(found, why)] = validate(series(pattern, "2026-01-05", **span), times)

    assert found == pointer
    assert text in why


@pytest.mark.parametrize(
    ("pattern", "span"),
    [
        ({"type": "daily"}, {"numberOfOccurrences": MAX_OCCURRENCES}),
        ({"type": "daily"}, {}),
        ({"type": "weekly", "daysOfWeek": ["monday"]}, {"endDate": "2031-01-05"}),
    ],
)
def test_the_most(pattern: dict[str, Any], span: dict[str, Any]) -> None:
    """999 occurrences, five years, and no end at all are taken."""
    assert validate(series(pattern, "2026-01-05", **span), MONDAY) == []


def test_whole_days_may_touch() -> None:
    """A daily whole day is no overlap, but a daily two days is."""
    recurrence = series({"type": "daily"}, "2026-03-07", endDate="2026-03-10")

    assert validate(recurrence, Times.days(date(2026, 3, 7), date(2026, 3, 8), NEW_YORK)) == []
    assert validate(recurrence, Times.days(date(2026, 3, 7), date(2026, 3, 9), NEW_YORK)) != []
