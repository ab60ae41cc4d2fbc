"""The shared request budget: whole reads in simulated time against a token bucket."""

import heapq
import itertools
import math
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from sync.graph.budget import WINDOW, Budget, BudgetState
from sync.graph.protocol import Toll
from tests.budgets import Record, T


class World:
    """Simulated time for real threads: one of them runs, all others sleep; time jumps to whoever wakes first."""

    def __init__(self) -> None:
        self.now = T
        self._beds: list[tuple[float, int, int]] = []
        self._awake: int | None = None
        self._order = itertools.count()
        self._bell = threading.Condition()

    def clock(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    def sleep(self, seconds: float) -> None:
        with self._bell:
            self._lie_down(seconds)
            self._wake_next()
            self._bell.wait_for(lambda: self._awake == threading.get_ident())

    def run(self, jobs: Iterable[Callable[[], None]]) -> float:
        """Seconds until all jobs are done."""
        threads = [threading.Thread(target=self._body, args=(job,), daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        with self._bell:
            self._bell.wait_for(lambda: len(self._beds) == len(threads))
            self._wake_next()
        for thread in threads:
            thread.join()
        return self.now - T

    def _body(self, job: Callable[[], None]) -> None:
        with self._bell:
            self._lie_down(0)
            self._bell.notify_all()
            self._bell.wait_for(lambda: self._awake == threading.get_ident())
        try:
            job()
        finally:
            with self._bell:
                self._wake_next()

    def _lie_down(self, seconds: float) -> None:
        heapq.heappush(self._beds, (self.now + seconds, next(self._order), threading.get_ident()))

    def _wake_next(self) -> None:
        self._awake = None
        if self._beds:
            self.now, _, self._awake = heapq.heappop(self._beds)
        self._bell.notify_all()


@dataclass
class Bucket:
    """Graph's side: units refilled evenly over ten seconds; a refused call costs one as well."""

    world: World
    capacity: float
    level: float = field(init=False)
    at: float = T
    refused: int = 0

    def __post_init__(self) -> None:
        self.level = self.capacity

    def take(self) -> float:
        """Seconds to wait, 0 if the unit was there."""
        self.level = min(self.capacity, self.level + (self.world.now - self.at) * self.capacity / WINDOW)
        self.at = self.world.now
        if self.level >= 1:
            self.level -= 1
            return 0
        self.level = max(0.0, self.level - 1)
        self.refused += 1
        return math.ceil((1 - self.level) * WINDOW / self.capacity)


@dataclass
class Read:
    """Workers that read `items` in batches of 20, each batch resent until all of it was served."""

    items: int
    capacity: float
    workers: int = 4
    processes: int = 1
    latency: float = 0.02
    warns: bool = False
    world: World = field(default_factory=World)
    record: Record = field(default_factory=Record)
    early: int = 0
    told_at: float = 0.0
    silent_until: float = 0.0

    def __post_init__(self) -> None:
        self.graph = Bucket(self.world, self.capacity)

    def run(self) -> float:
        budgets = [Budget(self.record, clock=self.world.clock, sleep=self.world.sleep) for _ in range(self.processes)]
        return self.world.run(partial(self._work, budget) for budget in budgets for _ in range(self.workers))

    def _work(self, budget: Budget) -> None:
        while self.items > 0:
            units = min(20, self.items)
            self.items -= units
            while units:
                units = self._send(budget, units)

    def _send(self, budget: Budget, units: int) -> int:
        budget.spend(units, latest=self.world.clock() + timedelta(hours=1))
        self.world.sleep(self.latency / 2)
        self.early += self.told_at + self.latency < self.world.now < self.silent_until
        waits = [wait for wait in (self.graph.take() for _ in range(units)) if wait]
        used = 1 - self.graph.level / self.capacity
        self.world.sleep(self.latency / 2)
        pause = max(waits, default=None)
        budget.record(Toll(units - len(waits), len(waits), pause, used if self.warns and used > 0.8 else 0.0))
        if pause is not None:
            if self.world.now + pause > self.silent_until:
                self.told_at, self.silent_until = self.world.now, self.world.now + pause
            self.world.sleep(pause)
        return len(waits)


class TestReads:
    def test_an_unthrottled_first_sync_of_10_000_users_costs_a_handful_of_storage_transactions(self):
        read = Read(items=10_240, capacity=1e6, workers=1, latency=0.12)

        assert read.run() > 60
        assert read.record.transactions <= 8
        assert read.record.state == BudgetState()

    @pytest.mark.parametrize(
        ("workers", "processes", "latency", "warns"),
        [
            (1, 1, 0.02, False),
            (1, 1, 0.13, False),  # hardly faster than the budget: it takes long until Graph refuses
            (4, 1, 0.02, False),
            (4, 1, 0.5, False),
            (16, 1, 0.02, False),
            (4, 1, 0.02, True),
            (4, 4, 0.02, False),
            (4, 4, 0.02, True),
        ],
    )
    def test_a_tight_budget_is_used_up_with_few_refusals(self, workers, processes, latency, warns):
        read = Read(10_020, 1000.0, workers, processes, latency, warns)
        floor = (10_020 - 1000) / 100

        assert read.run() <= 1.25 * floor
        assert read.graph.refused <= 1100  # a reader that only obeys Retry-After is refused more than 9,000 times
        assert read.record.transactions <= 25 * floor / WINDOW
        if processes == 1:
            assert read.early == 0

    def test_a_large_budget_is_used_up_too(self):
        read = Read(60_000, 8000.0, workers=8)

        assert read.run() <= 1.25 * (60_000 - 8000) / 800
        assert read.graph.refused <= 600
