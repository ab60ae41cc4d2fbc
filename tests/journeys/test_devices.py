"""An admin has the tenant's devices in the portal, apart from its people, and sees which are one machine twice."""

from typing import Any

from tests.journeys.conftest import Customer

ROLES = ["Device.Read.All"]
FIELDS = ("deviceId", "displayName", "accountEnabled", "operatingSystem", "trustType", "isCompliant", "model")


def devices(customer: Customer, state: str = "active") -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in customer.portal.items(f"{customer.path}/devices?state={state}")}


def theirs(customer: Customer) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in customer.tenant.call("GET", "devices?state=live")}


def same_devices(customer: Customer) -> None:
    ours, real = devices(customer), theirs(customer)

    assert {key: [one[name] for name in FIELDS] for key, one in ours.items()} == {
        key: [one.get(name) for name in FIELDS] for key, one in real.items()
    }


def test_devices_are_kept_in_step_on_their_own(portal, connect) -> None:
    customer = connect(users=5, devices=60, roles=ROLES)
    customer.enable("devices")
    checked = portal.post(f"{customer.path}/check")
    assert (checked["status"], checked["permissions"]["missing"]) == ("confirmed", {})

    first = customer.sync("devices")
    same_devices(customer)
    assert (first["counts"]["created"], sum(first["counts"].values())) == (60, 60)
    assert first["graph"]["requests"] == 2
    ours = devices(customer)
    assert {key: one["owners"] for key, one in ours.items()} == {
        key: sorted(one["registeredOwners"]) for key, one in theirs(customer).items()
    }
    twins = {key: one["duplicates"] for key, one in ours.items() if one["duplicates"]}
    assert len(twins) == 4  # every 25th of the generated ones is registered twice
    assert all(twins[other] == [key] for key, (other,) in twins.items())
    assert {one["stale"] for one in ours.values() if one["approximateLastSignInDateTime"] is None} == {None}

    nothing = customer.sync("devices")
    assert (sum(nothing["counts"].values()), nothing["graph"]["requests"]) == (0, 1)

    kinds = ["patchDevice", "createDevice", "deleteDevice"]
    done = customer.tenant.call("POST", "mutate", {"count": 9, "seed": 1, "kinds": kinds})
    run = customer.sync("devices")
    same_devices(customer)
    assert run["counts"]["deleted"] == len(done["deleteDevice"])
    assert set(devices(customer, "deleted")) == set(done["deleteDevice"])

    customer.enable("devices", includeDisabled=False)
    customer.sync("devices")
    assert set(devices(customer)) == {key for key, one in theirs(customer).items() if one["accountEnabled"]}
    assert list(customer.users()) == []


def test_users_and_devices_each_have_their_schedule(portal, connect) -> None:
    customer = connect(users=5, devices=5, roles=["User.Read.All", *ROLES])
    customer.enable("users")
    customer.enable("devices", schedule={"mode": "interval", "every": "PT1H"})

    planned = {each["sync"]: each["nextRun"] for each in portal.items(f"{customer.path}/syncs")}

    assert planned["users"] is None
    assert planned["devices"] is not None
    assert customer.sync("users")["counts"]["created"] == 5
    assert devices(customer) == {}
    assert portal.send("POST", f"{customer.path}/syncs/contacts/runs").json()["code"] == "sync-disabled"
