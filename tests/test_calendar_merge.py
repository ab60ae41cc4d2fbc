"""What becomes of a reservation when Graph shows its event: by table, and that it holds for whatever is shown."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.calendars.event import Attendee, Remote, title_of
from sync.calendars.merge import CLASH, LOCAL, REMOTE, Seen, Title, Verdict, changed, decide, loses, vanished
from sync.calendars.model import (
    PLACEHOLDER,
    PRIVATE,
    Agreed,
    Link,
    Person,
    Reservation,
    Times,
    imported_id,
    occurrence_id,
)
from sync.calendars.recurrence import reduced
from tests.test_calendar_event import created, read_back
from tests.test_calendar_event import reservations as any_reservations

NOW = datetime(2026, 4, 15, 9, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
MADE = datetime(2026, 4, 1, 8, tzinfo=UTC)
ROOM, ROOM_MAIL = "room-1", "room1@contoso.com"
ANN, BO = Person("Ann Lee", "Ann@contoso.com"), Person("Bo", "bo@contoso.com")
WEEKLY = reduced(
    {
        "pattern": {"type": "weekly", "interval": 1, "daysOfWeek": ["wednesday"]},
        "range": {"type": "noEnd", "startDate": "2026-04-15"},
    }
)


def hours(first: int, last: int) -> Times:
    midnight = datetime(2026, 4, 15, tzinfo=UTC)
    return Times(midnight + timedelta(hours=first), midnight + timedelta(hours=last), "Europe/Berlin")


def remote(**changes: Any) -> Remote:
    fields: dict[str, Any] = {
        "id": "E",
        "etag": "2",
        "kind": "single",
        "master": "",
        "ical": "UID",
        "subject": "Planning",
        "times": hours(9, 10),
        "original_start": None,
        "cancelled": False,
        "free": False,
        "private": False,
        "organizer": Person("Room", ROOM_MAIL),
        "is_organizer": True,
        "response": "organizer",
        "created_at": MADE,
        "transaction": "",
        "attendees": (),
        "recurrence": None,
        "zone": "Europe/Berlin",
        "zone_unknown": False,
        "stub": False,
    }
    return Remote(**fields | changes)


def by_room(*, title: str = "Planning", private: bool = False, **changes: Any) -> Seen:
    """An event of the room's own."""
    of = remote(subject=title, private=private, **changes)
    return Seen(of, of.times, Title(*title_of(of, None, policy_read=True)), "room", ROOM_MAIL)


def by_ann(*, title: str | None = "Planning", private: bool = False, copy: Times | None = None, **changes: Any) -> Seen:
    """The room's copy of a meeting of Ann's; her own copy says the title, unless nobody may read it."""
    fields: dict[str, Any] = {"organizer": ANN, "is_organizer": False, "response": "accepted", "subject": "Ann Lee"}
    of = remote(**fields | changes)
    known = Title(PLACEHOLDER, "placeholder") if title is None else Title(title, "organizer")
    return Seen(
        of,
        of.times,
        Title(PRIVATE, "organizer", private=True) if private else known,
        "user",
        "ann@contoso.com",
        organizer_event="" if title is None else "A",
        organizer_etag="" if title is None else "7",
        organizer_times=copy,
    )


def imported(seen: Seen) -> Reservation:
    made = decide(None, seen, ROOM, NOW).reservation
    assert made
    return made


def ours(**changes: Any) -> Reservation:
    """A reservation of the portal's that the room's calendar has as it is."""
    fields: dict[str, Any] = {
        "id": "R",
        "room": ROOM,
        "kind": "single",
        "origin": "portal",
        "title": "Planning",
        "title_source": "local",
        "owner": BO,
        "times": hours(9, 10),
        "created_at": MADE,
        "updated_at": NOW,
        "sync_state": "synced",
        "link": linked(),
    }
    return Reservation(**fields | changes)


def linked(**changes: Any) -> Link:
    fields: dict[str, Any] = {
        "state": "linked",
        "organizer_address": ROOM_MAIL,
        "room_event": "E",
        "ical": "UID",
        "room_etag": "1",
        "base": BASE,
        "created_at": MADE,
    }
    return Link(**fields | changes)


BASE = Agreed("Planning", *hours(9, 10).canonical(), cancelled=False, organizer=ROOM_MAIL, free=False, private=False)


def edited(*, link: Link | None = None, **changes: Any) -> Reservation:
    """One that the portal has changed since."""
    return ours(**changes, sync_state="pending", link=replace(link or linked(), state="updating"))


