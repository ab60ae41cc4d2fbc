"""Runs are started, carried through slices by queue messages, and finished.

A run survives anything that happens to its messages: whoever looks at an active run whose lease has ended sends a
new one, and a watch row in the due index makes the timers look.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from storage.meter import METER, Meter
from storage.queues import MANUAL, SCHEDULED
from storage.tables import Conflict, Row, Write
from sync import schedule
from sync.due import due_key, move_due, move_poll, next_poll, next_run, put_due, put_poll, schedule_of
from sync.endings import close, end, problem
from sync.errors import (
    Cancelled,
    Deferred,
    Forbidden,
    LeaseLost,
    RequestError,
    SignInError,
    TenantsyncError,
)
from sync.runs import (
    RUN,
    SETTINGS,
    STATE,
    TERMINAL,
    Claim,
    Mode,
    Run,
    Trigger,
    active_run,
    load_run,
    new_id,
    run_row,
)
from sync.sync_settings import SETTINGS as MODELS
from sync.sync_settings import ManualIn, SyncSettings

if TYPE_CHECKING:
    from sync.graph.client import GraphClient
    from sync.wiring import App

log = logging.getLogger(__name__)

WATCH = timedelta(minutes=5)
RESUMABLE = timedelta(days=6)  # a day less than a delta token lives (Learn: Use delta query to track changes)
STALLED = timedelta(seconds=60)
MAX_ATTEMPTS = 8
WAITING: Mapping[str, Any] = {
    "waiting": True
}  # the checkpoint of a run that looks at what has a reason and at nothing else


@dataclass(frozen=True)
class Finish:
    """A sync's code has nothing left to do. `state` is merged into the sync's state row.

    `held` deletions, of so many stored items, wait for approval.
    """

    state: Mapping[str, Any]
    held: int = 0
    of: int = 0


@dataclass
class Work:
    """What a sync's code gets for one slice: its run, its settings, Graph, and how long it may go on."""

    app: "App"
    claim: Claim
    settings: SyncSettings
    deadline: datetime
    _looked: datetime | None = field(default=None, init=False)
    _longest: timedelta = field(default=timedelta(0), init=False)

    @property
    def run(self) -> Run:
        return self.claim.run

    @property
    def connection(self) -> str:
        return self.claim.run.connection

    @cached_property
    def graph(self) -> "GraphClient":
        """The Graph client of this connection. Raises SignInError or Deferred when it signs in."""
        return self.app.graph(self.connection, deadline=self.deadline)

    def now(self) -> datetime:
        return self.app.clock()

    def time_is_up(self) -> bool:
        """Whether to stop here, so that another message carries the run on.

        Asked before every step: it is up when one as long as the longest so far, and as much time again for the
        writes that end a slice, would pass the deadline.
        """
        now = self.app.clock()
        if self._looked is not None:
            self._longest = max(self._longest, now - self._looked)
        self._looked = now
        return now + 2 * self._longest >= self.deadline

    def state(self, sync: str | None = None) -> Row:
        """The state row of a sync (this run's own by default); empty where it has none yet."""
        return self.app.tables.data.get(self.connection, STATE + (sync or self.run.sync)) or {}


Executor = Callable[[Work], Finish | None]


# --- starting --------------------------------------------------------------------------------------------------------


def load_settings(app: "App", connection: str, sync: str) -> tuple[SyncSettings, str | None]:
    """The settings of a sync and their etag; the defaults and None where nobody has set any."""
    row = app.tables.data.get(connection, SETTINGS + sync)
    return (MODELS[sync](), None) if row is None else (MODELS[sync].model_validate(row["j_settings"]), row["etag"])


def save_settings(app: "App", connection: str, sync: str, settings: SyncSettings, etag: str | None) -> str:
    """Store settings over those with `etag` (None: over none) and set when the sync is due. Raises Conflict.

    One that polls has a time for that too, from when it is enabled. Due rows are written first: one without a matching
    state is ignored, a state without its row never fires.
    """
    now = app.clock()
    old, _ = load_settings(app, connection, sync)
    while True:
        state = app.tables.data.get(connection, STATE + sync) or {}
        due = next_run(state)
        if not settings.enabled:
            due = None
        elif not old.enabled or old.schedule != settings.schedule:
            due = schedule.first_due(schedule_of(settings), now)
        put_due(app, sync, connection, due)
        moved = move_due(sync, due, state)
        if sync in app.polls:
            polled = (next_poll(state) or now) if settings.enabled else None
            if polled is not None:
                put_poll(app, sync, connection, polled)
            moved = replace(moved, row={**moved.row, **move_poll(sync, polled, state).row})
        stored = Write("replace" if etag else "insert", SETTINGS + sync, {"j_settings": settings.wire()}, etag)
        try:
            return app.tables.data.commit(connection, [stored, moved])[0]
        except Conflict:
            if load_settings(app, connection, sync)[1] != etag:
                raise  # otherwise a run or a tick wrote the state meanwhile


