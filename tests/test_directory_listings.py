"""The users sync and its links: empty, expired, retried and untidy listings, none of which loses or deletes anybody."""

from collections.abc import Callable
from typing import Any

import pytest

from storage.tables import Write
from sync.graph.client import GraphClient, Page
from tests.cloud import NewTenant
from tests.house import House
from tests.listings import change_pages, expire_pages, paged, requests
from tests.truth import held, in_order, kinds, people, tally, told


def test_empty_listing_never_deletes(house: House, new_tenant: NewTenant) -> None:
    """A listing without anybody, where there were users, fails and deletes nobody; the next one goes on."""
    tenant = new_tenant(users=3, guestShare=0)
    name = house.connect(tenant, users={})
    house.run(name, "users")
    before = house.users(name)
    for key in before:
        tenant.control.delete(f"users/{key}")

    run = house.run(name, "users", mode="full")

    assert (run["status"], run["error"]["code"], tally(run)) == ("failed", "empty-listing", {})
    assert house.users(name) == before
    for key in before:
        tenant.control.post(f"users/{key}/restore")
    run = house.run(name, "users", mode="full")
    assert (run["status"], tally(run)) == ("succeeded", {"unchanged": 3})


def test_empty_tenant(house: House, new_tenant: NewTenant) -> None:
    """A tenant that never had anybody is synced without fault."""
    name = house.connect(new_tenant(users=0), users={})
    run = house.run(name, "users")
    assert (run["status"], tally(run), house.users(name)) == ("succeeded", {}, {})


@pytest.mark.parametrize("style", ["gone", "syncStateNotFound", "syncStateInvalid", "resyncRequired"])
def test_expired_delta(house: House, new_tenant: NewTenant, style: str) -> None:
    """An expired delta link, however Graph says it, becomes one full read: nothing doubled, leavers found."""
    tenant = new_tenant(users=8, guestShare=0)
    name = house.connect(tenant, users={})
    house.run(name, "users")
    _, cursor = house.changes(name)
    key, left = list(people(tenant))[:2]
    tenant.control.patch(f"users/{key}", {"jobTitle": "Changed"})
    tenant.control.delete(f"users/{left}")
    tenant.control.post("faults", {"expiredDelta": style})
    tenant.control.post("expire", {"delta": True})

    run = house.run(name, "users")

    assert (run["status"], tally(run)) == ("succeeded", {"updated": 1, "deleted": 1, "unchanged": 6})
    assert held(house, name) == people(tenant)
    assert told(house.changes(name, cursor)[0]) == {("user", key): ["updated"], ("user", left): ["deleted"]}
    tenant.control.post("counters")
    assert (tally(house.run(name, "users")), requests(tenant)) == ({}, 1)


def test_delta_link_of_a_week_ago(house: House, new_tenant: NewTenant) -> None:
    """A connection that was off for more than the seven days of a delta link catches up by itself."""
    tenant = new_tenant(users=5, guestShare=0)
    name = house.connect(tenant, users={})
    house.run(name, "users")
    tenant.control.post("clock", {"advanceSeconds": 8 * 24 * 3600})
    tenant.control.delete(f"users/{next(iter(people(tenant)))}")

    run = house.run(name, "users")

    assert (run["status"], tally(run)) == ("succeeded", {"unchanged": 4, "deleted": 1})
    assert held(house, name) == people(tenant)


