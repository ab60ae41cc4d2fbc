"""Processes that die in the middle of their work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import pytest

from storage.blobs import Blobs
from storage.queues import Queues
from storage.secrets import Secrets
from storage.tables import Table


class Killed(BaseException):
    """The process is gone: nothing of the product catches this."""


@dataclass
class Reaper:
    """Counts the writes of a process and ends it after write number `after` (0: before the first; None: never)."""

    after: int | None = None
    writes: list[str] = field(default_factory=list)
    dead: bool = False
    _lock: Lock = field(default_factory=Lock)

    def let(self, name: str, write: Callable[[], Any]) -> Any:
        with self._lock:
            self.dead = self.dead or len(self.writes) == self.after
            if self.dead:
                raise Killed(name)
            self.writes.append(name)
        return write()


WRITERS = {Table: ["commit"], Blobs: ["save", "delete"], Queues: ["send"], Secrets: ["delete"]}


@contextmanager
def process(reaper: Reaper) -> Iterator[None]:
    """Every write to a store goes past the reaper. A dead process' other threads write nothing either."""
    with pytest.MonkeyPatch.context() as patch:
        for store, names in WRITERS.items():
            for name in names:
                patch.setattr(store, name, _watched(reaper, f"{store.__name__}.{name}", getattr(store, name)))
        yield


def _watched(reaper: Reaper, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **options: reaper.let(name, lambda: plain(*args, **options))
