"""Events of reservations that the portal has ended are deleted from the organizer's calendar."""

from dataclasses import replace
from typing import Literal

from storage.tables import Write
from sync.calendars.event import READ_HEADERS
from sync.calendars.lookups import fetch_organizers, find_made
from sync.calendars.mailboxes import event_path, fetch_event, is_mailbox_gone
from sync.calendars.merge import MOVED, ended_there
from sync.calendars.model import Reservation
from sync.calendars.outcomes import as_agreed, look_again, roll_back, take_organizers
from sync.calendars.store import load_reservation, load_room, reservation_key
from sync.calendars.updates import ATTEMPTS, is_in_room, may_write
from sync.calendars.visit import Visit
from sync.errors import Changed, CursorExpired, Forbidden, GraphError, NotFound


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
    else:
        _end(visit, one)


def _end(visit: Visit, one: Reservation) -> None:
    """Delete the event, unless it was moved in Outlook: that counts. One that changes meanwhile is tried once more."""
    waiting: Reservation | None = one
    for _ in range(ATTEMPTS):
        if waiting is not None and waiting.link.organizer != "room":
            waiting = _look(visit, waiting)
        if waiting is None or waiting.link.state != "deleting":
            return
        try:
            note = _refusal(visit, waiting)
        except Changed:
            waiting = look_again(visit, waiting) if waiting.link.room_event else waiting
            continue
        if note:
            roll_back(visit, waiting, note)
        else:
            visit.ledger.put(ended_there(waiting).linked(payload=None))
        return


def _look(visit: Visit, one: Reservation) -> Reservation | None:
    """What `one` is with what its organizer's copy says now; None where that is gone, or cannot be had.

    That it is going to be deleted is stored first: if the answer gets lost, it is known why it is not there.
    """
    if one.link.payload and not one.link.organizer_event:
        return one
    try:
        raw = fetch_organizers(visit, one)
    except Forbidden:
        roll_back(visit, one, "user-mailbox-denied")
        return None
    if raw is None:
        _miss(visit, one)
        return None
    event = one.linked(organizer_event=str(raw["id"]))
    now = event if one.kind == "series" else take_organizers(visit, one, raw)
    if now.link.state == "deleting":
        now = now.linked(sent=replace(now.agreed(), cancelled=True))
        visit.ledger.put(now)
        visit.ledger.commit(visit.work.now())
    return now


def _miss(visit: Visit, one: Reservation) -> None:
    """The organizer has no copy: deleted, if that was sent before. Else the room may still have the meeting, and the copy
    is only out of reach.
    """
    if not _was_deleted(one) and is_in_room(visit, one):
        roll_back(visit, one, "organizer-event-missing")
    else:
        visit.ledger.put(ended_there(one).linked(payload=None))


def _was_deleted(one: Reservation) -> bool:
    return one.link.sent is not None and one.link.sent.cancelled


def _refusal(visit: Visit, one: Reservation) -> str:
    """Why the event could not be deleted; "" where it is gone. Raises Changed, and Forbidden, NotFound of the room's
    mailbox.
    """
    by_room = one.link.organizer == "room"
    try:
        if by_room:
            _delete_rooms(visit, one)
        else:
            _delete_organizers(visit, one)
    except Changed:
        raise
    except Forbidden:
        if by_room:
            raise
        return "user-mailbox-denied"
    except NotFound:
        if by_room:
            raise
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
            if is_mailbox_gone(visit.graph, visit.mailbox, error):
                raise


def _delete_organizers(visit: Visit, one: Reservation) -> None:
    """The organizer's own copy. Raises NotFound where there is none any more, Forbidden where it is out of reach."""
    if event := one.link.organizer_event or find_made(visit, one):
        _erase(visit, one.link.organizer_address, event)


def _erase(visit: Visit, mailbox: str, event: str) -> None:
    """Delete an event. A 403 is said of cancelled ones, too: a look decides. Raises NotFound, Forbidden."""
    with visit.asking(mailbox):
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
        as_agreed(old), status="confirmed", sync_state="rejected", note=refused.note, updated_at=visit.work.now()
    ).linked(state="linked", cause="")
    visit.ledger.put(back, "updated")
    visit.ledger.commit(visit.work.now(), [Write("delete", reservation_key(refused.room, old.id), etag=etag)])
