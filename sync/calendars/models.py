"""Rooms, places and reservations as the HTTP contract has them."""

import re
from contextlib import suppress
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from sync.calendars import model
from sync.calendars.recurrence import DAYS
from sync.calendars.zones import iana
from sync.http import ListQuery
from sync.models import Model, TimeZone

ROOM_PATTERN = r"(?!\.+$)[A-Za-z0-9_.-]{1,64}"
_ADDRESS = re.compile(
    r"[^\s@<>()\[\],;:\\\"/?#%\x00-\x1f\x7f]{1,64}@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}"
)


def _mail(text: str) -> str:
    if not _ADDRESS.fullmatch(text.lower()):
        raise ValueError("must be an e-mail address")
    return text


def _plain(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError("must not hold control characters")
    return text


Mail = Annotated[str, Field(max_length=254, json_schema_extra={"format": "email"}), AfterValidator(_mail)]
Address = Annotated[Mail, AfterValidator(str.lower)]
Line = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_plain)]


class CheckIn(Model):
    """`outsideMailbox` is one that is no room: the check shows whether the app is kept out of it."""

    outside_mailbox: Address | None = None


# --- rooms and places ------------------------------------------------------------------------------------------------


class RoomIn(Model):
    """`timeZone` is that of floating times and all-day events; by default the connection's."""

    display_name: Line
    calendar_type: Literal["office365"] = "office365"
    external_calendar: Address
    active: bool = False
    time_zone: TimeZone | None = None


class RoomOut(Model):
    """`statusDetail` and `warnings` are slugs; `remedy` says in words what to do about the first."""

    id: str
    display_name: str
    calendar_type: Literal["office365"]
    external_calendar: str
    active: bool
    time_zone: str
    status: Literal["inactive", "pending", "active", "error"]
    status_detail: str | None
    remedy: str | None
    warnings: list[str]
    pending_changes: int
    subscription_expires_at: datetime | None
    last_synced_at: datetime | None


class PlaceOut(Model):
    """A room of the tenant, to choose from; `linkedRoom` is the id of the room that has its calendar."""

    id: str | None
    display_name: str | None
    email_address: str
    capacity: int | None
    building: str | None
    floor_number: int | None
    floor_label: str | None
    phone: str | None
    booking_type: str | None
    tags: list[str]
    linked_room: str | None


# --- reservations ----------------------------------------------------------------------------------------------------

MAX_ATTENDEES = 100
MAX_NOTES = 20_000
_WALL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,7})?)?", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_EARLIEST, _LATEST = 2000, 2199
FIRST, LAST = date(1900, 1, 1), date(2200, 1, 1)
"""Before and after every reservation."""


def _wall_clock(text: str) -> str:
    if _WALL.fullmatch(text):
        try:
            year = datetime.fromisoformat(text).year
        except ValueError:
            year = 0
        if _EARLIEST <= year <= _LATEST:
            return text
    raise ValueError("must be a time without an offset such as 2026-11-23T09:00:00")


def _zone_name(name: str) -> str:
    if iana(name) is None:
        raise ValueError("must be a time zone of IANA or Windows such as America/New_York")
    return name


def _notes(text: str) -> str:
    if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text):
        raise ValueError("must not hold control characters")
    return text


def _name(text: str) -> str:
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError("must not hold control characters")
    return text.strip()


