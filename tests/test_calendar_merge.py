"""What becomes of a reservation when Graph shows its event: new to the portal, or changed in Outlook."""

from dataclasses import replace
from typing import Any

import pytest

from sync.calendars.event import Attendee
from sync.calendars.merge import REMOTE, Seen, Verdict, decide
from sync.calendars.model import PRIVATE, Link, Reservation, imported_id, occurrence_id
from sync.calendars.recurrence import reduced
from tests.sights import (
    ANN,
    BASE,
    BO,
    LATER,
    MADE,
    NOW,
    ROOM,
    ROOM_MAIL,
    WEEKLY,
    after,
    by_ann,
    by_room,
    edited,
    hours,
    imported,
    linked,
    ours,
)

# --- new -------------------------------------------------------------------------------------------------------------


def test_import_of_a_users_meeting() -> None:
    """The owner is the organizer, and nobody who is only a room is an attendee."""
    people = (
        Attendee("Bo", "bo@contoso.com", "required", "none"),
        Attendee("Room", ROOM_MAIL, "resource", "accepted"),
    )
    seen = by_ann(attendees=people)

    verdict = decide(None, seen, ROOM, NOW)

    made = imported(seen)
    assert (verdict.outcome, verdict.change) == ("created", "created")
    assert made.id == imported_id(ROOM, "E")
    assert (made.title, made.title_source, made.owner, made.attendees) == ("Planning", "organizer", ANN, (BO,))
    assert (made.status, made.sync_state, made.origin, made.created_at) == ("confirmed", "synced", "microsoft", MADE)
    assert made.link == Link(
        state="linked",
        organizer="user",
        organizer_address="ann@contoso.com",
        room_event="E",
        organizer_event="A",
        ical="UID",
        room_etag="2",
        organizer_etag="7",
        base=replace(BASE, organizer="ann@contoso.com"),
        created_at=MADE,
    )


def test_import_of_the_rooms_own_event() -> None:
    """Nobody tells who booked it. One without a birthday was born now."""
    made = imported(by_room(created_at=None))

    assert (made.owner, made.created_at, made.link.organizer, made.link.created_at) == (None, NOW, "room", None)


def test_import_of_a_private_meeting() -> None:
    """Nothing of it is known but its time and its organizer."""
    made = imported(by_ann(private=True, attendees=(Attendee("Bo", "bo@contoso.com", "required", "none"),)))

    assert (made.title, made.private, made.attendees, made.owner) == (PRIVATE, True, (), ANN)
    assert made.link.base
    assert made.link.base.title is None


def test_import_of_an_occurrence() -> None:
    """It is known by its place in its series, whatever Graph calls it."""
    seen = replace(by_room(kind="occurrence"), series="S", original_start=hours(9, 10).start, master="M")

    made = imported(seen)

    assert made.id == occurrence_id("S", hours(9, 10).start)
    assert (made.series, made.original_start, made.link.master) == ("S", hours(9, 10).start, "M")


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        (by_ann(), "confirmed"),
        (by_ann(response="organizer"), "confirmed"),
        (by_ann(response="tentativelyAccepted"), "tentative"),
        (by_ann(response="notResponded"), "tentative"),
        (by_ann(response="none"), "confirmed"),
        (by_room(response="none"), "confirmed"),
    ],
)
def test_status_of_what_is_new(seen: Seen, status: str) -> None:
    """What the room has answered; it need not answer itself."""
    assert imported(seen).status == status


@pytest.mark.parametrize("seen", [by_ann(cancelled=True), by_ann(response="declined"), by_room(cancelled=True)])
def test_what_has_ended_already_is_not_taken_in(seen: Seen) -> None:
    assert decide(None, seen, ROOM, NOW) == Verdict(None, "skipped")


def test_import_of_a_free_one() -> None:
    made = imported(by_room(free=True))

    assert (made.blocking, made.takes_time) == (False, False)


# --- changed in Outlook ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(by_room(times=hours(11, 12)), {"times": hours(11, 12)}, id="time"),
        pytest.param(by_room(title="Review"), {"title": "Review", "title_source": "room"}, id="title"),
        pytest.param(by_room(free=True), {"blocking": False}, id="free"),
        pytest.param(by_room(private=True), {"title": PRIVATE, "private": True}, id="private"),
        pytest.param(by_ann(), {"owner": ANN, "status": "confirmed"}, id="another organizer"),
        pytest.param(by_ann(response="tentativelyAccepted"), {"status": "tentative"}, id="tentative"),
    ],
)
def test_change_in_outlook(seen: Seen, expected: dict[str, Any]) -> None:
    """What Graph shows is taken over and told, and is what both agree on from then on."""
    verdict = decide(ours(), seen, ROOM, LATER)

    assert (verdict.outcome, verdict.change, verdict.lost) == ("updated", "updated", ())
    made = verdict.reservation
    assert made
    assert {name: getattr(made, name) for name in expected} == expected
    assert (made.id, made.updated_at, made.sync_state, made.link.state) == ("R", LATER, "synced", "linked")
    assert made.link.base == made.agreed()


