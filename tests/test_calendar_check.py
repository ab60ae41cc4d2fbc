"""Check connection for calendars: the tenant's rooms, a room's calendar, and the proof that other mailboxes are closed."""

from typing import Any

import pytest

from tests.calendars import CALENDARS
from tests.cloud import NewTenant, TestTenant
from tests.house import House
from tests.rooms import NAME, ROOMS, link, pointers

CHECK = f"connections/{NAME}/check"


def check(house: House, outside: str | None = None) -> dict[str, tuple[str, str]]:
    """The findings of calendars by id, each with its level and code; every one that is not ok has a remedy."""
    answer = house.call("POST", CHECK, {"outsideMailbox": outside} if outside else None)
    assert answer.status == 200, answer.content
    found = {one["id"]: one for one in answer.json["findings"]}
    assert all(
        bool(one["remedy"]) == (one["level"] != "ok")
        for one in found.values()
        if one["id"] in ("places", "calendar", "scope")
    )
    return {name: (one["level"], one["code"]) for name, one in found.items() if name in ("places", "calendar", "scope")}


def report(house: House) -> Any:
    return house.get(f"connections/{NAME}")["lastCheck"]


@pytest.fixture
def tenant(new_tenant: NewTenant) -> TestTenant:
    return new_tenant(users=1, guestShare=0, rooms=2, roles=CALENDARS)


@pytest.fixture
def portal(house: House, tenant: TestTenant) -> House:
    """A portal with the calendar of one room."""
    house.connect(tenant, NAME, calendars={})
    link(house, "oak", externalCalendar=f"room1@{tenant.domain}")
    return house


def person(tenant: TestTenant) -> str:
    return str(tenant.control.get("users")[0]["mail"])


def set_scope(tenant: TestTenant, *addresses: str, roles: list[str]) -> None:
    tenant.control.patch(f"apps/{tenant.client_id}", {"mailboxScope": list(addresses), "roles": roles})


def test_all_is_well(portal: House) -> None:
    """With both rights the rooms can be listed and the first active one can be read; nothing else is asked."""
    assert check(portal) == {"places": ("ok", "places-listed"), "calendar": ("ok", "room-reached")}
    assert report(portal)["status"] == "confirmed"
    assert [one["id"] for one in report(portal)["findings"]][-3:] == ["places", "calendar", "expiry"]


def test_where_the_sync_is_off(portal: House) -> None:
    """No calendar is asked for where the sync is off."""
    portal.enable(NAME, "calendars", enabled=False)

    assert check(portal) == {}


def test_missing_rights(portal: House, tenant: TestTenant) -> None:
    """Without the rights, what is missing is named; a call that must fail is no finding of its own."""
    tenant.control.patch(f"apps/{tenant.client_id}", {"roles": ["User.Read.All"]})

    assert check(portal) == {}
    assert report(portal)["status"] == "limited"
    assert report(portal)["permissions"]["missing"] == {"calendars": ["Calendars.ReadWrite", "Place.Read.All"]}


@pytest.mark.parametrize(
    ("change", "finding", "status"),
    [
        ({"denied": True}, ("error", "room-denied"), "limited"),
        ({"mailbox": "none"}, ("warning", "mailbox-not-found"), "confirmed"),
        ({"mailbox": "onPremises"}, ("warning", "mailbox-not-found"), "confirmed"),
    ],
)
def test_a_room_that_is_out_of_reach(
    portal: House, tenant: TestTenant, change: dict[str, Any], finding: tuple[str, str], status: str
) -> None:
    """A room's mailbox that is closed is an error, as a permission that is missing; a wrong address is the room's own."""
    tenant.control.patch(f"mailboxes/room1@{tenant.domain}", change)

    assert check(portal)["calendar"] == finding
    assert report(portal)["status"] == status


@pytest.mark.parametrize(
    ("change", "finding", "status"),
    [
        ({}, ("warning", "mailbox-not-found"), "confirmed"),
        ({"denied": True}, ("error", "room-denied"), "limited"),
    ],
)
def test_one_room_with_a_wrong_address(
    portal: House, tenant: TestTenant, change: dict[str, Any], finding: tuple[str, str], status: str
) -> None:
    """Another room tells what the app may do; the wrong address is told of where that leaves nothing worse."""
    link(portal, "ash", externalCalendar=f"nobody@{tenant.domain}")
    tenant.control.patch(f"mailboxes/room1@{tenant.domain}", change)

    assert check(portal)["calendar"] == finding
    assert (report(portal)["status"], report(portal)["permissions"]["missing"]) == (status, {})


