"""Time as the simulated cloud sees it: the machine's clock plus an offset that a test may move forward."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass
class Clock:
    """The time of one tenant (or, without `base`, of the whole cloud). It never goes backwards."""

    base: "Clock | None" = None
    offset: timedelta = field(default_factory=timedelta)

    def now(self) -> datetime:
        return (self.base.now() if self.base else datetime.now(UTC)) + self.offset

    def advance(self, seconds: float) -> None:
        self.offset += timedelta(seconds=seconds)


def rfc3339(at: datetime) -> str:
    """`2026-11-22T06:00:00Z`, as Graph writes times."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
