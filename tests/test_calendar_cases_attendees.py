"""The calendars' cases, of attendees that the portal changes: a user's meeting is changed in their own calendar, whoever
else changes it meanwhile.
"""

from contextlib import suppress

import pytest

from sync import jobs
from tests.dying import Killed, Reaper, process
from tests.guests import DAN, Anns, anns, break_writes, guest, invited, people, shown
from tests.office import (
    GET,
    HOUR,
    MINUTE,
    PATCH,
    VIEW,
    Make,
    graph_time,
    lose_answers,
    make_office,
    office,
    room_attendee,
    span,
)
from tests.rooms import problem

__all__ = ["anns", "make_office", "office"]

# --- attendees of a user's meeting -----------------------------------------------------------------------------------


def test_attendees(anns: Anns) -> None:
    """One GET of the organizer's copy and one PATCH of it, in which everybody else stays as they are."""
    assert anns.invite(anns.bo, anns.cy)["syncState"] == "pending"

    count = anns.send()
    with anns.office.counting() as echo:
        anns.office.hear()
        anns.office.sync()

    assert count.by_template == {GET: 1, PATCH: 1}
    assert count.writes == [("PATCH", anns.ann, {"attendees"})]
    room = anns.office.rooms[0]
    assert invited(anns.copy) == {room: "resource", anns.bo: "optional", anns.cy: "required"}
    assert (echo.rows, echo.graph_writes) == (set(), [])
    assert (shown(anns.one), anns.one["syncState"]) == ([anns.bo, anns.cy], "synced")
    assert anns.one["attendees"][1]["name"] == anns.office.names[anns.cy]


def test_nobody_is_left(anns: Anns) -> None:
    """The room stays."""
    anns.invite()

    anns.send()
    anns.office.full()

    assert invited(anns.copy) == {anns.office.rooms[0]: "resource"}
    assert anns.one["attendees"] == []


def test_with_time_and_title(anns: Anns) -> None:
    """All of it goes with one PATCH, and its echo writes nothing but the time that the room has taken over."""
    anns.invite(anns.cy, title="Ours", **span(anns.office.noon + 3 * HOUR))

    count = anns.send()
    anns.office.hear()

    assert count.by_template == {VIEW: 1, GET: 1, PATCH: 1}
    assert count.writes == [("PATCH", anns.ann, {"subject", "start", "end", "isAllDay", "attendees"})]
    assert invited(anns.copy).keys() == {anns.office.rooms[0], anns.cy}
    assert (shown(anns.one), anns.one["title"], anns.one["syncState"]) == ([anns.cy], "Ours", "synced")


def test_the_organizer_and_rooms(anns: Anns) -> None:
    """Ann is not invited to her own meeting, and a room that is there already stays a room."""
    anns.invite(anns.ann, anns.bo, anns.office.rooms[0])

    anns.send()

    assert invited(anns.copy) == {anns.office.rooms[0]: "resource", anns.bo: "optional"}
    assert (shown(anns.one), anns.one["syncState"]) == ([anns.bo], "synced")


def test_outlook_invites_too(anns: Anns) -> None:
    """Whoever Outlook has added or removed meanwhile is so, and whoever the portal has, too."""
    anns.invite(anns.bo, anns.cy)
    anns.office.change(0, anns.event, attendees=[room_attendee(anns.office.rooms[0]), guest(DAN)])

    anns.send()

    assert invited(anns.copy).keys() == {anns.office.rooms[0], DAN, anns.cy}
    assert (shown(anns.one), anns.one["syncState"]) == ([DAN, anns.cy], "synced")


