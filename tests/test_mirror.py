"""What all one-way syncs share: tombstones, which fields and which items are taken, settings changed midway."""

from datetime import timedelta
from typing import Any

import pytest

from sync import collection, jobs, mirror
from sync.mirror import RETENTION
from tests.cloud import NewTenant, TestTenant
from tests.contents import contents
from tests.held import NAME, leave, one_step_a_slice
from tests.house import UNGUARDED, House
from tests.truth import albums, held, people, tally, told

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


def test_leavers_over_many_slices(house: House, crowd: TestTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice may end while a full listing's leavers are being noted or deleted: none is missed or told of twice."""
    monkeypatch.setattr(mirror, "DELETIONS", 3)
    house.enable(NAME, "users", **UNGUARDED)
    gone = leave(crowd, 15)
    one_step_a_slice(monkeypatch)

    run = house.run(NAME, "users", mode="full")

    assert (run["status"], tally(run)) == ("succeeded", {"unchanged": 25, "deleted": 15})
    assert run["slices"] > 5
    stories = told(house.changes(NAME)[0])
    assert {key for (_, key), story in stories.items() if story == ["created", "deleted"]} == set(gone)


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


# --- members of a group ---------------------------------------------------------------------------------------------

GROUP_ROLES = ["User.Read.All", "GroupMember.Read.All"]


def test_members_of_a_group(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the group's users and those of groups below it are read, page by page; who leaves it leaves the portal."""
    monkeypatch.setattr(collection, "PAGE", 3)
    tenant = new_tenant(users=20, guestShare=0, disabledShare=0, roles=GROUP_ROLES)
    keys = list(people(tenant))
    device = tenant.control.post("devices", {"displayName": "PC"})["id"]
    below = tenant.control.post("groups", {"displayName": "Below", "members": keys[5:9]})["id"]
    group = tenant.control.post("groups", {"displayName": "Portal", "members": [*keys[:6], below, device]})["id"]
    house.connect(tenant, NAME, users={"memberOf": group.upper(), "moreFields": ["city"]})
    tenant.control.post("counters")

    run = house.run(NAME, "users")

    assert (run["status"], tally(run), run["graph"]["requests"]) == ("succeeded", {"created": 9}, 3)
    assert held(house, NAME) == {key: user for key, user in people(tenant).items() if key in keys[:9]}
    assert tally(house.run(NAME, "users")) == {"unchanged": 9}
    tenant.control.delete(f"groups/{group}/members/{keys[0]}")
    tenant.control.post(f"groups/{below}/members", {"ids": [keys[9]]})
    tenant.control.patch(f"users/{keys[1]}", {"jobTitle": "Changed"})

    run = house.run(NAME, "users")

    assert tally(run) == {"created": 1, "updated": 1, "deleted": 1, "unchanged": 7}
    (line,) = house.get(f"connections/{NAME}/runs/{run['id']}/log")["items"]
    assert (line["reason"], line["id"]) == ("not-listed", keys[0])
    assert held(house, NAME) == {key: user for key, user in people(tenant).items() if key in keys[1:10]}
    house.enable(NAME, "users", **UNGUARDED)
    assert house.run(NAME, "users")["counts"]["created"] == 10
    assert house.run(NAME, "users")["graph"]["requests"] == 1
    assert held(house, NAME) == people(tenant)


def test_photos_of_the_members_of_a_group(house: House, new_tenant: NewTenant) -> None:
    """Photos follow the users that are held."""
    tenant = new_tenant(users=10, guestShare=0, photoShare=1, roles=GROUP_ROLES)
    keys = list(people(tenant))
    group = tenant.control.post("groups", {"displayName": "Portal", "members": keys[:4]})["id"]
    house.connect(tenant, NAME, users={"memberOf": group}, photos={})

    for sync in ("users", "photos", "users", "photos"):
        assert house.run(NAME, sync)["status"] == "succeeded"

    assert set(albums(house, NAME)) == set(keys[:4])


@pytest.mark.parametrize(
    ("roles", "group", "code", "check"),
    [
        (GROUP_ROLES, "9c1f7a52-0000-4000-8000-000000000000", "group-not-found", {}),
        (["User.Read.All"], "", "graph-forbidden", {"users": ["GroupMember.Read.All"]}),
    ],
)
def test_a_group_that_cannot_be_read(
    house: House, new_tenant: NewTenant, roles: list[str], group: str, code: str, check: dict[str, list[str]]
) -> None:
    """A group that is not there, or may not be read, fails the run; nobody is deleted, and the check names the right."""
    tenant = new_tenant(users=5, guestShare=0, roles=roles)
    made = tenant.control.post("groups", {"displayName": "Portal", "members": list(people(tenant))})["id"]
    house.connect(tenant, NAME, users=UNGUARDED)
    house.run(NAME, "users")
    house.enable(NAME, "users", memberOf=group or made, **UNGUARDED)

    run = house.run(NAME, "users")

    assert (run["status"], run["error"]["code"], tally(run)) == ("failed", code, {})
    assert run["error"]["remedy"]
    assert held(house, NAME) == people(tenant)
    checked = house.call("POST", f"connections/{NAME}/check").json
    assert checked["permissions"]["missing"] == check


def test_an_emptied_group(house: House, new_tenant: NewTenant) -> None:
    """A group without members where there were some is a failure: nobody is deleted."""
    tenant = new_tenant(users=5, guestShare=0, roles=GROUP_ROLES)
    group = tenant.control.post("groups", {"displayName": "Portal", "members": list(people(tenant))})["id"]
    house.connect(tenant, NAME, users={"memberOf": group, **UNGUARDED})
    house.run(NAME, "users")
    for key in people(tenant):
        tenant.control.delete(f"groups/{group}/members/{key}")

    run = house.run(NAME, "users")

    assert (run["status"], run["error"]["code"]) == ("failed", "empty-listing")
    assert held(house, NAME) == people(tenant)


def test_a_manager_of_members_cannot_be_read(house: House, tenant: TestTenant) -> None:
    """Graph gives no managers with a group's members: asking for both is refused by name of the setting."""
    house.connect(tenant, NAME)
    body = {"enabled": True, "memberOf": "9c1f7a52-0000-4000-8000-000000000000", "moreFields": ["manager"]}

    answer = house.call("PUT", f"connections/{NAME}/syncs/users", body)

    assert (answer.status, [error["pointer"] for error in answer.json["errors"]]) == (422, ["/moreFields"])
