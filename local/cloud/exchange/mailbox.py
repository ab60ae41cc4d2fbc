"""What an Exchange organisation stores: mailboxes with their calendars, rooms, and the mail that is under way."""

import re
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from uuid import NAMESPACE_OID, UUID, uuid5

from pydantic import Field, field_validator

from local.cloud.exchange.outbox import Outbox, Subscription
from local.cloud.exchange.zones import When, zone
from local.cloud.model import Model

Properties = dict[str, Any]
Hosting = Literal["cloud", "none", "onPremises", "elsewhere"]
WRITES_KEPT = 20000
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Room(Model):
    """A room as a tenant's data describes it. The booking rules have the names and the defaults of
    Set-CalendarProcessing; times are those of `time_zone`, an IANA name."""

    email_address: str
    display_name: str
    id: str = Field(default="", pattern=f"^({GUID.pattern})?$")
    capacity: int | None = None
    building: str | None = None
    floor_number: int | None = None
    label: str = ""
    list: str | None = None
    time_zone: str = "UTC"
    delete_subject: bool = True
    add_organizer_to_subject: bool = True
    delete_comments: bool = True
    remove_private_property: bool = True
    allow_conflicts: bool = False
    allow_recurring_meetings: bool = True
    booking_window_in_days: int = Field(default=180, ge=0)
    maximum_duration_in_minutes: int = Field(default=1440, ge=0)
    enforce_scheduling_horizon: bool = True
    process_external_meeting_messages: bool = False
    remove_canceled_meetings: bool = True
    auto_accept: bool = True

    @field_validator("time_zone")
    @classmethod
    def _is_zone(cls, name: str) -> str:
        zone(name)
        return name


class Address(Model):
    name: str
    address: str

    def as_json(self) -> Properties:
        return {"emailAddress": {"name": self.name, "address": self.address}}


@dataclass
class SeriesException:
    """How one occurrence differs from its series."""

    changes: Properties
    when: When
    version: int
    modified: datetime


@dataclass
class Item:
    """An event as one mailbox stores it: a single one, or a series with what is special about its occurrences.

    `version` is the change that saved it last. `generation` goes up whenever a series gets new times: then every
    occurrence is another one. `properties` are those of Graph that need no working out.
    """

    guid: UUID
    uid: str
    organizer: Address
    is_organizer: bool
    properties: Properties
    when: When
    created: datetime
    modified: datetime
    recurrence: Properties | None = None
    generation: int = 0
    exceptions: dict[datetime, SeriesException] = field(default_factory=dict)
    cancelled: set[datetime] = field(default_factory=set)
    version: int = 0
    moves: int = 0
    sequence: int = 0

    def copied(self) -> "Item":
        """The item as it is now. Values of properties are replaced, never changed, so the copy may share them."""
        exceptions = {slot: replace(each, changes=dict(each.changes)) for slot, each in self.exceptions.items()}
        return replace(self, properties=dict(self.properties), exceptions=exceptions, cancelled=set(self.cancelled))


@dataclass(frozen=True)
class Change:
    """One step of a mailbox's log. `before` is the series as it was, where its occurrences are no longer the same.

    `slot` is the only occurrence that changed, None where the whole item did; `generation` is that of the series then.
    """

    item: UUID
    before: Item | None = None
    slot: datetime | None = None
    generation: int = 0


@dataclass
class Mailbox:
    """One mailbox and its only calendar; `log` is what delta queries are answered from.

    `denied`: no app may touch it. `transactions` remembers which item every transactionId made, from which body.
    """

    guid: UUID
    owner: Address
    room: Room | None = None
    time_zone: str = "UTC"
    hosting: Hosting = "cloud"
    denied: bool = False
    no_subscriptions: bool = False
    items: dict[UUID, Item] = field(default_factory=dict)
    log: list[Change] = field(default_factory=list)
    transactions: dict[str, tuple[UUID, str]] = field(default_factory=dict)
    rounds: OrderedDict[int, Any] = field(default_factory=OrderedDict)
    serial_of_rounds: int = 0
    generations: int = 0
    serial: int = 0

    def by_uid(self, uid: str) -> Item | None:
        return next((item for item in self.items.values() if item.uid == uid), None)

    def next_guid(self) -> UUID:
        self.serial += 1
        return uuid5(self.guid, str(self.serial))


@dataclass
class Exchange:
    """`version` counts every save in the organisation. `delay_ms` is how long a meeting message is under way; None:
    until somebody lets it through. `outsiders` are organizers elsewhere, by address."""

    rooms: dict[UUID, Mailbox] = field(default_factory=dict)
    people: dict[UUID, Mailbox] = field(default_factory=dict)
    outsiders: dict[str, Mailbox] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    outbox: Outbox = field(default_factory=Outbox)
    version: int = 0
    delay_ms: float | None = 0
    messages: deque[Any] = field(default_factory=deque)
    writes: deque[Properties] = field(default_factory=lambda: deque(maxlen=WRITES_KEPT))
    _addresses: dict[str, UUID] = field(default_factory=dict)

    def add_room(self, tenant_id: str, room: Room) -> Mailbox:
        """Raises ValueError where the address is taken."""
        address = room.email_address.lower()
        if address in self._addresses:
            raise ValueError(f"{address} is taken")
        if not room.id:
            room.id = str(uuid5(UUID(tenant_id), address))
        owner = Address(name=room.display_name, address=room.email_address)
        mailbox = Mailbox(UUID(room.id), owner, room, room.time_zone)
        self.rooms[mailbox.guid] = mailbox
        self._addresses[address] = mailbox.guid
        return mailbox

    def rename_room(self, mailbox: Mailbox, room: Room) -> None:
        """The mailbox is what `room` says, which may have another address: the old one leads to it, too (Learn: Add or
        remove email addresses for a mailbox). Raises ValueError where that is taken.
        """
        if self._addresses.setdefault(room.email_address.lower(), mailbox.guid) != mailbox.guid:
            raise ValueError(f"{room.email_address} is taken")
        mailbox.room, mailbox.time_zone = room, room.time_zone
        mailbox.owner = Address(name=room.display_name, address=room.email_address)

    def remove_room(self, mailbox: Mailbox) -> None:
        del self.rooms[mailbox.guid]
        self._addresses = {address: guid for address, guid in self._addresses.items() if guid != mailbox.guid}

    def room(self, key: str) -> Mailbox | None:
        """A room by its address or its mailbox's id."""
        if key.lower() in self._addresses:
            return self.rooms[self._addresses[key.lower()]]
        return self.rooms.get(UUID(key)) if GUID.fullmatch(key.lower()) else None

    def next_version(self) -> int:
        self.version += 1
        return self.version

    def __iter__(self) -> Iterator[Mailbox]:
        """The mailboxes inside the organisation that anybody has asked for."""
        yield from self.rooms.values()
        yield from self.people.values()

    def by_guid(self, guid: UUID) -> Mailbox | None:
        return self.rooms.get(guid) or self.people.get(guid) or self._outsider(guid)

    def _outsider(self, guid: UUID) -> Mailbox | None:
        return next((each for each in self.outsiders.values() if each.guid == guid), None)

    def outsider(self, address: Address) -> Mailbox:
        """The calendar of somebody who organizes meetings from elsewhere."""
        key = address.address.lower()
        return self.outsiders.setdefault(key, Mailbox(uuid5(NAMESPACE_OID, key), address, hosting="elsewhere"))
