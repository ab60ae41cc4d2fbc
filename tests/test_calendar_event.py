"""Events of Graph: what is made of them, what they are called, and what is written. The round trips go through the
simulated Exchange's own reading and writing of events."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.cloud.exchange.drafts import DEFAULTS, read_draft
from local.cloud.exchange.mailbox import Address, Item, Mailbox
from local.cloud.exchange.series import occurrences as exchange_occurrences
from local.cloud.exchange.shape import View
from local.cloud.exchange.shape import render as exchange_render
from local.cloud.exchange.shape import stub as exchange_stub
from sync.calendars import recurrence as series
from sync.calendars.event import (
    MAX_ADDRESS,
    MAX_ATTENDEES,
    MAX_KEY,
    MAX_NAME,
    MAX_SUBJECT,
    READ_HEADERS,
    SELECT,
    Attendee,
    Remote,
    Unreadable,
    hydrated,
    parse_event,
    render_create,
    render_update,
    title_of,
)
from sync.calendars.model import Link, Person, Reservation, Times, transaction_id
from sync.calendars.zones import to_utc, to_wall

NEW_YORK, BERLIN, SYDNEY, LOS_ANGELES = "America/New_York", "Europe/Berlin", "Australia/Sydney", "America/Los_Angeles"
CUSTOM = "tzone://Microsoft/Custom"
ROOM, ANN = Person("Room 1", "room1@contoso.com"), Person("Ann Lee", "ann@contoso.com")
MADE = datetime(2026, 1, 1, tzinfo=UTC)


def at(text: str, zone: str = "UTC") -> dict[str, str]:
    return {"dateTime": text, "timeZone": zone}


def event(**changes: Any) -> dict[str, Any]:
    """The room's copy of Ann's meeting, on 15 April 2026 from 11:00 to 12:00 UTC."""
    return {
        "@odata.etag": 'W/"ZlnW4R"',
        "id": "AAMkAG",
        "createdDateTime": "2026-03-01T10:00:00.1Z",
        "lastModifiedDateTime": "2026-03-01T10:00:00.1Z",
        "transactionId": None,
        "originalStartTimeZone": "Pacific Standard Time",
        "originalEndTimeZone": "Pacific Standard Time",
        "iCalUId": "040000008200E0",
        "subject": "Planning",
        "sensitivity": "normal",
        "isAllDay": False,
        "isCancelled": False,
        "isOrganizer": False,
        "seriesMasterId": None,
        "showAs": "busy",
        "type": "singleInstance",
        "recurrence": None,
        "responseStatus": {"response": "accepted", "time": "0001-01-01T00:00:00Z"},
        "start": at("2026-04-15T11:00:00.0000000"),
        "end": at("2026-04-15T12:00:00.0000000"),
        "attendees": [
            {
                "type": "resource",
                "status": {"response": "accepted", "time": "2026-03-01T10:00:01Z"},
                "emailAddress": {"name": "Room 1", "address": "room1@contoso.com"},
            }
        ],
        "organizer": {"emailAddress": {"name": "Ann Lee", "address": "ann@contoso.com"}},
        **changes,
    }


def parsed(room_zone: str = BERLIN, **changes: Any) -> Remote:
    return parse_event(event(**changes), room_zone)


def person(name: Any, address: Any) -> dict[str, Any]:
    return {"emailAddress": {"name": name, "address": address}}


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_whole_event() -> None:
    """Every part of an event ends up in its place."""
    assert parsed() == Remote(
        id="AAMkAG",
        etag='W/"ZlnW4R"',
        kind="single",
        master="",
        ical="040000008200E0",
        subject="Planning",
        times=Times(datetime(2026, 4, 15, 11, tzinfo=UTC), datetime(2026, 4, 15, 12, tzinfo=UTC), LOS_ANGELES),
        original_start=None,
        cancelled=False,
        free=False,
        private=False,
        organizer=ANN,
        is_organizer=False,
        response="accepted",
        created_at=datetime(2026, 3, 1, 10, tzinfo=UTC),
        transaction="",
        attendees=(Attendee("Room 1", "room1@contoso.com", "resource", "accepted"),),
        recurrence=None,
        zone=LOS_ANGELES,
        zone_unknown=False,
        stub=False,
    )


def test_what_is_asked_for() -> None:
    """Everything that is read is selected, and ids are lasting and times in UTC."""
    always = {"@odata.etag", "lastModifiedDateTime"}

    assert set(SELECT.split(",")) == (set(event()) | {"originalStart"}) - always
    assert READ_HEADERS["Prefer"] == 'IdType="ImmutableId", outlook.timezone="UTC"'


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"type": "singleInstance"}, {"kind": "single"}),
        ({"type": "seriesMaster"}, {"kind": "series"}),
        ({"type": "exception", "seriesMasterId": "M"}, {"kind": "exception", "master": "M"}),
        ({"isCancelled": True}, {"cancelled": True}),
        ({"isCancelled": None}, {"cancelled": False}),
        ({"isOrganizer": True}, {"is_organizer": True}),
        ({"showAs": "free"}, {"free": True}),
        ({"showAs": "tentative"}, {"free": False}),
        ({"showAs": "workingElsewhere"}, {"free": False}),
        ({"sensitivity": "private"}, {"private": True}),
        ({"sensitivity": "confidential"}, {"private": True}),
        ({"sensitivity": "personal"}, {"private": False}),
        ({"responseStatus": {"response": "tentativelyAccepted"}}, {"response": "tentativelyAccepted"}),
        ({"responseStatus": {"response": "perhaps"}}, {"response": "none"}),
        ({"responseStatus": None}, {"response": "none"}),
        ({"subject": None}, {"subject": ""}),
        ({"subject": "Plan \ud83d"}, {"subject": "Plan \ufffd"}),
        ({"subject": "x" * 5000}, {"subject": "x" * MAX_SUBJECT}),
        ({"transactionId": "T"}, {"transaction": "T"}),
        ({"createdDateTime": "0001-01-01T00:00:00Z"}, {"created_at": None}),
        ({"createdDateTime": "9999-12-31T23:59:59.9999999Z"}, {"created_at": None}),
        ({"createdDateTime": None}, {"created_at": None}),
        ({"createdDateTime": "2026-03-01T10:00:00+02:00"}, {"created_at": datetime(2026, 3, 1, 8, tzinfo=UTC)}),
        ({"organizer": person(" Ann Lee ", "Ann@Contoso.com ")}, {"organizer": Person("Ann Lee", "Ann@Contoso.com")}),
        ({"organizer": person("Ann Lee", None)}, {"organizer": None}),
        ({"organizer": person("A" * 999, "a" * (MAX_ADDRESS + 1))}, {"organizer": None}),
        ({"organizer": person("A" * 999, "a@b")}, {"organizer": Person("A" * MAX_NAME, "a@b")}),
        ({"organizer": None}, {"organizer": None}),
        ({"attendees": None}, {"attendees": ()}),
        ({"attendees": [person("Nobody", "")]}, {"attendees": ()}),
        (
            {"attendees": [{"type": "robot", **person("", "r2@x")}]},
            {"attendees": (Attendee("", "r2@x", "required", "none"),)},
        ),
        (
            {"attendees": [{"type": "optional", "status": {"response": "declined"}, **person("Bo", "bo@x")}]},
            {"attendees": (Attendee("Bo", "bo@x", "optional", "declined"),)},
        ),
        ({"recurrence": {"pattern": {"type": "hourly"}, "range": {}}}, {"recurrence": None}),
    ],
)
def test_parts(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """What each property comes to, null and oddities included."""
    remote = parsed(**changes)

    assert {name: getattr(remote, name) for name in expected} == expected


def test_at_most_500_attendees() -> None:
    """Exchange does not take more (Learn: event resource type)."""
    everybody = [person("", f"{number}@x") for number in range(MAX_ATTENDEES + 1)]

    assert len(parsed(attendees=everybody).attendees) == MAX_ATTENDEES


def test_a_master_brings_its_recurrence() -> None:
    """With the fields of its type, without the neutral values that Graph adds."""
    pattern = {"type": "weekly", "interval": 1, "daysOfWeek": ["monday"], "firstDayOfWeek": "sunday"}
    span = {"type": "endDate", "startDate": "2026-01-05", "endDate": "2026-06-29", "recurrenceTimeZone": "UTC"}
    neutral = {"month": 0, "dayOfMonth": 0, "index": "first"}
    raw = {"pattern": pattern | neutral, "range": span | {"numberOfOccurrences": 0}}

    assert parsed(type="seriesMaster", recurrence=raw).recurrence == {"pattern": pattern, "range": span}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"type": None}, "unknown-type"),
        ({"type": "meeting"}, "unknown-type"),
        ({"type": 1}, "unreadable-type"),
        ({"id": None}, "no-id"),
        ({"id": ""}, "no-id"),
        ({"id": 5}, "unreadable-id"),
        ({"id": "x" * (MAX_KEY + 1)}, "unreadable-id"),
        ({"seriesMasterId": ["M"]}, "unreadable-seriesMasterId"),
        ({"subject": {"text": "x"}}, "unreadable-subject"),
        ({"isCancelled": "false"}, "unreadable-isCancelled"),
        ({"isAllDay": 1}, "unreadable-isAllDay"),
        ({"organizer": "ann"}, "unreadable-organizer"),
        ({"organizer": {"emailAddress": []}}, "unreadable-emailAddress"),
        ({"attendees": {"name": "Bo"}}, "unreadable-attendees"),
        ({"attendees": ["Bo"]}, "unreadable-attendees"),
        ({"recurrence": []}, "unreadable-recurrence"),
        ({"recurrence": {"range": "x"}}, "unreadable-range"),
        ({"originalStartTimeZone": 5}, "unreadable-originalStartTimeZone"),
        ({"start": None}, "unreadable-time"),
        ({"start": {}}, "unreadable-time"),
        ({"start": "2026-04-15T11:00:00"}, "unreadable-start"),
        ({"start": at("15 April 2026")}, "unreadable-time"),
        ({"start": at("2026-02-30T11:00:00")}, "unreadable-time"),
        ({"start": at("2026-04-15T24:00:01")}, "unreadable-time"),
        ({"start": at("2026-04-15T11:00:00+99:00")}, "impossible-time"),
        ({"start": {"dateTime": 20260415, "timeZone": "UTC"}}, "unreadable-dateTime"),
        ({"start": at("2026-04-15T12:00:01")}, "ends-before-start"),
        ({"start": at("0001-01-01T00:00:00.0000000")}, "impossible-time"),
        ({"start": at("0001-01-01T00:00:00", "Tokyo Standard Time")}, "impossible-time"),
        ({"end": at("9999-12-31T23:59:59.9999999")}, "impossible-time"),
        ({"isAllDay": True, "start": at("0001-01-01T00:00:00"), "end": at("0001-01-02T00:00:00")}, "impossible-time"),
        ({"isAllDay": True, "end": at("9999-12-31T00:00:00")}, "impossible-time"),
        ({"isAllDay": True, "start": at("9999-12-31T00:00:00"), "end": at("9999-12-31T00:00:00")}, "impossible-time"),
        ({"createdDateTime": "yesterday"}, "unreadable-time"),
    ],
)
def test_unreadable(changes: dict[str, Any], reason: str) -> None:
    """An event that cannot be taken for what it says is refused with the reason, not guessed at."""
    with pytest.raises(Unreadable) as caught:
        parsed(**changes)

    assert str(caught.value) == reason


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("original_start", "recurrence", "original_end", "expected"),
    [
        pytest.param("Pacific Standard Time", "UTC", "UTC", (LOS_ANGELES, False), id="the start's own"),
        pytest.param(CUSTOM, "Eastern Standard Time", "UTC", (NEW_YORK, False), id="custom: that of the recurrence"),
        pytest.param("", "", "Eastern Standard Time", (NEW_YORK, False), id="else the end's"),
        pytest.param(CUSTOM, CUSTOM, CUSTOM, (BERLIN, True), id="custom all over: the room's"),
        pytest.param(None, None, None, (BERLIN, True), id="not said: the room's"),
        pytest.param("Mars Standard Time", "", "", (BERLIN, True), id="unknown: the room's"),
        pytest.param("UTC", "Eastern Standard Time", "UTC", ("UTC", False), id="UTC where it is said"),
        pytest.param("Europe/Vienna", "", "", ("Europe/Vienna", False), id="an IANA name"),
    ],
)
def test_zone(original_start: Any, recurrence: Any, original_end: Any, expected: tuple[str, bool]) -> None:
    """The zone of an event is looked for in this order, and where nothing says it, that is told; never silently UTC."""
    remote = parsed(
        type="seriesMaster",
        originalStartTimeZone=original_start,
        originalEndTimeZone=original_end,
        recurrence={"pattern": {"type": "daily"}, "range": {"recurrenceTimeZone": recurrence}},
    )

    assert (remote.zone, remote.zone_unknown) == expected
    assert remote.times.zone == remote.zone
    assert remote.times.start == datetime(2026, 4, 15, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        pytest.param(at("2026-04-15T11:00:00.9999999"), "11:00:00", id="seven digits of a second"),
        pytest.param(at("2026-04-15T07:00:00", "Eastern Standard Time"), "11:00:00", id="another zone"),
        pytest.param(at("2026-04-15T07:00:00", NEW_YORK), "11:00:00", id="its IANA name"),
        pytest.param({"dateTime": "2026-04-15T11:00:00"}, "09:00:00", id="floating: in the room"),
        pytest.param(at("2026-04-15T11:00:00", ""), "09:00:00", id="floating, empty zone"),
        pytest.param(at("2026-04-15T11:00:00", CUSTOM), "09:00:00", id="a zone that cannot be known"),
        pytest.param({"dateTime": "2026-04-15T11:00:00Z"}, "11:00:00", id="an offset"),
        pytest.param(at("2026-04-15T11:00:00+05:30", NEW_YORK), "05:30:00", id="an offset beats the zone"),
    ],
)
def test_start(start: dict[str, str], expected: str) -> None:
    """Every way to write a time comes to UTC; a floating time is one of the room, here in Berlin."""
    assert parsed(start=start).times.start == datetime.fromisoformat(f"2026-04-15T{expected}+00:00")


def whole_days(first: str, last: str, zone: str = "UTC") -> dict[str, Any]:
    return {
        "isAllDay": True,
        "start": at(f"{first}T00:00:00.0000000", zone),
        "end": at(f"{last}T00:00:00.0000000", zone),
    }


@pytest.mark.parametrize(
    ("room_zone", "start"),
    [(SYDNEY, "2026-03-04T13:00:00"), (LOS_ANGELES, "2026-03-05T08:00:00"), ("UTC", "2026-03-05T00:00:00")],
)
@pytest.mark.parametrize("answer_zone", ["UTC", "Pacific Standard Time", "AUS Eastern Standard Time"])
def test_all_day(room_zone: str, start: str, answer_zone: str) -> None:
    """5 March is 5 March in rooms at +11 and at -8, whatever zone the answer is in, and blocks the room's own day."""
    times = parsed(room_zone, **whole_days("2026-03-05", "2026-03-06", answer_zone)).times

    assert times.canonical() == ("2026-03-05", "2026-03-06")
    assert times.start == datetime.fromisoformat(f"{start}+00:00")
    assert (times.end - times.start, times.zone) == (timedelta(days=1), room_zone)


