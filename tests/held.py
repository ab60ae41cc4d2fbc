"""Runs that are held or dry, as the tests of all one-way syncs look at them."""

from typing import Any

import pytest

from sync import jobs
from sync.runs import LEASE, Claim
from tests.cloud import NewTenant, TestTenant
from tests.house import House

NAME = "primary"


def entries(house: House, run: dict[str, Any], top: int = 1000, what: str = "plan") -> list[dict[str, Any]]:
    """The entries of a run's plan or log, over all pages."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        answer = house.get(f"connections/{NAME}/runs/{run['id']}/{what}?top={top}{cursor}")
        found += answer["items"]
        if answer["next"] is None:
            return found
        cursor = f"&cursor={answer['next']}"


def plan(house: House, run: dict[str, Any], top: int = 1000) -> list[tuple[str, str, str]]:
    """The lines of a run's plan: entity, id, action."""
    return [(line["entity"], line["id"], line["action"]) for line in entries(house, run, top)]


def proposed(house: House, run: dict[str, Any]) -> list[str]:
    """The ids that a plan would delete."""
    return sorted(item for _, item, action in plan(house, run) if action == "delete")


def decide(house: House, run: dict[str, Any], verb: str) -> tuple[int, dict[str, Any]]:
    answer = house.call("POST", f"connections/{NAME}/runs/{run['id']}/{verb}")
    return answer.status, answer.json


def shown(house: House, run: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = house.get(f"connections/{NAME}/runs/{run['id']}")
    return found


def leave(tenant: TestTenant, count: int, seed: int = 1) -> list[str]:
    """So many users leave; their ids."""
    gone: list[str] = tenant.control.post("mutate", {"count": count, "seed": seed, "kinds": ["delete"]})["delete"]
    return sorted(gone)


@pytest.fixture
def crowd(house: House, new_tenant: NewTenant) -> TestTenant:
    """40 synced users under the default guard."""
    tenant = new_tenant(users=40, guestShare=0, disabledShare=0)
    house.connect(tenant, NAME, users={})
    assert house.run(NAME, "users")["counts"]["created"] == 40
    return tenant


def one_step_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each slice does one step and then finds its time up."""
    asked: dict[int, int] = {}

    def up(work: jobs.Work) -> bool:
        asked[id(work.claim)] = asked.get(id(work.claim), 0) + 1
        return asked[id(work.claim)] > 2

    monkeypatch.setattr(jobs.Work, "time_is_up", up)


class Killed(BaseException):
    """As if the process had ended: nothing of the product catches this."""


def die_again_and_again(house: House, run_id: str) -> int:
    """Work on a run that loses its worker after one write, then after two, and so on, until it ends; how often it did."""
    plain = Claim.commit
    left = 0

    def dying(claim: Claim, *args: Any, **fields: Any) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        plain(claim, *args, **fields)

    for writes in range(1, 60):
        left = writes
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Claim, "commit", dying)
            try:
                jobs.work(house.app, {"connection": NAME, "run": run_id})
            except Killed:
                house.clock.ahead += LEASE * 2
                continue
        if house.get(f"connections/{NAME}/runs/{run_id}")["finishedAt"]:
            return writes - 1
    raise AssertionError(run_id)
