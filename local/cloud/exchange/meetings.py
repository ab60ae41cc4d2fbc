"""What the owner of a mailbox does to an event, whether in Outlook or through Graph: create, change, cancel, answer.

Only the organizer's copy of a meeting reaches anybody else: whoever changes their own copy of somebody else's meeting
changes that copy alone.
"""

from datetime import datetime

from local.cloud.exchange import booking, changes
from local.cloud.exchange.drafts import NO_RESPONSE, Draft, invalid
from local.cloud.exchange.mailbox import Item, Mailbox, Properties
from local.cloud.exchange.recurrence import InvalidRecurrence, shifted
from local.cloud.exchange.series import Occurrence, held_of, neighbours
from local.cloud.exchange.zones import When
from local.cloud.protocol import Refused
from local.cloud.tenants import Tenant


def create(tenant: Tenant, mailbox: Mailbox, draft: Draft, uid: str | None = None) -> Item:
    item = changes.add(tenant, mailbox, draft, uid)
    booking.send(tenant, mailbox, None, item)
    return item


def update(tenant: Tenant, mailbox: Mailbox, item: Item, each: Occurrence | None, draft: Draft) -> None:
    """Change a single event, a series, or one occurrence of it; Refused where Exchange does not allow it."""
    before = item.copied()
    if each:
        _update_occurrence(tenant, mailbox, item, each, draft)
    else:
        _update_item(tenant, mailbox, item, draft)
    if item.is_organizer:
        item.sequence += 1
        booking.send(tenant, mailbox, before, item, each.slot if each else None)


def _update_item(tenant: Tenant, mailbox: Mailbox, item: Item, draft: Draft) -> None:
    if draft.when and item.recurrence and "recurrence" not in draft.touched:
        draft = _shifted(item.recurrence, draft, draft.when)
    if item.is_organizer and draft.when and draft.when != item.when:
        draft.changes["attendees"] = _unanswered((item.properties | draft.changes)["attendees"])
    changes.apply(tenant, mailbox, item, draft)


def _shifted(recurrence: Properties, draft: Draft, when: When) -> Draft:
    """A series that gets another start keeps its pattern, from the new date on."""
    try:
        series, first = shifted(recurrence, when)
    except InvalidRecurrence as error:
        raise invalid(str(error)) from error
    return Draft(draft.changes, first, series, draft.touched | {"recurrence"})


def _update_occurrence(tenant: Tenant, mailbox: Mailbox, item: Item, each: Occurrence, draft: Draft) -> None:
    if draft.recurrence:
        raise invalid("An occurrence has no recurrence of its own.")
    when = draft.when or each.when
    if draft.when:
        _check_boundaries(item, each.slot, when)
        if item.is_organizer and when != each.when:
            draft.changes["attendees"] = _unanswered((held_of(item, each.slot) | draft.changes)["attendees"])
    changes.change_occurrence(tenant, mailbox, item, each.slot, draft.changes, when)


def _check_boundaries(item: Item, slot: datetime, when: When) -> None:
    before, after = neighbours(item, slot)
    if (before and when.start < before.when.end) or (after and when.end > after.when.start):
        message = "Modified occurrence is crossing or overlapping adjacent occurrence."
        raise Refused(400, "ErrorOccurrenceCrossingBoundary", message)


def _unanswered(attendees: list[Properties]) -> list[Properties]:
    """New times ask everybody anew."""
    return [each | {"status": NO_RESPONSE} for each in attendees]


def delete(tenant: Tenant, mailbox: Mailbox, item: Item, each: Occurrence | None) -> None:
    """The organizer's deletion cancels the meeting; an attendee's takes it out of that one calendar."""
    before = item.copied()
    if each:
        changes.cancel_occurrence(tenant, mailbox, item, each.slot)
    else:
        changes.remove(tenant, mailbox, item)
    if before.is_organizer:
        booking.send(tenant, mailbox, before, None, each.slot if each else None)


def answer(tenant: Tenant, mailbox: Mailbox, item: Item, each: Occurrence | None, response: str, *, tell: bool) -> None:
    """Accept or decline somebody else's meeting. A declined one leaves the calendar."""
    if tell:
        booking.answer(tenant, mailbox, item, response, each.slot if each else None)
    if response == "declined":
        delete(tenant, mailbox, item, each)
    elif each:
        changes.change_occurrence(tenant, mailbox, item, each.slot, changes.answered(tenant, response), each.when)
    else:
        changes.respond(tenant, mailbox, item, response)
