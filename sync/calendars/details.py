"""Attendees and notes of a reservation: what of them waits to be sent, and how that joins what Microsoft has. Pure.

They belong to no comparison: what Microsoft was last told is kept only while the portal's are something else. Attendees
are joined one by one, by their addresses: those that the portal has added or removed, on top of whoever is there.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Literal

from sync.calendars.model import Details, Person, Reservation

Detail = Literal["attendees", "notes"]


def addresses(people: Iterable[Person]) -> set[str]:
    return {person.email.lower() for person in people}


def without(people: Iterable[Person], gone: Collection[str]) -> tuple[Person, ...]:
    """Those whose addresses (in small letters) are not among the `gone`."""
    return tuple(person for person in people if person.email.lower() not in gone)


def shared(one: Reservation) -> frozenset[Detail]:
    """What of them is in the event, and not the portal's own."""
    if one.link.organizer != "room":  # whose text may hold a link to join by, which nobody here reads
        return frozenset({"attendees"})
    return frozenset({"notes"}) if one.origin == "portal" else frozenset()


def differing(one: Details | Reservation, other: Details | Reservation) -> frozenset[Detail]:
    """What of them is not the same; how somebody's name is written makes no difference."""
    people: set[Detail] = {"attendees"} if addresses(one.attendees) != addresses(other.attendees) else set()
    text: set[Detail] = {"notes"} if one.notes != other.notes else set()
    return frozenset(people | text)


def details(one: Reservation) -> Details:
    """What Microsoft has of them."""
    return one.link.told or Details(one.attendees, one.notes)


def waiting(one: Reservation) -> frozenset[Detail]:
    """What of them Microsoft has to be told."""
    return differing(one, one.link.told) if one.link.told else frozenset()


def added(one: Reservation) -> tuple[Person, ...]:
    """Whom Microsoft has to be told to invite."""
    return without(one.attendees, addresses(details(one).attendees))


def removed(one: Reservation) -> set[str]:
    """The addresses of those whom Microsoft has to be told to invite no more."""
    return addresses(details(one).attendees) - addresses(one.attendees)


def remembered(known: Reservation, after: Reservation) -> Reservation:
    """`after`, a change of `known` by the portal, with what Microsoft has of what it is told.

    What may have been sent already, its answer being unknown, is told in any case.
    """
    told = details(known)
    if known.link.sent is not None:
        told = _unclear(told, known, after)
    return told_of(after, told)


def _unclear(told: Details, known: Reservation, after: Reservation) -> Details:
    """`told`, as different from `after` as it may be: whom this change adds or removes may be there or not."""
    new = without(after.attendees, addresses(known.attendees))
    gone = without(known.attendees, addresses(after.attendees))
    there = without(told.attendees, addresses((*new, *gone)))
    return Details((*there, *gone), known.notes if after.notes == told.notes else told.notes)


def told_of(one: Reservation, there: Details) -> Reservation:
    """`one`, of which Microsoft has what is `there`; what the portal keeps for itself is left out."""
    parts = shared(one)
    people = there.attendees if "attendees" in parts else one.attendees
    told = Details(people, there.notes if "notes" in parts else one.notes)
    return one.linked(told=told if differing(one, told) else None)


def seen_with(one: Reservation, people: tuple[Person, ...]) -> Reservation:
    """`one` after a sight of its event, to which these `people` are invited: with what waits to be sent on top of them."""
    kept = without(people, removed(one))
    joined = replace(one, attendees=(*kept, *without(added(one), addresses(people))))
    return told_of(joined, Details(people, details(one).notes))


def as_told(one: Reservation) -> Reservation:
    """`one` as Microsoft has it: nothing waits."""
    there = details(one)
    return replace(one, attendees=there.attendees, notes=there.notes).linked(told=None)
