"""When a series happens (Learn: recurrencePattern and recurrenceRange resource types)."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import count
from typing import Any, Literal

from dateutil.rrule import DAILY, MONTHLY, WEEKLY, YEARLY, rrule

from local.cloud.exchange.enums import canonical
from local.cloud.exchange.zones import UnknownZone, When, own_zone, zone

Properties = dict[str, Any]

DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
INDEXES = {"first": 1, "second": 2, "third": 3, "fourth": 4, "last": -1}
PATTERN_DEFAULTS: Properties = {
    "interval": 1,
    "month": 0,
    "dayOfMonth": 0,
    "daysOfWeek": [],
    "firstDayOfWeek": "sunday",
    "index": "first",
}
NEEDED = {
    "daily": set[str](),
    "weekly": {"daysOfWeek"},
    "absoluteMonthly": {"dayOfMonth"},
    "relativeMonthly": {"daysOfWeek"},
    "absoluteYearly": {"dayOfMonth", "month"},
    "relativeYearly": {"daysOfWeek", "month"},
}
ALLOWED = {
    "weekly": {"firstDayOfWeek"},
    "relativeMonthly": {"index", "firstDayOfWeek"},
    "relativeYearly": {"index", "firstDayOfWeek"},
}
NO_DATE = "0001-01-01"
RANGES = {"endDate": {"endDate"}, "noEnd": set[str](), "numbered": {"numberOfOccurrences"}}
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


class InvalidRecurrence(ValueError):
    """Says what is wrong with a recurrence."""


def read_recurrence(given: Any, when: When) -> tuple[Properties, When]:
    """A recurrence with all its properties, and when its first occurrence is, or InvalidRecurrence. `when` is the event
    that it is given to; where the pattern leaves that day out, the series starts on the first one that it has."""
    if not isinstance(given, dict) or set(given) - {"pattern", "range"}:
        raise InvalidRecurrence("A recurrence has a pattern and a range.")
    pattern, span = _pattern(given.get("pattern")), _range(given.get("range"), when)
    first = next(slots({"pattern": pattern, "range": span}, when), None)
    if first is None:
        raise InvalidRecurrence("The series has no occurrence.")
    span["startDate"] = _wall(first.start, _zone_name(span, when)).date().isoformat()
    return {"pattern": pattern, "range": span}, first


def shifted(recurrence: Properties, when: When) -> tuple[Properties, When]:
    """The same pattern from the day of `when` on."""
    span = recurrence["range"]
    day = _wall(when.start, _zone_name(span, when)).date().isoformat()
    return read_recurrence(recurrence | {"range": span | {"startDate": day}}, when)


def _pattern(given: Any) -> Properties:
    kind = canonical(given.get("type"), NEEDED) if isinstance(given, dict) else None
    if kind is None:
        raise InvalidRecurrence("The pattern has no known type.")
    if unknown := set(given) - set(PATTERN_DEFAULTS) - {"type"}:
        raise InvalidRecurrence(f"The pattern has an unknown property: {min(unknown)}.")
    pattern = PATTERN_DEFAULTS | {name: each for name, each in given.items() if each is not None} | {"type": kind}
    _check_pattern(pattern)
    stated = {name for name, value in pattern.items() if value != PATTERN_DEFAULTS.get(name, kind)}
    if foreign := stated - NEEDED[kind] - ALLOWED.get(kind, set()) - {"interval"}:
        raise InvalidRecurrence(f"The pattern {kind} does not have {min(foreign)}.")
    if missing := {name for name in NEEDED[kind] if not pattern[name]}:
        raise InvalidRecurrence(f"The pattern {kind} needs {min(missing)}.")
    return {"type": kind} | pattern


def _check_pattern(pattern: Properties) -> None:
    """Give the names in a pattern the letter case of their types; InvalidRecurrence for a value that it cannot have."""
    days = pattern["daysOfWeek"]
    pattern["daysOfWeek"] = [canonical(day, DAYS) for day in days] if isinstance(days, list) else [None]
    pattern["firstDayOfWeek"] = canonical(pattern["firstDayOfWeek"], DAYS)
    pattern["index"] = canonical(pattern["index"], INDEXES)
    if None in pattern["daysOfWeek"] or pattern["firstDayOfWeek"] is None:
        raise InvalidRecurrence("A day of the week is not known.")
    if pattern["index"] is None:
        raise InvalidRecurrence("The index is not known.")
    for name, least, most in (("interval", 1, 999), ("dayOfMonth", 0, 31), ("month", 0, 12)):
        if type(pattern[name]) is not int or not least <= pattern[name] <= most:
            raise InvalidRecurrence(f"The {name} is not between {least} and {most}.")


def _range(given: Any, when: When) -> Properties:
    kind = canonical(given.get("type"), RANGES) if isinstance(given, dict) else None
    if kind is None:
        raise InvalidRecurrence("The range has no known type.")
    span: Properties = {
        "type": kind,
        "startDate": given.get("startDate"),
        "endDate": NO_DATE,
        "recurrenceTimeZone": given.get("recurrenceTimeZone") or when.start_zone,
        "numberOfOccurrences": 0,
    }
    if unknown := set(given) - set(span):
        raise InvalidRecurrence(f"The range has an unknown property: {min(unknown)}.")
    try:
        zone(span["recurrenceTimeZone"])
    except UnknownZone as error:
        raise InvalidRecurrence("The time zone of the recurrence is not known.") from error
    for name in RANGES[kind]:
        if not given.get(name):
            raise InvalidRecurrence(f"The range {kind} needs {name}.")
        span[name] = given[name]
    if not _is_date(span["startDate"]) or not _is_date(span["endDate"]):
        raise InvalidRecurrence("A date of the range is not one.")
    if type(span["numberOfOccurrences"]) is not int or not 0 <= span["numberOfOccurrences"] <= 999:
        raise InvalidRecurrence("The numberOfOccurrences is not between 1 and 999.")
    if kind == "endDate" and span["endDate"] < span["startDate"]:
        raise InvalidRecurrence("The range ends before it starts.")
    if span["startDate"] != _wall(when.start, _zone_name(span, when)).date().isoformat():
        raise InvalidRecurrence("The startDate of the range is not the date of the event's start.")
    return span


def _is_date(text: Any) -> bool:
    if not isinstance(text, str) or not _DATE.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def slots(recurrence: Properties, when: When, until: datetime | None = None) -> Iterator[When]:
    """Every time at which the pattern puts an occurrence, oldest first, those before `until` where it is given.

    `when` gives the time of day and the length: the wall clock of the recurrence's time zone counts, so that an
    occurrence keeps its hour over a change of the clocks.
    """
    timetable = _timetable(json.dumps(recurrence), when)
    for number in count():
        each = timetable.at(number)
        if each is None or (until is not None and each.start >= until):
            return
        yield each


def slot_at(recurrence: Properties, when: When, start: datetime) -> When | None:
    """The occurrence that the pattern starts at that moment, None where there is none."""
    return _timetable(json.dumps(recurrence), when).starting(start)


class _Timetable:
    """The times of a series, worked out as far as anybody has asked for."""

    def __init__(self, recurrence: Properties, when: When) -> None:
        self._known: list[When] = []
        self._by_start: dict[datetime, When] = {}
        self._coming = _times(recurrence, when)

    def at(self, number: int) -> When | None:
        while len(self._known) <= number:
            if not self._extend():
                return None
        return self._known[number]

    def starting(self, start: datetime) -> When | None:
        while not self._known or self._known[-1].start < start:
            if not self._extend():
                break
        return self._by_start.get(start)

    def _extend(self) -> bool:
        following = next(self._coming, None)
        if following is None:
            return False
        self._known.append(following)
        self._by_start[following.start] = following
        return True


@lru_cache(maxsize=16384)
def _timetable(recurrence: str, when: When) -> _Timetable:
    return _Timetable(json.loads(recurrence), when)


def _times(recurrence: Properties, when: When) -> Iterator[When]:
    name = _zone_name(recurrence["range"], when)
    first = _wall(when.start, name)
    length = _wall(when.end, name) - first
    opening = datetime.combine(date.fromisoformat(recurrence["range"]["startDate"]), first.time())
    for start in _rule(recurrence, opening):
        yield When(_instant(start, name), _instant(start + length, name), when.start_zone, when.end_zone, when.all_day)


def _zone_name(span: Properties, when: When) -> str:
    """Whole days follow the days of their own zone, whatever the recurrence says."""
    return when.start_zone if when.all_day else span["recurrenceTimeZone"]


def _wall(at: datetime, zone_name: str) -> datetime:
    return at.astimezone(own_zone(zone_name)).replace(tzinfo=None)


def _instant(wall: datetime, zone_name: str) -> datetime:
    return wall.replace(tzinfo=own_zone(zone_name)).astimezone(UTC)


def _rule(recurrence: Properties, opening: datetime) -> rrule:
    pattern, span = recurrence["pattern"], recurrence["range"]
    options: dict[str, Any] = {"interval": pattern["interval"], "wkst": DAYS.index(pattern["firstDayOfWeek"])}
    days = [DAYS.index(day) for day in pattern["daysOfWeek"]]
    match pattern["type"]:
        case "daily":
            frequency: Literal[0, 1, 2, 3] = DAILY
        case "weekly":
            frequency, options["byweekday"] = WEEKLY, days
        case "absoluteMonthly" | "absoluteYearly":
            # A month without that day has the occurrence on its last one.
            day = pattern["dayOfMonth"]
            frequency = MONTHLY if pattern["type"] == "absoluteMonthly" else YEARLY
            options |= {"bymonthday": list(range(min(day, 28), day + 1)), "bysetpos": -1}
        case _:
            frequency = MONTHLY if pattern["type"] == "relativeMonthly" else YEARLY
            options |= {"byweekday": days, "bysetpos": INDEXES[pattern["index"]]}
    if frequency == YEARLY:
        options["bymonth"] = pattern["month"]
    if span["type"] == "numbered":
        options["count"] = span["numberOfOccurrences"]
    elif span["type"] == "endDate":
        options["until"] = datetime.combine(date.fromisoformat(span["endDate"]), time.max) - timedelta(microseconds=1)
    return rrule(frequency, dtstart=opening, **options)
