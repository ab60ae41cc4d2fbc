"""Graph's subscriptions to rooms: created, renewed, created anew, removed. (Learn: subscription resource type.)

A subscription's clientState proves that a notification is Graph's. It is kept nowhere but at Graph: what it leads to is
found under its digest.

table subscriptions   sha256(clientState), "subscription"    connection, room, digest, tenant, subscription
table data            connection, subscription|{room}|{digest}   which digests a room has: one, or what a crash left
table due             renewals, {time}|{connection}|{room}   when a room's subscription has to be renewed
"""

import hashlib
import logging
import secrets
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from storage.tables import Row, Table, Write, encode_key
from sync import jobs
from sync.calendars.model import Room, RoomState, Subscription
from sync.calendars.store import heard_key, load_state
from sync.connections import Connection, find
from sync.due import due_key
from sync.errors import Deferred, GraphError, NotFound, RequestError, TenantsyncError

if TYPE_CHECKING:
    from sync.graph.client import GraphClient
    from sync.wiring import App

log = logging.getLogger(__name__)

SYNC = "calendars"
CLIENT_STATE_LIMIT = 128
LIFE = timedelta(minutes=4230)  # Learn had this as the longest for years; some tenants still refuse more
RENEW_BEFORE = timedelta(hours=24)
BACKOFF = timedelta(hours=1)
REMOVAL_TIME = timedelta(seconds=60)
RENEWALS = "renewals"
HEADERS = {"Prefer": 'IdType="ImmutableId"'}
_ROW = "subscription"
_INDEX = "subscription|"

Asked = Literal["", "renew", "recreate"]
"""What a lifecycle event asks for beside looking at the room."""

Action = Literal["create", "renew", "keep", "wait"]


@dataclass(frozen=True)
class Sender:
    """Whom a clientState belongs to. `subscription` is empty until Graph has said its id, `tenant` where it is a domain."""

    connection: str
    room: str
    digest: str
    subscription: str
    tenant: str


def digest_of(client_state: str) -> str:
    """What is stored of a clientState."""
    return hashlib.sha256(client_state.encode(errors="surrogatepass")).hexdigest()


def find_sender(table: Table, digest: str) -> Sender | None:
    """The owner of the clientState with this digest, or None."""
    row = table.get(digest, _ROW)
    return None if row is None else Sender(**{name: row[name] for name in Sender.__dataclass_fields__})


def save_sender(table: Table, sender: Sender) -> None:
    table.commit(sender.digest, [Write("replace", _ROW, asdict(sender))])


# --- decisions -------------------------------------------------------------------------------------------------------


def asked_of(flags: Collection[str]) -> Asked:
    """What lifecycle events ask for, by the flags of a room's `heard` row."""
    return "recreate" if "recreate" in flags else "renew" if "renew" in flags else ""


def decide(state: RoomState, now: datetime, asked: Asked = "") -> Action:
    """What to do about a room's subscription. A refusal is waited out, unless Graph itself asks."""
    held, refused_until = state.subscription, state.no_subscription_until
    waits = refused_until is not None and now < refused_until and not asked
    if held is None or held.expires_at <= now or asked == "recreate":
        return "wait" if waits else "create"
    if held.renew_at < now or asked == "renew":
        return "wait" if waits else "renew"
    return "keep"


def render_create(base_url: str, mailbox: str, client_state: str, now: datetime) -> dict[str, str]:
    """The body of the POST (Learn: Create subscription)."""
    return {
        "changeType": "created,updated,deleted",
        "notificationUrl": f"{base_url}/webhooks/graph",
        "lifecycleNotificationUrl": f"{base_url}/webhooks/graph/lifecycle",
        "resource": f"users/{mailbox}/events",
        "expirationDateTime": render_expiry(now),
        "clientState": client_state,
        "latestSupportedTlsVersion": "v1_2",
    }


def render_expiry(now: datetime) -> str:
    return (now + LIFE).isoformat(timespec="seconds").replace("+00:00", "Z")


def granted(subscription: str, digest: str, answer: Mapping[str, Any], now: datetime) -> Subscription:
    """A subscription with the life that Graph's answer grants, or the one that was asked for where it tells of none.

    It is renewed in its last day, one of a short life halfway. Raises GraphError for what names no subscription, or none
    that is alive.
    """
    try:
        expires = datetime.fromisoformat(answer.get("expirationDateTime") or render_expiry(now))
        expires = expires if expires.tzinfo else expires.replace(tzinfo=UTC)
    except (ValueError, TypeError):
        expires = now
    if not subscription or expires <= now:
        raise GraphError(
            "Graph's answer tells of no subscription", http=200, graph_code="unknown", code="answer-unreadable"
        )
    return Subscription(subscription, digest, expires, max(expires - RENEW_BEFORE, now + (expires - now) / 2))


