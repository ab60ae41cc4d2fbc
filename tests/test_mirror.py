"""What all one-way syncs share: deletion guard, dry run, approve and reject, tombstones, and settings changed midway."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from sync import collection, deletions, jobs, mirror
from sync.mirror import RETENTION
from tests.cloud import TestTenant
from tests.contents import contents
from tests.house import House
from tests.truth import held, people, tally, told

NewTenant = Callable[..., TestTenant]
NAME = "primary"
ALL_ROLES = ["User.Read.All", "Device.Read.All", "GroupMember.Read.All", "ProfilePhoto.Read.All"]


def plan(house: House, run: dict[str, Any], top: int = 1000) -> list[tuple[str, str, str]]:
    """The lines of a run's plan, over all pages: entity, id, action."""
    lines: list[tuple[str, str, str]] = []
    cursor = ""
    while True:
        answer = house.get(f"connections/{NAME}/runs/{run['id']}/plan?top={top}{cursor}")
        lines += [(line["entity"], line["id"], line["action"]) for line in answer["items"]]
        if answer["next"] is None:
            return lines
        cursor = f"&cursor={answer['next']}"


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


# --- the guard ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guard", "leavers", "status"),
    [
        ({}, 8, "succeeded"),  # 20 of 100 is the limit
        ({}, 9, "held"),
        ({"maxCount": 3, "maxPercent": 100}, 3, "succeeded"),
        ({"maxCount": 3, "maxPercent": 100}, 4, "held"),
        ({"maxCount": 0, "maxPercent": 100}, 1, "held"),
    ],
)
@pytest.mark.parametrize("mode", ["delta", "full"])
def test_limits(house: House, crowd: TestTenant, guard: dict[str, int], leavers: int, status: str, mode: str) -> None:
    """Up to the limits deletions are applied; one more and all of them wait, while hires and changes go on."""
    house.enable(NAME, "users", deletionGuard=guard)
    gone = leave(crowd, leavers)
    hire = crowd.control.post("users", {"userPrincipalName": f"new@{crowd.domain}", "displayName": "New"})["id"]
    changed = next(key for key in people(crowd) if key != hire)
    crowd.control.patch(f"users/{changed}", {"jobTitle": "Changed"})

    run = house.run(NAME, "users", mode=mode)

    waiting = leavers if status == "held" else 0
    assert run["status"] == status
    assert (run["counts"]["created"], run["counts"]["updated"]) == (1, 1)
    assert (run["counts"]["deleted"], run["counts"]["skipped"]) == (leavers - waiting, waiting)
    assert proposed(house, run) == (gone if waiting else [])
    active = held(house, NAME)
    assert {key: active[key] for key in people(crowd)} == people(crowd)
    assert len(active) == 41 - leavers + waiting
    assert (run["error"] and run["error"]["code"]) == ("deletions-held" if waiting else None)


def test_approve_and_reject(house: House, crowd: TestTenant) -> None:
    """Reject drops what is proposed, and it is proposed again; approve deletes just what was shown less what came back."""
    gone = leave(crowd, 12)
    first = house.run(NAME, "users")
    later = leave(crowd, 3, seed=2)
    second = house.run(NAME, "users")
    assert (first["status"], second["status"]) == ("held", "held")
    assert (proposed(house, first), proposed(house, second)) == (gone, sorted(gone + later))

    assert decide(house, second, "reject")[1]["status"] == "partial"
    assert shown(house, second)["error"]["code"] == "deletions-rejected"
    third = house.run(NAME, "users")
    assert (third["status"], proposed(house, third)) == ("held", sorted(gone + later))
    crowd.control.post(f"users/{gone[0]}/restore")
    fourth = house.run(NAME, "users")
    assert proposed(house, fourth) == sorted(gone[1:] + later)
    cursor = house.changes(NAME)[1]
    assert decide(house, first, "approve")[0] == 202
    house.work()

    done = shown(house, first)
    assert (done["status"], done["error"], done["counts"]["deleted"], done["counts"]["skipped"]) == (
        "succeeded",
        None,
        11,
        0,
    )
    assert sorted(house.users(NAME, state="deleted")) == gone[1:]
    assert told(house.changes(NAME, cursor)[0]) == {("user", key): ["deleted"] for key in gone[1:]}
    for verb in ("approve", "reject"):
        status, problem = decide(house, first, verb)
        assert (status, problem["code"]) == (409, "run-not-held")
    last = house.run(NAME, "users")
    assert (last["status"], last["counts"]["deleted"]) == ("succeeded", 3)  # 3 of 28 are within the limits
    assert held(house, NAME) == people(crowd)


