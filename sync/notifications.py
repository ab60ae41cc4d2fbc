"""Change notifications and lifecycle events of Graph: each is checked, its room is heard, its connection is woken.

A notification is only a hint. Nothing in it is followed or stored: its clientState leads to the room that it is about,
and the run that follows reads from Graph what has changed. (Learn: Receive change notifications through webhooks;
Reduce missing change notifications and removed subscriptions.)
"""

import hmac
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field

from storage.tables import Write
from sync import connections, jobs
from sync.calendars.store import heard_key
from sync.errors import Deferred, RequestError
from sync.http import Call, Operation, Reply
from sync.models import Model
from sync.runs import Run, load_run
from sync.subscriptions import CLIENT_STATE_LIMIT, SYNC, Asked, Sender, digest_of, find_sender

if TYPE_CHECKING:
    from sync.wiring import App

log = logging.getLogger(__name__)

LIFECYCLE: Mapping[str, Asked] = {"reauthorizationRequired": "renew", "subscriptionRemoved": "recreate", "missed": ""}
TOKEN_LIMIT = 4096  # as long as a query may be on Azure Functions
DELAY_SECONDS = 5  # one booking gives several notifications: one run for all of them
WORKERS = 16
LOOKUPS = 32  # of one request at a time: other requests have their turn in between
LOOKING_SECONDS = 1.5  # the longest that one request may have clientStates looked up: what was found is stored then
PATIENCE_SECONDS = 2.5  # Graph counts an answer after 3 seconds as slow, and then holds notifications back
KEPT = timedelta(seconds=60)
ENABLED_FOR = timedelta(seconds=5)
AWAKE_SECONDS = 1.0
SENDERS = 20_000
STRANGERS = 30_000  # more than one request has room for
START_ATTEMPTS = 3

Kind = Literal["notification", "lifecycle"]
V = TypeVar("V")


class WebhookQuery(Model):
    model_config = ConfigDict(extra="ignore")

    validation_token: Annotated[str, Field(max_length=TOKEN_LIMIT)] | None = None


class Notifications(Model):
    """What Graph posts. `validationTokens` go with resource data, which no subscription of ours asks for."""

    model_config = ConfigDict(extra="ignore")

    value: list[Any]
    validation_tokens: list[Any] | None = None


@dataclass(frozen=True)
class Notice:
    """What counts in one notification: the digest of its clientState, whose it says to be, and what it asks for."""

    digest: str
    subscription: str
    tenant: str
    asked: Asked


def receive_notifications(call: Call) -> Reply:
    return _receive(call, "notification")


def receive_lifecycle_events(call: Call) -> Reply:
    return _receive(call, "lifecycle")


def _receive(call: Call, kind: Kind) -> Reply:
    """The token of a handshake; for anything else nothing, once the rooms that are to be looked at are stored."""
    token = call.query.validation_token
    if token is not None:
        return Reply(200, token.encode(), content_type="text/plain")
    items = [] if call.body.validation_tokens else call.body.value
    parsed = [parse_notice(item, kind) for item in items]
    notices = [notice for notice in parsed if notice is not None]
    counts = call.app.inbox.take(notices, kind) if notices else Counter[str]()
    counts["unreadable"] += len(call.body.value) - len(notices)
    del counts["accepted"]
    if dropped := +counts:
        reasons = ",".join(f"{reason}:{count}" for reason, count in sorted(dropped.items()))
        log.warning("%s dropped=%d reasons=%s", kind, dropped.total(), reasons)
    return Reply(202)


# --- decisions -------------------------------------------------------------------------------------------------------


def parse_notice(item: object, kind: Kind) -> Notice | None:
    """What counts in one item of a request; None for what Graph does not send."""
    if not isinstance(item, Mapping):
        return None
    state, subscription = _text(item, "clientState"), _text(item, "subscriptionId")
    event = _text(item, "lifecycleEvent") if kind == "lifecycle" else "missed"
    if not state or not subscription or event not in LIFECYCLE:
        return None
    return Notice(digest_of(state), subscription.lower(), _text(item, "tenantId").lower(), LIFECYCLE[event])


def _text(item: Mapping[Any, Any], name: str) -> str:
    """A short text; empty where there is none."""
    value = item.get(name)
    return value if isinstance(value, str) and len(value) <= CLIENT_STATE_LIMIT else ""


