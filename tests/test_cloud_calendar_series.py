"""Series in the simulated Exchange: patterns, time zones, occurrences and what differs in them."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import DAILY, MO, MONTHLY, WEEKLY, YEARLY, rrule
from hypothesis import given
from hypothesis import strategies as st

from local.cloud.exchange.recurrence import DAYS, read_recurrence, slots
from local.cloud.exchange.zones import When
from tests.calendars import CALENDARS, IMMUTABLE, at, day, event, instances, refusal, rooms_of, starts, weekly, window
from tests.cloud import NewTenant, TestTenant

ZONES = ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata", "America/Sao_Paulo", "UTC"]


@pytest.fixture
def tenant(new_tenant: NewTenant) -> TestTenant:
    """A tenant of a room and two people with an app that may write calendars."""
    return new_tenant(users=2, guestShare=0, rooms=1, roles=CALENDARS)


@pytest.fixture
def room(tenant: TestTenant) -> dict[str, Any]:
    return rooms_of(tenant)[0]


def create(graph: Any, room: dict[str, Any], **body: Any) -> dict[str, Any]:
    made: dict[str, Any] = graph.post(f"/users/{room['id']}/events", json=event(**body), headers=IMMUTABLE).json()
    assert "error" not in made, made
    return made


def change(graph: Any, room: dict[str, Any], event_id: str, body: dict[str, Any]) -> Any:
    return graph.patch(f"/users/{room['id']}/events/{event_id}", json=body, headers=IMMUTABLE)


# When


@given(
    st.sampled_from(ZONES),
    st.dates(date(2024, 1, 1), date(2027, 12, 31)),
    st.times().map(lambda each: each.replace(microsecond=0)),
    st.integers(1, 4),
    st.sets(st.sampled_from(DAYS), min_size=1),
    st.integers(0, 30 * 60),
)
def test_a_weekly_series_keeps_its_hour_as_the_wall_clock_shows_it(zone, first, clock, interval, days, minutes):
    """The expansion is dateutil's own on the wall clock, whatever the clocks do."""
    own = ZoneInfo(zone)
    opening = datetime.combine(first, clock)
    start = opening.replace(tzinfo=own).astimezone(UTC)
    end = (opening + timedelta(minutes=minutes)).replace(tzinfo=own).astimezone(UTC)
    when = When(start, max(start, end), zone, zone)
    wall = start.astimezone(own).replace(tzinfo=None)
    pattern = {"type": "weekly", "interval": interval, "daysOfWeek": sorted(days), "firstDayOfWeek": "monday"}
    span = {"type": "numbered", "startDate": wall.date().isoformat(), "numberOfOccurrences": 30}
    recurrence, beginning = read_recurrence({"pattern": pattern, "range": span}, when)
    found = [each.start for each in slots(recurrence, beginning)]
    weekdays = [DAYS.index(name) for name in days]
    walls = rrule(WEEKLY, dtstart=wall, interval=interval, byweekday=weekdays, wkst=MO, count=30)

    assert found == [each.replace(tzinfo=own).astimezone(UTC) for each in walls]
    assert beginning.start == found[0]


def days_of(pattern: dict[str, Any], first: str, count: int) -> list[str]:
    start = datetime.fromisoformat(f"{first}T09:00:00+00:00")
    when = When(start, start + timedelta(hours=1))
    span = {"type": "numbered", "startDate": first, "numberOfOccurrences": count}
    recurrence, beginning = read_recurrence({"pattern": {"interval": 1, **pattern}, "range": span}, when)
    return [each.start.date().isoformat() for each in slots(recurrence, beginning)]


@pytest.mark.parametrize(
    ("pattern", "first", "expected"),
    [
        ({"type": "daily", "interval": 3}, "2026-12-30", ["2026-12-30", "2027-01-02", "2027-01-05"]),
        ({"type": "absoluteMonthly", "dayOfMonth": 31}, "2027-01-31", ["2027-01-31", "2027-02-28", "2027-03-31"]),
        (
            {"type": "relativeMonthly", "daysOfWeek": ["tuesday"], "index": "last"},
            "2027-01-26",
            ["2027-01-26", "2027-02-23", "2027-03-30"],
        ),
        (
            {"type": "relativeMonthly", "daysOfWeek": DAYS[:5], "index": "first"},
            "2027-01-01",
            ["2027-01-01", "2027-02-01", "2027-03-01"],
        ),
        (
            {"type": "absoluteYearly", "dayOfMonth": 29, "month": 2},
            "2028-02-29",
            ["2028-02-29", "2029-02-28", "2030-02-28"],
        ),
        (
            {"type": "relativeYearly", "daysOfWeek": ["sunday"], "index": "second", "month": 3},
            "2027-03-14",
            ["2027-03-14", "2028-03-12", "2029-03-11"],
        ),
        (
            {"type": "weekly", "interval": 2, "daysOfWeek": ["monday", "sunday"], "firstDayOfWeek": "monday"},
            "2027-01-04",
            ["2027-01-04", "2027-01-10", "2027-01-18"],
        ),
    ],
)
def test_every_kind_of_pattern(pattern, first, expected):
    assert days_of(pattern, first, 3) == expected


