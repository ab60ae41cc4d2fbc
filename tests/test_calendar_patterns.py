"""When two recurrences say the same."""

from typing import Any

import pytest

from sync.calendars.patterns import canonical, recurrence_of

WEEKLY: dict[str, Any] = {
    "pattern": {"type": "weekly", "interval": 1, "daysOfWeek": ["monday", "friday"], "firstDayOfWeek": "sunday"},
    "range": {"type": "numbered", "startDate": "2026-04-13", "numberOfOccurrences": 5},
}


def changed(part: str, **fields: Any) -> dict[str, Any]:
    return {**WEEKLY, part: {**WEEKLY[part], **fields}}


@pytest.mark.parametrize(
    ("other", "same"),
    [
        pytest.param(changed("pattern", daysOfWeek=["friday", "monday"]), True, id="the same days in another order"),
        pytest.param(changed("pattern", daysOfWeek=("monday", "friday")), True, id="the same days in a tuple"),
        pytest.param(changed("range", recurrenceTimeZone="UTC"), True, id="the zone is that of the times"),
        pytest.param({"range": WEEKLY["range"], "pattern": WEEKLY["pattern"]}, True, id="the parts in another order"),
        pytest.param(changed("pattern", daysOfWeek=["monday"]), False, id="fewer days"),
        pytest.param(changed("pattern", interval=2), False, id="another interval"),
        pytest.param(changed("range", numberOfOccurrences=6), False, id="longer"),
        pytest.param(changed("range", startDate="2026-04-14"), False, id="from another day on"),
        pytest.param(None, False, id="no recurrence"),
    ],
)
def test_canonical(other: dict[str, Any] | None, same: bool) -> None:
    assert (canonical(WEEKLY) == canonical(other)) == same


def test_no_recurrence() -> None:
    assert canonical(None) == ""


def test_recurrence_of() -> None:
    """The text tells the recurrence again, but for its zone."""
    zoned = changed("range", recurrenceTimeZone="UTC")

    assert canonical(recurrence_of(canonical(zoned))) == canonical(WEEKLY)
    assert "recurrenceTimeZone" not in recurrence_of(canonical(zoned))["range"]
