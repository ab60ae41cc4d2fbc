"""From the portal to Graph: what waits in one room is sent, one reservation after the other.

The room's own calendar takes whatever is written to it, so a check for a clash comes before every write that needs time
(Learn: Create event; the booking assistant answers invitations alone). A create is frozen and stored before it is sent,
with a transactionId: whatever becomes of the answer, sending it again makes no second event.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from sync.calendars.event import READ_HEADERS, Remote, Unreadable, parse_event, render_create, render_update
from sync.calendars.mailboxes import Denied, Raw, event_path, fetch_copies, fetch_event, fetch_instances, fetch_view
from sync.calendars.merge import CLASH, LOCAL, MOVED, Title, changed, decide, vanished
from sync.calendars.model import Agreed, Link, Reservation, Times, transaction_id
from sync.calendars.organizers import see
from sync.calendars.store import load_reservation
from sync.calendars.visit import Visit
from sync.errors import Changed, CursorExpired, Forbidden, GraphError, NotFound

_ORDER = {"deleting": 0, "updating": 1, "creating": 2}
_UNANSWERED = (NotFound, CursorExpired)


def push(visit: Visit, *, recurring: bool) -> bool:
    """Send what waits, each committed by itself; False when the slice's time was up before the end.

    Without `recurring`, what the portal repeats is left for the ongoing sync. Raises Forbidden and NotFound where the
    room's mailbox refuses.
    """
    waiting = [one for one in visit.ledger if one.link.state in _ORDER]
    for one in sorted(waiting, key=lambda each: (_ORDER[each.link.state], each.updated_at)):
        if visit.work.time_is_up():
            return False
        if not recurring and one.origin == "portal" and one.kind != "single":
            visit.ledger.count("skipped")
            visit.ledger.note(one.id, "skipped", "recurring-not-sent")
            continue
        now_held = visit.ledger.get(one.id)
        if now_held is not None and now_held.link.state in _ORDER:
            _SENDERS[now_held.link.state](visit, now_held)
            visit.ledger.commit(visit.work.now())
    return True


# --- create ----------------------------------------------------------------------------------------------------------


def _create(visit: Visit, one: Reservation) -> None:
    if one.kind in ("occurrence", "exception") and one.series:
        return  # it comes to be with its series
    if one.link.organizer == "user" and not visit.policy.create_on_user:
        if one.link.payload:
            return  # it may have been sent already: the room's copy will tell
        one = replace(one.linked(organizer="room", organizer_address=""), status="confirmed", note="created-on-room")
    found = _look_first(visit, one) if one.link.organizer == "room" else None
    if found is _BUSY:
        _reject(visit, one, "room-busy", CLASH)
    elif found is not None:
        _created(visit, one, found, certain=False)
    else:
        _post(visit, one)


def _post(visit: Visit, one: Reservation) -> None:
    """Send the create to the calendar of the room or of the owner."""
    on_user = one.link.organizer == "user"
    mailbox = one.link.organizer_address if on_user else visit.mailbox
    one = _freeze(visit, one, mailbox, on_user=on_user)
    try:
        answer = visit.graph.write("POST", event_path(mailbox), one.link.payload, headers=READ_HEADERS)
    except (Forbidden, NotFound) as error:
        if not on_user:
            raise
        _create_on_room(visit, one, "denied" if isinstance(error, Forbidden) else "no-mailbox")
    except GraphError as error:
        _refused(visit, one, error)
    else:
        _created(visit, one, answer, certain=True)


_BUSY: Raw = {}


def _look_first(visit: Visit, one: Reservation) -> Raw | None:
    """What the room's calendar has at the time of `one`: _BUSY, the event that an earlier try made, or None."""
    wanted = _needed(visit, one)
    start, end = min(each.start for each in wanted), max(each.end for each in wanted)
    busy = False
    for raw in fetch_view(visit.graph, visit.mailbox, start, end):
        if one.link.transaction and raw.get("transactionId") == one.link.transaction:
            return raw
        busy = busy or _takes(visit, one, raw, wanted)
    return _BUSY if busy else None


