"""The shared request budget: its decisions by table, and one worker's use of it."""

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.errors import Deferred
from sync.graph.budget import (
    CHUNK,
    FLOOR,
    FORGET_AFTER,
    GROWTH,
    LOOK_EVERY,
    START,
    WINDOW,
    Allowance,
    Budget,
    BudgetState,
    refusal,
    reserve,
    warning,
)
from sync.graph.protocol import Toll
from tests.budgets import Record, T

PACED = BudgetState(limit=1000.0, free_at=T - 5, blocked_until=T - 5, cut_at=T - 5, changed_at=T - 5)
times = st.floats(T - 1000, T + 1000)
states = st.builds(
    BudgetState,
    limit=st.none() | st.floats(FLOOR, 100_000),
    free_at=times,
    blocked_until=times,
    cut_at=times,
    changed_at=times,
)


class TestReserve:
    def test_while_graph_never_complained_units_are_free_until_the_next_look(self):
        state, allowance = reserve(BudgetState(), T, 20)

        assert state == BudgetState()
        assert allowance == Allowance(math.inf, 0.0, T, T + LOOK_EVERY)

    def test_but_nobody_goes_before_the_retry_after_of_a_neighbour(self):
        _, allowance = reserve(BudgetState(blocked_until=T + 7), T, 20)

        assert allowance.starts == T + 7

    def test_when_paced_a_chunk_is_reserved_and_spread_evenly(self):
        state, allowance = reserve(PACED, T, 20)

        assert state == replace(PACED, free_at=T + CHUNK)
        assert allowance == Allowance(200.0, 0.01, T, T + 2 * CHUNK)

    def test_the_next_worker_starts_where_the_reservations_end(self):
        _, allowance = reserve(replace(PACED, free_at=T + 3), T, 20)

        assert allowance.starts == T + 3

    def test_a_request_larger_than_a_chunk_is_reserved_whole(self):
        state, allowance = reserve(replace(PACED, limit=50.0), T, 20)

        assert (allowance.units, state.free_at) == (20, T + 4)

    def test_units_that_are_left_go_on_counting(self):
        state, allowance = reserve(replace(PACED, limit=50.0), T, 20, left=8)

        assert (allowance.units, state.free_at) == (20, T + 2.4)

    def test_the_limit_grows_after_a_quiet_window(self):
        state, _ = reserve(replace(PACED, cut_at=T - WINDOW, changed_at=T - WINDOW), T, 20)

        assert (state.limit, state.changed_at, state.cut_at) == (1000.0 * GROWTH, T, T - WINDOW)

    def test_but_not_while_graph_warns(self):
        state, _ = reserve(replace(PACED, changed_at=T - WINDOW), T, 20, quiet=False)

        assert (state.limit, state.changed_at) == (1000.0, T)

    def test_an_old_limit_is_forgotten(self):
        state, allowance = reserve(replace(PACED, cut_at=T - FORGET_AFTER, blocked_until=T + 1), T, 20)

        assert state == BudgetState(blocked_until=T + 1)
        assert (allowance.units, allowance.starts) == (math.inf, T + 1)

    @given(state=states, units=st.integers(1, 20), left=st.floats(0, 19), quiet=st.booleans())
    def test_always_enough_and_never_too_early(self, state, units, left, quiet):
        after, allowance = reserve(state, T, units, left=left, quiet=quiet)

        assert allowance.units >= units
        assert allowance.starts >= max(T, state.blocked_until)
        assert allowance.ends > T
        if after.limit is not None:
            assert allowance.starts >= state.free_at
            assert after.free_at == pytest.approx(allowance.starts + (allowance.units - left) * WINDOW / after.limit)

    @given(state=states.filter(lambda state: state.limit is not None), workers=st.integers(1, 30))
    def test_reservations_never_overlap_however_many_workers_ask(self, state, workers):
        state = replace(state, cut_at=T, changed_at=T)
        ends = state.free_at
        for _ in range(workers):
            state, allowance = reserve(state, T, 20)

            assert allowance.starts >= ends
            ends = allowance.starts + allowance.units * allowance.pace