def is_same(listed: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    """Whether a subscription in Graph's list is one of this app for the same mailbox."""
    resource, url = str(listed.get("resource")), listed.get("notificationUrl")
    return url == wanted["notificationUrl"] and resource.strip("/").lower() == wanted["resource"].lower()


# --- for one room ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subscriber:
    """The subscriptions of one connection's rooms. Every call raises SignInError."""

    graph: "GraphClient"
    app: "App"
    connection: str

    def keep(self, room: Room, state: RoomState, now: datetime, asked: Asked = "") -> RoomState:
        """The room's state with a subscription that lives on, created or renewed where it has to be.

        Where Graph refuses one the room is polled, and it is tried again later: no other error is raised.
        """
        action = decide(state, now, asked) if self.app.settings.webhook_base_url else "wait"
        held = state.subscription
        try:
            if action == "create":
                held = self._create(room, now)
            elif action == "renew" and held:
                held = self._renew(room, held, now)
        except (GraphError, Deferred) as error:
            log.warning("subscription refused connection=%s room=%s code=%s", self.connection, room.id, error.code)
            until = error.until if isinstance(error, Deferred) else now + BACKOFF
            return _told(replace(state, subscription=held if action == "renew" else None, no_subscription_until=until))
        done = action in ("create", "renew")
        return _told(replace(state, subscription=held, no_subscription_until=None) if done else state)

    def remove(self, room: str) -> None:
        """Take the room's subscription away, and whatever a crash has left of others. Raises Deferred."""
        for row in list(self.app.tables.data.scan(self.connection, f"{_INDEX}{encode_key(room)}|")):
            sender = find_sender(self.app.tables.subscriptions, row["digest"])
            if sender is not None and sender.subscription:
                _delete(self.graph, sender.subscription)
            _forget(self.app, self.connection, row)

    def _renew(self, room: Room, held: Subscription, now: datetime) -> Subscription:
        wanted = {"expirationDateTime": render_expiry(now)}
        try:
            answer = self.graph.write("PATCH", f"/subscriptions/{quote(held.id, safe='')}", wanted)
        except NotFound:
            return self._create(room, now)
        renewed = granted(held.id, held.digest, answer, now)
        self._plan_renewal(room, renewed)
        return renewed

    def _create(self, room: Room, now: datetime) -> Subscription:
        """A new one. Its digest is stored before Graph hears of it: the first notification may come at once."""
        self.remove(room.id)
        client_state = secrets.token_urlsafe(32)
        sender = Sender(self.connection, room.id, digest_of(client_state), "", _tenant(self.app, self.connection))
        index = {"key": f"{_INDEX}{encode_key(room.id)}|{sender.digest}", "digest": sender.digest}
        self.app.tables.data.commit(self.connection, [Write("replace", index["key"], {"digest": sender.digest})])
        save_sender(self.app.tables.subscriptions, sender)
        body = render_create(str(self.app.settings.webhook_base_url), room.external_calendar, client_state, now)
        try:
            answer = self._post(body)
            made = granted(str(answer.get("id") or ""), sender.digest, answer, now)
        except GraphError:
            _forget(self.app, self.connection, index)
            raise
        save_sender(self.app.tables.subscriptions, replace(sender, subscription=made.id))
        self._plan_renewal(room, made)
        return made

    def _post(self, body: Mapping[str, str]) -> dict[str, Any]:
        """Graph's answer to the POST. A subscription that stands in the way is one whose answer got lost: it goes first."""
        try:
            return self.graph.write("POST", "/subscriptions", body, headers=HEADERS)
        except GraphError as error:
            if error.http != 409:
                raise
        for listed in list(self._listed()):
            if is_same(listed, body) and not self._is_of_another(listed):
                _delete(self.graph, str(listed["id"]))
        return self.graph.write("POST", "/subscriptions", body, headers=HEADERS)

    def _listed(self) -> Iterator[dict[str, Any]]:
        """The subscriptions of this app in its tenant (Learn: List subscriptions)."""
        link: str | None = "/subscriptions"
        while link:
            page = self.graph.page(link)
            yield from page.items
            link = page.next_link

    def _is_of_another(self, listed: Mapping[str, Any]) -> bool:
        """Whether it belongs to another connection with the same app and tenant, as far as Graph shows that."""
        state = listed.get("clientState")
        owner = find_sender(self.app.tables.subscriptions, digest_of(state)) if isinstance(state, str) else None
        return owner is not None and owner.connection != self.connection

    def _plan_renewal(self, room: Room, made: Subscription) -> None:
        key = due_key(made.renew_at, self.connection, encode_key(room.id))
        row = {"connection": self.connection, "room": room.id}
        self.app.tables.due.commit(RENEWALS, [Write("replace", key, row)])


def _told(state: RoomState) -> RoomState:
    """With the detail of a room whose sync works; that of any other says why it does not."""
    if state.status == "error":
        return state
    return replace(state, detail="webhook" if state.subscription else "polling-only")


def _delete(graph: "GraphClient", subscription: str) -> None:
    """One that Graph does not have, or does not let go, runs out by itself."""
    with suppress(GraphError):
        graph.write("DELETE", f"/subscriptions/{quote(subscription, safe='')}")


def _forget(app: "App", connection: str, index: Row) -> None:
    app.tables.subscriptions.commit(index["digest"], [Write("delete", _ROW)])
    app.tables.data.commit(connection, [Write("delete", index["key"])])


def _tenant(app: "App", connection: str) -> str:
    """The tenant's id; empty where the connection has a domain in its place."""
    found = find(app.tables.connections, connection)
    return found.tenant_id if found and "." not in found.tenant_id else ""


# --- for a connection ------------------------------------------------------------------------------------------------


def remove_all(app: "App", connection: Connection) -> None:
    """Take all subscriptions of a connection away, as far as its credential and a minute allow.

    What stays at Graph runs out by itself; its notifications lead to nobody.
    """
    rows = list(app.tables.data.scan(connection.name, _INDEX))
    until = app.clock() + REMOVAL_TIME
    graph: GraphClient | None = None
    with suppress(TenantsyncError):
        graph = app.graph_of(connection, deadline=until) if rows else None
    for row in rows:
        sender = find_sender(app.tables.subscriptions, row["digest"])
        if graph is not None and sender is not None and sender.subscription:
            graph = _deleted_with(graph, sender.subscription) if app.clock() < until else None
        _forget(app, connection.name, row)


def _deleted_with(graph: "GraphClient", subscription: str) -> "GraphClient | None":
    """Delete it; the client, or None where it is of no further use."""
    try:
        _delete(graph, subscription)
    except TenantsyncError as error:
        log.warning("subscriptions are left to run out code=%s", error.code)
        return None
    return graph


def let_go(app: "App", connection: str) -> None:
    """Have a run take away the subscriptions of a connection whose calendars are not synced any more.

    The renewals' timer looks after it, should that run not come to it.
    """
    if not _has_any(app, connection):
        return
    row = {"connection": connection, "room": ""}
    app.tables.due.commit(RENEWALS, [Write("replace", due_key(app.clock(), connection, ""), row)])
    if not app.lapsed(connection):
        with suppress(RequestError):  # `sync-busy`: a run is being started or ended this moment
            jobs.start(app, connection, SYNC, trigger="manual")


def _has_any(app: "App", connection: str) -> bool:
    return bool(app.tables.data.page(connection, _INDEX, top=1, columns=()))


# --- renewals --------------------------------------------------------------------------------------------------------


def renew_due(app: "App") -> None:
    """Have the rooms looked at whose subscriptions have to be renewed, in one run for each connection."""
    now = app.clock()
    due: dict[str, dict[str, str]] = defaultdict(dict)
    for row in app.tables.due.scan(RENEWALS, until=due_key(now, "~", "~")):
        due[row["connection"]][row["key"]] = row["room"]
    for connection, rooms in due.items():
        if app.lapsed(connection):
            continue
        try:
            seen_to = _have_renewed(app, connection, set(rooms.values()), now)
        except TenantsyncError as error:
            log.warning("renewals left for the next tick connection=%s code=%s", connection, error.code)
            continue
        for key in rooms if seen_to else ():
            app.tables.due.commit(RENEWALS, [Write("delete", key)])


def _have_renewed(app: "App", connection: str, rooms: Iterable[str], now: datetime) -> bool:
    """Mark those rooms whose state still says so, and start a run for them; whether that is all there is to do.

    Where the sync is off, a run takes all subscriptions away. The next tick looks whether it has: one that had begun
    before the sync was switched off may make them still.
    """
    found = find(app.tables.connections, connection)
    if found is None or found.deleting:
        return True
    if not jobs.load_settings(app, connection, SYNC)[0].enabled:
        left = _has_any(app, connection)
        if left:
            jobs.start(app, connection, SYNC, trigger="timer")
        return not left
    states = {room: load_state(app.tables.data, connection, room)[0] for room in rooms}
    waiting = [room for room, state in states.items() if state.subscription and decide(state, now) != "keep"]
    app.tables.data.commit_in_parts(connection, [Write("merge", heard_key(room), {"at": now}) for room in waiting])
    if waiting:
        jobs.start(app, connection, SYNC, trigger="timer", checkpoint=jobs.WAITING)
    return True