def _needed(visit: Visit, one: Reservation) -> list[Times]:
    """The times that `one` needs the room for."""
    if one.kind != "series":
        return [one.times]
    parts = [each.times for each in visit.ledger if each.series == one.id and each.live]
    return parts or [one.times]


def _takes(visit: Visit, one: Reservation, raw: Raw, wanted: list[Times]) -> bool:
    """Whether an event keeps `one` from the room. One that the room still shows although it has moved does not."""
    try:
        remote = parse_event(raw, visit.room.time_zone)
    except Unreadable:
        return one.kind == "single"  # it is there at that time, whatever it is
    if remote.cancelled or remote.free or remote.id == one.link.room_event:
        return False
    if one.kind == "series" and remote.master and remote.master == one.link.room_event:
        return False
    known = next((each for each in visit.ledger if each.link.room_event == remote.id), None)
    if known is not None and (known.id == one.id or _has_left(known, remote)):
        return False
    return any(each.overlaps(remote.times) for each in wanted)


def _has_left(known: Reservation, remote: Remote) -> bool:
    """Whether the room's copy is older than what the portal told the organizer's calendar."""
    if known.link.organizer == "room":
        return False
    if not known.live:
        return known.link.cause == LOCAL
    former = known.link.former
    return former is not None and (former.start, former.end) == remote.times.canonical()


def _freeze(visit: Visit, one: Reservation, mailbox: str, *, on_user: bool) -> Reservation:
    """`one` with the create that is going to be sent, stored; a frozen one is never changed."""
    if one.link.payload and one.link.mailbox == mailbox:
        return one
    payload = render_create(
        one,
        room_address=visit.mailbox,
        room_name=visit.room.display_name,
        owner=one.owner,
        on_user=on_user,
    )
    frozen = one.linked(
        state="creating", payload=payload, mailbox=mailbox, transaction=transaction_id(one), base=one.agreed()
    )
    visit.ledger.put(frozen)
    visit.ledger.commit(visit.work.now())
    return frozen


def _created(visit: Visit, one: Reservation, raw: Raw, *, certain: bool) -> None:
    """Bind `one` to its event. One that was found rather than made may have been changed since: the next round shows."""
    try:
        remote = parse_event(raw, visit.room.time_zone)
    except Unreadable as bad:
        _reject(visit, one, str(bad), LOCAL)
        return
    on_user = one.link.organizer == "user"
    base = one.link.base or one.agreed()
    as_sent = certain and remote.times.canonical() == (base.start, base.end)
    bound = one.linked(
        state="linked",
        organizer_address=one.link.organizer_address if on_user else visit.mailbox.lower(),
        room_event="" if on_user else remote.id,
        organizer_event=remote.id if on_user else "",
        ical=remote.ical,
        room_etag=remote.etag if as_sent and not on_user else "",
        organizer_etag=remote.etag if on_user else "",
        base=base,
        payload=None,
        created_at=remote.created_at,
    )
    bound = replace(
        bound,
        status="awaitingRoom" if on_user and one.live else one.status,
        recurrence=remote.recurrence if one.kind == "series" and remote.recurrence else one.recurrence,
    )
    if on_user:
        visit.set(awaiting=True)
    _settle(visit, bound)
    if one.kind == "series" and not on_user:
        _bind_instances(visit, bound)


def _settle(visit: Visit, one: Reservation) -> None:
    """Store `one` after it was sent: done, unless the portal changed it in the meantime."""
    left = one.live and changed(one.link.base or one.agreed(), one.agreed())
    if not one.live or left:
        visit.ledger.put(one.linked(state="updating" if one.live else "deleting"), "updated")
        return
    visit.ledger.put(replace(one, sync_state="synced", note=_kept_note(one)), "updated")
    visit.ledger.sent(one.id)


def _kept_note(one: Reservation) -> str:
    return one.note if one.note in ("created-on-room", "owner-calendar-denied") else ""


