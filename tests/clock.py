"""A clock for clients that wait."""

from datetime import UTC, datetime, timedelta

START = datetime(2026, 4, 11, 19, 2, 2, tzinfo=UTC)


class Clock:
    """Stands still, but for what is slept: `slept` are the seconds, as they were asked for."""

    def __init__(self) -> None:
        self.now = START
        self.slept: list[float] = []

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.now += timedelta(seconds=seconds)
