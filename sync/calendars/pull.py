"""From Graph to the portal: the changes of one room's calendar, read to their end and then taken over.

Learn: event: delta. What it leaves out is asked for: the fields of occurrences (from their series), the instances of a
series of which anything has changed (a deleted occurrence may give no sign), and whether what seems to be gone is gone.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sync.calendars.event import Remote, Unreadable, hydrated, parse_event, title_of
from sync.calendars.mailboxes import (
    Denied,
    Raw,
    Round,
    fetch_copies,
    fetch_event,
    fetch_events,
    fetch_instances,
    fetch_round,
)
from sync.calendars.merge import CLASH, Seen, Title, Verdict, decide, loses, vanished
from sync.calendars.model import Organizer, Reservation, imported_id, occurrence_id
from sync.calendars.visit import Visit, window_of
from sync.errors import CursorExpired, Forbidden

SAFE_REMOVALS, SAFE_SHARE = 5, 0.3
AGREE_AFTER = timedelta(minutes=10)
NO_ANSWER_AFTER = timedelta(hours=24)
Copies = Mapping[tuple[str, str], Remote]


@dataclass
class Findings:
    """What a round has shown: single events, series, and what seems to be gone. `complete` is one that began anew."""

    complete: bool
    singles: dict[str, Remote] = field(default_factory=dict)
    masters: dict[str, Remote] = field(default_factory=dict)
    instances: dict[str, list[Remote]] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    gone_series: set[str] = field(default_factory=set)
    removed: frozenset[str] = frozenset()

    def seen(self) -> set[str]:
        """The ids of everything that is there."""
        listed = (remote.id for instances in self.instances.values() for remote in instances)
        return {*self.singles, *self.masters, *listed, *self.unreadable}


def pull(visit: Visit, *, anew: bool) -> bool:
    """Bring a room's reservations up to its calendar; whether there was anything to do.

    `anew` opens a new window and reads all of it. Nothing is committed here, and the state's delta link is that of the
    end of the round. Raises Forbidden and NotFound where the room's mailbox cannot be read.
    """
    round_, complete = _read(visit, anew=anew)
    if not (complete or round_.events or round_.removed or visit.state.awaiting):
        visit.set(delta_link=round_.delta_link)
        return False
    findings = _understand(visit, round_, complete=complete)
    matched = _take_in(visit, findings)
    visit.set(delta_link=round_.delta_link)
    _remove(visit, findings, matched)
    _ask_organizers(visit)
    _settle_clashes(visit)
    visit.set(awaiting=any(one.status == "awaitingRoom" for one in visit.ledger))
    return True


# --- reading ---------------------------------------------------------------------------------------------------------


def _read(visit: Visit, *, anew: bool) -> tuple[Round, bool]:
    """A round, and whether it was a complete one. An empty one where there was something is not believed at once."""
    if not anew and visit.state.delta_link:
        try:
            return fetch_round(visit.graph, visit.mailbox, visit.state.delta_link, visit.window), False
        except CursorExpired:
            visit.set(delta_link="")
    start, end = window_of(visit.settings, visit.room.time_zone, visit.work.now())
    day = visit.work.now().astimezone(ZoneInfo(visit.room.time_zone)).date()
    visit.set(window_start=start, window_end=end, window_day=day)
    round_ = fetch_round(visit.graph, visit.mailbox, "", visit.window)
    if not round_.events and any(one.link.room_event and one.live for one in visit.ledger):
        round_ = fetch_round(visit.graph, visit.mailbox, "", visit.window)
    return round_, True


def _understand(visit: Visit, round_: Round, *, complete: bool) -> Findings:
    findings = Findings(complete, removed=round_.removed - round_.events.keys())
    doubtful = round_.removed & round_.events.keys()
    events = {**round_.events, **_present(visit, doubtful, findings)}
    occurrences: dict[str, list[Remote]] = {}
    for event, raw in events.items():
        remote = _parse(visit, event, raw, findings)
        if remote is None:
            continue
        match remote.kind:
            case "single":
                findings.singles[event] = remote
            case "series":
                findings.masters[event] = remote
            case _:
                occurrences.setdefault(remote.master, []).append(remote)
    touched = sorted(findings.masters.keys() | occurrences.keys())
    _find_masters(visit, touched, findings)
    for master in touched:
        if master in findings.masters:
            _list_instances(visit, master, occurrences.get(master, []), findings)
    return findings


def _present(visit: Visit, doubtful: Iterable[str], findings: Findings) -> dict[str, Raw]:
    """The events, of those that a round tells both of, that are really there; the others are removed."""
    asked = fetch_events(visit.graph, visit.mailbox, doubtful) if doubtful else {}
    findings.removed |= {event for event, raw in asked.items() if raw is None}
    return {event: raw for event, raw in asked.items() if raw is not None}


def _parse(visit: Visit, event: str, raw: Raw, findings: Findings) -> Remote | None:
    try:
        return parse_event(raw, visit.room.time_zone)
    except Unreadable as bad:
        findings.unreadable.add(event)
        visit.ledger.count("failed")
        visit.ledger.note(imported_id(visit.room.id, event), "failed", str(bad), level="error")
        return None


def _find_masters(visit: Visit, touched: Iterable[str], findings: Findings) -> None:
    """The masters that the round itself does not hold."""
    wanted = [master for master in touched if master not in findings.masters]
    for master, raw in (fetch_events(visit.graph, visit.mailbox, wanted) if wanted else {}).items():
        remote = None if raw is None else _parse(visit, master, raw, findings)
        if raw is None:
            findings.gone_series.add(master)
        elif remote is not None:
            findings.masters[master] = remote


def _list_instances(visit: Visit, master: str, shown: list[Remote], findings: Findings) -> None:
    """The instances in the window. Stubs of a complete round are enough where none of them was moved or renamed."""
    series = findings.masters[master]
    if findings.complete and all(one.stub for one in shown):
        findings.instances[master] = [_placed(hydrated(one, series)) for one in shown]
        return
    listed = fetch_instances(visit.graph, visit.mailbox, master, visit.window)
    if listed is None:
        findings.gone_series.add(master)
        del findings.masters[master]
        return
    parsed = [_parse(visit, str(raw.get("id")), raw, findings) for raw in listed]
    findings.instances[master] = [_placed(one) for one in parsed if one is not None]


def _placed(instance: Remote) -> Remote:
    """An occurrence that was never moved begins when its series says so."""
    if instance.original_start or instance.times is None:
        return instance
    return replace(instance, original_start=instance.times.start)


# --- taking over -----------------------------------------------------------------------------------------------------


class _Index:
    """The reservations of a room by all that an event can be known by, in this order: the id of the event, the id of
    the create that made it, its place in its series, the id that all copies of a meeting share.
    """

    def __init__(self, held: Iterable[Reservation]) -> None:
        self.by_event: dict[str, Reservation] = {}
        self.by_transaction: dict[str, Reservation] = {}
        self.by_ical: dict[str, Reservation] = {}
        for one in sorted(held, key=lambda each: (each.live, each.updated_at)):  # living ones last: they win
            if one.link.room_event:
                self.by_event[one.link.room_event] = one
            if one.link.transaction:
                self.by_transaction[one.link.transaction] = one
            if one.link.ical and one.kind in ("single", "series"):
                self.by_ical[one.link.ical] = one

    def find(self, remote: Remote) -> Reservation | None:
        """The reservation of a single event or of a series."""
        known = self.by_event.get(remote.id) or self.by_transaction.get(remote.transaction)
        return known or self.by_ical.get(remote.ical)


def _take_in(visit: Visit, findings: Findings) -> set[str]:
    """Decide about everything that is there; the ids of the reservations that it belongs to."""
    index = _Index(visit.ledger)
    copies = _organizers_copies(visit, findings, index)
    matched: set[str] = set()
    for master, remote in sorted(findings.masters.items()):
        matched |= _take_series(visit, remote, findings.instances.get(master, []), index, copies)
    for remote in sorted(findings.singles.values(), key=lambda one: one.id):
        known = index.find(remote)
        if known is not None and known.kind == "series":  # it lost its recurrence: what it was is gone
            known = None
        if known is not None and _same(visit, known, remote):
            visit.ledger.count("unchanged")
            matched.add(known.id)
            continue
        seen = _seen(visit, remote, copies.get((_address(remote), remote.ical)))
        verdict = decide(known, seen, visit.room.id, visit.work.now())
        matched |= _store(visit, known, verdict)
    return matched


def _same(visit: Visit, known: Reservation, remote: Remote) -> bool:
    """Whether this very version has been seen before, so that not even the organizer needs to be asked."""
    again = visit.full and known.title_source == "placeholder"
    return known.link.state == "linked" and known.link.room_etag == remote.etag and not again


def _store(visit: Visit, known: Reservation | None, verdict: Verdict) -> set[str]:
    """Note the verdict; the ids of the reservations that it is about."""
    after = verdict.reservation
    visit.ledger.count(verdict.outcome)
    if after is not None:
        visit.ledger.put(after, verdict.change)
        if verdict.lost:
            visit.ledger.note(after.id, verdict.outcome, "outlook-won")
    about = after or known
    return {about.id} if about else set()


def _take_series(visit: Visit, master: Remote, instances: list[Remote], index: _Index, copies: Copies) -> set[str]:
    """A series and its instances. A single event that became one keeps its reservation, as the first occurrence."""
    known = index.find(master)
    single = known if known is not None and known.kind != "series" else None
    series = None if single else known
    unchanged = series is not None and _same(visit, series, master)
    seen = _seen(visit, master, copies.get((_address(master), master.ical)))
    if unchanged and series is not None:
        seen = replace(seen, title=Title(series.title, series.title_source, series.private))
    verdict = decide(series, seen, visit.room.id, visit.work.now())
    after = verdict.reservation or series
    if verdict.reservation is not None:
        visit.ledger.put(verdict.reservation, verdict.change)
    if after is None:
        return set()
    moved = series is not None and verdict.change is not None and _beat(series) != _beat(after)
    pairs = _pair(visit, after, instances, single, moved=moved)
    matched = {after.id}
    titles = _instance_titles(visit, after, seen, [one for one in pairs if one[0].kind == "exception"])
    for remote, reservation in pairs:
        part = _part(visit, remote, after, seen, titles)
        matched |= _store(visit, reservation, decide(reservation, part, visit.room.id, visit.work.now()))
    return matched


def _beat(series: Reservation) -> tuple[str, str, str]:
    agreed = series.agreed()
    return agreed.start, agreed.end, agreed.pattern


def _pair(
    visit: Visit, series: Reservation, instances: list[Remote], single: Reservation | None, *, moved: bool
) -> list[tuple[Remote, Reservation | None]]:
    """Each instance with its reservation: by event, by place in the series, and after a shift of the whole series, which
    gives all of them new ids and places, in their order.
    """
    held = [one for one in visit.ledger if one.series == series.id]
    by_event = {one.link.room_event: one for one in held if one.link.room_event}
    by_place = {one.id: one for one in held}
    found: dict[str, Reservation] = {}
    for remote in instances:
        place = occurrence_id(series.id, remote.original_start) if remote.original_start else ""
        hit = by_event.get(remote.id) or by_place.get(place)
        if hit is not None and hit.id not in {one.id for one in found.values()}:
            found[remote.id] = hit
    ordered = sorted(instances, key=_start)
    if single is not None and ordered and ordered[0].id not in found:
        found[ordered[0].id] = single
    if moved:
        taken = {one.id for one in found.values()}
        loose = sorted((one for one in held if one.id not in taken and one.live), key=lambda one: one.times.start)
        alone = [remote for remote in ordered if remote.id not in found]
        found |= {remote.id: one for remote, one in zip(alone, loose, strict=False)}
    return [(remote, found.get(remote.id)) for remote in ordered]


def _start(remote: Remote) -> tuple[str, str]:
    return remote.times.start.isoformat() if remote.times else "", remote.id


def _part(visit: Visit, remote: Remote, series: Reservation, master: Seen, titles: Mapping[datetime, Title]) -> Seen:
    """One instance as it is seen: with the title of its series, unless it has one of its own."""
    title = titles.get(remote.original_start) if remote.original_start else None
    if title is None and (remote.kind == "occurrence" or master.organizer != "room"):
        title = Title(series.title, series.title_source, series.private)
    return replace(
        _seen(visit, remote, None),
        title=title or _title(visit, remote, None),
        organizer=master.organizer,
        address=master.address,
        master=series.link.room_event,
        series=series.id,
        original_start=remote.original_start,
    )


def _instance_titles(
    visit: Visit, series: Reservation, master: Seen, exceptions: Iterable[tuple[Remote, Reservation | None]]
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
    if not fresh or not series.link.organizer_event or not _may_read(visit, series.link.organizer_address):
        return kept
    try:
        raws = fetch_instances(
            visit.graph, series.link.organizer_address, series.link.organizer_event, visit.window
        )
    except Forbidden:
        visit.denials.add(series.link.organizer_address, Denied("denied"), visit.work.now())
        return kept
    for raw in raws or ():
        try:
            copy = parse_event(raw, visit.room.time_zone)
        except Unreadable:
            continue
        if copy.original_start and copy.kind == "exception":
            kept[copy.original_start] = _title(visit, copy, copy)
    return kept


# --- organizers ------------------------------------------------------------------------------------------------------


def _address(remote: Remote) -> str:
    return remote.organizer.email.lower() if remote.organizer else ""


def _by_room(visit: Visit, remote: Remote) -> bool:
    return remote.is_organizer or _address(remote) in ("", visit.mailbox.lower())


def _organizer(visit: Visit, remote: Remote) -> Organizer:
    if _by_room(visit, remote):
        return "room"
    denied = visit.denials.get(_address(remote), visit.work.now())
    return "external" if denied and denied.reason == "external" else "user"


def _may_read(visit: Visit, mailbox: str) -> bool:
    return bool(mailbox) and visit.policy.read_user and visit.denials.get(mailbox, visit.work.now()) is None


def _organizers_copies(visit: Visit, findings: Findings, index: _Index) -> Copies:
    """The organizers' copies of what is new or has changed: once for each version of the room's copy."""
    wanted: dict[str, list[str]] = {}
    for remote in (*findings.masters.values(), *findings.singles.values()):
        known = index.find(remote)
        if _by_room(visit, remote) or remote.cancelled or (known is not None and _same(visit, known, remote)):
            continue
        if remote.ical and _may_read(visit, _address(remote)):
            wanted.setdefault(_address(remote), []).append(remote.ical)
    first = _fetch_copies(visit, [(mailbox, icals[0]) for mailbox, icals in wanted.items()])
    open_ones = {mailbox: icals[1:] for mailbox, icals in wanted.items() if _may_read(visit, mailbox)}
    return first | _fetch_copies(visit, [(mailbox, ical) for mailbox, icals in open_ones.items() for ical in icals])


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


def _title(visit: Visit, remote: Remote, copy: Remote | None) -> Title:
    return Title(*title_of(remote, copy, policy_read=visit.policy.read_user))


def _seen(visit: Visit, remote: Remote, copy: Remote | None) -> Seen:
    organizer = _organizer(visit, remote)
    return Seen(
        remote=remote,
        times=remote.times,
        title=_title(visit, remote, copy),
        organizer=organizer,
        address=visit.mailbox.lower() if organizer == "room" else _address(remote),
        organizer_event=copy.id if copy else "",
        organizer_etag=copy.etag if copy else "",
        organizer_times=copy.times if copy else None,
    )


# --- what is gone ----------------------------------------------------------------------------------------------------


def _remove(visit: Visit, findings: Findings, matched: set[str]) -> None:
    """End what is proved to be gone, unless it is so much that a second look has to agree."""
    missing = [one for one in visit.ledger if one.id not in matched and _seems_gone(visit, one, findings)]
    if not missing:
        visit.set(suspects=0, suspected_at=None)
        return
    still_there = _still_there(visit, missing, findings)
    gone = [one for one in missing if one.id not in still_there]
    for one in missing:
        if one.id in still_there:
            _store(visit, one, decide(one, _again(visit, one, still_there[one.id]), visit.room.id, visit.work.now()))
    if _is_too_much(visit, gone):
        _hold(visit, gone)
        return
    visit.set(suspects=0, suspected_at=None)
    for one in gone:
        declined = one.link.state != "deleting" and _room_declined(visit, one)
        _store(visit, one, vanished(one, visit.work.now(), declined=declined))


def _seems_gone(visit: Visit, one: Reservation, findings: Findings) -> bool:
    """Leaving the window is not deletion: only what should be in a listing and is not, or is said to be removed."""
    link = one.link
    if link.state not in ("linked", "updating", "deleting") or not link.room_event:
        return False
    if link.room_event in findings.unreadable:
        return False
    if {link.room_event, link.master} & (findings.removed | findings.gone_series):
        return True
    start, end = visit.window
    inside = one.kind != "series" and one.times.start < end and start < one.times.end
    listed = findings.complete or link.master in findings.instances
    return inside and listed and link.room_event not in findings.seen()


def _still_there(visit: Visit, missing: Iterable[Reservation], findings: Findings) -> dict[str, Remote]:
    """The events, by reservation, of those that are there all the same. A series that is gone takes all of it along."""
    gone = set(findings.gone_series)
    masters = {one.link.master for one in missing if one.link.master} - gone - findings.masters.keys()
    if masters:
        answers = fetch_events(visit.graph, visit.mailbox, masters)
        gone |= {master for master, raw in answers.items() if raw is None}
    doubtful = {one.link.room_event: one.id for one in missing if not {one.link.room_event, one.link.master} & gone}
    found: dict[str, Remote] = {}
    for event, raw in (fetch_events(visit.graph, visit.mailbox, doubtful) if doubtful else {}).items():
        remote = None if raw is None else _parse(visit, event, raw, findings)
        if remote is not None:
            found[doubtful[event]] = remote
    return found


def _again(visit: Visit, one: Reservation, remote: Remote) -> Seen:
    """An event that was looked up by itself: what the organizer's copy adds is known already."""
    seen = _seen(visit, remote, None)
    title = seen.title if one.link.organizer == "room" else Title(one.title, one.title_source, one.private)
    place = {"master": one.link.master, "series": one.series, "original_start": one.original_start}
    return replace(seen, title=title, organizer=one.link.organizer, address=one.link.organizer_address, **place)


