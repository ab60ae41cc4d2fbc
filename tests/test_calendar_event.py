"""Events of Graph: what is made of them, and what they are called."""

from datetime import UTC, datetime
from typing import Any

import pytest

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
    title_of,
)
from sync.calendars.model import Person, Times
from tests.events import ANN, LOS_ANGELES, PLACEHOLDER, PRIVATE, at, event, parsed, person

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


# --- titles ----------------------------------------------------------------------------------------------------------

COPY = parsed(subject="Salaries", isOrganizer=True)
SECRET = parsed(subject="Salaries", isOrganizer=True, sensitivity="private")


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