def after(known: Reservation, seen: Seen) -> Reservation:
    verdict = decide(known, seen, ROOM, LATER)
    assert verdict.reservation
    return verdict.reservation


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
        (by_ann(response="none"), "tentative"),
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


# --- changed on both sides -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "seen"),
    [
        (edited(title="Ours"), by_room(times=hours(11, 12))),
        (edited(times=hours(11, 12)), by_room(title="Theirs")),
        (edited(blocking=False), by_room(title="Theirs", times=hours(11, 12))),
    ],
)
def test_different_groups_are_both_kept(known: Reservation, seen: Seen) -> None:
    """Graph's are taken over, the portal's stay to be sent."""
    verdict = decide(known, seen, ROOM, LATER)

    made = verdict.reservation
    assert made
    assert verdict.lost == ()
    assert (made.link.state, made.sync_state, made.note) == ("updating", "pending", "")
    assert made.link.base == replace(seen.agreed(), organizer=ROOM_MAIL)
    assert changed(made.link.base, made.agreed()) == changed(BASE, known.agreed())


@pytest.mark.parametrize(
    ("known", "seen", "lost"),
    [
        (edited(title="Ours"), by_room(title="Theirs"), ("title",)),
        (edited(times=hours(11, 12)), by_room(times=hours(13, 14)), ("time",)),
        (
            edited(times=hours(11, 12), title="Ours"),
            by_room(times=hours(13, 14), title="Theirs"),
            ("time", "title"),
        ),
    ],
)
def test_graph_wins_where_both_changed(known: Reservation, seen: Seen, lost: tuple[str, ...]) -> None:
    """The editor is told, and nothing is left to be sent."""
    verdict = decide(known, seen, ROOM, LATER)

    made = verdict.reservation
    assert made
    assert verdict.lost == lost
    assert (made.title, made.times) == (seen.title.text, seen.times)
    assert (made.link.state, made.sync_state, made.note) == ("linked", "conflict", "outlook-won")


def test_one_group_is_lost_and_another_left() -> None:
    """Told of as a conflict, also when the rest is looked at again."""
    known = edited(times=hours(11, 12), title="Ours")
    seen = by_room(times=hours(13, 14))

    made = after(known, seen)

    assert (made.title, made.times, made.link.state) == ("Ours", hours(13, 14), "updating")
    assert (made.sync_state, made.note) == ("conflict", "outlook-won")
    assert decide(made, seen, ROOM, LATER).reservation is None


def test_both_changed_it_to_the_same() -> None:
    """That is agreement, no conflict."""
    verdict = decide(edited(title="Theirs"), by_room(title="Theirs"), ROOM, LATER)

    assert verdict.lost == ()
    assert verdict.reservation
    assert (verdict.reservation.sync_state, verdict.reservation.link.state) == ("synced", "linked")


def test_an_occurrence_changed_before_its_series_was_sent() -> None:
    """Nothing was agreed on yet: what its event shows is what was sent, and the portal's change comes after."""
    known = replace(edited(title="Ours", link=Link()), kind="exception", series="S", original_start=hours(9, 10).start)
    seen = replace(by_room(kind="occurrence"), series="S", original_start=hours(9, 10).start)

    made = after(known, seen)

    assert (made.title, made.link.state, made.link.room_event, made.sync_state) == ("Ours", "updating", "E", "pending")


def test_an_occurrence_that_was_never_sent_is_bound() -> None:
    """A portal's own series came to be at Graph; its occurrences are as it says."""
    known = ours(kind="occurrence", series="S", sync_state="pending", link=Link(organizer_address=ROOM_MAIL))
    seen = replace(by_room(kind="occurrence"), series="S", original_start=hours(9, 10).start)

    made = after(known, seen)

    assert (made.link.state, made.link.room_event, made.sync_state) == ("linked", "E", "synced")


def test_a_create_whose_answer_was_lost() -> None:
    """What was frozen is the base, so that an edit in Outlook meanwhile counts as one."""
    known = ours(
        sync_state="pending", link=linked(state="creating", room_event="", room_etag="", payload={"subject": 1})
    )

    made = after(known, by_room(times=hours(11, 12)))

    assert (made.times, made.link.state, made.link.payload, made.sync_state) == (
        hours(11, 12),
        "linked",
        None,
        "synced",
    )