def _is_too_much(visit: Visit, gone: list[Reservation]) -> bool:
    now = visit.work.now()
    units = _units(one for one in gone if one.live and one.link.state != "deleting")
    total = _units(one for one in visit.ledger if one.live and one.link.room_event and one.times.end > now)
    if len(units) <= max(SAFE_REMOVALS, SAFE_SHARE * len(total)):
        return False
    since = visit.state.suspected_at
    return since is None or now - since < AGREE_AFTER


def _units(reservations: Iterable[Reservation]) -> set[str]:
    """A series is one thing to lose."""
    return {one.series or one.id for one in reservations}


def _hold(visit: Visit, gone: list[Reservation]) -> None:
    """Delete nothing, and look at everything anew in ten minutes."""
    since = visit.state.suspected_at or visit.work.now()
    visit.set(suspects=len(gone), suspected_at=since, delta_link="", retry_at=since + AGREE_AFTER)
    for one in gone:
        visit.ledger.count("skipped")
        visit.ledger.note(one.id, "skipped", "remote-empty")


def _room_declined(visit: Visit, one: Reservation) -> bool:
    """Whether a meeting that the portal put on its owner's calendar goes on without the room."""
    if one.origin != "portal" or one.link.organizer != "user" or not _may_read(visit, one.link.organizer_address):
        return False
    copy = _organizers_event(visit, one)
    return copy is not None and _room_answer(visit, copy) == "declined"