def start(
    app: "App",
    connection: str,
    sync: str,
    *,
    trigger: Trigger,
    mode: Mode = "delta",
    dry_run: bool = False,
    state: Write | None = None,
    checkpoint: Mapping[str, Any] | None = None,
    delay: float = 0,
) -> tuple[Run, bool]:
    """A queued run of `sync`, and whether it is new: while one is active, that one is returned.

    `state` is written in the transaction that makes the run, which begins at `checkpoint`, after `delay` seconds.
    """
    now = app.clock()
    run = Run(new_id(now), connection, sync, trigger, mode, dry_run=dry_run, queued_at=now, checkpoint=checkpoint or {})
    put_due(app, sync, connection, now + WATCH)
    steps = [Write("insert", run.active_key, {"run": run.id}), Write("insert", RUN + run.id, run_row(run))]
    try:
        app.tables.data.commit(connection, [*steps, state] if state else steps)
    except Conflict:
        found = active_run(app.tables.data, connection, sync, dry=dry_run)
        if found is None:
            raise _busy() from None
        if found[0].id != run.id:  # else this very write is there: its answer was lost and the SDK sent it again
            return _join(app, found[0], trigger, state), False
    send(app, run, delay)
    log.info("run queued connection=%s sync=%s run=%s trigger=%s", connection, sync, run.id, trigger)
    return run, True


def _join(app: "App", run: Run, trigger: Trigger, state: Write | None) -> Run:
    """The active run in the place of a second one. The due row has to stay until the state names another: `sync-busy`."""
    if state:
        try:
            app.tables.data.commit(run.connection, [state])
        except Conflict:
            raise _busy() from None
    kick(app, run, urgent=trigger == "manual")
    return run


def _busy() -> RequestError:
    return RequestError(
        "The sync is being changed right now", code="sync-busy", status=409, remedy="Try again in a moment."
    )


def enabled_settings(app: "App", connection: str, sync: str) -> SyncSettings:
    """The settings of a sync that is on. Raises RequestError `sync-disabled`."""
    settings, _ = load_settings(app, connection, sync)
    if not settings.enabled:
        raise RequestError(
            f"The {sync} sync is not enabled",
            code="sync-disabled",
            status=409,
            remedy="Enable it in its settings first.",
        )
    return settings


def start_now(app: "App", connection: str, sync: str, mode: Mode, *, dry_run: bool = False) -> tuple[Run, bool]:
    """A manual run. Unless it is dry, it takes the place of a scheduled one that is overdue."""
    now = app.clock()
    settings = enabled_settings(app, connection, sync)
    state = app.tables.data.get(connection, STATE + sync) or {}
    due = next_run(state)
    if dry_run:
        return start(app, connection, sync, trigger="manual", mode=mode, dry_run=True)
    checkpoint = _resume(state, mode, now)
    if due is None or due > now:
        return start(app, connection, sync, trigger="manual", mode=mode, checkpoint=checkpoint)
    following = schedule.next_due(schedule_of(settings), due, now)
    put_due(app, sync, connection, following)
    moved = move_due(sync, following, state)
    return start(app, connection, sync, trigger="manual", mode=mode, state=moved, checkpoint=checkpoint)


def _resume(state: Mapping[str, Any], mode: Mode, now: datetime) -> Mapping[str, Any] | None:
    """Where a run that ended because its credential lapsed had come to, while its delta token still lives."""
    stopped = state.get("j_resume")
    if not stopped or stopped["mode"] != mode or now - datetime.fromisoformat(stopped["at"]) > RESUMABLE:
        return None
    checkpoint: Mapping[str, Any] = stopped["checkpoint"]
    return checkpoint