def _bind_instances(visit: Visit, series: Reservation) -> None:
    """The occurrences of a series that was just made get their events, so that its echo tells nothing new."""
    listed = fetch_instances(visit.graph, visit.mailbox, series.link.room_event, visit.window)
    by_place = {one.original_start: one for one in visit.ledger if one.series == series.id}
    for raw in listed or ():
        try:
            remote = parse_event(raw, visit.room.time_zone)
        except Unreadable:
            continue
        place = remote.original_start or remote.times.start
        one = by_place.get(place)
        if one is not None and one.link.state in ("none", "creating", "updating", "deleting", "gone"):
            _bind_instance(visit, series, one, remote)


def _bind_instance(visit: Visit, series: Reservation, one: Reservation, remote: Remote) -> None:
    """An occurrence that the portal changed or cancelled before its series was sent is sent after it."""
    base = replace(series.agreed(), start=remote.times.canonical()[0], end=remote.times.canonical()[1], pattern="")
    bound = one.linked(
        organizer="room",
        organizer_address=series.link.organizer_address,
        room_event=remote.id,
        master=series.link.room_event,
        ical=remote.ical,
        room_etag=remote.etag,
        created_at=remote.created_at,
        base=base,
        state="linked",
    )
    if not one.live:
        visit.ledger.put(bound.linked(state="deleting", cause=LOCAL))
    elif changed(base, one.agreed()):
        visit.ledger.put(bound.linked(state="updating"))
    else:
        visit.ledger.put(replace(bound, sync_state="synced"), "updated")
        visit.ledger.sent(one.id)


def _create_on_room(visit: Visit, one: Reservation, reason: Any) -> None:
    """The owner's calendar is closed for certain: the reservation goes to the room's own, and its owner may change."""
    visit.denials.add(one.link.organizer_address, Denied(reason), visit.work.now())
    fresh = replace(one, generation=one.generation + 1, status="confirmed", note="owner-calendar-denied")
    fresh = replace(fresh, link=Link(state="creating"))
    visit.ledger.put(fresh)
    visit.ledger.note(one.id, "skipped", "owner-calendar-denied")
    visit.ledger.commit(visit.work.now())
    _create(visit, fresh)


def _refused(visit: Visit, one: Reservation, error: GraphError) -> None:
    """A create that Graph does not take. A transactionId that another event has (after it was deleted) is given up."""
    if error.graph_code == "ErrorDuplicateTransactionId" and one.generation < 3:
        fresh = replace(one, generation=one.generation + 1).linked(payload=None, transaction="")
        visit.ledger.put(fresh)
        return
    _reject(visit, one, "graph-refused", LOCAL)


def _reject(visit: Visit, one: Reservation, note: str, cause: str) -> None:
    """The reservation cannot be: its slot is free again, and its owner is told why."""
    now = visit.work.now()
    parts = [each for each in visit.ledger if each.series == one.id and each.live] if one.kind == "series" else []
    for each in (one, *parts):
        ended = replace(each, status="declined", sync_state="rejected", note=note, updated_at=now)
        visit.ledger.put(ended.linked(state="gone", cause=cause), "updated")
        visit.ledger.sent(each.id)
    visit.ledger.count("failed")
    visit.ledger.note(one.id, "failed", note)


# --- change ----------------------------------------------------------------------------------------------------------


def _update(visit: Visit, one: Reservation) -> None:
    if one.link.organizer != "room" and not visit.policy.write_user:
        _roll_back(visit, one, "organizer-locked")
        return
    for _ in range(2):
        groups = changed(one.link.base or one.agreed(), one.agreed())
        if not groups:
            _settle(visit, one)
            return
        if not one.link.room_event and one.link.organizer == "room":
            return  # an occurrence whose series is still to be sent
        if groups & {"time", "pattern"} and _look_first(visit, one.linked(transaction="")) is _BUSY:
            _roll_back(visit, one, "room-busy")
            return
        try:
            _patch(visit, one, groups)
        except Changed:
            after = _look_again(visit, one)
            if after is None or after.link.state != "updating":
                return
            one = after
        else:
            return


