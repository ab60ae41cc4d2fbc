"""Events of Graph and what this side makes of them (Learn: event resource type)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from types import MappingProxyType
from typing import Any

from sync.calendars import recurrence as series
from sync.calendars.details import added, removed, waiting
from sync.calendars.model import (
    PLACEHOLDER,
    PRIVATE,
    Kind,
    Person,
    Reservation,
    Times,
    TitleSource,
    transaction_id,
)
from sync.calendars.zones import iana, is_plain, is_shared, to_utc, to_wall, windows
from sync.graph.protocol import whole_text

READ_HEADERS: Mapping[str, str] = MappingProxyType({"Prefer": 'IdType="ImmutableId", outlook.timezone="UTC"'})
"""For every request that reads events: lasting ids, and times in UTC."""

SELECT = (
    "id,iCalUId,type,seriesMasterId,subject,start,end,originalStart,originalStartTimeZone,originalEndTimeZone,isAllDay,"
    "isCancelled,isOrganizer,showAs,sensitivity,organizer,attendees,responseStatus,createdDateTime,changeKey,transactionId,"
    "recurrence"
)
"""All that `parse_event` reads: `originalStart` is in no answer that does not ask for it."""

# More than Exchange takes; what is longer did not come from there.
MAX_SUBJECT = 1000
MAX_NAME = 256
MAX_ADDRESS = 320
MAX_KEY = 1000
MAX_ATTENDEES = 500

_KINDS: Mapping[str, Kind] = {
    "singleInstance": "single",
    "seriesMaster": "series",
    "occurrence": "occurrence",
    "exception": "exception",
}
_RESPONSES = frozenset({"accepted", "tentativelyAccepted", "declined", "notResponded", "organizer", "none"})
_ATTENDEES = frozenset({"required", "optional", "resource"})
_PRIVATE = frozenset({"private", "confidential"})
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d{1,12})?(Z|[+-]\d\d:\d\d)?", re.ASCII)
# Table Storage has no date before 1601, and at the very end of the calendar no day can be added.
_EARLIEST, _LATEST = datetime(1601, 1, 2, tzinfo=UTC), datetime(9999, 12, 28, tzinfo=UTC)


class Unreadable(ValueError):
    """An event that cannot be taken in; the text is the reason, as a slug."""


@dataclass(frozen=True)
class Attendee:
    name: str
    email: str
    kind: str
    response: str


@dataclass(frozen=True)
class Remote:
    """An event as one mailbox holds it.

    `times` has the room's zone for an all-day event, else `zone`, which is the one that the event was made in; where
    that cannot be known it is the room's and `zone_unknown` is true. `original_start` tells the occurrences of a series
    apart: for a plain one it is its start. `recurrence` is a master's, None where it is of an unknown kind. `stub`: an occurrence that came with its times
    alone, as delta gives it; the rest is in its master. `etag` is "" where the version cannot be told, `is_organizer`
    None where the answer does not say it, and `organizer_name` the name of an organizer without an address.
    """

    id: str
    etag: str
    kind: Kind
    master: str
    ical: str
    subject: str
    times: Times
    original_start: datetime | None
    cancelled: bool
    free: bool
    private: bool
    organizer: Person | None
    is_organizer: bool | None
    response: str
    created_at: datetime | None
    transaction: str
    attendees: tuple[Attendee, ...]
    recurrence: Mapping[str, Any] | None
    zone: str
    zone_unknown: bool
    stub: bool
    organizer_name: str = ""


# --- theirs to ours --------------------------------------------------------------------------------------------------


def parse_event(raw: Mapping[str, Any], room_zone: str) -> Remote:
    """An event as Graph gives it; not a removed one. `room_zone` is an IANA name.

    Raises Unreadable where the id, the kind or the times cannot be told, or another property has not its type.
    """
    event_id = _key(raw, "id")
    if not event_id:
        raise Unreadable("no-id")
    recurrence = _mapping(raw, "recurrence")
    zone = _zone_of(raw, recurrence)
    times = _times(raw, zone or room_zone, room_zone)
    organizer, organizer_name = _organizer(raw)
    kind = _kind(raw, times, zone or room_zone)
    return Remote(
        id=event_id,
        etag=etag_of(raw),
        kind=kind,
        master=_key(raw, "seriesMasterId"),
        ical=_key(raw, "iCalUId"),
        subject=_string(raw, "subject", MAX_SUBJECT),
        times=times,
        original_start=_original_start(raw, kind, times, zone or room_zone),
        cancelled=_boolean(raw, "isCancelled"),
        free=_string(raw, "showAs") == "free",
        private=_string(raw, "sensitivity") in _PRIVATE,
        organizer=organizer,
        is_organizer=None if raw.get("isOrganizer") is None else _boolean(raw, "isOrganizer"),
        response=_response(_mapping(raw, "responseStatus")),
        created_at=_instant(raw, "createdDateTime"),
        transaction=_key(raw, "transactionId"),
        attendees=parse_attendees(raw),
        recurrence=series.parse(recurrence) if recurrence else None,
        zone=zone or room_zone,
        zone_unknown=zone is None,
        stub=kind == "occurrence" and "isAllDay" not in raw,
        organizer_name=organizer_name,
    )


def etag_of(raw: Mapping[str, Any]) -> str:
    """The version of an event, "" where nothing tells it. The etag holds the change key (Learn: event resource type)."""
    key = _key(raw, "changeKey")
    return _key(raw, "@odata.etag") or (f'W/"{key}"' if key else "")


def _kind(raw: Mapping[str, Any], times: Times, zone: str) -> Kind:
    """What kind of event it is; where that is not said, what its other properties make of it."""
    if "type" in raw:
        said = _KINDS.get(_string(raw, "type"))
        if said is None:
            raise Unreadable("unknown-type")
        return said
    if raw.get("recurrence"):
        return "series"
    if not raw.get("seriesMasterId"):
        return "single"
    original = _original_start(raw, "exception", times, zone)
    return "occurrence" if original in (None, times.start) else "exception"


def hydrated(stub: Remote, master: Remote) -> Remote:
    """A stub as a whole occurrence: its own id and times, its master's subject, people, flags and zone.

    What names one event alone (iCalUId, transactionId) is left out. A stub does not say that it is an all-day one.
    """
    if master.times.all_day:
        times = _days(stub.times.start, stub.times.end, master.times.zone)
    else:
        times = replace(stub.times, zone=master.zone)
    return replace(
        master,
        id=stub.id,
        etag=stub.etag,
        kind=stub.kind,
        master=stub.master,
        ical=stub.ical,
        times=times,
        original_start=times.start,
        transaction="",
        recurrence=None,
        stub=False,
    )


def _string(raw: Mapping[str, Any], name: str, most: int = 100) -> str:
    value = raw.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unreadable(f"unreadable-{name}")
    return whole_text(value)[:most]


def _key(raw: Mapping[str, Any], name: str) -> str:
    """Something that names an event or a state of it: half of it would name nothing."""
    value = _string(raw, name, MAX_KEY + 1)
    if len(value) > MAX_KEY:
        raise Unreadable(f"unreadable-{name}")
    return value


def _boolean(raw: Mapping[str, Any], name: str) -> bool:
    value = raw.get(name)
    if value is not None and not isinstance(value, bool):
        raise Unreadable(f"unreadable-{name}")
    return bool(value)


def _mapping(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = raw.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise Unreadable(f"unreadable-{name}")
    return value or {}


def _zone_of(raw: Mapping[str, Any], recurrence: Mapping[str, Any]) -> str | None:
    """The zone an event was made in, None where nothing says it (Learn: the zone may be tzone://Microsoft/Custom)."""
    names = (
        _string(raw, "originalStartTimeZone"),
        _string(_mapping(recurrence, "range"), "recurrenceTimeZone"),
        _string(raw, "originalEndTimeZone"),
    )
    return next((found for found in map(iana, names) if found), None)


def _times(raw: Mapping[str, Any], zone: str, room_zone: str) -> Times:
    if _boolean(raw, "isAllDay"):
        # Midnight in whatever zone the answer is in, so the dates alone count.
        first, last = (_wall(_mapping(raw, name))[0] for name in ("start", "end"))
        return _days(first, last, room_zone)
    start, end = (_moment(_mapping(raw, name), room_zone) for name in ("start", "end"))
    if end < start:
        raise Unreadable("ends-before-start")
    return _checked(Times(start, end, zone))


def _days(first: datetime, last: datetime, zone: str) -> Times:
    try:
        times = Times.days(first.date(), max(last.date(), first.date() + timedelta(days=1)), zone)
    except OverflowError:
        raise Unreadable("impossible-time") from None
    return _checked(times)


def _checked(times: Times) -> Times:
    if not _EARLIEST <= times.start <= times.end <= _LATEST:
        raise Unreadable("impossible-time")
    return times


def _wall(value: Mapping[str, Any]) -> tuple[datetime, str]:
    """The wall clock of a dateTimeTimeZone, to the second, and its offset where it has one."""
    found = _TIME.fullmatch(_string(value, "dateTime"))
    if not found:
        raise Unreadable("unreadable-time")
    try:
        return datetime.fromisoformat(f"{found[1]}T{found[2]}"), found[3] or ""
    except ValueError:
        raise Unreadable("unreadable-time") from None


def _moment(value: Mapping[str, Any], room_zone: str) -> datetime:
    """A dateTimeTimeZone in UTC. A floating one, without a zone that can be read, is a time in the room."""
    wall, offset = _wall(value)
    try:
        if offset:
            return datetime.fromisoformat(wall.isoformat() + offset.replace("Z", "+00:00")).astimezone(UTC)
        return to_utc(wall, iana(_string(value, "timeZone")) or room_zone)
    except (OverflowError, ValueError):
        raise Unreadable("impossible-time") from None


def _instant(raw: Mapping[str, Any], name: str) -> datetime | None:
    """A DateTimeOffset in UTC; None for none, and for the years 1 and 9999, which mean the same."""
    if raw.get(name) is None:
        return None
    found = _moment({"dateTime": raw[name]}, "UTC")
    return found if _EARLIEST <= found <= _LATEST else None


def _original_start(raw: Mapping[str, Any], kind: Kind, times: Times, zone: str) -> datetime | None:
    if kind == "occurrence":
        return times.start
    original = _instant(raw, "originalStart")
    if original is None or not times.all_day:
        return original
    # Midnight in the zone of the event. Where that is not known, the next midnight is meant.
    day = (to_wall(original, zone) + timedelta(hours=12)).date()
    return Times.days(day, day + timedelta(days=1), times.zone).start


def _person(value: Mapping[str, Any]) -> Person | None:
    """Somebody with an e-mail address (Learn: emailAddress resource type)."""
    mail = _mapping(value, "emailAddress")
    person = Person(_string(mail, "name", MAX_NAME).strip(), _string(mail, "address", MAX_ADDRESS + 1).strip())
    return person if 0 < len(person.email) <= MAX_ADDRESS else None


def _organizer(raw: Mapping[str, Any]) -> tuple[Person | None, str]:
    """The organizer, or at least the name of one without an address."""
    value = _mapping(raw, "organizer")
    person = _person(value)
    return person, "" if person else _string(_mapping(value, "emailAddress"), "name", MAX_NAME).strip()


def _response(status: Mapping[str, Any]) -> str:
    response = _string(status, "response")
    return response if response in _RESPONSES else "none"


def people(attendees: Iterable[Attendee]) -> tuple[Person, ...]:
    """Those of them who are no rooms or things."""
    return tuple(Person(one.name, one.email) for one in attendees if one.kind != "resource")


def parse_attendees(raw: Mapping[str, Any]) -> tuple[Attendee, ...]:
    """All with an address: nobody else can be told from another. Raises Unreadable."""
    listed = raw.get("attendees") or []
    if not isinstance(listed, list) or not all(isinstance(each, Mapping) for each in listed):
        raise Unreadable("unreadable-attendees")
    found = [(each, _person(each)) for each in listed[:MAX_ATTENDEES]]
    return tuple(
        Attendee(person.name, person.email, _attendee_kind(each), _response(_mapping(each, "status")))
        for each, person in found
        if person
    )


def _attendee_kind(each: Mapping[str, Any]) -> str:
    kind = _string(each, "type")
    return kind if kind in _ATTENDEES else "required"


# --- what it is called ------------------------------------------------------------------------------------------------


def title_of(remote: Remote, organizer_copy: Remote | None, *, policy_read: bool) -> tuple[str, TitleSource, bool]:
    """The title that a reservation for `remote` gets, where it comes from, and whether the meeting is private.

    The organizer's copy gives its title only where the settings allow to read it; that it is private always counts,
    for Exchange takes the flag off the room's copy (Learn: Set-CalendarProcessing, RemovePrivateProperty).
    """
    if organizer_copy is not None and organizer_copy.private:
        return PRIVATE, "organizer", True
    if remote.private:
        return PRIVATE, "room", True
    if remote.is_organizer:
        return remote.subject, "room", False
    if organizer_copy is not None and policy_read:
        return organizer_copy.subject, "organizer", False
    # Exchange puts the organizer's name in the place of the subject (the same page, AddOrganizerToSubject).
    if _plain(remote.subject) not in _names(remote):
        return remote.subject, "room", False
    return PLACEHOLDER, "placeholder", False


def _names(remote: Remote) -> set[str]:
    person = remote.organizer
    return {"", _plain(remote.organizer_name), *((_plain(person.name), _plain(person.email)) if person else ())}


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


# --- ours to theirs --------------------------------------------------------------------------------------------------


def render_create(
    reservation: Reservation, *, room_address: str, room_name: str, owner: Person | None, on_user: bool
) -> dict[str, Any]:
    """The body of POST /users/{mailbox}/events (Learn: Create event).

    In the room's own calendar nobody is invited, so no mail goes out. `on_user`: in the owner's calendar, with the room
    as a resource that Exchange then books, and the attendees.
    """
    body: dict[str, Any] = {
        **_title(reservation),
        **_when(reservation),
        **_sensitivity(reservation),
        "showAs": "busy" if reservation.blocking or reservation.kind == "series" else "free",
        "transactionId": transaction_id(reservation),
    }
    if reservation.notes:
        body |= _text(reservation)
    if on_user:
        room = Person(room_name, room_address)
        body["attendees"] = _invited(room, owner, reservation.attendees)
        body["location"] = {"displayName": room_name, "locationEmailAddress": room_address}
    return body


def render_update(reservation: Reservation, groups: frozenset[str]) -> dict[str, Any]:
    """The body of PATCH /users/{mailbox}/events/{id} (Learn: Update event): what the `groups` time and title hold.

    A meeting that became private or public since both sides agreed says so with its title.
    """
    body = _title(reservation) if "title" in groups else {}
    base = reservation.link.base
    if "title" in groups and base is not None and base.private != reservation.private:
        body |= _sensitivity(reservation)
    return body | (_when(reservation) if "time" in groups else {})


def render_details(reservation: Reservation, listed: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What a PATCH says of attendees and notes that wait to be sent. `listed` are the attendees of the event as it is: a
    PATCH replaces all of them (the same page), so that everybody whom the portal has not removed goes along.
    """
    parts = waiting(reservation)
    body = {"attendees": _reinvited(reservation, listed)} if "attendees" in parts else {}
    return body | (_text(reservation) if "notes" in parts else {})


def _reinvited(reservation: Reservation, listed: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rooms and things stay, and the organizer is not invited."""
    gone = removed(reservation)
    stay = [each for each in listed if each.get("type") == "resource" or address_in(each) not in gone]
    there = {address_in(each) for each in stay} | {reservation.link.organizer_address.lower()}
    new = [person for person in added(reservation) if person.email.lower() not in there]
    return [*(as_listed(each) for each in stay), *(_attendee(person, "required") for person in new)]


def address_in(listed: Mapping[str, Any]) -> str:
    """The address of an attendee of an event, in small letters."""
    return str((listed.get("emailAddress") or {}).get("address") or "").lower()


def as_listed(listed: Mapping[str, Any]) -> dict[str, Any]:
    """An attendee as a PATCH takes them: nobody can answer for them."""
    return {name: listed[name] for name in ("type", "emailAddress") if name in listed}


def _text(reservation: Reservation) -> dict[str, Any]:
    return {"body": {"contentType": "text", "content": reservation.notes}}


def _sensitivity(reservation: Reservation) -> dict[str, Any]:
    return {"sensitivity": "private" if reservation.private else "normal"}


def _title(reservation: Reservation) -> dict[str, Any]:
    """A title that this side only shows in the place of the real one never reaches Microsoft."""
    ours = reservation.title_source == "local"
    shown = reservation.private or reservation.title_source == "placeholder"
    return {"subject": reservation.title} if ours or not shown else {}


def _when(reservation: Reservation) -> dict[str, Any]:
    """Both ends as a wall clock's time with the Windows name of its zone, which every method takes; in UTC where that
    would not be clear. The hours of a series must follow its zone.
    """
    times = reservation.times
    zone = times.zone if reservation.kind == "series" or _is_clear(times) else "UTC"
    start, end = (
        {"dateTime": wall.isoformat(timespec="seconds"), "timeZone": windows(zone)} for wall in _walls(times, zone)
    )
    body: dict[str, Any] = {"start": start, "end": end, "isAllDay": times.all_day}
    if reservation.kind == "series" and reservation.recurrence is not None:
        body["recurrence"] = series.render(reservation.recurrence, times.zone)
    return body


def _walls(times: Times, zone: str) -> list[datetime]:
    """What the clocks of `zone` show at both ends; midnight in any zone for all-day events."""
    if times.first and times.last:
        return [datetime.combine(day, time()) for day in (times.first, times.last)]
    return [to_wall(at, zone) for at in (times.start, times.end)]


def _is_clear(times: Times) -> bool:
    """Whether the wall clock of their zone names both ends beyond doubt, for Microsoft too."""
    ends = zip((times.start, times.end), _walls(times, times.zone), strict=True)
    return all(is_shared(at, times.zone) and is_plain(wall, times.zone) for at, wall in ends)


def _invited(room: Person, owner: Person | None, attendees: Sequence[Person]) -> list[dict[str, Any]]:
    """The room and the attendees, each once. The owner is the organizer, who is not invited."""
    seen = {room.email.lower(), owner.email.lower() if owner else ""}
    invited = [_attendee(room, "resource")]
    for person in attendees:
        if person.email.lower() not in seen:
            seen.add(person.email.lower())
            invited.append(_attendee(person, "required"))
    return invited


def _attendee(person: Person, kind: str) -> dict[str, Any]:
    return {"type": kind, "emailAddress": {"name": person.name, "address": person.email}}
