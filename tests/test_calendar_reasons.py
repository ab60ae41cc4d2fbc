"""Why a run looks at a room, and in which order."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync.calendars.model import Room, RoomState, Subscription
from sync.calendars.reasons import ROUND, Reason, reasons, urgency
from sync.calendars.store import Todo

NOW = datetime(2026, 4, 15, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WINDOW = (NOW - timedelta(days=1), NOW + timedelta(days=365))
NEVER = datetime(2000, 1, 1, tzinfo=UTC)
ROOM = Room("oak", "Oak", "office365", "oak@contoso.com", active=True, time_zone="UTC", since=NOW - timedelta(days=9))
QUIET = RoomState(
    status="active",
    detail="webhook",
    mailbox="oak@contoso.com",
    since=ROOM.since,
    delta_link="https://graph/delta",
    window_start=WINDOW[0],
    window_end=WINDOW[1],
    silent_since=NOW - MINUTE,
    full_at=NOW - timedelta(days=1),
    subscription=Subscription("S", "digest", NOW + timedelta(days=2)),
)


def why(room: Room = ROOM, state: RoomState = QUIET, todo: Todo | None = None, **given: Any) -> frozenset[Reason]:
    facts: dict[str, Any] = {
        "now": NOW,
        "window": WINDOW,
        "full_start": None,
        "asked_at": NEVER,
        "silent_before": NEVER,
        "subscribes": False,
    }
    return reasons(room, state, todo or Todo(), **facts | given)


def state(**changes: Any) -> RoomState:
    return replace(QUIET, **changes)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({}, set(), id="nothing"),
        pytest.param({"todo": Todo(sends={"R": "etag"})}, {"send"}, id="something to be sent"),
        pytest.param({"todo": Todo(heard="etag")}, {"heard"}, id="a notification"),
        pytest.param({"todo": Todo(heard="e", flags=frozenset({"renew"}))}, {"heard", "subscribe"}, id="a flag"),
        pytest.param({"state": state(status="pending")}, {"first"}, id="never looked at"),
        pytest.param({"state": state(since=NOW)}, {"first"}, id="set up anew since"),
        pytest.param({"state": state(mailbox="elm@contoso.com")}, {"first"}, id="another calendar"),
        pytest.param({"state": state(status="error")}, {"retry"}, id="an error"),
        pytest.param({"state": state(retry_at=NOW)}, {"retry"}, id="a retry that is due"),
        pytest.param({"state": state(window_end=NOW)}, {"window"}, id="another day"),
        pytest.param({"state": state(delta_link="")}, {"window"}, id="no delta link"),
        pytest.param({"subscribes": True}, {"subscribe"}, id="a subscription to be renewed"),
        pytest.param({"silent_before": NOW}, {"silence"}, id="long silence"),
        pytest.param({"silent_before": NOW - MINUTE}, set(), id="no long silence"),
        pytest.param({"state": state(silent_since=None)}, {"silence"}, id="never read"),
        pytest.param({"state": state(look_again=NOW)}, {"again"}, id="a notification that came too early"),
        pytest.param({"state": state(look_again=NOW + MINUTE)}, set(), id="not yet again"),
        pytest.param({"full_start": NOW}, {"full"}, id="a full sync"),
        pytest.param({"full_start": NOW, "state": state(full_at=None)}, {"full"}, id="the first full sync"),
        pytest.param({"full_start": NOW, "state": state(full_at=NOW)}, set(), id="a full sync that is done"),
    ],
)
def test_reasons(given: dict[str, Any], expected: set[Reason]) -> None:
    assert why(**given) == expected


WAITS = state(status="error", failed_at=NOW - MINUTE, retry_at=NOW + MINUTE)
HOLDS = replace(WAITS, failed_at=None, detail="remote-empty", suspected_at=NOW - MINUTE)


@pytest.mark.parametrize(
    ("given", "looks"),
    [
        ({}, False),
        ({"todo": Todo(heard="etag", sends={"R": "etag"})}, False),
        ({"silent_before": NOW}, False),
        ({"full_start": NOW}, True),
        ({"asked_at": NOW}, True),
        ({"asked_at": NOW - 2 * MINUTE}, False),
        ({"asked_at": NOW, "state": HOLDS}, False),
        ({"full_start": NOW, "state": HOLDS}, True),
        ({"room": replace(ROOM, since=NOW), "state": HOLDS}, True),
        ({"room": replace(ROOM, since=NOW)}, True),
        ({"room": replace(ROOM, since=NOW, external_calendar="elm@contoso.com")}, True),
        ({"state": replace(WAITS, since=None, mailbox="")}, False),
    ],
)
def test_a_room_that_waits_for_its_next_try(given: dict[str, Any], looks: bool) -> None:
    """Left in peace whatever waits in it, unless a person has asked for it or has set it up anew since it failed.

    Deletions that are held wait for their second look, or for a full sync.
    """
    assert bool(why(**{"state": WAITS, **given})) == looks


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"leave"}),
        ({"state": state(subscription=None)}, set()),
        ({"state": state(subscription=None), "todo": Todo(heard="etag")}, {"leave"}),
        ({"state": state(subscription=None), "todo": Todo(sends={"R": "etag"}), "full_start": NOW}, set()),
    ],
)
def test_a_room_that_is_switched_off(given: dict[str, Any], expected: set[Reason]) -> None:
    """Looked at until nothing of it is left at Graph, and never for anything else."""
    assert why(replace(ROOM, active=False), **given) == expected


def test_urgency() -> None:
    """Who waits for an answer comes first, and the most urgent reason counts."""
    order: list[Reason] = [
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
    ]
    places = [urgency(frozenset({reason})) for reason in order]

    assert places == sorted(set(places))
    assert urgency(frozenset({"silence", "heard"})) == urgency(frozenset({"heard"}))
    assert set(order) > ROUND
