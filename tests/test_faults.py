"""Weather: a Graph, a storage and a vault that fail all the time lead to the same end state, later."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any

import pytest
from azure.core.exceptions import AzureError, ServiceRequestError

from storage.blobs import Blobs
from storage.queues import Queues
from storage.tables import Table
from sync import collection, jobs, mirror, photos
from sync.graph.client import GraphClient
from sync.runs import LEASE
from tests.cloud import NewTenant, TestTenant
from tests.house import UNGUARDED, House
from tests.truth import albums, blobs, held, in_order, kinds, people, pictures, tally

NAME = "primary"
# 30% of all requests fail, and as many of the items of those batches that are read.
STORM = {"rate429": 0.1, "rate503": 0.1, "rateReset": 0.1, "rateBatchItem": 0.3}


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pages, and a short wait of our own where Graph does not say how long; what it asks for is really waited."""
    monkeypatch.setattr(collection, "PAGE", 5)
    monkeypatch.setattr(mirror, "WRITES", 4)
    monkeypatch.setattr(mirror, "DELETIONS", 1)
    monkeypatch.setattr(photos, "COMMIT_WRITES", 10)
    monkeypatch.setattr("sync.wiring.GraphClient", partial(GraphClient, jitter=lambda: 0.05))


def converged(house: House, tenant: TestTenant) -> None:
    """The portal holds what the tenant has, each change was told once and in order, and nobody was invited twice."""
    assert held(house, NAME) == people(tenant)
    assert albums(house, NAME) == pictures(tenant, people(tenant))
    changes, _ = house.changes(NAME)
    assert in_order(changes)
    told = kinds(changes)
    assert told["created"] + told["restored"] - told["deleted"] == len(people(tenant))
    assert told["invited"] == told["created"]
    shown = {key for key, user in house.users(NAME).items() if user["photo"]}
    assert {name.split("/")[1] for name in blobs(house, NAME)} == shown


def run(house: House, sync: str) -> dict[str, int]:
    """A run that must succeed; its counts."""
    done = house.run(NAME, sync)
    assert (done["status"], done["error"]) == ("succeeded", None)
    return tally(done)


def journey(house: House, tenant: TestTenant, rounds: int) -> None:
    """Everybody, then some rounds of changes, each read by users and photos."""
    house.connect(tenant, NAME, users={"invite": "onCreate", **UNGUARDED}, photos=UNGUARDED)
    everybody = len(people(tenant, guests=True))
    assert sum(run(house, "users").values()) == everybody
    assert sum(run(house, "photos").values()) == len(people(tenant))
    for step in range(rounds):
        tenant.control.post("mutate", {"count": 8, "seed": step})
        run(house, "users")
        assert sum(run(house, "photos").values()) == len(people(tenant))
        converged(house, tenant)


@pytest.mark.parametrize(
    ("style", "seconds", "users", "rounds"),
    [("decimal", 0.05, 14, 3), ("absent", 0, 14, 3), ("seconds", 1, 12, 1), ("date", 0, 12, 1)],
)
def test_storm(
    house: House,
    new_tenant: NewTenant,
    style: str,
    seconds: float,
    users: int,
    rounds: int,
) -> None:
    """With 30% of requests refused or cut, and Retry-After in every form: the same end, and never asked too early."""
    tenant = new_tenant(users=users, guestShare=0.2)
    faults = {**STORM, "retryAfter": {"style": style, "seconds": seconds}, "retriedPageLinksFail": True, "seed": 1}
    tenant.control.post("faults", faults)

    journey(house, tenant, rounds)

    counters = tenant.control.get("counters")["graph"]
    assert counters["faulted"] > 10
    assert counters["retryViolations"] == 0


@pytest.mark.parametrize("seed", range(2, 5))
def test_storms_of_all_kinds(house: House, new_tenant: NewTenant, seed: int) -> None:
    """Together with untidy pages and links that do not work after a retry, in many orders: the same end."""
    tenant = new_tenant(users=14, guestShare=0.2)
    storm = {**STORM, "rate504": 0.05, "untidyPaging": True, "retriedPageLinksFail": True, "seed": seed}
    tenant.control.post("faults", {**storm, "retryAfter": {"style": "decimal", "seconds": 0.02}})

    house.connect(tenant, NAME, users={"invite": "onCreate", **UNGUARDED}, photos=UNGUARDED)
    for step in range(3):
        run(house, "users")
        run(house, "photos")
        converged(house, tenant)
        tenant.control.post("mutate", {"count": 8, "seed": 10 * seed + step})

    counters = tenant.control.get("counters")["graph"]
    assert counters["faulted"] > 10
    assert counters["retryViolations"] == 0


def test_spent_budget(house: House, new_tenant: NewTenant) -> None:
    """Under the real limit of resource units the run slows down and nothing is lost."""
    tenant = new_tenant(users=30, guestShare=0)
    tenant.control.post("faults", {"unitsPer10s": 40, "retryAfter": {"style": "decimal"}})
    house.connect(tenant, NAME, users={"invite": "onCreate"}, photos={})
    assert run(house, "users") == {"created": 30}
    assert sum(run(house, "photos").values()) == 30
    converged(house, tenant)
    counters = tenant.control.get("counters")["graph"]
    assert counters["throttled"] > 0
    assert counters["retryViolations"] == 0


