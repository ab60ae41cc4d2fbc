"""Events of reservations that the portal has ended are deleted from the organizer's calendar."""

from dataclasses import replace
from typing import Literal

from storage.tables import Write
from sync.calendars.event import READ_HEADERS
from sync.calendars.lookups import find_made, organizers_event, search_organizers_event
from sync.calendars.mailboxes import event_path, fetch_event, is_mailbox_gone
from sync.calendars.merge import MOVED, ended_there
from sync.calendars.model import Reservation
from sync.calendars.outcomes import roll_back
from sync.calendars.store import load_reservation, load_room, reservation_key
from sync.calendars.updates import is_in_room, may_write
from sync.calendars.visit import Visit
from sync.errors import CursorExpired, Forbidden, GraphError, NotFound


def cancel(visit: Visit, one: Reservation) -> None:
    """Delete the event of `one`; one that goes on in another room waits until it has arrived there."""
    arrival = _follow(visit, one)
    move = _outcome(arrival)
    if arrival is not None and move == "under-way":
        visit.waits_for.add(arrival[0].room)
    elif arrival is not None and move == "refused" and _has_room(visit):
        _come_back(visit, one, *arrival)
    elif not may_write(visit, one):
        roll_back(visit, one, "organizer-locked")
    elif note := _refusal(visit, one):
        roll_back(visit, one, note)
    else:
        visit.ledger.put(ended_there(one).linked(payload=None))


def _refusal(visit: Visit, one: Reservation) -> str:
    """Why the event could not be deleted; "" where it is gone. Raises Forbidden, NotFound of the room's mailbox."""
    by_room = one.link.organizer == "room"
    try:
        if by_room:
            _delete_rooms(visit, one)
        else:
            _delete_organizers(visit, one)
    except Forbidden:
        if by_room:
            raise
        return "user-mailbox-denied"
    except NotFound:
        if by_room:
            raise
        # A user's: where the room still has it, it may only be out of reach.
        return "organizer-event-missing" if is_in_room(visit, one) else ""
    except GraphError:
        return "graph-refused"
    return ""


def _delete_rooms(visit: Visit, one: Reservation) -> None:
    """The room's own event; where nobody knows whether its create went through, the one that it may have made."""
    event = one.link.room_event or (find_made(visit, one) if one.link.payload else "")
    if event:
        try:
            _erase(visit, visit.mailbox, event)
        except NotFound as error:
            if is_mailbox_gone(error):
                raise


def _delete_organizers(visit: Visit, one: Reservation) -> None:
    """The organizer's own copy. Raises NotFound where there is none, Forbidden where it is out of reach."""
    address = one.link.organizer_address
    if one.link.payload and not one.link.organizer_event:
        if event := find_made(visit, one):
            _erase(visit, address, event)
        return
    try:
        _erase(visit, address, organizers_event(visit, one))
    except NotFound:
        _erase(visit, address, search_organizers_event(visit, one))


def _erase(visit: Visit, mailbox: str, event: str) -> None:
    """Delete an event. A 403 is said of cancelled ones, too: a look decides. Raises NotFound, Forbidden."""
    try:
        visit.graph.write("DELETE", event_path(mailbox, event), headers=READ_HEADERS)
    except CursorExpired:  # 410: it was there once
        return
    except Forbidden:
        raw = fetch_event(visit.graph, mailbox, event)
        if raw is not None and not raw.get("isCancelled"):
            raise


# --- to another room -------------------------------------------------------------------------------------------------


def _follow(visit: Visit, old: Reservation) -> tuple[Reservation, str] | None:
    """The reservation in the room where its moves have led to, with its etag; None where it went nowhere, or is no more."""
    data, connection = visit.work.app.tables.data, visit.work.connection
    found: tuple[Reservation, str] | None = None
    cause = old.link.cause
    while cause.startswith(MOVED):
        found = load_reservation(data, connection, cause.partition(":")[2], old.id)
        cause = found[0].link.cause if found and not found[0].live else ""
    return found


def _outcome(arrival: tuple[Reservation, str] | None) -> Literal["done", "under-way", "refused"]:
    """Whether a reservation has arrived in its new room, so that its old event may go."""
    if arrival is None or arrival[0].status == "cancelled":
        return "done"
    if not arrival[0].live:
        return "refused"
    return "done" if arrival[0].link.state in ("linked", "updating") else "under-way"


def _has_room(visit: Visit) -> bool:
    """Whether the room itself is still there: nothing comes back to one that was removed."""
    return load_room(visit.work.app.tables.data, visit.work.connection, visit.room.id) is not None


def _come_back(visit: Visit, old: Reservation, refused: Reservation, etag: str) -> None:
    """The new room would not have it: it is again where it was, with the event that it has there."""
    back = replace(
        old, status="confirmed", sync_state="rejected", note=refused.note, updated_at=visit.work.now()
    ).linked(state="linked", cause="")
    visit.ledger.put(back, "updated")
    visit.ledger.commit(visit.work.now(), [Write("delete", reservation_key(refused.room, old.id), etag=etag)])
