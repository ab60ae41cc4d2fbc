"""Devices in the simulated Graph, over HTTPS and through Microsoft's own SDK for Python."""

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from tests.cloud import NewTenant, TestTenant
from tests.graph import EVENTUAL, assert_error, delta, ids, items, pages
from tests.test_cloud_msgraph_sdk import DEPRECATED, run

READ = ["Device.Read.All", "User.Read.All"]
PROPERTIES = {
    "accountEnabled",
    "approximateLastSignInDateTime",
    "deletedDateTime",
    "deviceCategory",
    "deviceId",
    "deviceOwnership",
    "displayName",
    "enrollmentType",
    "id",
    "isCompliant",
    "isManaged",
    "managementType",
    "manufacturer",
    "mdmAppId",
    "model",
    "onPremisesSyncEnabled",
    "operatingSystem",
    "operatingSystemVersion",
    "physicalIds",
    "profileType",
    "registrationDateTime",
    "systemLabels",
    "trustType",
}


@pytest.fixture
def tenant(new_tenant: NewTenant) -> TestTenant:
    """A tenant of 60 devices and 10 users with an app that may read both."""
    return new_tenant(users=10, devices=60, roles=READ)


def devices_of(tenant: TestTenant, **values: Any) -> list[dict[str, Any]]:
    found = tenant.control.get("devices")
    return [device for device in found if all(device.get(name) == value for name, value in values.items())]


# Listing


def test_a_listed_device_has_all_its_properties(tenant):
    page = tenant.graph().get("/devices").json()
    truth = devices_of(tenant)

    assert page["@odata.context"] == f"{tenant.cloud.graph}/v1.0/$metadata#devices"
    assert {frozenset(device) for device in page["value"]} == {frozenset(PROPERTIES)}
    for shown, true in zip(page["value"], truth, strict=True):
        assert {name: value for name, value in shown.items() if value not in (None, [])} == {
            name: value for name, value in true.items() if name in PROPERTIES and value not in (None, [])
        }


def test_a_device_is_found_by_its_object_id_alone(tenant):
    graph, truth = tenant.graph(), devices_of(tenant)[3]

    assert graph.get(f"/devices/{truth['id']}?$select=deviceId").json()["deviceId"] == truth["deviceId"]
    assert truth["id"] != truth["deviceId"]
    assert_error(graph.get(f"/devices/{truth['deviceId']}"), 404, "Request_ResourceNotFound")


def test_pages_of_devices(new_tenant):
    tenant = new_tenant(devices=230, roles=READ)
    graph = tenant.graph()
    by_hundred, by_forty = pages(graph, "/devices?$select=id"), pages(graph, "/devices?$select=id&$top=40")

    assert [len(page["value"]) for page in by_hundred] == [100, 100, 30]
    assert [len(page["value"]) for page in by_forty] == [40] * 5 + [30]
    assert ids(items(by_hundred)) == ids(items(by_forty)) == ids(devices_of(tenant))


def test_a_filter_and_a_count(tenant):
    graph = tenant.graph()
    wanted = [device["id"] for device in devices_of(tenant, accountEnabled=True)]
    clause = quote("accountEnabled eq true")
    page = graph.get(f"/devices?$filter={clause}&$select=id&$count=true", headers=EVENTUAL).json()

    assert 0 < len(wanted) < 60
    assert (ids(page["value"]), page["@odata.count"]) == (wanted, len(wanted))
    assert graph.get(f"/devices/$count?$filter={clause}", headers=EVENTUAL).text == str(len(wanted))


def test_a_filter_by_registration(tenant):
    truth = devices_of(tenant)[7]
    page = tenant.graph().get(f"/devices?$filter=deviceId eq '{truth['deviceId']}'&$select=id").json()

    assert ids(page["value"]) == [truth["id"]]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/devices?$top=1000", 400, "Request_UnsupportedQuery"),
        ("/devices?$select=id,mail", 400, "BadRequest"),
        ("/devices?$filter=shoeSize eq '42'", 400, "Request_UnsupportedQuery"),
        ("/devices?$filter=accountEnabled ne true", 400, "Request_UnsupportedQuery"),
        ("/devices?$skip=3", 400, "Request_BadRequest"),
        ("/devices?$expand=memberOf", 501, "NotSimulated"),
        ("/devices?$expand=registeredOwners($select=shoeSize)", 400, "BadRequest"),
        ("/devices?$expand=registeredOwners(", 400, "Request_BadRequest"),
        ("/devices/$count", 400, "Request_BadRequest"),
        ("/devices/nothing", 404, "Request_ResourceNotFound"),
        ("/devices/nothing/registeredOwners", 404, "Request_ResourceNotFound"),
        ("/devices/delta?$expand=registeredOwners", 400, "Request_UnsupportedQuery"),
        ("/devices/delta?$select=registeredOwners", 400, "BadRequest"),
        ("/devices/delta?$filter=accountEnabled eq true", 400, "Request_BadRequest"),
    ],
)
def test_what_devices_do_not_support(tenant, path, status, code):
    assert_error(tenant.graph().get(path), status, code)


