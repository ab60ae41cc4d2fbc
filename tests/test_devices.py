"""The devices sync against the simulated directory, and what the API says of devices beyond their fields."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync import collection
from sync.devices import MOST, STALE, duplicates, stale, traits
from sync.directory import DEVICE_FIELDS
from tests.cloud import NewTenant, TestTenant
from tests.house import House
from tests.truth import tally, told

NAME = "primary"
FREE = {"deletionGuard": {"maxCount": 1000, "maxPercent": 100}}
NOW = datetime(2026, 11, 22, tzinfo=UTC)
LAPTOP = {
    "deviceId": "6d0b2b1a-0000-0000-0000-000000000001",
    "displayName": "LAPTOP-1",
    "accountEnabled": True,
    "operatingSystem": "Windows",
    "operatingSystemVersion": "10.0.26100.1",
    "trustType": "AzureAd",
    "profileType": "RegisteredDevice",
    "isCompliant": True,
    "isManaged": True,
    "manufacturer": "Contoso",
    "model": "Book 5",
    "mdmAppId": "0000000a-0000-0000-c000-000000000000",
    "approximateLastSignInDateTime": "2026-11-20T08:00:00Z",
    "registrationDateTime": "2025-01-01T00:00:00Z",
    "deviceOwnership": "Company",
    "managementType": "MDM",
    "enrollmentType": "AzureDomainJoined",
    "deviceCategory": "Sales",
    "physicalIds": ["[HWID]:h:1"],
    "systemLabels": ["AzureResource"],
    "onPremisesSyncEnabled": None,
}


@pytest.fixture
def tenant(new_tenant: NewTenant) -> TestTenant:
    """A tenant with three users and no devices."""
    return new_tenant(users=3, guestShare=0, roles=["Device.Read.All", "User.Read.All"])


def add(tenant: TestTenant, name: str, **fields: Any) -> str:
    return str(tenant.control.post("devices", {"displayName": name, "deviceId": f"d-{name}", **fields})["id"])


def devices(house: House, **query: str) -> dict[str, dict[str, Any]]:
    asked = "&".join(f"{key}={value}" for key, value in {"top": "1000", **query}.items())
    return {item["id"]: item for item in house.get(f"connections/{NAME}/devices?{asked}")["items"]}


def log(house: House, run: dict[str, Any]) -> set[tuple[str, str, str]]:
    lines = house.get(f"connections/{NAME}/runs/{run['id']}/log?top=1000")["items"]
    return {(line["outcome"], line["reason"], line["id"]) for line in lines}


def test_every_field(house: House, tenant: TestTenant) -> None:
    """All fields are shown as Graph has them; the object id is the id, deviceId another; owners come with the listing."""
    users = [user["id"] for user in tenant.control.get("users")]
    laptop = add(tenant, "LAPTOP-1", **{**LAPTOP, "registeredOwners": users[:2]})
    bare = str(tenant.control.post("devices", {"displayName": "Bare"})["id"])
    house.connect(tenant, NAME, devices={})

    run = house.run(NAME, "devices")

    assert (run["status"], tally(run), run["graph"]["requests"]) == ("succeeded", {"created": 2}, 2)
    shown = devices(house)
    assert set(LAPTOP) == set(DEVICE_FIELDS)
    assert {name: shown[laptop][name] for name in LAPTOP} == LAPTOP
    assert (shown[laptop]["id"], shown[laptop]["owners"]) == (laptop, sorted(users[:2]))
    assert laptop != shown[laptop]["deviceId"]
    assert {name for name in LAPTOP if shown[bare][name] not in (None, [], "Bare")} == set()
    assert (shown[bare]["owners"], shown[bare]["stale"]) == ([], None)
    assert house.get(f"connections/{NAME}/devices/{laptop}") == shown[laptop]
    for wrong in (LAPTOP["deviceId"], "nonsense"):
        answer = house.call("GET", f"connections/{NAME}/devices/{wrong}")
        assert (answer.status, answer.json["code"]) == (404, "device-not-found")
    assert set(devices(house, search="laptop")) == set(devices(house, search=str(LAPTOP["deviceId"]))) == {laptop}


def test_delta(house: House, tenant: TestTenant) -> None:
    """A new device, a change with a cleared field, and a device that went are told once each; nothing new costs one
    request; owners of a changed device are read again, in one batch."""
    users = [user["id"] for user in tenant.control.get("users")]
    kept, changed, gone = (add(tenant, name, **{**LAPTOP, "displayName": name}) for name in ("Kept", "Changed", "Gone"))
    house.connect(tenant, NAME, devices=FREE)
    house.run(NAME, "devices")
    assert house.run(NAME, "devices")["graph"]["requests"] == 1
    new = add(tenant, "New", registeredOwners=[users[2]])
    tenant.control.patch(f"devices/{changed}", {"operatingSystemVersion": "10.1", "deviceCategory": None})
    tenant.control.post(f"devices/{changed}/registeredOwners", {"ids": [users[0]]})
    tenant.control.delete(f"devices/{gone}")
    cursor = house.changes(NAME)[1]

    run = house.run(NAME, "devices")

    assert (tally(run), log(house, run)) == (
        {"created": 1, "updated": 1, "deleted": 1},
        {("deleted", "left", gone)},
    )
    assert run["graph"]["requests"] == 2
    shown = devices(house)
    assert (shown[new]["owners"], shown[changed]["owners"], shown[kept]["owners"]) == ([users[2]], [users[0]], [])
    assert (shown[changed]["operatingSystemVersion"], shown[changed]["deviceCategory"]) == ("10.1", None)
    assert shown[changed]["manufacturer"] == "Contoso"
    assert (shown[gone]["state"], set(devices(house, state="deleted"))) == ("deleted", {gone})
    assert shown[gone]["deletedAt"] is not None
    stories = {("device", new): ["created"], ("device", changed): ["updated"], ("device", gone): ["deleted"]}
    assert told(house.changes(NAME, cursor)[0]) == stories
    assert tally(house.run(NAME, "devices", mode="full")) == {"unchanged": 3}


def test_owners_alone_come_with_a_full_read(house: House, tenant: TestTenant) -> None:
    """Delta does not track owners: a new owner is seen by the next full run, or with the device's next change."""
    user = tenant.control.get("users")[0]["id"]
    device = add(tenant, "PC")
    house.connect(tenant, NAME, devices={})
    house.run(NAME, "devices")
    tenant.control.post(f"devices/{device}/registeredOwners", {"ids": [user]})
    assert tally(house.run(NAME, "devices")) == {}

    assert tally(house.run(NAME, "devices", mode="full")) == {"updated": 1}

    assert devices(house)[device]["owners"] == [user]


