"""Why a run looks at a room, decided from what is stored about it."""

from datetime import datetime
from typing import Literal

from sync.calendars.model import Room, RoomState
from sync.calendars.store import Todo

Reason = Literal["send", "heard", "first", "retry", "full", "window", "subscribe", "silence", "again", "leave"]
ROUND: frozenset[Reason] = frozenset({"heard", "first", "retry", "full", "window", "silence", "again"})
"""The reasons to read the room's calendar."""

_FIRST: tuple[Reason, ...] = (
    "send",
    "heard",
    "first",
    "leave",
    "retry",
    "subscribe",
    "again",
    "full",
    "window",
    "silence",
)


def reasons(
    room: Room,
    state: RoomState,
    todo: Todo,
    *,
    now: datetime,
    window: tuple[datetime, datetime],
    full_start: datetime | None,
    asked_at: datetime,
    silent_before: datetime,
    subscribes: bool,
) -> frozenset[Reason]:
    """Everything that speaks for looking at the room now; nothing for one that has to wait for its next try.

    `window` is the present one, `full_start` when a full sync was last asked for, `asked_at` when a person last asked for
    any, a calendar that was last read before `silent_before` is read although nothing was heard, `subscribes` says that the
    room's subscription has to be made or renewed.
    """
    if not room.active:
        return frozenset({"leave"}) if state.subscription or todo.heard else frozenset()
    full = full_start is not None and (state.full_at is None or state.full_at < full_start)
    anew = state.since != room.since or state.mailbox != room.external_calendar
    if state.retry_at is not None and state.retry_at > now and not full:
        # Where it is not that the room could not be read, deletions are held: those wait although a person asks.
        tried = not anew if state.failed_at is None else state.failed_at >= max(room.since or asked_at, asked_at)
        if tried:
            return frozenset()
    found: dict[Reason, bool] = {
        "send": bool(todo.sends),
        "heard": todo.heard is not None,
        "first": anew or state.status == "pending",
        "retry": state.retry_at is not None or state.status == "error",
        "full": full,
        "window": (state.window_start, state.window_end) != window or not state.delta_link,
        "subscribe": subscribes or bool(todo.flags),
        "silence": state.silent_since is None or state.silent_since < silent_before,
        "again": state.look_again is not None and state.look_again <= now,
    }
    return frozenset(reason for reason, holds in found.items() if holds)


def urgency(found: frozenset[Reason]) -> int:
    """The place in the order in which rooms are looked at: who waits for an answer comes first."""
    return min(_FIRST.index(reason) for reason in found)
