"""What a person decides about a run: to stop it, or to apply or drop the deletions that the guard holds back."""

from dataclasses import replace
from typing import TYPE_CHECKING

from storage.tables import Conflict, Write
from sync import jobs
from sync.due import put_due
from sync.endings import close, problem
from sync.errors import RequestError, TenantsyncError
from sync.runs import RUN, TERMINAL, Run, active_run, load_run, run_row

if TYPE_CHECKING:
    from sync.wiring import App


def cancel(app: "App", run: Run, etag: str) -> Run:
    """Ask for `run` to be stopped: at once where no worker holds it, else at the worker's next write.

    A held run drops its deletions. Raises RequestError `run-finished` where it is over already, Conflict where it
    changed meanwhile.
    """
    if run.status in TERMINAL:
        raise RequestError("The run is over", code="run-finished", status=409, remedy="Nothing to do.")
    if run.status == "held":
        return _drop(app, run, etag, "cancelled")
    if not run.held_by_other(app.clock()):
        return close(app, run, etag, "cancelled")
    asked = replace(run, cancel=True)
    app.tables.data.commit(run.connection, [Write("replace", RUN + run.id, run_row(asked), etag)])
    return asked


def approve(app: "App", run: Run, etag: str) -> Run:
    """Send a held run on its way to delete what its plan shows.

    Raises RequestError `run-not-held`, or `sync-busy` while another run of the sync is active.
    """
    _must_be_held(run)
    now = app.clock()
    skipped = max(run.counts.get("skipped", 0) - run.checkpoint["held"], 0)
    approved = replace(
        run,
        status="queued",
        queued_at=now,
        finished_at=None,
        error=None,
        counts={**run.counts, "skipped": skipped},
        checkpoint={"stage": "approved", "page": 0},
    )
    put_due(app, run.sync, run.connection, now + jobs.WATCH)
    _decide(app, approved, etag, Write("insert", run.active_key, {"run": run.id}))
    jobs.send(app, approved)
    return approved


def reject(app: "App", run: Run, etag: str) -> Run:
    """Drop the deletions of a held run. What is still true is proposed again by the next. Raises `run-not-held`."""
    refused = TenantsyncError("The deletions were rejected", code="deletions-rejected", remedy="Nothing to do.")
    return _drop(app, run, etag, "partial", refused)


def _drop(app: "App", run: Run, etag: str, status: str, error: TenantsyncError | None = None) -> Run:
    _must_be_held(run)
    ended = replace(run, status=status, error=problem(error) if error else None)
    _decide(app, ended, etag)
    return ended


def _must_be_held(run: Run) -> None:
    if run.status != "held":
        raise RequestError("The run holds nothing back", code="run-not-held", status=409, remedy="Nothing to do.")


def _decide(app: "App", decided: Run, etag: str, *more: Write) -> None:
    """Write what was decided over the held run with `etag`."""
    try:
        app.tables.data.commit(decided.connection, [Write("replace", RUN + decided.id, run_row(decided), etag), *more])
    except Conflict:
        found = load_run(app.tables.data, decided.connection, decided.id)
        if found is not None and found[0] == decided:
            return  # this very write is there: its answer was lost and the SDK sent it again
        if found is not None:
            _must_be_held(found[0])  # somebody else has decided meanwhile
        if active_run(app.tables.data, decided.connection, decided.sync) is None:
            raise
        raise RequestError(
            "Another run of this sync is active", code="sync-busy", status=409, remedy="Approve when it has ended."
        ) from None
