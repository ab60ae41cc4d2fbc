"""Limits of Graph (Learn: Microsoft Graph service-specific throttling limits) and the memory of who was told to wait.

Times are seconds of a monotonic clock: waiting is real even where a tenant's calendar has been moved.
"""

import math
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import NamedTuple

from local.cloud.faults import RetryAfter

MAILBOX_CONCURRENCY = 4
MAILBOX_WINDOW = 600
IN_FLIGHT = 0.5
EARLY = 0.005


@dataclass
class Bucket:
    """Resource units of one app in one tenant, refilled evenly over 10 seconds."""

    capacity: int
    level: float
    at: float

    def take(self, units: int, now: float) -> float:
        """0 where the units were taken, else the seconds until there are enough. A refused call still costs one unit."""
        self.level = min(self.capacity, self.level + (now - self.at) * self.capacity / 10)
        self.at = now
        if self.level >= units:
            self.level -= units
            return 0
        self.level = max(0.0, self.level - 1)
        return (units - self.level) * 10 / self.capacity

    @property
    def used(self) -> float:
        return 1 - self.level / self.capacity


class Pause(NamedTuple):
    """A client was told at one time to wait until another."""

    told: float
    until: float

    def broken(self, at: float, grace: float = 0) -> bool:
        """Whether a request that came at this time came too early; until `grace` after the refusal it could not know."""
        return self.told + grace <= at < self.until - EARLY


class Arrival(NamedTuple):
    """What is known of a request when it comes in: whether it was refused before, and came before its time."""

    retried: bool
    early: bool


@dataclass
class Throttle:
    """The budgets, open mailbox calls and announced pauses of one tenant."""

    buckets: dict[str, Bucket] = field(default_factory=dict)
    mailboxes: Counter[tuple[str, str]] = field(default_factory=Counter)
    _calls: dict[tuple[str, str], deque[float]] = field(default_factory=dict)
    _apps: dict[str, Pause] = field(default_factory=dict)
    _requests: dict[tuple[str, str], Pause] = field(default_factory=dict)

    def take(self, app_id: str, units: int, capacity: int) -> float:
        """Seconds that the app has to wait before it may spend these units; 0 if it has spent them now."""
        now = time.monotonic()
        bucket = self.buckets.setdefault(app_id, Bucket(capacity, capacity, now))
        return bucket.take(units, now)

    def count(self, app_id: str, what: str, most: int, seconds: float) -> float:
        """Count a call of which an app has `most` in so many seconds; how long it has to wait if that is one too many."""
        now, calls = time.monotonic(), self._calls.setdefault((app_id, what), deque())
        while calls and calls[0] <= now - seconds:
            calls.popleft()
        calls.append(now)
        return calls[-most - 1] + seconds - now if len(calls) > most else 0.0

    def pause(self, app_id: str, request: str, seconds: float, *, sent_in: float, whole_app: bool) -> None:
        """Remember that this request, or with `whole_app` everything of the app, is told to wait, by an answer that
        leaves `sent_in` seconds from now."""
        told = time.monotonic() + sent_in
        self._requests[app_id, request] = Pause(told, told + seconds)
        if whole_app:
            earlier = self._apps.get(app_id, Pause(told, told))
            going_on = earlier.until - told > IN_FLIGHT
            self._apps[app_id] = Pause(earlier.told if going_on else told, max(earlier.until, told + seconds))

    def failed(self, app_id: str, request: str) -> None:
        """Remember a request that got no answer, so that its next try is known as one."""
        self._requests[app_id, request] = Pause(0, 0)

    def used(self, app_id: str) -> float:
        """The share of its budget that the app has used, 0 where no budget is set."""
        bucket = self.buckets.get(app_id)
        return bucket.used if bucket else 0.0

    def release(self, app_id: str, mailboxes: list[str]) -> None:
        for mailbox in mailboxes:
            self.mailboxes[app_id, mailbox] -= 1
            if not self.mailboxes[app_id, mailbox]:
                del self.mailboxes[app_id, mailbox]

    def arrive(self, app_id: str, request: str) -> Arrival:
        """The refused request itself may not come early at all; others of the app may, for half a second, since they
        can have been under way when the refusal was sent."""
        now = time.monotonic()
        own, every = self._requests.pop((app_id, request), None), self._apps.get(app_id)
        early = (own and own.broken(now)) or (every and every.broken(now, IN_FLIGHT))
        return Arrival(retried=own is not None, early=bool(early))


def retry_after(policy: RetryAfter, seconds: float) -> tuple[str | None, float]:
    """The header's value, None for no header, and how long it asks to wait."""
    match policy.style:
        case "absent":
            return None, 0.0
        case "decimal":
            return f"{seconds:.3f}", round(seconds, 3)
        case "date":
            now = datetime.now(UTC)
            at = (now + timedelta(seconds=seconds + 1)).replace(microsecond=0)
            return format_datetime(at, usegmt=True), (at - now).total_seconds()
        case "seconds":
            return str(math.ceil(seconds)), float(math.ceil(seconds))
