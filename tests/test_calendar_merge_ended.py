"""What becomes of a reservation that ended on either side, or that is one of two for the same meeting."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sync.calendars.merge import CLASH, LOCAL, REMOTE, Verdict, decide, loses, vanished
from sync.calendars.model import Link, Reservation
from tests.sights import BASE, LATER, MADE, NOW, ROOM, after, by_ann, by_room, edited, hours, linked, ours

# --- cancelled in the portal -----------------------------------------------------------------------------------------


def cancelled(**link: Any) -> Reservation:
    return ours(status="cancelled", link=linked(**{"state": "deleting", **link}))


def test_a_cancellation_that_waits_stays_one() -> None:
    """What has changed but for the time is recorded, in case that Graph refuses."""
    made = after(cancelled(), by_room(title="Review"))

    assert (made.status, made.title, made.updated_at) == ("cancelled", "Review", NOW)
    assert (made.link.state, made.link.cause, made.link.room_etag) == ("deleting", LOCAL, "2")
    assert made.link.base == replace(BASE, title="Review")
    assert decide(cancelled(), by_room(title="Review"), ROOM, LATER).change is None


@pytest.mark.parametrize("cause", ["", CLASH])
def test_a_meeting_moved_while_its_cancellation_waits_is_back(cause: str) -> None:
    verdict = decide(cancelled(cause=cause), by_room(times=hours(11, 12)), ROOM, LATER)

    assert (verdict.outcome, verdict.change, verdict.lost) == ("restored", "restored", ("time",))
    made = verdict.reservation
    assert made
    assert (made.status, made.times, made.sync_state, made.note) == (
        "confirmed",
        hours(11, 12),
        "conflict",
        "moved-in-outlook",
    )
    assert (made.link.state, made.link.cause) == ("linked", "")


def test_a_meeting_that_goes_on_in_another_room_is_not_back() -> None:
    """The reservation is there; here its old event still has to go."""
    made = after(cancelled(cause="moved:room-2"), by_room(times=hours(11, 12)))

    assert (made.status, made.link.state, made.link.cause) == ("cancelled", "deleting", "moved:room-2")


@pytest.mark.parametrize(("cause", "kept"), [("", LOCAL), (CLASH, CLASH)])
def test_a_meeting_cancelled_on_both_sides_needs_no_telling(cause: str, kept: str) -> None:
    verdict = decide(cancelled(cause=cause), by_room(cancelled=True), ROOM, LATER)

    assert verdict == Verdict(cancelled(state="gone", cause=kept), "unchanged")


def test_an_event_cancelled_before_anything_was_agreed() -> None:
    """It was sent and its answer lost, then it was cancelled: the event that there is has to go."""
    known = ours(status="cancelled", link=Link(state="deleting", payload={"subject": 1}))

    made = after(known, by_room())

    assert (made.status, made.link.state, made.link.room_event) == ("cancelled", "deleting", "E")


# --- ended -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["cancelled", "declined"])
def test_what_outlook_ended_comes_back_with_its_event(status: str) -> None:
    """The same reservation: accepted again, or out of the wastebasket."""
    known = ours(status=status, sync_state="rejected", note="room-declined", link=linked(state="gone", cause=REMOTE))

    verdict = decide(known, by_room(times=hours(11, 12), title="Review"), ROOM, LATER)

    assert (verdict.outcome, verdict.change) == ("restored", "restored")
    made = verdict.reservation
    assert made
    assert (made.id, made.status, made.title, made.times) == ("R", "confirmed", "Review", hours(11, 12))
    assert (made.sync_state, made.note, made.link.state) == ("synced", "", "linked")


@pytest.mark.parametrize("cause", [LOCAL, CLASH, "moved:room-2"])
def test_what_the_portal_ended_stays_so(cause: str) -> None:
    """Its event is on its way out."""
    known = ours(status="cancelled", link=linked(state="gone", cause=cause))

    assert decide(known, by_room(times=hours(11, 12)), ROOM, LATER) == Verdict(None, "unchanged")


def test_what_outlook_ended_stays_so_while_its_event_is_a_cancelled_one() -> None:
    known = ours(status="cancelled", link=linked(state="gone", cause=REMOTE))

    assert decide(known, by_room(cancelled=True), ROOM, LATER) == Verdict(None, "unchanged")


def test_what_was_ended_before_it_had_an_event_is_sent_away() -> None:
    """An occurrence that the portal cancelled before its series was sent: the series has it, so it is to be deleted."""
    known = ours(kind="occurrence", status="cancelled", link=Link(state="gone", cause=LOCAL))

    verdict = decide(known, by_room(kind="occurrence"), ROOM, LATER)

    assert verdict.change is None
    assert verdict.reservation
    assert verdict.reservation.status == "cancelled"
    assert (verdict.reservation.link.state, verdict.reservation.link.room_event) == ("deleting", "E")


def test_a_users_meeting_that_was_cancelled_before_the_room_had_it() -> None:
    """The room's copy comes and goes by itself: the invitation and its cancellation are both on their way."""
    known = ours(status="cancelled", link=linked(state="gone", organizer="user", room_event="", cause=LOCAL))

    assert decide(known, by_ann(), ROOM, LATER) == Verdict(None, "unchanged")


@pytest.mark.parametrize(
    ("declined", "status", "change", "state", "note"),
    [(False, "cancelled", "deleted", "synced", ""), (True, "declined", "updated", "rejected", "room-declined")],
)
def test_vanished(declined: bool, status: str, change: str, state: str, note: str) -> None:
    verdict = vanished(edited(title="Ours"), LATER, declined=declined)

    assert (verdict.outcome, verdict.change) == ("deleted", change)
    made = verdict.reservation
    assert made
    assert (made.status, made.sync_state, made.note, made.updated_at) == (status, state, note, LATER)
    assert (made.link.state, made.link.cause) == ("gone", REMOTE)


def test_vanished_as_the_portal_wanted() -> None:
    assert vanished(cancelled(), LATER) == Verdict(cancelled(state="gone", cause=LOCAL), "unchanged")
    assert vanished(cancelled(cause=CLASH), LATER) == Verdict(cancelled(state="gone", cause=CLASH), "unchanged")


def test_vanished_twice() -> None:
    assert vanished(ours(link=linked(state="gone", cause=REMOTE)), LATER) == Verdict(None, "unchanged")


# --- two at once -----------------------------------------------------------------------------------------------------

EARLIER = MADE - timedelta(hours=1)


@pytest.mark.parametrize(
    ("one", "other", "leaves"),
    [
        pytest.param(ours(), ours(link=linked(created_at=EARLIER)), True, id="the later one"),
        pytest.param(ours(link=linked(created_at=EARLIER)), ours(), False, id="the earlier one"),
        pytest.param(ours(), ours(link=linked(room_event="D")), True, id="of two at once the one with the higher id"),
        pytest.param(ours(link=linked(room_event="D")), ours(), False, id="of two at once the one with the lower id"),
        pytest.param(
            ours(link=linked(created_at=None)), ours(link=linked(room_event="D")), True, id="by its own birthday"
        ),
        pytest.param(
            ours(origin="microsoft"), ours(link=linked(created_at=EARLIER)), False, id="what was made in Outlook stays"
        ),
        pytest.param(
            ours(link=linked(organizer="user")), ours(link=linked(created_at=EARLIER)), False, id="so does a user's"
        ),
    ],
)
def test_loses(one: Reservation, other: Reservation, leaves: bool) -> None:
    assert loses(one, other) == leaves
