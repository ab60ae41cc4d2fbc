"""What Graph shows of an event, and the reservation that it is about, as the merge meets them: on 15 April 2026, from 9."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sync.calendars.event import Remote, title_of
from sync.calendars.merge import Seen, Title, decide
from sync.calendars.model import PLACEHOLDER, PRIVATE, Agreed, Link, Person, Reservation, Times
from sync.calendars.recurrence import reduced

NOW = datetime(2026, 4, 15, 9, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
MADE = datetime(2026, 4, 1, 8, tzinfo=UTC)
ROOM, ROOM_MAIL = "room-1", "room1@contoso.com"
ANN, BO = Person("Ann Lee", "Ann@contoso.com"), Person("Bo", "bo@contoso.com")
WEEKLY = reduced(
    {
        "pattern": {"type": "weekly", "interval": 1, "daysOfWeek": ["wednesday"]},
        "range": {"type": "noEnd", "startDate": "2026-04-15"},
    }
)


def hours(first: int, last: int) -> Times:
    midnight = datetime(2026, 4, 15, tzinfo=UTC)
    return Times(midnight + timedelta(hours=first), midnight + timedelta(hours=last), "Europe/Berlin")


def remote(**changes: Any) -> Remote:
    fields: dict[str, Any] = {
        "id": "E",
        "etag": "2",
        "kind": "single",
        "master": "",
        "ical": "UID",
        "subject": "Planning",
        "times": hours(9, 10),
        "original_start": None,
        "cancelled": False,
        "free": False,
        "private": False,
        "organizer": Person("Room", ROOM_MAIL),
        "is_organizer": True,
        "response": "organizer",
        "created_at": MADE,
        "transaction": "",
        "attendees": (),
        "recurrence": None,
        "zone": "Europe/Berlin",
        "zone_unknown": False,
        "stub": False,
    }
    return Remote(**fields | changes)


def by_room(*, title: str = "Planning", private: bool = False, **changes: Any) -> Seen:
    """An event of the room's own."""
    of = remote(subject=title, private=private, **changes)
    return Seen(of, of.times, Title(*title_of(of, None, policy_read=True)), "room", ROOM_MAIL)


def by_ann(
    *,
    title: str | None = "Planning",
    private: bool = False,
    copy: Times | None = None,
    people: tuple[Person, ...] | None = None,
    **changes: Any,
) -> Seen:
    """The room's copy of a meeting of Ann's; her own copy says the title and the people, unless nobody may read it."""
    fields: dict[str, Any] = {"organizer": ANN, "is_organizer": False, "response": "accepted", "subject": "Ann Lee"}
    of = remote(**fields | changes)
    known = Title(PLACEHOLDER, "placeholder") if title is None else Title(title, "organizer")
    return Seen(
        of,
        of.times,
        Title(PRIVATE, "organizer", private=True) if private else known,
        "user",
        "ann@contoso.com",
        organizer_event="" if title is None else "A",
        organizer_etag="" if title is None else "7",
        organizer_times=copy,
        people=people,
    )


def imported(seen: Seen) -> Reservation:
    made = decide(None, seen, ROOM, NOW).reservation
    assert made
    return made


def ours(**changes: Any) -> Reservation:
    """A reservation of the portal's that the room's calendar has as it is."""
    fields: dict[str, Any] = {
        "id": "R",
        "room": ROOM,
        "kind": "single",
        "origin": "portal",
        "title": "Planning",
        "title_source": "local",
        "owner": BO,
        "times": hours(9, 10),
        "created_at": MADE,
        "updated_at": NOW,
        "sync_state": "synced",
        "link": linked(),
    }
    return Reservation(**fields | changes)


def linked(**changes: Any) -> Link:
    fields: dict[str, Any] = {
        "state": "linked",
        "organizer_address": ROOM_MAIL,
        "room_event": "E",
        "ical": "UID",
        "room_etag": "1",
        "base": BASE,
        "created_at": MADE,
    }
    return Link(**fields | changes)


BASE = Agreed("Planning", *hours(9, 10).canonical(), cancelled=False, organizer=ROOM_MAIL, free=False, private=False)


def edited(*, link: Link | None = None, **changes: Any) -> Reservation:
    """One that the portal has changed since."""
    return ours(**changes, sync_state="pending", link=replace(link or linked(), state="updating"))


def after(known: Reservation, seen: Seen) -> Reservation:
    verdict = decide(known, seen, ROOM, LATER)
    assert verdict.reservation
    return verdict.reservation