def refusal(notice: Notice, sender: Sender | None) -> str:
    """Why a notification is dropped; empty where the sender's subscription has sent it."""
    if sender is None or not hmac.compare_digest(sender.digest, notice.digest):
        return "unknown-client-state"
    if sender.subscription.lower() not in ("", notice.subscription):
        return "other-subscription"
    if sender.tenant and notice.tenant and sender.tenant != notice.tenant:
        return "other-tenant"
    return ""


# --- what follows ----------------------------------------------------------------------------------------------------

Rooms = dict[str, set[Asked]]
"""What the notifications about each room ask for."""


class Inbox:
    """Takes in the notifications of this process. Thread-safe."""

    def __init__(self, app: "App") -> None:
        self._app = app
        self._lock = Lock()
        self._senders: dict[str, tuple[Sender, datetime]] = {}
        self._strangers: dict[str, None] = {}
        self._ears: dict[str, _Ear] = {}
        self._workers = ThreadPoolExecutor(WORKERS, "inbox")

    def take(self, notices: Sequence[Notice], kind: Kind) -> Counter[str]:
        """How many were accepted, and how many dropped for which reason. What was accepted is stored on return.

        Raises the SDK's errors where storage refuses, Deferred where they have to be sent again because it is slow, or
        because there was no time for all: those that were found in time are stored then, too.
        """
        begun = monotonic()
        late = begun + PATIENCE_SECONDS
        counts: Counter[str] = Counter()
        named: dict[str, Rooms] = defaultdict(lambda: defaultdict(set))
        heard: Counter[str] = Counter()
        senders, complete = self._find({notice.digest: notice for notice in notices}, begun + LOOKING_SECONDS)
        for notice in notices:
            sender = senders.get(notice.digest)
            reason = refusal(notice, sender)
            if sender is None or reason:
                counts[reason] += 1
                continue
            named[sender.connection][sender.room].add(notice.asked)
            heard[sender.connection] += 1
        stored = {connection: self._ear(connection).hear(rooms, kind) for connection, rooms in named.items()}
        if stored and wait(stored.values(), late - monotonic()).not_done:
            raise self._busy("Storage is slow")
        for connection, listens in stored.items():
            counts["accepted" if listens.result() else "connection-closed"] += heard[connection]
        if not complete:
            raise self._busy("There was no time to look every sender up")
        return counts

    def _busy(self, detail: str) -> Deferred:
        return Deferred(detail, until=self._app.clock(), code="storage-busy")

    def _ear(self, connection: str) -> "_Ear":
        with self._lock:
            if connection not in self._ears:
                self._ears[connection] = _Ear(self._app, connection, self._workers)
            return self._ears[connection]

    def _find(self, notices: Mapping[str, Notice], until: float) -> tuple[dict[str, Sender], bool]:
        """The senders of notices, by digest, and whether there was time to look every one up.

        A cached one that does not fit is read again: it may be a new one. One that nobody had is not: a clientState is
        stored before Graph hears of it. So requests that are sent again get on, however many strangers are in them.
        """
        now = self._app.clock()
        found: dict[str, Sender] = {}
        for digest, notice in notices.items():
            sender, kept_until = self._senders.get(digest, (None, now))
            if sender is not None and kept_until > now and not refusal(notice, sender):
                found[digest] = sender
        unknown = [digest for digest in notices if digest not in found and digest not in self._strangers]
        for start in range(0, len(unknown), LOOKUPS):
            digests = unknown[start : start + LOOKUPS]
            reads = [self._workers.submit(copy_context().run, self._look_up, digest) for digest in digests]
            done, left = wait(reads, max(0.0, until - monotonic()))
            for read in left:
                read.cancel()
            found |= {sender.digest: sender for read in done if (sender := read.result()) is not None}
            if left:
                return found, False
        return found, True

    def _look_up(self, digest: str) -> Sender | None:
        """The owner of a clientState; what there is to know about it is remembered."""
        sender, now = find_sender(self._app.tables.subscriptions, digest), self._app.clock()
        with self._lock:
            if sender is None:
                _keep(self._strangers, digest, None, STRANGERS)
            elif sender.subscription:
                _keep(self._senders, digest, (sender, now + KEPT), SENDERS)
        return sender


def _keep(cache: dict[str, V], key: str, value: V, limit: int) -> None:
    """Remember the value as the latest one, and forget the oldest ones above the limit."""
    cache.pop(key, None)
    cache[key] = value
    while len(cache) > limit:
        del cache[next(iter(cache))]