def _patch(visit: Visit, one: Reservation, groups: frozenset[str]) -> None:
    """Send the changed fields to the organizer's copy: in the room's mailbox where the room is the organizer.

    Raises Changed where it was changed in Outlook meanwhile.
    """
    by_room = one.link.organizer == "room"
    body = render_update(one, frozenset(groups | ({"time"} if "pattern" in groups else set())))
    etag = one.link.room_etag if by_room else one.link.organizer_etag
    headers = {**READ_HEADERS, **({"If-Match": etag} if etag else {})}
    try:
        mailbox, event = (visit.mailbox, one.link.room_event) if by_room else _organizers_event(visit, one)
        answer = visit.graph.write("PATCH", event_path(mailbox, event), body, headers=headers)
    except Changed:
        raise
    except Forbidden:
        if by_room:
            raise
        _roll_back(visit, one, "user-mailbox-denied")
    except _UNANSWERED:
        _lost(visit, one)
    except GraphError as error:
        _not_taken(visit, one, error)
    else:
        _patched(visit, one, answer)


def _patched(visit: Visit, one: Reservation, answer: Raw) -> None:
    by_room = one.link.organizer == "room"
    etag = str(answer.get("@odata.etag", ""))
    after = one.linked(
        state="linked",
        base=one.agreed(),
        former=None if by_room else one.link.base,
        **({"room_etag": etag} if by_room else {"organizer_etag": etag}),
    )
    if one.kind == "series":
        visit.again = True  # its instances have new ids
    _settle(visit, after)


def _organizers_event(visit: Visit, one: Reservation) -> tuple[str, str]:
    """Where the organizer's copy is. Raises NotFound where there is none, Forbidden where nobody may look."""
    address = one.link.organizer_address
    if one.link.organizer_event and not one.original_start:
        return address, one.link.organizer_event
    series = visit.ledger.get(one.series) if one.series else None
    ical = (series or one).link.ical
    copy = fetch_copies(visit.graph, [(address, ical)])[address, ical]
    if isinstance(copy, Denied):
        visit.denials.add(address, copy, visit.work.now())
        raise Forbidden("The organizer's mailbox is closed", http=403, graph_code="ErrorAccessDenied")
    if copy is None:
        raise NotFound("The organizer has no such event", http=404, graph_code="ErrorItemNotFound")
    if series is None:
        return address, str(copy["id"])
    for raw in fetch_instances(visit.graph, address, str(copy["id"]), visit.window) or ():
        if parse_event(raw, visit.room.time_zone).original_start == one.original_start:
            return address, str(raw["id"])
    raise NotFound("The organizer has no such occurrence", http=404, graph_code="ErrorItemNotFound")


def _look_again(visit: Visit, one: Reservation) -> Reservation | None:
    """After a 412: merge what is there now, as if it had been told of."""
    if one.link.organizer != "room":
        fresh = one.linked(organizer_etag="")
        visit.ledger.put(fresh)
        return fresh
    raw = fetch_event(visit.graph, visit.mailbox, one.link.room_event)
    if raw is None:
        _lost(visit, one)
        return None
    seen = see(visit, parse_event(raw, visit.room.time_zone), None)
    seen = replace(seen, series=one.series, original_start=one.original_start, master=one.link.master)
    visit.ledger.apply(one, decide(one, seen, visit.room.id, visit.work.now()))
    return visit.ledger.get(one.id)


def _lost(visit: Visit, one: Reservation) -> None:
    """The event that was to be changed is gone: cancelled in Outlook, which counts. A user's may only be out of reach."""
    if one.link.organizer != "room" and fetch_event(visit.graph, visit.mailbox, one.link.room_event) is not None:
        _roll_back(visit, one, "organizer-event-missing")
        return
    visit.ledger.apply(one, vanished(one, visit.work.now()))
    visit.ledger.sent(one.id)


