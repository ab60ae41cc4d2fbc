"""Counts storage transactions, so that a run can say what it cost."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from azure.core.pipeline.transport import RequestsTransport


@dataclass
class Meter:
    """The transactions of one piece of work, from any thread that runs in its context."""

    transactions: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def add(self) -> None:
        with self._lock:
            self.transactions += 1


METER: ContextVar[Meter | None] = ContextVar("meter", default=None)


class MeteredTransport(RequestsTransport):  # type: ignore[misc] # the SDK loads it lazily, which hides its type
    """The transport of every storage client: it sees each request on the wire, retries too."""

    def send(self, request: Any, **options: Any) -> Any:
        if meter := METER.get():
            meter.add()
        return super().send(request, **options)
