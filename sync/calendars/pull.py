"""From Graph to the portal: what a room's calendar shows is taken over into its reservations."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from sync.calendars.event import Remote
from sync.calendars.findings import Findings, read, understand
from sync.calendars.merge import Seen, Title, decide
from sync.calendars.model import Reservation, occurrence_id
from sync.calendars.organizers import (
    Copies,
    address_of,
    ask_organizers,
    fetch_all_copies,
    instance_titles,
    same,
    see,
    title_for,
)
from sync.calendars.overlaps import settle_overlaps
from sync.calendars.removals import remove
from sync.calendars.visit import Visit


def pull(visit: Visit, *, anew: bool) -> bool:
    """Bring a room's reservations up to its calendar; whether there was anything to do.

    `anew` opens a new window and reads all of it. Nothing is committed here, and the state's delta link is that of the
    end of the round. Raises Forbidden and NotFound where the room's mailbox cannot be read.
    """
    round_, complete = read(visit, anew=anew)
    if not (complete or round_.events or round_.removed or visit.state.awaiting):
        visit.set(delta_link=round_.delta_link)
        return False
    findings = understand(visit, round_, complete=complete)
    matched = _take_in(visit, findings)
    visit.set(delta_link=round_.delta_link)
    remove(visit, findings, matched)
    ask_organizers(visit)
    settle_overlaps(visit)
    visit.set(awaiting=any(one.status == "awaitingRoom" for one in visit.ledger))
    return True


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
    copies = fetch_all_copies(visit, [*findings.masters.values(), *findings.singles.values()], index.find)
    matched: set[str] = set()
    for master, remote in sorted(findings.masters.items()):
        matched |= _take_series(visit, remote, findings.instances.get(master, []), index, copies)
    for remote in sorted(findings.singles.values(), key=lambda one: one.id):
        known = index.find(remote)
        if known is not None and known.kind == "series":  # it lost its recurrence: what it was is gone
            known = None
        if known is not None and same(visit, known, remote):
            visit.ledger.count("unchanged")
            matched.add(known.id)
            continue
        seen = see(visit, remote, copies.get((address_of(remote), remote.ical)))
        verdict = decide(known, seen, visit.room.id, visit.work.now())
        matched |= visit.ledger.apply(known, verdict)
    return matched


def _take_series(visit: Visit, master: Remote, instances: list[Remote], index: _Index, copies: Copies) -> set[str]:
    """A series and its instances. A single event that became one keeps its reservation, as the first occurrence."""
    known = index.find(master)
    single = known if known is not None and known.kind != "series" else None
    series = None if single else known
    unchanged = series is not None and same(visit, series, master)
    seen = see(visit, master, copies.get((address_of(master), master.ical)))
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
    titles = instance_titles(visit, after, seen, [one for one in pairs if one[0].kind == "exception"])
    for remote, reservation in pairs:
        part = _part(visit, remote, after, seen, titles)
        matched |= visit.ledger.apply(reservation, decide(reservation, part, visit.room.id, visit.work.now()))
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
    return remote.times.start.isoformat(), remote.id


def _part(visit: Visit, remote: Remote, series: Reservation, master: Seen, titles: Mapping[datetime, Title]) -> Seen:
    """One instance as it is seen: with the title of its series, unless it has one of its own."""
    title = titles.get(remote.original_start) if remote.original_start else None
    if title is None and (remote.kind == "occurrence" or master.organizer != "room"):
        title = Title(series.title, series.title_source, series.private)
    return replace(
        see(visit, remote, None),
        title=title or title_for(visit, remote, None),
        organizer=master.organizer,
        address=master.address,
        master=series.link.room_event,
        series=series.id,
        original_start=remote.original_start,
    )