@pytest.mark.parametrize(
    "path", ["/devices", "/devices/$count", "/devices/delta", "/devices/x", "/devices/x/registeredOwners"]
)
def test_the_roles_for_devices(new_tenant, path):
    refused = new_tenant(roles=["User.Read.All", "GroupMember.Read.All"]).graph().get(path, headers=EVENTUAL)

    assert_error(refused, 403, "Authorization_RequestDenied")
    for role in ("Device.Read.All", "Directory.Read.All", "Device.ReadWrite.All"):
        assert new_tenant(roles=[role]).graph().get(path, headers=EVENTUAL).status_code in (200, 404)


def test_what_devices_cost(tenant):
    graph, one = tenant.graph(), devices_of(tenant)[0]["id"]
    costs = {
        "/devices": "1",
        "/devices?$expand=registeredOwners": "2",
        "/devices?$expand=registeredOwners&$top=10": "1",
        "/devices/delta": "1",
        f"/devices/{one}/registeredOwners": "1",
    }

    assert {path: graph.get(path).headers["x-ms-resource-unit"] for path in costs} == costs


def test_devices_in_a_batch(tenant):
    truth = devices_of(tenant)[:3]
    urls = [f"/devices/{device['id']}/registeredOwners?$select=id" for device in truth]
    answers = tenant.graph().batch(*urls, "/devices/nothing", "/devices?$top=2&$select=id")
    owners = [ids(answers[str(number)]["body"]["value"]) for number in (1, 2, 3)]

    assert owners == [device["registeredOwners"] for device in truth]
    assert answers["4"]["body"]["error"]["code"] == "Request_ResourceNotFound"
    assert len(answers["5"]["body"]["value"]) == 2


# Owners


def owners(tenant: TestTenant, device_id: str, select: str = "") -> tuple[list[Any], list[Any]]:
    """What an app sees of a device's owners: by $expand and by the owners' own address."""
    graph = tenant.graph()
    nested, query = (f"($select={select})", f"?$select={select}") if select else ("", "")
    expanded = graph.get(f"/devices/{device_id}?$expand=registeredOwners{nested}").json()["registeredOwners"]
    return expanded, graph.get(f"/devices/{device_id}/registeredOwners{query}").json()["value"]


def test_owners_of_a_device(tenant):
    people = tenant.control.get("users")[:2]
    device = tenant.control.post("devices", {"displayName": "SHARED", "registeredOwners": ids(people)})["id"]
    expected = [
        {"@odata.type": "#microsoft.graph.user", "id": user["id"], "displayName": user["displayName"]}
        for user in people
    ]

    assert owners(tenant, device, "id,displayName") == (expected, expected)
    assert owners(tenant, device)[0][0]["userPrincipalName"] == people[0]["userPrincipalName"]


def test_owners_that_the_app_may_not_read_are_ids(new_tenant):
    tenant = new_tenant(users=1, roles=["Device.Read.All"])
    [user] = ids(tenant.control.get("users"))
    device = tenant.control.post("devices", {"displayName": "LAPTOP", "registeredOwners": [user]})["id"]
    expected = [{"@odata.type": "#microsoft.graph.user", "id": user, "displayName": None}]

    assert owners(tenant, device, "displayName") == (expected, expected)


def test_an_expansion_shows_at_most_twenty_owners(new_tenant):
    tenant = new_tenant(users=25, roles=READ)
    everyone = ids(tenant.control.get("users"))
    device = tenant.control.post("devices", {"displayName": "SHARED", "registeredOwners": everyone})["id"]
    expanded, listed = owners(tenant, device, "id")

    assert (ids(expanded), ids(listed)) == (everyone[:20], everyone)


