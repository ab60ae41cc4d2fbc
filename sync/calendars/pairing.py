"""Which reservation an event is that does not say so: pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sync.calendars.event import Remote
from sync.calendars.model import Reservation


def pair(
    instances: Iterable[Remote], held: Iterable[Reservation], single: Reservation | None, *, shifted: bool
) -> list[tuple[Remote, Reservation | None]]:
    """The instances of a series in their order, each with its reservation out of those that are `held`, if it has one.

    By their event, then by their place in the series. `single` is the event that became the series: its first instance. A
    series that was `shifted` has given all of its instances new ids and places: they are paired in their order. What has
    ended comes last.
    """
    every = list(held)
    living = sorted((one for one in every if one.live), key=lambda one: (one.times.start, one.id))
    pairing = _Pairing(sorted(instances, key=lambda remote: (remote.times.start, remote.id)))
    pairing.by(lambda remote: remote.id, {one.link.room_event: one for one in every if one.link.room_event})
    pairing.by(lambda remote: remote.original_start, {one.original_start: one for one in living})
    if single is not None:
        pairing.by(lambda remote: remote is pairing.instances[0], {True: single})
    if shifted:
        pairing.in_order(living)
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

    def in_order(self, reservations: Iterable[Reservation]) -> None:
        """Pair what is left on both sides."""
        alone = [remote for remote in self.instances if remote.id not in self.found]
        loose = [one for one in reservations if one.id not in self._taken]
        for remote, one in zip(alone, loose, strict=False):
            self._put(remote, one)

    def _put(self, remote: Remote, one: Reservation) -> None:
        self.found[remote.id] = one
        self._taken.add(one.id)
