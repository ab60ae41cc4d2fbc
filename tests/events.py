"""Events as Graph shows them, reservations as they are sent, and what the simulated Exchange makes of one."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from local.cloud.exchange.drafts import DEFAULTS, read_draft
from local.cloud.exchange.mailbox import Address, Item, Mailbox
from local.cloud.exchange.shape import View
from local.cloud.exchange.shape import render as exchange_render
from sync.calendars.event import SELECT, Remote, parse_event, render_create
from sync.calendars.model import Link, Person, Reservation, Times
from sync.calendars.zones import to_utc

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
        "changeKey": "ZlnW4R",
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


def whole_days(first: str, last: str, zone: str = "UTC") -> dict[str, Any]:
    return {
        "isAllDay": True,
        "start": at(f"{first}T00:00:00.0000000", zone),
        "end": at(f"{last}T00:00:00.0000000", zone),
    }


PLACEHOLDER, PRIVATE = ("Reserved in Outlook", "placeholder", False), "Private meeting"


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