def test_outlook_invites_too_after_her_copy_was_read(anns: Anns, monkeypatch: pytest.MonkeyPatch) -> None:
    """412: read again, merged, one retry."""
    anns.invite(anns.bo, anns.cy)
    guests = [room_attendee(anns.office.rooms[0]), guest(DAN, "optional")]

    count = anns.between(monkeypatch, lambda: anns.office.change(0, anns.event, attendees=guests, subject="Theirs"))

    assert count.by_template == {GET: 2, PATCH: 2}
    assert invited(anns.copy) == {anns.office.rooms[0]: "resource", DAN: "optional", anns.cy: "required"}
    assert (shown(anns.one), anns.one["title"], anns.one["syncState"]) == ([DAN, anns.cy], "Theirs", "synced")


def test_a_sight_while_it_waits(anns: Anns) -> None:
    """What the room shows meanwhile takes nobody out who waits to be sent."""
    anns.invite(anns.cy)
    anns.office.change(0, anns.event, **span(anns.office.noon + 3 * HOUR))

    anns.office.hear()

    assert invited(anns.copy).keys() == {anns.office.rooms[0], anns.cy}
    assert (shown(anns.one), anns.one["start"]) == ([anns.cy], graph_time(anns.office.noon + 3 * HOUR))


def test_a_sight_once_it_was_sent(anns: Anns) -> None:
    """Exchange tells the room of nobody who is invited later: its copy does not say who they are."""
    anns.invite(anns.cy)
    anns.send()
    assert invited(anns.office.events()[0]).keys() == {anns.office.rooms[0], anns.bo}

    anns.office.outlook("PATCH", "oak", anns.office.events()[0]["id"], {"categories": ["Blue"]})
    anns.office.hear()

    assert shown(anns.one) == [anns.cy]


def test_it_ends_where_it_began(anns: Anns) -> None:
    """Nothing is sent, and nothing asked for."""
    anns.invite(anns.cy)
    anns.invite(anns.bo)

    count = anns.send()

    assert count.requests == 0
    assert (shown(anns.one), anns.one["syncState"]) == ([anns.bo], "synced")


def test_how_a_name_is_written(anns: Anns) -> None:
    """Microsoft knows the people of a meeting: their names stay, and nothing is sent."""
    before = anns.one

    after = anns.office.edit(before, attendees=[{"name": "Bobby", "email": anns.bo.upper()}])

    assert after == before


# --- what goes wrong with it -----------------------------------------------------------------------------------------