def test_who_came_back_before_any_sync_is_not_deleted(house: House, crowd: TestTenant) -> None:
    """Who returned and was seen again stays when an older proposal is approved, even of the whole lot."""
    gone = leave(crowd, 12)
    run = house.run(NAME, "users")
    for key in gone:
        crowd.control.post(f"users/{key}/restore")
    assert house.run(NAME, "users")["status"] == "succeeded"

    assert decide(house, run, "approve")[0] == 202
    house.work()

    assert (shown(house, run)["status"], tally(shown(house, run))) == ("succeeded", {})
    assert held(house, NAME) == people(crowd)


def test_approve_beside_an_active_run(house: House, crowd: TestTenant) -> None:
    """While another run of the sync is active nothing can be approved; afterwards it can."""
    leave(crowd, 12)
    run = house.run(NAME, "users")
    house.start(NAME, "users")

    status, problem = decide(house, run, "approve")
    assert (status, problem["code"]) == (409, "sync-busy")
    house.work()
    assert decide(house, run, "approve")[0] == 202
    house.work()
    assert shown(house, run)["counts"]["deleted"] == 12


def test_approve_needs_the_version_that_was_shown(house: House, crowd: TestTenant) -> None:
    """An approval with an old ETag is refused; with the present one it is taken. Cancelling drops the deletions."""
    leave(crowd, 12)
    run = house.run(NAME, "users")
    path = f"connections/{NAME}/runs/{run['id']}"
    etag = house.call("GET", path).headers["ETag"]

    assert house.call("POST", f"{path}/approve", If_Match='"other"').status == 412
    assert shown(house, run)["status"] == "held"
    assert house.call("POST", f"{path}/cancel", If_Match=etag).json["status"] == "cancelled"
    assert len(house.users(NAME, state="active")) == 40


@pytest.mark.parametrize("slices", ["one", "many"])
def test_a_large_plan(house: House, crowd: TestTenant, monkeypatch: pytest.MonkeyPatch, slices: str) -> None:
    """A plan of several rows is paged without loss, and applied whole, also over many slices."""
    monkeypatch.setattr(deletions, "LINES", 5)
    monkeypatch.setattr(mirror, "DELETIONS", 2)
    gone = leave(crowd, 23)
    run = house.run(NAME, "users")

    pages = [plan(house, run, top) for top in (1, 4, 5, 7, 1000)]
    assert all(sorted(item for _, item, _ in lines) == gone for lines in pages)
    if slices == "many":
        one_step_a_slice(monkeypatch)
    assert decide(house, run, "approve")[0] == 202
    while shown(house, run)["status"] not in ("succeeded", "failed"):
        house.work()
    assert (shown(house, run)["status"], sorted(house.users(NAME, state="deleted"))) == ("succeeded", gone)
    assert shown(house, run)["counts"]["deleted"] == 23


def one_step_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each slice does one step and then finds its time up."""
    asked: dict[int, int] = {}

    def up(work: jobs.Work) -> bool:
        asked[id(work.claim)] = asked.get(id(work.claim), 0) + 1
        return asked[id(work.claim)] > 2

    monkeypatch.setattr(jobs.Work, "time_is_up", up)


def test_an_empty_listing_deletes_nothing(house: House, crowd: TestTenant) -> None:
    """A full listing that shows nobody where there were some is a failure, with or without a guard."""
    house.enable(NAME, "users", deletionGuard={"maxCount": 1000, "maxPercent": 100})
    leave(crowd, 40)

    for dry in (False, True):
        run = house.run(NAME, "users", mode="full", dryRun=dry)
        assert (run["status"], run["error"]["code"], tally(run)) == ("failed", "empty-listing", {})
    assert len(house.users(NAME, state="active")) == 40


def test_a_partial_listing_deletes_nothing(house: House, crowd: TestTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing that breaks off after some pages leaves everybody where they are."""
    house.enable(NAME, "users", deletionGuard={"maxCount": 1000, "maxPercent": 100})
    monkeypatch.setattr(collection, "PAGE", 10)
    pages = 0
    whole = collection._STAGES["list"]

    def breaks_off(copy: Any, reading: Any, at: Any) -> Any:
        nonlocal pages
        pages += 1
        if pages == 3:
            crowd.control.patch(f"apps/{crowd.client_id}", {"roles": []})
            house.app._sign_ins.clear()
            del copy.work.__dict__["graph"]  # a slice of another worker, which has no token yet
        return whole(copy, reading, at)

    monkeypatch.setitem(collection._STAGES, "list", breaks_off)
    run = house.run(NAME, "users", mode="full")

    assert (run["status"], run["counts"]["deleted"]) == ("failed", 0)
    assert len(house.users(NAME, state="active")) == 40


