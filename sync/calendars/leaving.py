"""Rooms that are switched off or removed, and rooms that get another calendar or time zone."""

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from storage.tables import Conflict, Write
from sync.calendars import store
from sync.calendars.failing import backoff
from sync.calendars.model import RoomState, Times
from sync.calendars.push import push
from sync.calendars.relinking import let_go
from sync.calendars.rooms import finish_removal
from sync.calendars.store import Todo
from sync.calendars.visit import Denials, Visit
from sync.errors import Deferred, GraphError
from sync.jobs import Work
from sync.subscriptions import Subscriber
from sync.sync_settings import CalendarsSettings

LAST_TRIES = timedelta(days=1)
_CANCELS = frozenset({"deleting"})


def leave(work: Work, room: str, state: RoomState, todo: Todo, *, removed: bool) -> RoomState | None:
    """No more calls for this room: its subscription goes, and all of its state (None) where the room is removed."""
    data, key = work.app.tables.data, store.state_key(room)
    if state.subscription or removed:
        Subscriber(work.graph, work.app, work.connection).remove(room)
    after = replace(state, subscription=None, look_again=None)
    if not removed:
        work.claim.commit(work.now(), [Write("replace", key, store.state_row(after))])
    elif store.load_state(data, work.connection, room)[1] is not None:
        work.claim.commit(work.now(), [Write("delete", key)])
    if todo.heard:
        with suppress(Conflict):
            data.commit(work.connection, [Write("delete", store.heard_key(room), etag=todo.heard)])
    if not removed:
        return after
    finish_removal(work.app, work.connection, room, keep=False)
    return None


def send_last(
    work: Work, room: str, state: RoomState, settings: CalendarsSettings, denials: Denials
) -> RoomState | None:
    """Send what the portal had cancelled before the room was removed. Its state where that goes on later; None where
    nothing is left, or where its calendar was out of reach for a day.

    Raises Deferred where all has to wait, Conflict where the room was linked anew meanwhile.
    """
    gone = store.load_removed(work.app.tables.data, work.connection, room)
    sends = finish_removal(work.app, work.connection, room, keep=True)
    if gone is None or not sends:
        return None
    if state.status != "inactive":
        Subscriber(work.graph, work.app, work.connection).remove(room)
        state = replace(state, status="inactive", subscription=None, look_again=None, failures=0)
    there = replace(gone[0], external_calendar=state.mailbox)
    visit = Visit(work, there, state, Todo(sends=sends), settings, denials)
    if not _send_cancels(visit):
        return replace(state, retry_at=None)
    left = [one for one in visit.ledger if one.link.state in _CANCELS]
    if left and work.now() - gone[1] < LAST_TRIES:
        return _try_later(work, room, state)
    for one in left:
        visit.ledger.count("failed")
        visit.ledger.note(one.id, "failed", "room-removed")
    visit.ledger.commit(work.now())
    return None


def _try_later(work: Work, room: str, state: RoomState) -> RoomState:
    """The state of a removed room whose calendar is out of reach."""
    later = replace(state, failures=state.failures + 1, retry_at=work.now() + backoff(state.failures))
    work.claim.commit(work.now(), [Write("replace", store.state_key(room), store.state_row(later))])
    return later


def _send_cancels(visit: Visit) -> bool:
    """Send what is cancelled as far as the calendar can be reached; False when the slice's time was up before the end.

    Raises Deferred where all has to wait.
    """
    try:
        return push(visit, recurring=True, what=_CANCELS)
    except Deferred as error:
        if error.throttled or error.code == "storage-busy":
            raise
    except GraphError:
        pass
    return True


def follow_settings(visit: Visit) -> None:
    """The room's calendar or time zone may be another one than when it was last looked at."""
    changed = visit.state.since != visit.room.since or visit.state.status == "error"  # then it may not be followed yet
    if visit.state.mailbox != visit.mailbox:
        _move_in(visit)
    if changed:
        _rezone(visit)


def _move_in(visit: Visit) -> None:
    """The room has another calendar than before: what is not there goes, and the portal's own comes along."""
    if visit.todo.sends and visit.state.window_start:
        _cancel_there(visit)
    if visit.state.subscription:
        Subscriber(visit.graph, visit.work.app, visit.work.connection).remove(visit.room.id)
    if visit.state.mailbox:
        let_go(visit)
    visit.state = RoomState(mailbox=visit.mailbox, since=visit.room.since, full_at=visit.state.full_at)


def _cancel_there(visit: Visit) -> None:
    """Send what is cancelled in the former calendar, as far as that can be reached now. Raises as `_send_cancels` does."""
    here = visit.room
    visit.room = replace(here, external_calendar=visit.state.mailbox)
    try:
        _send_cancels(visit)
    finally:
        visit.room = here


def _rezone(visit: Visit) -> None:
    """All-day reservations keep their dates, from midnight to midnight on the clocks of the room as they are now."""
    zone, now = visit.room.time_zone, visit.work.now()
    for one in visit.ledger:
        first, last = one.times.first, one.times.last
        if first and last and one.times.zone != zone and one.times.end > now:
            times = Times.days(first, last, zone)
            begins = times.start if one.original_start == one.times.start else one.original_start
            visit.ledger.put(replace(one, times=times, original_start=begins, updated_at=now), "updated")
