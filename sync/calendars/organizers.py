"""What organizers' own copies of meetings add, where the settings let them be read."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from sync.calendars.event import Remote, Unreadable, parse_event, title_of
from sync.calendars.mailboxes import Denied, denial, fetch_copies, fetch_event, fetch_instances, fetch_view
from sync.calendars.merge import Seen, Title, vanished
from sync.calendars.model import Organizer, Reservation
from sync.calendars.visit import Visit
from sync.errors import Forbidden, NotFound

NO_ANSWER_AFTER = timedelta(hours=24)
Copies = Mapping[tuple[str, str], Remote]


def address_of(remote: Remote) -> str:
    return remote.organizer.email.lower() if remote.organizer else ""


def by_room(visit: Visit, remote: Remote) -> bool:
    return remote.is_organizer or address_of(remote) in ("", visit.mailbox.lower())


def organizer_of(visit: Visit, remote: Remote) -> Organizer:
    if by_room(visit, remote):
        return "room"
    denied = visit.denials.get(address_of(remote), visit.work.now())
    return "external" if denied and denied.reason == "external" else "user"


def may_read(visit: Visit, mailbox: str) -> bool:
    return bool(mailbox) and visit.policy.read_user and visit.denials.get(mailbox, visit.work.now()) is None


def fetch_all_copies(visit: Visit, remotes: Iterable[Remote], find: Callable[[Remote], Reservation | None]) -> Copies:
    """The organizers' copies of what is new or has changed: once for each version of the room's copy."""
    wanted: dict[str, list[str]] = {}
    asked: list[Remote] = []
    for remote in remotes:
        known = find(remote)
        if by_room(visit, remote) or remote.cancelled or (known is not None and same(visit, known, remote)):
            continue
        if remote.ical and may_read(visit, address_of(remote)):
            wanted.setdefault(address_of(remote), []).append(remote.ical)
            asked.append(remote)
    first = _fetch_copies(visit, [(mailbox, icals[0]) for mailbox, icals in wanted.items()])
    open_ones = {mailbox: icals[1:] for mailbox, icals in wanted.items() if may_read(visit, mailbox)}
    rest = _fetch_copies(visit, [(mailbox, ical) for mailbox, icals in open_ones.items() for ical in icals])
    copies = first | rest
    missing = [one for one in asked if one.kind == "single" and (address_of(one), one.ical) not in copies]
    return copies | _fetch_at_their_time(visit, missing)


def _fetch_at_their_time(visit: Visit, remotes: Iterable[Remote]) -> dict[tuple[str, str], Remote]:
    """The copies that no search finds: a room invited to one occurrence of a series has an event of its own, while the
    organizer's calendar has it in the series alone. Looked for in that very time.
    """
    copies: dict[tuple[str, str], Remote] = {}
    for remote in remotes:
        mailbox = address_of(remote)
        if not may_read(visit, mailbox):
            continue
        try:
            view = fetch_view(visit.graph, mailbox, remote.times.start, remote.times.end)
        except Forbidden:
            visit.denials.add(mailbox, Denied("denied"), visit.work.now())
            continue
        for raw in view:
            if raw.get("iCalUId") == remote.ical:
                with suppress(Unreadable):
                    copies[mailbox, remote.ical] = parse_event(raw, visit.room.time_zone)
    return copies


def _fetch_copies(visit: Visit, keys: list[tuple[str, str]]) -> dict[tuple[str, str], Remote]:
    """Those of the copies that can be had; who refuses is not asked again for a day."""
    copies: dict[tuple[str, str], Remote] = {}
    for key, copy in fetch_copies(visit.graph, keys).items():
        if isinstance(copy, Denied):
            visit.denials.add(key[0], copy, visit.work.now())
        elif copy is not None:
            with suppress(Unreadable):
                copies[key] = parse_event(copy, visit.room.time_zone)
    return copies


def title_for(visit: Visit, remote: Remote, copy: Remote | None) -> Title:
    return Title(*title_of(remote, copy, policy_read=visit.policy.read_user))


def see(visit: Visit, remote: Remote, copy: Remote | None) -> Seen:
    organizer = organizer_of(visit, remote)
    return Seen(
        remote=remote,
        times=remote.times,
        title=title_for(visit, remote, copy),
        organizer=organizer,
        address=visit.mailbox.lower() if organizer == "room" else address_of(remote),
        organizer_event=copy.id if copy else "",
        organizer_etag=copy.etag if copy else "",
        organizer_times=copy.times if copy else None,
        unread=organizer != "room" and copy is None,
    )


def see_again(visit: Visit, one: Reservation, remote: Remote) -> Seen:
    """An event that was looked up by itself: what the organizer's copy adds is known already."""
    seen = see(visit, remote, None)
    title = seen.title if one.link.organizer == "room" else Title(one.title, one.title_source, one.private)
    return replace(
        seen,
        title=title,
        organizer=one.link.organizer,
        address=one.link.organizer_address,
        master=one.link.master,
        series=one.series,
        original_start=one.original_start,
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
        unread=False,
    )


