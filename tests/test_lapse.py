"""A credential that lapses: the run fails once, nothing is deleted, nothing is tried until it is rotated, then all goes on."""

from datetime import timedelta
from typing import Any

import pytest

from storage.queues import SCHEDULED
from sync import collection, jobs
from sync.contacts import fetch
from tests.cloud import NewTenant, TestTenant
from tests.house import House
from tests.truth import held, people, tally

NAME = "primary"
HOURLY = {"schedule": {"mode": "interval", "every": "PT1H"}}
FREE = {"deletionGuard": {"maxCount": 1000, "maxPercent": 100}}
LATER = timedelta(minutes=65)


def lapse(house: House, tenant: TestTenant) -> None:
    """The app's secret expires, and with it the tokens that were made of it."""
    key = tenant.app["secrets"][0]["keyId"]
    tenant.control.patch(f"apps/{tenant.client_id}/secrets/{key}", {"endDateTime": "2020-01-01T00:00:00Z"})
    house.app._sign_ins.clear()


def revoke(house: House, tenant: TestTenant) -> None:
    """The app's secret is removed, and no token of it is left."""
    tenant.control.delete(f"apps/{tenant.client_id}/secrets/{tenant.app['secrets'][0]['keyId']}")
    house.app._sign_ins.clear()


def rotate(house: House, tenant: TestTenant) -> None:
    """The admin makes a new secret and enters it."""
    secret = tenant.control.post(f"apps/{tenant.client_id}/secrets")["value"]
    body = {"type": "clientSecret", "secretValue": secret}
    answer = house.call("PUT", f"connections/{NAME}/credential", body)
    assert answer.status == 200, answer.content


def status(house: House) -> str:
    return str(house.get(f"connections/{NAME}")["status"])


def runs(house: House, **query: str) -> list[dict[str, Any]]:
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    found: list[dict[str, Any]] = house.get(f"connections/{NAME}/runs?{asked}")["items"]
    return found


def tick(house: House) -> int:
    """Both timers fire, and what they started is worked through; how many slices that were."""
    jobs.tick(house.app, "directory")
    jobs.tick(house.app, "photos")
    return house.work()


