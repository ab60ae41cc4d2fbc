"""A small world of rooms and people for the calendars' property test: what may happen in it, and what must hold.

Outlook is the control endpoint of the simulated Exchange, the portal is the HTTP API. `settle` lets everything come to
rest; `judge` compares both sides then.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

from sync import jobs
from sync.calendars.model import PLACEHOLDER, PRIVATE, Policy, Reservation
from sync.calendars.store import load_reservations
from sync.errors import TenantsyncError
from tests.cloud import TestTenant
from tests.dying import Killed, Reaper, process
from tests.house import House

ROOMS = ("a", "b", "c")
ROLES = ["Calendars.ReadWrite", "Place.Read.All"]
FULL_EVERY = timedelta(minutes=11)
POLL_EVERY = timedelta(minutes=16)
SYNC_CAUSES = ("local", "lost-clash", "moved")
Json = dict[str, Any]


@dataclass
class World:
    house: House
    tenant: TestTenant
    name: str
    flags: dict[str, bool]
    trace: list[str] = field(default_factory=list)
    ended: set[tuple[str, str]] = field(default_factory=set)
    looked: int = 0

    def __post_init__(self) -> None:
        shown = self.tenant.control.get("rooms")
        self.mailboxes = {room: one["emailAddress"] for room, one in zip(ROOMS, shown, strict=False)}
        people = self.tenant.control.get("users", state="live")
        self.people = sorted(user["mail"] for user in people if user.get("mail"))[:3]
        self.base = (datetime.now(UTC) + timedelta(days=3)).replace(hour=0, minute=0, second=0, microsecond=0)
        self.tenant.control.patch(f"mailboxes/{self.people[-1]}", {"denied": True})
        self.tenant.control.post("meetings", {"delayMs": "manual"})
        self.tenant.control.post("notifications", {"mode": "collect"})
        self.set_flags()
        for room, address in self.mailboxes.items():
            body = {"displayName": room, "externalCalendar": address, "active": True, "timeZone": "America/New_York"}
            assert self.house.call("PUT", f"{self.path}/rooms/{room}", body).status == 201
        self.house.work()

    @property
    def path(self) -> str:
        return f"connections/{self.name}"

    @property
    def policy(self) -> Policy:
        return Policy(self.flags["delegation"], self.flags["strictMode"], self.flags["createOnUserCalendar"])

    def set_flags(self) -> None:
        self.house.enable(self.name, "calendars", **self.flags)

    def slot(self, number: int) -> tuple[Json, Json]:
        """One of 12 hours on three days, in UTC: few enough that meetings meet."""
        start = self.base + timedelta(days=number // 4 % 3, hours=14 + number % 4)
        return when(start), when(start + timedelta(hours=1))

    def weekly(self, number: int) -> Json:
        start = self.base + timedelta(days=number // 4 % 3, hours=14 + number % 4)
        pattern = {"type": "weekly", "interval": 1, "daysOfWeek": [start.strftime("%A").lower()]}
        span = {"type": "numbered", "numberOfOccurrences": 3, "startDate": start.date().isoformat()}
        return {"pattern": pattern, "range": span}

    # --- what the portal does ----------------------------------------------------------------------------------------

    def portal_create(self, room: int, slot: int, title: str, who: int, *, series: bool = False) -> None:
        start, end = self.slot(slot)
        address = self.people[who % len(self.people)]
        body: Json = {"title": title, "start": start, "end": end, "owner": {"name": "Owner", "email": address}}
        if series:
            body |= {"recurrence": self.weekly(slot), "organizer": "room"}
        answer = self.house.call("POST", f"{self.path}/rooms/{a_room(room)}/reservations", body)
        assert answer.status in (201, 409), answer.content

    def portal_edit(self, pick: int, body: Json) -> None:
        one = self.pick(pick)
        if one is not None:
            answer = self.house.call("PATCH", f"{self.path}/rooms/{one.room}/reservations/{one.id}", body)
            assert answer.status in (200, 404, 409) or (answer.status == 422 and one.kind == "series"), (
                one,
                answer.content,
            )
        self.note_ended()

    def portal_move(self, pick: int, slot: int) -> None:
        start, end = self.slot(slot)
        self.portal_edit(pick, {"start": start, "end": end})

    def portal_room(self, pick: int, room: int) -> None:
        one = self.pick(pick)
        if one is not None and one.kind == "single":
            self.portal_edit(pick, {"room": a_room(room)})

    def portal_cancel(self, pick: int) -> None:
        one = self.pick(pick)
        if one is not None:
            answer = self.house.call("DELETE", f"{self.path}/rooms/{one.room}/reservations/{one.id}")
            assert answer.status in (204, 404, 409), (one, answer.content)
            self.note_ended()

    def pick(self, number: int) -> Reservation | None:
        live = sorted((one for one in self.reservations() if one.live), key=lambda one: (one.created_at, one.id))
        return live[number % len(live)] if live else None

    def reservations(self) -> list[Reservation]:
        data = self.house.app.tables.data
        return [one for room in ROOMS for one, _ in load_reservations(data, self.name, room)]

    # --- what happens in Outlook -------------------------------------------------------------------------------------

    def outlook_create(self, who: int, room: int, slot: int, title: str, *, series: bool = False) -> None:
        start, end = self.slot(slot)
        invited = {"type": "resource", "emailAddress": {"address": self.mailboxes[a_room(room)], "name": "Room"}}
        body: Json = {"subject": title, "start": start, "end": end, "attendees": [invited]}
        if series:
            body["recurrence"] = self.weekly(slot)
        self.outlook("POST", self.people[who % len(self.people)], "", body)

    def room_create(self, room: int, slot: int, title: str) -> None:
        """Somebody with rights on the room's calendar writes into it, where it is free."""
        start, end = self.slot(slot)
        address = self.mailboxes[a_room(room)]
        taken = [each for each in self.room_events(address) if overlap(each, start, end)]
        if not taken:
            self.outlook("POST", address, "", {"subject": title, "start": start, "end": end})

    def outlook_change(self, pick: int, body: Json) -> None:
        for mailbox, event in self.own_event(pick):
            self.outlook("PATCH", mailbox, f"/{event['id']}", body)

    def outlook_move(self, pick: int, slot: int) -> None:
        start, end = self.slot(slot)
        for mailbox, event in self.own_event(pick):
            others = [each for each in self.room_events(mailbox) if each["id"] != event["id"]]
            if mailbox in self.people or not any(overlap(each, start, end) for each in others):
                self.outlook("PATCH", mailbox, f"/{event['id']}", {"start": start, "end": end})

    def outlook_move_occurrence(self, pick: int, minutes: int) -> None:
        for mailbox, event in self.own_event(pick):
            for part in event.get("instances", [])[1:2]:
                start = read(part["start"]) + timedelta(minutes=minutes)
                body = {"start": when(start), "end": when(start + timedelta(hours=1))}
                if mailbox in self.people:
                    self.outlook("PATCH", mailbox, f"/{part['id']}", body)

    def outlook_delete_occurrence(self, pick: int) -> None:
        for mailbox, event in self.own_event(pick):
            for part in event.get("instances", [])[:1]:
                self.outlook("DELETE", mailbox, f"/{part['id']}", None)

    def outlook_delete(self, pick: int) -> None:
        for mailbox, event in self.own_event(pick):
            self.outlook("DELETE", mailbox, f"/{event['id']}", None)

    def outlook(self, method: str, mailbox: str, rest: str, body: Json | None) -> None:
        """As Outlook would; what Exchange refuses does not happen."""
        with suppress(AssertionError):
            self.tenant.control._call(method, f"mailboxes/{mailbox}/events{rest}", **({"json": body} if body else {}))

    def own_event(self, pick: int) -> Iterator[tuple[str, Json]]:
        """One of the events that are their mailbox's own, people's first."""
        own = [
            (mailbox, event)
            for mailbox in (*self.people, *self.mailboxes.values())
            for event in sorted(self.events(mailbox), key=lambda each: (each["createdDateTime"], each["iCalUId"]))
            if event["isOrganizer"] and not event["isCancelled"]
        ]
        if own:
            yield own[pick % len(own)]

    def events(self, mailbox: str) -> list[Json]:
        start, end = self.base - timedelta(days=1), self.base + timedelta(days=60)
        found: list[Json] = self.tenant.control.get(
            f"mailboxes/{mailbox}/events", start=start.isoformat(), end=end.isoformat()
        )
        return found

    def room_events(self, address: str) -> list[Json]:
        """Everything that takes place in a room: singles and instances that are not cancelled."""
        found: list[Json] = []
        for event in self.events(address) if address in self.mailboxes.values() else []:
            if not event["isCancelled"]:
                found += event["instances"] if event["type"] == "seriesMaster" else [event]
        return found

    # --- what the machines do ----------------------------------------------------------------------------------------

    def deliver(self, count: int) -> None:
        self.tenant.control.post("meetings/deliver", {"count": count})

    def notify(self, count: int) -> None:
        """Graph tells of what has changed, of some of it thrice or never."""
        self.tenant.control.post(
            "faults", {"notificationCopies": [3, 3], "notificationLoss": 0.3, "seed": len(self.trace)}
        )
        self.tenant.control.post("notifications/deliver", {"count": count})
        self.tenant.control.post("faults", {})
        self.work()

    def work(self) -> None:
        self.house.work()
        self.judge_access()
        self.note_ended()

    def note_ended(self) -> None:
        """The events that may be deleted from now on: their reservations were cancelled, moved away, or lost a clash."""
        held = self.reservations()
        series = {one.id: one.link.ical for one in held if one.kind == "series"}
        for one in held:
            if one.link.cause.partition(":")[0] in SYNC_CAUSES:
                self.ended |= {(one.link.room_event, ""), (one.link.organizer_event, "")}
                if one.original_start:  # in its organizer's calendar it has an id that nobody keeps
                    self.ended.add((series.get(one.series, ""), one.original_start.isoformat()))

    def sync(self, mode: str = "delta") -> None:
        if mode == "full":
            self.advance(FULL_EVERY)
        answer = self.house.call("POST", f"{self.path}/syncs/calendars/runs", {"mode": mode})
        assert answer.status in (202, 429), answer.content
        self.work()

    def crash(self, after: int) -> None:
        """A worker dies after so many writes; its message comes back when its lease is over."""
        self.house.call("POST", f"{self.path}/syncs/calendars/runs", {})
        messages = list(self.house.messages())
        for message in messages:
            with suppress(Killed), process(Reaper(after)):
                jobs.work(self.house.app, message)
        self.advance(timedelta(minutes=2))
        for message in messages:
            jobs.work(self.house.app, message)
        self.work()

    def flip(self, flag: str) -> None:
        self.work()
        self.flags = {**self.flags, flag: not self.flags[flag]}
        self.set_flags()

    def fault(self, **faults: Any) -> None:
        """Bad weather for one sync."""
        self.tenant.control.post("faults", {"seed": len(self.trace), **faults})
        with suppress(TenantsyncError):
            self.sync()
        self.tenant.control.post("faults", {})

    def expire(self) -> None:
        self.tenant.control.post("expire", {"delta": True})

    def advance(self, time: timedelta) -> None:
        self.house.clock.ahead += time
        self.tenant.control.post("clock", {"advanceSeconds": time.total_seconds()})

    # --- rest --------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Deliver, poll and send until nothing changes any more."""
        self.tenant.control.post("faults", {})
        before = None
        for _ in range(12):
            self.tenant.control.post("meetings/deliver", {})
            self.advance(POLL_EVERY)
            self.sync()
            after = self.digest()
            if after == before and not self.tenant.control.get("meetings/pending"):
                return
            before = after
        raise AssertionError("it does not come to rest")

    def digest(self) -> str:
        rooms = [self.room_events(address) for address in self.mailboxes.values()]
        return json.dumps(rooms, sort_keys=True) + repr(self.stored())

    def stored(self) -> list[tuple[Reservation, str]]:
        data = self.house.app.tables.data
        return [each for room in ROOMS for each in load_reservations(data, self.name, room)]

    # --- what must hold ----------------------------------------------------------------------------------------------

    def judge_access(self) -> None:
        """I4: no call to a user's mailbox that the settings of the moment do not allow; told after every run."""
        calls = self.tenant.control.get("journal")
        fresh, self.looked = calls[self.looked :] if self.looked <= len(calls) else calls, len(calls)
        for call in fresh:
            mailbox = mailbox_of(call["url"])
            if mailbox is None or mailbox in self.mailboxes.values():
                continue
            allowed = {
                "GET": self.policy.read_user,
                "POST": self.policy.create_on_user,
            }.get(call["method"], self.policy.write_user)
            assert allowed, ("I4", call["method"], call["url"], self.flags)

    def judge(self, *, reread: bool = False) -> None:
        """Every other invariant, at rest. Titles that could not be read before are compared once a full sync has `reread`
        them.
        """
        writes = self.tenant.control.get("calendar-writes")
        held = self.reservations()
        for room, address in self.mailboxes.items():
            events = self.room_events(address)
            active = [one for one in held if one.room == room and one.live and one.kind != "series"]
            active = [one for one in active if one.status != "awaitingRoom" or self.may_read(one)]
            unread = set() if reread else {one.id for one in held if one.link.unread}
            self.judge_room(events, active, unread)
            self.judge_overlaps(events, active)
        self.judge_writes(writes)
        self.judge_creates(held)
        assert not [one for one in held if one.link.state in ("creating", "updating", "deleting")], "it waits for ever"

    def may_read(self, one: Reservation) -> bool:
        """Whether anybody can tell what became of a meeting that its room has not answered."""
        return self.policy.read_user and one.link.organizer_address != self.people[-1]

    def judge_room(self, events: list[Json], active: list[Reservation], unread: set[str]) -> None:
        by_event = Counter(one.link.room_event for one in active)
        assert by_event == Counter(event["id"] for event in events), ("I1", by_event, [e["id"] for e in events])
        shown = {one.link.room_event: one for one in active}
        for event in events:
            one = shown[event["id"]]
            assert (one.times.start, one.times.end) == (read(event["start"]), read(event["end"])), ("I2", one, event)
            organizer = event["organizer"]["emailAddress"]["address"].lower()
            self.judge_notes(one, event)
            if organizer in self.mailboxes.values():
                assert one.title == event["subject"], ("I2", one, event)
                assert event["attendees"] == [], ("I2", one, event)
                continue
            assert one.owner is not None
            assert one.owner.email.lower() == organizer, ("I6", one, event)
            if self.may_read(one) and not {one.id, one.series} & unread:
                own = self.organizers_copy(organizer, event)
                assert one.title == own["subject"], ("I2", one, event)
                people = {each["emailAddress"]["address"] for each in own["attendees"] if each["type"] != "resource"}
                assert {person.email for person in one.attendees} == people, ("I2", one, own)

    def judge_notes(self, one: Reservation, event: Json) -> None:
        """I2: the text of what the portal made, but for occurrences that have one of their own."""
        if one.origin == "portal" and one.kind in ("single", "occurrence"):
            own = self.organizers_copy(event["organizer"]["emailAddress"]["address"], event)
            assert one.notes in own["body"]["content"], ("I2", one, own)
            assert one.notes or not own["body"]["content"], ("I2", one, own)

    def organizers_copy(self, organizer: str, event: Json) -> Json:
        events = self.events(organizer)
        parts: list[Json] = [part for own in events for part in (own, *own.get("instances", []))]
        for part in parts:
            if part["iCalUId"] == event["iCalUId"]:
                return part
        return {"subject": "(no copy)", "attendees": [], "body": {"content": ""}}

    def judge_overlaps(self, events: list[Json], active: list[Reservation]) -> None:
        """I8: what the portal made never lies over an older meeting."""
        shown = {one.link.room_event: one for one in active}
        for one in events:
            ours = shown[one["id"]]
            if ours.origin != "portal" or ours.link.organizer != "room":
                continue
            for other in events:
                if other["id"] != one["id"] and overlap(other, one["start"], one["end"]):
                    theirs = shown[other["id"]]
                    assert ours.link.created_at and theirs.link.created_at
                    assert ours.link.created_at < theirs.link.created_at, ("I8", ours, theirs)

    def judge_writes(self, writes: list[Json]) -> None:
        for write in writes:
            if write["eventId"]:
                assert write["isOrganizer"], ("I5", write)
            text = json.dumps(write["body"])
            assert PLACEHOLDER not in text, ("I7", write)
            assert PRIVATE not in text, ("I7", write)
            if write["method"] == "DELETE" and write["eventId"]:
                known = {(write["eventId"], ""), (write["iCalUId"], write["originalStart"])}
                assert known & self.ended, ("I3", write)

    def judge_creates(self, held: list[Reservation]) -> None:
        """I10 and I11."""
        tied = Counter((one.room, one.link.room_event) for one in held if one.link.room_event and one.live)
        assert all(count == 1 for count in tied.values()), ("I10", tied)
        sent: Counter[str] = Counter()
        for mailbox in (*self.people, *self.mailboxes.values()):
            for event in self.events(mailbox):
                if event["isOrganizer"] and event.get("transactionId") and not event["isCancelled"]:
                    sent[event["transactionId"]] += 1
        assert all(count == 1 for count in sent.values()), ("I11", sent)
        bound = {one.link.transaction: one for one in held if one.link.transaction}
        for transaction in sent:
            assert transaction in bound, ("I11", transaction)


def a_room(number: int) -> str:
    return ROOMS[number % len(ROOMS)]


def when(at: datetime) -> Json:
    return {"dateTime": at.strftime("%Y-%m-%dT%H:%M:%S"), "timeZone": "UTC"}


def read(value: Json) -> datetime:
    assert value["timeZone"] == "UTC"
    return datetime.fromisoformat(value["dateTime"][:19]).replace(tzinfo=UTC)


def overlap(event: Json, start: Json, end: Json) -> bool:
    return read(event["start"]) < read(end) and read(start) < read(event["end"])


def mailbox_of(url: str) -> str | None:
    """Whose mailbox a call went to, if any."""
    parts = unquote(url).partition("?")[0].removeprefix("/v1.0").strip("/").split("/")
    return parts[1].lower() if len(parts) > 2 and parts[0] == "users" else None
