"""Rooms as the admin links them: set up, shown with what their sync has come to, and removed; and those of the tenant."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from storage.faults import StorageError
from storage.tables import Table, Write, decode_key
from sync import jobs
from sync.calendars import store
from sync.calendars.commits import Step, transact
from sync.calendars.model import Room, RoomState, RoomStatus
from sync.calendars.models import PlaceOut, RoomIn, RoomOut
from sync.calendars.terms import policy_of
from sync.errors import Forbidden, RequestError
from sync.feed import Change
from sync.sync_settings import CalendarsSettings

if TYPE_CHECKING:
    from sync.connections import Connection
    from sync.graph.client import GraphClient
    from sync.wiring import App

log = logging.getLogger(__name__)

PLACES_PAGE = 100  # Learn: List places
PLACES_TIME = timedelta(seconds=20)
_SWEPT = 95  # rows in one transaction, beside the feed and what says that the room was removed
REMEDY = {
    "sync-disabled": "Enable the calendars sync in its settings.",
    "polling-only": "Nothing to do: Microsoft tells of no changes in this mailbox, so what is changed in Outlook "
    "arrives some minutes later.",
    "credential": "Replace the connection's credential; the rooms go on by themselves.",
    "room-denied": "Let the app reach this mailbox: grant Calendars.ReadWrite with admin consent, and put the room "
    "into the scope of the app's role in Exchange (RBAC for Applications).",
    "mailbox-not-found": "Check the address of the external calendar: there is no mailbox of that name.",
    "remote-empty": "Nearly all meetings have gone from the mailbox at once, so nothing was deleted here. If that is "
    "right, wait ten minutes; if not, have the mailbox restored.",
    "unreachable": "Microsoft has not answered for an hour; it is tried again by itself.",
}


def not_found() -> RequestError:
    return RequestError(
        "There is no such room", code="room-not-found", status=404, remedy="Check the address; ids are case-sensitive."
    )


def load(app: "App", connection: str, room: str) -> tuple[Room, str]:
    """The room and its etag. Raises RequestError `room-not-found`."""
    found = store.load_room(app.tables.data, connection, room)
    if found is None:
        raise not_found()
    return found


def version(room: Room) -> str:
    """What its ETag stands for: the room as the admin set it up, whatever happens in it."""
    return json.dumps(store.room_row(room))


def settings_of(app: "App", connection: str) -> CalendarsSettings:
    settings, _ = jobs.load_settings(app, connection, "calendars")
    assert isinstance(settings, CalendarsSettings)
    return settings


def start_run(app: "App", connection: "Connection", settings: CalendarsSettings) -> None:
    """Have what was written seen to now, where the sync is on. Its rows wait for the next run in any case, so nothing
    that goes wrong here is the request's fault any more.
    """
    if not settings.enabled or connection.status == "expired":
        return
    try:
        jobs.start(app, connection.name, "calendars", trigger="manual", checkpoint=jobs.WAITING)
    except RequestError:  # `sync-busy`: a run is being started or ended this moment
        return
    except StorageError as fault:
        log.warning("run left to the timer connection=%s fault=%s", connection.name, type(fault).__name__)


# --- shown -----------------------------------------------------------------------------------------------------------


def status_of(room: Room, state: RoomState) -> RoomStatus:
    """What the sync of a room has come to. Its state counts only once it is that of the present settings."""
    if not room.active:
        return "inactive"
    return "pending" if state.since != room.since or state.status == "inactive" else state.status


def render(room: Room, state: RoomState, settings: CalendarsSettings, pending: int) -> RoomOut:
    """A room as the contract shows it."""
    status = status_of(room, state)
    told = status in ("active", "error") or (status == "pending" and state.since == room.since)
    detail, warnings = (state.detail, state.warnings) if told else ("", ())
    if room.active and not settings.enabled:
        status, detail = "pending", "sync-disabled"
    known = policy_of(settings).warnings if room.active else ()
    subscription = state.subscription if room.active and settings.enabled else None
    return RoomOut(
        id=room.id,
        display_name=room.display_name,
        calendar_type=room.calendar_type,
        external_calendar=room.external_calendar,
        active=room.active,
        time_zone=room.time_zone,
        status=status,
        status_detail=detail or None,
        remedy=REMEDY.get(detail),
        warnings=list(dict.fromkeys((*warnings, *known))),
        pending_changes=pending,
        subscription_expires_at=subscription.expires_at if subscription else None,
        last_synced_at=state.synced_at,
    )


def show(app: "App", connection: str, room: Room) -> RoomOut:
    """One room with its state."""
    data = app.tables.data
    state, _ = store.load_state(data, connection, room.id)
    pending = sum(1 for _ in data.scan(connection, store.send_key(room.id, ""), columns=()))
    return render(room, state, settings_of(app, connection), pending)


def show_all(app: "App", connection: str, rooms: Sequence[Room]) -> list[RoomOut]:
    """These rooms with their states."""
    if not rooms:
        return []
    data = app.tables.data
    states = store.load_states(data, connection)
    todo = (row["key"].split("|") for row in data.scan(connection, store.WAITS, columns=()))
    pending = Counter(decode_key(parts[1]) for parts in todo if parts[2] == "send")
    settings = settings_of(app, connection)
    return [render(room, states.get(room.id, RoomState()), settings, pending[room.id]) for room in rooms]


# --- set up ----------------------------------------------------------------------------------------------------------


def put(
    app: "App", connection: "Connection", room_id: str, wanted: RoomIn, match: Callable[[str | None], None]
) -> tuple[Room, bool]:
    """Store the room; what it is now, and whether it is new. `match` raises where the stored one must not
    be replaced. Raises RequestError `duplicate-mailbox`, Conflict.
    """
    data, name = app.tables.data, connection.name

    def decide() -> Step[tuple[Room, bool]]:
        former, etag = store.load_room(data, name, room_id) or (None, None)
        match(version(former) if former else None)
        removed = None
        if former is None:
            finish_removal(app, name, room_id, keep=True)
            removed = data.get(name, store.removed_key(room_id))
        anew = former is not None and _has_failed(store.load_state(data, name, room_id)[0])
        room = _decide(room_id, wanted, former, connection.time_zone, app.clock(), anew=anew)
        writes = [
            Write("replace" if etag else "insert", store.room_key(room_id), store.room_row(room), etag),
            *_claim_mailbox(data, name, room, former),
            Write("replace", store.heard_key(room_id)),
            *([Write("delete", store.removed_key(room_id), etag=removed["etag"])] if removed else []),
        ]
        changes = [Change("room", room_id, "updated" if former else "created")] if room != former else []
        return Step((room, former is None), writes, changes)

    return transact(app, name, decide)[0]


def _decide(room_id: str, wanted: RoomIn, former: Room | None, zone: str, now: datetime, *, anew: bool) -> Room:
    """The room as it is to be stored: where something that its sync rests on is new, or it is tried `anew`, from `now` on."""
    room = Room(
        id=room_id,
        display_name=wanted.display_name,
        calendar_type=wanted.calendar_type,
        external_calendar=wanted.external_calendar,
        active=wanted.active,
        time_zone=wanted.time_zone or zone,
        since=former.since if former else now,
    )
    rests = ("external_calendar", "active", "time_zone")
    same = former is not None and all(getattr(room, name) == getattr(former, name) for name in rests)
    return room if same and not anew else replace(room, since=now)


def _has_failed(state: RoomState) -> bool:
    """Whether the room's calendar is out of reach, and another try may find it open."""
    return state.status == "error" and state.failed_at is not None and state.detail != "credential"


