"""NCRONTAB schedules and the threads that fire them, in UTC (Learn: "Timer trigger for Azure Functions")."""

import calendar
import json
import logging
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.functions.timer import TimerRequest
from azure.storage.blob import BlobServiceClient

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

    def interval(self) -> timedelta:
        """Between the first two occurrences of this century."""
        first = self.next_after(datetime(2000, 1, 1, tzinfo=UTC))
        return self.next_after(first) - first

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


class Monitor:
    """When a timer last ran, kept in the blob container where the host keeps it."""

    def __init__(self, connection: str, function: str) -> None:
        self._containers = BlobServiceClient.from_connection_string(connection)
        self._blob = self._containers.get_blob_client("azure-webjobs-hosts", f"timers/local/{function}/status")

    def load(self) -> datetime | None:
        """When it last ran, or was first seen."""
        with suppress(ResourceExistsError):
            self._containers.create_container("azure-webjobs-hosts")
        try:
            status = json.loads(self._blob.download_blob().readall())
        except ResourceNotFoundError:
            return None
        return datetime.fromisoformat(status["Last"])

    def save(self, last: datetime) -> None:
        self._blob.upload_blob(json.dumps({"Last": last.isoformat()}), overwrite=True)


class Timer:
    """Runs one function when it is due, and never while it still runs. Occurrences met meanwhile are left out.

    With a monitor, an occurrence missed since the last run before `start` means one run at once, past due.
    """

    def __init__(
        self,
        schedule: Schedule,
        monitor: Monitor | None,
        run: Callable[[TimerRequest], object],
        clock: Callable[[], datetime],
        *,
        run_on_startup: bool = False,
    ) -> None:
        self._schedule = schedule
        self._monitor = monitor
        self._run = run
        self._clock = clock
        self._run_on_startup = run_on_startup
        self._running = threading.Lock()
        self._stopped = threading.Event()

    def start(self) -> None:
        now = self._clock()
        last = self._monitor.load() if self._monitor else None
        if last is None:
            self._note(now)
        past_due = last is not None and self._schedule.next_after(last) <= now
        threading.Thread(target=self._loop, args=(now,), kwargs={"past_due": past_due}, daemon=True).start()

    def fire(self) -> None:
        """Run it once, after a run that is under way."""
        with self._running:
            self._run_once(past_due=False)

    def stop(self) -> None:
        self._stopped.set()

    def join(self, timeout: float) -> None:
        """Wait for a run that is under way."""
        if self._running.acquire(timeout=timeout):
            self._running.release()

    def _loop(self, due: datetime, *, past_due: bool) -> None:
        if past_due or self._run_on_startup:
            self._fire_and_note(past_due=past_due)
        while True:
            now = self._clock()
            # The wait may end a little early by this clock: the same occurrence must not come twice.
            due = self._schedule.next_after(max(now, due))
            if self._stopped.wait((due - now).total_seconds()):
                return
            self._fire_and_note(past_due=False)

    def _fire_and_note(self, *, past_due: bool) -> None:
        with self._running:
            self._run_once(past_due=past_due)
            self._note(self._clock())

    def _run_once(self, *, past_due: bool) -> None:
        with suppress(Exception):  # the function logs what it raises
            self._run(TimerRequest(past_due=past_due))

    def _note(self, ran_at: datetime) -> None:
        if self._monitor is None:
            return
        try:
            self._monitor.save(ran_at)
        except AzureError as error:
            logger.warning("Cannot note the run of a timer: %s", type(error).__name__)
