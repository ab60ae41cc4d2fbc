"""Every change to a stored event goes through here: it is saved, written to the log, and announced to subscribers."""

from datetime import datetime

from local.cloud.exchange.drafts import DEFAULTS, Draft
from local.cloud.exchange.ids import new_uid
from local.cloud.exchange.mailbox import Change, Item, Mailbox, Properties, SeriesException
from local.cloud.exchange.notices import announce
from local.cloud.exchange.recurrence import slot_at
from local.cloud.exchange.series import held_of, occurrence
from local.cloud.exchange.zones import When, instant
from local.cloud.tenants import Tenant


def add(tenant: Tenant, mailbox: Mailbox, draft: Draft, uid: str | None = None) -> Item:
    """A new event that the owner of the mailbox organizes."""
    assert draft.when is not None
    now, guid = tenant.clock.now(), mailbox.next_guid()
    item = Item(
        guid=guid,
        uid=uid or new_uid(mailbox.guid, mailbox.serial),
        organizer=mailbox.owner,
        is_organizer=True,
        properties=DEFAULTS | draft.changes,
        when=draft.when,
        created=now,
        modified=now,
        recurrence=draft.recurrence,
    )
    return insert(tenant, mailbox, item)


def insert(tenant: Tenant, mailbox: Mailbox, item: Item) -> Item:
    mailbox.items[item.guid] = item
    item.version = tenant.exchange.next_version()
    mailbox.log.append(Change(item.guid))
    announce(tenant, mailbox, item, "created")
    return item


def save(
    tenant: Tenant, mailbox: Mailbox, item: Item, before: Item | None = None, slot: datetime | None = None
) -> None:
    """Note that an item has been changed; `before` is the series whose occurrences are no longer the same."""
    item.version, item.modified = tenant.exchange.next_version(), tenant.clock.now()
    mailbox.log.append(Change(item.guid, before, slot, item.generation))
    announce(tenant, mailbox, item, "updated")


def apply(tenant: Tenant, mailbox: Mailbox, item: Item, draft: Draft) -> None:
    """Change a single event or a whole series."""
    was = series_as_it_is(item)
    item.properties |= draft.changes
    recurrence = draft.recurrence if "recurrence" in draft.touched else item.recurrence
    retime(item, draft.when or item.when, recurrence)
    save(tenant, mailbox, item, was)


def series_as_it_is(item: Item) -> Item | None:
    """A copy to compare with later, None for a single event."""
    return item.copied() if item.recurrence else None


def retime(item: Item, when: When, recurrence: Properties | None) -> None:
    """Give an item times. A series with another pattern or hour is another series of occurrences: their ids are new,
    and what was special about them is gone. A series that only ends earlier or later keeps them."""
    old, was = item.recurrence, item.when
    item.when, item.recurrence = when, recurrence
    if old is None and recurrence is None:
        return
    same = old is not None and recurrence is not None and _shape(old, was) == _shape(recurrence, when)
    if not same:
        item.generation += 1
        item.exceptions, item.cancelled = {}, set()
    elif recurrence:
        item.cancelled = {slot for slot in item.cancelled if slot_at(recurrence, when, slot)}
        item.exceptions = {slot: each for slot, each in item.exceptions.items() if slot_at(recurrence, when, slot)}


def _shape(recurrence: Properties, when: When) -> tuple[Properties, str, str, When]:
    span = recurrence["range"]
    return recurrence["pattern"], span["startDate"], span["recurrenceTimeZone"], when


def change_occurrence(
    tenant: Tenant, mailbox: Mailbox, item: Item, slot: datetime, changes: Properties, when: When
) -> SeriesException:
    """Make one occurrence an exception, or change what makes it one."""
    held = item.exceptions.get(slot)
    version = tenant.exchange.next_version()
    exception = SeriesException((held.changes if held else {}) | changes, when, version, tenant.clock.now())
    item.exceptions[slot] = exception
    save(tenant, mailbox, item, slot=slot)
    exception.version = item.version
    return exception


def cancel_occurrence(tenant: Tenant, mailbox: Mailbox, item: Item, slot: datetime) -> None:
    item.exceptions.pop(slot, None)
    item.cancelled.add(slot)
    save(tenant, mailbox, item, slot=slot)


def remove(tenant: Tenant, mailbox: Mailbox, item: Item) -> None:
    del mailbox.items[item.guid]
    tenant.exchange.next_version()
    mailbox.log.append(Change(item.guid, item))
    announce(tenant, mailbox, item, "deleted")


def respond(tenant: Tenant, mailbox: Mailbox, item: Item, response: str) -> None:
    """What the owner of the mailbox answers to a meeting of somebody else."""
    item.properties |= answered(tenant, response)
    save(tenant, mailbox, item)


def answered(tenant: Tenant, response: str) -> Properties:
    """How an answer shows in the calendar of whoever gives it."""
    shown = {"accepted": "busy", "tentativelyAccepted": "tentative"}[response]
    return {"responseStatus": response_status(tenant, response), "showAs": shown}


def response_status(tenant: Tenant, response: str) -> Properties:
    return {"response": response, "time": instant(tenant.clock.now())}


def note_response(
    tenant: Tenant, mailbox: Mailbox, item: Item, address: str, response: str, slot: datetime | None
) -> None:
    """An attendee's answer reaches the organizer's copy."""
    attendees = held_of(item, slot)["attendees"]
    with_answer = _answered_by(attendees, address, response_status(tenant, response))
    each = occurrence(item, slot) if slot else None
    if with_answer == attendees or (slot and not each):
        return
    if each:
        change_occurrence(tenant, mailbox, item, each.slot, {"attendees": with_answer}, each.when)
    else:
        item.properties["attendees"] = with_answer
        save(tenant, mailbox, item)


def mark_answer(properties: Properties, address: str, status: Properties | None) -> None:
    """An attendee's own copy shows their own answer in the list of attendees, too."""
    if status:
        properties["attendees"] = _answered_by(properties["attendees"], address, status)


def _answered_by(attendees: list[Properties], address: str, status: Properties) -> list[Properties]:
    wanted = address.lower()
    return [
        each | {"status": status} if each["emailAddress"]["address"].lower() == wanted else each for each in attendees
    ]