@dataclass
class _Round:
    """Rooms that are written together; `listens` tells all who wait for that what came of it."""

    rooms: Rooms = field(default_factory=lambda: defaultdict(set))
    kind: Kind = "notification"
    listens: "Future[bool]" = field(default_factory=Future)


class _Ear:
    """One connection. What comes in while a round is written waits together, and is then written at once."""

    def __init__(self, app: "App", connection: str, workers: ThreadPoolExecutor) -> None:
        self._app = app
        self._connection = connection
        self._workers = workers
        self._lock = Lock()
        self._next = _Round()
        self._serving = False
        self._enabled_until: datetime | None = None
        self._run = ""
        self._awake_until = 0.0

    def hear(self, rooms: Rooms, kind: Kind) -> "Future[bool]":
        """Have a run look at `rooms`. Done once that is stored; False where the connection does not listen."""
        with self._lock:
            mine = self._next
            for room, asked in rooms.items():
                mine.rooms[room] |= asked
            if kind == "lifecycle":
                mine.kind = kind
            if not self._serving:
                self._submit()
        return mine.listens

    def _submit(self) -> None:
        self._serving = True
        self._workers.submit(copy_context().run, self._serve)

    def _serve(self) -> None:
        """One round; the next one takes its turn with those of other connections."""
        with self._lock:
            mine, self._next = self._next, _Round()
        try:
            mine.listens.set_result(self._listens() and self._store(mine))
        except Exception as fault:  # noqa: BLE001 - it is raised again in every thread that waits for this round
            mine.listens.set_exception(fault)
        with self._lock:
            self._serving = False
            if self._next.rooms:
                self._submit()

    def _listens(self) -> bool:
        """Whether the connection is there and its calendars are synced: the latter as it was a moment ago."""
        found = connections.find(self._app.tables.connections, self._connection)
        if found is None or found.deleting:
            return False
        now = self._app.clock()
        if self._enabled_until is None or self._enabled_until <= now:
            enabled = jobs.load_settings(self._app, self._connection, SYNC)[0].enabled
            self._enabled_until = now + ENABLED_FOR if enabled else None
        return self._enabled_until is not None

    def _store(self, mine: _Round) -> bool:
        self._write(mine.rooms)
        if not self._next.rooms or monotonic() >= self._awake_until:  # else the next round, which is waiting, does it
            self._wake(mine.kind)
            self._awake_until = monotonic() + AWAKE_SECONDS
        log.info("%s heard connection=%s rooms=%d", mine.kind, self._connection, len(mine.rooms))
        return True

    def _write(self, rooms: Rooms) -> None:
        """Each row gets a new etag, so that a run that has begun to look at the room cannot take it as dealt with."""
        now = self._app.clock()
        writes = [
            Write("merge", heard_key(room), {"at": now, **{name: True for name in asked if name}})
            for room, asked in rooms.items()
        ]
        self._app.tables.data.commit_in_parts(self._connection, writes)

    def _wake(self, kind: Kind) -> None:
        """Start a run. One that is not over yet will see what has just been written, or be followed by one that does."""
        if self._run:
            found = load_run(self._app.tables.data, self._connection, self._run)
            if found is not None and found[0].status in ("queued", "running"):
                return
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                self._run = self._start(kind).id
            except RequestError:  # a run ended at this very moment
                if attempt == START_ATTEMPTS:
                    raise Deferred("The sync is being changed right now", until=self._app.clock()) from None
            else:
                return

    def _start(self, kind: Kind) -> Run:
        run, _ = jobs.start(
            self._app, self._connection, SYNC, trigger=kind, checkpoint=jobs.WAITING, delay=DELAY_SECONDS
        )
        return run


# --- the contract ----------------------------------------------------------------------------------------------------


def _operation(ident: str, path: str, what: str, handler: Callable[[Call], Reply]) -> Operation:
    return Operation(
        ident,
        "POST",
        path,
        f"{what} from Graph, and the handshake before",
        handler,
        {200: "text/plain", 202: None},
        body=Notifications,
        instead_of_body="validation_token",
        query=WebhookQuery,
        anonymous=True,
        errors=(503,),
    )


OPERATIONS = (
    _operation("receive_notifications", "webhooks/graph", "Change notifications", receive_notifications),
    _operation("receive_lifecycle_events", "webhooks/graph/lifecycle", "Lifecycle events", receive_lifecycle_events),
)
