"""A tenant's users with the log of their changes, from which delta queries are answered."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

from local.cloud.clock import rfc3339

ROUNDS_KEPT = 8
RECYCLE_DAYS = timedelta(days=30)
Properties = dict[str, Any]


@dataclass(frozen=True)
class Photo:
    """What a user uploaded: `longest` is its side in pixels; `raw` replaces the drawing where a test plants bytes."""

    version: int
    longest: int = 648
    raw: bytes | None = None
    content_type: str = "image/jpeg"


@dataclass(slots=True)
class User:
    """A user. A property that is absent was never set; one that is None has been cleared."""

    id: str
    properties: Properties
    photo: Photo | None = None
    uploads: int = 1
    deleted_at: datetime | None = None
    purged: bool = False

    @property
    def live(self) -> bool:
        return self.deleted_at is None and not self.purged

    def upload(self, longest: int = 648, raw: bytes | None = None, content_type: str = "image/jpeg") -> None:
        """A new photo takes the place of the old one."""
        self.uploads += 1
        self.photo = Photo(self.uploads, longest, raw, content_type)


class Change(NamedTuple):
    """One step of the log. `properties` is None where the whole object changed (created, restored, removed)."""

    user: User
    properties: frozenset[str] | None


class Conflict(ValueError):
    """Another user has that id or userPrincipalName."""


@dataclass
class Users:
    """Users in order of creation: a position in `members` is never given to another user."""

    members: list[User] = field(default_factory=list)
    log: list[Change] = field(default_factory=list)
    _by_id: dict[str, User] = field(default_factory=dict)
    _by_upn: dict[str, User] = field(default_factory=dict)
    _bin: dict[str, User] = field(default_factory=dict)
    _rounds: dict[tuple[int, int, frozenset[str]], list[Change]] = field(default_factory=dict)

    def live(self) -> Iterator[User]:
        return (user for user in self.members if user.live)

    def find(self, key: str) -> User | None:
        """The live user with that id or userPrincipalName."""
        user = self._by_id.get(key.lower())
        return user if user and user.live else self._by_upn.get(key.lower())

    def stored(self, user_id: str) -> User:
        """The live or soft-deleted user with that id, or KeyError."""
        return self._by_id[user_id.lower()]

    def create(self, properties: Mapping[str, Any], photo: Photo | None = None, *, logged: bool = True) -> User:
        """A new user; `id` may be given, `userPrincipalName` must be (ValueError). Raises Conflict."""
        if not properties.get("userPrincipalName"):
            raise ValueError("a user needs a userPrincipalName")
        user = User(str(properties.get("id") or uuid4()).lower(), dict(properties), photo)
        user.properties["id"] = user.id
        if user.id in self._by_id:
            raise Conflict(user.id)
        self._claim_upn(user, user.properties["userPrincipalName"])
        self._by_id[user.id] = user
        self.members.append(user)
        if logged:
            self.log.append(Change(user, None))
        return user

    def patch(self, user_id: str, properties: Mapping[str, Any]) -> User:
        """Set properties; None clears one. Only real changes are logged."""
        user = self._by_id[user_id.lower()]
        changed = {name: value for name, value in properties.items() if user.properties.get(name) != value}
        if "userPrincipalName" in changed:
            self._claim_upn(user, changed["userPrincipalName"])
            if changed["userPrincipalName"].lower() != user.properties["userPrincipalName"].lower():
                self._release_upn(user)
        user.properties.update(changed)
        if changed:
            self.log.append(Change(user, frozenset(changed)))
        return user

    def delete(self, user_id: str, now: datetime) -> User:
        """Move a user to the recycle bin (Learn: deletedItems); KeyError if it is not live."""
        user = self._by_id[user_id.lower()]
        if not user.live:
            raise KeyError(user_id)
        user.deleted_at = now
        user.properties["deletedDateTime"] = rfc3339(now)
        self._release_upn(user)
        self._bin[user.id] = user
        self.log.append(Change(user, None))
        return user

    def restore(self, user_id: str) -> User:
        """Take a user back out of the recycle bin; KeyError if it is not there, Conflict if its name was taken."""
        user = self._bin[user_id.lower()]
        self._claim_upn(user, user.properties["userPrincipalName"])
        del self._bin[user.id]
        user.deleted_at = None
        del user.properties["deletedDateTime"]
        self.log.append(Change(user, None))
        return user

    def purge(self, user_id: str, now: datetime) -> None:
        """Delete a user for good, from the recycle bin or directly; KeyError if there is none."""
        user = self._by_id[user_id.lower()]
        if user.live:
            self.delete(user_id, now)
        del self._bin[user.id], self._by_id[user.id]
        user.purged = True
        self.log.append(Change(user, None))

    def settle(self, now: datetime) -> None:
        """Purge what has been in the recycle bin for 30 days."""
        while self._bin:
            oldest = next(iter(self._bin.values()))
            if oldest.deleted_at is None or now - oldest.deleted_at < RECYCLE_DAYS:
                return
            self.purge(oldest.id, now)

    def changes(self, since: int, until: int, names: frozenset[str]) -> list[Change]:
        """What changed in those properties between two versions of the log, once per user."""
        key = (since, until, names)
        if key not in self._rounds:
            if len(self._rounds) == ROUNDS_KEPT:
                del self._rounds[next(iter(self._rounds))]
            self._rounds[key] = list(self._merged(since, until, names))
        return self._rounds[key]

    def _merged(self, since: int, until: int, names: frozenset[str]) -> Iterator[Change]:
        merged: dict[str, Change] = {}
        for user, properties in self.log[since:until]:
            seen = merged.get(user.id)
            if properties is None or (seen and seen.properties is None):
                merged[user.id] = Change(user, None)
            elif properties & names:
                merged[user.id] = Change(
                    user, (properties & names) | (seen.properties or frozenset() if seen else frozenset())
                )
        return iter(merged.values())

    def _claim_upn(self, user: User, upn: str) -> None:
        if self._by_upn.setdefault(upn.lower(), user) is not user:
            raise Conflict(upn)

    def _release_upn(self, user: User) -> None:
        del self._by_upn[user.properties["userPrincipalName"].lower()]
