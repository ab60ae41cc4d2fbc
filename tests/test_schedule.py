"""When syncs are due: by table for the nights that matter, by property for every zone there is."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.schedule import Daily, Interval, Manual, first_due, next_due

NEW_YORK = Daily(time(1), "America/New_York")
HOURLY = Interval(timedelta(hours=1))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def following(schedule: Daily | Interval, due: datetime, now: datetime) -> datetime:
    """next_due of a schedule that always has one."""
    following = next_due(schedule, due, now)
    assert following is not None
    return following


def chain(daily: Daily, start: datetime, count: int) -> list[datetime]:
    """The first `count` times a sync is due that is enabled at `start` and started on time."""
    due = first_due(daily, start)
    assert due is not None
    dues = [due]
    while len(dues) < count:
        dues.append(following(daily, dues[-1], dues[-1]))
    return dues


@pytest.mark.parametrize(
    ("at", "zone", "start", "expected"),
    [
        pytest.param(
            "01:00",
            "America/New_York",
            "2026-10-31T12:00",
            ["2026-11-01T05:00", "2026-11-02T06:00", "2026-11-03T06:00"],
            id="the autumn night with two 01:00s: the first, once",
        ),
        pytest.param(
            "01:00",
            "America/New_York",
            "2026-03-07T12:00",
            ["2026-03-08T06:00", "2026-03-09T05:00", "2026-03-10T05:00"],
            id="01:00 on the spring night is before the gap",
        ),
        pytest.param(
            "02:30",
            "America/New_York",
            "2026-03-07T12:00",
            ["2026-03-08T07:00", "2026-03-09T06:30", "2026-03-10T06:30"],
            id="a time inside the gap: at its end, 03:00",
        ),
        pytest.param(
            "02:00",
            "America/New_York",
            "2026-03-07T12:00",
            ["2026-03-08T07:00", "2026-03-09T06:00"],
            id="the first time inside the gap",
        ),
        pytest.param(
            "03:00",
            "America/New_York",
            "2026-03-07T12:00",
            ["2026-03-08T07:00", "2026-03-09T07:00"],
            id="the first time after the gap",
        ),
        pytest.param(
            "02:15",
            "Australia/Lord_Howe",
            "2026-10-03T00:00",
            ["2026-10-03T15:30", "2026-10-04T15:15"],
            id="a gap of thirty minutes",
        ),
        pytest.param(
            "01:45",
            "Australia/Lord_Howe",
            "2026-04-03T15:00",
            ["2026-04-04T14:45", "2026-04-05T15:15"],
            id="thirty minutes twice",
        ),
        pytest.param(
            "01:00",
            "Pacific/Apia",
            "2011-12-28T12:00",
            ["2011-12-29T11:00", "2011-12-30T11:00", "2011-12-31T11:00"],
            id="a date the zone skipped has no run, the dates beside it one each",
        ),
        pytest.param(
            "00:00",
            "Pacific/Apia",
            "2011-12-28T12:00",
            ["2011-12-29T10:00", "2011-12-30T10:00", "2011-12-31T10:00"],
            id="a skipped date, at midnight",
        ),
        pytest.param(
            "23:30",
            "America/Nuuk",
            "2026-03-27T12:00",
            ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"],
            id="a gap that reaches midnight: the date it cut short runs at its end",
        ),
        pytest.param(
            "00:30",
            "America/Havana",
            "2026-03-07T12:00",
            ["2026-03-08T05:00", "2026-03-09T04:30"],
            id="a gap that begins at midnight",
        ),
        pytest.param(
            "00:30",
            "America/Havana",
            "2026-10-31T12:00",
            ["2026-11-01T04:30", "2026-11-02T05:30"],
            id="midnight twice",
        ),
        pytest.param(
            "13:45:30",
            "Asia/Kathmandu",
            "2026-11-22T08:00",
            ["2026-11-22T08:00:30", "2026-11-23T08:00:30"],
            id="an offset of 05:45, to the second",
        ),
        pytest.param(
            "06:00",
            "UTC",
            "2026-11-22T06:00",
            ["2026-11-23T06:00", "2026-11-24T06:00"],
            id="due is after now, not at it",
        ),
    ],
)
def test_a_daily_sync_is_due_once_per_local_date(at, zone, start, expected):
    dues = chain(Daily(time.fromisoformat(at), zone), utc(start), len(expected))

    assert [utc(due) for due in expected] == dues


@pytest.mark.parametrize(
    ("due", "now", "expected"),
    [
        pytest.param("2026-11-01T05:00", "2026-11-01T05:04", "2026-11-02T06:00", id="a late timer"),
        pytest.param("2026-11-01T05:00", "2026-11-01T04:56", "2026-11-02T06:00", id="a clock that is behind"),
        pytest.param("2026-11-01T05:00", "2026-11-01T06:00", "2026-11-02T06:00", id="at the second 01:00"),
        pytest.param("2026-11-01T05:00", "2026-11-02T05:59", "2026-11-02T06:00", id="an outage until just before"),
        pytest.param("2026-11-01T05:00", "2026-11-02T06:00", "2026-11-03T06:00", id="an outage until the next one"),
        pytest.param("2026-11-01T05:00", "2026-11-12T17:00", "2026-11-13T06:00", id="eleven missed runs become one"),
    ],
)
def test_missed_daily_runs_collapse_into_the_one_that_is_started(due, now, expected):
    assert utc(expected) == next_due(NEW_YORK, utc(due), utc(now))


@pytest.mark.parametrize(
    ("due", "now", "expected"),
    [
        pytest.param("2026-11-22T06:00", "2026-11-22T06:00", "2026-11-22T07:00", id="on time"),
        pytest.param("2026-11-22T06:00", "2026-11-22T06:03", "2026-11-22T07:00", id="late, the rhythm stays"),
        pytest.param("2026-11-22T06:00", "2026-11-22T05:55", "2026-11-22T07:00", id="a clock that is behind"),
        pytest.param("2026-11-22T06:00", "2026-11-22T04:00", "2026-11-22T07:00", id="a clock that is far behind"),
        pytest.param("2026-11-22T06:00", "2026-11-22T07:00", "2026-11-22T08:00", id="at the next one"),
        pytest.param("2026-11-22T06:00", "2026-11-24T06:59:59", "2026-11-24T07:00", id="48 missed runs become one"),
    ],
)
def test_an_interval_keeps_its_rhythm(due, now, expected):
    assert utc(expected) == next_due(HOURLY, utc(due), utc(now))


def test_an_interval_begins_at_once():
    now = utc("2026-11-22T06:07:08")

    assert now == first_due(HOURLY, now)


def test_a_manual_sync_is_never_due():
    now = utc("2026-11-22T06:00")

    assert first_due(Manual(), now) is None
    assert next_due(Manual(), now, now) is None


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        pytest.param(HOURLY, "2026-11-22T06:30", id="an interval begins later"),
        pytest.param(NEW_YORK, "2026-11-23T06:00", id="a daily time within the offset is passed over"),
    ],
)
def test_an_offset_delays_the_first_run(schedule, expected):
    assert utc(expected) == first_due(schedule, utc("2026-11-22T05:30"), offset=timedelta(hours=1))


def test_an_unknown_zone_is_an_error():
    with pytest.raises(ZoneInfoNotFoundError):
        first_due(Daily(time(1), "Mars/Olympus_Mons"), utc("2026-11-22T06:00"))


ZONES = st.sampled_from(sorted(available_timezones()))
# At second 0, because the oracle reads the clock once a minute.
TIMES = st.builds(time, st.integers(0, 23), st.integers(0, 59)) | st.sampled_from([time(0), time(2), time(23, 59)])
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
INSTANTS = st.datetimes(datetime(1975, 1, 1), datetime(2100, 1, 1), timezones=OFFSETS)  # noqa: DTZ001 - aware by OFFSETS


@st.composite
def eventful_days(draw, zone_name):
    """A day on which the zone changes its offset, in a year that has one; else any day."""
    year = draw(st.integers(1975, 2037))
    zone = ZoneInfo(zone_name)
    days = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(365)]
    offsets = [day.astimezone(zone).utcoffset() for day in days]
    changes = [day for day, (before, after) in zip(days, pairwise(offsets), strict=False) if before != after]
    return draw(st.sampled_from(changes or days))


def read_the_clock(daily: Daily, start: datetime, end: datetime) -> list[datetime]:
    """The oracle: look at a local clock every minute, and note when it first shows `at` or later for each date seen."""
    zone = ZoneInfo(daily.time_zone)
    dues: dict[date, datetime] = {}
    seen: set[date] = set()
    for minute in range(int((end - start) / timedelta(minutes=1)) + 1):
        instant = start + timedelta(minutes=minute)
        wall = instant.astimezone(zone).replace(tzinfo=None)
        seen.add(wall.date())
        for day in seen - dues.keys():
            if wall >= datetime.combine(day, daily.at):
                dues[day] = instant
    return sorted(dues.values())


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_daily_dues_are_what_a_clock_on_the_wall_shows(data):
    daily = Daily(data.draw(TIMES), data.draw(ZONES))
    middle = data.draw(eventful_days(daily.time_zone))
    start, end = middle - timedelta(days=1, hours=12), middle + timedelta(days=2)
    expected = [due for due in read_the_clock(daily, start - timedelta(days=2), end) if due > start]

    assert expected == chain(daily, start, len(expected))


@settings(deadline=None)
@given(st.builds(Daily, st.times(), ZONES), INSTANTS, INSTANTS)
def test_a_daily_due_does_not_depend_on_how_long_the_worker_was_away(daily, due, now):
    later = max(due, now)
    again = following(daily, due, now)

    assert first_due(daily, later) == again
    assert timedelta(0) < again - later <= timedelta(days=2)
    assert again.tzinfo is UTC


@settings(deadline=None)
@given(st.builds(Daily, st.times(), ZONES), INSTANTS)
def test_daily_dues_are_a_day_apart_but_for_the_clock_changes(daily, start):
    dues = chain(daily, start, 30)

    assert all(timedelta(hours=12) < after - before <= timedelta(hours=36) for before, after in pairwise(dues))
    zone = ZoneInfo(daily.time_zone)
    for due in dues:
        wall = due.astimezone(zone)
        jumped = (due - timedelta(microseconds=1)).astimezone(zone).utcoffset() != wall.utcoffset()
        assert wall.time() == daily.at or jumped


@given(st.timedeltas(timedelta(minutes=1), timedelta(days=400)), INSTANTS, INSTANTS)
def test_the_next_interval_is_the_nearest_on_its_rhythm(every, due, now):
    again = following(Interval(every), due, now)

    assert not (again - due) % every
    assert timedelta(0) < again - max(due, now) <= every
    assert again.tzinfo is UTC


@given(st.timedeltas(timedelta(0), timedelta(days=2)), INSTANTS)
def test_an_interval_begins_after_its_offset(offset, now):
    begins = first_due(HOURLY, now, offset=offset)

    assert begins is not None
    assert now + offset == begins
    assert begins.tzinfo is UTC