def lapse_before_page(house: House, tenant: TestTenant, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The credential lapses just before a slice reads its `number`th page."""
    pages = 0
    whole = collection._STAGES["list"]

    def lapsing(mirror: Any, reading: Any, at: Any) -> Any:
        nonlocal pages
        pages += 1
        if pages == number:
            lapse(house, tenant)
            mirror.work.__dict__.pop("graph", None)  # a slice of another worker, which has no token yet
        return whole(mirror, reading, at)

    monkeypatch.setitem(collection._STAGES, "list", lapsing)


def test_lapse_in_the_middle_of_a_listing(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run fails with AADSTS7000222 and what it wrote stays; after the rotation the next run reads the rest only."""
    monkeypatch.setattr(collection, "PAGE", 5)
    tenant = new_tenant(users=30, guestShare=0)
    house.connect(tenant, NAME, users={**HOURLY, **FREE})
    with monkeypatch.context() as patch:
        lapse_before_page(house, tenant, patch, 4)
        run = house.run(NAME, "users")

    assert (run["status"], run["error"]["code"], tally(run)) == ("failed", "aadsts-7000222", {"created": 15})
    assert (status(house), len(house.users(NAME, state="active"))) == ("expired", 15)
    rotate(house, tenant)
    assert status(house) == "unchecked"
    tenant.control.post("counters")

    assert tick(house) > 0

    last = runs(house)[0]
    assert (last["status"], last["trigger"], tally(last)) == ("succeeded", "timer", {"created": 15})
    assert tenant.control.get("counters")["graph"]["requests"] == last["graph"]["requests"] == 3
    assert held(house, NAME) == people(tenant)
    assert tally(house.run(NAME, "users")) == {}


@pytest.mark.parametrize("trigger", ["manual", "timer"])
def test_a_change_while_it_was_lapsed(
    house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch, trigger: str
) -> None:
    """Hires, changes and leavers of the time without a credential are all taken in by the run that resumes and the
    one after it."""
    monkeypatch.setattr(collection, "PAGE", 5)
    tenant = new_tenant(users=30, guestShare=0)
    house.connect(tenant, NAME, users={**HOURLY, **FREE})
    with monkeypatch.context() as patch:
        lapse_before_page(house, tenant, patch, 4)
        house.run(NAME, "users")
    first, second = list(house.users(NAME))[:2]
    tenant.control.delete(f"users/{first}")
    tenant.control.patch(f"users/{second}", {"jobTitle": "Changed"})
    rotate(house, tenant)

    if trigger == "timer":
        tick(house)
    else:
        assert house.run(NAME, "users")["status"] == "succeeded"
    house.run(NAME, "users")

    assert held(house, NAME) == people(tenant)


def test_nothing_is_tried_while_it_is_lapsed(house: House, new_tenant: NewTenant) -> None:
    """The timers start no run and ask Entra for no token while the connection is expired; nothing is deleted."""
    tenant = new_tenant(users=15, guestShare=0)
    later = (house.clock() + timedelta(hours=12)).strftime("%H:%M")
    daily = {"schedule": {"mode": "daily", "at": later, "timeZone": "UTC"}}
    house.connect(tenant, NAME, users=HOURLY, photos=daily)
    assert house.run(NAME, "users")["status"] == "succeeded"
    lapse(house, tenant)
    house.clock.ahead += LATER
    tick(house)
    assert [run["error"]["code"] for run in runs(house, status="failed")] == ["aadsts-7000222"]
    assert status(house) == "expired"
    tenant.control.post("counters")
    count = len(runs(house))

    for _ in range(30):
        house.clock.ahead += LATER
        assert tick(house) == 0

    counters = tenant.control.get("counters")
    assert (counters["tokens"], counters["tokensRefused"], counters["graph"]["requests"]) == (0, 0, 0)
    assert len(runs(house)) == count
    assert house.app.queues._clients[SCHEDULED].get_queue_properties().approximate_message_count == 0
    assert len(house.users(NAME, state="active")) == 15
    assert house.get(f"connections/{NAME}/syncs/users")  # its settings stay
    rotate(house, tenant)
    assert tick(house) > 0
    assert {(run["sync"], run["status"]) for run in runs(house)[: len(runs(house)) - count]} == {
        ("users", "succeeded"),
        ("photos", "succeeded"),
    }


def test_a_revoked_secret(house: House, new_tenant: NewTenant) -> None:
    """A secret that worked and was removed is a lapse too: nothing is deleted or tried again, and a rotation heals it."""
    tenant = new_tenant(users=15, guestShare=0)
    house.connect(tenant, NAME, users=HOURLY)
    house.run(NAME, "users")
    revoke(house, tenant)

    run = house.run(NAME, "users", mode="full")

    assert (run["status"], run["error"]["code"], run["counts"]["deleted"]) == ("failed", "aadsts-7000215", 0)
    assert status(house) == "expired"
    assert house.call("POST", f"connections/{NAME}/check").json["status"] == "expired"
    assert len(house.users(NAME, state="active")) == 15
    house.clock.ahead += LATER
    assert tick(house) == 0
    rotate(house, tenant)
    assert status(house) == "unchecked"
    assert tick(house) > 0
    assert runs(house)[0]["status"] == "succeeded"


def test_a_secret_that_never_worked(house: House, new_tenant: NewTenant) -> None:
    """A wrong secret is no lapse: the connection has failed, and each scheduled run tells so."""
    tenant = new_tenant(users=15, guestShare=0)
    house.connect(tenant, NAME, users=HOURLY)
    revoke(house, tenant)

    run = house.run(NAME, "users")

    assert (run["error"]["code"], status(house)) == ("aadsts-7000215", "failed")
    house.clock.ahead += LATER
    assert tick(house) > 0


def test_manual_syncs_stay_manual(house: House, new_tenant: NewTenant) -> None:
    """A rotation wakes scheduled syncs only."""
    tenant = new_tenant(users=15, guestShare=0)
    house.connect(tenant, NAME, users={})
    house.run(NAME, "users")
    lapse(house, tenant)
    assert house.run(NAME, "users")["error"]["code"] == "aadsts-7000222"
    rotate(house, tenant)
    count = len(runs(house))

    assert (tick(house), len(runs(house))) == (0, count)


def test_a_full_run_is_not_resumed_by_a_delta(
    house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a full run broke off, the next full run goes on from there; a delta run does what a delta run does."""
    monkeypatch.setattr(collection, "PAGE", 5)
    tenant = new_tenant(users=30, guestShare=0)
    house.connect(tenant, NAME, users=FREE)
    house.run(NAME, "users")
    with monkeypatch.context() as patch:
        lapse_before_page(house, tenant, patch, 4)
        assert house.run(NAME, "users", mode="full")["status"] == "failed"
    rotate(house, tenant)
    tenant.control.delete(f"users/{next(iter(house.users(NAME)))}")

    assert tally(house.run(NAME, "users")) == {"deleted": 1}
    assert house.run(NAME, "users", mode="full")["status"] == "succeeded"
    assert held(house, NAME) == people(tenant)


def test_too_old_to_resume(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a week the checkpoint is no longer any good: the next run reads everything, and deletes who left."""
    monkeypatch.setattr(collection, "PAGE", 5)
    tenant = new_tenant(users=30, guestShare=0)
    house.connect(tenant, NAME, users=FREE)
    with monkeypatch.context() as patch:
        lapse_before_page(house, tenant, patch, 4)
        house.run(NAME, "users")
    gone = next(iter(house.users(NAME)))
    tenant.control.delete(f"users/{gone}")
    house.clock.ahead += jobs.RESUMABLE + timedelta(hours=1)
    rotate(house, tenant)

    run = house.run(NAME, "users")

    assert (run["status"], run["counts"]["deleted"], run["graph"]["requests"]) == ("succeeded", 1, 7)
    assert held(house, NAME) == people(tenant)


def test_settings_changed_while_it_was_lapsed(
    house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint of other settings is not gone on from."""
    monkeypatch.setattr(collection, "PAGE", 5)
    tenant = new_tenant(users=30, guestShare=0.4)
    house.connect(tenant, NAME, users=FREE)
    with monkeypatch.context() as patch:
        lapse_before_page(house, tenant, patch, 4)
        house.run(NAME, "users")
    rotate(house, tenant)
    house.enable(NAME, "users", includeGuests=True, **FREE)

    assert house.run(NAME, "users")["status"] == "succeeded"

    assert held(house, NAME) == people(tenant, guests=True)


def test_contacts(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lapse while the groups are read deletes nobody; the run after the rotation takes in everything."""
    monkeypatch.setattr(fetch, "PAGE", 5)
    tenant = new_tenant(users=20, guestShare=0, roles=["User.Read.All", "GroupMember.Read.All"])
    users = list(people(tenant))
    top = tenant.control.post("groups", {"displayName": "Top", "members": users})["id"]
    house.connect(tenant, NAME, contacts={"groupId": top, **HOURLY, **FREE})
    house.run(NAME, "contacts")
    tenant.control.delete(f"groups/{top}/members/{users[0]}")
    whole = fetch._behind

    def lapsing(_graph: Any, link: str | None) -> Any:
        lapse(house, tenant)
        return whole(house.app.graph(NAME, deadline=house.clock() + timedelta(minutes=1)), link)

    with monkeypatch.context() as patch:
        patch.setattr(fetch, "_behind", lapsing)
        run = house.run(NAME, "contacts")
    assert (run["status"], run["error"]["code"], run["counts"]["deleted"]) == ("failed", "aadsts-7000222", 0)
    assert status(house) == "expired"
    rotate(house, tenant)

    tick(house)

    assert tally(runs(house)[0]) == {"unchanged": 19, "deleted": 1}