def test_three_days() -> None:
    """An event of several days is one, its last day excluded; the clocks' change makes it an hour longer."""
    times = parsed(BERLIN, **whole_days("2026-10-24", "2026-10-27")).times

    assert (times.first, times.last) == (date(2026, 10, 24), date(2026, 10, 27))
    assert times.end - times.start == timedelta(hours=73)


def test_an_all_day_event_without_length_has_its_day() -> None:
    assert parsed(**whole_days("2026-03-05", "2026-03-05")).times.canonical() == ("2026-03-05", "2026-03-06")


@pytest.mark.parametrize(
    ("changes", "room_zone", "expected"),
    [
        pytest.param({"type": "occurrence"}, BERLIN, "2026-04-15T11:00:00", id="a plain one was never elsewhere"),
        pytest.param(
            {"type": "exception", "originalStart": "2026-04-14T11:00:00Z"}, BERLIN, "2026-04-14T11:00:00", id="moved"
        ),
        pytest.param({"type": "exception"}, BERLIN, None, id="not told, as in delta"),
        pytest.param({"type": "exception", "originalStart": "0001-01-01T00:00:00Z"}, BERLIN, None, id="null"),
        pytest.param(
            {"type": "exception", "originalStart": "9999-12-30T00:00:00Z", **whole_days("2026-03-05", "2026-03-06")},
            "Pacific/Kiritimati",
            None,
            id="never",
        ),
        pytest.param(
            {"type": "exception", "originalStart": "2026-03-04T08:00:00Z", **whole_days("2026-03-05", "2026-03-06")},
            SYDNEY,
            "2026-03-03T13:00:00",
            id="all day: midnight of 4 March in Los Angeles is that of 4 March in Sydney",
        ),
        pytest.param(
            {
                "type": "exception",
                "originalStart": "2026-03-04T00:00:00Z",
                "originalStartTimeZone": CUSTOM,
                "originalEndTimeZone": CUSTOM,
                **whole_days("2026-03-05", "2026-03-06"),
            },
            LOS_ANGELES,
            "2026-03-04T08:00:00",
            id="all day in a zone that is not known: the next midnight",
        ),
    ],
)
def test_original_start(changes: dict[str, Any], room_zone: str, expected: str | None) -> None:
    """What tells the occurrences of a series apart is in UTC, and for all-day ones the start of the room's day."""
    start = parsed(room_zone, **changes).original_start

    assert start == (expected and datetime.fromisoformat(f"{expected}+00:00"))


