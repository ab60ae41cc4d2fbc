"""Groups of the simulated Graph as the control endpoint, a generated tenant and a tenant file make them."""

import json

from tests.cloud import ROOT
from tests.graph import EVENTUAL, delta, ids
from tests.groups import READ, USER_CAST, gone, make, member, people, tenant

__all__ = ["tenant"]


def test_a_generated_tenant_has_contact_groups(new_tenant):
    tenant = new_tenant(users=100, contactGroups=7, contactMembers=90, roles=READ)
    level_zero, *below = tenant.control.get()["groups"]
    graph = tenant.graph()
    users = graph.get(f"/groups/{level_zero['id']}/transitiveMembers/{USER_CAST}&$top=999", headers=EVENTUAL).json()

    assert (level_zero["displayName"], level_zero["members"]) == ("Portal contacts", 7)
    assert [group["members"] for group in below] == [13] * 6 + [12]
    assert ids(graph.get(f"/groups/{level_zero['id']}/members").json()["value"]) == ids(below)
    assert sorted(ids(users["value"])) == sorted(people(tenant)[:90])


def test_contacts_without_groups_are_in_level_zero(new_tenant):
    tenant = new_tenant(users=5, contactMembers=3, roles=READ)
    [level_zero] = tenant.control.get()["groups"]

    assert ids(tenant.graph().get(f"/groups/{level_zero['id']}/members").json()["value"]) == people(tenant)[:3]


def test_the_control_endpoint_refuses(cloud, tenant):
    control = tenant.control
    group = make(tenant, "HR", people(tenant)[:1])
    too_many = {"generate": {"users": 1, "contactMembers": 2}}
    answer = cloud.control.session.post(f"{cloud.control.url}/tenants", json=too_many, timeout=60)

    assert answer.status_code == 422
    for method, path, body, status in [
        ("POST", "groups", {"description": "nameless"}, 422),
        ("POST", "groups", {"displayName": "HR", "id": group}, 409),
        ("POST", "groups", {"displayName": "HR", "members": ["nobody"]}, 404),
        ("POST", f"groups/{group}/members", {"ids": []}, 422),
        ("POST", f"groups/{group}/members", {"ids": ["nobody"]}, 404),
        ("DELETE", f"groups/{group}/members/nobody", None, 404),
        ("POST", f"groups/{group}/restore", None, 404),
        ("PATCH", "groups/nothing", {"displayName": "HR"}, 404),
        ("PATCH", f"groups/{group}", {"displayName": "Lost", "members": ["nobody"]}, 404),
    ]:
        refused = control.session.request(method, f"{control.url}/{path}", json=body, timeout=60)

        assert (method, path, refused.status_code) == (method, path, status)
    [kept] = control.get("groups")
    assert (kept["displayName"], kept["members"]) == ("HR", people(tenant)[:1])


def test_members_are_replaced_at_the_control_endpoint(tenant):
    one, two, three = people(tenant)[:3]
    group = make(tenant, "HR", [one, two])
    graph = tenant.graph()
    _, link = delta(graph, "/groups/delta?$select=members&$deltatoken=latest")
    tenant.control.patch(f"groups/{group}", {"members": [two, three]})

    assert delta(graph, link)[0] == [{"id": group, "members@delta": [gone("user", one), member("user", three)]}]
    assert tenant.control.get(f"groups/{group}")["members"] == [two, three]


def test_the_tenant_file(cloud):
    """The tree that shows what a contacts sync has to decide."""
    data = json.loads((ROOT / "local/tenants/contoso.json").read_text())
    ours = {"id": "6f1c2b7e-9a44-4d0e-8a55-3b1f0c9d2e99", "domain": "groups.contoso.onmicrosoft.com"}
    tenant = cloud.load(data | ours)
    tenant.control.patch(f"apps/{tenant.client_id}", {"roles": ["Directory.Read.All"]})
    graph = tenant.graph()

    def names(group_id: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for each in graph.get(f"/groups/{group_id}/members").json()["value"]:
            found.setdefault(each["@odata.type"].rpartition(".")[2], []).append(each["displayName"])
        return found

    level_zero, management, hr, board = tenant.control.get("groups")
    devices = graph.get("/devices?$expand=registeredOwners($select=id)").json()["value"]
    tenant.control.delete("")

    assert level_zero["displayName"] == "Portal contacts"
    assert [each["displayName"] for each in (management, hr, board)] == ["Management", "HR", "Board"]
    assert set(level_zero["members"]) & set(management["members"])
    assert set(management["members"]) & set(hr["members"])
    assert board["id"] in management["members"]
    assert [device["displayName"] for device in devices].count("ADELE-LAPTOP") == 2
    assert sum(device["approximateLastSignInDateTime"] is None for device in devices) == 1
    assert [device["displayName"] for device in devices if not device["accountEnabled"]] == ["OLD-PRINT-SERVER"]
    assert sorted(len(device["registeredOwners"]) for device in devices) == [0, 0, 1, 1, 1, 2]
