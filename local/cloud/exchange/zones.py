"""Times with the names of time zones, as Exchange reads and writes them (Learn: dateTimeTimeZone resource type)."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from tzlocal.windows_tz import tz_win, win_tz

UTC_NAME = "UTC"
CUSTOM = "tzone://Microsoft/Custom"
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?)?",
)


class UnknownZone(ValueError):
    """Exchange does not know a time zone of that name."""


class MalformedTime(ValueError):
    """That is not a date with a time."""


@dataclass(frozen=True)
class When:
    """From when to when, in UTC, with the names of the time zones that the two ends were given in.

    An event that takes whole days starts and ends at midnight of `start_zone`, its end excluded.
    """

    start: datetime
    end: datetime
    start_zone: str = UTC_NAME
    end_zone: str = UTC_NAME
    all_day: bool = False

    def overlaps(self, since: datetime, until: datetime) -> bool:
        """Whether the two have any moment in common; an event without length counts at its start."""
        return self.start < until and (self.end > since or self.start == self.end == since)

    def moved(self, by: timedelta) -> "When":
        return When(self.start + by, self.end + by, self.start_zone, self.end_zone, self.all_day)


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The time zone of a Windows or an IANA name, or UnknownZone."""
    if name in win_tz:
        return ZoneInfo(win_tz[name])
    if name in tz_win or name == UTC_NAME:
        return ZoneInfo(name)
    raise UnknownZone(name)


def own_zone(name: str) -> ZoneInfo:
    """The zone that an event keeps its wall clock in; a custom or empty name says nothing, so UTC."""
    return zone(name if name in win_tz or name in tz_win else UTC_NAME)


def windows_name(name: str) -> str:
    """How Exchange calls the zone once it has stored it: by its Windows name."""
    return name if name in win_tz else tz_win.get(name, name)


def supported() -> list[str]:
    return sorted(win_tz)


def read_time(given: Any) -> tuple[datetime, str]:
    """A {"dateTime","timeZone"} as UTC and the zone's name; MalformedTime or UnknownZone."""
    if not isinstance(given, dict) or not isinstance(given.get("dateTime"), str):
        raise MalformedTime(str(given))
    name = given.get("timeZone") or UTC_NAME
    known = zone(name)
    wall, offset = parse_wall(given["dateTime"])
    return wall.replace(tzinfo=offset or known).astimezone(UTC), name


def parse_wall(text: str) -> tuple[datetime, Any]:
    """The clock's time, and the offset where the text has one; MalformedTime."""
    found = _TIME.fullmatch(text.strip())
    if not found:
        raise MalformedTime(text)
    day, clock, fraction, offset = found.groups()
    try:
        wall = datetime.fromisoformat(f"{day}T{clock or '00:00'}")
        aware = datetime.fromisoformat(f"{day}T00:00:00{offset.replace('Z', '+00:00')}") if offset else None
    except ValueError as error:
        raise MalformedTime(text) from error
    return wall + timedelta(microseconds=int((fraction or "0")[:6].ljust(6, "0"))), aware.tzinfo if aware else None


def read_instant(text: str) -> datetime:
    """A moment as query parameters give it: by its offset, in UTC without one; MalformedTime."""
    wall, offset = parse_wall(text)
    return wall.replace(tzinfo=offset or UTC).astimezone(UTC)


def written(at: datetime) -> str:
    """`2026-04-15T11:00:00.0000000`: seven digits of a second."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f").rjust(26, "0") + "0"


def instant(at: datetime) -> str:
    """`2026-04-15T11:00:00.0000000Z`, as Exchange writes createdDateTime."""
    return written(at.astimezone(UTC)) + "Z"


def shown(when: When, zone_name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Start and end in a time zone. Whole days keep their dates in every zone (Learn: event resource, isAllDay)."""
    if when.all_day:
        own = own_zone(when.start_zone)
        walls = [each.astimezone(own).replace(tzinfo=None) for each in (when.start, when.end)]
    else:
        walls = [each.astimezone(zone(zone_name)).replace(tzinfo=None) for each in (when.start, when.end)]
    start, end = ({"dateTime": written(wall), "timeZone": zone_name} for wall in walls)
    return start, end
