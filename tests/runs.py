"""Runs of syncs that do what a test says, on real queues and tables."""

import base64
import json
from datetime import datetime
from typing import Any

import pytest

from sync.errors import Deferred
from sync.jobs import Executor, Finish, Work
from sync.runs import Run, load_run
from tests.cloud import NewTenant
from tests.house import House

NAME = "primary"


@pytest.fixture
def portal(house: House, new_tenant: NewTenant) -> House:
    """A house with one connection whose users and photos are synced on demand, and do nothing."""
    house.connect(new_tenant(users=0), NAME, users={}, photos={})
    do(house, lambda _: Finish({}))
    return house


def do(house: House, executor: Executor) -> None:
    """From now on, this is what a users or photos sync does."""
    house.app.executors = {"users": executor, "photos": executor}


def run_of(house: House, run: str) -> Run:
    found = load_run(house.app.tables.data, NAME, run)
    assert found is not None
    return found[0]


def message(run: str) -> dict[str, str]:
    return {"connection": NAME, "run": run}


def queued(house: House) -> dict[str, list[dict[str, Any]]]:
    """The messages that can be seen, by queue; all of them are taken away."""
    found: dict[str, list[dict[str, Any]]] = {}
    for queue, client in house.app.queues._clients.items():
        found[queue] = [json.loads(base64.b64decode(each.content)) for each in client.peek_messages(32)]
        client.clear_messages()
    return found


def dues(house: House, family: str = "directory") -> list[tuple[str, datetime]]:
    return [(row["sync"], datetime.fromisoformat(row["due"])) for row in house.app.tables.due.scan(family)]


def schedule(house: House, sync: str = "users", **schedule: str) -> datetime | None:
    """Give a sync this schedule; when it is due next."""
    house.enable(NAME, sync, schedule=schedule)
    return next_run(house, sync)


def next_run(house: House, sync: str = "users") -> datetime | None:
    shown = next(each for each in house.get(f"connections/{NAME}/syncs")["items"] if each["sync"] == sync)
    return datetime.fromisoformat(shown["nextRun"]) if shown["nextRun"] else None


def runs(house: House, sync: str = "users") -> list[dict[str, Any]]:
    """All runs of a sync, oldest first."""
    return list(reversed(house.get(f"connections/{NAME}/runs?sync={sync}")["items"]))


def fault(job: Work) -> Finish:
    raise Deferred("Graph is unwell", until=job.now(), code="graph-unwell")