@pytest.mark.parametrize("code", ["Directory_ExpiredPageToken", "DirectoryPageTokenNotFoundException"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_expired_page_link(
    house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch, code: str, times: int
) -> None:
    """A page link that expires in the middle of a listing starts it anew; up to three times each is counted once."""
    paged(monkeypatch, 5, 4)
    tenant = new_tenant(users=14, guestShare=0.3)
    name = house.connect(tenant, users={"invite": "onCreate"})
    inside = len(people(tenant))
    # Calls: a delta link, page, page and the expiry; then a delta link, page, page and the expiry ...
    expire_pages(monkeypatch, tenant, {4 * time for time in range(1, times + 1)}, code)

    run = house.run(name, "users")

    assert (run["status"], tally(run)) == ("succeeded", {"created": inside, "skipped": 14 - inside})
    assert held(house, name) == people(tenant)
    assert kinds(house.changes(name)[0]) == {"created": inside, "invited": inside}


def test_who_leaves_before_a_listing_starts_over(
    house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody whom the abandoned listing showed and the new one does not has left."""
    paged(monkeypatch, 5)
    tenant = new_tenant(users=14, guestShare=0)
    name = house.connect(tenant, users={})
    house.run(name, "users")
    leaver = next(iter(people(tenant)))
    plain = GraphClient.page
    calls = 0

    def page(*args: Any, **options: Any) -> Page:
        nonlocal calls
        calls += 1
        if calls == 4:
            tenant.control.delete(f"users/{leaver}")
            tenant.control.post("expire", {"pages": "Directory_ExpiredPageToken"})
        return plain(*args, **options)

    monkeypatch.setattr(GraphClient, "page", page)
    run = house.run(name, "users", mode="full")

    assert (run["status"], tally(run)) == ("succeeded", {"unchanged": 14, "deleted": 1})
    assert held(house, name) == people(tenant)


def test_fourth_expiry_is_an_error(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links that keep expiring end the run: no endless loop, nobody deleted, and the next run starts over."""
    paged(monkeypatch, 5)
    tenant = new_tenant(users=14, guestShare=0)
    name = house.connect(tenant, users={})
    house.run(name, "users")
    before = held(house, name)
    tenant.control.delete(f"users/{next(reversed(before))}")
    with monkeypatch.context() as patch:
        expire_pages(patch, tenant, set(range(1, 100)))
        run = house.run(name, "users", mode="full")

    assert (run["status"], run["error"]["code"]) == ("failed", "graph-cursor-expired")
    assert held(house, name) == before
    assert house.run(name, "users")["status"] == "succeeded"
    assert held(house, name) == people(tenant)


def test_link_of_a_retried_request_steps_back(
    house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page link from a retried request that does not work costs one step back, not the whole listing."""
    paged(monkeypatch, 5, 4)
    tenant = new_tenant(users=30, guestShare=0.3)
    name = house.connect(tenant, users={})
    inside = len(people(tenant))
    plain = GraphClient.page
    calls = 0

    def page(*args: Any, **options: Any) -> Page:
        nonlocal calls
        calls += 1
        reset = {"rateReset": 1} if calls == 5 else {}
        tenant.control.post("faults", {"retriedPageLinksFail": True, **reset})
        return plain(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(GraphClient, "page", page)
        sleeping = patch_sleep(patch, lambda: tenant.control.post("faults", {"retriedPageLinksFail": True}))
        run = house.run(name, "users")

    assert len(sleeping) == 1
    assert (run["status"], tally(run)) == ("succeeded", {"created": inside, "skipped": 30 - inside})
    assert held(house, name) == people(tenant)
    assert run["graph"]["requests"] == 10


def patch_sleep(monkeypatch: pytest.MonkeyPatch, then: Callable[[], object]) -> list[float]:
    """Graph clients do not sleep but do `then`; the list of what they would have slept."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        then()

    def make(**options: Any) -> GraphClient:
        return GraphClient(**options, sleep=sleep)

    monkeypatch.setattr("sync.wiring.GraphClient", make)
    return slept


@pytest.mark.parametrize("seed", range(4))
def test_untidy_paging(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Empty pages, objects that come twice, and old changes that are replayed lead to the very same users."""
    paged(monkeypatch, 4, 5)
    tenant = new_tenant(users=24, guestShare=0.2)
    tenant.control.post("faults", {"untidyPaging": True, "seed": seed})
    name = house.connect(tenant, users={"invite": "onCreate"})
    house.run(name, "users")
    assert held(house, name) == people(tenant)
    for step in range(3):
        tenant.control.post("mutate", {"count": 6, "seed": 10 * seed + step})
        run = house.run(name, "users")
        assert run["status"] == "succeeded"
        assert held(house, name) == people(tenant)

    changes, _ = house.changes(name)
    assert in_order(changes)
    created = {change["id"] for change in changes if change["change"] == "created"}
    assert kinds(changes)["invited"] == len(created)


def test_delta_over_several_pages(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many changes come over several pages of delta; the link is kept only after the last one."""
    paged(monkeypatch, 999, 10)
    tenant = new_tenant(users=52, guestShare=0)
    tenant.control.post("faults", {"deltaPage": 40})
    name = house.connect(tenant, users={})
    house.run(name, "users")
    changed = tenant.control.post("mutate", {"count": 50, "seed": 1, "kinds": ["patch"]})["patch"]

    run = house.run(name, "users")

    assert (tally(run), run["graph"]["requests"]) == ({"updated": len(changed)}, 2)
    assert held(house, name) == people(tenant)


def test_expiry_between_delta_pages(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page link of delta that expires becomes a full read; what was told already is not told again."""
    tenant = new_tenant(users=46, guestShare=0)
    tenant.control.post("faults", {"deltaPage": 40})
    name = house.connect(tenant, users={})
    house.run(name, "users")
    _, cursor = house.changes(name)
    changed = tenant.control.post("mutate", {"count": 44, "seed": 1, "kinds": ["patch"]})["patch"]
    expire_pages(monkeypatch, tenant, {2})

    run = house.run(name, "users")

    assert run["status"] == "succeeded"
    assert run["counts"]["updated"] == len(changed)
    assert told(house.changes(name, cursor)[0]) == {("user", key): ["updated"] for key in changed}
    assert held(house, name) == people(tenant)


def test_no_delta_link(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delta round that ends without any link fails and keeps the old one."""
    tenant = new_tenant(users=3, guestShare=0)
    name = house.connect(tenant, users={})
    with monkeypatch.context() as patch:
        change_pages(patch, lambda page: Page(page.items, page.next_link, None))
        run = house.run(name, "users")
        assert (run["status"], run["error"]["code"]) == ("failed", "graph-no-delta-link")
    house.run(name, "users")
    tenant.control.patch(f"users/{next(iter(people(tenant)))}", {"jobTitle": "Changed"})
    with monkeypatch.context() as patch:
        change_pages(patch, lambda page: Page(page.items, page.next_link, None))
        run = house.run(name, "users")
        assert (run["status"], run["error"]["code"]) == ("failed", "graph-no-delta-link")

    assert tally(house.run(name, "users")) == {"updated": 1}
    assert held(house, name) == people(tenant)


@pytest.mark.parametrize(
    "link", ["https://elsewhere.example/v1.0/users/delta?$deltatoken=x", "{graph}/v1.0/users/nobody"]
)
def test_delta_link_that_leads_nowhere(house: House, new_tenant: NewTenant, link: str) -> None:
    """A stored link to another host, or to nothing, means a full read in the same run, not a failure for ever."""
    tenant = new_tenant(users=5, guestShare=0)
    name = house.connect(tenant, users={})
    house.run(name, "users")
    data = house.app.tables.data
    cursor = (data.get(name, "state|users") or {})["j_cursor"]
    moved = {**cursor, "link": link.format(graph=tenant.cloud.graph)}
    data.commit(name, [Write("merge", "state|users", {"j_cursor": moved})])

    run = house.run(name, "users")

    assert (run["status"], tally(run)) == ("succeeded", {"unchanged": 5})
    assert tally(house.run(name, "users")) == {}
