"""An office for the calendars' cases: a tenant with rooms and people, what happens in Outlook, what the portal asks for.

Outlook is the control endpoint of the simulated Exchange, the portal is the HTTP API. The clock stands at noon (UTC) of
the day after today, so that no test meets a midnight by chance.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import pytest

from storage.tables import Write
from sync import jobs
from sync.calendars import store
from sync.calendars.model import Reservation, RoomState
from sync.errors import Deferred
from sync.graph.client import GraphClient
from tests.cloud import NewTenant, TestTenant
from tests.house import Answer, House

Json = dict[str, Any]
NAME = "primary"
ROLES = ["Calendars.ReadWrite", "Place.Read.All"]
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

# What is asked of Graph, as the journal of the simulated cloud names it.
DELTA, VIEW = "GET /users/{id}/calendarView/delta", "GET /users/{id}/calendarView"
GET, SEARCH = "GET /users/{id}/events/{event}", "GET /users/{id}/events"
INSTANCES, BATCH = "GET /users/{id}/events/{event}/instances", "POST /$batch"
POST = "POST /users/{id}/events"
PATCH, DELETE = "PATCH /users/{id}/events/{event}", "DELETE /users/{id}/events/{event}"


def graph_time(at: datetime, zone: str = "UTC") -> Json:
    """An instant as Graph and the portal write it."""
    wall = at.astimezone(ZoneInfo(zone))
    return {"dateTime": wall.strftime("%Y-%m-%dT%H:%M:%S"), "timeZone": zone}


def span(start: datetime, hours: float = 1, zone: str = "UTC") -> Json:
    return {"start": graph_time(start, zone), "end": graph_time(start + timedelta(hours=hours), zone)}


def weekly(start: datetime, count: int | None = 4, zone: str = "UTC") -> Json:
    """A weekly recurrence from the day of `start` on; without an end where there is no count."""
    day = start.astimezone(ZoneInfo(zone))
    pattern = {"type": "weekly", "interval": 1, "daysOfWeek": [day.strftime("%A").lower()]}
    limit = {"type": "noEnd"} if count is None else {"type": "numbered", "numberOfOccurrences": count}
    return {"pattern": pattern, "range": {**limit, "startDate": day.strftime("%Y-%m-%d")}}


def room_attendee(address: str) -> Json:
    return {"type": "resource", "emailAddress": {"address": address, "name": "Room"}}


@dataclass
class Office:
    """`rooms` are the addresses of the tenant's rooms, `people` those of its users, `today` is when it was opened."""

    house: House
    tenant: TestTenant
    rooms: list[str]
    people: list[str]
    names: Mapping[str, str]
    today: datetime
    _linked: dict[str, str] = field(default_factory=dict)
    _cursor: str = ""

    # --- time --------------------------------------------------------------------------------------------------------

    @property
    def noon(self) -> datetime:
        """Two days later: what is booked without a time is booked for then."""
        return self.today + 2 * DAY

    def now(self) -> datetime:
        return self.house.clock()

    def advance(self, time: timedelta) -> None:
        """Both sides' clocks."""
        self.house.clock.ahead += time
        self.tenant.control.post("clock", {"advanceSeconds": time.total_seconds()})

    # --- the portal --------------------------------------------------------------------------------------------------

    def link(self, room: str = "oak", number: int = 0, **fields: Any) -> str:
        """Link a room to the tenant's room with this number, by the API, and let its first run come to an end."""
        address = self.rooms[number]
        self._linked[room] = address
        body = {"displayName": room.title(), "calendarType": "office365", "externalCalendar": address, "active": True}
        answer = self.portal("PUT", f"rooms/{room}", {**body, "timeZone": "UTC", **fields})
        assert answer.status in (200, 201), answer.content
        self.house.work()
        return address

    def portal(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        return self.house.call(method, f"connections/{NAME}/{path}", body, **headers)

    def room(self, room: str = "oak") -> Json:
        shown: Json = self.house.get(f"connections/{NAME}/rooms/{room}")
        return shown

    def status(self, room: str = "oak") -> tuple[str, str | None]:
        shown = self.room(room)
        return shown["status"], shown["statusDetail"]

    def settings(self, flags: str = "000", **more: Any) -> None:
        """D, S and C as the reference writes them."""
        names = ("delegation", "strictMode", "createOnUserCalendar")
        self.house.enable(NAME, "calendars", **dict(zip(names, (one == "1" for one in flags), strict=True)), **more)

    def book(self, room: str = "oak", start: datetime | None = None, **fields: Any) -> Json:
        """A reservation made in the portal, not sent yet."""
        answer = self.ask_to_book(room, start, **fields)
        assert answer.status == 201, answer.content
        made: Json = answer.json
        return made

    def ask_to_book(
        self, room: str = "oak", start: datetime | None = None, *, zone: str = "UTC", **fields: Any
    ) -> Answer:
        body = {"title": "Planning", **span(start or self.noon, zone=zone), **fields}
        return self.portal("POST", f"rooms/{room}/reservations", body)

    def edit(self, one: Json, in_room: str = "oak", /, **fields: Any) -> Json:
        answer = self.ask_to_edit(one, in_room, **fields)
        assert answer.status == 200, answer.content
        made: Json = answer.json
        return made

    def ask_to_edit(self, one: Json, in_room: str = "oak", /, **fields: Any) -> Answer:
        return self.portal("PATCH", f"rooms/{in_room}/reservations/{one['id']}", fields)

    def cancel(self, one: Json, room: str = "oak") -> None:
        answer = self.ask_to_cancel(one, room)
        assert answer.status == 204, answer.content

    def ask_to_cancel(self, one: Json, room: str = "oak") -> Answer:
        return self.portal("DELETE", f"rooms/{room}/reservations/{one['id']}")

    def reservations(self, room: str = "oak", **query: str) -> list[Json]:
        """What the portal shows, in the order of time."""
        asked = "&".join(f"{name}={value}" for name, value in {"top": "1000", **query}.items())
        answer = self.house.get(f"connections/{NAME}/rooms/{room}/reservations?{asked}")
        assert answer["next"] is None
        items: list[Json] = answer["items"]
        return items

    def only(self, room: str = "oak", **query: str) -> Json:
        """The one reservation that there is."""
        [one] = self.reservations(room, **query)
        return one

    def again(self, one: Json, room: str = "oak") -> Json:
        """The reservation as it is now, also an ended one."""
        shown: Json = self.house.get(f"connections/{NAME}/rooms/{room}/reservations/{one['id']}?status=any")
        return shown

    def changes(self) -> list[tuple[str, str]]:
        """What the portal was told of reservations since it last asked."""
        found, self._cursor = self.house.changes(NAME, self._cursor)
        return [(one["id"], one["change"]) for one in found if one["entity"] == "reservation"]

    # --- what happens in Outlook -------------------------------------------------------------------------------------

    def meet(self, who: int = 0, *rooms: str, start: datetime | None = None, zone: str = "UTC", **body: Any) -> Json:
        """Somebody books rooms (oak's) for a meeting; their own event."""
        invited = [room_attendee(self._linked.get(room, room)) for room in rooms or ("oak",)]
        event = {"subject": "Planning", **span(start or self.noon, zone=zone), "attendees": invited, **body}
        return self.outlook("POST", self.people[who], "", event)

    def outlook(self, method: str, mailbox: str, event: str = "", body: Json | None = None) -> Json:
        """The owner of a mailbox (an address, or the name of a linked room) does something to their event."""
        path = f"mailboxes/{self._linked.get(mailbox, mailbox)}/events" + (f"/{event}" if event else "")
        made: Json = self.tenant.control._call(method, path, **({} if body is None else {"json": body}))
        return made

    def change(self, who: int, event: Json, **body: Any) -> Json:
        return self.outlook("PATCH", self.people[who], event["id"], body)

    def call_off(self, who: int, event: Json) -> None:
        self.outlook("DELETE", self.people[who], event["id"])

    def events(self, mailbox: str = "oak", days: int = 60) -> list[Json]:
        """What a calendar holds: single events and the instances of series, in the order of time."""
        address = self._linked.get(mailbox, mailbox)
        start = self.today - 2 * DAY
        query = {"start": start.isoformat(), "end": (start + days * DAY).isoformat()}
        found = self.tenant.control.get(f"mailboxes/{address}/events", **query)
        flat = [
            part
            for one in found
            for part in (one["instances"] if one["type"] == "seriesMaster" else [one])
            if not part["isCancelled"]
        ]
        return sorted(flat, key=lambda one: (one["start"]["dateTime"], one["id"]))

    def masters(self, mailbox: str = "oak") -> list[Json]:
        found = self.tenant.control.get(f"mailboxes/{self._linked.get(mailbox, mailbox)}/events")
        return [one for one in found if one["type"] == "seriesMaster"]

    def deny(self, whom: str, **change: Any) -> None:
        """A mailbox refuses every app with 403, or whatever else is to change about it."""
        self.tenant.control.patch(f"mailboxes/{self._linked.get(whom, whom)}", change or {"denied": True})

    # --- runs --------------------------------------------------------------------------------------------------------

    def sync(self, **body: Any) -> Json:
        """What waits is sent, then a run as somebody starts it by hand: it reads every room."""
        self.send()
        run: Json = self.house.run(NAME, "calendars", **body)
        return run

    def send(self) -> None:
        """The runs that were asked for are over: those of the portal's changes above all."""
        self.house.work()

    def full(self) -> Json:
        """A full sync, long enough after the last one."""
        self.advance(timedelta(minutes=10))
        return self.sync(mode="full")

    def hear(self, *rooms: str) -> None:
        """A notification of Graph about these rooms came in, and its run is over."""
        data = self.house.app.tables.data
        data.commit(NAME, [Write("replace", store.heard_key(room), {"at": self.now()}) for room in rooms or ("oak",)])
        self.wake()

    def wake(self) -> None:
        """What a delayed message does once it is seen: a run for what waits."""
        jobs.start_waiting(self.house.app, NAME, "calendars")
        self.house.work()

    def state(self, room: str = "oak") -> RoomState:
        return store.load_state(self.house.app.tables.data, NAME, room)[0]

    def stored(self, one: Json, room: str = "oak") -> Reservation:
        found = store.load_reservation(self.house.app.tables.data, NAME, room, one["id"])
        assert found
        return found[0]

    # --- what it took ------------------------------------------------------------------------------------------------

    @contextmanager
    def counting(self) -> Iterator["Count"]:
        """What is asked of Graph, written to it, and written here meanwhile."""
        self.tenant.control.delete("calendar-writes")
        journal = self.tenant.control.get("journal", last=1)
        count = Count()
        before = _rows(self)
        yield count
        entries = self.tenant.control.get("journal", last=1000)
        marker = journal[-1]["requestId"] if journal else None
        known = next((at for at, one in enumerate(entries) if one["requestId"] == marker), -1)
        count.calls = [one for one in entries[known + 1 :] if one["status"] != 401]
        count.graph_writes = self.tenant.control.get("calendar-writes")
        count.rows = {key for key, etag in _rows(self).items() if before.get(key) != etag}


# The fixture `make_office`: settings as the reference writes them, then what new_tenant takes.
Make = Callable[..., Office]


def _rows(office: Office) -> dict[str, str]:
    return {row["key"]: row["etag"] for row in office.house.app.tables.data.scan(NAME, store.RESERVATION)}


@dataclass
class Count:
    """`calls` are requests and items of batches as the cloud's journal has them, `rows` the reservations written here."""

    calls: list[Json] = field(default_factory=list)
    graph_writes: list[Json] = field(default_factory=list)
    rows: set[str] = field(default_factory=set)

    @property
    def requests(self) -> int:
        """HTTP requests, a batch being one."""
        return sum(not one["inBatch"] for one in self.calls)

    @property
    def by_template(self) -> Counter[str]:
        return Counter(one["template"] for one in self.calls)

    def to(self, mailbox: str) -> list[str]:
        """What was asked of one mailbox: the templates."""
        return [one["template"] for one in self.calls if f"users/{mailbox}/" in unquote(one["url"])]

    @property
    def writes(self) -> list[tuple[str, str, set[str]]]:
        """(method, mailbox, fields) of everything that was written to events."""
        return [(one["method"], one["mailbox"], set(one["body"] or ())) for one in self.graph_writes]


def lose_answers(office: Office, monkeypatch: pytest.MonkeyPatch, *, made: bool = True) -> None:
    """Send what waits; Graph's answers to writes are lost, after they were `made` or before."""
    real = GraphClient.write

    def lost(self: GraphClient, method: Any, path: str, *args: Any, **kwargs: Any) -> Json:
        if made:
            real(self, method, path, *args, **kwargs)
        raise Deferred("Graph did not answer", until=office.now())

    with monkeypatch.context() as patch:
        patch.setattr(GraphClient, "write", lost)
        office.send()


@pytest.fixture
def make_office(house: House, new_tenant: NewTenant) -> Make:
    """Makes the office: a connected tenant of three people and two rooms, the sync on, no room linked yet."""

    own = house

    def make(flags: str = "000", *, house: House = own, **population: Any) -> Office:
        tenant = new_tenant(
            **{"users": 3, "rooms": 2, "roles": ROLES, "guestShare": 0, "disabledShare": 0, **population}
        )
        house.connect(tenant, NAME)
        people = sorted(tenant.control.get("users", state="live"), key=lambda one: one["mail"])
        rooms = sorted(one["emailAddress"] for one in tenant.control.get("rooms"))
        mails = [one["mail"] for one in people]
        now = datetime.now(UTC)
        today = (now + DAY).replace(hour=12, minute=0, second=0, microsecond=0)
        office = Office(house, tenant, rooms, mails, {one["mail"]: one["displayName"] for one in people}, today)
        office.advance(today - now)
        office.settings(flags)
        return office

    return make


@pytest.fixture
def office(make_office: Make) -> Office:
    """An office with the room oak linked to its first room, all settings off."""
    return opened(make_office, "000")


def starts(office: Office) -> list[str]:
    """When the reservations of oak begin, as `at_noon` writes it."""
    return starts_of(office.reservations())


def starts_of(reservations: list[Json]) -> list[str]:
    return [one["start"]["dateTime"][:16] for one in reservations]


def at_noon(office: Office, *offsets: timedelta) -> list[str]:
    """So long after the office's noon."""
    return [graph_time(office.noon + each)["dateTime"][:16] for each in offsets]


def weeks(office: Office, *numbers: int) -> list[str]:
    return at_noon(office, *(number * 7 * DAY for number in numbers))


def opened(make_office: Make, flags: str) -> Office:
    """An office with these settings, the room oak linked to its first room."""
    made = make_office(flags)
    made.link()
    return made
