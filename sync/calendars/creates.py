"""Reservations that Graph has no event for yet get one.

A create is frozen and stored before it is sent, with a transactionId: whatever becomes of the answer, sending it again
makes no second event.
"""

from contextlib import suppress
from dataclasses import replace

from sync.calendars.details import told_of, waiting
from sync.calendars.event import READ_HEADERS, Remote, Unreadable, parse_event, render_create
from sync.calendars.lookups import BUSY, find_made, look_first, reading
from sync.calendars.mailboxes import Denied, Raw, denial, event_path, fetch_event, fetch_instances
from sync.calendars.merge import CLASH, LOCAL, REMOTE, changed
from sync.calendars.model import Details, Link, Reservation, transaction_id
from sync.calendars.outcomes import reject, settle
from sync.calendars.relinking import take_back
from sync.calendars.visit import Visit
from sync.errors import Forbidden, GraphError, NotFound

GENERATIONS = 3


def create(visit: Visit, one: Reservation) -> None:
    """Make the event of `one`: in the room's calendar where it is free, or in the owner's."""
    if one.link.organizer == "user" and not visit.policy.create_on_user:
        if one.link.payload:  # it may be there: if the room hears of it, the reservation is back
            reject(visit, one, "user-calendar-not-allowed", REMOTE)
            return
        one = _for_room(visit, one, "created-on-room")
    found = look_first(visit, one) if one.link.organizer == "room" else None
    if found is BUSY:
        reject(visit, one, "room-busy", CLASH)
    elif found is None:
        _post(visit, one)
    elif one.link.payload:
        _created(visit, one, found, certain=False)
    else:
        take_back(visit, one, found)


def _for_room(visit: Visit, one: Reservation, note: str) -> Reservation:
    """`one` for the room's own calendar: it need not wait for the room's answer then."""
    link = Link(state="creating", organizer="room", organizer_address=visit.mailbox.lower())
    status = "confirmed" if one.status == "awaitingRoom" else one.status
    return replace(one, status=status, note=note, link=link)


def _post(visit: Visit, one: Reservation) -> None:
    """Send the create to the calendar of the room or of the owner."""
    on_user = one.link.organizer == "user"
    mailbox = one.link.organizer_address if on_user else visit.mailbox
    one = _freeze(visit, one, mailbox, on_user=on_user)
    try:
        with visit.asking(mailbox):
            answer = visit.graph.write("POST", event_path(mailbox), one.link.payload, headers=READ_HEADERS)
    except (Forbidden, NotFound) as error:
        if not on_user:
            raise
        _create_on_room(visit, one, denial(error.http, error.graph_code))
    except GraphError as error:
        _refused(visit, one, error)
    else:
        _answered(visit, one, answer)


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
        state="creating",
        payload=payload,
        mailbox=mailbox,
        transaction=transaction_id(one),
        base=one.agreed(),
        told=None,
    )
    visit.ledger.put(frozen)
    visit.ledger.commit(visit.work.now())
    return frozen


def _create_on_room(visit: Visit, one: Reservation, denied: Denied) -> None:
    """The owner's calendar is closed for certain: the reservation goes to the room's own, and its owner may change."""
    visit.denials.add(one.link.organizer_address, denied, visit.work.now())
    fresh = replace(_for_room(visit, one, "owner-calendar-denied"), generation=one.generation + 1)
    visit.ledger.put(fresh)
    visit.ledger.note(one.id, "skipped", "owner-calendar-denied")
    visit.ledger.commit(visit.work.now())
    create(visit, fresh)


def _refused(visit: Visit, one: Reservation, error: GraphError) -> None:
    """A create that Graph does not take. A transactionId that another event has (after it was deleted) is given up."""
    if error.graph_code == "ErrorDuplicateTransactionId" and one.generation < GENERATIONS:
        fresh = replace(one, generation=one.generation + 1).linked(payload=None, transaction="")
        visit.ledger.put(fresh)
        visit.ledger.commit(visit.work.now())
        create(visit, fresh)
        return
    reject(visit, one, "graph-refused", LOCAL)


