"""The calls about syncs and their runs: settings, start, progress, log and plan, and what becomes of a held run."""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from storage.faults import StorageError
from storage.tables import Conflict, Row, encode_key
from sync import connections, decisions, jobs, subscriptions
from sync.calendars import pacing
from sync.connections import REMOVAL, SYNCS
from sync.contacts.run import CONTACT, GROUP
from sync.directory import DEVICE
from sync.due import next_run
from sync.errors import RequestError
from sync.http import Call, ListQuery, Reply, connection_of, decode_cursor, listing, missing, public_etag
from sync.models import LogEntry, PlanEntry, RunOut, SyncOut
from sync.people import USER
from sync.runs import LOG, PLAN, RUN, STATE, Run, load_run, parse_run
from sync.sync_settings import SETTINGS

if TYPE_CHECKING:
    from sync.wiring import App

log = logging.getLogger(__name__)


class RunsQuery(ListQuery):
    sync: Annotated[str, Field(max_length=20)] | None = None
    status: Literal["queued", "running", "succeeded", "partial", "failed", "held", "cancelled"] | None = None


class LogQuery(ListQuery):
    level: Literal["info", "warning", "error"] | None = None


# --- syncs and runs --------------------------------------------------------------------------------------------------


def _sync(call: Call) -> str:
    """The sync in the path, of a connection that exists."""
    connection_of(call)
    if call.path["sync"] not in SETTINGS:
        raise missing("sync")
    return call.path["sync"]


def list_syncs(call: Call) -> Reply:
    name = connection_of(call).name
    states = {row["key"][len(STATE) :]: row for row in call.app.tables.data.scan(name, STATE)}
    return Reply(200, listing((_sync_out(call, name, sync, states.get(sync, {})) for sync in SYNCS), None))


def _sync_out(call: Call, name: str, sync: Any, state: Row) -> SyncOut:
    settings, _ = jobs.load_settings(call.app, name, sync)
    last = load_run(call.app.tables.data, name, state["last_run"]) if state.get("last_run") else None
    return SyncOut(sync=sync, settings=settings.wire(), last_run=last and render_run(last[0]), next_run=next_run(state))


def get_sync(call: Call) -> Reply:
    sync = _sync(call)
    settings, etag = jobs.load_settings(call.app, call.path["name"], sync)
    return Reply(200, settings, public_etag(etag or ""))


def put_sync(call: Call) -> Reply:
    sync = _sync(call)
    old, etag = jobs.load_settings(call.app, call.path["name"], sync)
    call.match(etag or "")
    if call.body.enabled and sync not in call.app.executors:
        raise RequestError(
            "This sync is not available in this version", code="sync-not-available", status=409, remedy="Leave it off."
        )
    saved = jobs.save_settings(call.app, call.path["name"], sync, call.body, etag)
    if call.body.enabled and not old.enabled and sync in call.app.polls:
        _follow_up(call, sync, lambda app, name: app.polls[sync](app, name, None))
    if sync == pacing.SYNC and old.enabled and not call.body.enabled:
        _follow_up(call, sync, subscriptions.let_go)
    return Reply(200, call.body, public_etag(saved))


def _follow_up(call: Call, sync: str, step: Callable[["App", str], object]) -> None:
    """See to what has waited for the sync to be switched on or off. Where that fails the timers do it: the settings are
    stored.
    """
    name = call.path["name"]
    try:
        step(call.app, name)
    except (RequestError, Conflict, StorageError) as fault:
        log.warning("left to the timer connection=%s sync=%s fault=%s", name, sync, type(fault).__name__)


def start_run(call: Call) -> Reply:
    name, sync = call.path["name"], _sync(call)
    jobs.enabled_settings(call.app, name, sync)
    if sync == pacing.SYNC and not call.body.dry_run:
        begun = _begin_calendars(call, name)
        if begun is not None:
            return accepted(begun)
    run, _ = jobs.start_now(call.app, name, sync, call.body.mode, dry_run=call.body.dry_run)
    return accepted(run)


def _begin_calendars(call: Call, name: str) -> Run | None:
    """A full sync in progress, if one is asked for; else None, with what the run has to look at noted."""
    if call.body.mode == "full":
        return pacing.begin_full(call.app, name)
    pacing.begin_reading(call.app, name)
    return None


def accepted(run: Run) -> Reply:
    return Reply(202, render_run(run), headers={"Location": f"/api/connections/{run.connection}/runs/{run.id}"})


def render_run(run: Run) -> RunOut:
    """A run as the contract shows it."""
    return RunOut.model_validate(
        {
            "id": run.id,
            "sync": run.sync,
            "trigger": run.trigger,
            "mode": run.mode,
            "dryRun": run.dry_run,
            "status": run.status,
            "progress": {"done": run.done, "total": run.total, "unit": run.unit},
            "counts": run.counts,
            "graph": run.graph,
            "storage": {"transactions": run.transactions},
            "slices": run.slice,
            "queuedAt": run.queued_at,
            "startedAt": run.started_at,
            "finishedAt": run.finished_at,
            "error": run.error,
        }
    )