def stub_of(**changes: Any) -> dict[str, Any]:
    """An occurrence as delta gives it."""
    return {
        "@odata.type": "#microsoft.graph.event",
        "@odata.etag": 'W/"stub"',
        "seriesMasterId": "M",
        "type": "occurrence",
        "id": "O",
        "start": at("2026-04-22T11:00:00.0000000"),
        "end": at("2026-04-22T11:30:00.0000000"),
        **changes,
    }


def test_a_stub_gets_the_rest_from_its_master() -> None:
    """Subject, people, flags and zone are the master's; id, etag and times its own; what names one event is left out."""
    master = parsed(id="M", type="seriesMaster", transactionId="T", showAs="free", sensitivity="private")
    stub = parse_event(stub_of(), BERLIN)
    whole = hydrated(stub, master)

    assert (stub.stub, stub.zone_unknown, stub.subject) == (True, True, "")
    assert whole == replace(
        master,
        id="O",
        etag='W/"stub"',
        kind="occurrence",
        master="M",
        ical="",
        transaction="",
        recurrence=None,
        times=Times(datetime(2026, 4, 22, 11, tzinfo=UTC), datetime(2026, 4, 22, 11, 30, tzinfo=UTC), LOS_ANGELES),
        original_start=datetime(2026, 4, 22, 11, tzinfo=UTC),
    )


