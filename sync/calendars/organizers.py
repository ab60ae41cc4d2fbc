"""What organizers' own copies of meetings add, where the settings let them be read."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Literal, TypeVar

from sync.calendars.details import details
from sync.calendars.event import Remote, Unreadable, parse_event, people, title_of
from sync.calendars.findings import Findings
from sync.calendars.mailboxes import Denied, denial, fetch_copies, fetch_copy_at, fetch_event, fetch_instances
from sync.calendars.merge import NO_RESPONSE, Seen, Title, agreed_title, vanished
from sync.calendars.model import Organizer, Person, Reservation, Times
from sync.calendars.visit import Visit
from sync.errors import GraphError

T = TypeVar("T")
NO_ANSWER_AFTER = timedelta(hours=24)
Absence = Literal["gone", "unknown"]
GONE: Absence = "gone"
UNKNOWN: Absence = "unknown"
Copies = Mapping[tuple[str, str], Remote]


@dataclass(frozen=True)
class Own:
    """What a changed occurrence has of its own."""

    title: Title
    people: tuple[Person, ...]


def address_of(remote: Remote) -> str:
    return remote.organizer.email.lower() if remote.organizer else ""


def by_room(visit: Visit, remote: Remote) -> bool:
    """Whether the room itself is the organizer. One without an address is somebody else, if the answer says so."""
    address = address_of(remote)
    return (
        bool(remote.is_organizer) or address == visit.mailbox.lower() or (remote.is_organizer is None and not address)
    )


def organizer_of(visit: Visit, remote: Remote) -> Organizer:
    if by_room(visit, remote):
        return "room"
    denied = visit.denials.get(address_of(remote), visit.work.now())
    return "external" if not address_of(remote) or (denied and denied.reason == "external") else "user"


def may_read(visit: Visit, mailbox: str) -> bool:
    now = visit.work.now()
    open_ = visit.denials.get(mailbox, now) is None and not visit.denials.is_silent(mailbox, now)
    return bool(mailbox) and visit.policy.read_user and open_


def fetch_all_copies(visit: Visit, findings: Findings, find: Callable[[Remote], Reservation | None]) -> Copies:
    """The organizers' copies of what is new or has changed: once for each version of the room's copy."""
    wanted: dict[tuple[str, str], Times] = {}
    for remote in (*findings.masters.values(), *findings.singles.values()):
        known = find(remote)
        if by_room(visit, remote) or remote.cancelled or (known is not None and same(visit, known, remote)):
            continue
        if remote.ical and may_read(visit, address_of(remote)):
            wanted[address_of(remote), remote.ical] = findings.moment(remote)
    return _find_copies(visit, wanted)


def _find_copies(visit: Visit, wanted: Mapping[tuple[str, str], Times]) -> dict[tuple[str, str], Remote]:
    """Those of the copies that can be had; one of each organizer at first, who may refuse to be asked at all."""
    firsts = {mailbox: (mailbox, ical) for mailbox, ical in wanted}
    copies = _fetch_copies(visit, firsts.values())
    copies |= _fetch_copies(visit, [key for key in wanted if key not in firsts.values() and may_read(visit, key[0])])
    missing = {key: times for key, times in wanted.items() if key not in copies}
    return copies | _fetch_at_their_time(visit, missing)


def _fetch_at_their_time(visit: Visit, wanted: Mapping[tuple[str, str], Times]) -> dict[tuple[str, str], Remote]:
    """The copies that no search finds: a room invited to one occurrence of a series has an event of its own, while the
    organizer's calendar has it in the series alone; or Graph does not take the search. Looked for in that very time.
    """
    copies: dict[tuple[str, str], Remote] = {}
    for key, times in wanted.items():
        if may_read(visit, key[0]):
            raw = _ask(visit, key[0], partial(fetch_copy_at, visit.users_graph, *key, times.start, times.end))
            if isinstance(raw, Mapping):
                with suppress(Unreadable):
                    copies[key] = parse_event(raw, visit.room.time_zone)
    return copies


def _ask(visit: Visit, mailbox: str, call: Callable[[], T]) -> T | Absence:
    """What a user's mailbox has; UNKNOWN where it does not say, and it is left alone for a while. The room goes on."""
    try:
        return call()
    except GraphError as error:
        visit.denials.add(mailbox, denial(error.http, error.graph_code), visit.work.now())
        return UNKNOWN