# --- the dry run ----------------------------------------------------------------------------------------------------


def everything(house: House) -> tuple[Any, ...]:
    """All that is stored but for runs, plans, logs and what says which run was last."""
    found = contents(house)
    of_runs = ("run|", "plan|", "log|", "active|")
    rows = [
        {name: value for name, value in row.items() if name != "last_run"}
        for row in found.rows["data"]
        if not row["RowKey"].startswith(of_runs)
    ]
    return sorted(rows, key=lambda row: str(row["RowKey"])), found.blobs, found.rows["connections"]


def busy(new_tenant: NewTenant) -> tuple[TestTenant, str]:
    """A tenant with users, photos, devices and groups; the top group's id."""
    tenant = new_tenant(users=12, guestShare=0, disabledShare=0, photoShare=0.7, roles=ALL_ROLES)
    users = list(people(tenant))
    for number in range(4):
        tenant.control.post("devices", {"displayName": f"PC {number}", "deviceId": f"d{number}"})
    sales = tenant.control.post("groups", {"displayName": "Sales", "members": users[:3]})["id"]
    top = tenant.control.post("groups", {"displayName": "Top", "members": [sales, *users[3:6]]})["id"]
    return tenant, str(top)


def shake(tenant: TestTenant, top: str) -> None:
    """A change of each kind everywhere."""
    users = list(people(tenant))
    tenant.control.delete(f"users/{users[0]}")
    tenant.control.patch(f"users/{users[4]}", {"mobilePhone": "5"})
    tenant.control.delete(f"groups/{top}/members/{users[5]}")
    tenant.control.put(f"users/{users[7]}/photo", {"longest": 300})
    hire = tenant.control.post(
        "users", {"userPrincipalName": f"new@{tenant.domain}", "displayName": "New", "photo": 240}
    )
    tenant.control.post(f"groups/{top}/members", {"ids": [hire["id"]]})
    devices = [device["id"] for device in tenant.control.get("devices")]
    tenant.control.delete(f"devices/{devices[0]}")
    tenant.control.patch(f"devices/{devices[1]}", {"displayName": "Renamed"})
    tenant.control.post("devices", {"displayName": "PC new", "deviceId": "dnew"})


@pytest.mark.parametrize("sync", ["users", "devices", "contacts", "photos"])
@pytest.mark.parametrize("mode", ["delta", "full"])
def test_a_dry_run_writes_nothing_and_tells_the_truth(
    house: House, new_tenant: NewTenant, sync: str, mode: str
) -> None:
    """First and later: the plan names each item once, its counts are those of the real run that follows, and until
    then nothing but the run, its plan and its log has been written."""
    tenant, top = busy(new_tenant)
    free = {"deletionGuard": {"maxCount": 1000, "maxPercent": 100}}
    house.connect(tenant, NAME, users=free, devices=free, contacts={"groupId": top, **free}, photos=free)
    if sync == "photos":
        house.run(NAME, "users")

    for changed in (False, True):
        if changed:
            shake(tenant, top)
        if sync == "photos":
            house.run(NAME, "users")
        before = everything(house)
        dry = house.run(NAME, sync, dryRun=True, mode=mode)
        assert (dry["status"], dry["dryRun"]) == ("succeeded", True)
        assert everything(house) == before
        cursor = house.changes(NAME)[1]
        real = house.run(NAME, sync, mode=mode)
        assert real["status"] == "succeeded"

        lines = [line for line in plan(house, dry) if line[0] != "contact-group"]
        assert len({item for _, item, _ in lines}) == len(lines)
        told_of = told(house.changes(NAME, cursor)[0])
        verbs = {"create": "created", "update": "updated", "delete": "deleted", "restore": "restored"}
        assert {
            (entity, item): [verbs[action]] for entity, item, action in plan(house, dry) if action != "none"
        } == told_of
        assert without_seen(dry) == without_seen(real)


def without_seen(run: dict[str, Any]) -> dict[str, int]:
    """The counts, but for what is unchanged: a dry run may read more than a delta."""
    return {name: count for name, count in tally(run).items() if name not in ("unchanged", "skipped")}


def test_a_dry_run_shows_what_waits(house: House, crowd: TestTenant) -> None:
    """Deletions that an earlier run held back are in the plan of a dry run, once, in both modes; returners are not."""
    gone = leave(crowd, 12)
    house.run(NAME, "users")
    crowd.control.post(f"users/{gone[0]}/restore")

    for mode in ("delta", "full"):
        dry = house.run(NAME, "users", dryRun=True, mode=mode)
        assert (dry["status"], proposed(house, dry), dry["counts"]["deleted"]) == ("succeeded", gone[1:], 11)


