"""Keeps a stored copy of what a source has, and never hurts: the part that all one-way syncs share.

A source (sync/directory.py, sync/contacts.py) says of each item that it is present, absent, or not to be read. Here it
is compared with what is stored and written, in transactions that carry the checkpoint. Nothing is deleted at once:

    absent     the source no longer has it; noted, and invisible to the portal (sync/deletions.py)
    deletions  what is noted is deleted together, if the deletion guard lets it; else the run is held
    purge      tombstones older than 30 days are emptied

A dry run takes the same way and writes the plan alone.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from sys import intern
from typing import Any, Literal, NamedTuple

from storage.tables import Row, Write
from sync.deletions import At, Deletions, Kind, Nest
from sync.errors import TenantsyncError
from sync.feed import Change
from sync.jobs import Work
from sync.plan import Absent, Decision, Present, Stored, decide, digest, planned
from sync.runs import LINES, LOG, PLAN, LogLine, Outcome, PlanLine
from sync.sync_settings import GuardIn

PURGE = "purge|"
RETENTION = timedelta(days=30)
PAUSE = timedelta(seconds=3)
GONE = "gone-for-good"
WRITES = 95  # rows of a transaction of 100, less those of run, feed, head, and one each of log and plan
DELETIONS = 31  # three rows each
MOST_LOGGED = 10  # rows of log lines in one transaction
QUIET = ("skipped", "failed")  # outcomes that no row tells of: a listing that is read again counts them anew
COLUMNS = ("digest", "state", "mark", "seen", "absent", "invited")


class Known(NamedTuple):
    """A stored item, small enough to hold 100,000 of them.

    `mark` names the run and page that last wrote it, `seen` the full listing that last showed it, `absent` why the
    source no longer has it ("": it has). `fields` are there only where single rows were read.
    """

    state: Literal["active", "deleted", "purged"]
    digest: str
    mark: str
    seen: str
    absent: str
    invited: bool
    fields: Mapping[str, Any] | None

    @classmethod
    def of(cls, row: Row) -> "Known":
        """What a row holds."""
        state: Any = intern(row["state"])
        mark, seen, absent = intern(row["mark"]), intern(row["seen"]), intern(row.get("absent", ""))
        return cls(state, row["digest"], mark, seen, absent, row["invited"], row.get("j_fields"))


@dataclass(frozen=True)
class Unreadable:
    """The source has the item, but in a form that cannot be taken: what is stored of it stays."""

    reason: str


Source = Present | Absent | Unreadable


class Mirror(Deletions):
    """The copy of one kind of item, as one slice of one run works on it. `invite` tells of each new item once, ever."""

    def __init__(
        self, work: Work, kind: Kind, *, counted: bool = True, invite: bool = False, nest: Nest = dict
    ) -> None:
        super().__init__(work, kind, counted=counted, nest=nest)
        self.invite = invite
        self._index: dict[str, Known] | None = None
        self._in_plan: set[str] | None = None

    def index(self) -> dict[str, Known]:
        """All stored items by key: one transaction for each 1,000, once a slice."""
        if self._index is None:
            rows = self.work.app.tables.data.scan(self.work.connection, self.kind.prefix, columns=COLUMNS)
            self._index = {row["key"]: Known.of(row) for row in rows}
        return self._index

    def load(self, ids: Iterable[str]) -> dict[str, Known]:
        """The stored items with these ids, by key: one point read each, several at a time."""
        rows = self.work.app.tables.data.get_many(self.work.connection, sorted(map(self.key, ids)))
        return {key: Known.of(row) for key, row in rows.items()}

    @property
    def in_plan(self) -> set[str]:
        """The items that the plan of this dry run names, or will name with the next flush."""
        if self._in_plan is None:
            self._in_plan = self.planned()
        return self._in_plan

    def take(
        self, sources: Mapping[str, Source], stored: dict[str, Known], page: int, *, listing: str, full: bool
    ) -> "Batch":
        """Decide about every item of a page and note the outcome in `stored`.

        `listing` names the run that the page is part of and, after a #, which try of it: one that starts over proves
        nothing by what the former one saw. `full` says that it is a complete listing, at whose end `missing` looks
        for what it did not show. What is not written yet waits in the batch, to be flushed with the next checkpoint.
        """
        batch = Batch(self)
        mark = f"{listing}|{page}"
        for item_id, source in sources.items():
            if self.dry and item_id in self.in_plan:
                continue  # it came before: no row tells of that
            key = self.key(item_id)
            known = stored.get(key)
            decision = _decide(source, known)
            back = known is not None and known.absent != "" and not isinstance(source, Absent)
            counted = decision.change is None and known is not None and not back and _counted(known, mark, full=full)
            if counted and known and (not full or known.seen == listing):
                continue
            if isinstance(source, Absent) and decision.change:
                writes, after = self._note_absent(key, source.reason, known, mark)
                batch.add(writes)
                if self.dry:
                    batch.propose(item_id, source.reason)
            else:
                writes, after = self._write(key, source, decision, known, mark, full=full)
                batch.add(writes, item_id, None if counted else decision, invite=_invites(known, after))
            if after is not None:
                stored[key] = after
        return batch

    def _note_absent(self, key: str, reason: str, known: Known | None, mark: str) -> tuple[list[Write], Known | None]:
        """An active item that the source no longer has: to be deleted when all of them are known."""
        if known is None or known.absent:
            return [], None
        writes = [
            Write("merge", key, {"absent": reason, "mark": mark}),
            self.note(key, reason),
        ]
        return writes, known._replace(absent=reason, mark=mark)

    def _write(
        self, key: str, source: Source, decision: Decision, known: Known | None, mark: str, *, full: bool
    ) -> tuple[list[Write], Known | None]:
        """The rows to write for an item that is not to be deleted, and what is known of it then (None: as before)."""
        run = mark.partition("|")[0]
        back = known is not None and known.absent != "" and not isinstance(source, Absent)
        seen = run if full else known.seen if known else ""
        freed = [self.free(key)] if back else []
        if isinstance(source, Present) and decision.change is not None:
            invited = bool(known and known.invited) or (self.invite and decision.change == "created")
            after = Known("active", digest(source.fields), mark, seen, "", invited, None)
            columns = {name: value for name, value in after._asdict().items() if name != "fields"}
            columns |= {**self.kind.columns(source.fields), "j_fields": source.fields, "deleted_at": ""}
            return [Write("merge", key, columns), *freed], after
        if isinstance(source, Absent) and source.reason == GONE and known is not None and known.state == "deleted":
            return _tombstone(key, self.work.now(), GONE), None
        if known is None or isinstance(source, Absent) or (not back and known.seen == seen):
            return [], None
        after = known._replace(seen=seen, absent="", mark=mark)
        return [Write("merge", key, {"seen": seen, "absent": "", "mark": mark}), *freed], after

    def start_over(self, again: At) -> None:
        """Go on from `again` as if this run had read nothing: what no row tells of is neither counted nor logged twice."""
        work = self.work
        lines = [
            Write("delete", row["key"])
            for prefix in (LOG, PLAN)
            for row in work.app.tables.data.scan(work.connection, f"{prefix}{work.run.id}|", columns=())
        ]
        for start in range(0, len(lines), WRITES):
            work.claim.commit(work.now(), lines[start : start + WRITES])
        self._index = self._in_plan = None
        counts = {name: 0 if self.dry or name in QUIET else count for name, count in work.run.counts.items()}
        work.claim.commit(work.now(), checkpoint=self.nest(again), counts=counts)

    # --- what a complete listing did not show --------------------------------------------------------------------

    def missing(self, at: At, extra: Sequence[Write], reason: str = "left") -> At:
        """After a complete listing of `read` items: note what is stored as active and was not in it.

        One that is not `whole`, such as one with an item without an id, proves nobody's absence. `extra` is committed at
        the end, with the checkpoint. Raises TenantsyncError `empty-listing`.
        """
        batch = Batch(self)
        mark = f"{at['listing']}|{at['page']}"
        for key, known in self._unseen(at["listing"]) if at["whole"] else ():
            if at["read"] == 0:
                raise TenantsyncError(
                    "The source listed nothing at all, where there was something before; nothing was deleted",
                    code="empty-listing",
                    remedy="Check in the Entra admin center that the app may read it, then start a full sync.",
                )
            writes, _ = self._note_absent(key, reason, known, mark)
            batch.add(writes)
            if self.dry:
                batch.propose(self.id(key), reason)
            if self.work.time_is_up():
                batch.flush(at)
                return at
        following = {"stage": "deletions", "page": at["page"] + 1}
        batch.flush(following, extra)
        return following

    def _unseen(self, listing: str) -> Iterable[tuple[str, Known]]:
        data, connection = self.work.app.tables.data, self.work.connection
        if self.dry:
            return [
                (key, known)
                for key, known in self.index().items()
                if known.state == "active" and self.id(key) not in self.in_plan
            ]
        where = "state eq 'active' and absent eq '' and seen ne @listing"
        rows = data.scan(connection, self.kind.prefix, columns=COLUMNS, where=where, values={"listing": listing})
        return ((row["key"], Known.of(row)) for row in rows)

    # --- deletions -----------------------------------------------------------------------------------------------

    def deletions(self, at: At, guard: GuardIn) -> At:
        """Delete what is noted as absent, unless the guard holds it back; a dry run shows it in its plan."""
        if not self.dry:
            return self.settle(at, guard)
        batch = Batch(self)
        for row in self.waiting():
            if self.id(row["row"]) not in self.in_plan:
                batch.propose(self.id(row["row"]), row["reason"])
        following = {"stage": "done"}
        batch.flush(following)
        if self.counted:
            self.forewarn(guard)
        return following

    @property
    def each(self) -> int:
        return DELETIONS

    def total(self) -> int:
        data = self.work.app.tables.data
        return sum(1 for _ in data.scan(self.work.connection, self.kind.prefix, columns=(), where="state eq 'active'"))

    def noted(self, ids: Iterable[str]) -> Sequence[tuple[str, str]]:
        stored = sorted(self.load(ids).items())
        return [(key, known.absent) for key, known in stored if known.state == "active" and known.absent]

    def delete(self, due: Sequence[tuple[str, str]], at: At) -> None:
        """Turn active rows into tombstones."""
        batch = Batch(self)
        now = self.work.now()
        for key, reason in due:
            decision = Decision("deleted", "deleted", reason)
            batch.add([*_tombstone(key, now, reason), self.free(key)], self.id(key), decision)
        batch.flush(at)

    def purge(self, at: At) -> At:
        """Empty the tombstones whose 30 days are over; the index of tombstones makes an idle purge one read."""
        data = self.work.app.tables.data
        until = PURGE + (self.work.now() - RETENTION).isoformat(timespec="microseconds")
        for due in data.scan(self.work.connection, PURGE, until=until):
            if not due["row"].startswith(self.kind.prefix):
                continue
            row = data.get(self.work.connection, due["row"])
            writes = [Write("delete", due["key"])]
            if row is not None and row["state"] == "deleted" and row["deleted_at"] == due["deleted_at"]:
                self.kind.purge_with(self.work, due["row"])
                emptied = {"state": "purged", "digest": "", "mark": "", "seen": "", "absent": "", "invited": True}
                writes.append(
                    Write("replace", due["row"], emptied, row["etag"])
                    if row["invited"]
                    else Write("delete", due["row"], etag=row["etag"])
                )
            self.work.claim.commit(self.work.now(), writes)
            if self.work.time_is_up():
                return at
        return {**at, "stage": "done"}


def _decide(source: Source, known: Known | None) -> Decision:
    if isinstance(source, Unreadable):
        return Decision("failed", None, source.reason)
    return decide(source, known and Stored(known.state, known.digest))


def _counted(known: Known, mark: str, *, full: bool) -> bool:
    """Whether this run has written, and so counted, the row before: in a listing, or in a first try at this page."""
    return known.seen.partition("#")[0] == mark.partition("#")[0] if full else known.mark == mark


def _invites(known: Known | None, after: Known | None) -> bool:
    return after is not None and after.invited and not (known and known.invited)


def _tombstone(key: str, now: datetime, reason: str) -> list[Write]:
    """A deleted row and its place in the index of tombstones: that of one that is gone for good is due at once."""
    at = now.isoformat(timespec="microseconds")
    due = (now - RETENTION).isoformat(timespec="microseconds") if reason == GONE else at
    return [
        Write("merge", key, {"state": "deleted", "deleted_at": at, "absent": ""}),
        Write("replace", f"{PURGE}{due}|{key}", {"row": key, "deleted_at": at}),
    ]


class Batch:
    """Collects what a page leads to and commits it in transactions of at most 95 rows.

    Items of which no row tells that they were counted are counted and logged with the checkpoint, in the last
    transaction: repeating the page after a crash cannot count them twice. In a dry run nothing but plan, counts and checkpoint is written.
    """

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._quiet: Counter[str] = Counter()
        self._quiet_log: list[LogLine] = []
        self._plan: list[PlanLine] = []
        self._clear()

    def _clear(self) -> None:
        self._writes: list[Write] = []
        self._changes: list[Change] = []
        self._log: list[LogLine] = []
        self._outcomes: Counter[str] = Counter()

    def add(
        self, writes: Sequence[Write], item_id: str = "", decision: Decision | None = None, *, invite: bool = False
    ) -> None:
        """Take in one item's rows and, where it is settled, its decision."""
        if self._mirror.dry:
            writes = []
        if len(self._writes) + len(writes) > WRITES:
            self._commit()
        self._writes += writes
        if decision is None:
            return
        entity = self._mirror.kind.entity
        if decision.change is not None and not self._mirror.dry:
            self._changes.append(Change(entity, item_id, decision.change))
        if invite and not self._mirror.dry:
            self._changes.append(Change(entity, item_id, "invited"))
        if self._mirror.dry:
            self._show(PlanLine(entity, item_id, *planned(decision.outcome, decision.reason)))
        self._count(item_id, decision, quiet=not writes or decision.outcome in QUIET)

    def propose(self, item_id: str, reason: str) -> None:
        """Show a deletion in the plan of a dry run."""
        self._show(PlanLine(self._mirror.kind.entity, item_id, "delete", reason))
        if self._mirror.counted:
            self._quiet["deleted"] += 1

    def tell(self, line: LogLine, outcome: Outcome | None) -> None:
        """Log what belongs to no item of this kind; it counts as `outcome`, if at all."""
        self._quiet_log.append(line)
        if outcome:
            self._quiet[outcome] += 1

    def _show(self, line: PlanLine) -> None:
        """One line more; a plan that grows long is committed, and a repetition passes over the items in it."""
        if len(self._plan) >= LINES:
            self._settle()
        self._plan.append(line)
        self._mirror.in_plan.add(line.id)

    def waiting(self, outcome: str) -> int:
        """How many items with this outcome the next flush counts."""
        return self._quiet[outcome] + self._outcomes[outcome]

    def _count(self, item_id: str, decision: Decision, *, quiet: bool) -> None:
        """Count an item, and log it where it was not plain success."""
        if not self._mirror.counted:
            return
        (self._quiet if quiet else self._outcomes)[decision.outcome] += 1
        if decision.reason:
            level: Literal["info", "warning"] = "warning" if decision.outcome == "failed" else "info"
            kind = self._mirror.kind
            remedy = kind.remedies.get(decision.reason, f"Look at this {kind.entity} in the Entra admin center.")
            line = LogLine(level, kind.entity, item_id, decision.outcome, decision.reason, remedy)
            (self._quiet_log if quiet else self._log).append(line)

    def flush(self, checkpoint: At, extra: Sequence[Write] = ()) -> None:
        """Commit the rest, and with it `checkpoint` and `extra`."""
        self._settle(() if self._mirror.dry else extra, checkpoint=self._mirror.nest(checkpoint))

    def _settle(self, extra: Sequence[Write] = (), **fields: Any) -> None:
        while len(self._quiet_log) > MOST_LOGGED * LINES:  # more than a transaction takes: these may be there twice
            work = self._mirror.work
            work.claim.commit(work.now(), log=self._quiet_log[:LINES])
            del self._quiet_log[:LINES]
        log, plan = [*self._log, *self._quiet_log], self._plan
        more_rows = max(len(log) - 1, 0) // LINES + max(len(plan) - 1, 0) // LINES  # than the one of each
        if len(self._writes) + len(extra) + more_rows > WRITES:
            self._commit()
            log = self._quiet_log
        self._log, self._outcomes = log, self._outcomes + self._quiet
        self._commit(extra, plan=plan, **fields)
        self._quiet, self._quiet_log, self._plan = Counter(), [], []

    def _commit(self, extra: Sequence[Write] = (), **fields: Any) -> None:
        work = self._mirror.work
        work.claim.commit(
            work.now(),
            [*self._writes, *extra],
            changes=self._changes,
            log=self._log,
            outcomes=self._outcomes,
            **fields,
        )
        self._clear()
