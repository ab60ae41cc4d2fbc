"""Keeps a stored copy of what a source has, and never hurts: the part that all one-way syncs share.

A source (sync/directory.py, sync/contacts.py) says of each item that it is present, absent, or not to be read. Here it
is compared with what is stored and written, in transactions that carry the checkpoint. Nothing is deleted at once:

    absent     the source no longer has it; noted on the row and in an index, invisible to the portal
    deletions  what is noted is deleted together, if the deletion guard lets it; else the run is held
    purge      tombstones older than 30 days are emptied

An item that comes back is freed of its note. A dry run takes the same way and writes the plan alone.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime, timedelta
from sys import intern
from typing import Any, Literal, NamedTuple

from storage.tables import Row, Write, decode_key, encode_key
from sync.errors import TenantsyncError
from sync.feed import Change
from sync.jobs import Work
from sync.plan import Absent, Decision, Present, Stored, decide, digest, guard_holds
from sync.runs import PLAN, LogLine, PlanLine
from sync.sync_settings import GuardIn

ABSENT = "absent|"
PURGE = "purge|"
RETENTION = timedelta(days=30)
PAUSE = timedelta(seconds=3)
GONE = "gone-for-good"
WRITES = 95  # rows of a transaction of 100, less those of run, log, plan, feed and head
DELETIONS = 31  # three rows each
LINES = 1000  # of a plan in one row
READERS = 8
QUIET = ("skipped", "failed")  # outcomes that no row tells of: a listing that is read again counts them anew
COLUMNS = ("digest", "state", "mark", "seen", "absent", "invited")

At = dict[str, Any]
Nest = Callable[[At], At]


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


@dataclass(frozen=True)
class Kind:
    """What is mirrored: the word for one item, the prefix of its rows, what to do about each reason."""

    entity: str
    prefix: str
    remedies: Mapping[str, str]
    purge_with: Callable[[Work, str], None] = lambda _work, _key: None


class Mirror:
    """The copy of one kind of item, as one slice of one run works on it.

    `counted` is False where the copy serves another sync, whose counts and log it must not touch. `nest` puts the
    copy's checkpoint into that of the run.
    """

    def __init__(
        self, work: Work, kind: Kind, *, counted: bool = True, invite: bool = False, nest: Nest = dict
    ) -> None:
        self.work = work
        self.kind = kind
        self.counted = counted
        self.invite = invite
        self.nest = nest
        self.dry = work.run.dry_run
        self._index: dict[str, Known] | None = None

    def key(self, item_id: str) -> str:
        return self.kind.prefix + encode_key(item_id)

    def id(self, key: str) -> str:
        return decode_key(key[len(self.kind.prefix) :])

    def index(self) -> dict[str, Known]:
        """All stored items by key: one transaction for each 1,000, once a slice."""
        if self._index is None:
            rows = self.work.app.tables.data.scan(self.work.connection, self.kind.prefix, columns=COLUMNS)
            self._index = {row["key"]: Known.of(row) for row in rows}
        return self._index

    def load(self, ids: Iterable[str]) -> dict[str, Known]:
        """The stored items with these ids, by key: one point read each, several at a time."""
        data = self.work.app.tables.data
        wanted = sorted({self.key(item_id) for item_id in ids})
        contexts = [copy_context() for _ in wanted]
        with ThreadPoolExecutor(READERS) as pool:
            rows = pool.map(lambda key, context: context.run(data.get, self.work.connection, key), wanted, contexts)
            return {key: Known.of(row) for key, row in zip(wanted, rows, strict=True) if row is not None}

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
            key = self.key(item_id)
            known = stored.get(key)
            decision = _decide(source, known)
            counted = decision.change is None and known is not None and _counted(known, mark, full=full)
            if counted and known and (not full or known.seen == listing):
                continue
            if isinstance(source, Absent) and decision.change:
                writes, after = self._note_absent(key, source.reason, known, mark)
                batch.add(writes)
                if self.dry:
                    batch.plan(item_id, "delete", source.reason)
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
            Write("replace", ABSENT + key, {"row": key, "reason": reason}),
        ]
        return writes, known._replace(absent=reason, mark=mark)

    def _write(
        self, key: str, source: Source, decision: Decision, known: Known | None, mark: str, *, full: bool
    ) -> tuple[list[Write], Known | None]:
        """The rows to write for an item that is not to be deleted, and what is known of it then (None: as before)."""
        run = mark.partition("|")[0]
        back = known is not None and known.absent != "" and not isinstance(source, Absent)
        seen = run if full else known.seen if known else ""
        freed = [Write("delete", ABSENT + key)] if back else []
        if isinstance(source, Present) and decision.change is not None:
            invited = bool(known and known.invited) or (self.invite and decision.change == "created")
            after = Known("active", digest(source.fields), mark, seen, "", invited, None)
            columns = {name: value for name, value in after._asdict().items() if name != "fields"}
            return [Write("merge", key, {**columns, "j_fields": source.fields, "deleted_at": ""}), *freed], after
        if isinstance(source, Absent) and source.reason == GONE and known is not None and known.state == "deleted":
            return _tombstone(key, self.work.now(), GONE), None
        if known is None or isinstance(source, Absent) or (not back and known.seen == seen):
            return [], None
        return [Write("merge", key, {"seen": seen, "absent": ""}), *freed], known._replace(seen=seen, absent="")

    # --- what a complete listing did not show --------------------------------------------------------------------

    def missing(self, at: At, read: int, extra: Sequence[Write]) -> At:
        """After a complete listing of `read` items: note what is stored as active and was not in it.

        A listing that held an item without an id (`nameless`) proves nobody's absence.

        `extra` is committed at the end, with the checkpoint. Raises TenantsyncError `empty-listing`.
        """
        batch = Batch(self)
        mark = f"{at['listing']}|{at['page']}"
        for key, known in () if at.get("nameless") else self._unseen(at["listing"]):
            if read == 0:
                raise TenantsyncError(
                    "The source listed nothing at all, where there was something before; nothing was deleted",
                    code="empty-listing",
                    remedy="Check in the Entra admin centre that the app may read it, then start a full sync.",
                )
            writes, _ = self._note_absent(key, "left", known, mark)
            batch.add(writes)
            if self.dry:
                batch.plan(self.id(key), "delete", "left")
            if self.work.time_is_up() and not self.dry:
                batch.flush(at)
                return at
        following = {"stage": "deletions", "page": at["page"] + 1}
        batch.flush(following, extra)
        return following

    def _unseen(self, listing: str) -> Iterable[tuple[str, Known]]:
        data, connection = self.work.app.tables.data, self.work.connection
        if self.dry:
            shown = self._shown()
            return [
                (key, known)
                for key, known in self.index().items()
                if known.state == "active" and self.id(key) not in shown
            ]
        where = "state eq 'active' and absent eq '' and seen ne @listing"
        rows = data.scan(connection, self.kind.prefix, columns=COLUMNS, where=where, values={"listing": listing})
        return ((row["key"], Known.of(row)) for row in rows)

    # --- deletions -----------------------------------------------------------------------------------------------

    def deletions(self, at: At, guard: GuardIn) -> At:
        """Delete what is noted as absent, unless the guard holds it back; then the plan shows what waits."""
        data, connection = self.work.app.tables.data, self.work.connection
        noted = list(data.scan(connection, ABSENT + self.kind.prefix))
        if self.dry:
            return self._propose_again(noted)
        if noted and not at.get("allowed"):
            total = sum(1 for _ in data.scan(connection, self.kind.prefix, columns=(), where="state eq 'active'"))
            if guard_holds(len(noted), total, guard.max_count, guard.max_percent):
                return self._hold(at, noted, total)
            at = {**at, "allowed": True}
        done = self._delete([(row["row"], row["reason"]) for row in noted], at)
        return {"stage": "purge", "page": at["page"] + 1} if done else at

    def _propose_again(self, noted: Sequence[Row]) -> At:
        """In the plan of a dry run: what earlier runs noted and could not delete, unless this one has met it."""
        batch = Batch(self)
        shown = self._shown() if noted else set()
        for row in noted:
            if self.id(row["row"]) not in shown:
                batch.plan(self.id(row["row"]), "delete", row["reason"])
        following = {"stage": "done"}
        batch.flush(following)
        return following

    def _shown(self) -> set[str]:
        """The items that the plan of this run names."""
        plan = self.work.app.tables.data.scan(self.work.connection, f"{PLAN}{self.work.run.id}|")
        return {line[1] for row in plan for line in row["j_lines"] if line[0] == self.kind.entity}

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
                log=[
                    LogLine("warning", entity, item_id, "skipped", "held", self.kind.remedies["held"])
                    for item_id, _ in part
                ],
                outcomes={"skipped": len(part)},
                checkpoint=self.nest({**at, "planned": start + LINES}),
            )
        return {**following, "held": len(noted), "of": total}

    def approved(self, at: At) -> At:
        """Delete exactly what the held run showed, less what has come back since."""
        data, run = self.work.app.tables.data, self.work.run.id
        for row in data.scan(self.work.connection, f"{PLAN}{run}|", start=at.get("from", "")):
            ids = [line[1] for line in row["j_lines"] if line[2] == "delete"]
            stored = self.load(ids)
            due = [
                (key, known.absent) for key, known in sorted(stored.items()) if known.state == "active" and known.absent
            ]
            if not self._delete(due, {**at, "from": row["key"]}):
                return {**at, "from": row["key"]}
        return {"stage": "purge", "page": at["page"] + 1}

    def _delete(self, due: Sequence[tuple[str, str]], at: At) -> bool:
        """Turn active rows into tombstones; False when the slice's time was up before the end."""
        for start in range(0, len(due), DELETIONS):
            if start and self.work.time_is_up():
                return False
            batch = Batch(self)
            now = self.work.now()
            for key, reason in due[start : start + DELETIONS]:
                decision = Decision("deleted", "deleted", reason)
                batch.add([*_tombstone(key, now, reason), Write("delete", ABSENT + key)], self.id(key), decision)
            batch.flush(at)
        return True

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


