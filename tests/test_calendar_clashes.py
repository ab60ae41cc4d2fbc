"""Clashes: the pure check against a plain one, and what a room's calendar at Microsoft has in the way."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.calendars.clashes import clashing
from sync.calendars.model import Times
from tests.calendars import CALENDARS, at, day, event, weekly
from tests.cloud import NewTenant, TestTenant
from tests.house import House
from tests.rooms import OAK, enable, link, open_room, problem

BASE = datetime(2027, 3, 1, tzinfo=UTC)


def times(start: int, length: int) -> Times:
    return Times(BASE + timedelta(minutes=start), BASE + timedelta(minutes=start + length), "UTC")


slots = st.builds(times, st.integers(0, 60), st.integers(0, 15))


@st.composite
def apart(draw: st.DrawFn) -> list[Times]:
    """Times of which no two overlap, in any order, as those of a series do not."""
    found, at_ = [], 0
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 10), st.integers(1, 10)), max_size=6)):
        found.append(times(at_ + gap, length))
        at_ += gap + length
    return draw(st.permutations(found))


@given(apart(), st.lists(slots, max_size=10))
def test_it_finds_what_looking_at_every_pair_finds(wanted: list[Times], taken: list[Times]) -> None:
    """Exactly those that overlap with any of the wished times are found, in the order of their starts."""
    expected = [each for each in taken if any(each.overlaps(one) for one in wanted)]

    assert clashing(wanted, taken) == sorted(expected, key=lambda one: (one.start, one.end))


# --- at Microsoft ----------------------------------------------------------------------------------------------------


@pytest.fixture
def tenant(new_tenant: NewTenant) -> TestTenant:
    return new_tenant(rooms=1, roles=CALENDARS)


@pytest.fixture
def portal(house: House, tenant: TestTenant) -> House:
    return open_room(house, tenant, timeZone="UTC")


def in_outlook(tenant: TestTenant, **body: Any) -> Any:
    return tenant.control.post(f"mailboxes/room1@{tenant.domain}/events", event(**body))


def views(tenant: TestTenant) -> int:
    """How often a calendar view was asked for since the last time."""
    counted = tenant.control.post("counters")["graph"]["byTemplate"]
    return sum(number for name, number in counted.items() if name.endswith("/calendarView"))


BODY = {"title": "Planning", "start": at(0, 9), "end": at(0, 10)}


@pytest.mark.parametrize(
    ("made", "busy"),
    [
        ({}, True),
        ({"start": at(0, 8), "end": at(0, 12)}, True),
        ({"hour": 10}, False),
        ({"showAs": "free"}, False),
        ({"isAllDay": True, "start": at(0, 0), "end": at(1, 0)}, True),
        ({"recurrence": weekly()}, True),
    ],
    ids=["same", "longer", "after", "free", "all-day", "series"],
)
def test_what_is_only_in_outlook(portal: House, tenant: TestTenant, made: dict[str, Any], busy: bool) -> None:
    """What no notification has told of yet is in the way all the same; one request finds out."""
    in_outlook(tenant, **made)
    views(tenant)

    answer = portal.call("POST", OAK, BODY)

    assert answer.status == (409 if busy else 201)
    assert views(tenant) == 1
    if busy:
        assert answer.json["code"] == "room-busy"
        assert answer.json["busy"]
        assert portal.get(f"{OAK}?from={day(0)}&to={day(1)}")["items"] == []


def test_a_series(portal: House, tenant: TestTenant) -> None:
    """Every occurrence of a series is asked about, in one request."""
    in_outlook(tenant, on=14)
    views(tenant)

    answer = portal.call("POST", OAK, {**BODY, "recurrence": weekly()})

    assert problem(answer) == (409, "room-busy")
    assert answer.json["busy"] == [{"start": f"{day(14)}T09:00:00Z", "end": f"{day(14)}T10:00:00Z"}]
    assert views(tenant) == 1
    assert portal.call("POST", OAK, {**BODY, "recurrence": weekly(count=2)}).status == 201


def test_our_own_events_are_not_in_the_way(portal: House, tenant: TestTenant) -> None:
    """The event of a reservation that was moved here, and is not there yet, keeps nobody out; nor does its own."""
    made = portal.call("POST", OAK, BODY).json
    portal.work()
    portal.call("PATCH", f"{OAK}/{made['id']}", {"end": at(0, 11)})
    portal.call("PATCH", f"{OAK}/{made['id']}", {"start": at(0, 14), "end": at(0, 15)})

    assert portal.call("POST", OAK, BODY).status == 201


def test_moves_are_asked_about_too(portal: House, tenant: TestTenant) -> None:
    """A reservation cannot be moved onto a meeting that only Outlook knows of."""
    made = portal.call("POST", OAK, {**BODY, "start": at(0, 14), "end": at(0, 15)}).json
    in_outlook(tenant)

    assert problem(portal.call("PATCH", f"{OAK}/{made['id']}", {"start": at(0, 9), "end": at(0, 10)})) == (
        409,
        "room-busy",
    )
    assert portal.call("PATCH", f"{OAK}/{made['id']}", {"title": "Review"}).status == 200


def test_microsoft_does_not_answer(portal: House, tenant: TestTenant) -> None:
    """Where Microsoft does not answer soon, the reservation is taken: what is sent is checked again before that."""
    in_outlook(tenant)
    tenant.control.post("faults", {"rate429": 1.0, "retryAfter": {"style": "seconds", "seconds": 60}})

    assert portal.call("POST", OAK, BODY).status == 201


@pytest.mark.parametrize("change", ["off", "pending", "denied"])
def test_where_nobody_is_asked(portal: House, tenant: TestTenant, change: str) -> None:
    """A room that is not in sync is not asked about; one that refuses keeps nobody from reserving."""
    if change == "off":
        enable(portal, enabled=False)
    elif change == "pending":
        link(portal, "oak", externalCalendar=f"room1@{tenant.domain}", timeZone="Asia/Tokyo")
    else:
        tenant.control.patch(f"mailboxes/room1@{tenant.domain}", {"denied": True})
    in_outlook(tenant)
    views(tenant)

    assert portal.call("POST", OAK, BODY).status == 201
    assert views(tenant) == (1 if change == "denied" else 0)