def test_a_stub_of_an_all_day_series() -> None:
    """It does not say that it is one, but its master does: then its dates count."""
    master = parsed(SYDNEY, id="M", type="seriesMaster", **whole_days("2026-04-15", "2026-04-16"))
    times = {name: whole_days("2026-04-22", "2026-04-23")[name] for name in ("start", "end")}
    whole = hydrated(parse_event(stub_of(**times), SYDNEY), master)

    assert whole.times == Times.days(date(2026, 4, 22), date(2026, 4, 23), SYDNEY)
    assert whole.original_start == whole.times.start


def test_an_occurrence_from_instances_is_no_stub() -> None:
    assert not parsed(type="occurrence", seriesMasterId="M").stub


# --- titles ----------------------------------------------------------------------------------------------------------

COPY = parsed(subject="Salaries", isOrganizer=True)
SECRET = parsed(subject="Salaries", isOrganizer=True, sensitivity="private")
PLACEHOLDER, PRIVATE = ("Reserved in Outlook", "placeholder", False), "Private meeting"


@pytest.mark.parametrize(
    ("changes", "copy", "read", "expected"),
    [
        pytest.param({"isOrganizer": True}, None, False, ("Planning", "room", False), id="the room's own event"),
        pytest.param(
            {"isOrganizer": True, "subject": ""}, None, False, ("", "room", False), id="the room's, without one"
        ),
        pytest.param(
            {"isOrganizer": True, "sensitivity": "private"}, None, True, (PRIVATE, "room", True), id="its, private"
        ),
        pytest.param(
            {"subject": "Ann Lee"}, COPY, True, ("Salaries", "organizer", False), id="read at the organizer's"
        ),
        pytest.param({"subject": "Ann Lee"}, COPY, False, PLACEHOLDER, id="not to be read"),
        pytest.param({}, COPY, False, ("Planning", "room", False), id="not to be read, but the room shows it"),
        pytest.param({"subject": "Ann Lee"}, SECRET, True, (PRIVATE, "organizer", True), id="private there alone"),
        pytest.param({"subject": "Ann Lee"}, SECRET, False, (PRIVATE, "organizer", True), id="private in all modes"),
        pytest.param(
            {"sensitivity": "confidential"}, COPY, True, (PRIVATE, "room", True), id="private in the room alone"
        ),
        pytest.param({"subject": "Ann Lee"}, None, True, PLACEHOLDER, id="the organizer's name"),
        pytest.param({"subject": " ANN  LEE "}, None, True, PLACEHOLDER, id="their name in another writing"),
        pytest.param({"subject": "ann@contoso.com"}, None, True, PLACEHOLDER, id="the organizer's address"),
        pytest.param({"subject": ""}, None, True, PLACEHOLDER, id="blank"),
        pytest.param({"subject": " "}, None, True, PLACEHOLDER, id="blanks"),
        pytest.param({"subject": "Planning"}, None, True, ("Planning", "room", False), id="the room shows it"),
        pytest.param({"organizer": None, "subject": ""}, None, True, PLACEHOLDER, id="nobody, nothing"),
        pytest.param({"organizer": None}, None, True, ("Planning", "room", False), id="nobody, but the room shows it"),
    ],
)
def test_title_of(changes: dict[str, Any], copy: Remote | None, read: bool, expected: tuple[str, str, bool]) -> None:
    """The real title where it is known and may be, else something that says nothing."""
    assert title_of(parsed(**changes), copy, policy_read=read) == expected


