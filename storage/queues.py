"""Storage queues: the messages that carry runs to workers. A message holds ids, never data or secrets."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.queue import QueueClient, QueueServiceClient, TextBase64EncodePolicy

MANUAL = "sync-runs-manual"
SCHEDULED = "sync-runs"
MAX_DELAY_SECONDS = 7 * 24 * 3600 - 60  # a message lives 7 days


class Queues:
    """The product's queues; base64 text, as host.json tells the Functions host to expect."""

    def __init__(self, service: QueueServiceClient, prefix: str = "") -> None:
        self._clients = {name: _client(service, prefix + name) for name in (MANUAL, SCHEDULED)}

    def create(self) -> None:
        """Make the queues that are missing."""
        for client in self._clients.values():
            try:
                client.create_queue()
            except ResourceExistsError:
                continue

    def send(self, queue: str, message: Mapping[str, Any], delay_seconds: float = 0) -> None:
        """Put `message` on `queue`, to be seen after `delay_seconds` (at most 7 days)."""
        delay = int(min(max(delay_seconds, 0), MAX_DELAY_SECONDS))
        self._clients[queue].send_message(json.dumps(message), visibility_timeout=delay)

    def ping(self) -> None:
        """One small read; raises the SDK's error where storage does not answer."""
        with suppress(ResourceNotFoundError):  # a new deployment's queues are made on first use
            self._clients[MANUAL].get_queue_properties()


def _client(service: QueueServiceClient, name: str) -> QueueClient:
    return service.get_queue_client(name, message_encode_policy=TextBase64EncodePolicy())
