"""Tests that run no code of the product, or hardly any that others do not run: to measure them takes half as long again.

What they alone run counts as not run, so that the coverage is at least what is told.
"""

from collections.abc import Iterator

import coverage
import pytest

UNMEASURED = (
    "test_bench.py",
    *(
        f"test_calendar_cases_{what}"
        for what in (
            "address",
            "attendees",
            "closed",
            "details",
            "interrupted",
            "odd_answers",
            "refused",
            "removed",
            "rooms",
            "shifts",
            "terse",
            "unclear",
        )
    ),
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
