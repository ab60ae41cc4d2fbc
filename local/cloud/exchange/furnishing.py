"""Rooms with events for a generated tenant, the same for the same seed."""

import random
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from local.cloud.exchange import changes
from local.cloud.exchange.access import reachable
from local.cloud.exchange.assistant import copy_of
from local.cloud.exchange.drafts import Draft
from local.cloud.exchange.mailbox import Address, Item, Mailbox, Properties, Room
from local.cloud.exchange.recurrence import DAYS, read_recurrence
from local.cloud.exchange.zones import When, own_zone
from local.cloud.tenants import Tenant

ZONES = ["America/New_York", "Europe/Berlin", "Asia/Tokyo", "America/Los_Angeles", "Europe/London", "Australia/Sydney"]
SUBJECTS = ["Weekly sync", "Design review", "Interview", "Customer call", "Budget", "Planning", "1:1", "Atelier été"]
DAYS_OF_SINGLES = 68
HALF_HOURS = 18


def furnish(rng: random.Random, tenant: Tenant, rooms: int, events_per_room: int) -> None:
    """Add so many rooms, each with so many events that do not overlap: every tenth a weekly series, half of the others
    organized by people."""
    people = [user.properties for user in tenant.users.live() if user.properties.get("userType") == "Member"]
    organizers = [Address(name=each["displayName"], address=each["mail"]) for each in people]
    monday = tenant.clock.now().date() - timedelta(days=tenant.clock.now().weekday())
    for number in range(1, rooms + 1):
        mailbox = tenant.exchange.add_room(tenant.id, _room(rng, tenant, number))
        for index in range(events_per_room):
            _event(rng, tenant, mailbox, organizers, monday, index)


def _room(rng: random.Random, tenant: Tenant, number: int) -> Room:
    return Room(
        email_address=f"room{number}@{tenant.domain}",
        display_name=f"Room {number}",
        id=str(UUID(int=rng.getrandbits(128), version=4)),
        capacity=rng.choice([4, 6, 8, 12, 20]),
        building=str(rng.randrange(1, 5)),
        floor_number=rng.randrange(1, 9),
        list=f"building{number % 4 + 1}@{tenant.domain}",
        time_zone=rng.choice(ZONES),
    )


def _event(
    rng: random.Random, tenant: Tenant, mailbox: Mailbox, organizers: list[Address], monday: date, index: int
) -> None:
    """Singles are on Mondays to Thursdays of the next 17 weeks, series on Fridays and, if there are many, Saturdays."""
    is_series = index % 10 == 9
    number = index // 10 if is_series else index - index // 10
    if is_series:
        day, half_hour = monday + timedelta(days=4 + number // HALF_HOURS), number % HALF_HOURS
    else:
        week, weekday = divmod(number % DAYS_OF_SINGLES, 4)
        day, half_hour = monday + timedelta(days=7 * week + weekday), number // DAYS_OF_SINGLES
    when = _when(day, half_hour, mailbox.time_zone)
    recurrence = read_recurrence(_weekly(day), when)[0] if is_series else None
    draft = Draft({"subject": rng.choice(SUBJECTS)}, when, recurrence, frozenset())
    if organizers and index % 2:
        changes.insert(tenant, mailbox, _booked(tenant, mailbox, draft, rng.choice(organizers)))
    else:
        changes.add(tenant, mailbox, draft)


def _when(day: date, half_hour: int, zone_name: str) -> When:
    wall = datetime.combine(day, time(8), own_zone(zone_name)) + timedelta(minutes=30 * half_hour)
    start = wall.astimezone(UTC)
    return When(start, start + timedelta(minutes=30), zone_name, zone_name)


def _weekly(day: date) -> Properties:
    last = (day + timedelta(days=150)).isoformat()
    pattern = {"type": "weekly", "interval": 1, "daysOfWeek": [DAYS[day.weekday()]]}
    return {"pattern": pattern, "range": {"type": "endDate", "startDate": day.isoformat(), "endDate": last}}


def _booked(tenant: Tenant, mailbox: Mailbox, draft: Draft, organizer: Address) -> Item:
    """What the booking assistant leaves behind of a meeting of somebody, in both calendars."""
    person = reachable(tenant, organizer.address)
    assert person
    assert draft.when
    attendee = {
        "type": "resource",
        "status": changes.response_status(tenant, "accepted"),
        "emailAddress": {"name": mailbox.owner.name, "address": mailbox.owner.address},
    }
    draft.changes["attendees"] = [attendee]
    meeting = changes.add(tenant, person, draft)
    copy = copy_of(tenant, mailbox, meeting, None, None)
    copy.guid = mailbox.next_guid()
    copy.properties |= {"subject": organizer.name, "responseStatus": changes.response_status(tenant, "accepted")}
    return copy