def test_an_owner_that_leaves_and_returns(tenant):
    user = tenant.control.get("users")[0]["id"]
    device = tenant.control.post("devices", {"displayName": "LAPTOP", "registeredOwners": [user]})["id"]
    tenant.control.delete(f"users/{user}")
    away = owners(tenant, device, "id")
    tenant.control.post(f"users/{user}/restore")
    back = owners(tenant, device, "id")
    tenant.control.post(f"users/{user}/purge")

    assert away == ([], [])
    assert [ids(every) for every in back] == [[user], [user]]
    assert tenant.control.get(f"devices/{device}")["registeredOwners"] == []


# Delta


def test_delta_of_devices(tenant):
    graph = tenant.graph()
    first, link = delta(graph, "/devices/delta?$select=displayName,model,isCompliant")
    nothing, link = delta(graph, link)
    renamed, cleared, gone = ids(devices_of(tenant))[:3]
    tenant.control.patch(f"devices/{renamed}", {"displayName": "RENAMED"})
    tenant.control.patch(f"devices/{cleared}", {"model": None})
    tenant.control.delete(f"devices/{gone}")
    made = tenant.control.post("devices", {"displayName": "NEW"})["id"]
    second = {device["id"]: device for device in delta(graph, link)[0]}

    assert (len(first), nothing) == (60, [])
    assert set(second) == {renamed, cleared, gone, made}
    assert second[renamed]["displayName"] == "RENAMED"
    assert second[renamed]["model"] == first[0]["model"]
    assert second[cleared]["model"] is None
    assert second[gone] == {"id": gone, "@removed": {"reason": "deleted"}}
    assert second[made] == {"id": made, "displayName": "NEW"}


def test_delta_does_not_tell_of_owners(tenant):
    graph, device = tenant.graph(), devices_of(tenant)[0]["id"]
    user = tenant.control.get("users")[-1]["id"]
    _, link = delta(graph, "/devices/delta")
    tenant.control.patch(f"devices/{device}", {"registeredOwners": [user]})
    changed, link = delta(graph, link)
    tenant.control.delete(f"devices/{device}/registeredOwners/{user}")

    assert (changed, delta(graph, link)[0]) == ([], [])


def test_delta_from_now_on(tenant):
    graph, device = tenant.graph(), devices_of(tenant)[0]["id"]
    nothing, link = delta(graph, "/devices/delta?$deltatoken=latest&$select=displayName")
    tenant.control.patch(f"devices/{device}", {"displayName": "RENAMED", "model": "Other"})

    assert (nothing, delta(graph, link)[0]) == ([], [{"id": device, "displayName": "RENAMED"}])


def test_delta_of_some_devices_in_pages(new_tenant):
    tenant = new_tenant(devices=450, roles=READ)
    graph, some = tenant.graph(), ids(devices_of(tenant))[100:110]
    every = pages(graph, "/devices/delta?$select=id")
    clause = " or ".join(f"id eq '{each}'" for each in some)

    assert [len(page["value"]) for page in every] == [200, 200, 50]
    assert ids(delta(graph, f"/devices/delta?$select=id&$filter={clause}")[0]) == some


def test_an_expired_delta_link_of_devices(tenant):
    graph = tenant.graph()
    _, link = delta(graph, "/devices/delta?$select=id")
    tenant.control.post("expire", {"delta": True})
    answer = graph.get(link)

    assert_error(answer, 410, "syncStateNotFound")
    assert answer.headers["Location"] == f"{tenant.cloud.graph}/v1.0/devices/delta?$deltatoken="
    assert len(delta(graph, answer.headers["Location"])[0]) == 60


def test_a_delta_link_is_for_its_own_kind(tenant):
    graph = tenant.graph()
    _, link = delta(graph, "/users/delta?$select=id")
    page = graph.get("/users/delta?$select=id", headers={"Prefer": "odata.maxpagesize=5"}).json()["@odata.nextLink"]

    assert_error(graph.get(link.replace("/users/", "/devices/")), 400, "Request_BadRequest")
    assert_error(graph.get(page.replace("/users/", "/devices/")), 400, "Request_BadRequest")