def _day(text: str) -> str:
    """Raises ValueError for the other forms of a date that ISO 8601 has."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        raise ValueError(text)
    return text


def _moment(text: object) -> object:
    """A day or an instant, FIRST or LAST in the place of one beyond them; a + that the address lost is put back."""
    if isinstance(text, str):
        text = text.replace(" ", "+")
        with suppress(ValueError):
            found = datetime.fromisoformat(text) if _INSTANT.fullmatch(text) else date.fromisoformat(_day(text))
            return found if FIRST.year <= found.year < LAST.year else FIRST if found.year < FIRST.year else LAST
    raise ValueError("must be a day such as 2026-11-23 or a time such as 2026-11-23T06:00:00Z")


class MomentIn(Model):
    """A wall clock's time, one that the clocks show that day; without a time zone it is the room's."""

    date_time: Annotated[
        str, Field(max_length=27, json_schema_extra={"pattern": _WALL.pattern}), AfterValidator(_wall_clock)
    ]
    time_zone: Annotated[str, Field(max_length=64), AfterValidator(_zone_name)] | None = None


class PersonIn(Model):
    name: Annotated[str, Field(max_length=255), AfterValidator(_name)] = ""
    email: Mail


Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class PatternIn(Model):
    """Learn: recurrencePattern resource type. Fields that the type does not have may be left out or neutral."""

    type: Literal["daily", "weekly", "absoluteMonthly", "relativeMonthly", "absoluteYearly", "relativeYearly"]
    interval: Annotated[int, Field(ge=1, le=99)] | None = None
    month: Annotated[int, Field(ge=0, le=12)] | None = None
    day_of_month: Annotated[int, Field(ge=0, le=31)] | None = None
    days_of_week: Annotated[list[Day], Field(max_length=len(DAYS))] | None = None
    first_day_of_week: Day | None = None
    index: Literal["first", "second", "third", "fourth", "last"] | None = None


class RangeIn(Model):
    """Learn: recurrenceRange resource type."""

    type: Literal["endDate", "noEnd", "numbered"]
    start_date: Annotated[str, Field(max_length=10)]
    end_date: Annotated[str, Field(max_length=10)] | None = None
    number_of_occurrences: Annotated[int, Field(ge=0)] | None = None
    recurrence_time_zone: Annotated[str, Field(max_length=64)] | None = None


class RecurrenceIn(Model):
    pattern: PatternIn
    range: RangeIn


class ReservationIn(Model):
    """A reservation, or with a `recurrence` a series whose first occurrence it is.

    `organizer` says in whose calendar it is made: the room's, or its owner's where the settings allow that. `notes` are
    the text of its event. `attendees` are invited by its owner; a room invites nobody, so that they stay here.
    """

    title: Line
    start: MomentIn
    end: MomentIn
    all_day: bool = False
    owner: PersonIn | None = None
    attendees: Annotated[list[PersonIn], Field(max_length=MAX_ATTENDEES)] = Field(default_factory=list)
    notes: Annotated[str, Field(max_length=MAX_NOTES), AfterValidator(_notes)] = ""
    private: bool = False
    recurrence: RecurrenceIn | None = None
    organizer: Literal["room", "user"] | None = None


class ReservationPatch(Model):
    """What is named is changed; null takes the owner away. `room` moves the reservation to another room.

    `attendees` of a meeting in a user's calendar are added and removed there one by one, whoever else changes them; those of
    a room's own reservation are kept here alone. `notes` are the other way round: they go to the event that the portal has
    made in the room's calendar, and are kept here for any other.
    """

    title: Line | None = None
    start: MomentIn | None = None
    end: MomentIn | None = None
    all_day: bool | None = None
    owner: PersonIn | None = None
    attendees: Annotated[list[PersonIn], Field(max_length=MAX_ATTENDEES)] | None = None
    notes: Annotated[str, Field(max_length=MAX_NOTES), AfterValidator(_notes)] | None = None
    private: bool | None = None
    recurrence: RecurrenceIn | None = None
    organizer: Literal["room", "user"] | None = None
    room: Annotated[str, Field(max_length=64)] | None = None


Moment = Annotated[date | datetime, BeforeValidator(_moment), Field(json_schema_extra={"type": "string"})]


class ReservationsQuery(ListQuery):
    from_: Annotated[
        Moment | None,
        Field(alias="from", description="What ends after it: a day of the room, or an instant. By default everything."),
    ] = None
    to: Annotated[
        Moment | None,
        Field(description="What begins before it: a day of the room, or an instant. By default everything."),
    ] = None
    status: Annotated[
        Literal["confirmed", "tentative", "awaitingRoom", "declined", "cancelled", "any"] | None,
        Field(description="By default all but cancelled ones."),
    ] = None
    type: Annotated[
        model.Kind | None, Field(description="By default all but series: their occurrences are listed.")
    ] = None


class ReservationQuery(Model):
    status: Annotated[Literal["any"] | None, Field(description="any: also one that is cancelled.")] = None


class MomentOut(Model):
    date_time: str
    time_zone: str


class PersonOut(Model):
    name: str
    email: str


class ReservationOut(Model):
    """`note` is a slug that explains the `syncState`. `originalStart` is when an occurrence would be by its series."""

    id: str
    room: str
    title: str
    title_source: model.TitleSource
    owner: PersonOut | None
    start: MomentOut
    end: MomentOut
    all_day: bool
    recurrence: dict[str, Any] | None
    series_id: str | None
    original_start: datetime | None
    type: model.Kind
    attendees: list[PersonOut]
    notes: str
    private: bool
    organizer: Literal["room", "user"]
    sync_state: model.SyncState
    origin: model.Origin
    status: model.Status
    blocking: bool
    note: str | None
    created_at: datetime
    updated_at: datetime
