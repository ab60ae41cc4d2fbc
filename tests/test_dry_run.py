"""Dry runs: the full plan with a reason for every item, and nothing written."""

from collections import Counter
from typing import Any

import pytest

from sync import collection, mirror
from tests.cloud import NewTenant, TestTenant
from tests.contents import contents
from tests.held import NAME, die_again_and_again, entries, leave, plan, proposed
from tests.house import UNGUARDED, House
from tests.truth import people, tally, told

ALL_ROLES = ["User.Read.All", "Device.Read.All", "GroupMember.Read.All", "ProfilePhoto.Read.All"]


def everything(house: House) -> tuple[Any, ...]:
    """All that is stored but for runs with their plans and logs."""
    found = contents(house)
    of_runs = ("run|", "plan|", "log|", "active|")
    rows = [row for row in found.rows["data"] if not row["RowKey"].startswith(of_runs)]
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
            (entity, item): [verbs[action]] for entity, item, action in plan(house, dry) if action in verbs
        } == told_of
        assert all(line["reason"] for line in entries(house, dry))
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


def test_the_reasons(house: House, new_tenant: NewTenant) -> None:
    """Each item has what would be done and why, and the name by which the portal knows it."""
    tenant = new_tenant(users=12, guestShare=0, disabledShare=0)
    keys = list(people(tenant))
    guest = tenant.control.post("users", {"userPrincipalName": f"g@{tenant.domain}", "userType": "Guest"})["id"]
    house.connect(tenant, NAME, users={})
    tenant.control.delete(f"users/{keys[0]}")
    house.run(NAME, "users")
    names = {key: user["displayName"] for key, user in house.users(NAME).items()}
    tenant.control.post(f"users/{keys[0]}/restore")
    tenant.control.delete(f"users/{keys[1]}")
    tenant.control.patch(f"users/{keys[2]}", {"userType": "Guest"})
    tenant.control.patch(f"users/{keys[3]}", {"jobTitle": "Changed"})
    tenant.control.patch(f"users/{keys[4]}", {"displayName": 5})
    hire = tenant.control.post("users", {"userPrincipalName": f"h@{tenant.domain}", "displayName": "Hire"})["id"]
    dry = house.run(NAME, "users", dryRun=True, mode="full")

    found = {line["id"]: (line["action"], line["reason"], line["displayName"]) for line in entries(house, dry)}
    assert found == {
        keys[0]: ("create", "new", None),
        keys[1]: ("delete", "left", names[keys[1]]),
        keys[2]: ("delete", "guest", names[keys[2]]),
        keys[3]: ("update", "changed", names[keys[3]]),
        keys[4]: ("skip", "unreadable-displayName", names[keys[4]]),
        guest: ("skip", "guest", None),
        hire: ("create", "new", None),
    } | {key: ("none", "unchanged", names[key]) for key in keys[5:]}
    assert tally(dry) == {"created": 2, "deleted": 2, "updated": 1, "failed": 1, "skipped": 1, "unchanged": 7}
    logged = {(line["outcome"], line["reason"], line["id"]) for line in entries(house, dry, what="log")}
    assert {("failed", "unreadable-displayName", keys[4]), ("skipped", "guest", guest)} <= logged


def test_what_the_guard_would_hold_back(house: House, crowd: TestTenant) -> None:
    """A dry run that shows more deletions than the guard lets through says so."""
    leave(crowd, 8)
    dry = house.run(NAME, "users", dryRun=True)
    assert [line["reason"] for line in entries(house, dry, what="log")] == []
    leave(crowd, 1, seed=2)

    dry = house.run(NAME, "users", dryRun=True)

    assert (dry["status"], dry["counts"]["deleted"]) == ("succeeded", 9)
    assert [line["reason"] for line in entries(house, dry, what="log")] == ["would-be-held"]


def test_it_is_not_the_last_run(house: House, crowd: TestTenant) -> None:
    """A portal that shows the last run of a sync shows what was really done."""
    (before,) = (one for one in house.get(f"connections/{NAME}/syncs")["items"] if one["sync"] == "users")
    dry = house.run(NAME, "users", dryRun=True)
    cancelled = house.start(NAME, "users", dryRun=True)
    assert house.call("POST", f"connections/{NAME}/runs/{cancelled}/cancel").status == 202

    (after,) = (one for one in house.get(f"connections/{NAME}/syncs")["items"] if one["sync"] == "users")
    assert after == before
    assert [one["id"] for one in house.get(f"connections/{NAME}/runs")["items"]][:2] == [cancelled, dry["id"]]


@pytest.mark.parametrize("sync", ["users", "contacts"])
def test_a_worker_that_dies(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch, sync: str) -> None:
    """Killed after any write: the plan still names each item once, and the counts are those of its lines."""
    monkeypatch.setattr(collection, "PAGE", 4)
    monkeypatch.setattr(mirror, "LINES", 2)
    tenant, top = busy(new_tenant)
    house.connect(tenant, NAME, users=UNGUARDED, contacts={"groupId": top, **UNGUARDED})
    house.run(NAME, sync)
    shake(tenant, top)
    run = {"id": house.start(NAME, sync, dryRun=True, mode="full")}

    assert die_again_and_again(house, run["id"]) > 2

    lines = [line for line in plan(house, run) if line[0] != "contact-group"]
    done = house.get(f"connections/{NAME}/runs/{run['id']}")
    assert len({item for _, item, _ in lines}) == len(lines)
    outcomes = {"create": "created", "update": "updated", "delete": "deleted", "restore": "restored"}
    outcomes |= {"none": "unchanged", "skip": "skipped"}
    assert Counter(outcomes[action] for _, _, action in lines) == tally(done)
    assert house.run(NAME, sync, mode="full")["status"] == "succeeded"


def test_a_listing_that_starts_over(house: House, crowd: TestTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a page link expires the plan begins anew: nobody is in it twice, and who has left since is in it."""
    monkeypatch.setattr(collection, "PAGE", 10)
    gone: list[str] = []
    pages = 0
    whole = collection._STAGES["list"]

    def expiring(copy: Any, reading: Any, at: Any) -> Any:
        nonlocal pages
        pages += 1
        if pages == 3:
            gone.append(next(iter(people(crowd))))
            crowd.control.delete(f"users/{gone[0]}")
            crowd.control.post("expire", {"pages": "Directory_ExpiredPageToken"})
        return whole(copy, reading, at)

    monkeypatch.setitem(collection._STAGES, "list", expiring)
    dry = house.run(NAME, "users", dryRun=True, mode="full")

    assert (dry["status"], tally(dry)) == ("succeeded", {"unchanged": 39, "deleted": 1})
    assert (len(plan(house, dry)), proposed(house, dry)) == (40, gone)


def test_photos_of_people_who_were_never_synced(house: House, new_tenant: NewTenant) -> None:
    """A plan that could name nobody is a failure with a remedy, not an empty success."""
    house.connect(new_tenant(users=5), NAME, photos={})

    dry = house.run(NAME, "photos", dryRun=True)

    assert (dry["status"], dry["error"]["code"]) == ("failed", "users-sync-needed")
