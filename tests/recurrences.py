"""Recurrences as Graph and the portal write them, and when their meetings begin."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sync.calendars.model import Times
from sync.calendars.recurrence import occurrences
from sync.calendars.zones import to_utc, to_wall

NEW_YORK, BERLIN = "America/New_York", "Europe/Berlin"
# What Graph's answers hold where the type has no such field.
NEUTRAL = {"month": 0, "dayOfMonth": 0, "daysOfWeek": [], "firstDayOfWeek": "sunday", "index": "first"}
NEUTRAL_RANGE = {"endDate": "0001-01-01", "numberOfOccurrences": 0, "recurrenceTimeZone": ""}


def meeting(start: str, zone: str = NEW_YORK, minutes: int = 60) -> Times:
    begin = to_utc(datetime.fromisoformat(start), zone)
    return Times(begin, begin + timedelta(minutes=minutes), zone)


def series(pattern: Mapping[str, Any], start: str, **span: Any) -> dict[str, Any]:
    """A recurrence from the day `start`; without an end unless it is given one."""
    kind = "numbered" if "numberOfOccurrences" in span else "endDate" if "endDate" in span else "noEnd"
    return {"pattern": {"interval": 1, **pattern}, "range": {"type": kind, "startDate": start[:10], **span}}


def days(recurrence: Mapping[str, Any], times: Times, count: int) -> list[str]:
    """The dates of the first occurrences where they are."""
    found = occurrences(recurrence, times, times.start, times.start + timedelta(days=3000), count)
    return [to_wall(each.start, each.zone).date().isoformat() for each in found]


MONDAY = meeting("2026-01-05T09:00")
