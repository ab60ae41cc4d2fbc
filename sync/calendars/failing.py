"""What a room comes to that cannot be looked at: pure. Nothing is deleted, and it is tried again, later and later."""

from dataclasses import replace
from datetime import datetime, timedelta

from sync.calendars.model import Room, RoomState

RETRY, LONGEST_RETRY = timedelta(minutes=5), timedelta(hours=6)
PATIENCE = timedelta(minutes=60)


def backoff(failures: int) -> timedelta:
    """How long to wait after so many failures in a row."""
    return min(RETRY * (1 << min(failures, 10)), LONGEST_RETRY)


def refused(room: Room, state: RoomState, now: datetime, detail: str) -> RoomState:
    """The room's mailbox is out of reach for good. A former one, from which the reservations are, is still the state's."""
    there = state.mailbox or room.external_calendar
    return replace(
        state,
        status="error",
        detail=detail,
        since=room.since,
        mailbox=there,
        subscription=state.subscription if there == room.external_calendar else None,
        delta_link="",
        failures=state.failures + 1,
        failed_at=now,
        retry_at=now + backoff(state.failures),
        look_again=None,
        full_at=now,
    )


def unanswered(room: Room, state: RoomState, now: datetime) -> RoomState:
    """Graph does not answer properly for the room. It stays as it is until that has lasted for an hour."""
    since = state.failing_since or now
    lost = now - since >= PATIENCE
    return replace(
        state,
        status="error" if lost else state.status,
        detail="unreachable" if lost else state.detail,
        since=room.since if lost else state.since,
        failing_since=since,
        failures=state.failures + 1,
        failed_at=now,
        retry_at=now + (min((now - since) / 4, LONGEST_RETRY) if lost else RETRY),
        look_again=None,
        full_at=now,
        delta_link="" if lost else state.delta_link,
    )