def test_the_room_accepts() -> None:
    """What waited for it is confirmed; that it took its time is no longer worth a word."""
    known = ours(
        status="awaitingRoom",
        note="room-no-response",
        link=linked(
            organizer="user", organizer_address="ann@contoso.com", room_event="", room_etag="", organizer_event="A"
        ),
    )

    made = after(known, by_ann())

    assert (made.id, made.status, made.note, made.link.room_event) == ("R", "confirmed", "", "E")


@pytest.mark.parametrize("note", ["double-booked", "created-on-room", "outlook-won"])
def test_a_note_stays(note: str) -> None:
    """Until something else is to be said: a change in Outlook does not take it away."""
    assert after(ours(note=note), by_room(title="Review")).note == note


SENT = ours(title="Second", times=hours(11, 12)).agreed()


@pytest.mark.parametrize(
    ("portal", "seen", "lost"),
    [
        pytest.param({"title": "Third"}, by_room(title="Second"), (), id="title"),
        pytest.param({"times": hours(15, 16)}, by_room(times=hours(11, 12)), (), id="time"),
        pytest.param({"title": "Third"}, by_room(title="Theirs"), ("title",), id="another title"),
        pytest.param({"times": hours(15, 16)}, by_room(times=hours(13, 14)), ("time",), id="another time"),
    ],
)
def test_an_earlier_change_arrives(portal: dict[str, Any], seen: Seen, lost: tuple[str, ...]) -> None:
    """A change of the portal's whose answer was lost is none of Outlook's: what the portal wants since is still sent."""
    verdict = decide(edited(**portal, link=linked(sent=SENT)), seen, ROOM, LATER)

    made = verdict.reservation
    assert made
    assert verdict.lost == lost
    assert (made.link.state, made.sync_state) == (("linked", "conflict") if lost else ("updating", "pending"))
    assert (made.link.sent, made.link.base) == (None, seen.agreed())


def test_an_earlier_change_of_a_series_arrives() -> None:
    """The same for its pattern."""
    daily = reduced({**WEEKLY, "pattern": {"type": "daily", "interval": 1}})
    series = ours(kind="series", recurrence=WEEKLY, blocking=False)
    known = replace(series, recurrence=daily).linked(
        state="updating", base=replace(series.agreed(), pattern=""), sent=series.agreed()
    )

    made = after(known, by_room(kind="series", recurrence=WEEKLY))

    assert (made.recurrence, made.link.state) == (daily, "updating")


def test_an_earlier_change_of_a_users_meeting_is_looked_for_in_their_calendar() -> None:
    """The room's copy says nothing of it yet."""
    known = imported(by_ann()).linked(state="updating", sent=SENT)

    assert after(known, by_ann(etag="3")).link.sent == SENT
    assert after(known, by_ann(etag="3", copy=hours(9, 10))).link.sent is None


# --- a copy that is late ---------------------------------------------------------------------------------------------


def moved_by_portal() -> Reservation:
    """Ann's meeting from 9 to 10, moved to 11 in her calendar; the room has not heard of it yet."""
    known = imported(by_ann())
    base = known.link.base
    moved = replace(known, times=hours(11, 12))
    return moved.linked(base=moved.agreed(), former=base, organizer_etag="8")


@pytest.mark.parametrize(
    "seen",
    [by_ann(etag="3"), by_ann(etag="3", copy=hours(11, 12))],
    ids=["her copy is not read", "her copy says so"],
)
def test_a_rooms_copy_that_is_late_moves_nothing(seen: Seen) -> None:
    known = moved_by_portal()

    made = after(known, seen)

    assert (made.times, made.link.former, made.link.base) == (hours(11, 12), known.link.former, known.link.base)


def test_a_meeting_that_was_moved_back() -> None:
    """Her own copy shows the old time, too: she has moved it back."""
    made = after(moved_by_portal(), by_ann(etag="3", copy=hours(9, 10)))

    assert (made.times, made.link.former) == (hours(9, 10), None)


def test_a_rooms_copy_that_has_caught_up() -> None:
    """From then on the former time is a time like any other."""
    caught_up = after(moved_by_portal(), by_ann(etag="3", times=hours(11, 12)))
    assert caught_up.link.former is None

    assert after(caught_up, by_ann(etag="4")).times == hours(9, 10)


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


# --- whatever is shown -----------------------------------------------------------------------------------------------

