"""What the calendar sync is about: rooms, reservations, and the link between a reservation and its event.

One reservation is one meeting in one room. A recurring meeting is one of kind `series`, which takes up no time itself,
and one for each of its occurrences in the window. A meeting in two rooms is two reservations that share an iCalUId.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from sync.calendars.patterns import canonical

Kind = Literal["single", "series", "occurrence", "exception"]
Origin = Literal["portal", "microsoft"]
TitleSource = Literal["local", "organizer", "room", "placeholder"]
Status = Literal["confirmed", "tentative", "awaitingRoom", "declined", "cancelled"]
SyncState = Literal["pending", "synced", "conflict", "rejected"]
Organizer = Literal["room", "user", "external"]
LinkState = Literal["none", "creating", "linked", "updating", "deleting", "gone"]
"""none: nothing was ever sent or seen. creating, updating, deleting: waits to be sent. gone: the event is no more."""

RoomStatus = Literal["inactive", "pending", "active", "error"]

PLACEHOLDER = "Reserved in Outlook"
PRIVATE = "Private meeting"
GONE_KEPT = timedelta(days=30)
_IDS = UUID("5b1f6a34-2c3f-4d57-9f0e-8a4f0d7f2b11")


@dataclass(frozen=True)
class Times:
    """When, to the second. An all-day event is its dates (`last` exclusive); start and end then follow from the zone."""

    start: datetime
    end: datetime
    zone: str
    first: date | None = None
    last: date | None = None

    @property
    def all_day(self) -> bool:
        return self.first is not None

    @classmethod
    def days(cls, first: date, last: date, zone: str) -> "Times":
        """An all-day event: from local midnight to local midnight, 23 or 25 hours a day where the clock changes."""
        there = ZoneInfo(zone)
        start, end = (datetime.combine(day, time(), there).astimezone(UTC) for day in (first, last))
        return cls(start, end, zone, first, last)

    def overlaps(self, other: "Times") -> bool:
        """Whether both need the room at the same moment; one that ends when the other begins does not."""
        return self.start < other.end and other.start < self.end

    def canonical(self) -> tuple[str, str]:
        """Both ends as they are compared: dates for all-day events, else UTC seconds."""
        if self.first and self.last:
            return self.first.isoformat(), self.last.isoformat()
        return self.start.isoformat(timespec="seconds"), self.end.isoformat(timespec="seconds")


@dataclass(frozen=True)
class Agreed:
    """The fields of an event that both sides are compared by. `title` is None where it is a placeholder or private,
    `pattern` the recurrence of a series.
    """

    title: str | None
    start: str
    end: str
    cancelled: bool
    organizer: str
    free: bool
    private: bool
    pattern: str = ""


@dataclass(frozen=True)
class Person:
    name: str
    email: str


@dataclass(frozen=True)
class Details:
    """What of an event belongs to no comparison: who is invited, and its text."""

    attendees: tuple[Person, ...]
    notes: str


@dataclass(frozen=True)
class Link:
    """How a reservation and its event hang together.

    `room_event` is the id of the event in the room's mailbox, `organizer_event` that in the organizer's, `master` the
    id of the series master in the room's mailbox. `base` is what both sides last agreed on. `mailbox` and `payload`
    are the frozen create that is being sent under `transaction`. `former` is the base before a change that was sent to
    the organizer's mailbox: a room copy that still shows it is stale. `sent` is what a change that may have been written
    already, its answer being unknown, made of the event: a cancelled one where it was the deletion. `told` is what Microsoft
    has of the attendees and the notes where the portal's wait to be sent. `created_at` is when the event was made.
    `unread`: the organizer's copy of this version could not be read. `cause` says who ended it.
    """

    state: LinkState = "none"
    organizer: Organizer = "room"
    organizer_address: str = ""
    room_event: str = ""
    organizer_event: str = ""
    master: str = ""
    ical: str = ""
    room_etag: str = ""
    organizer_etag: str = ""
    base: Agreed | None = None
    former: Agreed | None = None
    sent: Agreed | None = None
    told: Details | None = None
    mailbox: str = ""
    transaction: str = ""
    payload: Mapping[str, Any] | None = None
    created_at: datetime | None = None
    unread: bool = False
    cause: str = ""


@dataclass(frozen=True)
class Reservation:
    """A reservation with its link. `series` is the id of the series that it is part of; `original_start` tells the
    occurrences of a series apart. `generation` counts its events: it makes the transaction ids. `note` is a slug that
    explains `sync_state`.

    `attendees` are those of the event where a user is the organizer. A room invites nobody: there they are the portal's
    own. `notes` are the text of the event where the portal made it. Changes of them go to events in the room's calendar
    alone: the text of a user's meeting may hold by now what its organizer has written, such as the link to join it.

    `edition` counts the changes of a series of the portal's own, and says to which of them an occurrence belongs: one
    that is ahead of its series is not there yet.

    `archived` are the last links that it had to events in calendars that its room had before, the latest one last.
    """

    id: str
    room: str
    kind: Kind
    origin: Origin
    title: str
    title_source: TitleSource
    owner: Person | None
    times: Times
    created_at: datetime
    updated_at: datetime
    status: Status = "confirmed"
    blocking: bool = True
    private: bool = False
    attendees: tuple[Person, ...] = ()
    notes: str = ""
    recurrence: Mapping[str, Any] | None = None
    series: str = ""
    original_start: datetime | None = None
    generation: int = 0
    edition: int = 0
    sync_state: SyncState = "pending"
    note: str = ""
    link: Link = field(default_factory=Link)
    archived: tuple[Link, ...] = ()

    @property
    def live(self) -> bool:
        """Whether it stands: neither cancelled nor declined."""
        return self.status not in ("cancelled", "declined")

    @property
    def takes_time(self) -> bool:
        """Whether it keeps others from its room."""
        return self.live and self.blocking and self.kind != "series"

    def agreed(self) -> Agreed:
        """What the portal holds, in the form that is compared. A private title counts where it is the portal's own."""
        start, end = self.times.canonical()
        unknown = self.title_source == "placeholder" or (self.private and self.title_source != "local")
        return Agreed(
            title=None if unknown else self.title,
            start=start,
            end=end,
            cancelled=self.status == "cancelled",
            organizer=self.link.organizer_address.lower(),
            free=not self.blocking and self.kind != "series",
            private=self.private,
            pattern=canonical(self.recurrence),
        )

    def linked(self, **changes: Any) -> "Reservation":
        """The same with a changed link."""
        return replace(self, link=replace(self.link, **changes))


