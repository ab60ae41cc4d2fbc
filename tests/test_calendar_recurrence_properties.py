"""Series: what Graph is told of them, and what holds for whatever pattern there is."""

from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sync.calendars.model import Times
from sync.calendars.recurrence import DAYS, occurrences, parse, reduced, render, validate
from sync.calendars.zones import is_plain, to_wall
from tests.recurrences import BERLIN, MONDAY, NEUTRAL, NEUTRAL_RANGE, NEW_YORK, meeting, series

# All fields of each type, as Graph refuses any other.
FIELDS = {
    "daily": {"type", "interval"},
    "weekly": {"type", "interval", "daysOfWeek", "firstDayOfWeek"},
    "absoluteMonthly": {"type", "interval", "dayOfMonth"},
    "relativeMonthly": {"type", "interval", "daysOfWeek", "index"},
    "absoluteYearly": {"type", "interval", "dayOfMonth", "month"},
    "relativeYearly": {"type", "interval", "daysOfWeek", "index", "month"},
    "noEnd": {"type", "startDate", "recurrenceTimeZone"},
    "endDate": {"type", "startDate", "recurrenceTimeZone", "endDate"},
    "numbered": {"type", "startDate", "recurrenceTimeZone", "numberOfOccurrences"},
}
indexes = st.sampled_from(["first", "second", "third", "fourth", "last"])
intervals = st.integers(1, 99)
day_lists = st.lists(st.sampled_from(DAYS), min_size=1, unique=True)
patterns = st.one_of(
    st.fixed_dictionaries({"type": st.just("daily"), "interval": intervals}),
    st.fixed_dictionaries(
        {
            "type": st.just("weekly"),
            "interval": intervals,
            "daysOfWeek": day_lists,
            "firstDayOfWeek": st.sampled_from(DAYS),
        }
    ),
    st.fixed_dictionaries(
        {"type": st.just("absoluteMonthly"), "interval": intervals, "dayOfMonth": st.integers(1, 31)}
    ),
    st.fixed_dictionaries(
        {"type": st.just("relativeMonthly"), "interval": intervals, "daysOfWeek": day_lists, "index": indexes}
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("absoluteYearly"),
            "interval": intervals,
            "dayOfMonth": st.integers(1, 31),
            "month": st.integers(1, 12),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("relativeYearly"),
            "interval": intervals,
            "daysOfWeek": day_lists,
            "index": indexes,
            "month": st.integers(1, 12),
        }
    ),
)
starts = st.dates(date(2020, 1, 1), date(2035, 12, 31))
ranges = st.one_of(
    st.fixed_dictionaries({"type": st.just("noEnd"), "startDate": starts.map(str)}),
    st.fixed_dictionaries({"type": st.just("endDate"), "startDate": starts.map(str), "endDate": starts.map(str)}),
    st.fixed_dictionaries(
        {"type": st.just("numbered"), "startDate": starts.map(str), "numberOfOccurrences": st.integers(1, 999)}
    ),
)
odd: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 10**30, 1.5, float("nan"), "", "daily", "half\ud83d", [], [None], [[]], {}, {"type": 1}]
)


@given(patterns, ranges)
def test_render_holds_the_fields_of_its_type(pattern: dict[str, Any], span: dict[str, Any]) -> None:
    """Whatever neutral values came along, Graph gets the fields of the types alone, and the Windows name of the zone."""
    rendered = render({"pattern": NEUTRAL | pattern, "range": NEUTRAL_RANGE | span}, BERLIN)

    assert set(rendered["pattern"]) == FIELDS[pattern["type"]]
    assert set(rendered["range"]) == FIELDS[span["type"]]
    assert rendered["range"]["recurrenceTimeZone"] == "W. Europe Standard Time"


@given(patterns, ranges)
def test_what_is_rendered_is_read_back(pattern: dict[str, Any], span: dict[str, Any]) -> None:
    """Graph's answer, which fills in neutral values, reads as what was sent."""
    sent = render({"pattern": pattern, "range": span}, BERLIN)
    answer = {"pattern": NEUTRAL | sent["pattern"], "range": NEUTRAL_RANGE | sent["range"]}

    assert parse(answer) == sent
    assert reduced(sent) == sent


@given(
    patterns,
    ranges,
    st.sampled_from(["pattern", "range"]),
    st.sampled_from([*NEUTRAL, *NEUTRAL_RANGE, "type", ""]),
    odd,
)
def test_no_json_is_too_odd(pattern: dict[str, Any], span: dict[str, Any], part: str, name: str, value: Any) -> None:
    """Whatever stands in whichever place, the answer is a list of faults, and empty only for what can be read."""
    recurrence = {"pattern": pattern, "range": span}
    recurrence[part] = {**recurrence[part], name: value} if name else value
    faults = validate(recurrence, MONDAY)

    assert all(pointer.startswith(("/recurrence/", "/end")) for pointer, _ in faults)
    assert faults or parse(recurrence) is not None


@given(
    patterns,
    starts,
    st.times().map(lambda at: at.replace(microsecond=0)),
    st.integers(0, 23 * 60),
    st.sampled_from([NEW_YORK, BERLIN, "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]),
)
def test_occurrences_keep_their_hour(pattern: dict[str, Any], day: date, at: Any, minutes: int, zone: str) -> None:
    """In order, and at the wall clock's time of the first one on every day that has that time once."""
    times = meeting(datetime.combine(day, at).isoformat(), zone, minutes)
    first = to_wall(times.start, zone)
    found = occurrences(series(pattern, day.isoformat()), times, times.start, times.start + timedelta(days=800), 60)

    assert all(earlier.start < later.start for earlier, later in pairwise(found))
    for each in found:
        wall = to_wall(each.start, zone)
        assert wall.time() == first.time() or not is_plain(datetime.combine(wall.date(), first.time()), zone)
        assert each.end >= each.start
        assert each.zone == zone


@given(patterns, starts, st.integers(1, 40))
def test_a_numbered_series_has_that_many(pattern: dict[str, Any], day: date, count: int) -> None:
    """Where the first occurrence is the start, as must be, the number counts it; an end date at the last one is as good."""
    times = meeting(f"{day.isoformat()}T09:00")
    recurrence = series({**pattern, "interval": 1}, day.isoformat(), numberOfOccurrences=count)
    far = times.start + timedelta(days=45 * 366)
    found = occurrences(recurrence, times, times.start, far, 999)

    assert len(found) == count
    last = to_wall(found[-1].start, NEW_YORK).date().isoformat()
    assert (
        occurrences(series({**pattern, "interval": 1}, day.isoformat(), endDate=last), times, times.start, far, 999)
        == found
    )


@given(patterns, starts, st.integers(0, 4000), st.integers(0, 3 * 1440), st.integers(0, 2 * 366))
def test_a_late_window_shows_what_the_whole_series_has_there(
    pattern: dict[str, Any], day: date, later: int, minutes: int, last: int
) -> None:
    """However long a series has gone on before the window, there it falls on the same days as counted from its start."""
    times = meeting(f"{day.isoformat()}T09:00", minutes=minutes)
    since = times.start + timedelta(days=later)
    until = since + timedelta(days=60)
    end = (day + timedelta(days=later + last)).isoformat()
    for recurrence in (series(pattern, day.isoformat()), series(pattern, day.isoformat(), endDate=end)):
        whole = occurrences(recurrence, times, times.start, until, 9999)

        wanted = Times(since, until, NEW_YORK)
        assert occurrences(recurrence, times, since, until, 999) == [each for each in whole if each.overlaps(wanted)]
