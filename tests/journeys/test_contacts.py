"""An admin gathers people in a group of Entra, and the portal has them as contacts, as the product page tells it."""

from typing import Any

import pytest

from local.portal import Tenant
from tests.journeys.conftest import Customer

ROLES = ["User.Read.All", "GroupMember.Read.All"]


def user(tenant: Tenant, name: str, **fields: Any) -> str:
    upn = f"{name.lower().replace(' ', '.')}@{tenant.app['appId']}.example"
    return str(tenant.call("POST", "users", {"userPrincipalName": upn, "displayName": name, **fields})["id"])


def group(tenant: Tenant, name: str, *members: str) -> str:
    return str(tenant.call("POST", "groups", {"displayName": name, "members": list(members)})["id"])


def contacts(customer: Customer, state: str = "active") -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in customer.portal.items(f"{customer.path}/contacts?azureState={state}")}


def groups(customer: Customer) -> dict[str, set[str]]:
    return {one["displayName"]: {each["displayName"] for each in one["groups"]} for one in contacts(customer).values()}


def log(customer: Customer, run: dict[str, Any]) -> set[tuple[str, str]]:
    lines = customer.portal.items(f"{customer.path}/runs/{run['id']}/log")
    return {(line["id"], line["reason"]) for line in lines}


def test_a_group_becomes_the_shared_contacts(portal, connect) -> None:
    customer = connect(users=0, roles=ROLES)
    tenant = customer.tenant
    tom = user(tenant, "Tom Smith", mobilePhone="+1 1", businessPhones=["+1 2"])
    richard, nested = user(tenant, "Richard Roe"), user(tenant, "Nested Person")
    board = group(tenant, "Board", nested)
    management, hr = group(tenant, "Management", richard, board), group(tenant, "HR")
    top = group(tenant, "Portal contacts", tom, management, hr)
    customer.enable("contacts", groupId=top)
    assert portal.post(f"{customer.path}/check")["status"] == "confirmed"

    first = customer.sync("contacts")
    assert groups(customer) == {"Tom Smith": set(), "Richard Roe": {"Management"}}
    assert (first["counts"]["created"], first["counts"]["skipped"], log(customer, first)) == (
        2,
        1,
        {(board, "nested-group")},
    )
    assert (contacts(customer)[tom]["mobilePhone"], "+1 2" in str(contacts(customer))) == ("+1 1", False)
    assert {one["displayName"] for one in portal.items(f"{customer.path}/contact-groups")} == {"Management", "HR"}
    assert customer.sync("contacts")["graph"]["requests"] == 2

    tenant.call("POST", f"groups/{hr}/members", {"ids": [richard]})
    tenant.call("POST", f"groups/{management}/members", {"ids": [tom]})
    tenant.call("PATCH", f"users/{tom}", {"mobilePhone": None})
    run = customer.sync("contacts")
    assert groups(customer) == {"Tom Smith": {"Management"}, "Richard Roe": {"Management", "HR"}}
    assert contacts(customer)[tom]["mobilePhone"] is None
    told = {(tom, "in-top-group-and-member-group"), (richard, "in-several-groups"), (board, "nested-group")}
    assert log(customer, run) == told

    tenant.call("DELETE", f"groups/{top}/members/{tom}")
    tenant.call("DELETE", f"groups/{management}/members/{tom}")
    customer.sync("contacts")
    assert (set(contacts(customer, "deleted")), contacts(customer, "deleted")[tom]["azureState"]) == ({tom}, "deleted")
    tenant.call("POST", f"groups/{top}/members", {"ids": [tom]})
    assert customer.sync("contacts")["counts"]["restored"] == 1
    assert contacts(customer, "deleted") == {}


def test_a_name_that_the_portal_has_already(portal, connect) -> None:
    customer = connect(users=0, roles=ROLES)
    zoe, ann = user(customer.tenant, "Zo\N{LATIN SMALL LETTER E WITH DIAERESIS} Roe"), user(customer.tenant, "Ann")
    customer.enable("contacts", groupId=group(customer.tenant, "Portal contacts", zoe, ann))
    own = portal.post(f"{customer.path}/contacts", {"displayName": "zoe  ROE", "mobilePhone": "5"})
    assert (own["azureId"], own["azureState"], own["groups"]) == (None, "none", [])

    run = portal.sync(customer.name, "contacts")
    assert (run["status"], run["counts"]["failed"], log(customer, run)) == ("partial", 1, {(zoe, "name-taken")})
    assert set(contacts(customer)) == {ann}
    path = f"{customer.path}/contacts/{own['id']}"
    assert portal.get(path) == own

    etag = portal.send("GET", path).headers["ETag"]
    changed = portal.send("PATCH", path, {"displayName": "Reception"}, headers={"If-Match": etag})
    assert (changed.status_code, changed.json()["mobilePhone"]) == (200, "5")
    assert portal.send("PATCH", path, {"mail": "x"}, headers={"If-Match": etag}).status_code == 412
    assert customer.sync("contacts")["counts"]["created"] == 1
    assert set(contacts(customer)) == {ann, zoe}
    assert portal.send("PATCH", f"{customer.path}/contacts/{zoe}", {"mail": "x"}).json()["code"] == "contact-is-synced"
    assert portal.send("DELETE", path).status_code == 204
    assert contacts(customer, "none") == {}


@pytest.mark.parametrize(
    ("trouble", "code"), [("gone", "group-not-found"), ("empty", "group-empty"), ("hidden", "group-hidden-membership")]
)
def test_each_trouble_with_the_group_is_told_plainly_and_deletes_nobody(portal, connect, trouble, code) -> None:
    customer = connect(users=0, roles=ROLES)
    ann = user(customer.tenant, "Ann")
    top = group(customer.tenant, "Portal contacts", ann)
    customer.enable("contacts", groupId=top)
    customer.sync("contacts")
    if trouble == "gone":
        customer.tenant.call("DELETE", f"groups/{top}")
    if trouble == "empty":
        customer.tenant.call("DELETE", f"groups/{top}/members/{ann}")
    if trouble == "hidden":
        customer.tenant.call("PATCH", f"groups/{top}", {"visibility": "HiddenMembership"})

    run = portal.sync(customer.name, "contacts")

    assert (run["status"], run["error"]["code"]) == ("failed", code)
    assert run["error"]["remedy"]
    assert set(contacts(customer)) == {ann}
