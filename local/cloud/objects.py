"""The objects of a directory with the log of their changes, from which delta queries are answered."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar
from uuid import uuid4

from local.cloud.clock import rfc3339

ROUNDS_KEPT = 8
RECYCLE_DAYS = timedelta(days=30)
Properties = dict[str, Any]


class Conflict(ValueError):
    """Another object has that id or name."""


class Link(NamedTuple):
    """From an object to another one; a later link has a higher serial."""

    serial: int
    target: "DirectoryObject"


@dataclass(slots=True)
class DirectoryObject:
    """One object. A property that is absent was never set; one that is None has been cleared.

    `links` are its members, its registered owners or its manager, by id in the order in which they were added.
    """

    kind: ClassVar[str]
    relation: ClassVar[str]

    id: str
    properties: Properties
    links: dict[str, Link] = field(default_factory=dict)
    deleted_at: datetime | None = None
    purged: bool = False

    @property
    def live(self) -> bool:
        return self.deleted_at is None and not self.purged

    @property
    def recyclable(self) -> bool:
        """Whether deleting it leaves it in the recycle bin (Learn: deletedItems)."""
        return False


@dataclass(slots=True)
class Device(DirectoryObject):
    kind = "device"
    relation = "registeredOwners"


@dataclass(slots=True)
class OrgContact(DirectoryObject):
    kind = "orgContact"
    relation = "manager"


@dataclass(slots=True)
class Group(DirectoryObject):
    kind = "group"
    relation = "members"

    @property
    def unified(self) -> bool:
        """Whether it is a Microsoft 365 group."""
        return "Unified" in self.properties.get("groupTypes", [])

    @property
    def recyclable(self) -> bool:
        return self.unified


T = TypeVar("T", bound=DirectoryObject)


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One step of the log. `properties` is None where the whole object changed (created, restored, removed).

    `links` are the targets of links that came (True) or went (False), by id.
    """

    subject: T
    properties: frozenset[str] | None
    links: Mapping[str, tuple[DirectoryObject, bool]] = field(default_factory=dict)