def test_graph_that_does_not_answer(portal: House, tenant: TestTenant) -> None:
    """What could not be found out is a warning, and keeps nobody from working."""
    tenant.control.post("faults", {"rate429": 1.0, "retryAfter": {"style": "seconds", "seconds": 300}})

    found = check(portal)

    assert found == {"places": ("warning", "places-unknown"), "calendar": ("warning", "room-unknown")}


class TestScope:
    def test_open(self, portal: House, tenant: TestTenant) -> None:
        """An app that may touch every mailbox is told how to be kept to the rooms."""
        assert check(portal, person(tenant))["scope"] == ("warning", "mailbox-scope-open")
        assert report(portal)["status"] == "confirmed"

    def test_proven(self, portal: House, tenant: TestTenant) -> None:
        """An app that is kept to the rooms is refused elsewhere, and the check shows it."""
        set_scope(tenant, f"room1@{tenant.domain}", roles=CALENDARS)

        assert check(portal, person(tenant)) == {
            "places": ("ok", "places-listed"),
            "calendar": ("ok", "room-reached"),
            "scope": ("ok", "mailbox-scope-proven"),
        }

    def test_a_role_in_exchange_alone(self, portal: House, tenant: TestTenant) -> None:
        """A room that is reached by a role in Exchange needs no consent in Entra: it is not missing."""
        set_scope(tenant, f"room1@{tenant.domain}", roles=["Place.Read.All"])

        found = check(portal, person(tenant))

        assert (found["calendar"], found["scope"]) == (("ok", "room-reached"), ("ok", "mailbox-scope-proven"))
        assert (report(portal)["status"], report(portal)["permissions"]["missing"]) == ("confirmed", {})

    def test_a_role_in_exchange_before_any_room(self, portal: House, tenant: TestTenant) -> None:
        """The same before a room is linked, by the first room of the tenant: nobody is told to widen what was narrowed."""
        portal.call("DELETE", f"{ROOMS}/oak")
        set_scope(tenant, *(f"room{number}@{tenant.domain}" for number in (1, 2)), roles=["Place.Read.All"])

        assert check(portal) == {"places": ("ok", "places-listed"), "calendar": ("ok", "room-reached")}
        assert (report(portal)["status"], report(portal)["permissions"]["missing"]) == ("confirmed", {})

    def test_no_role_anywhere(self, portal: House, tenant: TestTenant) -> None:
        """Where no room opens the permission is missing, and no room is blamed."""
        portal.call("DELETE", f"{ROOMS}/oak")
        tenant.control.patch(f"apps/{tenant.client_id}", {"roles": ["Place.Read.All"]})

        assert check(portal) == {"places": ("ok", "places-listed")}
        assert report(portal)["permissions"]["missing"] == {"calendars": ["Calendars.ReadWrite"]}

    def test_reading_alone(self, portal: House, tenant: TestTenant) -> None:
        """A consent to read calendars opens rooms, but does not make up for the one to write."""
        tenant.control.patch(f"apps/{tenant.client_id}", {"roles": ["Calendars.Read", "Place.Read.All"]})

        assert check(portal)["calendar"] == ("ok", "room-reached")
        assert report(portal)["permissions"]["missing"] == {"calendars": ["Calendars.ReadWrite"]}

    def test_what_proves_nothing(self, portal: House, tenant: TestTenant) -> None:
        """A refusal proves nothing where the room is refused as well, or where there is no mailbox."""
        nobody = check(portal, f"nobody@{tenant.domain}")
        set_scope(tenant, f"room2@{tenant.domain}", roles=CALENDARS)
        refused = check(portal, person(tenant))

        assert nobody["scope"] == ("warning", "mailbox-scope-no-mailbox")
        assert (refused["calendar"], refused["scope"]) == (
            ("error", "room-denied"),
            ("warning", "mailbox-scope-unproven"),
        )

    def test_where_the_sync_is_off(self, portal: House, tenant: TestTenant) -> None:
        """Whoever asks is answered, also before the sync is on."""
        portal.enable(NAME, "calendars", enabled=False)

        assert check(portal, person(tenant))["scope"] == ("warning", "mailbox-scope-open")

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({"outsideMailbox": "x"}, ["/outsideMailbox"]),
            ({"outside": "a@contoso.com"}, ["/outside"]),
            ({"outsideMailbox": 1}, ["/outsideMailbox"]),
        ],
    )
    def test_bad_bodies(self, portal: House, body: dict[str, Any], expected: list[str]) -> None:
        """A body that is none is refused."""
        assert pointers(portal.call("POST", CHECK, body)) == expected

    def test_a_room(self, portal: House, tenant: TestTenant) -> None:
        """A room that is linked cannot stand for other mailboxes."""
        assert pointers(portal.call("POST", CHECK, {"outsideMailbox": f"Room1@{tenant.domain}"})) == ["/outsideMailbox"]
