"""Tests that run no code of the product, or only what other tests run as well: to measure them takes half as long again."""

from collections.abc import Iterator

import coverage
import pytest

UNMEASURED = (
    "test_bench.py",
    "test_calendar_machine.py",
    "test_cloud_",
    "test_demo.py",
    "test_dev.py",
    "test_durability.py",
    "test_faults.py",
    "test_host",
)


@pytest.fixture(autouse=True)
def unmeasured(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Measure no coverage while a test of UNMEASURED or a journey runs, nor in the processes that it starts."""
    measuring = coverage.Coverage.current()
    repeats = request.path.name.startswith(UNMEASURED) or request.path.parent.name == "journeys"
    if measuring is None or not repeats:
        yield
        return
    monkeypatch.delenv("COVERAGE_PROCESS_START")
    measuring.stop()
    yield
    measuring.start()