spans = st.sampled_from([hours(9, 10), hours(11, 12), hours(13, 15)])
titles = st.sampled_from(["Planning", "Ours", "Theirs"])
room_sights = st.builds(
    by_room,
    title=titles,
    private=st.booleans(),
    times=spans,
    free=st.booleans(),
    cancelled=st.sampled_from([False, False, False, True]),
    etag=st.sampled_from(["1", "2"]),
)
user_sights = st.builds(
    by_ann,
    title=titles | st.none(),
    private=st.booleans(),
    times=spans,
    copy=spans | st.none(),
    free=st.booleans(),
    cancelled=st.sampled_from([False, False, False, True]),
    response=st.sampled_from(["accepted", "tentativelyAccepted", "notResponded", "declined"]),
    etag=st.sampled_from(["1", "2"]),
)
sights = room_sights | user_sights
agreements = sights.map(lambda seen: replace(seen.agreed(), cancelled=False))
links = st.builds(
    linked,
    state=st.sampled_from(["none", "creating", "linked", "updating", "deleting", "gone"]),
    organizer=st.sampled_from(["room", "user"]),
    room_event=st.sampled_from(["E", ""]),
    base=agreements | st.none(),
    former=agreements | st.none(),
    cause=st.sampled_from(["", LOCAL, REMOTE, CLASH, "moved:room-2"]),
)
knowns = st.builds(
    ours,
    title=titles,
    title_source=st.sampled_from(["local", "organizer", "placeholder"]),
    times=spans,
    status=st.sampled_from(["confirmed", "tentative", "awaitingRoom", "declined", "cancelled"]),
    private=st.booleans(),
    blocking=st.booleans(),
    sync_state=st.sampled_from(["pending", "synced", "conflict", "rejected"]),
    note=st.sampled_from(["", "room-no-response", "double-booked"]),
    link=links,
).filter(lambda one: one.live == (one.link.state not in ("deleting", "gone")))


@given(knowns | st.none(), sights)
def test_the_same_sight_again_changes_nothing(known: Reservation | None, seen: Seen) -> None:
    """Whatever it did the first time."""
    first = decide(known, seen, ROOM, LATER)
    settled = first.reservation or known

    again = decide(settled, seen, ROOM, LATER + timedelta(hours=1))

    assert again.reservation is None
    assert again.outcome == ("unchanged" if settled else "skipped")


@given(knowns.filter(lambda one: one.link.state != "deleting"), sights)
def test_nothing_is_told_where_nothing_can_be_seen(known: Reservation, seen: Seen) -> None:
    """The portal hears of a change exactly where it can see one; what it has cancelled is not shown to it."""
    verdict = decide(known, seen, ROOM, LATER)

    made = verdict.reservation or known
    same = replace(made, link=known.link, updated_at=known.updated_at) == known
    assert (verdict.change is None) == same
    assert (made.updated_at == known.updated_at) == same


mine = st.fixed_dictionaries({}, optional={"title": st.just("Ours"), "times": st.just(hours(11, 12))})
theirs = st.fixed_dictionaries(
    {}, optional={"title": st.just("Theirs"), "times": st.just(hours(13, 14)), "free": st.just(True)}
)


@given(mine, theirs)
def test_merge(portal: dict[str, Any], outlook: dict[str, Any]) -> None:
    """What one side alone changed is kept; where both did, Graph wins, group by group."""
    verdict = decide(edited(**portal), by_room(**outlook), ROOM, LATER)

    made = verdict.reservation
    assert made
    assert made.title == outlook.get("title", portal.get("title", "Planning"))
    assert made.times == outlook.get("times", portal.get("times", hours(9, 10)))
    assert made.blocking == ("free" not in outlook)
    assert set(verdict.lost) == {{"title": "title", "times": "time"}[name] for name in portal.keys() & outlook.keys()}
    assert (made.link.state == "updating") == bool(portal.keys() - outlook.keys())
    assert made.link.base == by_room(**outlook).agreed()


@given(any_reservations)
def test_an_echo_never_writes(sent: Reservation) -> None:
    """Whatever was sent to the room's calendar and is read back, under the etag that the answer had."""
    of = read_back(created(sent), sent.times.zone)
    seen = Seen(of, of.times, Title(*title_of(of, None, policy_read=True)), "room", "room1@contoso.com")
    known = replace(sent, sync_state="synced").linked(
        state="linked",
        organizer_address="room1@contoso.com",
        room_event=of.id,
        ical=of.ical,
        room_etag=of.etag,
        created_at=of.created_at,
    )
    known = known.linked(base=known.agreed())

    verdict = decide(known, seen, ROOM, LATER)

    assert verdict == Verdict(None, "unchanged")
