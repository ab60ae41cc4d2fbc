"""What to do about one item: a pure comparison of what the source says with what is stored."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sync.feed import ChangeKind
from sync.runs import Action, Outcome

SMALL = 10
Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Stored:
    """What the portal holds of an item.

    `purged` is a row that has been emptied for good and only remembers that its invitation went out.
    """

    state: Literal["active", "deleted", "purged"]
    digest: str


@dataclass(frozen=True)
class Present:
    """The source has the item, and it belongs to what is synced."""

    fields: Fields


@dataclass(frozen=True)
class Absent:
    """The source no longer has the item, or it no longer belongs to what is synced; `reason` is a slug."""

    reason: str


@dataclass(frozen=True)
class Decision:
    """What becomes of the item: how it counts, what changes for the portal (None: nothing is written), and why."""

    outcome: Outcome
    change: ChangeKind | None
    reason: str = ""


def guard_holds(deletions: int, total: int, max_count: int, max_percent: int) -> bool:
    """Whether so many deletions among `total` stored items must wait for a person.

    Of fewer than ten items one or two would be more than any sensible share: half of them may go, unless the share is 0.
    """
    share = total * max_percent // 100
    if max_percent and total < SMALL:
        share = max(share, total // 2, 1)
    return deletions > min(max_count, share)


def digest(fields: Fields) -> str:
    """A short fingerprint of `fields`: equal for equal content."""
    text = json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def decide(source: Present | Absent, stored: Stored | None) -> Decision:
    """Compare what the source says of one item with what is stored of it."""
    held = stored is not None and stored.state == "active"
    if isinstance(source, Absent):
        # Gone and still held: a tombstone. Gone and not held: nothing to take back.
        return Decision("deleted", "deleted", source.reason) if held else Decision("skipped", None, source.reason)
    if stored is None or stored.state == "purged":
        return Decision("created", "created")
    if stored.state == "deleted":
        return Decision("restored", "restored")
    if stored.digest != digest(source.fields):
        return Decision("updated", "updated")
    return Decision("unchanged", None)


_PLANNED: Mapping[Outcome, tuple[Action, str]] = {
    "created": ("create", "new"),
    "updated": ("update", "changed"),
    "restored": ("restore", "came-back"),
    "unchanged": ("none", "unchanged"),
    "deleted": ("delete", "left"),
    "skipped": ("skip", ""),
    "failed": ("skip", ""),
}


def planned(outcome: Outcome, reason: str) -> tuple[Action, str]:
    """What a plan calls that outcome, and why it is so: `reason`, or where there is none, what says it in general."""
    action, general = _PLANNED[outcome]
    return action, reason or general
