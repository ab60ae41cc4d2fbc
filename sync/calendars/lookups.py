"""What is looked up before something is sent: whether the room is free, what an earlier try has made, and where the
organizer's own copy is.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from sync.calendars.clashes import clashing
from sync.calendars.event import Remote, Unreadable, parse_event
from sync.calendars.mailboxes import (
    Denied,
    Raw,
    fetch_copies,
    fetch_copy_at,
    fetch_event,
    fetch_events,
    fetch_instances,
    fetch_view,
)
from sync.calendars.merge import LOCAL
from sync.calendars.model import Reservation, Times
from sync.calendars.organizers import by_room
from sync.calendars.pairing import is_as_asked
from sync.calendars.relinking import left_before
from sync.calendars.visit import OutOfReach, Visit
from sync.errors import CursorExpired, Forbidden, GraphError, NotFound

BUSY: Mapping[str, Any] = {}
"""Something is in the way."""


def look_first(visit: Visit, one: Reservation) -> Raw | None:
    """What the room's calendar has at the time of `one`: the event that an earlier try to create it made, or that it had
    there before the room had another calendar, BUSY, or None.

    The room's own calendar takes whatever is written to it, so nothing else keeps two meetings apart (Learn: Create event;
    the booking assistant answers invitations alone).
    """
    wanted = _needed(visit, one)
    events = _view(visit, visit.mailbox, wanted or [one.times])
    if one.link.payload and (made := _made_before(visit, visit.mailbox, one, events)):
        return made
    if not one.link.payload and one.archived:
        left = left_before(visit, one, _whole(visit, visit.mailbox, one, events))
        if left is not None:
            return left
    return BUSY if clashing(wanted, _taken(visit, one, events)) else None


def find_made(visit: Visit, one: Reservation) -> str:
    """The id of the event that an unanswered create of `one` made; "" where it made none. Raises OutOfReach."""
    mailbox = one.link.mailbox
    with reading(visit, mailbox):
        made = _made_before(visit, mailbox, one, _view(visit, mailbox, [one.times]))
    return str(made["id"]) if made else ""


def _view(visit: Visit, mailbox: str, wanted: list[Times]) -> list[Raw]:
    return fetch_view(visit.graph, mailbox, min(each.start for each in wanted), max(each.end for each in wanted))


def _made_before(visit: Visit, mailbox: str, one: Reservation, events: list[Raw]) -> Raw | None:
    """The event of these that carries the transaction of `one`, or else is what that asked for; a series is known by its
    master.
    """
    events = _whole(visit, mailbox, one, events)
    named = (raw for raw in events if raw.get("transactionId") == one.link.transaction)
    return next(named, None) or next((raw for raw in events if _is_as_asked(visit, one, raw)), None)


def _whole(visit: Visit, mailbox: str, one: Reservation, events: list[Raw]) -> list[Raw]:
    """What of these events can be that of `one`: for a series their masters."""
    if one.kind != "series":
        return events
    masters = {str(raw["seriesMasterId"]) for raw in events if raw.get("seriesMasterId")}
    found = fetch_events(visit.graph, mailbox, masters) if masters else {}
    return [raw for raw in found.values() if isinstance(raw, Mapping)]


def _is_as_asked(visit: Visit, one: Reservation, raw: Raw) -> bool:
    """Whether an event that nobody here knows is the one that `one` waits for, its transactionId not being told."""
    try:
        remote = parse_event(raw, visit.room.time_zone)
    except Unreadable:
        return False
    known = (event for each in visit.ledger for event in (each.link.room_event, each.link.organizer_event))
    return is_as_asked(one, remote) and by_room(visit, remote) and remote.id not in known


def _needed(visit: Visit, one: Reservation) -> list[Times]:
    """The times that `one` needs the room for; of a series those in the window, so that no more is asked for than Graph
    tells of at once (Learn: List calendarView), or its first one, however far ahead that is.
    """
    if one.kind != "series":
        return [one.times]
    since, until = visit.window
    parts = [each.times for each in visit.ledger if each.series == one.id and each.live]
    ahead = [times for times in parts if since < times.end and times.start < until]
    return ahead or [times for times in [one.times] if since < times.end]


def _taken(visit: Visit, one: Reservation, events: list[Raw]) -> Iterator[Times]:
    """When the room has something else than `one`. What cannot be read is in the way of a single one, whatever it is."""
    for raw in events:
        try:
            remote = parse_event(raw, visit.room.time_zone)
        except Unreadable:
            if one.kind == "single":
                yield one.times
        else:
            if _takes(visit, one, remote):
                yield remote.times


def _takes(visit: Visit, one: Reservation, remote: Remote) -> bool:
    """Whether an event keeps `one` from the room. One that the room still shows although it has moved does not."""
    if remote.cancelled or remote.free or remote.id == one.link.room_event:
        return False
    if remote.ical and remote.ical == one.link.ical:
        return False
    if one.kind == "series" and remote.master and remote.master == one.link.room_event:
        return False
    known = next((each for each in visit.ledger if each.link.room_event == remote.id), None)
    return known is None or not (known.id == one.id or _has_left(known, remote))


def _has_left(known: Reservation, remote: Remote) -> bool:
    """Whether the room's copy is older than what the portal told the organizer's calendar."""
    if known.link.organizer == "room":
        return False
    if not known.live:
        return known.link.cause == LOCAL
    former = known.link.former
    return former is not None and (former.start, former.end) == remote.times.canonical()


def fetch_organizers(visit: Visit, one: Reservation) -> Raw | None:
    """The organizer's own copy as it is now, searched for where its id leads nowhere; None where there is none.

    Raises Forbidden where nobody may look, OutOfReach where nobody answers.
    """
    series = _series_of(visit, one)
    known = (series or one).link.organizer_event
    with reading(visit, one.link.organizer_address):
        raw = _copy(visit, known, one) if known else None
        if raw is None and (found := _search(visit, one)):
            raw = _instance(visit, str(found["id"]), one) if series else found
    return raw


@contextmanager
def reading(visit: Visit, mailbox: str) -> Iterator[None]:
    """Around what is read from a mailbox. Raises OutOfReach where a user's has nothing to say that makes sense here."""
    try:
        with visit.asking(mailbox):
            yield
    except (Forbidden, NotFound):
        raise
    except GraphError as error:
        if mailbox == visit.mailbox:
            raise
        raise OutOfReach from error


