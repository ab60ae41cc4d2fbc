"""A room gets another calendar: what of it is there already, and what has to be made there.

The new address may be that of the same mailbox, or of one that the room had before. So an event that is a reservation's own
is bound to it again before anything is made: by the link that it has, or by one of those that it had in other calendars.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace

from sync.calendars.details import details, told_of
from sync.calendars.event import Remote, Unreadable, parse_event
from sync.calendars.findings import Findings
from sync.calendars.mailboxes import Raw
from sync.calendars.merge import REMOTE, decide, ended_here, vanished
from sync.calendars.model import Link, LinkState, Reservation
from sync.calendars.organizers import see
from sync.calendars.visit import Visit

ARCHIVED = 3


def let_go(visit: Visit) -> None:
    """What is to come waits to be found in the new calendar: the old links tell what it is there, and miss nothing."""
    now = visit.work.now()
    for one in visit.ledger:
        if one.live and one.times.end > now:
            visit.ledger.put(one.linked(state="creating", payload=None, sent=None))
            visit.moved.add(one.id)


def claim(visit: Visit, findings: Findings) -> None:
    """Give reservations that have no event in the room's calendar the links to those that they had there before."""
    waiting = [one for one in visit.ledger if one.archived and one.link.state in ("none", "creating", "gone")]
    if not waiting:
        return
    listed = (remote for instances in findings.instances.values() for remote in instances)
    there = _There([*findings.singles.values(), *findings.masters.values(), *listed])
    for one in waiting:
        found = None if one.link.payload or there.event(one, one.link) else there.former(one)
        if found is not None and (claimed := _claimed(visit, one, *found)):
            visit.ledger.put(claimed)


def make_anew(visit: Visit) -> None:
    """What was not found in the new calendar is made there where it is the portal's own; else it is over."""
    now = visit.work.now()
    for part in (False, True):  # an occurrence goes where its series goes
        for name in sorted(visit.moved):
            one = visit.ledger.get(name)
            if one is None or one.link.state != "creating" or bool(one.series) is not part:
                continue
            if one.origin == "portal" and (not part or _is_to_come(visit.ledger.get(one.series))):
                visit.ledger.put(_fresh(visit, one), "updated")
            else:
                visit.ledger.apply(one, vanished(one, now))
    visit.moved.clear()


def _is_to_come(series: Reservation | None) -> bool:
    """Whether a series is still to be sent as it is."""
    return series is not None and series.link.state in ("creating", "updating")


def _fresh(visit: Visit, one: Reservation) -> Reservation:
    """`one` for an event of its own in the room's calendar; an occurrence gets that of its series."""
    state: LinkState = "none" if one.series else "creating"
    return replace(
        one,
        generation=one.generation + 1,
        status="confirmed" if one.status == "awaitingRoom" else one.status,
        sync_state="pending",
        updated_at=visit.work.now(),
        link=Link(state=state, organizer_address=visit.mailbox),
        archived=_shelved(one),
    )


def _shelved(one: Reservation) -> tuple[Link, ...]:
    """The links that `one` has had, with the one that it has: they remember what its events were told."""
    named = one.link.room_event or one.link.transaction or one.link.ical
    return (*one.archived, replace(one.link, told=details(one)))[-ARCHIVED:] if named else one.archived


class _There:
    """The events that are there and stand, by all that a link knows them by: an occurrence is known by its own id alone."""

    def __init__(self, remotes: Iterable[Remote]) -> None:
        standing = [remote for remote in remotes if not remote.cancelled and remote.response != "declined"]
        whole = [remote for remote in standing if remote.kind in ("single", "series")]
        self.by_id = {remote.id: remote for remote in standing}
        self.by_transaction = {remote.transaction: remote for remote in whole if remote.transaction}
        self.by_ical = {remote.ical: remote for remote in whole if remote.ical}

    def event(self, one: Reservation, link: Link) -> Remote | None:
        """What a link of `one` leads to."""
        known = self.by_id.get(link.room_event)
        if known or one.series:
            return known
        return self.by_transaction.get(link.transaction) or self.by_ical.get(link.ical)

    def former(self, one: Reservation) -> tuple[Link, Remote] | None:
        """The latest of the former links of `one` that leads to anything, and to what."""
        found = ((link, remote) for link in reversed(one.archived) if (remote := self.event(one, link)))
        return next(found, None)


def _claimed(visit: Visit, one: Reservation, link: Link, remote: Remote) -> Reservation | None:
    """`one` with its former link to an event. What was changed meanwhile is to be sent; what the portal has cancelled
    meanwhile is to be deleted, which is done for the room's own events only (None).
    """
    if one.live:
        pending = "pending" if one.sync_state == "synced" else one.sync_state
        return _bound(replace(one, sync_state=pending), link, remote, "updating", "")
    if one.status == "declined" or not ended_here(one.link):
        return _bound(one, link, remote, "gone", REMOTE)
    series = visit.ledger.get(one.series) if one.series else None
    if link.organizer != "room" or (series is not None and not series.live):
        return None
    return _bound(one, link, remote, "deleting", one.link.cause)


def _bound(one: Reservation, link: Link, remote: Remote, state: LinkState, cause: str) -> Reservation:
    rest = tuple(each for each in _shelved(one) if each is not link)
    again = replace(link, state=state, cause=cause, room_event=remote.id, room_etag="")
    return told_of(replace(one, archived=rest, link=again), link.told or details(one))


# --- one by one ------------------------------------------------------------------------------------------------------


def left_before(visit: Visit, one: Reservation, events: Iterable[Raw]) -> Raw | None:
    """The event of these that `one` had in the room's calendar before: one beyond the window is in no round."""
    found = _There(_readable(visit, events)).former(one) if one.archived else None
    return next((raw for raw in events if found and raw.get("id") == found[1].id), None)


def _readable(visit: Visit, events: Iterable[Raw]) -> Iterator[Remote]:
    for raw in events:
        with suppress(Unreadable):
            yield parse_event(raw, visit.room.time_zone)


def take_back(visit: Visit, one: Reservation, raw: Raw) -> None:
    """Bind `one` to the event that it had before, as `left_before` has found it."""
    remote = parse_event(raw, visit.room.time_zone)
    there = _There([remote])
    link = next(each for each in reversed(one.archived) if there.event(one, each))
    again = _bound(one, link, remote, "updating", "")
    visit.ledger.apply(again, decide(again, see(visit, remote, None), visit.room.id, visit.work.now()))