@pytest.mark.parametrize("seed", range(4))
def test_whoever_follows_delta_knows_the_devices(new_tenant, seed):
    """Whatever happens, with empty pages, replays and early removals."""
    tenant = new_tenant(users=5, devices=40, seed=1000 + seed, roles=READ)
    tenant.control.post("faults", {"untidyPaging": True, "seed": seed})
    graph, link = tenant.graph(), "/devices/delta?$select=displayName,isCompliant"
    known: dict[str, tuple[Any, Any]] = {}
    for turn in range(5):
        changed, link = delta(graph, link, Prefer="odata.maxpagesize=7")
        for device in changed:
            known.pop(device["id"], None)
            if "@removed" not in device:
                known[device["id"]] = (device["displayName"], device.get("isCompliant"))

        assert known == {each["id"]: (each["displayName"], each.get("isCompliant")) for each in devices_of(tenant)}
        kinds = ["patchDevice", "createDevice", "deleteDevice", "changeOwner"]
        tenant.control.post("mutate", {"count": 12, "seed": 10 * seed + turn, "kinds": kinds})


# What is there


def test_a_generated_tenant_has_devices_of_all_sorts(cloud, new_tenant):
    wanted = {"users": 20, "devices": 100, "seed": 4077, "roles": READ}
    first, again = cloud.generate(**wanted).control.get("devices"), new_tenant(**wanted).control.get("devices")
    names = [device["displayName"] for device in first]
    twins = [device for device in first if names.count(device["displayName"]) > 1]

    assert first == again
    assert len(twins) == 8
    assert {device["physicalIds"][0] for device in twins[:2]} == {twins[0]["physicalIds"][0]}
    assert len({device["deviceId"] for device in first}) == 100
    assert sum(not device["accountEnabled"] for device in first) == 5
    assert sum("approximateLastSignInDateTime" not in device for device in first) == 10
    assert sum(not device["registeredOwners"] for device in first) == 20


def test_the_control_endpoint_counts_and_refuses(tenant):
    control = tenant.control
    device = control.post("devices", {"displayName": "LAPTOP"})["id"]

    assert control.get()["devices"] == 61
    control.delete(f"devices/{device}")
    assert control.get()["devices"] == 60
    for method, path, body, status in [
        ("GET", f"devices/{device}", None, 404),
        ("DELETE", f"devices/{device}", None, 404),
        ("POST", "devices", {"model": "nameless"}, 422),
        ("POST", "devices", {"displayName": "LAPTOP", "registeredOwners": ["nobody"]}, 404),
        ("POST", "devices", {"displayName": "LAPTOP", "id": devices_of(tenant)[0]["id"]}, 409),
        ("DELETE", f"devices/{devices_of(tenant)[0]['id']}/registeredOwners/nobody", None, 404),
    ]:
        answer = control.session.request(method, f"{control.url}/{path}", json=body, timeout=60)

        assert (method, path, answer.status_code) == (method, path, status)
    assert control.get()["devices"] == 60


# Microsoft's SDK


@pytest.mark.filterwarnings(*[f"ignore:{message}:DeprecationWarning" for message in DEPRECATED])
def test_the_sdk_lists_devices_and_follows_their_delta(tenant):
    truth = {device["id"]: device for device in devices_of(tenant)}
    url = f"{tenant.cloud.graph}/v1.0/devices"

    async def work(graph: Any) -> tuple[Any, Any, Any, Any, dict[str, list[str]]]:
        listed = await graph.devices.with_url(f"{url}?$top=999&$expand=registeredOwners($select=id)").get()
        owners = await graph.devices.by_device_id(next(iter(truth))).registered_owners.get()
        first = await graph.devices.delta.with_url(f"{url}/delta?$select=displayName,operatingSystem").get()
        kinds = ["patchDevice", "createDevice", "deleteDevice"]
        changed = await asyncio.to_thread(tenant.control.post, "mutate", {"count": 9, "seed": 3, "kinds": kinds})
        second = await graph.devices.delta.with_url(first.odata_delta_link).get()
        return listed, owners, first, second, changed

    listed, owners, first, second, changed = run(tenant, work)

    assert {device.id: [owner.id for owner in device.registered_owners] for device in listed.value} == {
        key: device["registeredOwners"] for key, device in truth.items()
    }
    assert {
        device.id: (device.device_id, device.approximate_last_sign_in_date_time is None) for device in listed.value
    } == {key: (device["deviceId"], "approximateLastSignInDateTime" not in device) for key, device in truth.items()}
    assert [type(owner).__name__ for owner in owners.value] == ["User"]
    assert {device.id: device.operating_system for device in first.value} == {
        key: device["operatingSystem"] for key, device in truth.items()
    }
    removed = {device.id for device in second.value if "@removed" in device.additional_data}
    assert removed == set(changed["deleteDevice"])
    assert {device.id for device in second.value} == {each for every in changed.values() for each in every}
