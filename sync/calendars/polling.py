"""The poll: calendars that nothing was heard of for a while are read, whatever the schedule of the sync is.

Of each connection whose calendars are synced one row in the due index says when to look for such rooms.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sync import jobs
from sync.calendars.model import Room, RoomState
from sync.calendars.pacing import SYNC
from sync.calendars.store import load_rooms, load_states
from sync.due import move_poll, next_poll, put_poll
from sync.runs import STATE

if TYPE_CHECKING:
    from sync.wiring import App

POLL_START = "poll_start"
# The timer looks every five minutes, and a room is read a moment after that: a minute less than they come to.
SILENCE = timedelta(minutes=14)  # of a room that Microsoft announces changes of
EVERY = timedelta(minutes=4)  # for a room that it announces nothing of
NEVER = datetime(2000, 1, 1, tzinfo=UTC)


def interval(state: RoomState) -> timedelta:
    """How long a room may be silent before it is polled. A credential that fails is tried no more often than that."""
    return EVERY if state.subscription is None and state.status != "error" else SILENCE


def due_at(room: Room, state: RoomState) -> datetime:
    """When an active room has to be polled, or tried again."""
    if state.since != room.since:
        return NEVER
    if state.retry_at is not None:
        return state.retry_at
    if state.status != "active" or state.silent_since is None:
        return NEVER
    return state.silent_since + interval(state)


def plan(rooms: Iterable[tuple[Room, RoomState]], now: datetime) -> tuple[bool, datetime]:
    """Whether any of these active rooms is due, and when to look the next time."""
    due, following = False, now + SILENCE
    for room, state in rooms:
        at = due_at(room, state)
        if at < now:
            due, at = True, now + interval(state)
        following = min(following, at)
    return due, following


def poll_sooner(
    app: "App", connection: str, rooms: Iterable[tuple[Room, RoomState]], planned: datetime | None
) -> datetime | None:
    """Have the timer look before the time that was `planned` where one of these active rooms is due by then.

    When that is; None where it stays as planned, and where the sync is off.
    """
    first = min([due_at(room, state) for room, state in rooms], default=planned)
    if planned is None or first is None or first >= planned:
        return None
    sooner = max(first, app.clock())
    put_poll(app, SYNC, connection, sooner)
    return sooner


def poll(app: "App", connection: str, due: datetime | None) -> None:
    """Have the rooms that are due read by one run, and set when to look the next time: never where the sync is off.

    Where `due` is given and the state names another time there is nothing to do. Raises RequestError `sync-busy`, Conflict.
    """
    data, now = app.tables.data, app.clock()
    row = data.get(connection, STATE + SYNC) or {}
    if due is not None and next_poll(row) != due:
        return
    if not jobs.load_settings(app, connection, SYNC)[0].enabled:
        data.commit(connection, [move_poll(SYNC, None, row)])
        return
    silent, following = False, now + EVERY
    if not app.lapsed(connection):
        states = load_states(data, connection)
        rooms = [room for room in load_rooms(data, connection) if room.active]
        silent, following = plan([(room, states.get(room.id, RoomState())) for room in rooms], now)
    put_poll(app, SYNC, connection, following)
    moved = move_poll(SYNC, following, row)
    if silent:
        begun = replace(moved, row={**moved.row, POLL_START: now})
        jobs.start(app, connection, SYNC, trigger="timer", state=begun, checkpoint=jobs.WAITING)
    else:
        data.commit(connection, [moved])
