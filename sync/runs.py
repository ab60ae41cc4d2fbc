"""The sync run: its life, its row, and the claim through which a worker writes.

    queued -> running -> succeeded | partial | failed | held | cancelled

Everything a run writes goes through `Claim.commit`: rows, feed, log, counts and checkpoint in one transaction that
also renews the lease. A worker that lost its claim cannot write, and a slice that is repeated counts the same.
"""

import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from storage.tables import Conflict, Row, Table, Write
from sync.errors import Cancelled, Deferred, LeaseLost
from sync.feed import Change, Head

LEASE = timedelta(seconds=90)
RUN = "run|"
ACTIVE = "active|"
LOG = "log|"
PLAN = "plan|"
SETTINGS = "settings|"
STATE = "state|"
TERMINAL = frozenset({"succeeded", "partial", "failed", "cancelled"})
LINES = 1000  # of log or plan in one row
_COMMIT_ATTEMPTS = 40
_NEWEST_FIRST = 10**13

Trigger = Literal["timer", "manual", "notification", "lifecycle"]
Mode = Literal["delta", "full"]
Outcome = Literal["created", "updated", "unchanged", "deleted", "restored", "skipped", "failed"]
Action = Literal["create", "update", "restore", "delete", "send", "skip", "none"]


@dataclass(frozen=True)
class Run:
    """One run of one sync of one connection. `checkpoint` belongs to the sync's own code, `commits` tells one write
    of it from the next.
    """

    id: str
    connection: str
    sync: str
    trigger: Trigger
    mode: Mode
    dry_run: bool
    queued_at: datetime
    status: str = "queued"
    unit: str = "items"
    total: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    graph: Mapping[str, int] = field(default_factory=dict)
    transactions: int = 0
    slice: int = 0
    commits: int = 0
    attempt: int = 0
    checkpoint: Mapping[str, Any] = field(default_factory=dict)
    owner: str = ""
    lease_until: datetime | None = None
    not_before: datetime | None = None
    cancel: bool = False
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: Mapping[str, str] | None = None

    @property
    def active_key(self) -> str:
        """The key of the row that exists while a run of this sync is active; dry runs have their own."""
        return active_key(self.sync, dry=self.dry_run)

    @property
    def done(self) -> int:
        """Items dealt with so far, or what else the sync measures its progress by."""
        done: int = self.checkpoint.get("done", sum(self.counts.values()))
        return done

    def held_by_other(self, now: datetime) -> bool:
        """Whether a worker's lease on it still runs."""
        return bool(self.owner) and self.lease_until is not None and self.lease_until > now


@dataclass(frozen=True)
class LogLine:
    """One line of the run log: an item that was not plain success, by id, with the reason and what to do."""

    level: Literal["info", "warning", "error"]
    entity: str
    id: str
    outcome: Outcome
    reason: str
    remedy: str = ""


@dataclass(frozen=True)
class PlanLine:
    """One line of a plan: what a dry run would do, or a held run will do once it is approved."""

    entity: str
    id: str
    action: Action
    reason: str


def new_id(now: datetime) -> str:
    """A run id: newest first in the order of keys, and not to be guessed."""
    return f"{_NEWEST_FIRST - int(now.timestamp() * 1000):013d}-{secrets.token_hex(8)}"


_TIMES = ("queued_at", "lease_until", "not_before", "started_at", "finished_at")


def run_row(run: Run) -> Row:
    """The row that holds `run`; the columns beside the document serve filters."""
    document = {
        name: getattr(run, name) for name in Run.__dataclass_fields__ if name not in ("id", "connection", "cancel")
    }
    for name in _TIMES:
        document[name] = document[name] and document[name].isoformat()
    document["counts"] = dict(run.counts)
    return {"j_run": document, "sync": run.sync, "status": run.status, "cancel": run.cancel}


def parse_run(connection: str, row: Row) -> Run:
    """The run that a row holds."""
    document = dict(row["j_run"])
    for name in _TIMES:
        document[name] = document[name] and datetime.fromisoformat(document[name])
    return Run(id=row["key"][len(RUN) :], connection=connection, cancel=row["cancel"], **document)


def load_run(data: Table, connection: str, run_id: str) -> tuple[Run, str] | None:
    """The run and its etag, or None."""
    row = data.get(connection, RUN + run_id)
    return None if row is None else (parse_run(connection, row), row["etag"])


def active_key(sync: str, *, dry: bool) -> str:
    return f"{ACTIVE}{sync}|dry" if dry else ACTIVE + sync