@pytest.mark.parametrize("mode", ["delta", "full"])
def test_disabled(house: House, tenant: TestTenant, mode: str) -> None:
    """Disabled devices are taken in, or left out by setting; one that is disabled then goes, and comes back enabled."""
    one, other = add(tenant, "One", accountEnabled=False), add(tenant, "Other", accountEnabled=True)
    house.connect(tenant, NAME, devices=FREE)
    house.run(NAME, "devices")
    assert {key: shown["accountEnabled"] for key, shown in devices(house).items()} == {one: False, other: True}

    house.enable(NAME, "devices", includeDisabled=False, **FREE)
    house.run(NAME, "devices")
    assert set(devices(house, state="active")) == {other}
    tenant.control.patch(f"devices/{one}", {"accountEnabled": True})
    assert house.run(NAME, "devices", mode=mode)["counts"]["restored"] == 1
    tenant.control.patch(f"devices/{other}", {"accountEnabled": False})
    run = house.run(NAME, "devices", mode=mode)
    assert (run["counts"]["deleted"], set(devices(house, state="active"))) == (1, {one})


def test_pages(house: House, tenant: TestTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing of several pages holds every device once; delta changes of more than 20 devices take two batches."""
    monkeypatch.setattr(collection, "PAGE", 7)
    made = {add(tenant, f"PC {number}") for number in range(25)}
    house.connect(tenant, NAME, devices=FREE)
    run = house.run(NAME, "devices")
    assert (tally(run), set(devices(house)), run["graph"]["requests"]) == ({"created": 25}, made, 5)
    for key in made:
        tenant.control.patch(f"devices/{key}", {"model": "New"})

    run = house.run(NAME, "devices")

    assert (tally(run), run["graph"]["requests"], run["graph"]["batched"]) == ({"updated": 25}, 3, 25)


def test_its_own_schedule(house: House, tenant: TestTenant) -> None:
    """Users and devices each have their schedule: one by hand only while the other runs by time."""
    add(tenant, "PC")
    hourly = {"schedule": {"mode": "interval", "every": "PT1H"}}
    house.connect(tenant, NAME, users={}, devices=hourly)

    syncs = {one["sync"]: one["nextRun"] for one in house.get(f"connections/{NAME}/syncs")["items"]}

    assert syncs["users"] is None
    assert syncs["devices"] is not None
    assert house.run(NAME, "users")["status"] == "succeeded"
    assert devices(house) == {}


def test_without_the_permission(house: House, new_tenant: NewTenant) -> None:
    """Without the permission the run fails with a finding and deletes nothing."""
    tenant = new_tenant(users=0, roles=["User.Read.All"])
    add(tenant, "PC")
    house.connect(tenant, NAME, devices={})

    run = house.run(NAME, "devices")

    assert (run["status"], run["error"]["code"]) == ("failed", "graph-forbidden")
    assert "Device.Read.All" in run["error"]["remedy"]


def test_duplicates_are_shown(house: House, tenant: TestTenant) -> None:
    """One machine that is registered and hybrid joined shows each beside the other, until one of them is gone."""
    joined = add(tenant, "PC-7", operatingSystem="Windows", trustType="ServerAd")
    registered = add(tenant, "pc-7", operatingSystem="Windows", trustType="Workplace")
    add(tenant, "PC-8", operatingSystem="Windows", trustType="Workplace")
    house.connect(tenant, NAME, devices=FREE)
    house.run(NAME, "devices")

    shown = devices(house)
    assert {key: one["duplicates"] for key, one in shown.items() if one["duplicates"]} == {
        joined: [registered],
        registered: [joined],
    }
    _, cursor = house.changes(NAME)
    tenant.control.delete(f"devices/{registered}")

    run = house.run(NAME, "devices")

    assert all(one["duplicates"] == [] for one in devices(house).values())
    assert tally(run) == {"deleted": 1}
    assert told(house.changes(NAME, cursor)[0]) == {("device", registered): ["deleted"]}


# --- pure -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("devices", "same"),
    [
        ([{"physicalIds": ["[HWID]:1"]}, {"physicalIds": ["[HWID]:1"]}], True),
        ([{"physicalIds": ["[ZTDID]:1", "[GID]:2"]}, {"physicalIds": ["[ZTDID]:1"]}], True),
        ([{"physicalIds": ["[GID]:1"]}, {"physicalIds": ["[GID]:1"]}], False),  # says nothing of hardware
        ([{"physicalIds": ["[HWID]:1"]}, {"physicalIds": ["[HWID]:2"]}], False),
        ([{"physicalIds": None}, {}], False),
        (
            [
                {"displayName": "A", "operatingSystem": "Windows", "trustType": "ServerAd"},
                {"displayName": "a", "operatingSystem": "windows", "trustType": "Workplace"},
            ],
            True,
        ),
        (
            [
                {"displayName": "iPhone", "operatingSystem": "iOS", "trustType": "Workplace"},
                {"displayName": "iPhone", "operatingSystem": "iOS", "trustType": "Workplace"},
            ],
            False,  # two people's phones
        ),
        ([{"displayName": "A", "trustType": "ServerAd"}, {"displayName": "A", "trustType": "Workplace"}], False),
    ],
)
def test_duplicates(devices: list[dict[str, Any]], same: bool) -> None:
    """The same hardware, or the same name and system under another kind of join, is the same machine."""
    found = duplicates({"a": traits(devices[0]), "b": traits(devices[1])})

    assert found == ({"a": ["b"], "b": ["a"]} if same else {})


def test_a_trait_that_many_share_tells_nothing() -> None:
    """A name that everybody's device has makes none of them a duplicate."""
    phones = [{"displayName": "iPhone", "operatingSystem": "iOS", "trustType": one} for one in ("Workplace", "AzureAd")]

    assert len(duplicates({str(number): traits(phones[number % 2]) for number in range(MOST)})) == MOST
    assert duplicates({str(number): traits(phones[number % 2]) for number in range(MOST + 1)}) == {}


@given(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.fixed_dictionaries(
            {
                "displayName": st.sampled_from([None, "A", "a", "B"]),
                "operatingSystem": st.sampled_from([None, "Windows"]),
                "trustType": st.sampled_from([None, "Workplace", "ServerAd"]),
                "physicalIds": st.lists(st.sampled_from(["[HWID]:1", "[HWID]:2", "[GID]:1"])),
            }
        ),
    )
)
def test_duplicates_go_both_ways(found: dict[str, dict[str, Any]]) -> None:
    """None is its own duplicate, none is named twice, and each sees whoever sees it."""
    others = duplicates({key: traits(device) for key, device in found.items()})

    assert set(others) <= set(found)
    assert all(one not in others[one] and len(set(others[one])) == len(others[one]) for one in others)
    assert all(one in others[other] for one in others for other in others[one])


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (None, None),
        ("", None),
        ("nonsense", None),
        ("2026-11-01T00:00:00", None),  # without a zone it is no instant
        ((NOW - STALE).isoformat(), False),
        ((NOW - STALE - timedelta(seconds=1)).isoformat(), True),
        ("2026-11-20T08:00:00Z", False),
    ],
)
def test_stale(seen: str | None, expected: bool | None) -> None:
    """More than 90 days without a sign-in is stale; a sign-in that was never seen proves nothing."""
    assert stale({"approximateLastSignInDateTime": seen}, NOW) is expected