class TestRefusal:
    def test_the_first_refusal_sets_the_limit_to_what_was_served(self):
        state = refusal(BudgetState(), T, until=T + 4, accepted=1234, refused=20, paced=False)

        assert state == BudgetState(limit=1234, free_at=T + 4, blocked_until=T + 4, cut_at=T, changed_at=T)

    def test_which_is_no_measure_right_after_the_start(self):
        assert refusal(BudgetState(), T, until=T + 4, accepted=20, refused=20, paced=False).limit == START

    def test_what_a_neighbour_was_served_is_added_once(self):
        state = refusal(replace(PACED, cut_at=T - 1), T, until=T + 4, accepted=300, refused=20, paced=False)

        assert (state.limit, state.cut_at) == (1300, T - 1)

    def test_an_echo_only_prolongs_the_silence(self):
        state = refusal(PACED, T, until=T + 4, accepted=300, refused=300, paced=True)

        assert state == replace(PACED, free_at=T + 4, blocked_until=T + 4)

    def test_a_shorter_wait_does_not_shorten_the_silence(self):
        state = refusal(replace(PACED, blocked_until=T + 60), T, until=T + 4, accepted=1, refused=1, paced=True)

        assert (state.blocked_until, state.free_at) == (T + 60, T + 60)

    @pytest.mark.parametrize(
        ("accepted", "refused", "limit"),
        [
            (800, 200, 800),  # to the share that was served
            (990, 10, 900),  # at least a little
            (100, 900, 500),  # at most by half
        ],
    )
    def test_a_new_refusal_cuts(self, accepted, refused, limit):
        old = replace(PACED, cut_at=T - WINDOW, changed_at=T - 1)

        state = refusal(old, T, until=T + 1, accepted=accepted, refused=refused, paced=True)

        assert (state.limit, state.cut_at, state.changed_at) == (limit, T, T)

    def test_never_below_the_floor(self):
        old = replace(PACED, limit=FLOOR + 1, cut_at=T - WINDOW)

        assert refusal(old, T, until=T + 1, accepted=0, refused=20, paced=True).limit == FLOOR

    def test_a_503_only_asks_for_silence(self):
        state = refusal(BudgetState(), T, until=T + 9, accepted=100, refused=0, paced=False)

        assert state == BudgetState(free_at=T + 9, blocked_until=T + 9)

    @given(
        state=states,
        wait=st.floats(0, 600),
        accepted=st.floats(0, 10_000),
        refused=st.integers(0, 10_000),
        paced=st.booleans(),
    )
    def test_nobody_is_let_in_earlier_and_a_cut_is_a_cut(self, state, wait, accepted, refused, paced):
        after = refusal(state, T, until=T + wait, accepted=accepted, refused=refused, paced=paced)

        assert after.blocked_until == max(state.blocked_until, T + wait)
        assert after.free_at >= max(state.free_at, after.blocked_until)
        if state.limit is not None and paced:
            assert after.limit is not None
            assert FLOOR <= after.limit <= state.limit
        if refused:
            assert after.limit is not None


class TestWarning:
    def test_the_limit_follows_from_the_share_that_is_used(self):
        state = warning(BudgetState(), T, used=0.8, accepted=800)

        assert state == BudgetState(limit=1000.0, cut_at=T, changed_at=T)

    def test_a_neighbours_share_is_added(self):
        assert warning(PACED, T, used=0.8, accepted=800).limit == 2000.0

    def test_never_below_the_floor(self):
        assert warning(BudgetState(), T, used=1.8, accepted=9).limit == FLOOR