def test_the_frequencies_are_those_of_dateutil():
    """A pattern's days over ten years agree with a rule that says the same in other words."""
    first = datetime(2026, 1, 15, 9, tzinfo=UTC)
    monthly = rrule(MONTHLY, dtstart=first, count=120)
    yearly = rrule(YEARLY, dtstart=first, count=10)
    daily = rrule(DAILY, dtstart=first, count=400, interval=2)

    assert days_of({"type": "absoluteMonthly", "dayOfMonth": 15}, "2026-01-15", 120) == [
        each.date().isoformat() for each in monthly
    ]
    assert days_of({"type": "absoluteYearly", "dayOfMonth": 15, "month": 1}, "2026-01-15", 10) == [
        each.date().isoformat() for each in yearly
    ]
    assert days_of({"type": "daily", "interval": 2}, "2026-01-15", 400) == [each.date().isoformat() for each in daily]


def test_a_series_crosses_the_change_of_the_clocks(tenant, room):
    """Mondays at 9 in New York, over 1 November 2026: 13:00 and then 14:00 in UTC."""
    graph = tenant.graph()
    pattern = {"type": "weekly", "interval": 1, "daysOfWeek": ["monday"]}
    body = {
        "start": {"dateTime": "2026-10-26T09:00:00", "timeZone": "Eastern Standard Time"},
        "end": {"dateTime": "2026-10-26T10:00:00", "timeZone": "Eastern Standard Time"},
        "recurrence": {
            "pattern": pattern,
            "range": {"type": "endDate", "startDate": "2026-10-26", "endDate": "2026-11-09"},
        },
    }
    made = create(graph, room, **body)
    shown = graph.get(
        f"/users/{room['id']}/events/{made['id']}/instances"
        "?startDateTime=2026-10-01T00:00:00Z&endDateTime=2026-12-01T00:00:00Z"
    ).json()["value"]

    assert starts(shown) == ["2026-10-26T13:00", "2026-11-02T14:00", "2026-11-09T14:00"]
    assert made["recurrence"]["range"] == {
        "type": "endDate",
        "startDate": "2026-10-26",
        "endDate": "2026-11-09",
        "recurrenceTimeZone": "Eastern Standard Time",
        "numberOfOccurrences": 0,
    }
    assert made["recurrence"]["pattern"] == {
        "type": "weekly",
        "interval": 1,
        "month": 0,
        "dayOfMonth": 0,
        "daysOfWeek": ["monday"],
        "firstDayOfWeek": "sunday",
        "index": "first",
    }


def test_a_series_starts_on_the_first_day_of_its_pattern(tenant, room):
    made = create(tenant.graph(), room, on=1, recurrence=weekly(on=1))

    assert starts([made]) == [f"{day(7)}T09:00"]
    assert made["recurrence"]["range"]["startDate"] == day(7)


@pytest.mark.parametrize(
    ("pattern", "span"),
    [
        ({"type": "weekly"}, {}),
        ({"type": "daily", "dayOfMonth": 3}, {}),
        ({"type": "absoluteMonthly", "dayOfMonth": 32}, {}),
        ({"type": "hourly"}, {}),
        ({"type": "daily", "interval": 0}, {}),
        ({"type": "daily", "speed": 1}, {}),
        ({"type": "weekly", "daysOfWeek": ["someday"]}, {}),
        ({"type": "daily"}, {"startDate": day(1)}),
        ({"type": "daily"}, {"startDate": None}),
        ({"type": "daily"}, {"numberOfOccurrences": None}),
        ({"type": "daily"}, {"type": "endDate", "endDate": day(-1)}),
        ({"type": "daily"}, {"recurrenceTimeZone": "Mars"}),
        ({"type": "daily"}, {"until": day(9)}),
    ],
)
def test_recurrences_that_exchange_refuses(tenant, room, pattern, span):
    whole = {"type": "numbered", "startDate": day(0), "numberOfOccurrences": 3} | span
    body = event(recurrence={"pattern": {"interval": 1} | pattern, "range": whole})

    answer = tenant.graph().post(f"/users/{room['id']}/events", json=body)
    assert refusal(answer) == (400, "ErrorPropertyValidationFailure")


