"""The calendars' cases, of series and of time. The names are those of the reference, section 7."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from sync.calendars.model import PLACEHOLDER
from tests.office import (
    DAY,
    DELTA,
    GET,
    HOUR,
    INSTANCES,
    SEARCH,
    Json,
    Office,
    at_noon,
    graph_time,
    make_office,
    office,
    room_attendee,
    span,
    starts,
    weekly,
    weeks,
)

__all__ = ["make_office", "office"]

NEW_YORK = "America/New_York"


def autumn(zone: str, after: datetime) -> date:
    """The next day on which the clocks of a zone go back."""
    days = (after.date() + timedelta(days=number) for number in range(400))
    noons = (datetime.combine(day, time(12), ZoneInfo(zone)) for day in days)
    lengths = ((later, later.astimezone(UTC) - earlier.astimezone(UTC)) for earlier, later in pairwise(noons))
    return next(later.date() for later, length in lengths if length > DAY)


# --- series ----------------------------------------------------------------------------------------------------------


def test_occurrence_stubs(office: Office) -> None:
    """Titles from master; master not a reservation. One look at the organizer's series, none at any occurrence."""
    office.meet(0, recurrence=weekly(office.noon, 4))

    with office.counting() as count:
        office.hear()

    found = office.reservations()
    assert starts(office) == weeks(office, 0, 1, 2, 3)
    assert {(one["title"], one["type"], one["titleSource"]) for one in found} == {
        ("Planning", "occurrence", "organizer")
    }
    [series] = office.reservations(type="series")
    assert {one["seriesId"] for one in found} == {series["id"]}
    assert count.by_template == {DELTA: 1, INSTANCES: 1, SEARCH: 1}


def test_occurrence_stubs_of_a_first_round(office: Office) -> None:
    """All there is to know is in the round itself."""
    office.outlook("POST", "oak", body={"subject": "Weekly", "recurrence": weekly(office.noon, 4), **span(office.noon)})

    with office.counting() as count:
        office.sync(mode="full")

    assert [one["title"] for one in office.reservations()] == ["Weekly"] * 4
    assert count.by_template == {DELTA: 1}


def test_exception_moved(office: Office) -> None:
    """Only it moves."""
    meeting = office.meet(0, recurrence=weekly(office.noon, 3))
    office.hear()
    before = office.reservations()
    second = office.events(office.people[0])[1]

    office.outlook("PATCH", office.people[0], second["id"], span(office.noon + 7 * DAY + 2 * HOUR))
    office.hear()

    after = office.reservations()
    assert [one["id"] for one in after] == [one["id"] for one in before]
    assert starts(office) == at_noon(office, 0 * DAY, 7 * DAY + 2 * HOUR, 14 * DAY)
    assert [one["type"] for one in after] == ["occurrence", "exception", "occurrence"]
    assert after[1]["title"] == "Planning"
    del meeting


def test_exception_renamed(office: Office) -> None:
    """Through the instances of the organizer's series."""
    office.meet(0, recurrence=weekly(office.noon, 3))
    office.hear()
    second = office.events(office.people[0])[1]
    office.outlook("PATCH", office.people[0], second["id"], {"subject": "Review"})

    with office.counting() as count:
        office.hear()
    with office.counting() as again:
        office.sync(mode="full")

    assert [one["title"] for one in office.reservations()] == ["Planning", "Review", "Planning"]
    assert count.to(office.people[0]).count(INSTANCES) == 1
    assert again.to(office.people[0]) == []


@pytest.mark.parametrize("silent", [False, True], ids=["told", "silent"])
def test_deleted_occurrence(office: Office, silent: bool) -> None:
    """It may give no sign in delta: when any item of the series changes, its instances are listed."""
    meeting = office.meet(0, recurrence=weekly(office.noon, 3))
    office.hear()
    office.tenant.control.post("faults", {"silentOccurrenceDeletes": silent})
    office.outlook("DELETE", office.people[0], office.events(office.people[0])[1]["id"])
    if silent:
        office.hear()
        office.change(0, meeting, subject="Review")

    office.hear()

    assert starts(office) == weeks(office, 0, 2)


def test_single_becomes_a_series(office: Office) -> None:
    """Keeps the iCalUId: the reservation becomes the first occurrence."""
    meeting = office.meet(0)
    office.hear()
    one = office.only()

    office.change(0, meeting, recurrence=weekly(office.noon, 3))
    office.hear()

    found = office.reservations()
    assert starts(office) == weeks(office, 0, 1, 2)
    assert (found[0]["id"], found[0]["type"]) == (one["id"], "occurrence")
    assert found[0]["seriesId"] not in (None, one["id"])
    assert ("deleted" in [change for _, change in office.changes()]) is False


def test_series_becomes_a_single(office: Office) -> None:
    """It lost its recurrence: what it was is gone, and one meeting is left."""
    office.outlook("POST", "oak", body={"subject": "Weekly", "recurrence": weekly(office.noon, 3), **span(office.noon)})
    office.hear()

    office.outlook("PATCH", "oak", office.masters()[0]["id"], {"recurrence": None})
    office.hear()

    assert (office.only()["type"], office.only()["title"]) == ("single", "Weekly")
    assert office.reservations(type="series") == []


