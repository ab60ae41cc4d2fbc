"""The users sync over many slices, and what changes while it reads."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from sync import collection, jobs
from sync.jobs import work
from tests.cloud import NewTenant
from tests.house import UNGUARDED, House
from tests.listings import paged
from tests.truth import held, in_order, people, tally

# --- slices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["first", "missing", "purge"])
def test_slices(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """A run whose time is up at every checkpoint goes on over many messages and ends in the same state."""
    paged(monkeypatch, 4, 3)
    tenant = new_tenant(users=18, guestShare=0.2)
    name = house.connect(tenant, users={"deletionGuard": {"maxCount": 1000, "maxPercent": 100}})
    if stage != "first":
        house.run(name, "users")
        for key in list(people(tenant))[:6]:
            tenant.control.delete(f"users/{key}")
    if stage == "purge":
        house.run(name, "users")
        house.clock.ahead += timedelta(days=31)
    two_steps_a_slice(monkeypatch)
    run = house.start(name, "users", mode="full")

    slices = house.work()

    shown = house.get(f"connections/{name}/runs/{run}")
    inside = len(people(tenant))
    outside = len(people(tenant, guests=True)) - inside
    expected = {
        "first": {"created": inside, "skipped": outside},
        "missing": {"unchanged": inside, "skipped": outside, "deleted": 6},
        "purge": {"unchanged": inside, "skipped": outside},
    }[stage]
    assert (shown["status"], tally(shown), shown["slices"]) == ("succeeded", expected, slices)
    assert slices >= 4
    assert held(house, name) == people(tenant)
    assert len(house.users(name)) == inside + (6 if stage == "missing" else 0)
    assert in_order(house.changes(name)[0])


def two_steps_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker's time be up from the third time that it looks."""
    looks: Counter[int] = Counter()

    def time_is_up(work: Any) -> bool:
        looks[work.run.slice] += 1
        return looks[work.run.slice] > 2

    monkeypatch.setattr("sync.jobs.Work.time_is_up", time_is_up)


# --- what changes while a run reads ----------------------------------------------------------------------------------


def test_settings_changed_between_two_slices(
    house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing that began under other settings starts over: nobody of its first pages is missed."""
    paged(monkeypatch, 5)
    tenant = new_tenant(users=20, guestShare=0.5)
    name = house.connect(tenant, users={})
    run = house.start(name, "users")
    with monkeypatch.context() as patch:
        two_steps_a_slice(patch)
        messages = house.messages()
        for _ in range(2):
            jobs.work(house.app, next(messages))
    house.enable(name, "users", includeGuests=True)

    house.work()

    assert house.get(f"connections/{name}/runs/{run}")["status"] == "succeeded"
    assert held(house, name) == people(tenant, guests=True)
    assert tally(house.run(name, "users")) == {}


@pytest.mark.parametrize("before", [True, False], ids=["guests shut out", "guests let in"])
@pytest.mark.parametrize("mode", ["full", "delta"])
def test_settings_that_change_between_slices(
    house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch, mode: str, before: bool
) -> None:
    """A run whose settings are changed between two slices ends with those who belong to the new ones."""
    paged(monkeypatch, 20)
    tenant = new_tenant(users=46, guestShare=0.3)
    tenant.control.post("faults", {"deltaPage": 40})
    name = house.connect(tenant, users={"includeGuests": before, **UNGUARDED})
    house.run(name, "users")
    tenant.control.post("mutate", {"count": 44, "seed": 1, "kinds": ["patch"]})
    with monkeypatch.context() as patch:
        patch.setattr("sync.jobs.Work.time_is_up", lambda work: work.run.done > 0)
        run_id = house.start(name, "users", mode=mode)
        work(house.app, next(house.messages()))
    house.enable(name, "users", includeGuests=not before, **UNGUARDED)
    house.work()

    run = house.get(f"connections/{name}/runs/{run_id}")
    assert (run["status"], run["slices"]) == ("succeeded", 2)
    assert held(house, name) == people(tenant, guests=not before)
    assert in_order(house.changes(name)[0])
    assert tally(house.run(name, "users")) == {}


def test_who_leaves_while_a_listing_starts_over(
    house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was on a page of the first try and has left before the second one is not kept for that."""
    paged(monkeypatch, 10)
    tenant = new_tenant(users=40, guestShare=0)
    name = house.connect(tenant, users={})
    house.run(name, "users")
    whole = collection._STAGES["list"]
    looks = 0
    gone = next(iter(people(tenant)))

    def starting_over(copy: Any, reading: Any, at: Any) -> Any:
        nonlocal looks
        looks += 1
        if looks == 3:
            tenant.control.delete(f"users/{gone}")
            return collection._start_over(copy, at, 1)
        return whole(copy, reading, at)

    monkeypatch.setitem(collection._STAGES, "list", starting_over)
    run = house.run(name, "users", mode="full")

    assert (run["status"], tally(run)) == (
        "succeeded",
        {"unchanged": 40, "deleted": 1},
    )  # the first try read 20 of them
    assert set(house.users(name, state="deleted")) == {gone}
