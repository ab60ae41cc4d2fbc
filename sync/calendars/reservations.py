"""Reservations as the contract has them and as they are kept, one made from the other: pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal

from sync.calendars import recurrence as rule
from sync.calendars.model import Link, Person, Policy, Reservation, Room, Times
from sync.calendars.models import (
    MomentIn,
    MomentOut,
    PersonIn,
    PersonOut,
    RecurrenceIn,
    ReservationIn,
    ReservationOut,
    ReservationPatch,
)
from sync.calendars.zones import iana, skipped, to_utc, to_wall
from sync.errors import RequestError

LONGEST = timedelta(days=366)
AHEAD = timedelta(days=3653)
Fault = rule.Fault


def _refuse(faults: list[Fault]) -> None:
    if faults:
        raise RequestError("The reservation does not fit together", fields=faults)


# --- theirs to ours --------------------------------------------------------------------------------------------------


def build(wanted: ReservationIn, reservation_id: str, room: Room, policy: Policy, now: datetime) -> Reservation:
    """A new reservation, to be sent. Raises RequestError that names what does not fit, `user-calendar-not-allowed`."""
    times, faults = _times(wanted.start, wanted.end, room.time_zone, now, all_day=wanted.all_day)
    raw = None if wanted.recurrence is None else _raw(wanted.recurrence)
    _refuse([*faults, *_rhythm_faults(raw, times, faults), *_owner_faults(wanted, policy)])
    recurrence = None if raw is None else rule.reduced(raw)
    organizer = _organizer(wanted, policy)
    owner = _person(wanted.owner)
    return Reservation(
        id=reservation_id,
        room=room.id,
        kind="single" if recurrence is None else "series",
        origin="portal",
        title=wanted.title,
        title_source="local",
        owner=owner,
        times=times,
        created_at=now,
        updated_at=now,
        status="awaitingRoom" if organizer == "user" else "confirmed",
        blocking=recurrence is None,
        private=wanted.private,
        attendees=tuple(Person(one.name, one.email) for one in wanted.attendees),
        notes=wanted.notes,
        recurrence=recurrence,
        link=fresh_link(organizer, room, owner),
    )


def fresh_link(organizer: Literal["room", "user"], room: Room, owner: Person | None) -> Link:
    """The link of a reservation whose event has to be made yet."""
    address = owner.email if organizer == "user" and owner else room.external_calendar
    return Link(state="creating", organizer=organizer, organizer_address=address)


def _organizer(wanted: ReservationIn, policy: Policy) -> Literal["room", "user"]:
    if wanted.organizer == "user" and not policy.create_on_user:
        raise RequestError(
            "The settings do not allow reservations in users' calendars",
            code="user-calendar-not-allowed",
            status=409,
            remedy="Leave organizer out, or enable createOnUserCalendar, with delegation where strict mode is on.",
        )
    on_user = wanted.organizer != "room" and policy.create_on_user and wanted.owner is not None
    return "user" if on_user else "room"


def _owner_faults(wanted: ReservationIn, policy: Policy) -> list[Fault]:
    if wanted.organizer != "user" or wanted.owner is not None or not policy.create_on_user:
        return []
    return [("/owner", "is needed for a reservation in its owner's calendar")]


def _person(person: PersonIn | None) -> Person | None:
    return None if person is None else Person(person.name, person.email)


def _times(
    start: MomentIn,
    end: MomentIn,
    room_zone: str,
    now: datetime,
    *,
    all_day: bool,
    named: Collection[str] = ("start", "end"),
) -> tuple[Times, list[Fault]]:
    """The times, and everything that is wrong with them. Of those that are `named` the clocks must show each."""
    zone = (iana(start.time_zone) if start.time_zone else None) or room_zone
    walls = [datetime.fromisoformat(each.date_time).replace(microsecond=0) for each in (start, end)]
    if all_day:
        midnight = "must be midnight for an all-day reservation"
        names = zip(("/start/dateTime", "/end/dateTime"), walls, strict=True)
        faults = [(name, midnight) for name, wall in names if wall.time() != datetime.min.time()]
        times = Times.days(walls[0].date(), walls[1].date(), room_zone)
        return times, faults or _sense(times, now)
    end_zone = (iana(end.time_zone) if end.time_zone else None) or zone
    times = Times(to_utc(walls[0], zone), to_utc(walls[1], end_zone), zone)
    moments = {"start": (walls[0], zone), "end": (walls[1], end_zone)}
    gaps = {name: gap for name in moments if name in named and (gap := skipped(*moments[name]))}
    # The start may have been meant to lie before the gap: what makes no sense even so is named, too.
    meant = replace(times, start=times.start - gaps.get("start", timedelta()))
    missing = "does not exist on that day: the clocks skip it"
    return times, [*((f"/{name}/dateTime", missing) for name in gaps), *_sense(meant, now)]


def _sense(times: Times, now: datetime) -> list[Fault]:
    faults = []
    if times.start > now + AHEAD:
        faults.append(("/start", "must be within ten years from now"))
    if times.end <= times.start:
        faults.append(("/end", "must be after the start"))
    elif times.end - times.start > LONGEST:
        faults.append(("/end", "must be within a year from the start"))
    return faults


def _raw(wanted: RecurrenceIn) -> dict[str, Any]:
    return wanted.model_dump(by_alias=True, exclude_none=True)


def _rhythm_faults(raw: Mapping[str, Any] | None, times: Times, known: list[Fault]) -> list[Fault]:
    """What is wrong with a recurrence at these times, but for what is `known` to be wrong."""
    told = {pointer for pointer, _ in known}
    return [] if raw is None else [fault for fault in rule.validate(raw, times) if fault[0] not in told]


# --- what a change comes to ------------------------------------------------------------------------------------------

_NEVER_NULL = ("title", "start", "end", "all_day", "attendees", "notes", "private", "organizer", "room")
_POINTERS = {"all_day": "/allDay"}


def revise(known: Reservation, patch: ReservationPatch, room_zone: str, now: datetime) -> Reservation:
    """The reservation with what `patch` names, but for its room; its link and state are left as they are.

    Raises RequestError that names what does not fit.
    """
    given = patch.model_fields_set
    faults = [
        (_POINTERS.get(name, f"/{name}"), "must not be null")
        for name in _NEVER_NULL
        if name in given and getattr(patch, name) is None
    ]
    if patch.organizer not in (None, render_organizer(known)):
        faults.append(("/organizer", "cannot be changed"))
    timing, amiss = _timing(known, patch, room_zone, now)
    _refuse([*faults, *amiss])
    taken: dict[str, Callable[[], Any]] = {
        "owner": lambda: _person(patch.owner),
        "notes": lambda: patch.notes,
        "private": lambda: patch.private,
        "attendees": lambda: _attendees(known, patch.attendees or ()),
    }
    changes = {name: take() for name, take in taken.items() if name in given}
    if patch.title is not None and patch.title != known.title:
        changes |= {"title": patch.title, "title_source": "local"}
    return replace(known, **changes, **timing)


def _attendees(known: Reservation, wanted: Sequence[PersonIn]) -> tuple[Person, ...]:
    """Who is to be invited. Whoever is in somebody's meeting already has the name that Microsoft knows them by."""
    there = known.attendees if known.link.organizer != "room" and known.link.base else ()
    names = {person.email.lower(): person for person in there}
    return tuple(names.get(one.email.lower()) or Person(one.name, one.email) for one in wanted)