def wake(app: "App", connection: str) -> None:
    """Have every scheduled sync of a connection run by the next tick of the timer, and one that polls at once: its
    credential works again.
    """
    now = app.clock()
    for sync in MODELS:
        settings, etag = load_settings(app, connection, sync)
        if etag is None or not settings.enabled:
            continue
        if sync in app.polls:
            with suppress(RequestError):  # `sync-busy`: a run is being started or ended this moment
                start(app, connection, sync, trigger="manual", checkpoint=WAITING)
            continue
        if isinstance(settings.schedule, ManualIn):
            continue
        state = app.tables.data.get(connection, STATE + sync) or {}
        put_due(app, sync, connection, now)
        with suppress(Conflict):  # a run or a tick wrote the state meanwhile: then it runs anyway
            app.tables.data.commit(connection, [move_due(sync, now, state)])


def start_waiting(app: "App", connection: str, sync: str) -> None:
    """A run for what waits, unless the sync is off or its credential has lapsed: then it waits on."""
    if not app.lapsed(connection) and load_settings(app, connection, sync)[0].enabled:
        start(app, connection, sync, trigger="notification", checkpoint=WAITING)


def kick(app: "App", run: Run, *, urgent: bool = False) -> None:
    """Send a message for an active run that no worker holds and that has waited too long, or at once if `urgent`."""
    now = app.clock()
    if run.status in TERMINAL or run.held_by_other(now) or (run.not_before and run.not_before > now):
        return
    if urgent and run.status == "queued" and run.trigger != "manual":
        app.queues.send(MANUAL, {"connection": run.connection, "run": run.id})
    elif now - (run.lease_until or run.queued_at) > STALLED:
        send(app, run)


def send(app: "App", run: Run, delay: float = 0) -> None:
    queue = MANUAL if run.trigger == "manual" else SCHEDULED
    app.queues.send(queue, {"connection": run.connection, "run": run.id}, delay)


# --- timers ----------------------------------------------------------------------------------------------------------


def tick(app: "App", family: str) -> None:
    """Start what is due in `family` (a value of DUE_FAMILY, or directory) and look after runs that stand still. One read when idle."""
    now = app.clock()
    for row in app.tables.due.scan(family, until=due_key(now, "~", "~")):
        try:
            due = datetime.fromisoformat(row["due"])
            if row.get("poll"):
                app.polls[row["sync"]](app, row["connection"], due)
            else:
                _look(app, row["connection"], row["sync"], due, now)
        except (TenantsyncError, Conflict) as error:
            code = error.code if isinstance(error, TenantsyncError) else "conflict"
            log.warning("due row left for the next tick connection=%s code=%s", row["connection"], code)
            continue
        app.tables.due.commit(family, [Write("delete", row["key"])])


def _look(app: "App", connection: str, sync: str, due: datetime, now: datetime) -> None:
    """One due row: a sync whose state names this very time is started; a run that stands still is sent on its way."""
    state = app.tables.data.get(connection, STATE + sync) or {}
    if next_run(state) == due:
        settings, _ = load_settings(app, connection, sync)
        following = schedule.next_due(schedule_of(settings), due, now)
        put_due(app, sync, connection, following)
        moved = move_due(sync, following, state)
        if app.lapsed(connection):
            app.tables.data.commit(connection, [moved])
        else:
            start(app, connection, sync, trigger="timer", state=moved, checkpoint=_resume(state, "delta", now))
        return
    for dry in (False, True):
        found = active_run(app.tables.data, connection, sync, dry=dry)
        if found is not None:
            put_due(app, sync, connection, now + WATCH)
            kick(app, found[0])


# --- working ---------------------------------------------------------------------------------------------------------


def work(app: "App", message: Mapping[str, Any]) -> None:
    """One slice of the run that `message` names; a message for a run that is over, or held by another, is dropped."""
    if "start" in message:
        start_waiting(app, message["connection"], message["start"])
        return
    connection, run_id = message["connection"], message["run"]
    meter = Meter()
    token = METER.set(meter)
    try:
        claim = _claim(app, connection, run_id)
        if claim is not None:
            _slice(app, claim, meter)
    finally:
        METER.reset(token)


def _claim(app: "App", connection: str, run_id: str) -> Claim | None:
    """The run, if it is this worker's now. Where its row was written meanwhile, as by who asks for a full sync, it looks
    again.
    """
    while True:
        now = app.clock()
        found = load_run(app.tables.data, connection, run_id)
        if found is None or found[0].status in TERMINAL or found[0].status == "held":
            return None
        run, etag = found
        if run.held_by_other(now) or (run.not_before and run.not_before > now):
            wait = (run.lease_until if run.held_by_other(now) else run.not_before) or now
            send(app, run, (wait - now).total_seconds() + 1)
            return None
        if run.cancel:
            close(app, run, etag, "cancelled")
            return None
        if claim := Claim.take(app.tables.data, run, etag, now=now):
            return claim


