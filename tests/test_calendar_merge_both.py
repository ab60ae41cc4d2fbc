"""What becomes of a reservation that was changed on both sides, or whose event is shown late."""

from dataclasses import replace
from typing import Any

import pytest

from sync.calendars.details import remembered, waiting
from sync.calendars.event import Attendee
from sync.calendars.merge import Seen, Title, agreed_title, changed, decide
from sync.calendars.model import PLACEHOLDER, PRIVATE, Link, Person, Reservation
from sync.calendars.recurrence import reduced
from tests.sights import (
    ANN,
    BASE,
    BO,
    LATER,
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


@pytest.mark.parametrize(
    ("seen", "shown"),
    [
        (by_room(title="Review"), ("rejected", "crossing-boundary")),
        (by_room(times=hours(11, 12)), ("synced", "")),
    ],
)
def test_why_a_change_was_refused(seen: Seen, shown: tuple[str, str]) -> None:
    """It is told until Outlook gives another time."""
    made = after(ours(sync_state="rejected", note="crossing-boundary"), seen)

    assert (made.sync_state, made.note) == shown


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


# --- attendees and notes ---------------------------------------------------------------------------------------------

BO_THERE, ROOM_THERE = (
    Attendee("Bo", BO.email, "required", "none"),
    Attendee("Room", ROOM_MAIL, "resource", "accepted"),
)
CY = Person("Cy", "cy@contoso.com")
CY_THERE = Attendee("Cy", CY.email, "optional", "none")


def anns(*people: Person, notes: str = "Cake", **changes: Any) -> Reservation:
    """A meeting in Ann's calendar to which the portal has invited these, Bo being invited before."""
    known = ours(**{"owner": ANN, "attendees": (BO,), "notes": "Cake", **changes})
    known = known.linked(
        organizer="user",
        organizer_address="ann@contoso.com",
        organizer_event="A",
        base=replace(BASE, organizer="ann@contoso.com"),
    )
    after = remembered(known, replace(known, attendees=people, notes=notes))
    return replace(after, sync_state="pending").linked(state="updating") if waiting(after) else after


def test_people_of_the_organizers_copy() -> None:
    """It counts: the room is not told of all of them."""
    seen = by_ann(attendees=(BO_THERE,), people=(CY,))

    assert after(anns(BO), seen).attendees == (CY,)
    assert after(anns(BO), by_ann(attendees=(CY_THERE, ROOM_THERE))).attendees == (CY,)


def test_people_that_wait_to_be_sent() -> None:
    """A sight takes nobody out, and takes over who was invited or is gone in Outlook."""
    made = after(anns(CY), by_ann(people=(BO, Person("Dan", "dan@contoso.com"))))

    assert [one.name for one in made.attendees] == ["Dan", "Cy"]
    assert (made.link.state, made.sync_state) == ("updating", "pending")
    assert made.link.base == replace(BASE, organizer="ann@contoso.com")


def test_people_that_are_there_already() -> None:
    """Sent, the answer being lost: nothing waits any more."""
    made = after(anns(CY).linked(sent=BASE), by_ann(people=(CY,), copy=hours(9, 10)))

    assert (made.link.state, made.sync_state, made.link.told, made.link.sent) == ("linked", "synced", None, None)


@pytest.mark.parametrize(
    ("known", "people"),
    [
        (anns(BO), ()),
        (anns(CY), (CY,)),
        (anns(BO, private=True, title_source="organizer"), ()),
        (anns(BO, private=True), (BO,)),
    ],
    ids=["made private", "added", "private", "the portal's own"],
)
def test_people_of_a_private_meeting(known: Reservation, people: tuple[Person, ...]) -> None:
    """Nobody is told of them, but whom the portal has invited itself."""
    assert after(known, by_ann(private=True, people=(BO,))).attendees == people


def test_people_of_a_meeting_that_comes_back() -> None:
    """Restored, or moved while its cancellation waits: all of it is as Graph has it."""
    gone = replace(anns(CY, notes="Tea"), status="cancelled")
    for link in ({"state": "gone", "cause": "remote"}, {"state": "deleting", "cause": "local"}):
        made = after(gone.linked(**link), by_ann(times=hours(11, 12), people=(BO,)))
        assert (made.status, made.attendees) == ("confirmed", (BO,))
        assert (made.link.state, made.link.told) == ("linked", None)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (edited(title="Ours"), Title("Planning", "local")),
        (edited(title="Ours", link=Link()), Title("Ours", "local")),
        (replace(anns(BO), title="Ours", origin="microsoft"), Title("Planning", "organizer")),
        (ours(origin="microsoft", title_source="room"), Title("Planning", "room")),
        (ours(title="Ours").linked(base=replace(BASE, title=None)), Title(PLACEHOLDER, "placeholder")),
        (ours().linked(base=replace(BASE, title=None, private=True)), Title(PRIVATE, "organizer", private=True)),
    ],
)
def test_the_title_that_was_agreed(known: Reservation, expected: Title) -> None:
    assert agreed_title(known) == expected