def list_runs(call: Call) -> Reply:
    name = connection_of(call).name
    after = decode_cursor(call.query.cursor, r"[0-9a-f-]{1,40}") if call.query.cursor else ""
    wanted = {"sync": call.query.sync, "status": call.query.status}
    given = {column: value for column, value in wanted.items() if value is not None}
    rows = call.app.tables.data.page(
        name,
        RUN,
        after=after and RUN + after,
        top=call.query.top,
        where=" and ".join(f"{column} eq @{column}" for column in given) or None,
        values=given,
    )
    found = [parse_run(name, row) for row in rows]
    following = found[-1].id if len(found) == call.query.top else None
    return Reply(200, listing(map(render_run, found), following))


def _run(call: Call) -> tuple[Run, str]:
    """The run in the path; that of a removal also when its connection is gone."""
    name = call.path["name"]
    found = load_run(call.app.tables.data, name, encode_key(call.path["id"]))
    if found is None or found[0].sync != REMOVAL:
        connections.load(call.app, name)
    if found is None:
        raise missing("run")
    return found


def get_run(call: Call) -> Reply:
    run, etag = _run(call)
    return Reply(200, render_run(run), public_etag(etag))


def cancel_run(call: Call) -> Reply:
    run, etag = _run(call)
    call.match(etag)
    return Reply(202, render_run(decisions.cancel(call.app, run, etag)))


def _packed(call: Call, prefix: str, run: Run) -> Iterator[tuple[str, datetime, list[Any]]]:
    """The lines of a run's log or plan behind the cursor, each with its position and time."""
    after, skip = "", 0
    if call.query.cursor:
        after, _, seen = decode_cursor(call.query.cursor, r"\d{7,9}\|\d{4,9}#\d{1,4}").partition("#")
        skip = int(seen) + 1
    prefix = f"{prefix}{run.id}|"
    for row in call.app.tables.data.scan(run.connection, prefix, start=prefix + after):
        key = row["key"][len(prefix) :]
        for place, line in enumerate(row["j_lines"]):
            if key != after or place >= skip:
                yield f"{key}#{place}", row["at"], line


def _page_of(call: Call, entries: Iterable[tuple[str, Any]]) -> Reply:
    """The first `top` of `entries`, each with its position."""
    found = list(islice(entries, call.query.top))
    following = found[-1][0] if len(found) == call.query.top else None
    return Reply(200, listing((entry for _, entry in found), following))


def get_run_log(call: Call) -> Reply:
    run, _ = _run(call)
    level = call.query.level
    lines = ((place, at, line) for place, at, line in _packed(call, LOG, run) if level in (None, line[0]))
    return _page_of(call, ((place, _log_entry(at, line)) for place, at, line in lines))


def get_run_plan(call: Call) -> Reply:
    run, _ = _run(call)
    lines = [(place, line) for place, _, line in islice(_packed(call, PLAN, run), call.query.top)]
    names = _names(call, run.connection, {(entity, item) for _, (entity, item, *_) in lines})
    entries = (
        (place, PlanEntry(**dict(zip(_PLAN, line, strict=True)), display_name=names.get((line[0], line[1]))))
        for place, line in lines
    )
    return _page_of(call, entries)


def _names(call: Call, connection: str, items: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The names of the stored ones among these items of a plan: one point read each, several at a time."""
    known = [(entity, item) for entity, item in sorted(items) if entity in _PREFIXES]
    keys = [_PREFIXES[entity] + encode_key(item) for entity, item in known]
    found = call.app.tables.data.get_many(connection, keys)
    named = (
        (each, found[key].get("j_fields", {}).get("displayName"))
        for each, key in zip(known, keys, strict=True)
        if key in found
    )
    return {each: name for each, name in named if name}


def approve_run(call: Call) -> Reply:
    run, etag = _run(call)
    call.match(etag)
    return accepted(decisions.approve(call.app, run, etag))


def reject_run(call: Call) -> Reply:
    run, etag = _run(call)
    call.match(etag)
    return Reply(200, render_run(decisions.reject(call.app, run, etag)))


_PLAN = ("entity", "id", "action", "reason")
_PREFIXES = {"user": USER, "photo": USER, "device": DEVICE, "contact": CONTACT, "contact-group": GROUP}


def _log_entry(at: datetime, line: list[Any]) -> LogEntry:
    level, entity, item, outcome, reason, remedy = line
    return LogEntry(at=at, level=level, entity=entity, id=item, outcome=outcome, reason=reason, remedy=remedy)
