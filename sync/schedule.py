"""When a sync is due, decided from the instants the caller passes in.

Everything that comes in or goes out is an aware datetime; what goes out is UTC.
"""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class Daily:
    """Once per local date, at the local time `at` of the IANA zone `time_zone`."""

    at: time
    time_zone: str


@dataclass(frozen=True)
class Interval:
    """Again and again, `every` (above zero) after the run before was due."""

    every: timedelta


@dataclass(frozen=True)
class Manual:
    """Only when somebody asks."""


Schedule = Daily | Interval | Manual


def first_due(schedule: Schedule, now: datetime, *, offset: timedelta = timedelta(0)) -> datetime | None:
    """When a sync that is enabled, or gets this schedule, at `now` is first due; None for manual only.

    An interval begins at once, a daily schedule at its next local time. `offset` delays either: it counts from
    `now + offset`. Raises ZoneInfoNotFoundError for a zone that does not exist.
    """
    if isinstance(schedule, Manual):
        return None
    begin = (now + offset).astimezone(UTC)
    return _next_daily(schedule, begin) if isinstance(schedule, Daily) else begin


def next_due(schedule: Schedule, due: datetime, now: datetime) -> datetime | None:
    """When a sync is due again whose run of `due` is started at `now`; None for manual only.

    Strictly after both, so that runs missed in an outage collapse into the one that is started, and a worker whose
    clock is behind does not run twice. An interval keeps its rhythm.
    """
    if isinstance(schedule, Manual):
        return None
    if isinstance(schedule, Daily):
        return _next_daily(schedule, max(due, now))
    passed = max(0, (now - due) // schedule.every)
    return (due + (passed + 1) * schedule.every).astimezone(UTC)


def _next_daily(daily: Daily, after: datetime) -> datetime:
    zone = ZoneInfo(daily.time_zone)
    day = after.astimezone(zone).date()
    while (due := _due_on(day, daily.at, zone)) is None or due <= after:
        day += timedelta(days=1)
    return due


def _due_on(day: date, at: time, zone: ZoneInfo) -> datetime | None:
    """The first instant at which a clock in `zone` reads `at` or later on `day`; None for a day the zone skipped."""
    wall = datetime.combine(day, at.replace(fold=0), zone)
    due = wall.astimezone(UTC)
    if due.astimezone(zone).replace(tzinfo=None) == wall.replace(tzinfo=None):
        # Where the clock reads this time twice, fold 0 is the first.
        return due
    # The clock jumped over it (PEP 495: fold 0 then lands after the jump, fold 1 before it), so the jump is due.
    jump = _jump(zone, wall.replace(fold=1).astimezone(UTC), due)
    eve = jump - timedelta(microseconds=1)
    return None if eve.astimezone(zone).date() < day < jump.astimezone(zone).date() else jump


def _jump(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The instant, a whole second, between `before` and `after` at which the zone's offset changes."""
    seconds = range(int(before.timestamp()), int(after.timestamp()) + 1)
    old = before.astimezone(zone).utcoffset()
    moment = bisect_right(seconds, False, key=lambda s: datetime.fromtimestamp(s, zone).utcoffset() != old)
    return datetime.fromtimestamp(seconds[moment], UTC)
