"""Change notifications and lifecycle events of Graph: each is checked, its room is heard, its connection is woken.

A notification is only a hint. Nothing in it is followed or stored: its clientState leads to the room that it is about,
and the run that follows reads from Graph what has changed. (Learn: Receive change notifications through webhooks;
Reduce missing change notifications and removed subscriptions.)
"""

import hmac
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field

from storage.tables import Write
from sync import connections, jobs
from sync.calendars.store import heard_key
from sync.errors import Deferred, RequestError
from sync.http import Call, Operation, Reply
from sync.models import Model
from sync.runs import load_run
from sync.subscriptions import CLIENT_STATE_LIMIT, SYNC, Asked, Sender, digest_of, find_sender

if TYPE_CHECKING:
    from sync.wiring import App

log = logging.getLogger(__name__)

LIFECYCLE: Mapping[str, Asked] = {"reauthorizationRequired": "renew", "subscriptionRemoved": "recreate", "missed": ""}
TOKEN_LIMIT = 4096  # as long as a query may be on Azure Functions
DELAY_SECONDS = 5  # one booking gives several notifications: one run for all of them
LOOKUPS = 200  # of clientStates, in one request: a forged one costs a read
READERS = 8
WORKERS = 32
PATIENCE_SECONDS = 2.5  # Graph counts an answer after 3 seconds as slow, and then holds notifications back
KEPT = timedelta(seconds=60)
SENDERS = 20_000
START_ATTEMPTS = 3

Kind = Literal["notification", "lifecycle"]


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
    accepted = counts.pop("accepted", 0)
    counts["unreadable"] += len(call.body.value) - len(notices)
    dropped = +counts
    log.log(
        logging.WARNING if dropped else logging.INFO,
        "%s accepted=%d dropped=%d reasons=%s",
        kind,
        accepted,
        dropped.total(),
        ",".join(f"{reason}:{count}" for reason, count in sorted(dropped.items())) or "-",
    )
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
        self._ears: dict[str, _Ear] = {}
        self._workers = ThreadPoolExecutor(WORKERS, "inbox")

    def take(self, notices: Sequence[Notice], kind: Kind) -> Counter[str]:
        """How many were accepted, and how many dropped for which reason. What was accepted is stored on return.

        Raises the SDK's errors where storage refuses, Deferred where they have to be sent again because it is slow.
        """
        work = self._workers.submit(copy_context().run, self._take, notices, kind)
        try:
            return work.result(PATIENCE_SECONDS)
        except TimeoutError:
            work.cancel()
            raise Deferred("Storage is slow", until=self._app.clock(), code="storage-busy") from None

    def _take(self, notices: Sequence[Notice], kind: Kind) -> Counter[str]:
        counts: Counter[str] = Counter()
        named: dict[str, Rooms] = defaultdict(lambda: defaultdict(set))
        heard: Counter[str] = Counter()
        senders = self._find({notice.digest: notice for notice in notices})
        for notice in notices:
            sender = senders.get(notice.digest)
            reason = refusal(notice, sender)
            if sender is None or reason:
                counts[reason] += 1
                continue
            named[sender.connection][sender.room].add(notice.asked)
            heard[sender.connection] += 1
        for connection, rooms in named.items():
            listens = self._ear(connection).hear(rooms, kind)
            counts["accepted" if listens else "connection-closed"] += heard[connection]
        return counts

    def _ear(self, connection: str) -> "_Ear":
        with self._lock:
            return self._ears.setdefault(connection, _Ear(self._app, connection))

    def _find(self, notices: Mapping[str, Notice]) -> dict[str, Sender]:
        """The senders of notices, by digest. A cached one that does not fit is read again: it may be a new one."""
        now = self._app.clock()
        found: dict[str, Sender] = {}
        for digest, notice in notices.items():
            sender, until = self._senders.get(digest, (None, now))
            if sender is not None and until > now and not refusal(notice, sender):
                found[digest] = sender
        unknown = [digest for digest in notices if digest not in found]
        looked_up = self._read(unknown[:LOOKUPS])
        self._remember(looked_up, now + KEPT)
        if len(unknown) > LOOKUPS and (found or looked_up):
            raise Deferred("More senders than one request may have looked up", until=now)
        return found | looked_up

    def _read(self, digests: list[str]) -> dict[str, Sender]:
        table = self._app.tables.subscriptions
        if len(digests) <= 1:
            senders = [find_sender(table, digest) for digest in digests]
        else:
            with ThreadPoolExecutor(READERS) as pool:
                senders = list(pool.map(lambda digest: find_sender(table, digest), digests))
        return {sender.digest: sender for sender in senders if sender is not None}

    def _remember(self, senders: Mapping[str, Sender], until: datetime) -> None:
        with self._lock:
            for digest, sender in senders.items():
                if sender.subscription:
                    self._senders.pop(digest, None)
                    self._senders[digest] = (sender, until)
            for digest in list(islice(self._senders, max(0, len(self._senders) - SENDERS))):
                del self._senders[digest]


@dataclass
class _Round:
    """Rooms that are written together, and what became of that."""

    rooms: Rooms = field(default_factory=lambda: defaultdict(set))
    kind: Kind = "notification"
    over: bool = False
    listens: bool = False
    fault: Exception | None = None


class _Ear:
    """One connection. What comes in while one request writes waits together, and is then written at once."""

    def __init__(self, app: "App", connection: str) -> None:
        self._app = app
        self._connection = connection
        self._lock = Lock()
        self._writing = Lock()
        self._next = _Round()
        self._run = ""

    def hear(self, rooms: Rooms, kind: Kind) -> bool:
        """Have a run look at `rooms`; False where the connection has none to look. Returns once that is stored."""
        with self._lock:
            mine = self._next
            for room, asked in rooms.items():
                mine.rooms[room] |= asked
            if kind == "lifecycle":
                mine.kind = kind
        with self._writing:
            if not mine.over:
                with self._lock:
                    self._next = _Round()
                self._serve(mine)
        if mine.fault is not None:
            raise mine.fault
        return mine.listens

    def _serve(self, now_served: _Round) -> None:
        try:
            now_served.listens = self._listens()
            if now_served.listens:
                self._write(now_served.rooms)
                self._wake(now_served.kind)
        except Exception as fault:  # noqa: BLE001 - it is raised again, in every thread that waits for this round
            now_served.fault = fault
        now_served.over = True

    def _listens(self) -> bool:
        found = connections.find(self._app.tables.connections, self._connection)
        if found is None or found.deleting:
            return False
        return jobs.load_settings(self._app, self._connection, SYNC)[0].enabled

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
                self._run = jobs.start(self._app, self._connection, SYNC, trigger=kind, delay=DELAY_SECONDS)[0].id
            except RequestError:  # a run ended at this very moment
                if attempt == START_ATTEMPTS:
                    raise Deferred("The sync is being changed right now", until=self._app.clock()) from None
            else:
                return


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