@dataclass(frozen=True)
class Room:
    """A room link as the admin set it up. `time_zone` is that of floating times and of all-day blocks.

    `since` is when it was last switched on, or pointed to another calendar or time zone.
    """

    id: str
    display_name: str
    calendar_type: Literal["office365"]
    external_calendar: str
    active: bool
    time_zone: str
    since: datetime | None = None


@dataclass(frozen=True)
class Subscription:
    """A room's subscription; `digest` is that of its clientState, which is kept nowhere. From `renew_at` on it is due to
    be renewed; one that was stored without is due at once.
    """

    id: str
    digest: str
    expires_at: datetime
    renew_at: datetime = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class RoomState:
    """How far the sync of a room has come; one whose `since` is not that of the room tells of former settings.

    `mailbox` is the address that all this belongs to. `delta_link` goes with the window from `window_start` to
    `window_end`. `full_at` is when the last full round began, `silent_since` when its calendar was last read,
    `look_again` when to read it once more after a notification that came before what it told of, `failed_at` when
    `retry_at` was set because it could not be read. `suspects` are removals that wait for a second round. `awaiting`
    says that reservations wait for the room's answer, or for that of an organizer's mailbox.
    """

    status: RoomStatus = "pending"
    detail: str = ""
    warnings: tuple[str, ...] = ()
    mailbox: str = ""
    since: datetime | None = None
    delta_link: str = ""
    window_start: datetime | None = None
    window_end: datetime | None = None
    full_at: datetime | None = None
    silent_since: datetime | None = None
    synced_at: datetime | None = None
    failing_since: datetime | None = None
    failed_at: datetime | None = None
    retry_at: datetime | None = None
    look_again: datetime | None = None
    failures: int = 0
    suspects: int = 0
    suspected_at: datetime | None = None
    awaiting: bool = False
    subscription: Subscription | None = None
    no_subscription_until: datetime | None = None


@dataclass(frozen=True)
class Policy:
    """The three settings (user calendar delegation, strict mode, create on user calendar) as what they come to."""

    delegation: bool
    strict: bool
    create: bool

    @property
    def read_user(self) -> bool:
        """Whether organizers' copies may be read. Delegation wins over strict mode."""
        return self.delegation or not self.strict

    @property
    def write_user(self) -> bool:
        """Whether organizers' copies may be changed."""
        return self.delegation

    @property
    def create_on_user(self) -> bool:
        """Whether a new reservation may go to its owner's calendar. Strict mode without delegation rules it out."""
        return self.create and (self.delegation or not self.strict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an admin should know of this combination, as slugs."""
        if self.create and not self.create_on_user:
            return ("strict-overrides-create",)
        if self.create and not self.delegation:
            return ("edits-only-in-outlook",)
        if self.strict and self.delegation:
            return ("strict-without-effect",)
        return ()


def imported_id(room: str, event: str) -> str:
    """The id of the reservation for an event that was made in Outlook: the same each time it is seen."""
    return str(uuid5(_IDS, f"{room}\n{event}"))


def occurrence_id(series: str, original_start: datetime) -> str:
    """The id of one occurrence of a series."""
    return str(uuid5(_IDS, f"{series}\n{original_start.astimezone(UTC).isoformat(timespec='seconds')}"))


def transaction_id(reservation: Reservation) -> str:
    """Graph's transactionId for the event of this reservation: a repeated POST returns the first event."""
    return str(uuid5(_IDS, f"{reservation.room}\n{reservation.id}\n{reservation.generation}"))
