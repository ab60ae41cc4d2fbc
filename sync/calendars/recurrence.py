"""Series: what makes a pattern and a range valid, when their occurrences are, and how Graph gets to see them.

A recurrence is a mapping of `pattern` and `range` in Graph's own form (Learn: recurrencePattern, recurrenceRange).
Every time of an occurrence is a wall clock's in the zone of the series, so it keeps its hour when the clocks change.
"""

from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from itertools import islice
from typing import Any, Literal

from dateutil.rrule import DAILY, MONTHLY, WEEKLY, YEARLY, rrule

from sync.calendars.model import Times
from sync.calendars.zones import to_utc, to_wall, windows

Recurrence = Mapping[str, Any]
Fault = tuple[str, str]
"""A JSON pointer into the recurrence, and what is wrong there."""

MAX_OCCURRENCES = 1000
MAX_SPAN = timedelta(days=5 * 366)
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_INDEXES = {"first": 1, "second": 2, "third": 3, "fourth": 4, "last": -1}
# Which fields a pattern of each type has, besides its interval. Others must be absent or neutral.
_PATTERN = {
    "daily": (),
    "weekly": ("daysOfWeek", "firstDayOfWeek"),
    "absoluteMonthly": ("dayOfMonth",),
    "relativeMonthly": ("daysOfWeek", "index"),
    "absoluteYearly": ("dayOfMonth", "month"),
    "relativeYearly": ("daysOfWeek", "index", "month"),
}
_FREQUENCIES: Mapping[str, Literal[0, 1, 2, 3]] = {
    "daily": DAILY,
    "weekly": WEEKLY,
    "absoluteMonthly": MONTHLY,
    "relativeMonthly": MONTHLY,
    "absoluteYearly": YEARLY,
    "relativeYearly": YEARLY,
}
_RANGE = {"endDate": ("endDate",), "noEnd": (), "numbered": ("numberOfOccurrences",)}


def render(recurrence: Recurrence, zone: str) -> dict[str, Any]:
    """The pattern and range for Graph: the fields of their types alone, for it refuses others."""
    pattern, span = recurrence["pattern"], recurrence["range"]
    names = ("type", "interval", *_PATTERN[pattern["type"]])
    return {
        "pattern": {name: pattern[name] for name in names if name in pattern},
        "range": {name: span[name] for name in ("type", "startDate", *_RANGE[span["type"]])}
        | {"recurrenceTimeZone": windows(zone)},
    }


def occurrences(recurrence: Recurrence, times: Times, since: datetime, until: datetime, limit: int) -> list[Times]:
    """The first `limit` occurrences of a valid series that overlap with the time from `since` to `until`.

    `times` is the first occurrence: it gives the zone, the hour and the length.
    """
    wanted = Times(since, until, times.zone)
    return list(islice((each for each in _expand(recurrence, times, until) if each.overlaps(wanted)), limit))


def end_of_series(recurrence: Recurrence, times: Times) -> datetime | None:
    """When the last occurrence of a valid series ends; None where there is no last one."""
    if recurrence["range"]["type"] == "noEnd":
        return None
    return max(each.end for each in _expand(recurrence, times))


def _expand(recurrence: Recurrence, times: Times, until: datetime | None = None) -> Iterator[Times]:
    """The occurrences, oldest first, as far as they begin before `until`."""
    for start in _rule(recurrence, to_wall(times.start, times.zone)):
        each = _occurrence(times, start)
        if until is not None and each.start >= until:
            return
        yield each


def _occurrence(times: Times, start: datetime) -> Times:
    if times.first and times.last:
        return Times.days(start.date(), start.date() + (times.last - times.first), times.zone)
    length = to_wall(times.end, times.zone) - to_wall(times.start, times.zone)
    begin, end = to_utc(start, times.zone), to_utc(start + length, times.zone)
    # Where the clocks skip the start alone, the end can come to lie before it.
    return Times(begin, end if end > begin else begin + length, times.zone)


def _rule(recurrence: Recurrence, first: datetime) -> rrule:
    """The pattern as a rule of RFC 5545. `first` is the wall clock's time of the first occurrence."""
    pattern, span = recurrence["pattern"], recurrence["range"]
    options: dict[str, Any] = {"interval": pattern["interval"]}
    days = [DAYS.index(day) for day in pattern.get("daysOfWeek", ())]
    kind = pattern["type"]
    if kind == "weekly":
        # Which days make up a week matters where not every week counts (Learn: firstDayOfWeek is Sunday unless given).
        options |= {"byweekday": days, "wkst": DAYS.index(pattern.get("firstDayOfWeek", "sunday"))}
    elif kind.startswith("relative"):
        options |= {"byweekday": days, "bysetpos": _INDEXES[pattern.get("index", "first")]}
    elif kind.startswith("absolute"):
        # In a month without that day it is the last one (Learn: AbsoluteMonthlyRecurrence, DayOfMonth).
        day = pattern["dayOfMonth"]
        options |= {"bymonthday": range(min(day, 28), day + 1), "bysetpos": -1}
    if kind.endswith("Yearly"):
        options["bymonth"] = pattern["month"]
    if span["type"] == "numbered":
        options["count"] = span["numberOfOccurrences"]
    elif span["type"] == "endDate":
        options["until"] = datetime.combine(date.fromisoformat(span["endDate"]), time.max)
    return rrule(_FREQUENCIES[kind], dtstart=first, **options)
