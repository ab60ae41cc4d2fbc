"""The users sync against the simulated directory: who is held, what the feed tells, and what it costs."""

import json
from datetime import timedelta

import pytest

from sync.graph.client import Page
from sync.people import USER_FIELDS
from tests.cloud import NewTenant
from tests.house import UNGUARDED, House
from tests.listings import change_pages, log, paged, requests
from tests.truth import albums, blobs, held, in_order, kinds, people, pictures, tally, told


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


def test_permission_granted_after_a_refused_run(house: House, new_tenant: NewTenant) -> None:
    """A run that Graph forbade makes the next one sign in afresh, whose token shows what was granted meanwhile."""
    tenant = new_tenant(users=3, guestShare=0, roles=[])
    name = house.connect(tenant, users={})
    assert house.run(name, "users")["status"] == "failed"
    tenant.control.patch(f"apps/{tenant.client_id}", {"roles": ["User.Read.All"]})

    assert tally(house.run(name, "users")) == {"created": 3}
