"""What becomes of a reservation once Graph was told of it: it is as it was sent, rolled back, or rejected."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime

from sync.calendars.details import as_told, waiting
from sync.calendars.event import Unreadable, parse_attendees, parse_event, people
from sync.calendars.mailboxes import Raw, fetch_event, fetch_instances
from sync.calendars.merge import LOCAL, NO_RESPONSE, REMOTE, agreed_title, changed, decide, vanished
from sync.calendars.model import Agreed, Reservation, Status, Times
from sync.calendars.organizers import see_again, see_organizers
from sync.calendars.patterns import recurrence_of
from sync.calendars.series import expand
from sync.calendars.visit import Visit
from sync.errors import Forbidden, GraphError, NotFound
from sync.feed import ChangeKind

_KEPT = ("created-on-room", "owner-calendar-denied", NO_RESPONSE)


def settle(visit: Visit, one: Reservation) -> None:
    """Store `one` after it was sent: done, unless the portal changed it in the meantime. What Outlook won stays told."""
    left = one.live and (changed(one.link.base or one.agreed(), one.agreed()) or waiting(one))
    if not one.live or left:
        visit.ledger.put(one.linked(state="updating" if one.live else "deleting"), "updated")
        return
    if one.sync_state != "conflict":
        one = replace(one, sync_state="synced", note=one.note if one.note in _KEPT else "")
    visit.ledger.put(one, "updated")


def as_answered(one: Reservation, answer: Raw) -> Reservation:
    """`one` after all that waited was sent, with the attendees that Graph's answer shows. Raises Unreadable."""
    if "attendees" in waiting(one) and "attendees" in answer:
        hidden = one.private and one.title_source != "local"
        one = replace(one, attendees=() if hidden else people(parse_attendees(answer)))
    return one.linked(told=None)


def reject(visit: Visit, one: Reservation, note: str, cause: str) -> None:
    """The reservation cannot be: its slot is free again, and its owner is told why."""
    now = visit.work.now()
    parts = [each for each in visit.ledger if each.series == one.id and each.live] if one.kind == "series" else []
    for each in (one, *parts):
        ended = replace(each, status="declined", sync_state="rejected", note=note, updated_at=now)
        visit.ledger.put(ended.linked(state="gone", cause=cause), "updated")
    visit.ledger.count("failed")
    visit.ledger.note(one.id, "failed", note)


def give_up(visit: Visit, one: Reservation) -> None:
    """Graph refuses for good what has to be asked before `one` can be sent, or after it was: that cannot be undone. A create
    whose answer was lost may be there: if the room hears of it, the reservation is back.
    """
    if one.link.state == "creating":
        reject(visit, one, "graph-refused", REMOTE if one.link.payload else LOCAL)
    elif one.link.state in ("updating", "deleting"):
        roll_back(visit, one, "graph-refused")


def roll_back(visit: Visit, one: Reservation, note: str) -> None:
    """What was accepted and cannot be done is as both sides last agreed, and its owner is told."""
    now = visit.work.now()
    back = replace(
        as_agreed(one),
        status=one.status if one.live else _status_of(one),
        sync_state="rejected",
        note=note,
        updated_at=now,
    ).linked(state="linked", cause="", sent=None)
    visit.ledger.put(back, "updated" if one.live else "restored")
    if one.kind == "series" and one.live:
        _roll_back_parts(visit, back)
    elif one.kind == "series":
        _revive_parts(visit, back)
    visit.ledger.count("failed")
    visit.ledger.note(one.id, "failed", note)
    if not one.live and back.link.room_event:
        with _if_told():
            look_again(visit, back)


@contextmanager
def _if_told() -> Iterator[None]:
    """Around what can be gone without. Raises Forbidden and NotFound of the room's mailbox."""
    try:
        yield
    except (Forbidden, NotFound):
        raise
    except (Unreadable, GraphError):
        pass


def as_agreed(one: Reservation) -> Reservation:
    """`one` as both sides last agreed, and as Microsoft was last told of it."""
    title, base = agreed_title(one), one.link.base or one.agreed()
    return replace(
        as_told(one),
        times=agreed_times(base, one.times.zone),
        title=title.text,
        title_source=title.source,
        private=title.private,
        recurrence=recurrence_of(base.pattern) if base.pattern else one.recurrence,
    )


def agreed_times(base: Agreed, zone: str) -> Times:
    """The times that both sides agreed on."""
    if "T" not in base.start:
        return Times.days(date.fromisoformat(base.start), date.fromisoformat(base.end), zone)
    return Times(datetime.fromisoformat(base.start), datetime.fromisoformat(base.end), zone)


def _status_of(one: Reservation) -> Status:
    """What a cancelled reservation was before, as far as that is known here."""
    return "awaitingRoom" if one.link.organizer != "room" and not one.link.room_event else "confirmed"


def _roll_back_parts(visit: Visit, series: Reservation) -> None:
    """The occurrences that nobody changed by themselves are again those of the rolled back series, with the events that
    they have.
    """
    if series.recurrence is None:
        return
    parts = [one for one in visit.ledger if one.series == series.id]
    for one in expand(series, parts, visit.window, visit.work.now()):
        has_event = one.live and one.link.room_event
        visit.ledger.put(
            replace(one, sync_state="synced").linked(state="linked") if has_event else one, _told(visit, one)
        )


def _revive_parts(visit: Visit, series: Reservation) -> None:
    """The occurrences of a series that could not be cancelled are back as far as they are there; all of them where nobody
    tells.
    """
    parts = [one for one in visit.ledger if one.series == series.id and one.link.room_event]
    there = {one.link.room_event for one in parts}
    with _if_told():
        listed = fetch_instances(visit.graph, visit.mailbox, series.link.room_event, visit.window)
        there = {str(raw["id"]) for raw in listed or ()}
    for one in parts:
        if not one.live and one.link.cause == LOCAL and one.link.room_event in there:
            back = replace(one, status=_status_of(one), sync_state="synced", updated_at=series.updated_at)
            visit.ledger.put(back.linked(state="linked", cause=""), "restored")


def _told(visit: Visit, one: Reservation) -> ChangeKind:
    before = visit.ledger.get(one.id)
    if before is None or not before.live:
        return "restored" if before else "created"
    return "updated" if one.live else "deleted"


def look_again(visit: Visit, one: Reservation) -> Reservation | None:
    """Take over what the room's mailbox has of `one` at this moment; what it is then. Raises Unreadable."""
    raw = fetch_event(visit.graph, visit.mailbox, one.link.room_event)
    if raw is None:
        verdict = vanished(one, visit.work.now())
    else:
        seen = see_again(visit, one, parse_event(raw, visit.room.time_zone))
        verdict = decide(one, seen, visit.room.id, visit.work.now())
    visit.ledger.apply(one, verdict)
    return visit.ledger.get(one.id)


def take_organizers(visit: Visit, one: Reservation, raw: Raw) -> Reservation:
    """Take over what the organizer's own copy says at this moment; what `one` is then. Raises Unreadable."""
    seen = see_organizers(visit, one, parse_event(raw, visit.room.time_zone))
    merged = decide(one, seen, visit.room.id, visit.work.now())
    after = merged.reservation or one
    if not seen.remote.cancelled:  # the room's answer is not in this copy
        restored = after.live and not one.live
        after = replace(after, status=_status_of(one) if restored else one.status)
    visit.ledger.apply(one, replace(merged, reservation=after))
    return after