def _claim_mailbox(data: Table, connection: str, room: Room, former: Room | None) -> list[Write]:
    """What makes an active room the only one with its calendar. Where it has that already it was stored meanwhile: the
    insert meets that. Raises RequestError `duplicate-mailbox`.
    """
    before = former.external_calendar if former and former.active else None
    after = room.external_calendar if room.active else None
    if before == after:
        return []
    writes = [Write("delete", store.mailbox_key(before))] if before else []
    if after:
        taken = data.get(connection, store.mailbox_key(after))
        if taken is not None and taken["room"] != room.id:
            raise RequestError(
                "Another active room has this calendar",
                code="duplicate-mailbox",
                status=409,
                remedy="Link the calendar to one room, or switch the other one off first.",
            )
        writes.append(Write("insert", store.mailbox_key(after), {"room": room.id}))
    return writes


# --- removed ---------------------------------------------------------------------------------------------------------


def remove(app: "App", connection: str, room_id: str, match: Callable[[str], None]) -> None:
    """Take the room away with its reservations; its subscription is removed by the next run, which first sends what the
    portal had cancelled in it.

    From the first transaction on it is not there any more; whoever comes upon what is left goes on from there.
    Raises what `match` raises, RequestError `room-not-found`, Conflict.
    """

    def decide() -> Step[None]:
        room, etag = load(app, connection, room_id)
        match(version(room))
        writes = [
            Write("delete", store.room_key(room_id), etag=etag),
            Write("replace", store.removed_key(room_id), {**store.room_row(room), "at": app.clock()}),
            *([Write("delete", store.mailbox_key(room.external_calendar))] if room.active else []),
        ]
        return Step(None, writes, [Change("room", room_id, "deleted")])

    transact(app, connection, decide)
    finish_removal(app, connection, room_id, keep=True)


