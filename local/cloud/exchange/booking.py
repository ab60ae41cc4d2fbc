"""Meeting messages between mailboxes, and what receives them: people's calendars and the rooms' booking assistant.

Learn: Set-CalendarProcessing. A room first takes a meeting over as it was sent and answers it; only when its next
message is delivered does it make the copy anonymous, so that a reader can see both.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from local.cloud.exchange import changes
from local.cloud.exchange.access import reachable
from local.cloud.exchange.assistant import copy_of, merged, refusal
from local.cloud.exchange.ids import occurrence_uid
from local.cloud.exchange.mailbox import Item, Mailbox, Properties, Room, SeriesException
from local.cloud.exchange.series import held_of, occurrence
from local.cloud.exchange.zones import When
from local.cloud.tenants import Tenant

Kind = Literal["request", "cancel", "response", "tidy"]
# What an invitation carries; a change of anything else stays in the organizer's calendar.
SENT = ("subject", "body", "location", "locations", "sensitivity", "importance", "showAs", "isCancelled")


@dataclass
class Message:
    """`meeting` is the organizer's copy when it was sent; `slot` the one occurrence that the message is about."""

    kind: Kind
    to: UUID
    sender: str
    meeting: Item
    slot: datetime | None
    sent: datetime
    response: str = ""


def send(
    tenant: Tenant, mailbox: Mailbox, before: Item | None, after: Item | None, slot: datetime | None = None
) -> None:
    """Tell everybody whom a change of the organizer's copy concerns."""
    invited, was = _attendees(after, slot), _attendees(before, slot)
    renewed = before is None or after is None or _content(before, slot) != _content(after, slot)
    now = tenant.clock.now()
    for address in {**was, **invited}:
        gone = address not in invited
        meeting = before if gone else after
        to = reachable(tenant, address)
        if to is None or to is mailbox or meeting is None or not (gone or renewed or address not in was):
            continue
        kind: Kind = "cancel" if gone else "request"
        tenant.exchange.messages.append(Message(kind, to.guid, mailbox.owner.address, meeting.copied(), slot, now))
    if slot is None and before and before.recurrence:
        _call_off_exceptions(tenant, mailbox, before, after)
    settle(tenant)


def _call_off_exceptions(tenant: Tenant, mailbox: Mailbox, before: Item, after: Item | None) -> None:
    """Whoever was invited to a changed occurrence alone hears of its end from nobody else."""
    series = _attendees(before, None)
    for slot in before.exceptions:
        if after and slot in after.exceptions:
            continue
        for address in _attendees(before, slot):
            to = reachable(tenant, address)
            if to and to is not mailbox and address not in series:
                now = tenant.clock.now()
                tenant.exchange.messages.append(
                    Message("cancel", to.guid, mailbox.owner.address, before.copied(), slot, now)
                )


def _attendees(item: Item | None, slot: datetime | None) -> dict[str, Properties]:
    if item is None:
        return {}
    return {each["emailAddress"]["address"].lower(): each for each in held_of(item, slot)["attendees"]}


def _content(item: Item, slot: datetime | None) -> tuple[Properties, When, Properties | None]:
    held, properties = item.exceptions.get(slot) if slot else None, held_of(item, slot)
    return {name: properties[name] for name in SENT}, held.when if held else item.when, item.recurrence


def answer(tenant: Tenant, mailbox: Mailbox, item: Item, response: str, slot: datetime | None) -> None:
    """Send an attendee's answer to the organizer."""
    organizer = find_organizer(tenant, item)
    if organizer:
        message = Message("response", organizer.guid, mailbox.owner.address, item, slot, tenant.clock.now(), response)
        tenant.exchange.messages.append(message)
        settle(tenant)


def find_organizer(tenant: Tenant, item: Item) -> Mailbox | None:
    address = item.organizer.address
    return reachable(tenant, address) or tenant.exchange.outsiders.get(address.lower())


def settle(tenant: Tenant) -> None:
    """Deliver what has been under way long enough."""
    while (due := next_delivery(tenant)) and due <= tenant.clock.now():
        deliver(tenant, tenant.exchange.messages.popleft())


def next_delivery(tenant: Tenant) -> datetime | None:
    exchange = tenant.exchange
    if exchange.delay_ms is None or not exchange.messages:
        return None
    sent: datetime = exchange.messages[0].sent
    return sent + timedelta(milliseconds=exchange.delay_ms)


def deliver(tenant: Tenant, message: Message) -> None:
    """What the receiver makes of one message."""
    to = tenant.exchange.by_guid(message.to)
    if to is None:
        return
    match message.kind:
        case "response":
            if item := to.by_uid(message.meeting.uid):
                changes.note_response(tenant, to, item, message.sender, message.response, message.slot)
        case "tidy":
            if to.room and (item := _own_copy(to, message)):
                _make_anonymous(tenant, to, to.room, item)
        case "cancel":
            _cancel(tenant, to, message)
        case "request" if to.room:
            _book(tenant, to, to.room, message)
        case "request":
            _invite(tenant, to, message)