def _answered(visit: Visit, one: Reservation, answer: Raw) -> None:
    """Bind `one` to what the answer tells of. What that leaves out comes with the next round, but for which event it is,
    and what a user's event shares with the copy that the room will have: that is asked for. Raises OutOfReach.
    """
    event = str(answer.get("id") or "") or find_made(visit, one)
    on_user = one.link.organizer == "user"
    if event and answer.get("id") and (answer.get("iCalUId") or not on_user):
        _created(visit, one, answer, certain=True)
    elif event:
        _created(visit, one, _read_back(visit, one.link.mailbox, event), certain=False)


def _read_back(visit: Visit, mailbox: str, event: str) -> Raw:
    """An event that was just made; its id alone where nobody may look."""
    raw: Raw | None = None
    with suppress(Forbidden, NotFound), reading(visit, mailbox):
        raw = fetch_event(visit.graph, mailbox, event)
    return raw or {"id": event}


def _created(visit: Visit, one: Reservation, raw: Raw, *, certain: bool) -> None:
    """Bind `one` to its event, by its id alone where nothing else can be read. One that was found rather than made may
    have been changed since: the next round shows.
    """
    remote: Remote | None = None
    with suppress(Unreadable):
        remote = parse_event(raw, visit.room.time_zone)
    event, on_user = str(raw["id"]), one.link.organizer == "user"
    base = one.link.base or one.agreed()
    as_sent = remote is not None and certain and remote.times.canonical() == (base.start, base.end)
    etag = remote.etag if remote else ""
    bound = one.linked(
        state="linked",
        organizer_address=one.link.organizer_address if on_user else visit.mailbox.lower(),
        room_event="" if on_user else event,
        organizer_event=event if on_user else "",
        ical=str(raw.get("iCalUId") or ""),
        room_etag=etag if as_sent and not on_user else "",
        organizer_etag=etag if on_user else "",
        base=base,
        payload=None,
        created_at=remote.created_at if remote else None,
    )
    if on_user:
        bound = replace(bound, status="awaitingRoom" if one.live else one.status)
        visit.await_answer()
        _end_twins(visit, bound)
    settle(visit, bound)
    if one.kind == "series" and not on_user:
        _bind_instances(visit, bound)


def _end_twins(visit: Visit, one: Reservation) -> None:
    """The room may have heard of a meeting before the answer came that tells whose it is: what was taken in as somebody's
    own makes way for `one`, and the calendar is read from the start.
    """
    shared = [each for each in visit.ledger if each.link.ical and each.link.ical == one.link.ical and each.id != one.id]
    twins = {each.id for each in shared if each.link.room_event}
    for each in visit.ledger:
        if {each.id, each.series} & twins:
            ended = replace(each, status="cancelled", updated_at=visit.work.now())
            ended = ended.linked(state="gone", cause=REMOTE, room_event="", master="", ical="")
            visit.ledger.put(ended, "deleted" if each.live else None)
    if twins:
        visit.set(delta_link="")
        visit.again = True


# --- the occurrences of a series -------------------------------------------------------------------------------------


def _bind_instances(visit: Visit, series: Reservation) -> None:
    """The occurrences of a series that was just made get their events, so that its echo tells nothing new."""
    by_place = {one.original_start: one for one in visit.ledger if one.series == series.id}
    for raw in fetch_instances(visit.graph, visit.mailbox, series.link.room_event, visit.window) or ():
        try:
            remote = parse_event(raw, visit.room.time_zone)
        except Unreadable:
            continue
        one = by_place.get(remote.original_start or remote.times.start)
        if one is not None and one.link.state != "linked":
            _bind_instance(visit, series, one, remote)


def _bind_instance(visit: Visit, series: Reservation, one: Reservation, remote: Remote) -> None:
    """An occurrence that the portal changed or cancelled before its series was sent is sent after it."""
    start, end = remote.times.canonical()
    base = replace(series.agreed(), start=start, end=end, pattern="")
    bound = told_of(one, Details(series.attendees, series.notes)).linked(
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
    elif changed(base, one.agreed()) or waiting(bound):
        visit.ledger.put(bound.linked(state="updating"))
    else:
        visit.ledger.put(replace(bound, sync_state="synced"), "updated")