# --- two workers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_two_workers(build_house: Callable[..., House], new_tenant: NewTenant, seed: int) -> None:
    """Two processes that take users and photo runs from the same queues, with messages twice: as with one."""
    houses = [build_house(), build_house()]
    house, other = houses
    tenant = new_tenant(users=14, guestShare=0.2)
    storm = {"rate503": 0.1, "rateBatchItem": 0.1, "retryAfter": {"style": "decimal", "seconds": 0.02}, "seed": seed}
    tenant.control.post("faults", storm)
    house.connect(tenant, NAME, users={"invite": "onCreate", **UNGUARDED}, photos=UNGUARDED)
    for step in range(3):
        started = [house.start(NAME, sync) for sync in ("users", "photos")]
        for each in started:
            house.app.queues.send("sync-runs", {"connection": NAME, "run": each})
        with ThreadPoolExecutor(2) as pool:
            for worked in [pool.submit(each.work) for each in houses]:
                worked.result()
        for each in started:
            finish(other, each)
        run(house, "photos")
        converged(house, tenant)
        tenant.control.post("mutate", {"count": 8, "seed": 10 * seed + step})


def finish(house: House, run_id: str) -> dict[str, Any]:
    """Carry a run on, as its delayed messages and the timers would, until it is over; the run."""
    for _ in range(60):
        shown: dict[str, Any] = house.get(f"connections/{NAME}/runs/{run_id}")
        if shown["finishedAt"]:
            return shown
        house.clock.ahead += LEASE + timedelta(seconds=1)
        jobs.work(house.app, {"connection": NAME, "run": run_id})
    raise AssertionError(shown)


# --- storage and vault -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_storage_that_fails(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """A storage that fails one write in eight, half of them after it did the write: nothing is lost or told twice."""
    tenant = new_tenant(users=20, guestShare=0.2)
    house.connect(tenant, NAME, users={"invite": "onCreate"}, photos={})
    rng = Random(seed)

    def failing(plain: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any, **options: Any) -> Any:
            chance = rng.random()
            if chance < 1 / 16:
                raise ServiceRequestError("no connection")
            answer = plain(*args, **options)
            if chance > 15 / 16:
                raise ServiceRequestError("no answer")
            return answer

        return write

    for step in range(2):
        for sync in ("users", "photos"):
            run_id = house.start(NAME, sync)
            with monkeypatch.context() as patch:
                for store, name in ((Table, "commit"), (Blobs, "save"), (Blobs, "delete"), (Queues, "send")):
                    patch.setattr(store, name, failing(getattr(store, name)))
                deliver(house, run_id)
            assert finish(house, run_id)["status"] == "succeeded"
        converged(house, tenant)
        tenant.control.post("mutate", {"count": 8, "seed": 10 * seed + step})


def deliver(house: House, run_id: str) -> None:
    """Give the run's message to a worker again and again, each time that it fails."""
    for _ in range(15):
        try:
            jobs.work(house.app, {"connection": NAME, "run": run_id})
        except AzureError:
            house.clock.ahead += LEASE + timedelta(seconds=1)


def test_vault_that_does_not_answer(build_house: Callable[..., House], new_tenant: NewTenant) -> None:
    """A token at hand works while the vault is away; a worker without one puts the run off and goes on later."""
    house = build_house()
    tenant = new_tenant(users=5, guestShare=0)
    house.connect(tenant, NAME, users={}, photos={})
    run(house, "users")
    house.cloud.control.post("vault", {"unavailable": True})
    try:
        assert run(house, "users") == {}
        fresh = build_house()
        run_id = fresh.start(NAME, "users", mode="full")
        fresh.work()
        assert fresh.get(f"connections/{NAME}/runs/{run_id}")["status"] == "running"
    finally:
        house.cloud.control.post("vault", {})
    assert finish(fresh, run_id)["counts"]["unchanged"] == 5


def test_secret_that_expires_in_the_middle(
    build_house: Callable[..., House], new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A credential that ends between two slices stops the run without a deletion; with a new one the next run is whole."""
    house = build_house()
    tenant = new_tenant(users=20, guestShare=0)
    house.connect(tenant, NAME, users={"invite": "onCreate", **UNGUARDED}, photos={})
    run(house, "users")
    run(house, "photos")
    for key in list(people(tenant))[:5]:
        tenant.control.delete(f"users/{key}")
    before = held(house, NAME)
    with monkeypatch.context() as patch:
        patch.setattr("sync.jobs.Work.time_is_up", lambda work: bool(work.run.counts))
        run_id = house.start(NAME, "users", mode="full")
        jobs.work(house.app, next(house.messages()))
    ended = datetime.now(UTC) - timedelta(days=1)
    key_id = tenant.app["secrets"][0]["keyId"]
    tenant.control.patch(f"apps/{tenant.client_id}/secrets/{key_id}", {"endDateTime": ended.isoformat()})
    fresh = build_house()
    fresh.work()

    shown = fresh.get(f"connections/{NAME}/runs/{run_id}")
    assert (shown["status"], shown["error"]["code"]) == ("failed", "aadsts-7000222")
    assert fresh.get(f"connections/{NAME}")["status"] == "expired"
    assert held(fresh, NAME) == before
    secret = tenant.control.post(f"apps/{tenant.client_id}/secrets", {})["value"]
    credential = {"type": "clientSecret", "secretValue": secret}
    assert fresh.call("PUT", f"connections/{NAME}/credential", credential).status == 200
    assert run(fresh, "users") == {"deleted": 5}
    converged(fresh, tenant)
