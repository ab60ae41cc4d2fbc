"""A clock for clients that wait, and clients that do not."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from sync.graph.client import GraphClient

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


def never_wait(patch: pytest.MonkeyPatch) -> None:
    """Clients of Graph that are made from now on do not wait before they try again."""
    defaults = GraphClient.__init__.__kwdefaults__
    assert defaults is not None
    assert defaults["sleep"] is time.sleep
    patch.setitem(defaults, "sleep", lambda _seconds: None)
