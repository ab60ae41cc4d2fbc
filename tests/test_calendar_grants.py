"""Permissions that are granted later: they work from the next try on, although a token lives for an hour."""

from collections.abc import Callable

import pytest

from tests.office import MINUTE, NAME, ROLES, Office, make_office

__all__ = ["make_office"]


@pytest.fixture
def office(make_office: Callable[..., Office]) -> Office:
    return make_office(rooms=3)


def grant(office: Office, *roles: str) -> None:
    office.tenant.control.patch(f"apps/{office.tenant.client_id}", {"roles": list(roles)})


def sign_ins(office: Office) -> int:
    return int(office.tenant.control.get("counters")["tokens"])


def test_calendars_after_a_refusal(office: Office) -> None:
    """A room that was refused for want of a permission opens with the next run after the grant."""
    grant(office, "Place.Read.All")
    office.link()
    assert office.status() == ("error", "room-denied")

    grant(office, *ROLES)
    office.sync()

    assert office.status() == ("active", "polling-only")


def test_calendars_after_a_check(office: Office) -> None:
    """A check that finds everything granted is followed by a run that has it, whatever token was at hand."""
    grant(office, "Place.Read.All")
    assert office.portal("GET", "places").status == 200  # with a token that has no right to calendars
    grant(office, *ROLES)
    office.portal("POST", "check")

    office.link()

    assert office.status() == ("active", "polling-only")


def test_places(office: Office) -> None:
    """The rooms of the tenant can be listed as soon as that is granted."""
    grant(office, "Calendars.ReadWrite")
    assert office.portal("GET", "places").json["code"] == "places-forbidden"

    grant(office, *ROLES)

    assert len(office.portal("GET", "places").json["items"]) == 3


def test_closed_rooms(office: Office) -> None:
    """Rooms that stay closed cost one sign-in for a run, however many they are."""
    for number, room in enumerate(("oak", "elm", "ash")):
        office.link(room, number)
        office.deny(room)
    office.sync()
    office.advance(MINUTE)
    before = sign_ins(office)

    office.sync()

    assert {office.status(room) for room in ("oak", "elm", "ash")} == {("error", "room-denied")}
    assert sign_ins(office) - before == 1
    assert office.house.get(f"connections/{NAME}")["status"] != "failed"
