"""A slice ends within its time: no step is begun that would not fit any more."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from sync.jobs import Work
from sync.sync_settings import SyncSettings

BEGIN = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("steps", "done"),
    [
        ([10, 10, 10, 10, 10, 10, 10], 4),  # a fifth, and as much for the last writes, would take until the very end
        ([5, 5, 20, 5, 5, 5, 5, 5], 3),  # it is the longest step that counts
        ([90, 1], 1),  # there is always one step, or the run would never end
        ([0.5] * 200, 118),
    ],
)
def test_work_stops_before_a_step_that_would_not_fit(steps: list[float], done: int) -> None:
    now = BEGIN
    work = Work(SimpleNamespace(clock=lambda: now), None, SyncSettings(), BEGIN + timedelta(seconds=60))  # type: ignore[arg-type] # only the clock is asked
    finished = 0
    while not work.time_is_up():
        now += timedelta(seconds=steps[finished])
        finished += 1

    assert finished == done
    assert now <= work.deadline or finished == 1