# --- faults ---------------------------------------------------------------------------------------------------------

STORM = {"rate429": 0.1, "rate503": 0.1, "rateReset": 0.1, "rateBatchItem": 0.3, "retriedPageLinksFail": True}


@pytest.mark.parametrize("seed", range(2))
def test_faults(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """With 30% of requests and of batch items refused or cut: the same devices, each told of once, nobody doubled."""
    monkeypatch.setattr(collection, "PAGE", 9)
    tenant = new_tenant(users=5, devices=60, guestShare=0, roles=["Device.Read.All", "User.Read.All"])
    storm = {**STORM, "untidyPaging": True, "retryAfter": {"style": "decimal", "seconds": 0.02}, "seed": seed}
    tenant.control.post("faults", storm)
    house.connect(tenant, NAME, devices=FREE)
    for step in range(3):
        run = house.run(NAME, "devices")
        assert (run["status"], run["error"]) == ("succeeded", None)
        live = {one["id"]: one for one in tenant.control.get("devices", state="live")}
        shown = devices(house, state="active")
        assert set(shown) == set(live)
        assert all(shown[key][name] == live[key].get(name) for key in live for name in ("displayName", "isCompliant"))
        kinds = ["patchDevice", "createDevice", "deleteDevice"]
        tenant.control.post("mutate", {"count": 12, "seed": 10 * seed + step, "kinds": kinds})
    stories = told(house.changes(NAME)[0])
    assert all(story[0] == "created" and story.count("created") == 1 for story in stories.values())
    counters = tenant.control.get("counters")["graph"]
    assert counters["faulted"] > 10
    assert counters["retryViolations"] == 0