# --- writing ---------------------------------------------------------------------------------------------------------


def reservation(**changes: Any) -> Reservation:
    """A meeting of the portal's in New York, on 15 April 2026 from 09:00 to 10:00."""
    start = to_utc(datetime.fromisoformat("2026-04-15T09:00"), NEW_YORK)
    fields: dict[str, Any] = {
        "id": "res-1",
        "room": "room-1",
        "kind": "single",
        "origin": "portal",
        "title": "Planning",
        "title_source": "local",
        "owner": ANN,
        "times": Times(start, start + timedelta(hours=1), NEW_YORK),
        "created_at": MADE,
        "updated_at": MADE,
    }
    return Reservation(**fields | changes)


def created(one: Reservation, *, on_user: bool = False, owner: Person | None = ANN) -> dict[str, Any]:
    return render_create(one, room_address=ROOM.email, room_name=ROOM.name, owner=owner, on_user=on_user)


def test_create_in_the_rooms_calendar() -> None:
    """Nobody is invited, so that no mail goes out, and the owner is named nowhere."""
    one = reservation(attendees=(Person("Bo", "bo@contoso.com"),), notes="Bring cake")

    assert created(one) == {
        "subject": "Planning",
        "body": {"contentType": "text", "content": "Bring cake"},
        "start": {"dateTime": "2026-04-15T09:00:00", "timeZone": "Eastern Standard Time"},
        "end": {"dateTime": "2026-04-15T10:00:00", "timeZone": "Eastern Standard Time"},
        "isAllDay": False,
        "sensitivity": "normal",
        "showAs": "busy",
        "transactionId": transaction_id(one),
    }


