"""Changes of the portal are sent to the organizer's copy: in the room's mailbox where the room is the organizer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sync.calendars.details import waiting
from sync.calendars.event import READ_HEADERS, render_details, render_update
from sync.calendars.lookups import BUSY, fetch_organizers, look_first
from sync.calendars.mailboxes import Raw, event_path, fetch_event, is_mailbox_gone
from sync.calendars.merge import LOCAL, changed, vanished
from sync.calendars.model import Link, Reservation, imported_id
from sync.calendars.moves import invite, is_moved
from sync.calendars.outcomes import as_answered, look_again, roll_back, settle, take_organizers
from sync.calendars.visit import Visit
from sync.errors import Changed, CursorExpired, Forbidden, GraphError, NotFound

ATTEMPTS = 2


@dataclass(frozen=True)
class Found:
    """A reservation to be sent, and the attendees `listed` by the organizer's copy where that was read for it."""

    one: Reservation
    listed: Sequence[Raw] = ()


def update(visit: Visit, one: Reservation) -> None:
    """Send what has changed of `one`, unless it is an occurrence whose series is still to be sent."""
    if is_moved(one):
        invite(visit, one)
    elif not may_write(visit, one):
        roll_back(visit, one, "organizer-locked")
    elif _has_event(visit, one):
        _update(visit, one)


def _update(visit: Visit, one: Reservation) -> None:
    """Where it was changed in Outlook, too, both are merged and it is tried once more. What nobody knows the version of,
    or an earlier try may have changed, is looked at first, and so is whom the organizer invites.
    """
    known = _version(one) and one.link.sent is None and "attendees" not in waiting(one)
    found = Found(one) if known else _merge(visit, one)
    for _ in range(ATTEMPTS):
        if found is None or found.one.link.state != "updating" or _try(visit, found):
            return
        found = _merge(visit, visit.ledger.get(one.id) or found.one)


def _version(one: Reservation) -> str:
    """The etag of the organizer's copy, as far as it is known: nobody keeps that of a user's occurrence."""
    if one.link.organizer == "room":
        return one.link.room_etag
    return one.link.organizer_etag if one.link.organizer_event and not one.series else ""


def _try(visit: Visit, found: Found) -> bool:
    """Send what has changed; False where it was changed in Outlook meanwhile, or is not where it was."""
    one = found.one
    groups = changed(one.link.base or one.agreed(), one.agreed())
    if not groups and not waiting(one):
        settle(visit, one.linked(state="linked", sent=None))
    elif groups & {"time", "pattern"} and look_first(visit, one) is BUSY:
        roll_back(visit, one, "room-busy")
    else:
        return _send(visit, found, groups)
    return True


def may_write(visit: Visit, one: Reservation) -> bool:
    """Whether the settings allow to change the organizer's copy of `one`."""
    return one.link.organizer == "room" or (one.link.organizer == "user" and visit.policy.write_user)


def _has_event(visit: Visit, one: Reservation) -> bool:
    if one.link.organizer == "room":
        return bool(one.link.room_event)
    series = visit.ledger.get(one.series) if one.series else None
    return bool((series or one).link.ical)


def _send(visit: Visit, found: Found, groups: frozenset[str]) -> bool:
    """What is going to be sent is stored first, so that it is known again if the answer gets lost. False as in `_try`."""
    one = found.one.linked(sent=found.one.agreed())
    visit.ledger.put(one)
    visit.ledger.commit(visit.work.now())
    try:
        answer = _patch(visit, one, groups, found.listed)
    except Changed:
        return False
    except Forbidden:
        if one.link.organizer == "room":
            raise
        roll_back(visit, one, "user-mailbox-denied")
    except (NotFound, CursorExpired) as error:
        if one.link.organizer != "room":
            return False
        if isinstance(error, NotFound) and is_mailbox_gone(visit.graph, visit.mailbox, error):
            raise
        _lost(visit, one)
    except GraphError as error:
        _not_taken(visit, one, error)
    else:
        _sent(visit, one, groups, answer)
    return True


