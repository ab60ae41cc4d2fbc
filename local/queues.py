"""Queue triggers over Azure Storage queues (Learn: "Azure Queue storage trigger for Azure Functions")."""

import base64
import binascii
import logging
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import azure.functions as func
from azure.core.exceptions import AzureError, ResourceExistsError
from azure.functions.queue import QueueMessage
from azure.storage.queue import QueueClient
from azure.storage.queue import QueueMessage as Raw

BUSY_SECONDS, IDLE_SECONDS = 0.1, 1.0
HIDDEN_SECONDS = 60  # Azure hides for ten minutes; here a killed host is started again at once, and somebody waits
_QUEUE_NAME = re.compile(r"(?=.{3,63}$)[a-z0-9](-?[a-z0-9])*")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """host.json's `extensions.queues`. `retry_seconds` is its visibilityTimeout."""

    batch_size: int
    new_batch_threshold: int
    max_dequeue_count: int
    retry_seconds: int
    encoded: bool

    @classmethod
    def read(cls, section: Mapping[str, Any]) -> "Options":
        """The options, or ValueError."""
        size = int(section.get("batchSize", 16))
        if not 1 <= size <= 32:
            raise ValueError("batchSize must be between 1 and 32")
        return cls(
            batch_size=size,
            new_batch_threshold=int(section.get("newBatchThreshold", size // 2)),
            max_dequeue_count=int(section.get("maxDequeueCount", 5)),
            retry_seconds=_seconds(section.get("visibilityTimeout", "00:00:00")),
            encoded=section.get("messageEncoding", "base64") == "base64",
        )


def _seconds(timespan: str) -> int:
    match = re.fullmatch(r"(?:(\d+)\.)?(\d\d):(\d\d):(\d\d)", timespan)
    if match is None:
        raise ValueError(f"'{timespan}' is not a time span")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def check_queue_name(name: str) -> None:
    """Raise ValueError for a name that Azure Storage would refuse."""
    if not _QUEUE_NAME.fullmatch(name):
        raise ValueError(f"'{name}' is not a valid queue name")


def queue_message(body: bytes, **about: object) -> func.QueueMessage:
    return QueueMessage(body=body, **about)  # type: ignore[no-untyped-call] # azure.functions leaves it untyped


@dataclass(eq=False)
class _Claim:
    """A message that a worker holds. The lock keeps a renewal from crossing its end.

    The same message may be held twice, where a renewal failed.
    """

    message: Raw
    receipt: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: bool = False


class Listener:
    """Feeds one function from one queue, in threads of its own: each function scales by itself on Flex Consumption.

    Without a `poison` queue a message that fails stays hidden, as the host leaves those of a poison queue.
    """

    def __init__(
        self,
        queue: QueueClient,
        poison: QueueClient | None,
        run: Callable[[func.QueueMessage], object],
        options: Options,
        hidden_seconds: int = HIDDEN_SECONDS,
    ) -> None:
        self._queue = queue
        self._poison = poison
        self._run = run
        self._options = options
        self._hidden = hidden_seconds
        self._held: set[_Claim] = set()
        self._changed = threading.Condition()
        self._stopped = threading.Event()

    def start(self) -> None:
        _create(self._queue)
        for loop in (self._poll, self._renew):
            threading.Thread(target=loop, daemon=True).start()

    def stop(self) -> None:
        """Take no more messages; those under way go on."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()

    def join(self, timeout: float) -> None:
        """Wait for the runs under way. The message of one that takes longer is free for others at once."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held, timeout)
        self._hide_all(0)

    def _poll(self) -> None:
        pause = BUSY_SECONDS
        while self._may_take():
            if self._take():
                pause = BUSY_SECONDS
            else:
                self._stopped.wait(pause)
                pause = min(pause * 2, IDLE_SECONDS)

    def _may_take(self) -> bool:
        """Wait until there is room for another batch; False once stopped."""
        with self._changed:
            room = self._options.new_batch_threshold
            self._changed.wait_for(lambda: self._stopped.is_set() or len(self._held) <= room)
        return not self._stopped.is_set()

    def _take(self) -> bool:
        """Start a worker for each message of one batch; False where there was none."""
        try:
            pages = self._queue.receive_messages(
                messages_per_page=self._options.batch_size, visibility_timeout=self._hidden
            ).by_page()
            messages = list(next(pages, ()))
        except AzureError as error:
            logger.warning("Cannot read the queue %s: %s", self._queue.queue_name, type(error).__name__)
            return False
        claims = [_Claim(message, str(message.pop_receipt)) for message in messages]
        with self._changed:
            self._held.update(claims)
        for claim in claims:
            threading.Thread(target=self._work, args=(claim,), daemon=True).start()
        return bool(claims)

    def _work(self, claim: _Claim) -> None:
        try:
            succeeded = self._attempt(claim.message)
            with claim.lock:
                claim.ended = True
                self._end(claim, succeeded=succeeded)
        except AzureError as error:
            logger.warning("Cannot end a message of %s: %s", self._queue.queue_name, type(error).__name__)
        finally:
            with self._changed:
                self._held.remove(claim)
                self._changed.notify_all()

    def _attempt(self, raw: Raw) -> bool:
        if _attempts(raw) > self._options.max_dequeue_count:
            return False
        try:
            body = base64.b64decode(raw.content, validate=True) if self._options.encoded else raw.content.encode()
        except (binascii.Error, ValueError):
            logger.warning("A message of %s is not base64", self._queue.queue_name)
            raw.dequeue_count = self._options.max_dequeue_count
            return False
        message = queue_message(
            body,
            id=raw.id,
            dequeue_count=raw.dequeue_count,
            expiration_time=raw.expires_on,
            insertion_time=raw.inserted_on,
            time_next_visible=raw.next_visible_on,
            pop_receipt=raw.pop_receipt,
        )
        try:
            self._run(message)
        except Exception:  # noqa: BLE001 - any failure of the function is one failed attempt, and the function logs it
            return False
        return True

    def _end(self, claim: _Claim, *, succeeded: bool) -> None:
        raw = claim.message
        if succeeded:
            self._queue.delete_message(raw.id, claim.receipt)
        elif self._poison is None:
            return
        elif _attempts(raw) >= self._options.max_dequeue_count:
            _create(self._poison)
            self._poison.send_message(raw.content)
            self._queue.delete_message(raw.id, claim.receipt)
            logger.warning("Message %s of %s went to the poison queue", raw.id, self._queue.queue_name)
        else:
            self._queue.update_message(raw.id, claim.receipt, visibility_timeout=self._options.retry_seconds)

    def _renew(self) -> None:
        while not self._stopped.wait(self._hidden / 2):
            self._hide_all(self._hidden)

    def _hide_all(self, seconds: int) -> None:
        with self._changed:
            held = tuple(self._held)
        for claim in held:
            with claim.lock:
                if not claim.ended:
                    self._hide(claim, seconds)

    def _hide(self, claim: _Claim, seconds: int) -> None:
        try:
            renewed = self._queue.update_message(claim.message.id, claim.receipt, visibility_timeout=seconds)
        except AzureError as error:
            logger.warning("Cannot hide a message of %s: %s", self._queue.queue_name, type(error).__name__)
        else:
            claim.receipt = str(renewed.pop_receipt)


def _attempts(raw: Raw) -> int:
    return raw.dequeue_count or 0


def _create(queue: QueueClient) -> None:
    with suppress(ResourceExistsError):
        queue.create_queue()