class Objects(Generic[T]):
    """Objects of one kind in order of creation: a position in `members` is never given to another one."""

    def __init__(self, make: type[T], required: str = "displayName") -> None:
        self.members: list[T] = []
        self.log: list[Change[T]] = []
        self.when_purged: Callable[[str], None] = self.forget
        self.relation = make.relation
        self._make = make
        self._required = required
        self._serial = 0
        self._by_id: dict[str, T] = {}
        self._bin: dict[str, T] = {}
        self._holders: dict[str, set[str]] = defaultdict(set)
        self._rounds: dict[tuple[int, int, frozenset[str]], list[Change[T]]] = {}

    def __contains__(self, object_id: str) -> bool:
        return object_id in self._by_id

    def live(self) -> Iterator[T]:
        return (each for each in self.members if each.live)

    def find(self, key: str) -> T | None:
        """The live object with that id."""
        found = self._by_id.get(key.lower())
        return found if found and found.live else None

    def stored(self, object_id: str) -> T:
        """The live or soft-deleted object with that id, or KeyError."""
        return self._by_id[object_id.lower()]

    def create(self, properties: Mapping[str, Any], *, logged: bool = True) -> T:
        """A new object; `id` may be given, its name must be (ValueError). Raises Conflict."""
        if not properties.get(self._required):
            raise ValueError(f"it needs a {self._required}")
        made = self._make(str(properties.get("id") or uuid4()).lower(), dict(properties))
        made.properties["id"] = made.id
        if made.id in self._by_id:
            raise Conflict(made.id)
        self._claim(made)
        self._by_id[made.id] = made
        self.members.append(made)
        if logged:
            self.log.append(Change(made, None))
        return made

    def patch(self, object_id: str, properties: Mapping[str, Any]) -> T:
        """Set properties; None clears one. Only real changes are logged."""
        found = self._by_id[object_id.lower()]
        changed = {name: value for name, value in properties.items() if found.properties.get(name) != value}
        self._rename(found, changed)
        found.properties.update(changed)
        if changed:
            self.log.append(Change(found, frozenset(changed)))
        return found

    def delete(self, object_id: str, now: datetime) -> T:
        """Move an object to the recycle bin, or where its kind has none, delete it for good; KeyError if not live."""
        found = self._by_id[object_id.lower()]
        if not found.live:
            raise KeyError(object_id)
        if not found.recyclable:
            self.purge(object_id, now)
            return found
        found.deleted_at = now
        found.properties["deletedDateTime"] = rfc3339(now)
        self._release(found)
        self._bin[found.id] = found
        self.log.append(Change(found, None))
        return found

    def restore(self, object_id: str) -> T:
        """Take an object back out of the recycle bin; KeyError if it is not there, Conflict if its name was taken."""
        found = self._bin[object_id.lower()]
        self._claim(found)
        del self._bin[found.id]
        found.deleted_at = None
        del found.properties["deletedDateTime"]
        self.log.append(Change(found, None))
        return found

    def purge(self, object_id: str, now: datetime) -> None:
        """Delete an object for good, from the recycle bin or directly; KeyError if there is none."""
        found = self._by_id[object_id.lower()]
        if found.live and found.recyclable:
            self.delete(object_id, now)
        self._bin.pop(found.id, None)
        del self._by_id[found.id]
        found.purged = True
        self.log.append(Change(found, None))
        self.when_purged(found.id)

    def settle(self, now: datetime) -> None:
        """Purge what has been in the recycle bin for 30 days."""
        while self._bin:
            oldest = next(iter(self._bin.values()))
            if oldest.deleted_at is None or now - oldest.deleted_at < RECYCLE_DAYS:
                return
            self.purge(oldest.id, now)

    def link(self, holder: T, targets: Iterable[DirectoryObject], *, logged: bool = True) -> None:
        """Add links to the targets that the holder has none to."""
        added = {target.id: target for target in targets if target.id not in holder.links}
        for target in added.values():
            self._serial += 1
            holder.links[target.id] = Link(self._serial, target)
            self._holders[target.id].add(holder.id)
        if logged:
            self._log_links(holder, {key: (target, True) for key, target in added.items()})

    def unlink(self, holder: T, target_ids: Iterable[str]) -> None:
        """Take links away; KeyError where there is none."""
        removed = {each.lower(): holder.links[each.lower()].target for each in target_ids}
        for key in removed:
            del holder.links[key]
            self._holders[key].discard(holder.id)
        self._log_links(holder, {key: (target, False) for key, target in removed.items()})

    def forget(self, target_id: str) -> None:
        """Take away every link to something that was deleted for good."""
        for holder_id in sorted(self._holders.pop(target_id, set())):
            if holder := self._by_id.get(holder_id):
                self.unlink(holder, [target_id])

    def changes(self, since: int, until: int, names: frozenset[str]) -> list[Change[T]]:
        """What changed in those properties between two versions of the log, once per object."""
        key = (since, until, names)
        if key not in self._rounds:
            if len(self._rounds) == ROUNDS_KEPT:
                del self._rounds[next(iter(self._rounds))]
            self._rounds[key] = list(self._merged(since, until, names))
        return self._rounds[key]

    def _merged(self, since: int, until: int, names: frozenset[str]) -> Iterator[Change[T]]:
        merged: dict[str, Change[T]] = {}
        for change in self.log[since:until]:
            subject = change.subject
            before = merged.get(subject.id, Change(subject, frozenset()))
            if change.properties is None or before.properties is None:
                merged[subject.id] = Change(subject, None)
            elif wanted := change.properties & names:
                merged[subject.id] = Change(subject, before.properties | wanted, {**before.links, **change.links})
        return iter(merged.values())

    def _log_links(self, holder: T, links: Mapping[str, tuple[DirectoryObject, bool]]) -> None:
        if links:
            self.log.append(Change(holder, frozenset({holder.relation}), links))

    def _claim(self, subject: T) -> None:
        """Reserve what only one live object may have, or Conflict."""

    def _release(self, subject: T) -> None:
        """Give back what `_claim` reserved."""

    def _rename(self, subject: T, changed: Properties) -> None:
        """Move the reservation where a change asks for it, or Conflict."""
