"""Counts storage transactions, so that a run can say what it cost."""

from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock
from typing import Any

from azure.core.pipeline import PipelineRequest
from azure.core.pipeline.policies import SansIOHTTPPolicy


@dataclass
class Meter:
    """The transactions of one piece of work, from any thread that runs in its context."""

    transactions: int = 0

    def __post_init__(self) -> None:
        self._lock = Lock()

    def add(self) -> None:
        with self._lock:
            self.transactions += 1


METER: ContextVar[Meter | None] = ContextVar("meter", default=None)


class MeterPolicy(SansIOHTTPPolicy[Any, Any]):
    """Put into the pipeline of every storage client, after the retries: it sees each request on the wire."""

    def on_request(self, request: PipelineRequest[Any]) -> None:  # noqa: ARG002 - the SDK's signature
        meter = METER.get()
        if meter is not None:
            meter.add()