def finish_removal(app: "App", connection: str, room_id: str, *, keep: bool) -> dict[str, str]:
    """Delete what is left here of a room that is not there. What says that it was removed stays while it has a state,
    from which the next run learns of its subscription.

    With `keep`, what is cancelled and was not sent yet stays, too, unless the room was off: its ids, with the etags of
    the rows that say that they wait.
    """
    data = app.tables.data
    gone, (state, known) = store.load_removed(data, connection, room_id), store.load_state(data, connection, room_id)
    if gone is None and store.load_room(data, connection, room_id) is not None:  # the id is used again
        return {}
    sends = keep and gone is not None and gone[0].active and state.window_start is not None
    waits, needed = _cancels(data, connection, room_id) if sends else ({}, set())
    for prefix, kept in ((store.reservation_key(room_id, ""), needed), (store.send_key(room_id, ""), waits.keys())):
        while _sweep(app, connection, room_id, prefix, kept):
            continue
    data.commit(connection, [Write("delete", store.slots_key(room_id))])
    if known is None:
        data.commit(connection, [Write("delete", store.removed_key(room_id))])
    return waits


def _cancels(data: Table, connection: str, room_id: str) -> tuple[dict[str, str], set[str]]:
    """What is cancelled and waits to be sent, with the etags of the rows that say so; and all reservations that it takes
    to send that: those of occurrences need their series.
    """
    etags = {row["reservation"]: row["etag"] for row in data.scan(connection, store.send_key(room_id, ""))}
    stored = store.load_reservations(data, connection, room_id) if etags else []
    found = [one for one, _ in stored if one.link.state == "deleting" and one.id in etags]
    return {one.id: etags[one.id] for one in found}, {name for one in found for name in (one.id, one.series) if name}


def _sweep(app: "App", connection: str, room_id: str, prefix: str, kept: Collection[str]) -> int:
    """Delete some rows of a room that is gone, but for those kept; how many there were. Reservations that were shown are
    told of.
    """
    data = app.tables.data

    def decide() -> Step[int]:
        rows = data.page(connection, prefix, top=_SWEPT + len(kept))
        gone = data.get(connection, store.removed_key(room_id))
        if gone is None and store.load_room(data, connection, room_id) is not None:  # the id is used again
            return Step(0)
        over = {name: row for row in rows if (name := decode_key(row["key"].rpartition("|")[2])) not in kept}
        some = dict(islice(over.items(), _SWEPT))
        shown = [name for name, row in some.items() if row.get("status", "cancelled") != "cancelled"]
        writes = [Write("delete", row["key"], etag=row["etag"]) for row in some.values()]
        still = [Write("update", store.removed_key(room_id), etag=gone["etag"])] if gone else []
        return Step(
            len(some), [*still, *writes] if some else [], [Change("reservation", one, "deleted") for one in shown]
        )

    return transact(app, connection, decide)[0]


# --- places ----------------------------------------------------------------------------------------------------------


def places(app: "App", connection: str, skip: int, top: int) -> tuple[list[PlaceOut], bool]:
    """Up to `top` rooms of the tenant behind the first `skip`, and whether there are more.

    Raises RequestError `places-forbidden`, and as a Graph client does.
    """
    graph = app.graph(connection, deadline=app.clock() + PLACES_TIME)
    try:
        found = list(islice(_rooms(graph, skip), top + 1))
    except Forbidden:
        app.forget_sign_in(connection)
        raise RequestError(
            "Graph refuses to list the rooms of the tenant",
            code="places-forbidden",
            status=409,
            remedy="Grant the app Place.Read.All with admin consent, then check the connection.",
        ) from None
    linked = {room.external_calendar: room.id for room in store.load_rooms(app.tables.data, connection)}
    shown = [parse_place(raw, linked) for raw in found[:top]]
    return shown, len(found) > top


def _rooms(graph: "GraphClient", skip: int) -> Iterator[Mapping[str, Any]]:
    """The tenant's rooms behind the first `skip`; a full page without a link may have others behind it, unless it shows
    nothing new.
    """
    params = {"$top": str(PLACES_PAGE), "$skip": str(skip)}
    page = graph.page("/places/microsoft.graph.room", params=params)
    seen: set[Any] = set()
    while True:
        new = [room for room in page.items if room.get("id") not in seen]
        yield from new
        skip += len(page.items)
        seen |= {room.get("id") for room in new} - {None}
        if page.items and not new:
            return
        if page.next_link:
            page = graph.page(page.next_link)
        elif len(page.items) >= PLACES_PAGE:
            page = graph.page("/places/microsoft.graph.room", params={**params, "$skip": str(skip)})
        else:
            return


def parse_place(raw: Mapping[str, Any], linked: Mapping[str, str]) -> PlaceOut:
    """A room of the tenant as the contract shows it; `linked` has the rooms here by calendar (Learn: room resource)."""

    def text(name: str) -> str | None:
        value = raw.get(name)
        return value if isinstance(value, str) else None

    def whole(name: str) -> int | None:
        value = raw.get(name)
        return value if isinstance(value, int) else None

    address = text("emailAddress") or ""
    tags = raw.get("tags")
    return PlaceOut(
        id=text("id"),
        display_name=text("displayName"),
        email_address=address,
        capacity=whole("capacity"),
        building=text("building"),
        floor_number=whole("floorNumber"),
        floor_label=text("floorLabel"),
        phone=text("phone"),
        booking_type=text("bookingType"),
        tags=[tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else [],
        linked_room=linked.get(address.lower()),
    )