_ACTIONS = {"created": "create", "updated": "update", "restored": "restore", "deleted": "delete"}


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
            self.plan(item_id, _ACTIONS.get(decision.change or "", "none"), decision.reason)
        self._count(item_id, decision, quiet=not writes or decision.outcome in QUIET)

    def note(self, item_id: str, decision: Decision) -> None:
        """Count and log an item that leads to no write now."""
        self._count(item_id, decision, quiet=True)

    def tell(self, lines: Sequence[LogLine], *, skipped: int = 0) -> None:
        """Log findings that belong to no single outcome, and count members that were left out."""
        self._quiet_log += lines
        self._quiet["skipped"] += skipped

    def plan(self, item_id: str, action: str, reason: str) -> None:
        """Show in the plan of a dry run what would be done."""
        self._plan.append(PlanLine(self._mirror.kind.entity, item_id, action, reason))
        if action == "delete" and self._mirror.counted:
            self._quiet["deleted"] += 1
        if len(self._plan) == LINES:
            self._mirror.work.claim.commit(self._mirror.work.now(), plan=self._plan)
            self._plan = []

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
            remedy = kind.remedies.get(decision.reason, f"Look at this {kind.entity} in the Entra admin centre.")
            line = LogLine(level, kind.entity, item_id, decision.outcome, decision.reason, remedy)
            (self._quiet_log if quiet else self._log).append(line)

    def flush(self, checkpoint: At, extra: Sequence[Write] = ()) -> None:
        """Commit the rest, and with it `checkpoint` and `extra`."""
        if self._mirror.dry:
            extra = ()
        if len(self._writes) + len(extra) > WRITES:
            self._commit()
        self._outcomes += self._quiet
        self._log += self._quiet_log
        self._commit(extra, plan=self._plan, checkpoint=self._mirror.nest(checkpoint))

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