def test_this_and_following(office: Office) -> None:
    """Old series truncated + new series."""
    meeting = office.meet(0, recurrence=weekly(office.noon, 4))
    office.hear()
    before = office.reservations()

    office.change(0, meeting, recurrence=weekly(office.noon, 2))
    later = office.noon + 14 * DAY + 2 * HOUR
    office.meet(0, start=later, subject="Later", recurrence=weekly(later, 2))
    office.hear()

    found = office.reservations()
    assert [one["id"] for one in found[:2]] == [one["id"] for one in before[:2]]
    assert [one["title"] for one in found] == ["Planning", "Planning", "Later", "Later"]
    assert len({one["seriesId"] for one in found}) == 2


def test_series_ends(office: Office) -> None:
    """All of it, with one look at its master."""
    meeting = office.meet(0, recurrence=weekly(office.noon, 4))
    office.hear()
    office.call_off(0, meeting)

    with office.counting() as count:
        office.hear()

    assert office.reservations() == []
    assert office.reservations(type="series") == []
    assert count.by_template[GET] <= 1


def test_a_series_whose_recurrence_has_ended(office: Office) -> None:
    """Its last occurrence goes by and the window leaves it: nothing is deleted because of that."""
    office.meet(0, recurrence=weekly(office.noon, 2))
    office.hear()
    for _ in range(3):
        office.advance(7 * DAY)
        office.sync()

    assert "deleted" not in [change for _, change in office.changes()]
    assert len(office.reservations(**{"from": office.today.date().isoformat()})) == 2


def test_room_is_invited_to_one_occurrence(office: Office) -> None:
    """A meeting of its own in the room's calendar."""
    office.meet(0, office.rooms[1], recurrence=weekly(office.noon, 3))
    second = office.events(office.people[0])[1]
    office.outlook("PATCH", office.people[0], second["id"], {"attendees": [room_attendee(office.rooms[0])]})
    office.hear()

    assert starts(office) == weeks(office, 1)


def test_series_without_read(make_office: Callable[..., Office]) -> None:
    """Placeholders, and no call to the organizer's mailbox."""
    office = make_office("010")
    office.link()
    office.meet(0, recurrence=weekly(office.noon, 3))

    with office.counting() as count:
        office.hear()

    assert {one["title"] for one in office.reservations()} == {PLACEHOLDER}
    assert count.to(office.people[0]) == []


def test_d_on_portal_moves_one_occurrence(make_office: Callable[..., Office]) -> None:
    """PATCH of that occurrence on the organizer's copy only."""
    office = make_office("100")
    office.link()
    office.meet(0, recurrence=weekly(office.noon, 3))
    office.sync()
    second = office.reservations()[1]
    office.edit(second, **span(office.noon + 7 * DAY + 2 * HOUR))

    with office.counting() as count:
        office.send()
    office.sync()

    assert [(method, mailbox) for method, mailbox, _ in count.writes] == [("PATCH", office.people[0])]
    assert starts(office) == at_noon(office, 0 * DAY, 7 * DAY + 2 * HOUR, 14 * DAY)
    assert [event["type"] for event in office.events()] == ["occurrence", "exception", "occurrence"]
    assert {one["syncState"] for one in office.reservations()} == {"synced"}


def test_d_on_portal_cancels_one_occurrence(make_office: Callable[..., Office]) -> None:
    office = make_office("100")
    office.link()
    office.meet(0, recurrence=weekly(office.noon, 3))
    office.sync()
    office.cancel(office.reservations()[1])

    with office.counting() as count:
        office.send()
    office.sync()

    assert count.writes == [("DELETE", office.people[0], set())]
    assert starts(office) == weeks(office, 0, 2)
    assert len(office.events()) == 2


def test_d_on_portal_moves_a_series(make_office: Callable[..., Office]) -> None:
    """PATCH on the organizer's series; the room's copy follows a little later, and nothing is lost in between."""
    office = make_office("100")
    office.link()
    office.meet(0, recurrence=weekly(office.noon, 3))
    office.sync()
    office.tenant.control.post("meetings", {"delayMs": "manual"})
    series = office.again({"id": office.reservations()[0]["seriesId"]})
    office.edit(series, **span(office.noon + HOUR))

    with office.counting() as count:
        office.send()
    expected = at_noon(office, *(week * 7 * DAY + HOUR for week in range(3)))
    assert starts(office) == expected
    office.sync(mode="full")
    assert starts(office) == expected
    office.tenant.control.post("meetings/deliver")
    office.sync()

    assert [(method, mailbox) for method, mailbox, _ in count.writes] == [("PATCH", office.people[0])]
    assert starts(office) == expected
    assert len(office.events()) == 3
    assert {one["syncState"] for one in office.reservations()} == {"synced"}


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["outlook", "portal"])
def test_weekly_0900_new_york_over_the_clock_change(office: Office, origin: str) -> None:
    """13:00Z then 14:00Z."""
    sunday = autumn(NEW_YORK, office.today)
    first = datetime.combine(sunday - timedelta(days=6), datetime.min.time(), ZoneInfo(NEW_YORK)).replace(hour=9)
    times: Json = {"start": first, "zone": NEW_YORK, "recurrence": weekly(first, 2, NEW_YORK)}
    if origin == "portal":
        office.book(**times)
    else:
        office.tenant.control.patch(f"rooms/{office.rooms[0]}", {"bookingWindowInDays": 400})
        office.meet(0, **times)
    office.sync()

    found = office.reservations()
    assert [event["start"]["dateTime"][11:16] for event in office.events(days=400)] == ["13:00", "14:00"]
    assert {(one["start"]["dateTime"][11:], one["start"]["timeZone"]) for one in found} == {("09:00:00", NEW_YORK)}
    assert len(found) == 2


