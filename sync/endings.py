"""A run's end: in one transaction with what its sync remembers, whoever ends it."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from storage.tables import Write
from sync.errors import Cancelled, LeaseLost, TenantsyncError
from sync.runs import RUN, STATE, Claim, Run, run_row
from sync.sync_settings import SETTINGS

if TYPE_CHECKING:
    from sync.wiring import App

log = logging.getLogger(__name__)


def end(
    app: "App",
    claim: Claim,
    status: str,
    *,
    state: Mapping[str, Any] | None = None,
    error: TenantsyncError | None = None,
    **fields: Any,
) -> None:
    """Finish the run that `claim` holds, in one transaction with the sync's state."""
    run = claim.run
    now = app.clock()
    writes = [Write("delete", run.active_key)]
    if run.sync in SETTINGS and not run.dry_run:
        writes.append(Write("merge", STATE + run.sync, {**(state or {}), "last_run": run.id}))
    try:
        claim.commit(
            now,
            writes,
            status=status,
            finished_at=now,
            owner="",
            lease_until=None,
            error=error and problem(error),
            **fields,
        )
    except (LeaseLost, Cancelled):
        if status == "cancelled":
            raise
        with suppress(LeaseLost):
            end(app, claim, "cancelled")
        return
    log.info("run finished connection=%s sync=%s run=%s status=%s", run.connection, run.sync, run.id, status)


def problem(error: TenantsyncError) -> Mapping[str, str]:
    """An error as a run stores and shows it."""
    return {"code": error.code, "detail": error.detail, "remedy": error.remedy}


def close(app: "App", run: Run, etag: str, status: str, error: Mapping[str, str] | None = None) -> Run:
    """Finish a run that no worker holds. Raises Conflict."""
    ended = replace(run, status=status, finished_at=app.clock(), owner="", lease_until=None, error=error)
    writes = [Write("replace", RUN + run.id, run_row(ended), etag), Write("delete", run.active_key)]
    if not run.dry_run:
        writes.append(Write("merge", STATE + run.sync, {"last_run": run.id}))
    app.tables.data.commit(run.connection, writes)
    return ended
