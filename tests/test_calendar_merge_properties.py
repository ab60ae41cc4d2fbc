"""What becomes of a reservation when Graph shows its event: what holds for whatever is shown."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sync.calendars.event import title_of
from sync.calendars.merge import CLASH, LOCAL, REMOTE, Seen, Title, Verdict, decide
from sync.calendars.model import Reservation
from tests.events import created, read_back
from tests.events import reservations as any_reservations
from tests.sights import LATER, ROOM, by_ann, by_room, edited, hours, linked, ours

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
).filter(
    lambda one: (
        one.live == (one.link.state not in ("deleting", "gone"))
        and (one.title_source != "placeholder" or one.link.room_event != "")  # an event has shown it
    )
)


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
