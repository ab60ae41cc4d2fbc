"""From Graph to the portal: what a room's calendar shows is taken over into its reservations."""

from dataclasses import replace
from datetime import timedelta

from sync.calendars.event import Remote
from sync.calendars.findings import Findings, read, understand
from sync.calendars.merge import REMOTE, Seen, Title, decide, vanished
from sync.calendars.model import Reservation, imported_id
from sync.calendars.organizers import (
    Copies,
    Own,
    address_of,
    ask_organizers,
    by_room,
    fetch_all_copies,
    fetch_own,
    is_unsure,
    may_read,
    same,
    see,
    title_for,
)
from sync.calendars.overlaps import settle_overlaps
from sync.calendars.pairing import is_as_asked, pair
from sync.calendars.relinking import claim, make_anew
from sync.calendars.removals import remove
from sync.calendars.series import DROPPED
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
    unsure = [one for one in visit.ledger if is_unsure(one) and may_read(visit, one.link.organizer_address)]
    findings = understand(visit, round_, complete=complete, again=(one.link.room_event for one in unsure))
    claim(visit, findings)
    matched = _take_in(visit, findings)
    visit.set(delta_link=round_.delta_link)
    remove(visit, findings, matched)
    make_anew(visit)
    ask_organizers(visit)
    settle_overlaps(visit)
    visit.set(awaiting=any(one.status == "awaitingRoom" or is_unsure(one) for one in visit.ledger))
    return True


class _Index:
    """The reservations of a room by all that an event can be known by, in this order: the id of the event, the id of
    the create that made it, the id that all copies of a meeting share, and where the answer to a create was lost or did
    not tell, what that asked for.
    """

    def __init__(self, visit: Visit) -> None:
        self.by_event: dict[str, Reservation] = {}
        self.by_transaction: dict[str, Reservation] = {}
        self.by_ical: dict[str, Reservation] = {}
        self.by_request: dict[tuple[str, str, str], Reservation] = {}
        self._visit = visit
        self._waiting = [one for one in visit.ledger if one.link.state == "creating" and one.link.payload]
        self._claims: dict[str, str] = {}
        for one in sorted(visit.ledger, key=lambda each: (each.live, each.updated_at)):  # living ones last: they win
            if one.link.room_event:
                self.by_event[one.link.room_event] = one
            if one.link.transaction:
                self.by_transaction[one.link.transaction] = one
            if one.link.ical and one.kind in ("single", "series"):
                self.by_ical[one.link.ical] = one
            if one.link.base and one.link.organizer == "user" and _is_unnamed(one):
                self.by_request[one.link.organizer_address.lower(), one.link.base.start, one.link.base.end] = one

    def find(self, remote: Remote) -> Reservation | None:
        """The reservation of a single event or of a series."""
        known = self.by_event.get(remote.id) or self.by_transaction.get(remote.transaction)
        asked = (address_of(remote), *remote.times.canonical())
        return known or self.by_ical.get(remote.ical) or self.by_request.get(asked) or self._asked_for(remote)

    def _asked_for(self, remote: Remote) -> Reservation | None:
        """The reservation whose create asks for an event of the room's own, each for one event alone."""
        for one in self._waiting:
            if (
                is_as_asked(one, remote)
                and by_room(self._visit, remote)
                and self._claims.setdefault(one.id, remote.id) == remote.id
            ):
                return one
        return None


def _is_unnamed(one: Reservation) -> bool:
    """Whether nothing is known yet that would name its copy in the room."""
    link = one.link
    return bool(link.payload) or (link.state in ("linked", "updating") and not (link.ical or link.room_event))


def _take_in(visit: Visit, findings: Findings) -> set[str]:
    """Decide about everything that is there; the ids of the reservations that it belongs to."""
    index = _Index(visit)
    copies = fetch_all_copies(visit, findings, index.find)
    matched: set[str] = set()
    for master, remote in sorted(findings.masters.items()):
        matched |= _take_series(visit, remote, findings.instances.get(master, []), index, copies)
    for remote in sorted(findings.singles.values(), key=lambda one: one.id):
        known = index.find(remote)
        if known is not None and known.kind == "series":  # it lost its recurrence: what it was is gone
            visit.ledger.apply(known, vanished(known, visit.work.now()))
            known = None
        if known is not None and same(visit, known, remote):
            visit.ledger.count("unchanged")
            matched.add(known.id)
            continue
        seen = see(visit, remote, copies.get((address_of(remote), remote.ical)))
        matched |= _apply(visit, known, seen)
    return matched


def _apply(visit: Visit, known: Reservation | None, seen: Seen) -> set[str]:
    """Decide about what is seen of `known`, and store it; the ids of the reservations that it is about."""
    verdict = decide(known, seen, visit.room.id, visit.work.now())
    if verdict.change and seen.remote.zone_unknown:
        visit.ledger.note(imported_id(visit.room.id, seen.remote.id), verdict.outcome, "zone-unknown")
    return visit.ledger.apply(known, verdict)


