"""Meetings in their organizers' calendars that the portal has moved to another room: the organizer's copy names that one."""

from dataclasses import replace
from typing import Any

from storage.tables import Write
from sync.calendars import store
from sync.calendars.event import READ_HEADERS, address_in, as_listed, render_details, render_update
from sync.calendars.lookups import fetch_organizers
from sync.calendars.mailboxes import Raw, event_path, fetch_event
from sync.calendars.merge import REMOTE, changed, vanished
from sync.calendars.model import Reservation, Room
from sync.calendars.outcomes import as_agreed, as_answered, reject, settle, take_organizers
from sync.calendars.rules import FROM
from sync.calendars.visit import Visit
from sync.errors import Changed, Forbidden, GraphError, NotFound
from sync.feed import Change


def is_moved(one: Reservation) -> bool:
    """Whether the organizer's copy has to be told of another room."""
    return one.link.cause.startswith(FROM)


def invite(visit: Visit, one: Reservation) -> None:
    """Put this room into the organizer's copy, in the place of the former one, with whatever else has changed.

    What the copy says by now is taken over first; one that changes meanwhile is tried again by the next run. Where the
    organizer's mailbox does not take it, the reservation is again in its former room. Raises Unreadable.
    """
    if not visit.policy.write_user:
        _go_back(visit, one, "organizer-locked")
        return
    data, name = visit.work.app.tables.data, visit.work.connection
    old = store.load_room(data, name, one.link.cause.removeprefix(FROM))
    try:
        raw = fetch_organizers(visit, one)
        if raw is None:
            _miss(visit, one, old[0] if old else None)
            return
        now = take_organizers(visit, one, raw)
        if now.live:
            _tell(visit, now.linked(cause=one.link.cause), raw, old[0].external_calendar if old else "")
    except Changed:
        return
    except (Forbidden, NotFound):
        _go_back(visit, one, "user-mailbox-denied")
    except GraphError:
        _go_back(visit, one, "graph-refused")


def _tell(visit: Visit, one: Reservation, raw: Raw, former: str) -> None:
    """Change the organizer's copy `raw`. What is going to be sent is stored first, so that it is known again if the
    answer gets lost. Raises Changed, Forbidden, NotFound.
    """
    sent = one.linked(state="updating", sent=one.agreed())
    visit.ledger.put(sent)
    visit.ledger.commit(visit.work.now())
    listed = raw.get("attendees") or ()
    details = render_details(sent, listed)
    body = render_update(sent, changed(sent.link.base or sent.agreed(), sent.agreed())) | details
    body |= render_room(details.get("attendees", listed), visit.room, former)
    headers = {**READ_HEADERS, "If-Match": str(raw.get("@odata.etag", "*"))}
    path = event_path(one.link.organizer_address, str(raw["id"]))
    with visit.asking(one.link.organizer_address):
        answer = visit.graph.write("PATCH", path, body, headers=headers)
    etag = str(answer.get("@odata.etag", ""))
    visit.await_answer()
    after = as_answered(sent, answer)
    settle(visit, after.linked(state="linked", cause="", base=sent.agreed(), sent=None, organizer_etag=etag))


def _miss(visit: Visit, one: Reservation, old: Room | None) -> None:
    """The organizer has no copy. Where the former room still has the meeting, it is only out of reach; else it is over."""
    found = store.load_reservation(visit.work.app.tables.data, visit.work.connection, old.id, one.id) if old else None
    if old and found and _has(visit, old.external_calendar, found[0].link.room_event):
        _go_back(visit, one, "organizer-event-missing")
    else:
        visit.ledger.apply(one, vanished(one, visit.work.now()))


def _has(visit: Visit, mailbox: str, event: str) -> bool:
    """Whether a room's calendar has the event; one that is closed may."""
    try:
        with visit.asking(mailbox):
            raw = fetch_event(visit.graph, mailbox, event) if event else None
    except Forbidden:
        return True
    except NotFound:
        return False
    return raw is not None and not raw.get("isCancelled")


def render_room(attendees: Any, room: Room, former: str) -> dict[str, Any]:
    """The attendees of an event with the room in the place of the `former` one, and its location (Learn: Update event)."""
    others = [as_listed(each) for each in attendees if address_in(each) not in (former, room.external_calendar)]
    address = {"name": room.display_name, "address": room.external_calendar}
    return {
        "attendees": [*others, {"type": "resource", "emailAddress": address}],
        "location": {"displayName": room.display_name, "locationEmailAddress": room.external_calendar},
    }


def _go_back(visit: Visit, one: Reservation, note: str) -> None:
    """The reservation is again where Microsoft has it; where that room is no more, it is nowhere."""
    data, name, now = visit.work.app.tables.data, visit.work.connection, visit.work.now()
    room = one.link.cause.removeprefix(FROM)
    old, new = (store.load_reservation(data, name, each, one.id) for each in (room, visit.room.id))
    if old is None or new is None:
        reject(visit, one, note, REMOTE)
        return
    back = replace(as_agreed(old[0]), status="confirmed", sync_state="rejected", note=note, updated_at=now)
    row = store.reservation_row(back.linked(state="linked", cause=""))
    writes = [
        Write("replace", store.reservation_key(room, one.id), row, old[1]),
        Write("delete", store.reservation_key(visit.room.id, one.id), etag=new[1]),
        *(store.touch_slots(each) for each in (room, visit.room.id)),
    ]
    visit.work.claim.commit(now, writes, changes=[Change("reservation", one.id, "updated")])
    visit.close()
