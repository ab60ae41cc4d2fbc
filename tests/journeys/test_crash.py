"""The host is killed in the middle of a run: another one on the same storage ends it, nothing lost and nothing doubled."""

import os
import signal
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from azure.data.tables import TableServiceClient
from azure.storage.blob import BlobServiceClient

from local.portal import Portal
from local.stack import Stack
from storage.tables import Tables, Write
from sync.runs import RUN, load_run, run_row
from tests.journeys.conftest import Customer


def let_the_lease_end(stack: Stack, customer: Customer, run: str) -> None:
    """As if the minutes had passed that a run waits for a worker that went silent."""
    data = Tables(TableServiceClient.from_connection_string(stack.storage)).data
    found = load_run(data, customer.name, run)
    assert found is not None
    stored, etag = found
    assert stored.held_by_other(datetime.now(UTC))
    silent = replace(stored, lease_until=datetime.now(UTC) - timedelta(minutes=2))
    data.commit(customer.name, [Write("replace", RUN + run, run_row(silent), etag)])


def test_a_killed_host_loses_nothing(stack, portal, connect) -> None:
    customer = connect(users=200)
    customer.enable("users", "photos")
    customer.sync("users")
    customer.tenant.call("POST", "faults", {"latencyMs": 1500})
    run = portal.start(customer.name, "photos")
    while not 0 < run["progress"]["done"] < 160:
        assert run["status"] in ("queued", "running")
        time.sleep(0.05)
        run = portal.run(customer.name, run["id"])
    os.kill(stack.pids["host"], signal.SIGKILL)
    customer.tenant.call("POST", "faults", {})

    stack.start_host()
    customer.portal = Portal.of(stack)
    held = customer.portal.start(customer.name, "photos")
    assert (held["id"], held["status"]) == (run["id"], "running")
    let_the_lease_end(stack, customer, run["id"])
    customer.portal.start(customer.name, "photos")
    ended = customer.wait(held)

    assert ended["status"] == "succeeded"
    assert ended["slices"] == 2
    people = customer.tenant.people()
    found = customer.pictured()
    assert found >= {key for key, user in people.items() if user["photo"] and user["photo"]["longest"] >= 240}
    assert (ended["counts"]["created"], ended["counts"]["unchanged"]) == (len(found), len(people) - len(found))
    changes, _ = customer.portal.changes(customer.name, None)
    told = Counter((change["entity"], change["id"], change["change"]) for change in changes)
    assert told == Counter(
        {("user", key, "created"): 1 for key in people} | {("photo", key, "created"): 1 for key in found}
    )
    blobs = BlobServiceClient.from_connection_string(stack.storage).get_container_client("photos")
    assert len(list(blobs.list_blob_names(name_starts_with=f"{customer.name}/"))) == len(found)
    assert [each["id"] for each in customer.runs("photos")] == [run["id"]]
