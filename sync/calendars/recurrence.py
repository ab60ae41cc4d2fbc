"""Series: what makes a pattern and a range valid, when their occurrences are, and how Graph gets to see them.

A recurrence is a mapping of `pattern` and `range` in Graph's own form (Learn: recurrencePattern, recurrenceRange).
An occurrence keeps the hour that the wall clock shows in the zone of the series, whatever the clocks do.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise
from typing import Any, Literal

from dateutil.rrule import DAILY, MONTHLY, WEEKLY, YEARLY, rrule

from sync.calendars.model import Times
from sync.calendars.zones import iana, is_shared, to_utc, to_wall, windows
from sync.graph.protocol import whole_text

Recurrence = Mapping[str, Any]
Fault = tuple[str, str]
"""A JSON pointer into a reservation, and what must be there."""

MAX_OCCURRENCES = 999  # Outlook does not take more
MAX_SPAN = timedelta(days=5 * 366)
LONGEST_PAUSE = timedelta(
    weeks=100
)  # between two occurrences of a daily or weekly series, whose interval is 99 at most
FAR = datetime(2200, 1, 1, tzinfo=UTC)  # nobody asks for anything later
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_INDEXES = {"first": 1, "second": 2, "third": 3, "fourth": 4, "last": -1}
_FREQUENCIES: Mapping[str, Literal[0, 1, 2, 3]] = {
    "daily": DAILY,
    "weekly": WEEKLY,
    "absoluteMonthly": MONTHLY,
    "relativeMonthly": MONTHLY,
    "absoluteYearly": YEARLY,
    "relativeYearly": YEARLY,
}
# Which fields the types have; Graph refuses any other. The first of a pattern's is the one that the start has to fit.
_FIELDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "pattern": {
        "daily": ("interval",),
        "weekly": ("daysOfWeek", "firstDayOfWeek", "interval"),
        "absoluteMonthly": ("dayOfMonth", "interval"),
        "relativeMonthly": ("daysOfWeek", "index", "interval"),
        "absoluteYearly": ("dayOfMonth", "month", "interval"),
        "relativeYearly": ("daysOfWeek", "index", "month", "interval"),
    },
    "range": {
        "endDate": ("startDate", "endDate", "recurrenceTimeZone"),
        "noEnd": ("startDate", "recurrenceTimeZone"),
        "numbered": ("startDate", "numberOfOccurrences", "recurrenceTimeZone"),
    },
}
_DEFAULTS = {"interval": 1, "firstDayOfWeek": "sunday", "index": "first"}
# What Graph's answers hold in a field that the type does not have. A firstDayOfWeek changes nothing there.
_NEUTRAL = {
    "daysOfWeek": [],
    "index": "first",
    "dayOfMonth": 0,
    "month": 0,
    "endDate": "0001-01-01",
    "numberOfOccurrences": 0,
}


# --- form ------------------------------------------------------------------------------------------------------------


def parse(raw: Recurrence) -> Recurrence | None:
    """A recurrence as Graph gives it, in our form; None for none, and for one of a kind that is not known here."""
    return None if _misshapen(raw) else reduced(raw)


def reduced(recurrence: Recurrence) -> dict[str, dict[str, Any]]:
    """A well-formed recurrence with the fields of its types alone, the left out ones at their defaults."""
    return {part: _reduced_part(recurrence[part], fields) for part, fields in _FIELDS.items()}


def _reduced_part(given: Mapping[str, Any], fields: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    values = {name: _value(given, name) for name in ("type", *fields[given["type"]])}
    return {name: value for name, value in values.items() if value is not None}


def render(recurrence: Recurrence, zone: str) -> dict[str, dict[str, Any]]:
    """A well-formed recurrence for Graph, in the IANA zone of its event."""
    ours = reduced(recurrence)
    return {"pattern": ours["pattern"], "range": ours["range"] | {"recurrenceTimeZone": windows(zone)}}


def _value(given: Mapping[str, Any], name: str) -> Any:
    """A field, null being as good as absent."""
    value = given.get(name)
    return _DEFAULTS.get(name) if value is None else value


def _misshapen(recurrence: Recurrence) -> list[Fault]:
    """What is no recurrence by its form alone."""
    return [fault for part in _FIELDS for fault in _misshapen_part(recurrence.get(part), part)]


def _misshapen_part(given: Any, part: str) -> Iterator[Fault]:
    types = _FIELDS[part]
    kind = given.get("type") if isinstance(given, Mapping) else None
    if not isinstance(kind, str) or kind not in types:
        yield f"/recurrence/{part}/type", f"must be one of {', '.join(types)}"
        return
    for name in types[kind]:
        fits, text = _CHECKS[name]
        if not fits(_value(given, name)):
            yield f"/recurrence/{part}/{name}", text


def _whole(least: int, most: int) -> tuple[Callable[[Any], bool], str]:
    def fits(value: Any) -> bool:
        return type(value) is int and least <= value <= most

    return fits, f"must be a whole number from {least} to {most}"


def _one_of(names: tuple[str, ...]) -> tuple[Callable[[Any], bool], str]:
    return lambda value: isinstance(value, str) and value in names, f"must be one of {', '.join(names)}"


def _are_days(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(day in DAYS for day in value)


def _is_date(value: Any) -> bool:
    if not isinstance(value, str) or len(value) != len("2026-01-31"):
        return False
    try:
        return date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


def _is_name(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value == whole_text(value))


_DATE = (_is_date, "must be a date such as 2026-01-31")
_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "interval": _whole(1, 99),
    "daysOfWeek": (_are_days, f"must hold one or more of {', '.join(DAYS)}"),
    "firstDayOfWeek": _one_of(DAYS),
    "index": _one_of(tuple(_INDEXES)),
    "dayOfMonth": _whole(1, 31),
    "month": _whole(1, 12),
    "startDate": _DATE,
    "endDate": _DATE,
    "numberOfOccurrences": _whole(1, MAX_OCCURRENCES),
    "recurrenceTimeZone": (_is_name, "must be the name of a time zone"),
}


# --- sense -----------------------------------------------------------------------------------------------------------


def validate(recurrence: Recurrence, times: Times) -> list[Fault]:
    """Everything that is wrong with a recurrence of a reservation whose first occurrence is at `times`."""
    if faults := _misshapen(recurrence) or _foreign(recurrence):
        return faults
    ours = reduced(recurrence)
    return _range_faults(ours["range"], times) or _occurrence_faults(ours, times)


def _foreign(recurrence: Recurrence) -> list[Fault]:
    """Fields that mean something, and not in this type: whoever gave them expects them to count."""
    return [
        (f"/recurrence/{part}/{name}", f"must be left out of the type {recurrence[part]['type']}")
        for part, fields in _FIELDS.items()
        for name, neutral in _NEUTRAL.items()
        if name not in fields[recurrence[part]["type"]] and recurrence[part].get(name) not in (None, neutral)
    ]


def _range_faults(span: Mapping[str, Any], times: Times) -> list[Fault]:
    faults = []
    start = _first_day(times)
    if span["startDate"] != start.isoformat():
        faults.append(("/recurrence/range/startDate", "must be the date of the start"))
    if span["type"] == "endDate" and not start <= date.fromisoformat(span["endDate"]) <= start + MAX_SPAN:
        faults.append(("/recurrence/range/endDate", "must be from the start to five years after it"))
    if "recurrenceTimeZone" in span and not _same_zone(span["recurrenceTimeZone"], times.zone):
        faults.append(("/recurrence/range/recurrenceTimeZone", "must be the time zone of the start"))
    return faults


def _first_day(times: Times) -> date:
    return times.first or to_wall(times.start, times.zone).date()


def _same_zone(name: str, zone: str) -> bool:
    found = iana(name)
    return found is not None and (found == zone or windows(found) == windows(zone))


def _occurrence_faults(recurrence: Recurrence, times: Times) -> list[Fault]:
    pattern, span = recurrence["pattern"], recurrence["range"]
    found = list(islice(_expand(recurrence, times, times.start, times.start + MAX_SPAN), MAX_OCCURRENCES + 1))
    if not found or found[0].start != times.start:
        wrong_month = pattern.get("month", _first_day(times).month) != _first_day(times).month
        aim = "month" if wrong_month else _FIELDS["pattern"][pattern["type"]][0]
        return [(f"/recurrence/pattern/{aim}", "must fit the start, which is the first occurrence")]
    if span["type"] == "endDate" and len(found) > MAX_OCCURRENCES:
        return [("/recurrence/range/endDate", f"must give no more than {MAX_OCCURRENCES} occurrences")]
    if span["type"] == "numbered" and len(found) < span["numberOfOccurrences"]:
        return [("/recurrence/range/numberOfOccurrences", "must not reach further than five years")]
    if any(later.start < earlier.end for earlier, later in pairwise(found)):
        return [("/end", "must lie before the next occurrence begins")]
    if not all(is_shared(each.start, times.zone) for each in found):
        return [("/start/timeZone", "must be a time zone that Windows has too, so that a series keeps its hours")]
    return []


# --- time ------------------------------------------------------------------------------------------------------------


def occurrences(recurrence: Recurrence, times: Times, since: datetime, until: datetime, limit: int) -> list[Times]:
    """The first `limit` occurrences of a valid series that overlap with the time from `since` to `until`.

    `times` is the first occurrence: it gives the zone, the hour and the length.
    """
    wanted = Times(since, until, times.zone)
    return list(islice((each for each in _expand(recurrence, times, since, until) if each.overlaps(wanted)), limit))


def end_of_series(recurrence: Recurrence, times: Times) -> datetime | None:
    """When the last occurrence of a valid series ends, or the last before FAR; None where there is no last one."""
    span = recurrence["range"]
    if span["type"] == "noEnd":
        return None
    since = times.start
    if span["type"] == "endDate":
        last = min(datetime.combine(date.fromisoformat(span["endDate"]), time(), UTC), FAR)
        since = max(last, times.start) - LONGEST_PAUSE
    return max((each.end for each in _expand(recurrence, times, since, FAR)), default=times.end)


def _expand(recurrence: Recurrence, times: Times, since: datetime, until: datetime) -> Iterator[Times]:
    """The occurrences that begin before `until`, oldest first; those that end before `since` may be left out."""
    ours = reduced(recurrence)
    before = to_wall(since, times.zone) - (times.end - times.start) - timedelta(days=2)
    for start in _rule(ours, _skip(ours, to_wall(times.start, times.zone), before)):
        each = _occurrence(times, start)
        if each.start >= until:
            return
        yield each


def _skip(recurrence: Recurrence, first: datetime, before: datetime) -> datetime:
    """The last wall clock's time up to `before` from which a rule goes on as it would from `first`; `first` itself where it
    counts from there, or has little to count.
    """
    pattern = recurrence["pattern"]
    days = {"daily": 1, "weekly": 7}.get(pattern["type"])
    if days is None or recurrence["range"]["type"] == "numbered":
        return first
    step = days * pattern["interval"]
    return first + timedelta(days=max((before - first).days // step, 0) * step)


def _occurrence(times: Times, start: datetime) -> Times:
    if times.first and times.last:
        return Times.days(start.date(), start.date() + (times.last - times.first), times.zone)
    length = to_wall(times.end, times.zone) - to_wall(times.start, times.zone)
    begin, end = to_utc(start, times.zone), to_utc(start + length, times.zone)
    # Where the clocks skip the start alone, the end can come to lie before it.
    return Times(begin, end if end > begin else begin + (times.end - times.start), times.zone)


def _rule(recurrence: Recurrence, first: datetime) -> rrule:
    """The pattern as a rule of RFC 5545. `first` is the wall clock's time of the first occurrence."""
    pattern, span = recurrence["pattern"], recurrence["range"]
    options: dict[str, Any] = {"interval": pattern["interval"]}
    if "firstDayOfWeek" in pattern:
        options["wkst"] = DAYS.index(pattern["firstDayOfWeek"])
    if "daysOfWeek" in pattern:
        options["byweekday"] = [DAYS.index(day) for day in pattern["daysOfWeek"]]
    if "index" in pattern:
        options["bysetpos"] = _INDEXES[pattern["index"]]
    if "dayOfMonth" in pattern:
        # In a month without that day it is the last one (Learn: AbsoluteMonthlyRecurrence, DayOfMonth).
        day = pattern["dayOfMonth"]
        options |= {"bymonthday": range(min(day, 28), day + 1), "bysetpos": -1}
    if "month" in pattern:
        options["bymonth"] = pattern["month"]
    if span["type"] == "numbered":
        options["count"] = span["numberOfOccurrences"]
    elif span["type"] == "endDate":
        options["until"] = datetime.combine(date.fromisoformat(span["endDate"]), time.max)
    return rrule(_FREQUENCIES[pattern["type"]], dtstart=first, **options)
