"""What is gone is deleted together, when all of it is known, if the deletion guard lets it; else the run is held.

Until then it is noted, on its row and in an index beside it, and the portal sees nothing. What comes back loses its
note. So a run that is held, rejected or broken off proposes nothing wrong, and the next one proposes the rest again.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage.tables import Row, Write, decode_key, encode_key
from sync.jobs import Work
from sync.plan import Fields, guard_holds
from sync.runs import LINES, PLAN, LogLine, PlanLine
from sync.sync_settings import GuardIn

ABSENT = "absent|"
HELD = "Look at the run's plan, then approve or reject it."

At = dict[str, Any]
Nest = Callable[[At], At]


@dataclass(frozen=True)
class Kind:
    """What is kept: the word for one item, the prefix of its rows, what to do about each reason.

    `purge_with` removes what belongs to a row that is purged, `columns` are kept beside the fields that they follow from.
    """

    entity: str
    prefix: str
    remedies: Mapping[str, str]
    purge_with: Callable[[Work, str], None] = lambda _work, _key: None
    columns: Callable[[Fields], Row] = lambda _fields: {}


class Deletions(ABC):
    """The deletions of one kind of item, as one slice of one run works on them.

    `counted` is False where another sync is served, whose counts and log must not be touched. `nest` puts the
    checkpoint into that of the run.
    """

    def __init__(self, work: Work, kind: Kind, *, counted: bool = True, nest: Nest = dict) -> None:
        self.work = work
        self.kind = kind
        self.counted = counted
        self.nest = nest
        self.dry = work.run.dry_run

    @property
    @abstractmethod
    def each(self) -> int:
        """How many are deleted in one transaction."""

    def key(self, item_id: str) -> str:
        """The key of the row of the item with this id."""
        return self.kind.prefix + encode_key(item_id)

    def id(self, key: str) -> str:
        """The id of the item whose row has this key."""
        return decode_key(key[len(self.kind.prefix) :])

    @abstractmethod
    def total(self) -> int:
        """How many items are stored and not deleted."""

    @abstractmethod
    def noted(self, ids: Iterable[str]) -> Sequence[tuple[str, str]]:
        """Those of these items that are still noted as gone: the key of the row and why."""

    @abstractmethod
    def delete(self, due: Sequence[tuple[str, str]], at: At) -> None:
        """Delete these rows, each with the reason, in one transaction with the checkpoint `at`."""

    def note(self, key: str, reason: str) -> Write:
        """The row of the index that says so; its twin is a property of the row itself."""
        return Write("replace", ABSENT + self.kind.entity + "|" + key, {"row": key, "reason": reason})

    def free(self, key: str) -> Write:
        """Take a noted row out of the index."""
        return Write("delete", ABSENT + self.kind.entity + "|" + key)

    def waiting(self) -> list[Row]:
        """All that is noted: `row`, the key of each, and `reason`."""
        return list(self.work.app.tables.data.scan(self.work.connection, f"{ABSENT}{self.kind.entity}|"))

    def settle(self, at: At, guard: GuardIn) -> At:
        """Delete what is noted, unless the guard holds it back; then the plan shows what waits."""
        noted = self.waiting()
        if noted and not at.get("allowed"):
            total = self.total()
            if guard_holds(len(noted), total, guard.max_count, guard.max_percent):
                return self._hold(at, noted, total)
            at = {**at, "allowed": True}
        done = self._delete_all([(row["row"], row["reason"]) for row in noted], at)
        return {"stage": "purge", "page": at["page"] + 1} if done else at

    def _hold(self, at: At, noted: Sequence[Row], total: int) -> At:
        """Show in the plan what waits, and count it as skipped; the run goes on and ends as held."""
        following: At = {"stage": "purge", "page": at["page"] + 1}
        if not self.counted:
            return following
        work, entity = self.work, self.kind.entity
        for start in range(at.get("planned", 0), len(noted), LINES):
            part = [(self.id(row["row"]), row["reason"]) for row in noted[start : start + LINES]]
            work.claim.commit(
                work.now(),
                plan=[PlanLine(entity, item_id, "delete", reason) for item_id, reason in part],
                log=[LogLine("warning", entity, item_id, "skipped", "held", HELD) for item_id, _ in part],
                outcomes={"skipped": len(part)},
                checkpoint=self.nest({**at, "planned": start + LINES}),
            )
        return {**following, "held": len(noted), "of": total}

    def approved(self, at: At) -> At:
        """Delete exactly what the held run showed, less what has come back since."""
        for row in self.work.app.tables.data.scan(
            self.work.connection, f"{PLAN}{self.work.run.id}|", start=at.get("from", "")
        ):
            here = {**at, "from": row["key"]}
            if not self._delete_all(self.noted(line[1] for line in row["j_lines"] if line[2] == "delete"), here):
                return here
        return {"stage": "purge", "page": at["page"] + 1}

    def _delete_all(self, due: Sequence[tuple[str, str]], at: At) -> bool:
        """False when the slice's time was up before the end."""
        for start in range(0, len(due), self.each):
            if start and self.work.time_is_up():
                return False
            self.delete(due[start : start + self.each], at)
        return True

    def planned(self) -> set[str]:
        """The items that the plan of this run names."""
        plan = self.work.app.tables.data.scan(self.work.connection, f"{PLAN}{self.work.run.id}|")
        return {line[1] for row in plan for line in row["j_lines"] if line[0] == self.kind.entity}

    def forewarn(self, guard: GuardIn) -> None:
        """At the end of a dry run: say whether the guard would hold back the deletions that its plan shows."""
        deletions = self.work.run.counts.get("deleted", 0)
        if deletions and guard_holds(deletions, self.total(), guard.max_count, guard.max_percent):
            remedy = "A real run would do all else, and wait for somebody to approve these deletions."
            line = LogLine("warning", self.kind.entity, "", "deleted", "would-be-held", remedy)
            self.work.claim.commit(self.work.now(), log=[line])