def active_run(data: Table, connection: str, sync: str, *, dry: bool = False) -> tuple[Run, str] | None:
    """The run of `sync` that is not finished yet, if any."""
    active = data.get(connection, active_key(sync, dry=dry))
    return None if active is None else load_run(data, connection, active["run"])


class Claim:
    """A run that this worker holds.

    `commit` raises LeaseLost once another worker holds it or it is gone, Cancelled once somebody asked for that,
    Deferred `storage-busy` where others kept writing the same rows.
    """

    def __init__(self, data: Table, run: Run, etag: str) -> None:
        self._data = data
        self._etag = etag
        self._head = Head(data, run.connection)
        self._packed = 0
        self.run = run
        self.cost: Callable[[], Mapping[str, Any]] = dict

    @classmethod
    def take(cls, data: Table, run: Run, etag: str, *, now: datetime) -> "Claim | None":
        """Hold `run`, or None where another worker was first."""
        mine = replace(
            run,
            status="running",
            owner=secrets.token_hex(8),
            lease_until=now + LEASE,
            not_before=None,
            started_at=run.started_at or now,
            slice=run.slice + 1,
        )
        try:
            etag = data.commit(run.connection, [Write("replace", RUN + run.id, run_row(mine), etag)])[0]
        except Conflict:
            found = load_run(data, run.connection, run.id)
            if found is None or found[0] != mine:
                return None
            etag = found[1]  # the conflict was with this very write: its answer was lost and the SDK sent it again
        return cls(data, mine, etag)

    def commit(
        self,
        now: datetime,
        writes: Sequence[Write] = (),
        *,
        changes: Sequence[Change] = (),
        log: Sequence[LogLine] = (),
        plan: Sequence[PlanLine] = (),
        outcomes: Mapping[str, int] | None = None,
        **fields: Any,
    ) -> list[str]:
        """Write everything or nothing (at most 95 `writes`); `fields` are set on the run, such as `checkpoint`.

        Returns the new etags of `writes`, none where the answer to the write was lost. Raises Conflict where a condition of `writes` itself does not hold.
        """
        packed = [*self._pack(LOG, log, now), *self._pack(PLAN, plan, now)]
        for _ in range(_COMMIT_ATTEMPTS):
            counts = dict(Counter(self.run.counts) + Counter(outcomes or {}))
            renewed = {"commits": self.run.commits + 1, "lease_until": now + LEASE, "attempt": 0}
            run = replace(self.run, **{"counts": counts, **renewed, **self.cost(), **fields})
            steps = [Write("replace", RUN + run.id, run_row(run), self._etag), *writes, *packed]
            if changes:
                steps += self._head.append(changes, run.id, now)
            try:
                etags = self._data.commit(run.connection, steps)
            except Conflict as conflict:
                if self._reload(run):
                    return []
                if 0 < conflict.place <= len(writes):
                    raise
                continue
            self._etag, self.run = etags[0], run
            if changes:
                self._head.advance(etags[-1])
            return etags[1 : len(writes) + 1]
        raise Deferred("A transaction kept meeting others", until=now, code="storage-busy")

    def release(self, now: datetime, **fields: Any) -> None:
        """Let go, so that any worker may go on from the checkpoint."""
        self.commit(now, **{"attempt": self.run.attempt, **fields, "owner": "", "lease_until": None})

    def _pack(self, prefix: str, lines: Sequence[LogLine | PlanLine], now: datetime) -> list[Write]:
        """Rows of log or plan, in the order of slices: what they tell of is in the same transaction, so just once."""
        rows = []
        for start in range(0, len(lines), LINES):
            self._packed += 1
            key = f"{prefix}{self.run.id}|{self.run.slice:07d}|{self._packed:04d}"
            packed = [list(astuple(line)) for line in lines[start : start + LINES]]
            rows.append(Write("insert", key, {"j_lines": packed, "at": now}))
        return rows

    def _reload(self, tried: Run) -> bool:
        """After a conflict: still ours and somebody else's row was in the way, or no longer ours.

        True where the conflict is with this very write: its answer was lost and the SDK sent it again. An earlier one
        may have come through as well although it failed here; what it said of the run holds.
        """
        self._head.forget()
        found = load_run(self._data, self.run.connection, self.run.id)
        if found is None or (found[0] != tried and found[0].owner != self.run.owner):
            raise LeaseLost("Another worker holds this run now")
        self.run, self._etag = found
        if self.run.cancel:
            raise Cancelled("The run was cancelled", remedy="Start it again when you want it.")
        return self.run == tried
