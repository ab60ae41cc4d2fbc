"""Which occurrences of a series of the portal's own are to be stored."""

from datetime import UTC, datetime, timedelta

from sync.calendars.model import Reservation
from sync.calendars.series import planned
from tests.recurrences import meeting, series

NOW = datetime(2026, 11, 26, tzinfo=UTC)
WINDOW = (NOW - timedelta(days=365), NOW + timedelta(days=1096))


def daily_from(day: str) -> Reservation:
    return Reservation(
        id="one",
        room="oak",
        kind="series",
        origin="portal",
        title="Planning",
        title_source="local",
        owner=None,
        times=meeting(f"{day}T09:00", "UTC"),
        created_at=NOW,
        updated_at=NOW,
        recurrence=series({"type": "daily"}, day),
    )


def test_the_widest_window() -> None:
    """A series without an end has as many as the window has days: no number limits them."""
    for day in ("2001-01-01", "2025-11-26"):
        found = planned(daily_from(day), WINDOW)

        assert found[0].start == WINDOW[0] + timedelta(hours=9)
        assert found[-1].end == WINDOW[1] - timedelta(hours=14)
        assert len(found) == 1461


def test_beyond_the_window() -> None:
    """The first occurrence of a series that begins later is there all the same, and holds its place."""
    [first] = planned(daily_from("2031-03-01"), WINDOW)

    assert first.start == datetime(2031, 3, 1, 9, tzinfo=UTC)