def test_create_in_the_owners_calendar() -> None:
    """The room is invited as a resource, everybody else once, and the owner, who is the organizer, not at all."""
    people = (
        Person("Bo", "bo@contoso.com"),
        ANN,
        Person("Bo again", "BO@contoso.com"),
        replace(ROOM, email="Room1@contoso.com"),
    )
    body = created(reservation(attendees=people), on_user=True)

    assert body["attendees"] == [
        {"type": "resource", "emailAddress": {"name": "Room 1", "address": "room1@contoso.com"}},
        {"type": "required", "emailAddress": {"name": "Bo", "address": "bo@contoso.com"}},
    ]
    assert body["location"] == {"displayName": "Room 1", "locationEmailAddress": "room1@contoso.com"}
    assert set(body) - set(created(reservation())) == {"attendees", "location"}


def test_create_without_owner() -> None:
    invited = created(reservation(attendees=(ANN,)), on_user=True, owner=None)["attendees"]

    assert [each["emailAddress"]["address"] for each in invited] == [ROOM.email, ANN.email]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"private": True}, {"sensitivity": "private", "subject": "Planning"}),
        ({"blocking": False}, {"showAs": "free"}),
        ({"blocking": False, "kind": "series"}, {"showAs": "busy"}),
        ({"notes": ""}, {"body": None}),
        ({"title": PLACEHOLDER[0], "title_source": "placeholder"}, {"subject": None}),
        ({"title": PRIVATE, "title_source": "room", "private": True}, {"subject": None, "sensitivity": "private"}),
        ({"title": "Hall", "title_source": "room"}, {"subject": "Hall"}),
    ],
)
def test_create(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """What a reservation is goes along; what is only shown in place of an unknown title never does."""
    body = created(reservation(**changes))

    assert {name: body.get(name) for name in expected} == expected


def sent_times(times: Times, kind: str = "single") -> tuple[str, str, str]:
    body = render_update(reservation(times=times, kind=kind), frozenset({"time"}))
    assert body["start"]["timeZone"] == body["end"]["timeZone"]
    return body["start"]["dateTime"], body["end"]["dateTime"], body["start"]["timeZone"]


def hour(start: str, zone: str) -> Times:
    begin = datetime.fromisoformat(f"{start}+00:00")
    return Times(begin, begin + timedelta(hours=1), zone)


@pytest.mark.parametrize(
    ("times", "kind", "expected"),
    [
        pytest.param(
            hour("2026-07-01T10:00", BERLIN),
            "single",
            ("2026-07-01T12:00:00", "2026-07-01T13:00:00", "W. Europe Standard Time"),
            id="the wall clock's time and the Windows name",
        ),
        pytest.param(
            hour("2026-11-01T06:30", NEW_YORK),
            "single",
            ("2026-11-01T06:30:00", "2026-11-01T07:30:00", "UTC"),
            id="an hour that comes twice: UTC",
        ),
        pytest.param(
            hour("2026-11-01T06:30", NEW_YORK),
            "series",
            ("2026-11-01T01:30:00", "2026-11-01T02:30:00", "Eastern Standard Time"),
            id="a series keeps its hours all the same",
        ),
        pytest.param(
            hour("2026-07-01T10:00", "Antarctica/Troll"),
            "single",
            ("2026-07-01T10:00:00", "2026-07-01T11:00:00", "UTC"),
            id="no Windows name: UTC",
        ),
        pytest.param(
            hour("2026-07-01T10:00", "America/Scoresbysund"),
            "single",
            ("2026-07-01T10:00:00", "2026-07-01T11:00:00", "UTC"),
            id="a Windows name that no longer fits: UTC",
        ),
        pytest.param(
            Times.days(date(2026, 3, 5), date(2026, 3, 8), SYDNEY),
            "single",
            ("2026-03-05T00:00:00", "2026-03-08T00:00:00", "AUS Eastern Standard Time"),
            id="whole days by their dates",
        ),
        pytest.param(
            Times.days(date(2026, 3, 8), date(2026, 3, 9), "America/Havana"),
            "single",
            ("2026-03-08T00:00:00", "2026-03-09T00:00:00", "UTC"),
            id="a day that does not begin at midnight",
        ),
    ],
)
def test_times(times: Times, kind: str, expected: tuple[str, str, str]) -> None:
    """Both ends are told in one zone, in which nothing about them is in doubt."""
    assert sent_times(times, kind) == expected


def weekly(**span: Any) -> dict[str, Any]:
    pattern = {"type": "weekly", "interval": 1, "daysOfWeek": ["wednesday"], "firstDayOfWeek": "sunday"}
    return {"pattern": pattern, "range": {"type": "noEnd", "startDate": "2026-04-15", **span}}


def test_a_series_brings_its_recurrence() -> None:
    """With the zone that its hours follow; a plain occurrence never does."""
    one = reservation(kind="series", recurrence=weekly(), blocking=False)

    expected = weekly(recurrenceTimeZone="Eastern Standard Time")
    assert created(one)["recurrence"] == expected
    assert render_update(one, frozenset({"time"}))["recurrence"] == expected
    assert "recurrence" not in render_update(one, frozenset({"title"}))
    assert "recurrence" not in created(replace(one, kind="occurrence"))
    assert "recurrence" not in created(replace(one, recurrence=None))


BASE = reservation().agreed()


@pytest.mark.parametrize(
    ("changes", "groups", "expected"),
    [
        ({}, {"title"}, {"subject"}),
        ({}, {"time"}, {"start", "end", "isAllDay"}),
        ({}, {"time", "title"}, {"subject", "start", "end", "isAllDay"}),
        ({}, set(), set()),
        ({"private": True}, {"title"}, {"subject", "sensitivity"}),
        ({"private": True}, {"time"}, {"start", "end", "isAllDay"}),
        ({"link": Link()}, {"title"}, {"subject"}),
        ({"title_source": "placeholder"}, {"title"}, set()),
    ],
)
def test_update(changes: dict[str, Any], groups: set[str], expected: set[str]) -> None:
    """A change holds the changed fields alone; that a meeting became private goes with its title."""
    assert set(render_update(reservation(**{"link": Link(base=BASE), **changes}), frozenset(groups))) == expected


# --- round trips and properties --------------------------------------------------------------------------------------

VIEW = View("UTC", immutable=True, body_type=None, page_size=None, applied="")
MAILBOX = Mailbox(UUID(int=1), Address(name=ROOM.name, address=ROOM.email))


def stored(body: Mapping[str, Any]) -> Item:
    """What the simulated Exchange makes of the body of a POST to the room's calendar."""
    draft = read_draft(body, None, {}, lambda _address: None)
    assert draft.when is not None
    return Item(
        guid=UUID(int=2),
        uid="UID",
        organizer=MAILBOX.owner,
        is_organizer=True,
        properties=DEFAULTS | draft.changes,
        when=draft.when,
        created=MADE,
        modified=MADE,
        recurrence=draft.recurrence,
    )


def read_back(body: Mapping[str, Any], room_zone: str) -> Remote:
    return parse_event(exchange_render(MAILBOX, stored(body), VIEW, names=SELECT.split(",")), room_zone)


zones = st.sampled_from([NEW_YORK, BERLIN, SYDNEY, "Asia/Kolkata", "Australia/Lord_Howe", "Antarctica/Troll", "UTC"])
instants = st.integers(0, 10 * 365 * 86400).map(lambda seconds: MADE + timedelta(seconds=seconds))
timed = st.builds(
    lambda start, seconds, zone: Times(start, start + timedelta(seconds=seconds), zone),
    instants,
    st.integers(0, 90000),
    zones,
)
whole = st.builds(
    lambda day, count, zone: Times.days(day, day + timedelta(days=count), zone),
    st.dates(date(2026, 1, 1), date(2036, 1, 1)),
    st.integers(1, 9),
    zones,
)
reservations = st.builds(
    reservation,
    times=timed | whole,
    title=st.text(st.characters(exclude_categories=["Cs"]), max_size=255),
    private=st.booleans(),
    blocking=st.booleans(),
    notes=st.text(max_size=5),
    link=st.just(Link(organizer_address="Room1@Contoso.com")),
)


@given(reservations)
def test_an_echo_is_equal(one: Reservation) -> None:
    """What was sent to the room's calendar and is read back has the times and the transaction of the reservation."""
    remote = read_back(created(one), one.times.zone)

    assert remote.times.canonical() == one.times.canonical()
    assert remote.transaction == transaction_id(one)
    assert not remote.zone_unknown
    assert remote.attendees == ()


patterns = st.one_of(
    st.fixed_dictionaries({"type": st.just("daily"), "interval": st.integers(2, 40)}),
    st.fixed_dictionaries(
        {
            "type": st.just("weekly"),
            "interval": st.integers(1, 5),
            "daysOfWeek": st.lists(st.sampled_from(series.DAYS), min_size=1, unique=True),
            "firstDayOfWeek": st.sampled_from(series.DAYS),
        }
    ),
    st.fixed_dictionaries(
        {"type": st.just("absoluteMonthly"), "interval": st.integers(1, 5), "dayOfMonth": st.integers(1, 31)}
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("relativeYearly"),
            "interval": st.just(1),
            "daysOfWeek": st.lists(st.sampled_from(series.DAYS), min_size=1, unique=True),
            "index": st.sampled_from(["first", "second", "third", "fourth", "last"]),
            "month": st.integers(1, 12),
        }
    ),
)