def _copy(visit: Visit, event: str, one: Reservation) -> Raw | None:
    """The event of the organizer's calendar as it is now; of a series the occurrence that `one` is."""
    if _series_of(visit, one):
        return _instance(visit, event, one)
    with suppress(NotFound, CursorExpired):
        return fetch_event(visit.graph, one.link.organizer_address, event)
    return None


def _search(visit: Visit, one: Reservation) -> Raw | None:
    """The organizer's own copy, that of the series for an occurrence, by the id that all copies of a meeting share: by a
    search, or at its time.

    Raises Forbidden where nobody may look.
    """
    key = (one.link.organizer_address, (_series_of(visit, one) or one).link.ical)
    copy = fetch_copies(visit.graph, [key])[key] if key[1] else None
    if isinstance(copy, Denied):
        visit.denials.add(key[0], copy, visit.work.now())
        raise Forbidden("The organizer's mailbox is closed", http=403, graph_code="ErrorAccessDenied")
    if copy is None and key[1]:
        base = one.link.base or one.agreed()
        return fetch_copy_at(visit.graph, *key, _instant(base.start), _instant(base.end))
    return copy


def _instant(agreed: str) -> datetime:
    """An end of what was agreed; of a whole day the midnight in UTC, at which it takes place somewhere."""
    at = datetime.fromisoformat(agreed)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _series_of(visit: Visit, one: Reservation) -> Reservation | None:
    return visit.ledger.get(one.series) if one.series else None


def _instance(visit: Visit, master: str, one: Reservation) -> Raw | None:
    """An occurrence in the organizer's calendar: by its place in the series, or where Graph does not tell that, by its
    time. No series has two at one time.
    """
    base = one.link.base or one.agreed()
    at_its_time: Raw | None = None
    for raw in fetch_instances(visit.graph, one.link.organizer_address, master, visit.window) or ():
        with suppress(Unreadable):
            remote = parse_event(raw, visit.room.time_zone)
            if remote.original_start == one.original_start:
                return raw
            if remote.times.canonical() == (base.start, base.end):
                at_its_time = raw
    return at_its_time
