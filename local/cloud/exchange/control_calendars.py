"""Rooms, mailboxes, their events and meeting messages at the control endpoint; local/cloud/control.py lists the calls."""

from collections.abc import Callable
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from local.cloud.exchange import booking, changes, meetings
from local.cloud.exchange.access import display_name, find_mailbox
from local.cloud.exchange.drafts import read_draft
from local.cloud.exchange.events import find_event
from local.cloud.exchange.ids import ItemId
from local.cloud.exchange.mailbox import Address, Hosting, Item, Mailbox, Properties, Room
from local.cloud.exchange.series import Occurrence, held_of, occurrence, occurrences
from local.cloud.exchange.shape import NAMES, ON_REQUEST, View, render
from local.cloud.exchange.zones import UTC_NAME, read_instant
from local.cloud.model import Model
from local.cloud.tenants import Tenant

Find = Callable[[web.Request], Tenant]
PLAIN = View(UTC_NAME, immutable=True, body_type=None, page_size=None, applied="")
ANSWERS = {"accept": "accepted", "decline": "declined", "tentativelyAccept": "tentativelyAccepted"}


class MailboxChange(Model):
    """What is given is set, the rest stays."""

    denied: bool = False
    no_subscriptions: bool = False
    mailbox: Hosting = "cloud"
    time_zone: str = UTC_NAME


class Meetings(Model):
    delay_ms: float | Literal["manual"]


class Deliver(Model):
    count: int | None = Field(default=None, ge=0)


class Quirks(Model):
    """How this copy of an event shows its time zones, whatever they are."""

    original_time_zone: str | None = None
    recurrence_time_zone: str | None = None


def routes(tenant_of: Find) -> list[web.RouteDef]:
    calls = _Calendars(tenant_of)
    tenant = "/tenants/{tenant}"
    events = f"{tenant}/mailboxes/{{mailbox}}/events"
    return [
        web.get(f"{tenant}/rooms", calls.list_rooms),
        web.post(f"{tenant}/rooms", calls.create_room),
        web.patch(f"{tenant}/rooms/{{mailbox}}", calls.patch_room),
        web.delete(f"{tenant}/rooms/{{mailbox}}", calls.delete_room),
        web.get(f"{tenant}/mailboxes/{{mailbox}}", calls.get_mailbox),
        web.patch(f"{tenant}/mailboxes/{{mailbox}}", calls.patch_mailbox),
        web.get(events, calls.list_events),
        web.post(events, calls.create_event),
        web.get(f"{events}/{{event}}", calls.get_event),
        web.patch(f"{events}/{{event}}", calls.patch_event),
        web.delete(f"{events}/{{event}}", calls.delete_event),
        web.post(f"{events}/{{event}}/{{action}}", calls.act),
        web.get(f"{tenant}/meetings", calls.get_meetings),
        web.post(f"{tenant}/meetings", calls.set_meetings),
        web.get(f"{tenant}/meetings/pending", calls.list_pending),
        web.post(f"{tenant}/meetings/deliver", calls.deliver),
        web.get(f"{tenant}/calendar-writes", calls.list_writes),
        web.delete(f"{tenant}/calendar-writes", calls.forget_writes),
    ]