def _own_copy(to: Mailbox, message: Message) -> Item | None:
    """The receiver's copy of the meeting, or of the one occurrence that it was invited to."""
    uid = message.meeting.uid
    found = to.by_uid(uid)
    return to.by_uid(occurrence_uid(uid, message.slot)) if found is None and message.slot else found


def _invite(tenant: Tenant, to: Mailbox, message: Message) -> None:
    """A person's calendar holds the meeting tentatively until they answer."""
    proposed = copy_of(tenant, to, message.meeting, message.slot, _own_copy(to, message))
    pending = {"showAs": "tentative", "responseStatus": changes.response_status(tenant, "notResponded")}
    _store(tenant, to, message, proposed, pending)


def _book(tenant: Tenant, to: Mailbox, room: Room, message: Message) -> None:
    """The booking assistant takes the meeting over and accepts, or declines and keeps nothing of it."""
    outside = message.sender.lower() in tenant.exchange.outsiders
    if outside and not room.process_external_meeting_messages:
        return
    if not room.auto_accept:
        _invite(tenant, to, message)
        return
    proposed = copy_of(tenant, to, message.meeting, message.slot, _own_copy(to, message))
    declined = refusal(to, room, proposed, message.slot, tenant.clock.now())
    response = "declined" if declined else "accepted"
    answered = {"responseStatus": changes.response_status(tenant, response)}
    item = _store(tenant, to, message, proposed, answered if not declined else {"showAs": "tentative"})
    if not declined:
        _post(tenant, "tidy", to, to, message)
    elif message.slot and item.recurrence:
        changes.cancel_occurrence(tenant, to, item, message.slot)
    else:
        changes.remove(tenant, to, item)
    if organizer := find_organizer(tenant, message.meeting):
        _post(tenant, "response", to, organizer, message, response)


def _post(tenant: Tenant, kind: Kind, sender: Mailbox, to: Mailbox, about: Message, response: str = "") -> None:
    """Send on what follows from a message."""
    follow = Message(kind, to.guid, sender.owner.address, about.meeting, about.slot, tenant.clock.now(), response)
    tenant.exchange.messages.append(follow)


def _store(tenant: Tenant, to: Mailbox, message: Message, proposed: Item, answered: Properties) -> Item:
    """Put what was sent into the receiver's calendar: as a new event, into its copy, or into one occurrence of it."""
    held = _own_copy(to, message)
    proposed.properties |= answered
    changes.mark_answer(proposed.properties, to.owner.address, answered.get("responseStatus"))
    if held is None:
        proposed.guid = to.next_guid()
        return changes.insert(tenant, to, proposed)
    if message.slot and held.recurrence:
        exception = proposed.exceptions[message.slot]
        changes.change_occurrence(tenant, to, held, message.slot, exception.changes | answered, exception.when)
        return held
    was = changes.series_as_it_is(held)
    merged(held, proposed)
    changes.save(tenant, to, held, was)
    return held


def _cancel(tenant: Tenant, to: Mailbox, message: Message) -> None:
    item = _own_copy(to, message)
    if item is None:
        return
    keeps = not to.room or not to.room.remove_canceled_meetings
    one = message.slot if item.recurrence else None
    if keeps:
        _keep_cancelled(tenant, to, item, one)
    elif one:
        changes.cancel_occurrence(tenant, to, item, one)
    else:
        changes.remove(tenant, to, item)


def _keep_cancelled(tenant: Tenant, to: Mailbox, item: Item, slot: datetime | None) -> None:
    subject = item.properties["subject"]
    marks = {"isCancelled": True, "showAs": "free", "subject": f"Canceled: {subject}"}
    if slot:
        each = occurrence(item, slot)
        if each:
            changes.change_occurrence(tenant, to, item, slot, marks, each.when)
    else:
        item.properties |= marks
        changes.save(tenant, to, item)


def _make_anonymous(tenant: Tenant, to: Mailbox, room: Room, item: Item) -> None:
    """The room's copy says who meets, not about what."""
    rewritten: Properties = {}
    if room.delete_subject or room.add_organizer_to_subject:
        kept = "" if room.delete_subject else item.properties["subject"]
        named = item.organizer.name if room.add_organizer_to_subject else ""
        rewritten["subject"] = kept if kept.startswith(named) and named else f"{named} {kept}".strip()
    if room.delete_comments:
        rewritten["body"] = {"contentType": "html", "content": ""}
    if room.remove_private_property:
        rewritten["sensitivity"] = "normal"
    item.properties |= rewritten
    for slot, held in item.exceptions.items():
        kept_changes = {name: value for name, value in held.changes.items() if name not in rewritten}
        item.exceptions[slot] = SeriesException(kept_changes, held.when, held.version, held.modified)
    changes.save(tenant, to, item)
