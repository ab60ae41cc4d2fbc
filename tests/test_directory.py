"""The users sync against the simulated directory: who is held, what the feed tells, and what it costs."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from storage.tables import Write
from sync import collection, jobs, mirror
from sync.graph.client import GraphClient, Page
from sync.jobs import work
from sync.people import USER_FIELDS
from tests.cloud import NewTenant, TestTenant
from tests.house import UNGUARDED, House
from tests.truth import albums, blobs, held, in_order, kinds, people, pictures, tally, told


def log(house: House, name: str, run: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The lines of a run's log: outcome, reason and id."""
    lines = house.get(f"connections/{name}/runs/{run['id']}/log?top=1000")["items"]
    return sorted((line["outcome"], line["reason"], line["id"]) for line in lines)


def requests(tenant: TestTenant) -> int:
    return int(tenant.control.get("counters")["graph"]["requests"])


def first(tenant: TestTenant, **wanted: Any) -> str:
    """The id of the first live user with these properties."""
    users = tenant.control.get("users", state="live")
    return str(next(user["id"] for user in users if all(user.get(key) == value for key, value in wanted.items())))


def paged(monkeypatch: pytest.MonkeyPatch, page: int, writes: int = 96) -> None:
    """Small pages and transactions, so that few users fill several."""
    monkeypatch.setattr(collection, "PAGE", page)
    monkeypatch.setattr(mirror, "WRITES", writes)
    monkeypatch.setattr(mirror, "DELETIONS", max(writes // 3, 1))


def test_first_listing(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first sync holds everybody once, over several pages, and tells of each as created."""
    paged(monkeypatch, 7, 3)
    tenant = new_tenant(users=25, guestShare=0, disabledShare=0.2)
    name = house.connect(tenant, users={})

    run = house.run(name, "users")

    assert (run["status"], tally(run)) == ("succeeded", {"created": 25})
    assert held(house, name) == people(tenant)
    changes, _ = house.changes(name)
    assert told(changes) == {("user", key): ["created"] for key in people(tenant)}
    assert requests(tenant) == run["graph"]["requests"] == 5


def test_nothing_changed_costs_one_request(house: House, new_tenant: NewTenant) -> None:
    """A second sync with nothing changed asks Graph once, writes no user and tells nothing."""
    tenant = new_tenant(users=10, guestShare=0)
    name = house.connect(tenant, users={})
    house.run(name, "users")
    rows, (_, cursor) = house.users(name), house.changes(name)
    tenant.control.post("counters")

    run = house.run(name, "users")

    assert (run["status"], tally(run), requests(tenant)) == ("succeeded", {}, 1)
    assert (house.users(name), house.changes(name, cursor)) == (rows, ([], cursor))


def test_delta_applies_each_kind_of_change(house: House, new_tenant: NewTenant) -> None:
    """A hire, a change, a leaver and a returner are told once each; nobody else is read or written."""
    tenant = new_tenant(users=12, guestShare=0)
    name = house.connect(tenant, users={})
    house.run(name, "users")
    keys = list(people(tenant))
    tenant.control.delete(f"users/{keys[3]}")
    house.run(name, "users")
    _, cursor = house.changes(name)
    hire = tenant.control.post("users", {"userPrincipalName": f"new@{tenant.domain}", "displayName": "New"})["id"]
    tenant.control.patch(f"users/{keys[0]}", {"jobTitle": "Changed"})
    tenant.control.delete(f"users/{keys[1]}")
    tenant.control.post(f"users/{keys[3]}/restore")

    run = house.run(name, "users")

    assert tally(run) == {"created": 1, "updated": 1, "deleted": 1, "restored": 1}
    assert held(house, name) == people(tenant)
    expected = {hire: "created", keys[0]: "updated", keys[1]: "deleted", keys[3]: "restored"}
    assert told(house.changes(name, cursor)[0]) == {("user", key): [kind] for key, kind in expected.items()}
    assert log(house, name, run) == [("deleted", "left", keys[1])]


@pytest.mark.parametrize(
    "change",
    [
        {"userPrincipalName": "married@{domain}", "surname": "Married"},
        {"userPrincipalName": "USER0@{domain}"},
        {"displayName": "user0"},
    ],
    ids=["rename", "letter case of the name", "letter case of a field"],
)
def test_rename_is_an_update(house: House, new_tenant: NewTenant, change: dict[str, str]) -> None:
    """A person is known by object id: a new name, or only its letter case, updates the same user."""
    tenant = new_tenant(users=3, guestShare=0)
    name = house.connect(tenant, users={})
    house.run(name, "users")
    key = next(iter(people(tenant)))
    tenant.control.patch(f"users/{key}", {field: value.format(domain=tenant.domain) for field, value in change.items()})

    run = house.run(name, "users")

    assert tally(run) == {"updated": 1}
    assert held(house, name) == people(tenant)


@pytest.mark.parametrize("mode", ["delta", "full"])
def test_cleared_fields_are_cleared(house: House, new_tenant: NewTenant, mode: str) -> None:
    """A field that is emptied in the directory is emptied here; one that Graph leaves out stays as it was."""
    tenant = new_tenant(users=3, guestShare=0)
    key = next(iter(people(tenant)))
    tenant.control.patch(f"users/{key}", {"mobilePhone": "+1 206 555 0000", "businessPhones": ["+1 425 555 0000"]})
    name = house.connect(tenant, users={})
    house.run(name, "users")
    tenant.control.patch(f"users/{key}", {"mobilePhone": None, "businessPhones": []})

    run = house.run(name, "users", mode=mode)

    assert tally(run)["updated"] == 1
    user = house.users(name)[key]
    assert (user["mobilePhone"], user["businessPhones"]) == (None, [])
    assert held(house, name) == people(tenant)


def change_pages(monkeypatch: pytest.MonkeyPatch, change: Callable[[Page], Page]) -> None:
    """Every page that Graph gives goes through `change`: for what the simulated Graph does not do."""
    plain = GraphClient.page
    monkeypatch.setattr(GraphClient, "page", lambda *args, **options: change(plain(*args, **options)))


def test_omitted_fields_are_kept(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A property that a delta answer leaves out is as it was before."""
    tenant = new_tenant(users=3, guestShare=0)
    name = house.connect(tenant, users={})
    house.run(name, "users")
    key = next(iter(people(tenant)))
    before = held(house, name)[key]
    tenant.control.patch(f"users/{key}", {"jobTitle": "Changed"})
    change_pages(
        monkeypatch,
        lambda page: Page(
            [{"id": item["id"], "jobTitle": item["jobTitle"]} for item in page.items], page.next_link, page.delta_link
        ),
    )

    house.run(name, "users")

    assert held(house, name)[key] == before | {"jobTitle": "Changed"}


def test_leaver_keeps_data_and_returns_with_it(house: House, new_tenant: NewTenant) -> None:
    """A leaver is a tombstone with its data and photo for 30 days; who returns gets both back, with what is new."""
    tenant = new_tenant(users=4, guestShare=0, photoShare=1)
    name = house.connect(tenant, users={}, photos={})
    house.run(name, "users")
    house.run(name, "photos")
    key, user = next(iter(house.users(name).items()))
    tenant.control.delete(f"users/{key}")
    house.run(name, "users")

    left = house.get(f"connections/{name}/users/{key}")
    assert left["deletedAt"] is not None
    assert left | {"state": "active", "deletedAt": None} == user
    assert list(house.users(name, state="deleted")) == [key]

    house.clock.ahead += timedelta(days=29)
    house.run(name, "users")
    tenant.control.post(f"users/{key}/restore")
    tenant.control.patch(f"users/{key}", {"jobTitle": "Returner"})
    run = house.run(name, "users")

    assert tally(run) == {"restored": 1}
    assert house.users(name)[key] == user | {"jobTitle": "Returner"}
    assert albums(house, name) == pictures(tenant, people(tenant))
    house.clock.ahead += timedelta(days=60)
    assert tally(house.run(name, "users")) == {}
    assert held(house, name) == people(tenant)


def test_purge_after_30_days(house: House, new_tenant: NewTenant) -> None:
    """30 days after somebody left, the data and every photo are gone, and only theirs; nothing is told twice."""
    tenant = new_tenant(users=4, guestShare=0, photoShare=1)
    name = house.connect(tenant, users={}, photos={})
    house.run(name, "users")
    house.run(name, "photos")
    key = next(iter(people(tenant)))
    tenant.control.delete(f"users/{key}")
    house.run(name, "users")
    changes, cursor = house.changes(name)
    assert len(blobs(house, name)) == 4

    house.clock.ahead += timedelta(days=30, minutes=-5)
    house.run(name, "users")
    assert house.call("GET", f"connections/{name}/users/{key}").status == 200

    house.clock.ahead += timedelta(minutes=10)
    run = house.run(name, "users")

    assert (run["status"], tally(run)) == ("succeeded", {})
    assert house.call("GET", f"connections/{name}/users/{key}").json["code"] == "user-not-found"
    assert key not in house.users(name)
    assert len(blobs(house, name)) == 3
    assert not [
        row for row in house.app.tables.data.scan(name) if key in json.dumps(row, default=str) and key in row["key"]
    ]
    assert house.changes(name, cursor) == ([], cursor)
    assert in_order(changes)


@pytest.mark.parametrize("setting", ["guests", "disabled"])
def test_scope(house: House, new_tenant: NewTenant, setting: str) -> None:
    """Guests and disabled accounts are there by setting; a change of it reads anew and moves exactly those."""
    tenant = new_tenant(users=20, guestShare=0.3, disabledShare=0.3)
    out = {"guests": {"includeGuests": False}, "disabled": {"includeDisabled": False, "includeGuests": True}}[setting]
    come = {"guests": {"includeGuests": True}, "disabled": {"includeDisabled": True, "includeGuests": True}}[setting]
    without = people(tenant, guests=setting != "guests", disabled=setting != "disabled")
    everybody = people(tenant, guests=True)
    difference = len(everybody) - len(without)
    assert 0 < difference < 20
    out, come = UNGUARDED | out, UNGUARDED | come
    name = house.connect(tenant, users=out)

    run = house.run(name, "users")
    at_source = setting == "disabled"  # Graph leaves disabled accounts out by itself
    assert tally(run) == {"created": len(without)} | ({} if at_source else {"skipped": difference})
    assert held(house, name) == without
    assert {line[:2] for line in log(house, name, run)} == (set() if at_source else {("skipped", "guest")})

    house.enable(name, "users", **come)
    run = house.run(name, "users")
    assert tally(run) == {"created": difference, "unchanged": len(without)}
    assert held(house, name) == everybody

    house.enable(name, "users", **out)
    run = house.run(name, "users")
    assert tally(run) == {"deleted": difference, "unchanged": len(without)}
    assert {line[:2] for line in log(house, name, run)} == {("deleted", "not-listed" if at_source else "guest")}
    assert held(house, name) == without

    house.enable(name, "users", **come)
    assert tally(house.run(name, "users")) == {"restored": difference, "unchanged": len(without)}
    assert held(house, name) == everybody
    assert in_order(house.changes(name)[0])


def test_leaving_scope_by_delta(house: House, new_tenant: NewTenant) -> None:
    """Whoever becomes a guest or is disabled leaves by delta, and comes back the same way."""
    tenant = new_tenant(users=4, guestShare=0, disabledShare=0)
    guest, disabled, *_ = people(tenant)
    name = house.connect(tenant, users={"includeDisabled": False})
    house.run(name, "users")
    tenant.control.patch(f"users/{guest}", {"userType": "Guest"})
    tenant.control.patch(f"users/{disabled}", {"accountEnabled": False})

    run = house.run(name, "users")
    assert log(house, name, run) == sorted([("deleted", "guest", guest), ("deleted", "disabled", disabled)])
    assert held(house, name) == people(tenant, disabled=False)

    tenant.control.patch(f"users/{guest}", {"userType": "Member"})
    tenant.control.patch(f"users/{disabled}", {"accountEnabled": True})
    assert tally(house.run(name, "users")) == {"restored": 2}
    assert held(house, name) == people(tenant)


def test_other_fields_mean_a_full_read(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delta link tracks the fields it was made for: another set of fields reads everybody once more."""
    tenant = new_tenant(users=5, guestShare=0)
    name = house.connect(tenant, users={})
    monkeypatch.setattr("sync.people.USER_FIELDS", tuple(field for field in USER_FIELDS if field != "department"))
    house.run(name, "users")
    assert {user["department"] for user in house.users(name).values()} == {None}
    monkeypatch.setattr("sync.people.USER_FIELDS", USER_FIELDS)

    run = house.run(name, "users")

    assert tally(run) == {"updated": 5}
    assert held(house, name) == people(tenant)


def test_full_run_reads_everybody(house: House, new_tenant: NewTenant) -> None:
    """A full run lists everybody and finds who left although no delta told of it."""
    tenant = new_tenant(users=8, guestShare=0)
    name = house.connect(tenant, users={})
    house.run(name, "users")
    keys = list(people(tenant))
    tenant.control.delete(f"users/{keys[0]}")
    tenant.control.patch(f"users/{keys[1]}", {"jobTitle": "Changed"})
    tenant.control.post("users", {"userPrincipalName": f"new@{tenant.domain}"})

    run = house.run(name, "users", mode="full")

    assert tally(run) == {"deleted": 1, "updated": 1, "created": 1, "unchanged": 6}
    assert held(house, name) == people(tenant)
    assert tally(house.run(name, "users")) == {}


# --- invitations -----------------------------------------------------------------------------------------------------


def test_invited_once_ever(house: House, new_tenant: NewTenant) -> None:
    """Everybody is invited once, in the change after the one that creates them: not on return, not after the purge."""
    tenant = new_tenant(users=3, guestShare=0)
    name = house.connect(tenant, users={"invite": "onCreate", **UNGUARDED})
    run = house.run(name, "users")
    assert tally(run) == {"created": 3}
    keys = list(people(tenant))
    assert told(house.changes(name)[0]) == {("user", key): ["created", "invited"] for key in keys}

    returner, purged, _ = keys
    tenant.control.delete(f"users/{returner}")
    tenant.control.delete(f"users/{purged}")
    house.run(name, "users")
    tenant.control.post(f"users/{returner}/restore")
    house.run(name, "users")
    house.clock.ahead += timedelta(days=31)
    house.run(name, "users")
    tenant.control.post(f"users/{purged}/restore")
    house.run(name, "users")
    house.run(name, "users", mode="full")

    changes, _ = house.changes(name)
    assert kinds(changes)["invited"] == 3
    assert told(changes)["user", returner] == ["created", "invited", "deleted", "restored"]
    assert told(changes)["user", purged] == ["created", "invited", "deleted", "created"]
    assert held(house, name) == people(tenant)
    assert in_order(changes)


def test_invite_is_for_those_created_while_it_is_on(house: House, new_tenant: NewTenant) -> None:
    """Turning invitations on invites nobody who was there before."""
    tenant = new_tenant(users=3, guestShare=0)
    name = house.connect(tenant, users={"invite": "never"})
    house.run(name, "users")
    house.enable(name, "users", invite="onCreate")
    hire = tenant.control.post("users", {"userPrincipalName": f"new@{tenant.domain}"})["id"]
    house.run(name, "users")
    house.run(name, "users", mode="full")

    invited = [change["id"] for change in house.changes(name)[0] if change["change"] == "invited"]
    assert invited == [hire]


# --- what Graph may do -----------------------------------------------------------------------------------------------


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


def expire_pages(
    monkeypatch: pytest.MonkeyPatch, tenant: TestTenant, on: set[int], code: str = "Directory_ExpiredPageToken"
) -> None:
    """Let every link that was handed out so far expire before these of the calls for a page, counted from 1."""
    plain = GraphClient.page
    calls = 0

    def page(*args: Any, **options: Any) -> Page:
        nonlocal calls
        calls += 1
        if calls in on:
            tenant.control.post("expire", {"delta": True, "pages": code})
        return plain(*args, **options)

    monkeypatch.setattr(GraphClient, "page", page)


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


BAD = {
    "a number as name": ({"displayName": 5}, "unreadable-displayName"),
    "a text as flag": ({"accountEnabled": "yes"}, "unreadable-accountEnabled"),
    "a text as list": ({"businessPhones": "+1 206"}, "unreadable-businessPhones"),
    "numbers in a list": ({"businessPhones": [1]}, "unreadable-businessPhones"),
}


@pytest.mark.parametrize("mode", ["delta", "full"])
@pytest.mark.parametrize(("bad", "reason"), BAD.values(), ids=BAD)
def test_unreadable_item(house: House, new_tenant: NewTenant, bad: dict[str, Any], reason: str, mode: str) -> None:
    """A user that cannot be read fails with the reason, is kept as it was, and heals; all others go on."""
    tenant = new_tenant(users=5, guestShare=0, disabledShare=0)
    name = house.connect(tenant, users={})
    house.run(name, "users")
    key, other = list(people(tenant))[:2]
    good = tenant.control.get(f"users/{key}")
    before = held(house, name)
    tenant.control.patch(f"users/{key}", bad)
    tenant.control.patch(f"users/{other}", {"jobTitle": "Changed"})

    run = house.run(name, "users", mode=mode)

    assert run["status"] == "partial"
    assert tally(run) == {"failed": 1, "updated": 1} | ({"unchanged": 3} if mode == "full" else {})
    assert log(house, name, run) == [("failed", reason, key)]
    assert held(house, name) == before | {other: before[other] | {"jobTitle": "Changed"}}

    tenant.control.patch(f"users/{key}", {field: good.get(field) for field in bad} | {"surname": "Healed"})
    assert house.run(name, "users")["status"] == "succeeded"
    assert held(house, name) == people(tenant)


def test_unreadable_newcomer(house: House, new_tenant: NewTenant) -> None:
    """Somebody new who cannot be read is not taken in, and is once it can be."""
    tenant = new_tenant(users=5, guestShare=0)
    key = next(iter(people(tenant)))
    tenant.control.patch(f"users/{key}", {"mail": 5})
    name = house.connect(tenant, users={})

    run = house.run(name, "users")

    assert (run["status"], tally(run)) == ("partial", {"created": 4, "failed": 1})
    tenant.control.patch(f"users/{key}", {"mail": "ann@contoso.com"})
    assert tally(house.run(name, "users")) == {"created": 1}
    assert held(house, name) == people(tenant)


def test_item_without_id(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item without an id fails by itself; and a listing that holds one proves nobody's absence."""
    tenant = new_tenant(users=4, guestShare=0)
    name = house.connect(tenant, users={})
    house.run(name, "users")
    lost = next(iter(people(tenant)))

    def lose(page: Page) -> Page:
        items = [{**item, "id": None} if item["id"] == lost else item for item in page.items]
        return Page(items, page.next_link, page.delta_link)

    with monkeypatch.context() as patch:
        change_pages(patch, lose)
        run = house.run(name, "users", mode="full")

    assert (run["status"], tally(run)) == ("partial", {"failed": 1, "unchanged": 3})
    assert held(house, name) == people(tenant)


def test_half_a_character(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that was cut in the middle of an emoji, which JSON allows and UTF-8 does not, does not stop a run."""
    tenant = new_tenant(users=3, guestShare=0)
    name = house.connect(tenant, users={})
    cut = next(iter(people(tenant)))

    def halve(page: Page) -> Page:
        items = [{**item, "displayName": "Ann \ud83d"} if item["id"] == cut else item for item in page.items]
        return Page(items, page.next_link, page.delta_link)

    change_pages(monkeypatch, halve)
    run = house.run(name, "users")

    assert (run["status"], tally(run)) == ("succeeded", {"created": 3})
    assert house.users(name)[cut]["displayName"] == "Ann \ufffd"


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


def test_permission_granted_after_a_refused_run(house: House, new_tenant: NewTenant) -> None:
    """A run that Graph forbade makes the next one sign in afresh, whose token shows what was granted meanwhile."""
    tenant = new_tenant(users=3, guestShare=0, roles=[])
    name = house.connect(tenant, users={})
    assert house.run(name, "users")["status"] == "failed"
    tenant.control.patch(f"apps/{tenant.client_id}", {"roles": ["User.Read.All"]})

    assert tally(house.run(name, "users")) == {"created": 3}