def test_change_of_a_pattern() -> None:
    series = ours(kind="series", recurrence=WEEKLY, blocking=False)
    base = series.agreed()
    daily = reduced({**WEEKLY, "pattern": {"type": "daily", "interval": 1}})
    seen = by_room(kind="series", recurrence=daily)

    made = after(series.linked(base=base), seen)

    assert made.recurrence == daily
    assert made.link.base == made.agreed()


def test_an_echo_is_stored_without_a_word() -> None:
    """The same content under another etag: the etag is kept, the portal is told nothing, and its time does not move."""
    verdict = decide(ours(), by_room(), ROOM, LATER)

    assert verdict == Verdict(ours().linked(room_etag="2"), "unchanged")


def test_the_same_again_is_not_stored() -> None:
    known = ours(link=linked(room_etag="2"))

    assert decide(known, by_room(), ROOM, LATER) == Verdict(None, "unchanged")


@pytest.mark.parametrize(
    ("seen", "status", "change", "state"),
    [
        (by_room(cancelled=True), "cancelled", "deleted", "synced"),
        (by_ann(cancelled=True), "cancelled", "deleted", "synced"),
        (by_ann(response="declined"), "declined", "updated", "rejected"),
    ],
)
@pytest.mark.parametrize("known", [ours(), edited(title="Review")])
def test_a_remote_end_always_wins(known: Reservation, seen: Seen, status: str, change: str, state: str) -> None:
    """Whatever the portal has changed meanwhile."""
    verdict = decide(known, seen, ROOM, LATER)

    assert (verdict.outcome, verdict.change) == ("deleted", change)
    made = verdict.reservation
    assert made
    assert (made.status, made.sync_state, made.link.state, made.link.cause) == (status, state, "gone", REMOTE)


# --- titles that are not known ---------------------------------------------------------------------------------------


def test_a_placeholder_never_replaces_a_title() -> None:
    """Nor does it count as a change when the title may no longer be read; and it agrees with the old one still."""
    known = imported(by_ann())

    verdict = decide(known, by_ann(title=None, etag="3"), ROOM, LATER)

    assert verdict.change is None
    assert verdict.reservation == known.linked(room_etag="3")


def test_a_placeholder_leaves_a_private_meeting_private() -> None:
    known = imported(by_ann(private=True))

    verdict = decide(known, by_ann(title=None, etag="3"), ROOM, LATER)

    assert verdict == Verdict(known.linked(room_etag="3"), "unchanged")


@pytest.mark.parametrize(
    ("seen", "title"),
    [(by_ann(title="Review"), "Review"), (by_ann(private=True), PRIVATE)],
)
def test_a_placeholder_yields_to_the_first_real_title(seen: Seen, title: str) -> None:
    known = imported(by_ann(title=None))

    verdict = decide(known, seen, ROOM, LATER)

    assert verdict.change == "updated"
    made = verdict.reservation
    assert made
    assert (made.title, made.title_source) == (title, "organizer")


def test_a_real_title_in_place_of_a_private_one() -> None:
    made = after(imported(by_ann(private=True)), by_ann(title="Review"))

    assert (made.title, made.private) == ("Review", False)


def test_a_title_of_the_portals_own_stays_with_a_private_event() -> None:
    """Graph hides it from nobody here: what the portal has called it is still what both agree on."""
    private = ours(title="Secret", private=True)
    known = private.linked(base=private.agreed())

    verdict = decide(known, by_room(private=True, title="Secret"), ROOM, LATER)

    assert verdict.change is None
    assert verdict.reservation
    assert (verdict.reservation.title, verdict.reservation.link.base) == ("Secret", known.link.base)


def test_a_title_learnt_late_does_not_beat_the_portals() -> None:
    """The portal renamed what it did not know the name of; that the name is known now is no change in Outlook."""
    known = replace(imported(by_ann(title=None)), title="Ours", title_source="local", sync_state="pending")

    made = after(known.linked(state="updating"), by_ann(title="Theirs"))

    assert (made.title, made.link.state, made.sync_state) == ("Ours", "updating", "pending")
    assert made.link.base
    assert made.link.base.title == "Theirs"
