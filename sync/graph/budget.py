"""The request budget that all workers of one app in one tenant share.

Nobody is paced until Graph throttles or warns. From then on requests are spread evenly at a learned limit: it is cut to
what Graph really served, grows back slowly while Graph is quiet, and is forgotten after ten minutes without a refusal.
A unit is one request, or one item of a batch. Times are seconds since the epoch.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from sync.errors import Deferred
from sync.graph.protocol import Toll

WINDOW = 10.0
"""Seconds over which Graph counts (Learn: Microsoft Graph service-specific throttling limits)."""

CHUNK = 2.0
"""Seconds' worth of units that a worker reserves at once: five writes of the shared record a window, for all workers."""

LOOK_EVERY = 10.0
FORGET_AFTER = 600.0
NEAR_LIMIT = 0.8
GROWTH = 1.1

START, FLOOR = 1000.0, 500.0
"""The limit to begin with where too little was served to measure one, and the lowest limit, in units a window. The
smallest tenant is promised more; where even this is too much, the waits that Graph asks for hold the workers back."""

_GENTLE_CUT, _HARSH_CUT = 0.9, 0.5
_CONFLICTS = 5


@dataclass(frozen=True)
class BudgetState:
    """The shared record: `limit` in units a window (None: not paced), when the next unreserved unit may be spent
    (`free_at`), until when Graph wants silence (`blocked_until`), and when the limit was last cut and last changed.
    """

    limit: float | None = None
    free_at: float = 0.0
    blocked_until: float = 0.0
    cut_at: float = 0.0
    changed_at: float = 0.0


@dataclass(frozen=True)
class Allowance:
    """Units that one worker may spend: one every `pace` seconds from `starts` on. What is left at `ends` is lost."""

    units: float
    pace: float
    starts: float
    ends: float

    def left(self, now: float) -> float:
        return self.units if now < self.ends else 0.0

    def spend(self, units: float, at: float) -> "Allowance":
        return replace(self, units=self.units - units, starts=at + units * self.pace)


_NOTHING = Allowance(0.0, 0.0, 0.0, 0.0)


class BudgetStore(Protocol):
    """Where the shared record of one (tenant, client) lives."""

    def load(self) -> tuple[BudgetState, str | None]:
        """The record and its etag; a default record and None where there is none yet."""

    def save(self, state: BudgetState, etag: str | None) -> bool:
        """False if the record has changed since `etag`."""


def reserve(
    state: BudgetState, now: float, units: float, *, left: float = 0.0, quiet: bool = True
) -> tuple[BudgetState, Allowance]:
    """Units for one worker, at least `units` together with the `left` ones that it still has.

    `quiet` is False while Graph warns: the limit does not grow then.
    """
    state = _aged(state, now, quiet=quiet)
    if state.limit is None:
        return state, Allowance(math.inf, 0.0, max(now, state.blocked_until), now + LOOK_EVERY)
    chunk = max(units - left, state.limit * CHUNK / WINDOW)
    starts = max(now, state.free_at, state.blocked_until)
    pace = WINDOW / state.limit
    spent = starts + chunk * pace
    return replace(state, free_at=spent), Allowance(left + chunk, pace, starts, spent + CHUNK)


def _aged(state: BudgetState, now: float, *, quiet: bool) -> BudgetState:
    if state.limit is None:
        return state
    if now - state.cut_at >= FORGET_AFTER:
        return BudgetState(blocked_until=state.blocked_until)
    if not quiet:
        return replace(state, changed_at=now)
    if now - state.changed_at >= WINDOW:
        return replace(state, limit=state.limit * GROWTH, changed_at=now)
    return state


def refusal(
    state: BudgetState, now: float, *, until: float, accepted: float, refused: float, paced: bool
) -> BudgetState:
    """Graph refused `refused` of a worker's units in the last window and accepted `accepted`: silence `until` then.

    `paced` is False for a worker whose last window was not under the shared limit.
    """
    blocked = max(state.blocked_until, until)
    state = replace(state, blocked_until=blocked, free_at=max(state.free_at, blocked))
    if not refused:
        return state  # 503: Graph is unwell, the rate is not to blame
    if state.limit is None:
        return replace(state, limit=max(START, accepted), cut_at=now, changed_at=now)
    if not paced:
        return replace(state, limit=state.limit + accepted)  # its share is not in the limit that a neighbour measured
    if now - state.cut_at < WINDOW:
        return state  # an echo of the refusal that the limit was cut for
    served = min(_GENTLE_CUT, max(_HARSH_CUT, accepted / (accepted + refused)))
    return replace(state, limit=max(FLOOR, state.limit * served), cut_at=now, changed_at=now)


