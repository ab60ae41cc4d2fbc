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
        """Move this clock `seconds` forward; ValueError if that would be backwards."""
        if seconds < 0:
            raise ValueError("a clock only moves forward")
        self.offset += timedelta(seconds=seconds)


def rfc3339(at: datetime) -> str:
    """`2026-11-22T06:00:00Z`, as Graph writes times."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """An RFC 3339 time, or a date that means its midnight in UTC."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