def _slice(app: "App", claim: Claim, meter: Meter) -> None:
    run = claim.run
    settings = load_settings(app, run.connection, run.sync)[0] if run.sync in MODELS else SyncSettings()
    job = Work(app, claim, settings, app.clock() + timedelta(seconds=app.settings.slice_seconds))
    claim.cost = lambda: _cost(run, job, meter)
    try:
        finish = app.executors[run.sync](job)
        if finish is None:
            claim.release(app.clock())
            send(app, claim.run)
        else:
            status = "held" if finish.held else "partial" if claim.run.counts.get("failed") else "succeeded"
            held: dict[str, Any] = {"error": _held(finish), "checkpoint": {"held": finish.held}} if finish.held else {}
            end(app, claim, status, state={**finish.state, "j_resume": None}, **held)
            _follow(app, run)
    except LeaseLost:
        log.info("lease lost connection=%s run=%s", run.connection, run.id)
    except Cancelled:
        end(app, claim, "cancelled")
    except Deferred as error:
        _defer(app, claim, error)
    except Conflict:  # what it decided about has been changed by another writer: it looks again
        _defer(app, claim, Deferred("Others write the same rows", until=app.clock(), code="storage-busy"))
    except SignInError as error:
        app.mark_sign_in_failed(run.connection, error)
        stopped = {"mode": run.mode, "checkpoint": claim.run.checkpoint, "at": app.clock().isoformat()}
        end(app, claim, "failed", error=error, state={"j_resume": stopped})
    except TenantsyncError as error:
        if isinstance(error, Forbidden):
            app.forget_sign_in(run.connection)
        end(app, claim, "failed", error=error, state={"j_resume": None})
    except Exception:
        with suppress(Exception):
            claim.release(app.clock())
        raise


def _follow(app: "App", run: Run) -> None:
    """Have another run come after one that has ended, where something came too late for it or waits for a later time."""
    wait = app.waiting[run.sync](app, run.connection) if run.sync in app.waiting else None
    if wait is not None:
        app.queues.send(SCHEDULED, {"connection": run.connection, "start": run.sync}, wait)


def _cost(before: Run, job: Work, meter: Meter) -> Mapping[str, Any]:
    """What the run has cost up to now: before this slice, and in it. The write that stores it counts itself."""
    used = asdict(job.graph.usage) if "graph" in job.__dict__ else {}
    names = ("requests", "batched", "throttled", "retried")
    graph = {name: before.graph.get(name, 0) + used.get(name, 0) for name in names}
    return {"graph": graph, "transactions": before.transactions + meter.transactions + 1}


def _defer(app: "App", claim: Claim, error: Deferred) -> None:
    """Put the run off until `error.until`; faults in a row that lead nowhere end it."""
    attempt = claim.run.attempt + (0 if error.throttled else 1)
    if attempt > MAX_ATTEMPTS:
        end(app, claim, "failed", error=error)
        return
    now = app.clock()
    wait = max(error.until, now + timedelta(seconds=min(2**attempt, 600) if attempt else 0))
    try:
        claim.release(now, attempt=attempt, not_before=wait)
    except Cancelled:
        end(app, claim, "cancelled")
    except LeaseLost:
        return
    else:
        send(app, claim.run, (wait - now).total_seconds())
        log.info("run deferred connection=%s run=%s code=%s", claim.run.connection, claim.run.id, error.code)


def _held(finish: Finish) -> TenantsyncError:
    return TenantsyncError(
        f"The deletion guard holds back {finish.held} deletions of {finish.of} stored items; all else was done",
        code="deletions-held",
        remedy="Look at the run's plan, then approve or reject it, or raise the limits in the settings.",
    )


def poisoned(app: "App", message: Mapping[str, Any]) -> None:
    """The queue gave up on a run after its last attempt: record that, so that the portal sees it.

    What asked for a run of a sync is dropped: the schedule starts it.
    """
    if "start" in message:
        return
    found = load_run(app.tables.data, message["connection"], message["run"])
    if found is None or found[0].status in TERMINAL:
        return
    error = TenantsyncError(
        "The run stopped with an unexpected fault several times",
        code="run-crashed",
        remedy="Start it again; if it happens again, give the run's id to your vendor.",
    )
    close(app, *found, "failed", problem(error))
    log.error("run crashed connection=%s run=%s", message["connection"], message["run"])