def _organizers_event(visit: Visit, one: Reservation) -> Remote | None:
    """The organizer's copy as it is now; None where it is gone or cannot be read."""
    if not one.link.organizer_event:
        return None
    try:
        raw = fetch_event(visit.graph, one.link.organizer_address, one.link.organizer_event)
        return None if raw is None else parse_event(raw, visit.room.time_zone)
    except Forbidden:
        visit.denials.add(one.link.organizer_address, Denied("denied"), visit.work.now())
        return None
    except Unreadable:
        return None


def _room_answer(visit: Visit, copy: Remote) -> str:
    answers = [one.response for one in copy.attendees if one.email.lower() == visit.mailbox.lower()]
    return answers[0] if answers else "none"


# --- meetings on owners' calendars, clashes --------------------------------------------------------------------------


def _ask_organizers(visit: Visit) -> None:
    """A meeting that waits for its room: the room may have declined it, and its owner may have moved it meanwhile."""
    now = visit.work.now()
    for one in visit.ledger:
        address = one.link.organizer_address
        if one.status != "awaitingRoom" or one.link.state != "linked" or not _may_read(visit, address):
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


def _settle_clashes(visit: Visit) -> None:
    """Two meetings at one time: one that the portal made later leaves; two that Outlook made stay, and say so."""
    now = visit.work.now()
    standing = [one for one in visit.ledger if one.takes_time and one.times.end > now and one.link.room_event]
    clashing: set[str] = set()
    leaving: set[str] = set()
    for one, other in _overlaps(standing):
        pair = [each for each in (one, other) if each.id not in leaving]
        loser = next((each for each in pair if loses(each, other if each is one else one)), None)
        if len(pair) == 2 and loser is not None:
            leaving.add(loser.id)
            left = replace(loser, status="declined", sync_state="rejected", note="room-busy", updated_at=now)
            visit.ledger.put(left.linked(state="deleting", cause=CLASH), "updated")
            visit.ledger.note(loser.id, "updated", "room-busy")
        elif len(pair) == 2:
            clashing |= {one.id, other.id}
    for one in standing:
        if one.id not in leaving and (one.id in clashing) != (one.note == "double-booked"):
            visit.ledger.put(replace(one, note="double-booked" if one.id in clashing else ""), "updated")


def _overlaps(standing: Iterable[Reservation]) -> Iterator[tuple[Reservation, Reservation]]:
    """All pairs that overlap."""
    open_ones: list[Reservation] = []
    for one in sorted(standing, key=lambda each: (each.times.start, each.id)):
        open_ones = [other for other in open_ones if other.times.end > one.times.start]
        for other in open_ones:
            yield other, one
        open_ones.append(one)