def test_a_series_without_end_is_seen_through_a_window(tenant, room):
    span = {"type": "noEnd", "startDate": day(0)}
    endless = {"pattern": {"type": "daily", "interval": 1}, "range": span}
    graph = tenant.graph()
    made = create(graph, room, recurrence=endless)
    shown = graph.get(f"/users/{room['id']}/calendarView?{window(1000, 1010)}&$top=50").json()["value"]

    assert made["recurrence"]["range"]["endDate"] == "0001-01-01"
    assert starts(shown) == [f"{day(1000 + number)}T09:00" for number in range(10)]


# Occurrences


def test_an_occurrence_has_its_own_ids_and_its_original_start_on_request(tenant, room):
    graph = tenant.graph()
    made = create(graph, room, recurrence=weekly())
    shown = instances(graph, room, made["id"])
    asked = instances(graph, room, made["id"], select="originalStart,subject")

    assert len({each["id"] for each in shown}) == len({each["iCalUId"] for each in shown}) == 4
    assert made["iCalUId"] not in {each["iCalUId"] for each in shown}
    assert {(each["type"], each["seriesMasterId"], each["subject"]) for each in shown} == {
        ("occurrence", made["id"], "Planning")
    }
    assert all("originalStart" not in each for each in shown)
    assert [each["originalStart"] for each in asked] == [f"{day(7 * number)}T09:00:00Z" for number in range(4)]
    assert made["type"] == "seriesMaster"


def test_a_changed_occurrence_is_an_exception(tenant, room):
    graph = tenant.graph()
    made = create(graph, room, recurrence=weekly())
    second = instances(graph, room, made["id"])[1]
    moved = change(graph, room, second["id"], {"start": at(8, 14), "end": at(8, 15), "subject": "Moved"}).json()
    change(graph, room, made["id"], {"subject": "Renamed", "importance": "high"})
    shown = instances(graph, room, made["id"], select="originalStart,subject,type,start,importance")
    url = f"/users/{room['id']}/events/{made['id']}"
    expanded = graph.get(f"{url}?$select=exceptionOccurrences&$expand=exceptionOccurrences", headers=IMMUTABLE).json()

    assert (moved["id"], moved["type"], moved["iCalUId"]) == (second["id"], "exception", second["iCalUId"])
    assert [(each["subject"], each["type"], each["importance"]) for each in shown] == [
        ("Renamed", "occurrence", "high"),
        ("Moved", "exception", "high"),
        ("Renamed", "occurrence", "high"),
        ("Renamed", "occurrence", "high"),
    ]
    assert (starts(shown)[1], shown[1]["originalStart"]) == (f"{day(8)}T14:00", f"{day(7)}T09:00:00Z")
    assert [each["id"] for each in expanded["exceptionOccurrences"]] == [second["id"]]


def test_an_occurrence_does_not_pass_its_neighbour(tenant, room):
    graph = tenant.graph()
    made = create(graph, room, recurrence=weekly())
    second = instances(graph, room, made["id"])[1]["id"]

    for on in (-1, 0, 14, 20):
        beyond = change(graph, room, second, {"start": at(on, 9), "end": at(on, 10)})
        assert refusal(beyond) == (400, "ErrorOccurrenceCrossingBoundary")
    assert change(graph, room, second, {"start": at(13, 9), "end": at(13, 10)}).status_code == 200


def test_a_deleted_occurrence_is_known_to_the_master(tenant, room):
    graph = tenant.graph()
    made = create(graph, room, recurrence=weekly())
    third = instances(graph, room, made["id"])[2]["id"]
    url = f"/users/{room['id']}/events"
    deleted = graph.delete(f"{url}/{third}")
    known = graph.get(f"{url}/{made['id']}?$select=cancelledOccurrences", headers=IMMUTABLE).json()

    assert deleted.status_code == 204
    assert starts(instances(graph, room, made["id"])) == [f"{day(number)}T09:00" for number in (0, 7, 21)]
    assert known["cancelledOccurrences"] == [f"OID.{made['id']}.{day(14)}"]
    assert refusal(graph.get(f"{url}/{third}")) == (404, "ErrorItemNotFound")
    assert graph.delete(f"{url}/{made['id']}").status_code == 204
    assert instances_gone(graph, room, made["id"])