class Clock:
    def __init__(self) -> None:
        self.now = T
        self.slept: list[float] = []

    def __call__(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def latest(self, seconds: float = 30) -> datetime:
        return datetime.fromtimestamp(self.now + seconds, UTC)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def budget(record: Record, clock: Clock) -> Budget:
    return Budget(record, clock=clock, sleep=clock.sleep)


class TestBudget:
    def test_unthrottled_it_looks_at_the_record_every_few_seconds(self, clock):
        record = Record()
        worker = budget(record, clock)

        for _ in range(100):
            worker.spend(20, latest=clock.latest())
            worker.record(Toll(20, 0, None, 0.0))
        assert (record.transactions, clock.slept) == (1, [])

        clock.now += LOOK_EVERY
        worker.spend(20, latest=clock.latest())
        assert record.transactions == 2

    def test_a_retry_after_stops_every_worker_of_the_tenant(self, clock):
        record = Record()
        ours, theirs = budget(record, clock), budget(record, clock)

        ours.spend(20, latest=clock.latest())
        ours.record(Toll(0, 20, 12.0, 0.0))
        theirs.spend(20, latest=clock.latest())

        assert clock.now == T + 12

    def test_a_503_with_retry_after_stops_them_as_well_but_paces_nobody(self, clock):
        record = Record()
        ours, theirs = budget(record, clock), budget(record, clock)

        ours.record(Toll(0, 0, 12.0, 0.0))
        theirs.spend(20, latest=clock.latest())

        assert (clock.now, record.state.limit) == (T + 12, None)

    def test_a_retry_after_met_while_asleep_is_slept_too(self, clock):
        record = Record(replace(PACED, free_at=T + 5))
        worker = budget(record, clock)

        def sleep(seconds: float) -> None:
            if not clock.slept:
                worker.record(Toll(0, 1, 20.0, 0.0))  # another thread is refused meanwhile
            Clock.sleep(clock, seconds)

        worker = Budget(record, clock=clock, sleep=sleep)
        worker.spend(20, latest=clock.latest())

        assert clock.slept == [5.0, 15.0]

    def test_a_wait_past_the_latest_moment_is_deferred_and_reserves_nothing(self, clock):
        record = Record(replace(PACED, free_at=T + 31))

        with pytest.raises(Deferred) as deferred:
            budget(record, clock).spend(20, latest=clock.latest(30))

        assert deferred.value.until == datetime.fromtimestamp(T + 31, UTC)
        assert deferred.value.throttled
        assert (record.state.free_at, clock.slept) == (T + 31, [])

    def test_so_is_a_retry_after_that_is_too_long(self, clock):
        worker = budget(Record(), clock)
        worker.spend(1, latest=clock.latest())
        worker.record(Toll(0, 0, 600.0, 0.0))

        with pytest.raises(Deferred) as deferred:
            worker.spend(1, latest=clock.latest())

        assert deferred.value.until == datetime.fromtimestamp(T + 600, UTC)

    def test_a_deadline_that_has_passed_does_not_matter_where_no_wait_is_needed(self, clock):
        budget(Record(), clock).spend(20, latest=clock.latest(-1))

        assert clock.slept == []

    def test_threads_that_meet_the_same_refusal_write_it_once(self, clock):
        record = Record()
        worker = budget(record, clock)
        worker.spend(80, latest=clock.latest())

        for _ in range(4):
            worker.record(Toll(0, 20, 5.0, 0.0))

        assert record.transactions == 1 + 2

    def test_a_warning_starts_the_pacing(self, clock):
        record = Record()
        worker = budget(record, clock)
        worker.spend(800, latest=clock.latest())

        worker.record(Toll(800, 0, None, 0.8))
        worker.record(Toll(20, 0, None, 0.9))  # paced already

        assert record.state.limit == 1000
        assert record.transactions == 1 + 2

    def test_a_lost_race_is_run_again(self, clock):
        record = Record(PACED, rivals=2)

        budget(record, clock).spend(20, latest=clock.latest())

        assert record.state.free_at == T + CHUNK
        assert record.transactions == 3 * 2

    def test_a_race_that_is_lost_again_and_again_ends(self, clock):
        record = Record(PACED, rivals=100)

        budget(record, clock).spend(20, latest=clock.latest())

        assert record.transactions == 5 * 2

    def test_what_was_served_long_ago_no_longer_counts(self, clock):
        record = Record()
        worker = budget(record, clock)
        worker.record(Toll(5000, 0, None, 0.0))
        clock.now += WINDOW + 1
        worker.record(Toll(1700, 0, None, 0.0))

        worker.record(Toll(0, 1, 1.0, 0.0))

        assert record.state.limit == 1700