@given(
    patterns,
    st.dates(date(2026, 1, 1), date(2027, 12, 31)),
    st.integers(8, 20),
    st.sampled_from([NEW_YORK, BERLIN, SYDNEY, "UTC"]),
    st.booleans(),
)
def test_a_series_is_the_same_on_both_sides(
    pattern: dict[str, Any], day: date, oclock: int, zone: str, all_day: bool
) -> None:
    """The occurrences that Exchange makes of a series that was sent are those that the portal has, and its stubs are
    those occurrences once they are hydrated."""
    start = to_utc(datetime.fromisoformat(f"{day.isoformat()}T{oclock:02}:00"), zone)
    times = (
        Times.days(day, day + timedelta(days=1), zone) if all_day else Times(start, start + timedelta(hours=2), zone)
    )
    recurrence = {
        "pattern": pattern,
        "range": {"type": "numbered", "startDate": day.isoformat(), "numberOfOccurrences": 9},
    }
    far = times.start + timedelta(days=700)
    [first, *_] = series.occurrences(recurrence, times, times.start, times.start + timedelta(days=9999), 1)
    recurrence["range"]["startDate"] = (first.first or to_wall(first.start, zone).date()).isoformat()
    ours = series.occurrences(recurrence, first, first.start, far, 9)

    item = stored(created(reservation(kind="series", times=first, recurrence=recurrence)))
    master = parse_event(exchange_render(MAILBOX, item, VIEW), zone)
    theirs = [
        hydrated(parse_event(exchange_stub(MAILBOX, item, each, VIEW), zone), master)
        for each in exchange_occurrences(item, first.start, far)
    ]
    assert [each.times for each in theirs] == ours
    assert [each.original_start for each in theirs] == [each.start for each in ours]
    assert master.recurrence is not None
    assert series.render(master.recurrence, zone) == series.render(recurrence, zone)