def test_the_answer_is_lost(anns: Anns, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there already: nothing is sent again."""
    anns.invite(anns.bo, anns.cy)
    lose_answers(anns.office, monkeypatch)
    anns.office.advance(6 * HOUR)

    with anns.office.counting() as count:
        anns.office.wake()

    assert count.graph_writes == []
    assert (shown(anns.one), anns.one["syncState"]) == ([anns.bo, anns.cy], "synced")


@pytest.mark.parametrize("made", [True, False], ids=["made", "not made"])
def test_the_answer_is_lost_and_the_portal_goes_on(anns: Anns, monkeypatch: pytest.MonkeyPatch, *, made: bool) -> None:
    """Whether or not Microsoft has what was sent: whoever the portal takes out again is out, whoever it takes back is in."""
    anns.invite(anns.cy)
    lose_answers(anns.office, monkeypatch, made=made)
    anns.invite(anns.bo, DAN)
    anns.office.advance(6 * HOUR)

    anns.office.wake()

    assert invited(anns.copy).keys() == {anns.office.rooms[0], anns.bo, DAN}
    assert (sorted(shown(anns.one)), anns.one["syncState"]) == (sorted([anns.bo, DAN]), "synced")


def test_the_portal_goes_on_while_it_is_sent(anns: Anns, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is for what was sent: what the portal says since is sent after it."""
    anns.invite(anns.cy)

    anns.between(monkeypatch, lambda: anns.invite(anns.bo, DAN))

    assert invited(anns.copy).keys() == {anns.office.rooms[0], anns.bo, DAN}
    assert (sorted(shown(anns.one)), anns.one["syncState"]) == (sorted([anns.bo, DAN]), "synced")


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_worker_dies_while_it_sends(anns: Anns, after: int) -> None:
    """Whatever it had written: the copy and the reservation are as the portal says."""
    anns.invite(anns.cy, title="Ours")
    messages = list(anns.office.house.messages())
    for message in messages:
        with suppress(Killed), process(Reaper(after)):
            jobs.work(anns.office.house.app, message)
    anns.office.advance(2 * MINUTE)

    for message in messages:
        jobs.work(anns.office.house.app, message)
    anns.office.sync()

    assert invited(anns.copy).keys() == {anns.office.rooms[0], anns.cy}
    assert anns.copy["subject"] == "Ours"
    assert (shown(anns.one), anns.one["title"], anns.one["syncState"]) == ([anns.cy], "Ours", "synced")


@pytest.mark.parametrize("refused", ["user-mailbox-denied", "organizer-event-missing", "graph-refused"])
def test_refused(anns: Anns, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    """Both are as they were, and the editor is told."""
    anns.invite(anns.cy, title="Ours")
    if refused == "user-mailbox-denied":
        anns.office.deny(anns.ann)
    elif refused == "organizer-event-missing":
        anns.office.tenant.control.post("meetings", {"delayMs": "manual"})
        anns.office.call_off(0, anns.event)
    else:
        break_writes(monkeypatch)

    anns.send()

    assert (shown(anns.one), anns.one["title"]) == ([anns.bo], "Planning")
    assert (anns.one["syncState"], anns.one["note"]) == ("rejected", refused)
    assert anns.office.room()["pendingChanges"] == 0


def test_delegation_is_switched_off_meanwhile(anns: Anns) -> None:
    """What was accepted is rolled back: nothing is asked of her calendar."""
    anns.invite(anns.cy)
    anns.office.settings("000")

    count = anns.send()

    assert count.to(anns.ann) == []
    assert (shown(anns.one), anns.one["note"]) == ([anns.bo], "organizer-locked")


def test_without_delegation(make_office: Make) -> None:
    """Who is invited is Ann's to say; notes on her meeting are the portal's own."""
    anns = Anns(make_office("000"))

    assert problem(anns.office.ask_to_edit(anns.one, attendees=people(anns.cy))) == (409, "organizer-locked")
    assert anns.office.edit(anns.one, notes="Mine")["notes"] == "Mine"

    assert anns.send().requests == 0
    assert (anns.one["notes"], anns.one["syncState"]) == ("Mine", "synced")


def test_a_private_meeting(make_office: Make) -> None:
    """Nobody is told who meets there; whoever the portal adds is invited all the same, and nobody taken out."""
    anns = Anns(make_office("100"), sensitivity="private")
    assert shown(anns.one) == []

    anns.invite(anns.cy)
    anns.send()

    assert invited(anns.copy).keys() == {anns.office.rooms[0], anns.bo, anns.cy}
    assert (shown(anns.one), anns.one["syncState"]) == ([], "synced")


def test_to_another_room(anns: Anns) -> None:
    """Goes with the PATCH that names the other room."""
    anns.office.link("elm", 1)
    anns.office.edit(anns.one, room="elm", attendees=people(anns.cy))

    count = anns.send()
    anns.office.sync()

    assert count.writes == [("PATCH", anns.ann, {"attendees", "location"})]
    assert invited(anns.copy) == {anns.cy: "required", anns.office.rooms[1]: "resource"}
    moved = anns.office.only("elm")
    assert (shown(moved), moved["syncState"], moved["status"]) == ([anns.cy], "synced", "confirmed")


def test_to_another_room_and_refused(anns: Anns) -> None:
    """Back in its room it is as it was, also what waited before it was moved."""
    anns.office.link("elm", 1)
    anns.invite(anns.cy, title="Ours")
    anns.office.edit(anns.one, room="elm")
    anns.office.deny(anns.ann)

    anns.send()

    assert (shown(anns.one), anns.one["title"], anns.one["note"]) == ([anns.bo], "Planning", "user-mailbox-denied")