def _fetch_copies(
    visit: Visit, keys: Iterable[tuple[str, str]], ids: Mapping[tuple[str, str], str] = MappingProxyType({})
) -> dict[tuple[str, str], Remote]:
    """Those of the copies that can be had, by their `ids` where these are known; who refuses is not asked again for a day."""
    copies: dict[tuple[str, str], Remote] = {}
    for key, copy in fetch_copies(visit.users_graph, keys, ids).items():
        if isinstance(copy, Denied):
            visit.denials.add(key[0], copy, visit.work.now())
        elif copy is not None:
            with suppress(Unreadable):
                copies[key] = parse_event(copy, visit.room.time_zone)
    return copies


def title_for(visit: Visit, remote: Remote, copy: Remote | None) -> Title:
    return Title(*title_of(remote, copy, policy_read=visit.policy.read_user))


def see(visit: Visit, remote: Remote, copy: Remote | None) -> Seen:
    """What a room's event comes to. A version whose organizer gives no answer now counts as not seen yet."""
    organizer = organizer_of(visit, remote)
    silent = visit.denials.is_silent(address_of(remote), visit.work.now())
    unsure = copy is None and organizer == "user" and silent
    return Seen(
        remote=replace(remote, etag="") if unsure else remote,
        times=remote.times,
        title=title_for(visit, remote, copy),
        organizer=organizer,
        address=visit.mailbox.lower() if organizer == "room" else address_of(remote),
        organizer_event=copy.id if copy else "",
        organizer_etag=copy.etag if copy else "",
        organizer_times=copy.times if copy else None,
        people=people(copy.attendees) if copy else None,
        unread=organizer != "room" and copy is None,
    )


def see_again(visit: Visit, one: Reservation, remote: Remote) -> Seen:
    """An event that was looked up by itself: what the organizer's copy adds is known already."""
    seen = see(visit, remote, None)
    title = seen.title if one.link.organizer == "room" else agreed_title(one)
    return replace(
        seen,
        title=title,
        organizer=one.link.organizer,
        address=one.link.organizer_address,
        master=one.link.master,
        series=one.series,
        original_start=one.original_start,
        people=details(one).attendees,
        unread=one.link.unread,
    )


def see_organizers(visit: Visit, one: Reservation, copy: Remote) -> Seen:
    """The organizer's copy in the place of the room's, which may be older."""
    in_room = replace(
        copy,
        id=one.link.room_event,
        etag=one.link.room_etag,
        ical=one.link.ical,
        kind=one.kind,
        free=not one.blocking,
        is_organizer=False,
        response="accepted",
    )
    return replace(
        see_again(visit, one, in_room),
        title=title_for(visit, in_room, copy),
        organizer_event=copy.id,
        organizer_etag=copy.etag,
        organizer_times=copy.times,
        people=people(copy.attendees),
        unread=False,
    )


def declined_by_room(visit: Visit, gone: Iterable[Reservation]) -> set[str]:
    """The ids of those of these meetings that go on without the room, as far as their organizers' copies can be read."""
    keys = {
        one.id: (one.link.organizer_address, one.link.ical, one.link.organizer_event)
        for one in gone
        if one.link.organizer == "user" and one.link.ical and not one.series
    }
    readable = {(mailbox, ical): event for mailbox, ical, event in keys.values() if may_read(visit, mailbox)}
    copies = _fetch_copies(visit, readable, {key: event for key, event in readable.items() if event})
    declined = {key for key, copy in copies.items() if not copy.cancelled and _room_answer(visit, copy) == "declined"}
    return {one for one, (mailbox, ical, _) in keys.items() if (mailbox, ical) in declined}


def ask_organizers(visit: Visit) -> None:
    """A meeting that waits for its room: the room may have declined it, and its owner may have moved it meanwhile."""
    for one in visit.ledger:
        if one.status == "awaitingRoom" and one.link.state == "linked" and one.link.organizer == "user":
            copy = _organizers_event(visit, one) if may_read(visit, one.link.organizer_address) else UNKNOWN
            _await(visit, one, copy)