def _patch(visit: Visit, one: Reservation, groups: frozenset[str], listed: Iterable[Raw]) -> Raw:
    """Write the changed fields, under the version that is known; `listed` are the attendees that it has."""
    body = render_update(one, frozenset(groups | ({"time"} if "pattern" in groups else set())))
    body |= render_details(one, listed)
    link = one.link
    if link.organizer == "room":
        mailbox, event, etag = visit.mailbox, link.room_event, link.room_etag
    else:
        mailbox, event, etag = link.organizer_address, link.organizer_event, link.organizer_etag
    headers = {**READ_HEADERS, **({"If-Match": etag} if etag else {})}
    with visit.asking(mailbox):
        return visit.graph.write("PATCH", event_path(mailbox, event), body, headers=headers)


def _sent(visit: Visit, one: Reservation, groups: frozenset[str], answer: Raw) -> None:
    """Bind `one` to what it is now. The room's copy of somebody else's meeting shows a new time a little later."""
    etag = str(answer.get("@odata.etag", ""))
    after = as_answered(one, answer).linked(state="linked", base=one.agreed(), sent=None)
    if one.link.organizer == "room":
        after = after.linked(room_etag=etag)
    else:
        late = bool(groups & {"time", "pattern"})
        event = "" if one.series else one.link.organizer_event
        former = one.link.base if late else one.link.former
        after = after.linked(organizer_event=event, organizer_etag=etag, former=former)
    settle(visit, after)
    if one.kind == "series":
        visit.again |= bool(groups) or one.link.organizer == "room"  # its instances have new ids
        if not groups:
            _settle_parts(visit, after)


def _settle_parts(visit: Visit, series: Reservation) -> None:
    """The occurrences that are as their series are in step with it: the room hears nothing of whom it invites."""
    for one in visit.ledger:
        plain = one.series == series.id and one.kind == "occurrence" and one.live
        if plain and one.sync_state == "pending" and one.link.state == "linked":
            visit.ledger.put(replace(one, attendees=series.attendees, sync_state="synced"), "updated")


def _merge(visit: Visit, one: Reservation) -> Found | None:
    """What is there now is taken over, as if it had been told of; what `one` is then."""
    if one.link.organizer == "room":
        after = look_again(visit, one)
        return Found(after) if after else None
    try:
        raw = fetch_organizers(visit, one)
    except Forbidden:
        roll_back(visit, one, "user-mailbox-denied")
        return None
    if raw is None:
        _lost(visit, one)
        return None
    return Found(take_organizers(visit, one, raw), raw.get("attendees") or ())


def _lost(visit: Visit, one: Reservation) -> None:
    """The event that was to be changed is gone: cancelled in Outlook, which counts. A user's may only be out of reach."""
    if one.link.organizer != "room" and is_in_room(visit, one):
        roll_back(visit, one, "organizer-event-missing")
    else:
        visit.ledger.apply(one, vanished(one, visit.work.now()))


def is_in_room(visit: Visit, one: Reservation) -> bool:
    """Whether the room's calendar has the meeting."""
    event = one.link.room_event
    return bool(event) and fetch_event(visit.graph, visit.mailbox, event) is not None


def _not_taken(visit: Visit, one: Reservation, error: GraphError) -> None:
    """Graph refuses the change. An occurrence that leaves its place in the series goes on as a meeting of its own."""
    crossing = error.graph_code == "ErrorOccurrenceCrossingBoundary"
    if not crossing or one.link.organizer != "room":
        roll_back(visit, one, "crossing-boundary" if crossing else "graph-refused")
        return
    alone = replace(one, id=imported_id(one.room, one.id), kind="single", series="", original_start=None, archived=())
    link = Link(state="creating", organizer_address=one.link.organizer_address)
    left = replace(one, status="cancelled", sync_state="synced").linked(state="deleting", cause=LOCAL)
    visit.ledger.put(replace(alone, link=link), "created")
    visit.ledger.put(left, "deleted")