def _take_series(visit: Visit, master: Remote, instances: list[Remote], index: _Index, copies: Copies) -> set[str]:
    """A series and its instances. A single event that became one keeps its reservation, as the first occurrence."""
    known = index.find(master)
    single = known if known is not None and known.kind != "series" else None
    series = None if single else known
    seen = see(visit, master, copies.get((address_of(master), master.ical)))
    matched = {series.id} if series else set()
    if series is not None and same(visit, series, master):
        visit.ledger.count("unchanged")
    else:
        matched |= _apply(visit, series, seen)
    after = next((one for name in matched if (one := visit.ledger.get(name))), None)
    if after is None:
        return set()
    held = [one for one in visit.ledger if one.series == after.id]
    pairs = pair(instances, held, single, shift=_shift(series, after), now=visit.work.now())
    own = fetch_own(visit, after, seen, [one for one in pairs if _is_changed(*one)])
    settled = after.link.state == "linked" and after.link.former is None
    for remote, reservation in pairs:
        known = _reopened(reservation) if settled and reservation else reservation
        its_own = own.get(remote.original_start) if remote.original_start else None
        there = replace(remote, kind="exception") if its_own and known and known.kind == "exception" else remote
        matched |= _take_part(visit, after, known, _part(visit, there, after, seen, its_own))
    if settled:
        matched |= _end_unplaced(visit, after, matched)
    return matched


def _is_changed(remote: Remote, known: Reservation | None) -> bool:
    """Whether an occurrence was changed by itself. The room is not told of all that makes it an exception."""
    return "exception" in (remote.kind, known.kind if known else "")


def _reopened(one: Reservation) -> Reservation:
    """An occurrence that the portal took out of its series comes back where the series has a place for it after all."""
    return one.linked(cause=REMOTE) if one.note == DROPPED else one


def _take_part(visit: Visit, series: Reservation, known: Reservation | None, part: Seen) -> set[str]:
    """One instance. A new one of a series that the portal made is the portal's, too."""
    if known is None and not series.live:
        return set()
    verdict = decide(known, part, visit.room.id, visit.work.now())
    made = verdict.reservation
    if known is None and made is not None:
        if visit.ledger.get(made.id):  # the occurrence that had this place first is at another one now
            made = replace(made, id=imported_id(series.id, part.remote.id))
        if series.origin == "portal":
            made = replace(made, origin="portal", owner=series.owner, attendees=series.attendees, notes=series.notes)
    elif known is not None and made is not None and series.origin == "portal" and _is_plain_again(known, made):
        made = replace(made, notes=series.notes)
    return visit.ledger.apply(known, replace(verdict, reservation=made))


def _is_plain_again(known: Reservation, made: Reservation) -> bool:
    """Whether Outlook has given a series other times, so that nothing of this occurrence is special any more."""
    return (known.kind, made.kind) == ("exception", "occurrence")


def _end_unplaced(visit: Visit, series: Reservation, matched: set[str]) -> set[str]:
    """Occurrences that the portal has planned and the series has no place for: Outlook has changed it meanwhile."""
    start, end = visit.window
    unplaced = [
        one
        for one in visit.ledger
        if one.series == series.id and one.live and not one.link.room_event and one.id not in matched
    ]
    for one in unplaced:
        if one.times.start < end and start < one.times.end:
            visit.ledger.apply(one, vanished(one, visit.work.now()))
    return {one.id for one in unplaced}


def _shift(before: Reservation | None, after: Reservation) -> timedelta | None:
    """How far the first occurrence of a series has moved that has another beat now; None for the same beat."""
    if before is None or _beat(before) == _beat(after):
        return None
    return after.times.start - before.times.start


def _beat(series: Reservation) -> tuple[str, str, str]:
    agreed = series.agreed()
    return agreed.start, agreed.end, agreed.pattern


def _part(visit: Visit, remote: Remote, series: Reservation, master: Seen, own: Own | None) -> Seen:
    """One instance as it is seen: with the title and the people of its series, unless it has its `own`."""
    title, people = (own.title, own.people) if own else (None, None)
    if title is None and (remote.kind == "occurrence" or master.organizer != "room"):
        title = Title(series.title, series.title_source, series.private)
    if people is None and remote.kind == "occurrence" and master.organizer != "room":
        people = series.attendees
    return replace(
        see(visit, remote, None),
        title=title or title_for(visit, remote, None),
        organizer=master.organizer,
        address=master.address,
        master=series.link.room_event,
        series=series.id,
        original_start=remote.original_start,
        people=people,
        unread=False,
    )