def warning(state: BudgetState, now: float, *, used: float, accepted: float) -> BudgetState:
    """Graph says that the share `used` of its limit is taken, while this worker's last window had `accepted` units."""
    return replace(state, limit=max(FLOOR, (state.limit or 0.0) + accepted / used), cut_at=now, changed_at=now)


@dataclass
class _Tally:
    second: int
    accepted: float = 0.0
    refused: float = 0.0


class Budget:
    """One process's hold on the shared budget of one (tenant, client). Thread-safe."""

    def __init__(
        self,
        store: BudgetStore,
        *,
        clock: Callable[[], datetime],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._allowance = _NOTHING
        self._blocked_until = 0.0
        self._cut_at = 0.0
        self._quiet = True
        self._tallies: deque[_Tally] = deque()

    def spend(self, units: int, *, latest: datetime) -> None:
        """Return when `units` may be sent; raise Deferred if that is after `latest`."""
        with self._lock:
            now = self._now()
            if self._allowance.left(now) < units:
                self._allowance = self._reserve(units, now, latest)
            starts = max(now, self._allowance.starts, self._blocked_until)
            self._allowance = self._allowance.spend(units, starts)
        while (wait := max(starts, self._blocked_until) - self._now()) > 0:
            _defer_after(latest, self._now() + wait)
            self._sleep(wait)

    def record(self, toll: Toll) -> None:
        """Learn from an answer."""
        with self._lock:
            now = self._now()
            self._count(now, toll)
            self._quiet = toll.used < NEAR_LIMIT
            if toll.pause is not None:
                self._pause(now, now + toll.pause, toll.refused)
            elif not self._quiet and not self._paced():
                self._update(lambda state: warning(state, now, used=toll.used, accepted=self._sums()[0]))

    def _now(self) -> float:
        return self._clock().timestamp()

    def _paced(self) -> bool:
        return self._cut_at > 0

    def _reserve(self, units: int, now: float, latest: datetime) -> Allowance:
        left = self._allowance.left(now)
        allowance = self._allowance

        def decide(state: BudgetState) -> BudgetState:
            nonlocal allowance
            state, allowance = reserve(state, now, units, left=left, quiet=self._quiet)
            if allowance.starts > now:
                _defer_after(latest, allowance.starts)
            return state

        self._update(decide)
        return allowance

    def _pause(self, now: float, until: float, refused: int) -> None:
        """Several threads meet the same wall at once: only the first one writes it down."""
        paced = self._paced()
        if until > self._blocked_until + 1 or not paced:
            accepted, all_refused = self._sums()
            self._update(
                lambda state: refusal(
                    state, now, until=until, accepted=accepted, refused=refused and all_refused, paced=paced
                )
            )
        self._blocked_until = max(self._blocked_until, until)

    def _update(self, decide: Callable[[BudgetState], BudgetState]) -> None:
        """A lost race is run again a few times; then the neighbours' word stands: the budget is advice, not a lock."""
        for _ in range(_CONFLICTS):
            loaded, etag = self._store.load()
            state = decide(loaded)
            self._blocked_until = max(self._blocked_until, state.blocked_until)
            if state.cut_at != self._cut_at:
                self._cut_at, self._allowance = state.cut_at, _NOTHING
            if state == loaded or self._store.save(state, etag):
                return

    def _count(self, now: float, toll: Toll) -> None:
        second = int(now)
        if not self._tallies or self._tallies[-1].second != second:
            self._tallies.append(_Tally(second))
        self._tallies[-1].accepted += toll.accepted
        self._tallies[-1].refused += toll.refused
        while self._tallies[0].second <= second - WINDOW:
            self._tallies.popleft()

    def _sums(self) -> tuple[float, float]:
        return sum(t.accepted for t in self._tallies), sum(t.refused for t in self._tallies)


def _defer_after(latest: datetime, then: float) -> None:
    until = datetime.fromtimestamp(then, UTC)
    if until > latest:
        raise Deferred("The request budget of this tenant is used up for now.", until=until, throttled=True)
