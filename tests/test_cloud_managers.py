"""Managers, extensions and licences of users in the simulated Graph, over HTTPS."""

from urllib.parse import quote

from tests.graph import EVENTUAL, assert_error, delta
from tests.groups import gone, member, people, tenant

__all__ = ["tenant"]


def test_the_manager_of_a_user(tenant):
    boss, other, user = people(tenant)[:3]
    graph = tenant.graph()
    _, link = delta(graph, "/users/delta?$select=displayName,manager&$deltatoken=latest")
    name = tenant.control.patch(f"users/{user}", {"manager": boss})["displayName"]
    given, link = delta(graph, link)
    tenant.control.patch(f"users/{user}", {"manager": other})
    moved, link = delta(graph, link)
    listed = graph.get("/users?$select=id&$expand=manager($select=id)").json()["value"]
    alone = graph.get(f"/users/{user}?$select=id&$expand=manager").json()["manager"]
    tenant.control.patch(f"users/{user}", {"manager": None})
    taken, link = delta(graph, link)

    assert given == [{"displayName": name, "id": user, "manager@delta": [member("user", boss)]}]
    assert moved == [{"displayName": name, "id": user, "manager@delta": [gone("user", boss), member("user", other)]}]
    assert {each["id"]: each.get("manager") for each in listed if "manager" in each} == {user: member("user", other)}
    assert "displayName" in alone
    assert taken == [{"displayName": name, "id": user, "manager@delta": [gone("user", other)]}]
    assert tenant.control.get(f"users/{user}")["manager"] is None


def test_a_manager_that_is_not_asked_for(tenant):
    boss, user = people(tenant)[:2]
    graph = tenant.graph()
    _, link = delta(graph, "/users/delta?$select=displayName&$deltatoken=latest")
    tenant.control.patch(f"users/{user}", {"manager": boss})

    assert delta(graph, link)[0] == []
    assert "manager" not in graph.get(f"/users/{user}").json()


def test_extensions_of_a_user(tenant):
    user, other = people(tenant)[:2]
    graph, badge = tenant.graph(), "extension_0123456789abcdef0123456789abcdef_badge"
    select = f"id,onPremisesExtensionAttributes,{badge}"
    _, link = delta(graph, f"/users/delta?$select={select}&$deltatoken=latest")
    changes = {"onPremisesExtensionAttributes": {"extensionAttribute7": "seven"}, badge: "B-7"}
    tenant.control.patch(f"users/{user}", changes)
    set_one = graph.get(f"/users/{user}?$select={select}").json()
    never_set = graph.get(f"/users/{other}?$select={select}").json()
    nulls = {f"extensionAttribute{number}": None for number in range(1, 16)}

    assert set_one["onPremisesExtensionAttributes"] == nulls | {"extensionAttribute7": "seven"}
    assert (set_one[badge], never_set["onPremisesExtensionAttributes"]) == ("B-7", nulls)
    assert badge not in never_set
    assert delta(graph, link)[0] == [
        {"id": user, "onPremisesExtensionAttributes": nulls | {"extensionAttribute7": "seven"}, badge: "B-7"}
    ]
    assert_error(graph.get("/users?$select=extension_badge"), 400, "BadRequest")


def test_users_with_licences(tenant):
    licensed = people(tenant)[2]
    sku = {"skuId": "6fd2c87f-b296-42f0-b197-1e91e994b900", "disabledPlans": []}
    tenant.control.patch(f"users/{licensed}", {"assignedLicenses": [sku]})
    graph, url = tenant.graph(), f"/users?$select=id,assignedLicenses&$filter={quote('assignedLicenses/$count ne 0')}"
    found = graph.get(f"{url}&$count=true", headers=EVENTUAL).json()

    assert found["value"] == [{"id": licensed, "assignedLicenses": [sku]}]
    assert_error(graph.get(url), 400, "Request_UnsupportedQuery")