def _not_taken(visit: Visit, one: Reservation, error: GraphError) -> None:
    crossing = error.graph_code == "ErrorOccurrenceCrossingBoundary"
    if not crossing or one.link.organizer != "room":
        _roll_back(visit, one, "crossing-boundary" if crossing else "graph-refused")
        return
    _erase(visit, visit.mailbox, one.link.room_event)
    alone = replace(one, kind="single", series="", original_start=None, generation=one.generation + 1)
    visit.ledger.put(replace(alone, link=Link(state="creating")), "updated")
    visit.ledger.commit(visit.work.now())
    _create(visit, visit.ledger.get(one.id) or alone)


def _roll_back(visit: Visit, one: Reservation, note: str) -> None:
    """What was accepted and cannot be done is as both sides last agreed, and its owner is told."""
    base = one.link.base or one.agreed()
    title = _agreed_title(one, base)
    back = replace(
        one,
        times=agreed_times(base, one.times.zone),
        title=title.text,
        title_source=title.source,
        private=title.private,
        status="confirmed" if one.status in ("cancelled", "declined") else one.status,
        sync_state="rejected",
        note=note,
        updated_at=visit.work.now(),
    )
    visit.ledger.put(back.linked(state="linked", cause=""), "restored" if not one.live else "updated")
    visit.ledger.sent(one.id)
    visit.ledger.count("failed")
    visit.ledger.note(one.id, "failed", note)


def _agreed_title(one: Reservation, base: Agreed) -> Title:
    if base.title is None:
        return Title(one.title, one.title_source, one.private)
    return Title(base.title, "local" if one.origin == "portal" else "organizer", base.private)


def agreed_times(base: Agreed, zone: str) -> Times:
    """The times that both sides agreed on."""
    if "T" not in base.start:
        return Times.days(date.fromisoformat(base.start), date.fromisoformat(base.end), zone)
    return Times(datetime.fromisoformat(base.start), datetime.fromisoformat(base.end), zone)


# --- cancel ----------------------------------------------------------------------------------------------------------


def _delete(visit: Visit, one: Reservation) -> None:
    if one.link.cause.startswith(MOVED) and not _has_moved(visit, one):
        return
    by_room = one.link.organizer == "room"
    if not by_room and not visit.policy.write_user:
        _roll_back(visit, one, "organizer-locked")
        return
    try:
        if by_room:
            _delete_from_room(visit, one)
        else:
            _erase(visit, *_organizers_event(visit, one))
    except Forbidden:
        if by_room:
            raise
        _roll_back(visit, one, "user-mailbox-denied")
        return
    except NotFound:
        pass  # the organizer has cancelled it, too
    visit.ledger.put(one.linked(state="gone", payload=None, cause=one.link.cause or LOCAL))
    visit.ledger.sent(one.id)


def _delete_from_room(visit: Visit, one: Reservation) -> None:
    """Its event; where nobody knows whether its create went through, the one that it may have made."""
    event = one.link.room_event
    if not event and one.link.payload:
        found = _look_first(visit, one)
        event = str(found.get("id", "")) if found else ""
    if event:
        _erase(visit, visit.mailbox, event)


def _erase(visit: Visit, mailbox: str, event: str) -> None:
    """Delete an event; one that is gone is fine. A 403 is said of cancelled events, too: a look decides."""
    try:
        visit.graph.write("DELETE", event_path(mailbox, event), headers=READ_HEADERS)
    except _UNANSWERED:
        return
    except Forbidden:
        if fetch_event(visit.graph, mailbox, event) is not None:
            raise


# --- to another room -------------------------------------------------------------------------------------------------


def _has_moved(visit: Visit, old: Reservation) -> bool:
    """Whether the reservation has arrived in its new room, so that its old event may go."""
    new_room = old.link.cause.partition(":")[2]
    found = load_reservation(visit.work.app.tables.data, visit.work.connection, new_room, old.id)
    return found is None or not found[0].live or found[0].link.state in ("linked", "updating")


_SENDERS: Mapping[str, Callable[[Visit, Reservation], None]] = {
    "creating": _create,
    "updating": _update,
    "deleting": _delete,
}