odd_times = st.sampled_from(
    [
        "0001-01-01T00:00:00.0000000",
        "0001-01-01T00:00:00+14:00",
        "1601-01-02T00:00:00Z",
        "9999-12-31T23:59:59.9999999",
        "9999-12-31T23:59:59-14:00",
        "9999-12-30T00:00:00Z",
        "9999-12-28T00:00:00Z",
        "2026-02-30T00:00:00",
        "2026-03-05T24:00:00",
        "2026-03-08T02:30:00",
        "2026-03-05T10:00:00+99:99",
        "2026-03-05",
        "\u0662026-03-05T10:00:00",
    ]
)
odd_zones = st.sampled_from(
    ["", "UTC", CUSTOM, "Tokyo Standard Time", "Etc/GMT+12", "Pacific/Kiritimati", "..", "\ud83d", "a\0b"]
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | odd_times | odd_zones
values = (
    leaves
    | st.lists(leaves, max_size=2)
    | st.dictionaries(st.sampled_from(["type", "response", "emailAddress"]), leaves)
)
odd_moments = st.builds(at, odd_times, odd_zones)
ODD: Mapping[str, st.SearchStrategy[Any]] = {
    "type": values,
    "start": values,
    "isAllDay": values,
    "originalStart": values,
    "originalStartTimeZone": odd_zones | values,
    "originalEndTimeZone": odd_zones | values,
    "recurrence": st.dictionaries(st.sampled_from(["pattern", "range"]), values) | values,
    "organizer": st.builds(person, leaves, leaves) | values,
    "attendees": st.lists(st.builds(person, leaves, leaves) | values, max_size=2) | values,
    "responseStatus": values,
    "isCancelled": values,
    "subject": st.text(st.characters(), max_size=5) | values,
    "id": values,
}
odd_changes = st.lists(st.one_of([st.tuples(st.just(name), odd) for name, odd in ODD.items()]), max_size=3).map(dict)


@given(odd_changes)
def test_any_json_is_read_or_refused(changes: dict[str, Any]) -> None:
    """Whatever stands in an event, it is refused with a slug, or comes out as something that can be stored."""
    try:
        remote = parsed(**changes)
    except Unreadable as refused:
        assert " " not in str(refused)
        return
    assert repr(remote).encode()
    assert title_of(remote, None, policy_read=True)[0].encode() is not None


@given(
    odd_moments,
    odd_moments | st.just(at("2026-03-08T03:00:00")),
    st.booleans(),
    odd_times,
    st.sampled_from(["exception", "occurrence"]),
    st.sampled_from(["Pacific/Kiritimati", "Etc/GMT+12", "UTC"]),
    odd_zones,
)
def test_any_times_are_refused_or_of_use(
    start: Any, end: Any, all_day: bool, original: str, kind: str, room_zone: str, zone: str
) -> None:
    """At the ends of the calendar too: what is read can be stored, and shown in every zone."""
    given_times = {
        "start": start,
        "end": end,
        "isAllDay": all_day,
        "originalStart": original,
        "createdDateTime": original,
    }
    try:
        remote = parsed(room_zone, type=kind, originalStartTimeZone=zone, **given_times)
    except Unreadable:
        return
    assert remote.times.start <= remote.times.end
    for moment in (remote.times.start, remote.times.end, remote.original_start, remote.created_at):
        if moment is not None:
            assert moment.year >= 1601
            assert {to_wall(moment, shown).year for shown in ("Pacific/Kiritimati", "Etc/GMT+12")}
