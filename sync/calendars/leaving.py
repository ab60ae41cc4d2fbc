"""Rooms that are switched off or removed, and rooms that get another calendar or time zone."""

from contextlib import suppress
from dataclasses import replace

from storage.tables import Conflict, Write
from sync.calendars import store
from sync.calendars.model import Link, LinkState, RoomState, Times
from sync.calendars.rooms import finish_removal
from sync.calendars.store import Todo
from sync.calendars.visit import Visit
from sync.jobs import Work
from sync.subscriptions import Subscriber


def leave(work: Work, room: str, state: RoomState, todo: Todo, *, removed: bool) -> RoomState | None:
    """No more calls for this room: its subscription goes, and all of its state (None) where the room is removed."""
    data, key = work.app.tables.data, store.state_key(room)
    if state.subscription or removed:
        Subscriber(work.graph, work.app, work.connection).remove(room)
    after = replace(state, subscription=None)
    if not removed:
        work.claim.commit(work.now(), [Write("replace", key, store.state_row(after))])
    elif store.load_state(data, work.connection, room)[1] is not None:
        work.claim.commit(work.now(), [Write("delete", key)])
    if todo.heard:
        with suppress(Conflict):
            data.commit(work.connection, [Write("delete", store.heard_key(room), etag=todo.heard)])
    if not removed:
        return after
    finish_removal(work.app, work.connection, room)
    return None


def follow_settings(visit: Visit) -> None:
    """The room's calendar or time zone may be another one than when it was last looked at."""
    if visit.state.mailbox != visit.mailbox:
        _move_in(visit)
    if visit.state.since != visit.room.since:
        _rezone(visit)


def _move_in(visit: Visit) -> None:
    """The room has another calendar than before. What came from the former one goes; the portal's own comes along."""
    now = visit.work.now()
    if visit.state.subscription:
        Subscriber(visit.graph, visit.work.app, visit.work.connection).remove(visit.room.id)
    if visit.state.mailbox:
        for one in visit.ledger:
            if not one.live or one.times.end <= now:
                continue
            if one.origin == "portal":
                fresh: LinkState = "none" if one.kind in ("occurrence", "exception") else "creating"
                again = replace(one, generation=one.generation + 1, sync_state="pending", updated_at=now)
                status = "confirmed" if one.status == "awaitingRoom" else one.status
                link = Link(state=fresh, organizer_address=visit.mailbox)
                visit.ledger.put(replace(again, status=status, link=link), "updated")
            else:
                ended = replace(one, status="cancelled", updated_at=now)
                visit.ledger.put(ended.linked(state="gone", cause="remote"), "deleted")
    visit.state = RoomState(mailbox=visit.mailbox, since=visit.room.since, full_at=visit.state.full_at)


def _rezone(visit: Visit) -> None:
    """All-day reservations keep their dates, from midnight to midnight on the clocks of the room as they are now."""
    zone, now = visit.room.time_zone, visit.work.now()
    for one in visit.ledger:
        first, last = one.times.first, one.times.last
        if first and last and one.times.zone != zone and one.times.end > now:
            times = Times.days(first, last, zone)
            begins = times.start if one.original_start == one.times.start else one.original_start
            visit.ledger.put(replace(one, times=times, original_start=begins, updated_at=now), "updated")
