"""Meetings that want the same room at the same time, seen after both exist."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from sync.calendars.merge import CLASH, loses
from sync.calendars.model import Reservation
from sync.calendars.visit import Visit


def settle_overlaps(visit: Visit) -> None:
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