@pytest.mark.parametrize("zone", ["Pacific/Guadalcanal", "Pacific/Pitcairn"], ids=["+11", "-8"])
def test_all_day_5_march(office: Office, zone: str) -> None:
    """Rooms at +11 and -8; same date both ways."""
    office.link(timeZone=zone)
    year = office.today.year + (office.today.month >= 3)
    day, following = f"{year}-03-05T00:00:00", f"{year}-03-06T00:00:00"
    whole = {
        "isAllDay": True,
        "start": {"dateTime": day, "timeZone": "UTC"},
        "end": {"dateTime": following, "timeZone": "UTC"},
    }
    office.outlook("POST", "oak", body={"subject": "Theirs", **whole, "showAs": "free"})
    times = {name: {"dateTime": value["dateTime"]} for name, value in whole.items() if isinstance(value, dict)}
    office.portal("POST", "rooms/oak/reservations", {"title": "Ours", "allDay": True, **times})

    office.sync()

    found = office.reservations()
    assert {(one["title"], one["start"]["dateTime"], one["end"]["dateTime"]) for one in found} == {
        ("Theirs", day, following),
        ("Ours", day, following),
    }
    events = office.events(days=400)
    assert {(one["start"]["dateTime"][:19], one["isAllDay"]) for one in events} == {(day, True)}
    with office.counting() as echo:
        office.sync(mode="full")
    assert (echo.rows, echo.graph_writes) == (set(), [])


def test_three_day_event(office: Office) -> None:
    """One reservation."""
    office.outlook("POST", "oak", body={"subject": "Fair", **span(office.noon, 72)})
    office.hear()

    one = office.only()
    assert (one["start"], one["end"]) == (graph_time(office.noon), graph_time(office.noon + 72 * HOUR))


def test_all_day_blocks_from_midnight_to_midnight(office: Office) -> None:
    """Of the room."""
    office.link(timeZone=NEW_YORK)
    day = (office.noon + DAY).date()
    whole = {
        "isAllDay": True,
        "start": {"dateTime": f"{day}T00:00:00", "timeZone": "UTC"},
        "end": {"dateTime": f"{day + timedelta(days=1)}T00:00:00", "timeZone": "UTC"},
    }
    office.outlook("POST", "oak", body={"subject": "Closed", **whole})
    office.hear()
    midnight = datetime.combine(day, datetime.min.time(), ZoneInfo(NEW_YORK))

    assert office.ask_to_book(start=midnight - HOUR).status == 201
    assert office.ask_to_book(start=midnight).status == 409
    assert office.ask_to_book(start=midnight + 23 * HOUR).status == 409
    assert office.ask_to_book(start=midnight + 24 * HOUR).status == 201


@pytest.mark.parametrize("zone", ["", "tzone://Microsoft/Custom"], ids=["none", "custom"])
def test_a_zone_that_says_nothing(office: Office, zone: str) -> None:
    """Never silently UTC: the room's zone, and a warning in the log."""
    office.link(timeZone=NEW_YORK)
    quirks = {"originalTimeZone": zone, "recurrenceTimeZone": zone}
    office.outlook("POST", "oak", body={"subject": "Odd", "quirks": quirks, **span(office.noon)})

    run = office.sync()

    assert office.only()["start"] == graph_time(office.noon, NEW_YORK)
    reasons = [line["reason"] for line in office.house.get(f"connections/primary/runs/{run['id']}/log")["items"]]
    assert reasons == ["zone-unknown"]


def test_a_series_falls_back_to_its_own_zone(office: Office) -> None:
    """recurrenceTimeZone may be empty for participants: the event's own zone then."""
    office.link(timeZone=NEW_YORK)
    body: Json = {"subject": "Weekly", "recurrence": weekly(office.noon, 2), "quirks": {"recurrenceTimeZone": ""}}
    office.outlook("POST", "oak", body={**body, **span(office.noon, zone="Europe/Berlin")})
    office.sync()

    assert {one["start"]["timeZone"] for one in office.reservations()} == {"Europe/Berlin"}