def room_declined(visit: Visit, one: Reservation) -> bool:
    """Whether a meeting that the portal put on its owner's calendar goes on without the room."""
    if one.origin != "portal" or one.link.organizer != "user" or not may_read(visit, one.link.organizer_address):
        return False
    copy = _organizers_event(visit, one)
    return copy is not None and _room_answer(visit, copy) == "declined"


def _organizers_event(visit: Visit, one: Reservation) -> Remote | None:
    """The organizer's copy as it is now; None where it is gone or cannot be read."""
    if not one.link.organizer_event:
        return None
    address = one.link.organizer_address
    try:
        raw = fetch_event(visit.graph, address, one.link.organizer_event)
        return None if raw is None else parse_event(raw, visit.room.time_zone)
    except (Forbidden, NotFound) as error:
        visit.denials.add(address, denial(error.http, error.graph_code), visit.work.now())
        return None
    except Unreadable:
        return None


def _room_answer(visit: Visit, copy: Remote) -> str:
    answers = [one.response for one in copy.attendees if one.email.lower() == visit.mailbox.lower()]
    return answers[0] if answers else "none"


def ask_organizers(visit: Visit) -> None:
    """A meeting that waits for its room: the room may have declined it, and its owner may have moved it meanwhile."""
    now = visit.work.now()
    for one in visit.ledger:
        address = one.link.organizer_address
        waits = one.status == "awaitingRoom" and one.link.state == "linked" and one.link.organizer == "user"
        if not waits or not may_read(visit, address):
            continue
        copy = _organizers_event(visit, one)
        if copy is None:
            if visit.denials.get(address, now) is None:
                visit.ledger.put(vanished(one, now).reservation or one, "deleted")
        elif _room_answer(visit, copy) == "declined":
            visit.ledger.put(vanished(one, now, declined=True).reservation or one, "updated")
        elif copy.times.canonical() != one.times.canonical():
            base = one.agreed()
            start, end = copy.times.canonical()
            moved = replace(one, times=copy.times, updated_at=now)
            visit.ledger.put(moved.linked(base=replace(base, start=start, end=end)), "updated")
        elif now - one.created_at > NO_ANSWER_AFTER and one.note != "room-no-response":
            visit.ledger.put(replace(one, note="room-no-response"), "updated")


def same(visit: Visit, known: Reservation, remote: Remote) -> bool:
    """Whether this very version has been seen before, so that not even the organizer needs to be asked."""
    again = visit.full and known.link.unread and may_read(visit, known.link.organizer_address)
    return known.link.state == "linked" and known.link.room_etag == remote.etag and not again


def instance_titles(
    visit: Visit, series: Reservation, master: Seen, exceptions: Sequence[tuple[Remote, Reservation | None]]
) -> dict[datetime, Title]:
    """The titles of changed occurrences, from the organizer's copies, where any of them is new or has changed."""
    fresh = [remote for remote, known in exceptions if known is None or known.link.room_etag != remote.etag]
    if master.organizer == "room":
        return {}
    kept = {
        remote.original_start: Title(known.title, known.title_source, known.private)
        for remote, known in exceptions
        if known is not None and remote.original_start and known.title_source != "placeholder"
    }
    if not fresh or not series.link.organizer_event or not may_read(visit, series.link.organizer_address):
        return kept
    try:
        raws = fetch_instances(visit.graph, series.link.organizer_address, series.link.organizer_event, visit.window)
    except Forbidden:
        visit.denials.add(series.link.organizer_address, Denied("denied"), visit.work.now())
        return kept
    for raw in raws or ():
        try:
            copy = parse_event(raw, visit.room.time_zone)
        except Unreadable:
            continue
        if copy.original_start and copy.kind == "exception":
            kept[copy.original_start] = title_for(visit, copy, copy)
    return kept