def _timing(
    known: Reservation, patch: ReservationPatch, room_zone: str, now: datetime
) -> tuple[dict[str, Any], list[Fault]]:
    """Times and recurrence as the patch wants them, and everything that is wrong with them: then they are left out."""
    given = patch.model_fields_set
    if not given & {"start", "end", "all_day", "recurrence"}:
        return {}, []
    start, end = render_times(known.times)
    all_day = known.times.all_day if patch.all_day is None else patch.all_day
    times, faults = _times(
        patch.start or MomentIn.model_construct(**dict(start)),
        patch.end or MomentIn.model_construct(**dict(end)),
        room_zone,
        now,
        all_day=all_day,
        named=[name for name, moment in (("start", patch.start), ("end", patch.end)) if moment],
    )
    if "recurrence" in given and (patch.recurrence is None) != (known.recurrence is None):
        no_change = "cannot be added or taken away: cancel the reservation and make another one"
        return {}, [*faults, ("/recurrence", no_change)]
    if known.recurrence is None:
        return {"times": times}, faults
    raw = _raw(patch.recurrence) if patch.recurrence else _begun(known.recurrence, times)
    faults += _rhythm_faults(raw, times, faults)
    return ({} if faults else {"times": times, "recurrence": rule.reduced(raw)}), faults


def _begun(recurrence: Mapping[str, Any], times: Times) -> Mapping[str, Any]:
    """The same recurrence from another first occurrence on."""
    first = times.first or to_wall(times.start, times.zone).date()
    return {**recurrence, "range": {**recurrence["range"], "startDate": first.isoformat()}}


# --- ours to theirs --------------------------------------------------------------------------------------------------


def render(one: Reservation) -> ReservationOut:
    """A reservation as the contract shows it, its times on the clocks of its zone."""
    start, end = render_times(one.times)
    return ReservationOut(
        id=one.id,
        room=one.room,
        title=one.title,
        title_source=one.title_source,
        owner=None if one.owner is None else PersonOut(name=one.owner.name, email=one.owner.email),
        start=start,
        end=end,
        all_day=one.times.all_day,
        recurrence=None if one.recurrence is None else dict(one.recurrence),
        series_id=one.series or None,
        original_start=one.original_start,
        type=one.kind,
        attendees=[PersonOut(name=person.name, email=person.email) for person in one.attendees],
        notes=one.notes,
        private=one.private,
        organizer=render_organizer(one),
        sync_state=one.sync_state,
        origin=one.origin,
        status=one.status,
        blocking=one.blocking,
        note=one.note or None,
        created_at=one.created_at,
        updated_at=one.updated_at,
    )


def render_organizer(one: Reservation) -> Literal["room", "user"]:
    """Somebody outside of the tenant is a user, too."""
    return "room" if one.link.organizer == "room" else "user"


def render_times(times: Times) -> tuple[MomentOut, MomentOut]:
    if times.first and times.last:
        walls = [datetime.combine(day, datetime.min.time()) for day in (times.first, times.last)]
    else:
        walls = [to_wall(at, times.zone) for at in (times.start, times.end)]
    start, end = (MomentOut(date_time=wall.isoformat(timespec="seconds"), time_zone=times.zone) for wall in walls)
    return start, end