def test_a_dry_run_and_a_real_run_do_not_coalesce(house: House, crowd: TestTenant) -> None:
    """Each has its own active run; two of the same kind are one."""
    dry, real = house.start(NAME, "users", dryRun=True), house.start(NAME, "users")

    assert dry != real
    assert (house.start(NAME, "users", dryRun=True), house.start(NAME, "users")) == (dry, real)
    hire = crowd.control.post("users", {"userPrincipalName": f"new@{crowd.domain}", "displayName": "New"})["id"]
    house.work()
    assert [house.get(f"connections/{NAME}/runs/{run}")["status"] for run in (dry, real)] == ["succeeded"] * 2
    assert hire in house.users(NAME)


# --- leaving and coming back ----------------------------------------------------------------------------------------


def test_suspended_and_back(house: House, new_tenant: NewTenant) -> None:
    """A soft-deleted user keeps fields and photo as a tombstone, and has them again on return."""
    tenant = new_tenant(users=12, guestShare=0, photoShare=1)
    house.connect(tenant, NAME, users={}, photos={})
    house.run(NAME, "users")
    house.run(NAME, "photos")
    before = house.users(NAME)
    key = next(iter(before))
    tenant.control.delete(f"users/{key}")

    house.run(NAME, "users")
    suspended = house.get(f"connections/{NAME}/users/{key}")
    assert (suspended["state"], suspended["displayName"]) == ("deleted", before[key]["displayName"])
    assert suspended["photo"] == before[key]["photo"]
    tenant.control.post(f"users/{key}/restore")
    house.run(NAME, "users")

    assert house.users(NAME) == before
    assert house.call("GET", f"connections/{NAME}/users/{key}/photo").status == 200


@pytest.mark.parametrize("first_soft", [False, True], ids=["at once", "after a soft deletion"])
def test_gone_for_good(house: House, new_tenant: NewTenant, first_soft: bool) -> None:
    """Who is deleted for good is purged by the next delta, with the photo; others stay for 30 days."""
    tenant = new_tenant(users=12, guestShare=0, photoShare=1)
    house.connect(tenant, NAME, users={}, photos={})
    house.run(NAME, "users")
    house.run(NAME, "photos")
    for_good, soft = list(house.users(NAME))[:2]
    tenant.control.delete(f"users/{soft}")
    if first_soft:
        tenant.control.delete(f"users/{for_good}")
        house.run(NAME, "users")
    tenant.control.post(f"users/{for_good}/purge")

    house.run(NAME, "users")

    assert house.call("GET", f"connections/{NAME}/users/{for_good}").status == 404
    assert set(house.users(NAME, state="deleted")) == {soft}
    assert not [name for name in contents(house).blobs if for_good in name]
    house.clock.ahead += RETENTION + timedelta(hours=1)
    house.run(NAME, "users")
    assert house.users(NAME) == {key: user for key, user in house.users(NAME).items() if user["state"] == "active"}
    told_only = ("feed|", "log|")
    assert all(key.startswith(told_only) for _, key in contents(house).naming(for_good, soft))


# --- settings changed while a run reads ------------------------------------------------------------------------------