def instances_gone(graph: Any, room: dict[str, Any], master_id: str) -> bool:
    url = f"/users/{room['id']}/events/{master_id}/instances?{window()}"
    return refusal(graph.get(url)) == (404, "ErrorItemNotFound")


def test_new_times_make_new_occurrences(tenant, room):
    graph = tenant.graph()
    made = create(graph, room, recurrence=weekly())
    before = instances(graph, room, made["id"])
    change(graph, room, before[1]["id"], {"subject": "Special"})
    changed = change(graph, room, made["id"], {"start": at(0, 13), "end": at(0, 14)}).json()
    after = instances(graph, room, made["id"])

    assert (changed["id"], changed["iCalUId"]) == (made["id"], made["iCalUId"])
    assert starts(after) == [f"{day(7 * number)}T13:00" for number in range(4)]
    assert not {each["id"] for each in before} & {each["id"] for each in after}
    assert {each["subject"] for each in after} == {"Planning"}


def test_a_shortened_series_keeps_what_is_left(tenant, room):
    graph = tenant.graph()
    made = create(graph, room, recurrence=weekly())
    before = instances(graph, room, made["id"])
    for number, subject in ((1, "Special"), (3, "Late")):
        change(graph, room, before[number]["id"], {"subject": subject})
    span = {"type": "endDate", "startDate": day(0), "endDate": day(8)}
    changed = change(graph, room, made["id"], {"recurrence": {"pattern": weekly()["pattern"], "range": span}})
    after = instances(graph, room, made["id"])

    assert changed.json()["recurrence"]["range"]["endDate"] == day(8)
    assert [each["id"] for each in after] == [each["id"] for each in before[:2]]
    assert [each["subject"] for each in after] == ["Planning", "Special"]


def test_a_single_event_becomes_a_series_and_one_again(tenant, room):
    graph = tenant.graph()
    made = create(graph, room)
    series = change(graph, room, made["id"], {"recurrence": weekly()}).json()
    count = len(instances(graph, room, made["id"]))
    single = change(graph, room, made["id"], {"recurrence": None}).json()

    assert (series["type"], series["iCalUId"], series["id"]) == ("seriesMaster", made["iCalUId"], made["id"])
    assert (count, single["type"], single["recurrence"]) == (4, "singleInstance", None)


def test_whole_days_in_a_series_follow_the_days_of_their_zone(tenant, room):
    pattern = {"type": "daily", "interval": 1}
    span = {"type": "numbered", "startDate": "2026-10-24", "numberOfOccurrences": 3, "recurrenceTimeZone": "UTC"}
    body = {
        "isAllDay": True,
        "start": {"dateTime": "2026-10-24T00:00:00", "timeZone": "Europe/Berlin"},
        "end": {"dateTime": "2026-10-25T00:00:00", "timeZone": "Europe/Berlin"},
        "recurrence": {"pattern": pattern, "range": span},
    }
    graph = tenant.graph()
    made = create(graph, room, **body)
    url = f"/users/{room['id']}/events/{made['id']}/instances"
    shown = graph.get(f"{url}?startDateTime=2026-10-01T00:00:00Z&endDateTime=2026-12-01T00:00:00Z").json()["value"]

    assert [(each["start"]["dateTime"][:16], each["end"]["dateTime"][:16]) for each in shown] == [
        ("2026-10-24T00:00", "2026-10-25T00:00"),
        ("2026-10-25T00:00", "2026-10-26T00:00"),
        ("2026-10-26T00:00", "2026-10-27T00:00"),
    ]


def test_zone_names_that_say_nothing(tenant, room):
    """What a participant's copy may show (microsoft-graph-docs-contrib#5828, and custom zones)."""
    quirks = {"originalTimeZone": "tzone://Microsoft/Custom", "recurrenceTimeZone": ""}
    made = tenant.control.post(f"mailboxes/{room['id']}/events", event(recurrence=weekly(), quirks=quirks))
    shown = tenant.graph().get(f"/users/{room['id']}/events/{made['id']}").json()

    assert shown["originalStartTimeZone"] == "tzone://Microsoft/Custom"
    assert shown["recurrence"]["range"]["recurrenceTimeZone"] == ""
    assert starts([shown]) == [f"{day(0)}T09:00"]
