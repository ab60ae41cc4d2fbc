"""Which reservation an event is that does not say so: pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

from sync.calendars.event import Remote
from sync.calendars.model import Reservation


def pair(
    instances: Iterable[Remote],
    held: Iterable[Reservation],
    single: Reservation | None,
    *,
    shift: timedelta | None,
    now: datetime,
) -> list[tuple[Remote, Reservation | None]]:
    """The instances of a series in their order, each with its reservation out of those that are `held`, if it has one.

    By their event, then by their place in the series. `single` is the event that became the series: its first instance.
    `shift` is how far the first occurrence of a series has moved that has another beat than before, None where it has
    the same: all of its instances have new ids and places then, and are paired in their order. What has ended comes last.
    """
    every = list(held)
    living = sorted((one for one in every if one.live), key=lambda one: (one.times.start, one.id))
    pairing = _Pairing(sorted(instances, key=lambda remote: (remote.times.start, remote.id)))
    if shift is not None:
        standing = [one for one in every if one.live or one.link.state == "deleting"]
        for over in (True, False):  # what has taken place is not moved to a day to come
            pairing.in_order([one for one in standing if (one.times.end <= now) is over], shift, now, over=over)
    pairing.by(lambda remote: remote.id, {one.link.room_event: one for one in every if one.link.room_event})
    pairing.by(lambda remote: remote.original_start, {one.original_start: one for one in living})
    if single is not None:
        pairing.by(lambda remote: remote is pairing.instances[0], {True: single})
    pairing.by(lambda remote: remote.original_start, {one.original_start: one for one in every})
    return [(remote, pairing.found.get(remote.id)) for remote in pairing.instances]


def is_as_asked(one: Reservation, remote: Remote) -> bool:
    """Whether an event, of which no transactionId is told, is what the create asks for that `one` waits for."""
    link = one.link
    if link.state != "creating" or link.payload is None or link.base is None:
        return False
    if remote.transaction or remote.cancelled or remote.kind != one.kind:
        return False
    same_time = remote.times.canonical() == (link.base.start, link.base.end)
    return same_time and remote.subject == link.payload.get("subject")


@dataclass
class _Pairing:
    """Instances and reservations, each once."""

    instances: list[Remote]
    found: dict[str, Reservation] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def by(self, key: Callable[[Remote], Any], reservations: Mapping[Any, Reservation]) -> None:
        """Pair what has the same key."""
        for remote in self.instances:
            hit = reservations.get(key(remote))
            if hit is not None and remote.id not in self.found and hit.id not in self._taken:
                self._put(remote, hit)

    def in_order(self, reservations: Iterable[Reservation], shift: timedelta, now: datetime, *, over: bool) -> None:
        """Pair the instances that are `over`, or those that are not, with these."""
        new = sorted((each for each in self.instances if (each.times.end <= now) is over), key=_place)
        old = sorted(reservations, key=_place)
        for one, remote in _aligned([_place(each) for each in old], [_place(each) for each in new], shift):
            self._put(new[remote], old[one])

    def _put(self, remote: Remote, one: Reservation) -> None:
        self.found[remote.id] = one
        self._taken.add(one.id)


def _place(one: Remote | Reservation) -> datetime:
    return one.original_start or one.times.start


def _aligned(old: list[datetime], new: list[datetime], shift: timedelta) -> list[tuple[int, int]]:
    """Which of `old` is which of `new`, by their numbers: as many as can be, in their order, as near as can be. They have
    moved by `shift`, or stayed where they were, whichever fits better.
    """

    def tried(moved: list[datetime]) -> tuple[timedelta, list[tuple[int, int]]]:
        if len(moved) <= len(new):
            far, numbers = _nearest(moved, new)
            return far, list(enumerate(numbers))
        far, numbers = _nearest(new, moved)
        return far, [(number, at) for at, number in enumerate(numbers)]

    stayed, shifted = tried(old), tried([each + shift for each in old])
    return (shifted if shifted[0] < stayed[0] else stayed)[1]


def _nearest(few: list[datetime], many: list[datetime]) -> tuple[timedelta, tuple[int, ...]]:
    """For each of `few` another one of `many`, by its number, in their order: those that are the least distance away in
    all, and that distance.
    """
    spare = len(many) - len(few)
    best: list[tuple[timedelta, tuple[int, ...]]] = [(timedelta(), ())] * (
        spare + 1
    )  # by how many were left out so far
    for at, one in enumerate(few):
        so_far = accumulate(best, min)
        best = [(far + abs(many[at + left] - one), (*taken, at + left)) for left, (far, taken) in enumerate(so_far)]
    return min(best)
