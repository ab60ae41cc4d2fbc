"""What Graph or storage refuses is never taken for a success, deletes nobody, and leaves the next run to begin where
the last good one ended.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any

import pytest
from azure.core.exceptions import AzureError, ServiceRequestError

from storage.queues import Queues
from storage.tables import Table
from sync import collection, jobs
from sync.contacts import fetch
from sync.graph import client
from sync.graph.client import GraphClient, Page
from sync.runs import LEASE
from tests.cloud import NewTenant, TestTenant
from tests.held import NAME, die_again_and_again
from tests.house import UNGUARDED, House
from tests.truth import in_order, tally, told

ROLES = ["User.Read.All", "Device.Read.All", "GroupMember.Read.All"]
SYNCS = ("users", "devices", "contacts")


@dataclass
class Town:
    """A tenant with 30 people in one group, and 30 devices, all of which are synced; nothing guards against deletions."""

    house: House
    tenant: TestTenant
    top: str

    def held(self, sync: str) -> dict[str, str]:
        """The names that the portal shows as active, by id."""
        query = "azureState=active" if sync == "contacts" else "state=active"
        items = self.house.get(f"connections/{NAME}/{sync}?top=1000&{query}")["items"]
        return {item["id"]: item["displayName"] for item in items}

    def true(self, sync: str) -> dict[str, str]:
        """The names that it should show."""
        kind = "devices" if sync == "devices" else "users"
        return {item["id"]: item["displayName"] for item in self.tenant.control.get(kind, state="live")}

    def cursor(self, sync: str) -> Any:
        row = self.house.app.tables.data.get(NAME, f"state|{sync}")
        assert row is not None
        return row["j_cursor"]

    def change(self, sync: str) -> None:
        """One goes, and another one is renamed."""
        kind = "devices" if sync == "devices" else "users"
        first, second = list(self.true(sync))[:2]
        self.tenant.control.delete(f"{kind}/{first}")
        self.tenant.control.patch(f"{kind}/{second}", {"displayName": "Renamed"})

    def finish(self, run_id: str) -> dict[str, Any]:
        """Carry a run on, as its delayed messages would, until it is over."""
        for _ in range(60):
            run: dict[str, Any] = self.house.get(f"connections/{NAME}/runs/{run_id}")
            if run["finishedAt"]:
                return run
            self.house.clock.ahead += LEASE + timedelta(minutes=10)
            try:
                jobs.work(self.house.app, {"connection": NAME, "run": run_id})
            except AzureError:
                continue
        raise AssertionError(run)


@pytest.fixture
def town(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    monkeypatch.setattr(collection, "PAGE", 5)
    monkeypatch.setattr(fetch, "PAGE", 5)
    monkeypatch.setattr(client, "MAX_ATTEMPTS", 2)
    monkeypatch.setattr("sync.wiring.GraphClient", partial(GraphClient, jitter=lambda: 0.01))
    tenant = new_tenant(users=30, devices=30, guestShare=0, disabledShare=0, roles=ROLES)
    members = [user["id"] for user in tenant.control.get("users")]
    top = tenant.control.post("groups", {"displayName": "Top", "members": members})["id"]
    house.connect(tenant, NAME, users=UNGUARDED, devices=UNGUARDED, contacts={"groupId": top, **UNGUARDED})
    made = Town(house, tenant, top)
    for sync in SYNCS:
        house.run(NAME, sync)
        assert made.held(sync) == made.true(sync)
    yield made
    assert in_order([one for one in house.changes(NAME)[0] if one["entity"] == "user"])


@pytest.mark.parametrize("sync", SYNCS)
def test_a_page_that_never_comes(town: Town, monkeypatch: pytest.MonkeyPatch, sync: str) -> None:
    """Where the second of six pages fails beyond all patience, nobody is deleted, the delta link stays as it was, and
    the next run makes good."""
    before, cursor = town.held(sync), town.cursor(sync)
    town.change(sync)
    plain, pages = GraphClient.page, 0

    def page(graph: GraphClient, link: str, **options: Any) -> Page:
        nonlocal pages
        pages += "delta" not in link
        if pages == 2:
            town.tenant.control.post("faults", {"rate503": 1.0, "retryAfter": {"style": "absent"}})
        return plain(graph, link, **options)

    with monkeypatch.context() as patch:
        patch.setattr(GraphClient, "page", page)
        run = town.finish(town.house.start(NAME, sync, mode="full"))

    assert (run["status"], run["counts"]["deleted"]) == ("failed", 0)
    assert run["error"]["remedy"]
    assert set(town.held(sync)) == set(before)
    assert town.cursor(sync) == cursor
    town.tenant.control.post("faults", {})
    assert town.house.run(NAME, sync)["status"] == "succeeded"
    assert town.held(sync) == town.true(sync)


@pytest.mark.parametrize("sync", SYNCS)
def test_nothing_where_there_was_something(town: Town, monkeypatch: pytest.MonkeyPatch, sync: str) -> None:
    """A listing that comes back empty, as if all were well, is a failure with a remedy, not a success that deletes all."""
    before, cursor = town.held(sync), town.cursor(sync)
    plain = GraphClient.page

    def page(graph: GraphClient, link: str, **options: Any) -> Page:
        return plain(graph, link, **options) if "delta" in link else Page([], None, None)

    with monkeypatch.context() as patch:
        patch.setattr(GraphClient, "page", page)
        run = town.house.run(NAME, sync, mode="full")

    assert (run["status"], tally(run)) == ("failed", {})
    assert run["error"]["code"] in ("empty-listing", "group-empty")
    assert run["error"]["remedy"]
    assert (town.held(sync), town.cursor(sync)) == (before, cursor)
    assert town.house.run(NAME, sync, mode="full")["status"] == "succeeded"


@pytest.mark.parametrize("mode", ["delta", "full"])
@pytest.mark.parametrize("sync", SYNCS)
def test_a_permission_that_is_taken_away(town: Town, sync: str, mode: str) -> None:
    """A run that Graph refuses fails with the permission to grant, deletes nobody, and the next one goes on from the link
    that was there."""
    before, cursor = town.held(sync), town.cursor(sync)
    town.change(sync)
    app = f"apps/{town.tenant.client_id}"
    town.tenant.control.patch(app, {"roles": ["Place.Read.All"]})
    town.house.app.forget_sign_in(NAME)

    run = town.house.run(NAME, sync, mode=mode)

    assert (run["status"], tally(run)) == ("failed", {})
    assert ".Read.All" in run["error"]["remedy"]
    assert (town.held(sync), town.cursor(sync)) == (before, cursor)
    town.tenant.control.patch(app, {"roles": ROLES})
    assert town.house.run(NAME, sync, mode=mode)["status"] == "succeeded"
    assert town.held(sync) == town.true(sync)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("sync", SYNCS)
def test_a_storage_that_refuses(town: Town, monkeypatch: pytest.MonkeyPatch, sync: str, seed: int) -> None:
    """Where one write in six fails, half of them after it was done, each change is there in the end, and told once."""
    _, seen = town.house.changes(NAME)
    town.change(sync)
    before, rng = town.held(sync), Random(seed)

    def failing(plain: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any, **options: Any) -> Any:
            chance = rng.random()
            if chance < 1 / 12:
                raise ServiceRequestError("no connection")
            answer = plain(*args, **options)
            if chance > 11 / 12:
                raise ServiceRequestError("no answer")
            return answer

        return write

    run_id = town.house.start(NAME, sync, mode="full")
    with monkeypatch.context() as patch:
        for store, name in ((Table, "commit"), (Queues, "send")):
            patch.setattr(store, name, failing(getattr(store, name)))
        run = town.finish(run_id)

    assert (run["status"], tally(run)) == ("succeeded", {"deleted": 1, "updated": 1, "unchanged": 28})
    assert town.held(sync) == town.true(sync)
    (left,) = before.keys() - town.true(sync).keys()
    (renamed,) = (key for key, name in town.true(sync).items() if name == "Renamed")
    stories = told(one for one in town.house.changes(NAME, seen)[0] if one["entity"] == sync.removesuffix("s"))
    assert {key: story for (_, key), story in stories.items()} == {left: ["deleted"], renamed: ["updated"]}


@pytest.mark.parametrize("sync", SYNCS)
def test_a_worker_that_dies_again_and_again(town: Town, sync: str) -> None:
    """Killed after each of its writes in turn, a run ends as if nothing had been."""
    town.change(sync)
    run_id = town.house.start(NAME, sync, mode="full")

    assert die_again_and_again(town.house, run_id) > 1

    run = town.house.get(f"connections/{NAME}/runs/{run_id}")
    assert (run["status"], tally(run)) == ("succeeded", {"deleted": 1, "updated": 1, "unchanged": 28})
    assert town.held(sync) == town.true(sync)