class _Calendars:
    def __init__(self, tenant_of: Find) -> None:
        self._tenant = tenant_of

    def _mailbox(self, request: web.Request) -> tuple[Tenant, Mailbox]:
        """Anybody's: an unknown address is somebody outside of the organisation."""
        tenant, key = self._tenant(request), request.match_info["mailbox"]
        found = find_mailbox(tenant, key)
        if found is None and "@" in key and not key.lower().endswith(f"@{tenant.domain.lower()}"):
            found = tenant.exchange.outsider(Address(name=key.partition("@")[0], address=key))
        if found is None:
            raise KeyError(key)
        return tenant, found

    def _event(self, request: web.Request) -> tuple[Tenant, Mailbox, Item, Occurrence | None]:
        """By either id, or by iCalUId."""
        tenant, mailbox = self._mailbox(request)
        key = request.match_info["event"]
        item = mailbox.by_uid(key)
        return (tenant, mailbox, item, None) if item else (tenant, mailbox, *find_event(mailbox, key))

    async def list_rooms(self, request: web.Request) -> web.Response:
        return web.json_response([_room(each) for each in self._tenant(request).exchange.rooms.values()])

    async def create_room(self, request: web.Request) -> web.Response:
        tenant = self._tenant(request)
        made = tenant.exchange.add_room(tenant.id, Room.model_validate(await request.json()))
        return web.json_response(_room(made), status=201)

    async def patch_room(self, request: web.Request) -> web.Response:
        tenant, mailbox = self._mailbox(request)
        body = await request.json()
        if mailbox.room is None:
            raise KeyError(request.match_info["mailbox"])
        changed = Room.model_validate(mailbox.room.model_dump(by_alias=True) | body)
        if changed.id != mailbox.room.id:
            raise ValueError("a room keeps its id")
        tenant.exchange.rename_room(mailbox, changed)
        return web.json_response(_room(mailbox))

    async def delete_room(self, request: web.Request) -> web.Response:
        tenant, mailbox = self._mailbox(request)
        tenant.exchange.remove_room(mailbox)
        return web.Response(status=204)

    async def get_mailbox(self, request: web.Request) -> web.Response:
        return web.json_response(_mailbox(self._mailbox(request)[1]))

    async def patch_mailbox(self, request: web.Request) -> web.Response:
        _, mailbox = self._mailbox(request)
        change = MailboxChange.model_validate(await request.json()).model_dump(exclude_unset=True)
        for name, value in change.items():
            setattr(mailbox, "hosting" if name == "mailbox" else name, value)
        return web.json_response(_mailbox(mailbox))

    async def list_events(self, request: web.Request) -> web.Response:
        _, mailbox = self._mailbox(request)
        return web.json_response([_shown(mailbox, item, request) for item in mailbox.items.values()])

    async def get_event(self, request: web.Request) -> web.Response:
        _, mailbox, item, each = self._event(request)
        return web.json_response(_instance(mailbox, item, each) if each else _shown(mailbox, item, request))

    async def create_event(self, request: web.Request) -> web.Response:
        tenant, mailbox = self._mailbox(request)
        body = await request.json()
        uid, quirks = body.pop("iCalUId", None), body.pop("quirks", {})
        if organizer := body.pop("organizer", None):
            mailbox.owner = Address.model_validate(organizer["emailAddress"])
        draft = read_draft(body, None, {}, lambda address: display_name(tenant, address))
        item = meetings.create(tenant, mailbox, draft, uid)
        _set_quirks(item, quirks)
        return web.json_response(_shown(mailbox, item, request), status=201)

    async def patch_event(self, request: web.Request) -> web.Response:
        tenant, mailbox, item, each = self._event(request)
        body = await request.json()
        _set_quirks(item, body.pop("quirks", {}))
        if body:
            held = held_of(item, each.slot if each else None)
            when = each.when if each else item.when
            draft = read_draft(body, when, held, lambda address: display_name(tenant, address))
            meetings.update(tenant, mailbox, item, each, draft)
        now = occurrence(item, each.slot) if each else None
        return web.json_response(_instance(mailbox, item, now) if now else _shown(mailbox, item, request))

    async def delete_event(self, request: web.Request) -> web.Response:
        meetings.delete(*self._event(request))
        return web.Response(status=204)

    async def act(self, request: web.Request) -> web.Response:
        tenant, mailbox, item, each = self._event(request)
        action = request.match_info["action"]
        if action == "move":
            item.moves += 1
            changes.save(tenant, mailbox, item)
        elif action in ANSWERS:
            meetings.answer(tenant, mailbox, item, each, ANSWERS[action], tell=True)
        else:
            raise KeyError(action)
        return web.Response(status=204)

    async def get_meetings(self, request: web.Request) -> web.Response:
        exchange = self._tenant(request).exchange
        return web.json_response({"delayMs": "manual" if exchange.delay_ms is None else exchange.delay_ms})

    async def set_meetings(self, request: web.Request) -> web.Response:
        tenant, wanted = self._tenant(request), Meetings.model_validate(await request.json())
        tenant.exchange.delay_ms = None if isinstance(wanted.delay_ms, str) else wanted.delay_ms
        booking.settle(tenant)
        return await self.get_meetings(request)

    async def list_pending(self, request: web.Request) -> web.Response:
        tenant = self._tenant(request)
        return web.json_response([_message(tenant, each) for each in tenant.exchange.messages])

    async def deliver(self, request: web.Request) -> web.Response:
        tenant, wanted = self._tenant(request), Deliver.model_validate(await request.json())
        messages = tenant.exchange.messages
        done: list[Properties] = []
        while messages and (wanted.count is None or len(done) < wanted.count):
            message = messages.popleft()
            done.append(_message(tenant, message))
            booking.deliver(tenant, message)
        return web.json_response(done)

    async def list_writes(self, request: web.Request) -> web.Response:
        return web.json_response(list(self._tenant(request).exchange.writes))

    async def forget_writes(self, request: web.Request) -> web.Response:
        self._tenant(request).exchange.writes.clear()
        return web.Response(status=204)


