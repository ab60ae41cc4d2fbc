"""Attendees and notes: what waits to be sent, and how it joins with what Microsoft has."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.calendars.details import addresses, as_told, details, remembered, seen_with, told_of, waiting
from sync.calendars.event import render_details
from sync.calendars.model import Details, Link, Person, Reservation
from tests.sights import ours

BO, CY, DAN, EVE = (Person(name, f"{name.lower()}@contoso.com") for name in ("Bo", "Cy", "Dan", "Eve"))
ANNS = Link(state="linked", organizer="user", organizer_address="Ann@contoso.com", room_event="E")
SOME = st.lists(st.sampled_from([BO, CY, DAN, EVE]), unique=True).map(tuple)


def anns(*people: Person, **changes: Any) -> Reservation:
    """A meeting that the portal made in Ann's calendar."""
    return ours(**{"attendees": people, "notes": "Cake", "link": ANNS, **changes})


def edit(known: Reservation, **changes: Any) -> Reservation:
    return remembered(known, replace(known, **changes))


@pytest.mark.parametrize(
    ("organizer", "origin", "expected"),
    [
        ("user", "portal", {"attendees"}),
        ("user", "microsoft", {"attendees"}),
        ("room", "portal", {"notes"}),
        ("room", "microsoft", set()),
    ],
)
def test_what_is_sent(organizer: Any, origin: Any, expected: set[str]) -> None:
    """A room invites nobody, and the text of an event from Outlook, or in somebody's calendar, is not the portal's."""
    known = anns(BO, origin=origin, link=replace(ANNS, organizer=organizer))

    after = edit(known, attendees=(CY,), notes="Tea")

    assert waiting(after) == expected
    assert (after.attendees, after.notes) == ((CY,), "Tea")
    back = as_told(after)
    assert back.attendees == ((BO,) if "attendees" in expected else (CY,))
    assert back.notes == ("Cake" if "notes" in expected else "Tea")
    assert waiting(back) == set()


def test_what_ends_where_it_began() -> None:
    """Nothing waits, however the name of somebody is written."""
    known = anns(BO)
    after = edit(
        edit(known, attendees=(CY,), notes="Tea"), attendees=(Person("Bobby", "BO@contoso.com"),), notes="Cake"
    )

    assert after.link.told is None
    assert waiting(after) == set()


def test_what_may_have_been_sent() -> None:
    """Where the answer was lost, whatever is taken back is to be told, and what was told before is gone back to."""
    sent = edit(anns(BO), attendees=(CY,), notes="Tea").linked(sent=anns().agreed())

    back = edit(sent, attendees=(BO,), notes="Cake")

    assert waiting(back) == {"attendees"}
    for there in ((BO,), (CY,), (BO, CY), ()):
        assert addresses(seen_with(back, there).attendees) == {BO.email}
    text = edit(edit(ours(notes="Cake"), notes="Tea").linked(sent=anns().agreed()), notes="Cake")
    assert waiting(text) == {"notes"}
    assert waiting(edit(edit(text, notes="Milk"), notes="Cake")) == {"notes"}
    assert details(edit(text, title="Ours")).notes == details(text).notes
    assert waiting(edit(anns(BO).linked(sent=anns().agreed()), title="Ours")) == set()


@given(SOME, SOME, SOME)
def test_people_are_joined(base: tuple[Person, ...], mine: tuple[Person, ...], theirs: tuple[Person, ...]) -> None:
    """Those whom the portal has added and removed, on top of whoever is there; sent, and seen again, that is all."""
    known = edit(anns(*base), attendees=mine)

    after = seen_with(known, theirs)

    expected = (addresses(theirs) | (addresses(mine) - addresses(base))) - (addresses(base) - addresses(mine))
    assert addresses(after.attendees) == expected
    assert details(after).attendees == (theirs if "attendees" in waiting(after) else after.attendees)
    assert seen_with(after, theirs) == after
    arrived = seen_with(after, after.attendees)
    assert (arrived.attendees, arrived.link.told) == (after.attendees, None)


def test_told_of_a_room() -> None:
    """What a room's event says of people is not looked at."""
    one = ours(attendees=(BO,), notes="Cake")

    assert told_of(one, Details((CY,), "Cake")).link.told is None
    assert waiting(told_of(one, Details((CY,), ""))) == {"notes"}


# --- what is written -------------------------------------------------------------------------------------------------


def listed(person: Person, kind: str = "required", **more: Any) -> dict[str, Any]:
    return {"type": kind, "emailAddress": {"name": person.name, "address": person.email}, **more}


ROOM_2 = Person("Room 2", "room2@contoso.com")


def test_everybody_else_goes_along() -> None:
    """With their kinds, but without their answers; rooms stay, also those that were people, and nobody twice."""
    known = edit(anns(BO, CY, ROOM_2), attendees=(BO, DAN, EVE, Person("Ann", "ANN@contoso.com")))
    there = [
        listed(ROOM_2, "resource"),
        listed(BO, "optional", status={"response": "accepted"}),
        listed(CY),
        listed(EVE, "optional"),
        {"type": "required", "emailAddress": {"name": "List"}},
        {"emailAddress": None},
    ]

    body = render_details(known, there)

    assert body == {
        "attendees": [
            listed(ROOM_2, "resource"),
            listed(BO, "optional"),
            listed(EVE, "optional"),
            {"type": "required", "emailAddress": {"name": "List"}},
            {"emailAddress": None},
            listed(DAN),
        ]
    }


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (anns(BO), {}),
        (edit(ours(notes="Cake"), notes=""), {"body": {"contentType": "text", "content": ""}}),
        (edit(anns(BO), attendees=(), notes="Tea"), {"attendees": []}),
    ],
    ids=["nothing", "notes", "nobody"],
)
def test_only_what_waits(one: Reservation, expected: dict[str, Any]) -> None:
    assert render_details(one, [listed(BO)]) == expected
