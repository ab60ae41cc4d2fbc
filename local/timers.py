"""NCRONTAB schedules and the threads that fire them, in UTC (Learn: "Timer trigger for Azure Functions")."""

import calendar
import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from azure.functions.timer import TimerRequest

_MONTHS = tuple(name.lower() for name in calendar.month_name[1:])
_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_FIELDS: tuple[tuple[int, int, tuple[str, ...]], ...] = (
    (0, 59, ()),
    (0, 59, ()),
    (0, 23, ()),
    (1, 31, ()),
    (1, 12, _MONTHS),
    (0, 6, _DAYS),
)
_PART = re.compile(r"(?P<first>\*|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d+))?", re.ASCII)
_HORIZON = timedelta(days=40 * 366)  # past every meeting of 29 February with a weekday

logger = logging.getLogger(__name__)


class BadSchedule(ValueError):
    """The expression is not NCRONTAB, or no day ever meets it."""


@dataclass(frozen=True)
class Schedule:
    """`{second} {minute} {hour} {day} {month} {day-of-week}`, each as the values that it allows.

    Day and weekday must both match. Five fields mean second 0.
    """

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        fields = text.split()
        if len(fields) == len(_FIELDS) - 1:
            fields.insert(0, "0")
        if len(fields) != len(_FIELDS):
            raise BadSchedule(f"'{text}' has not five or six fields")
        schedule = cls(*(_values(field, *limits) for field, limits in zip(fields, _FIELDS, strict=True)))
        schedule.next_after(datetime(2000, 1, 1, tzinfo=UTC))
        return schedule

    def next_after(self, after: datetime) -> datetime:
        """The first occurrence later than `after`, to the second."""
        earliest = after.replace(microsecond=0) + timedelta(seconds=1)
        day = earliest.replace(hour=0, minute=0, second=0)
        while day - after < _HORIZON:
            if self._has_day(day):
                for hour in self.hours:
                    for minute in self.minutes:
                        for second in self.seconds:
                            found = day.replace(hour=hour, minute=minute, second=second)
                            if found >= earliest:
                                return found
            day += timedelta(days=1)
        raise BadSchedule("no day ever meets the schedule")

    def _has_day(self, day: datetime) -> bool:
        return day.day in self.days and day.month in self.months and day.isoweekday() % 7 in self.weekdays


def _values(field: str, low: int, high: int, names: tuple[str, ...]) -> tuple[int, ...]:
    found: set[int] = set()
    for part in field.split(","):
        match = _PART.fullmatch(part)
        if match is None or (match["first"] == "*" and match["last"]):
            raise BadSchedule(f"'{part}' cannot be read")
        step = int(match["step"] or 1)
        if step < 1:
            raise BadSchedule(f"'{part}' has a step of 0")
        if match["first"] == "*":
            first, last = low, high
        else:
            first = _value(match["first"], low, high, names)
            last = _value(match["last"], low, high, names) if match["last"] else first
            if match["last"] is None and step > 1:
                last = high
        # The field's own library swaps the ends of a range that is written backwards.
        first, last = sorted((first, last))
        found.update(range(first, last + 1, step))
    return tuple(sorted(found))


def _value(text: str, low: int, high: int, names: tuple[str, ...]) -> int:
    if text.isdecimal():
        number = int(text)
        if not low <= number <= high:
            raise BadSchedule(f"{number} is not between {low} and {high}")
        return number
    for number, name in enumerate(names, low):
        if name.startswith(text.lower()):
            return number
    raise BadSchedule(f"'{text}' is not a value here")


class Timer:
    """Runs one function when it is due, and never while it still runs. Occurrences met meanwhile are left out."""

    def __init__(self, schedule: Schedule, run: Callable[[TimerRequest], None], clock: Callable[[], datetime]) -> None:
        self._schedule = schedule
        self._run = run
        self._clock = clock
        self._running = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def fire(self, *, past_due: bool = False) -> None:
        with self._running:
            self._run(TimerRequest(past_due=past_due))

    def stop(self) -> None:
        self._stop.set()

    def join(self, timeout: float) -> None:
        """Wait for a run that is under way."""
        if self._running.acquire(timeout=timeout):
            self._running.release()

    def _loop(self) -> None:
        while True:
            now = self._clock()
            due = self._schedule.next_after(now)
            if self._stop.wait((due - now).total_seconds()):
                return
            self.fire()
