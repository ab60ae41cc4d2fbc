"""How a room's booking assistant decides, and what its calendar would hold if it accepted."""

from datetime import date, datetime, timedelta
from uuid import UUID

from local.cloud.exchange.ids import occurrence_uid
from local.cloud.exchange.mailbox import Item, Mailbox, Properties, Room
from local.cloud.exchange.series import FAR, busy_times, occurrence
from local.cloud.exchange.zones import When
from local.cloud.tenants import Tenant

NOT_SENT = ("transactionId", "singleValueExtendedProperties", "extensions", "responseStatus", "categories")


def copy_of(tenant: Tenant, to: Mailbox, meeting: Item, slot: datetime | None, held: Item | None) -> Item:
    """The attendee's copy of a meeting, or, for a `slot` of a series that the attendee does not have, of that
    occurrence as an event of its own."""
    own = meeting.copied()
    own.is_organizer, own.version, own.moves = False, 0, 0
    own.created = own.modified = tenant.clock.now()
    for name in NOT_SENT:
        own.properties.pop(name, None)
    own.properties |= {"singleValueExtendedProperties": [], "extensions": [], "categories": []}
    for at, exception in list(own.exceptions.items()):
        exception.version = tenant.exchange.version
        if not invites(exception.changes.get("attendees"), to.owner.address):
            del own.exceptions[at]
            own.cancelled.add(at)
    if slot is None or (held is not None and held.recurrence):
        return own
    each = occurrence(meeting, slot)
    if each:
        own.properties |= each.exception.changes if each.exception else {}
        own.when = each.when
    own.uid, own.guid = occurrence_uid(meeting.uid, slot), UUID(int=0)
    own.recurrence, own.exceptions, own.cancelled = None, {}, set()
    return own


def invites(attendees: list[Properties] | None, address: str) -> bool:
    """Whether an occurrence's own list of attendees, None for the series', has that address."""
    return attendees is None or any(each["emailAddress"]["address"].lower() == address.lower() for each in attendees)


def merged(held: Item, proposed: Item) -> None:
    """Take a newer invitation over into the copy that there is."""
    held.sequence = proposed.sequence
    if (held.when, held.recurrence) != (proposed.when, proposed.recurrence):
        held.generation += 1
    held.properties |= proposed.properties
    held.when, held.recurrence = proposed.when, proposed.recurrence
    held.exceptions, held.cancelled = proposed.exceptions, proposed.cancelled


def refusal(to: Mailbox, room: Room, proposed: Item, slot: datetime | None, now: datetime) -> str | None:
    """Why the room declines, None if it accepts."""
    one = occurrence(proposed, slot) if slot and proposed.recurrence else None
    when = one.when if one else proposed.when
    horizon = now + timedelta(days=room.booking_window_in_days + 1)
    if room.maximum_duration_in_minutes and when.end - when.start > timedelta(minutes=room.maximum_duration_in_minutes):
        return "too long"
    if when.start >= horizon:
        return "too far ahead"
    if proposed.recurrence and not one:
        if not room.allow_recurring_meetings:
            return "no series"
        if _ends_after(proposed, horizon):
            if room.enforce_scheduling_horizon:
                return "series too far ahead"
            _truncate(proposed, horizon.date())
    wanted = [one.when] if one else busy_times(proposed, min(now, when.start), now + FAR)
    if not room.allow_conflicts and _taken(to, proposed.uid, wanted):
        return "conflict"
    return None


def _ends_after(proposed: Item, horizon: datetime) -> bool:
    assert proposed.recurrence
    span = proposed.recurrence["range"]
    return span["type"] == "noEnd" or bool(busy_times(proposed, horizon, horizon + FAR))


def _truncate(proposed: Item, last: date) -> None:
    assert proposed.recurrence
    span = proposed.recurrence["range"] | {"type": "endDate", "endDate": last.isoformat(), "numberOfOccurrences": 0}
    proposed.recurrence = proposed.recurrence | {"range": span}


def _taken(to: Mailbox, uid: str, wanted: list[When]) -> bool:
    if not wanted:
        return False
    since, until = min(each.start for each in wanted), max(each.end for each in wanted)
    others = [item for item in to.items.values() if item.uid != uid]
    blocked = sorted(
        ((when.start, when.end) for item in others for when in busy_times(item, since, until)),
    )
    return any(start < each.end and end > each.start for each in wanted for start, end in blocked)