def _await(visit: Visit, one: Reservation, copy: Remote | Absence) -> None:
    """What becomes of a meeting that waits for its room."""
    now = visit.work.now()
    if copy == GONE:
        visit.ledger.put(vanished(one, now).reservation or one, "deleted")
    elif isinstance(copy, Remote) and _room_answer(visit, copy) == "declined":
        visit.ledger.put(vanished(one, now, declined=True).reservation or one, "updated")
    elif isinstance(copy, Remote) and copy.times.canonical() != one.times.canonical():
        start, end = copy.times.canonical()
        moved = replace(one, times=copy.times, updated_at=now)
        visit.ledger.put(moved.linked(base=replace(one.agreed(), start=start, end=end)), "updated")
    elif now - one.updated_at > NO_ANSWER_AFTER and one.note != NO_RESPONSE:
        visit.ledger.put(replace(one, note=NO_RESPONSE), "updated")


def _organizers_event(visit: Visit, one: Reservation) -> Remote | Absence:
    """The organizer's copy as it is now."""
    address = one.link.organizer_address
    if not one.link.organizer_event:
        return UNKNOWN
    raw = _ask(visit, address, partial(fetch_event, visit.users_graph, address, one.link.organizer_event))
    if raw is None:
        return GONE
    with suppress(Unreadable):
        return UNKNOWN if isinstance(raw, str) else parse_event(raw, visit.room.time_zone)
    visit.ledger.note(one.id, "skipped", "organizer-unreadable")
    return UNKNOWN


def _room_answer(visit: Visit, copy: Remote) -> str:
    """What the room has answered. Under another of its addresses it is the only resource that is invited."""
    invited = [one for one in copy.attendees if one.email.lower() == visit.mailbox.lower()]
    resources = [one for one in copy.attendees if one.kind == "resource"]
    if not invited and len(resources) == 1:
        invited = resources
    return invited[0].response if invited else "none"


def same(visit: Visit, known: Reservation, remote: Remote) -> bool:
    """Whether this very version has been seen before, so that not even the organizer needs to be asked."""
    again = visit.full and known.link.unread and may_read(visit, known.link.organizer_address)
    return known.link.state == "linked" and _is_version(known, remote) and not again


def _is_version(known: Reservation, remote: Remote) -> bool:
    """Whether this is the version that was seen last. One that cannot be told may be any."""
    return remote.etag != "" and known.link.room_etag == remote.etag


def is_unsure(one: Reservation) -> bool:
    """Whether its organizer gave no answer when it was last seen: it is looked at again."""
    link = one.link
    seen = one.live and link.state == "linked" and link.room_event != "" and link.organizer == "user"
    return seen and link.unread and not link.room_etag


def _search_event(visit: Visit, one: Reservation, times: Times) -> str:
    """The id of the organizer's own copy, by the id that all copies share or at these times; "" where it cannot be had."""
    key = (one.link.organizer_address, one.link.ical)
    copy = _find_copies(visit, {key: times}).get(key)
    return copy.id if copy else ""


def fetch_own(
    visit: Visit, series: Reservation, master: Seen, exceptions: Sequence[tuple[Remote, Reservation | None]]
) -> dict[datetime, Own]:
    """What changed occurrences have of their own, from the organizer's copies, where any of them is new, has changed or
    is not known yet. One that is not among them is as its series.
    """
    fresh = [
        remote
        for remote, known in exceptions
        if known is None or known.title_source == "placeholder" or not _is_version(known, remote)
    ]
    if master.organizer == "room":
        return {}
    kept = {
        remote.original_start: Own(agreed_title(known), details(known).attendees)
        for remote, known in exceptions
        if known is not None and remote.original_start and known.title_source != "placeholder"
    }
    if not fresh or not may_read(visit, series.link.organizer_address):
        return kept
    address = series.link.organizer_address
    event = series.link.organizer_event or _search_event(visit, series, fresh[0].times)
    if not event:
        return kept
    raws = _ask(visit, address, partial(fetch_instances, visit.users_graph, address, event, visit.window))
    if not isinstance(raws, list):
        return kept
    for remote, _ in exceptions:
        if remote.kind == "occurrence" and remote.original_start:
            kept.pop(remote.original_start, None)
    for raw in raws:
        try:
            copy = parse_event(raw, visit.room.time_zone)
        except Unreadable:
            continue
        if copy.original_start and copy.kind == "exception":
            kept[copy.original_start] = Own(title_for(visit, copy, copy), people(copy.attendees))
    return kept