def _set_quirks(item: Item, given: Properties) -> None:
    quirks = Quirks.model_validate(given)
    if quirks.original_time_zone is not None:
        item.properties["zoneQuirk"] = quirks.original_time_zone
    if quirks.recurrence_time_zone is not None:
        item.properties["recurrenceZoneQuirk"] = quirks.recurrence_time_zone


def _room(mailbox: Mailbox) -> Properties:
    assert mailbox.room
    return mailbox.room.model_dump(by_alias=True)


def _mailbox(mailbox: Mailbox) -> Properties:
    return {
        "id": str(mailbox.guid),
        "address": mailbox.owner.address,
        "displayName": mailbox.owner.name,
        "isRoom": mailbox.room is not None,
        "mailbox": mailbox.hosting,
        "timeZone": mailbox.time_zone,
        "denied": mailbox.denied,
        "noSubscriptions": mailbox.no_subscriptions,
        "events": len(mailbox.items),
    }


def _shown(mailbox: Mailbox, item: Item, request: web.Request) -> Properties:
    """A stored event, all of it; with ?start=&end= also `instances`, what of it is in that window."""
    shown = render(mailbox, item, PLAIN) | {
        "restrictedId": str(ItemId(mailbox.guid, item.guid, item.moves)),
        "generation": item.generation,
        "singleValueExtendedProperties": item.properties["singleValueExtendedProperties"],
        "extensions": item.properties["extensions"],
        "cancelledStarts": [slot.isoformat() for slot in sorted(item.cancelled)],
        "exceptionStarts": [slot.isoformat() for slot in sorted(item.exceptions)],
    }
    if {"start", "end"} <= set(request.query):
        since, until = (read_instant(request.query[name]) for name in ("start", "end"))
        shown["instances"] = _instances(mailbox, item, since, until)
    return shown


def _instances(mailbox: Mailbox, item: Item, since: Any, until: Any) -> list[Properties]:
    if item.recurrence:
        return [_instance(mailbox, item, each) for each in occurrences(item, since, until)]
    return [render(mailbox, item, PLAIN)] if item.when.overlaps(since, until) else []


def _instance(mailbox: Mailbox, item: Item, each: Occurrence) -> Properties:
    return render(mailbox, item, PLAIN, each, NAMES | ON_REQUEST)


def _message(tenant: Tenant, message: booking.Message) -> Properties:
    to = tenant.exchange.by_guid(message.to)
    return {
        "kind": message.kind,
        "to": to.owner.address if to else None,
        "from": message.sender,
        "iCalUId": message.meeting.uid,
        "originalStart": message.slot.isoformat() if message.slot else None,
        "response": message.response or None,
        "sent": message.sent.isoformat(),
    }
