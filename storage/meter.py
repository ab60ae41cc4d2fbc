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


class MeteredTransport(RequestsTransport):
    """The transport of every storage client: it sees each request on the wire, retries too."""

    def send(self, request: Any, **options: Any) -> Any:  # type: ignore[override] # the SDK overloads it by request kind
        if meter := METER.get():
            meter.add()
        return super().send(request, **options)