def test_settings_changed_between_two_slices(
    house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing that began under other settings starts over: nobody of its first pages is missed."""
    monkeypatch.setattr(collection, "PAGE", 5)
    tenant = new_tenant(users=20, guestShare=0.5)
    house.connect(tenant, NAME, users={})
    run = house.start(NAME, "users")
    with monkeypatch.context() as patch:
        one_step_a_slice(patch)
        messages = house.messages()
        for _ in range(2):
            jobs.work(house.app, next(messages))
    house.enable(NAME, "users", includeGuests=True)

    house.work()

    done = house.get(f"connections/{NAME}/runs/{run}")
    assert done["status"] == "succeeded"
    assert held(house, NAME) == people(tenant, guests=True)
    assert tally(house.run(NAME, "users")) == {}


# --- what is taken --------------------------------------------------------------------------------------------------


def test_more_fields(house: House, new_tenant: NewTenant) -> None:
    """Fields beside the default set come by listing and by delta, can be cleared, and go when they are unset again."""
    tenant = new_tenant(users=11, guestShare=0)
    extension = f"extension_{'0a' * 16}_shoeSize"
    boss, key = list(people(tenant))[:2]
    attributes = {f"extensionAttribute{number}": None for number in range(1, 16)}
    tenant.control.patch(
        f"users/{key}",
        {
            "manager": boss,
            extension: "44",
            "city": "Oslo",
            "onPremisesExtensionAttributes": {"extensionAttribute1": "A"},
        },
    )
    wanted = ["manager", extension, "onPremisesExtensionAttributes", "city"]
    house.connect(tenant, NAME, users={"moreFields": wanted})

    def more() -> dict[str, Any]:
        found: dict[str, Any] = house.get(f"connections/{NAME}/users/{key}")["more"]
        return found

    house.run(NAME, "users")
    expected = {"manager": boss, extension: "44", "city": "Oslo"}
    assert {name: more()[name] for name in expected} == expected
    assert more()["onPremisesExtensionAttributes"] == {**attributes, "extensionAttribute1": "A"}
    assert set(more()) == set(wanted)
    assert tally(house.run(NAME, "users")) == {}
    other = list(people(tenant))[2]
    tenant.control.patch(f"users/{key}", {"manager": other, extension: None, "city": None})
    assert tally(house.run(NAME, "users")) == {"updated": 1}
    assert (more()["manager"], more()[extension], more()["city"]) == (other, None, None)
    tenant.control.patch(f"users/{key}", {"jobTitle": "Same manager"})
    assert tally(house.run(NAME, "users")) == {"updated": 1}
    assert more()["manager"] == other
    tenant.control.patch(f"users/{key}", {"manager": None})
    assert tally(house.run(NAME, "users")) == {"updated": 1}
    assert more()["manager"] is None
    assert tally(house.run(NAME, "users", mode="full")) == {"unchanged": 11}
    house.enable(NAME, "users")
    assert tally(house.run(NAME, "users")) == {"updated": 11}  # another set of fields is a new full read
    assert more() == {}


@pytest.mark.parametrize(
    "names", [["nonsense"], ["manager", "displayName"], [f"extension_{'0' * 32}_{n}" for n in range(11)]]
)
def test_fields_that_cannot_be_added(house: House, tenant: TestTenant, names: list[str]) -> None:
    """Unknown fields, those of the default set and more than ten extensions are refused by name of the setting."""
    house.connect(tenant, NAME)

    answer = house.call("PUT", f"connections/{NAME}/syncs/users", {"enabled": True, "moreFields": names})

    assert (answer.status, [error["pointer"] for error in answer.json["errors"]]) == (422, ["/moreFields"])


def test_licensed_only(house: House, new_tenant: NewTenant) -> None:
    """Whoever has no licence is skipped with the reason, comes with a first one and goes with the last."""
    tenant = new_tenant(users=12, guestShare=0)
    everybody = list(people(tenant))
    licence = [{"skuId": "6fd2c87f-b296-42f0-b197-1e91e994b900", "disabledPlans": []}]
    for key in everybody:
        tenant.control.patch(f"users/{key}", {"assignedLicenses": licence if key != everybody[0] else []})
    house.connect(tenant, NAME, users={"licensedOnly": True})

    run = house.run(NAME, "users")
    assert tally(run) == {"created": 11, "skipped": 1}
    (line,) = house.get(f"connections/{NAME}/runs/{run['id']}/log")["items"]
    assert (line["reason"], line["id"]) == ("unlicensed", everybody[0])
    tenant.control.patch(f"users/{everybody[0]}", {"assignedLicenses": licence})
    tenant.control.patch(f"users/{everybody[1]}", {"assignedLicenses": []})
    assert tally(house.run(NAME, "users")) == {"created": 1, "deleted": 1}
    tenant.control.patch(f"users/{everybody[1]}", {"assignedLicenses": licence})
    assert tally(house.run(NAME, "users")) == {"restored": 1}


def test_who_leaves_while_a_listing_starts_over(
    house: House, crowd: TestTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was on a page of the first try and has left before the second one is not kept for that."""
    monkeypatch.setattr(collection, "PAGE", 10)
    pages = 0
    whole = collection._STAGES["list"]
    gone = ""

    def starting_over(copy: Any, reading: Any, at: Any) -> Any:
        nonlocal pages, gone
        pages += 1
        if pages == 3:
            gone = next(iter(people(crowd)))
            crowd.control.delete(f"users/{gone}")
            return collection._start_over(copy, at, 1)
        return whole(copy, reading, at)

    monkeypatch.setitem(collection._STAGES, "list", starting_over)
    run = house.run(NAME, "users", mode="full")

    assert (run["status"], tally(run)) == ("succeeded", {"unchanged": 40, "deleted": 1})  # 40 were read at first
    assert set(house.users(NAME, state="deleted")) == {gone}
