"""Rounds of groups/delta in the simulated Graph, over HTTPS."""

from typing import Any

import pytest

from tests.cloud import GraphSession
from tests.graph import assert_error, delta, ids, items, pages
from tests.groups import READ, gone, make, member, people, tenant

__all__ = ["tenant"]


def test_delta_of_groups_and_members(tenant):
    one, two, three = people(tenant)[:3]
    below = make(tenant, "Below", [])
    group = make(tenant, "Portal contacts", [one, below])
    other = make(tenant, "Other", [one])
    graph = tenant.graph()
    first, link = delta(graph, "/groups/delta?$select=displayName,members")
    nothing, link = delta(graph, link)
    tenant.control.post(f"groups/{group}/members", {"ids": [two, three]})
    tenant.control.delete(f"groups/{group}/members/{one}")
    tenant.control.delete(f"groups/{group}/members/{three}")
    tenant.control.patch(f"groups/{other}", {"displayName": "Renamed"})
    second, link = delta(graph, link)

    assert first == [
        {"displayName": "Below", "id": below},
        {
            "displayName": "Portal contacts",
            "id": group,
            "members@delta": [member("user", one), member("group", below)],
        },
        {"displayName": "Other", "id": other, "members@delta": [member("user", one)]},
    ]
    assert nothing == []
    assert second == [
        {
            "displayName": "Portal contacts",
            "id": group,
            "members@delta": [member("user", two), gone("user", three), gone("user", one)],
        },
        {"displayName": "Renamed", "id": other},
    ]


def test_delta_of_groups_with_return_minimal(tenant):
    [one, *_] = people(tenant)
    group = make(tenant, "Portal contacts", [])
    graph = tenant.graph()
    _, link = delta(graph, "/groups/delta?$select=displayName,description,members")
    tenant.control.post(f"groups/{group}/members", {"ids": [one]})

    changed, _ = delta(graph, link, Prefer="return=minimal")
    assert changed == [{"id": group, "members@delta": [member("user", one)]}]


def test_delta_without_members_does_not_tell_of_them(tenant):
    [one, two, *_] = people(tenant)
    group = make(tenant, "Portal contacts", [one])
    graph = tenant.graph()
    first, link = delta(graph, "/groups/delta?$select=displayName")
    tenant.control.post(f"groups/{group}/members", {"ids": [two]})

    assert first == [{"displayName": "Portal contacts", "id": group}]
    assert delta(graph, link)[0] == []


def test_delta_of_some_groups(tenant):
    made = [make(tenant, f"Team {number}", []) for number in range(60)]
    graph = tenant.graph()
    clauses = [f"id eq '{each}'" for each in made]
    some, link = delta(graph, f"/groups/delta?$select=displayName,members&$filter={' or '.join(clauses[:50])}")
    for group in (made[0], made[55]):
        tenant.control.post(f"groups/{group}/members", {"ids": people(tenant)[:1]})

    assert ids(some) == made[:50]
    assert ids(delta(graph, link)[0]) == [made[0]]
    assert_error(graph.get(f"/groups/delta?$filter={' or '.join(clauses[:51])}"), 400, "Request_BadRequest")


def test_a_soft_deleted_member_stays_one_until_it_is_gone_for_good(tenant):
    user, other = people(tenant)[:2]
    group = make(tenant, "HR", [user, other])
    graph = tenant.graph()
    _, link = delta(graph, "/groups/delta?$select=members")
    for each in (user, other):
        tenant.control.delete(f"users/{each}")
    away, link = delta(graph, link)
    [anew], _ = delta(graph, "/groups/delta?$select=members")
    tenant.control.post(f"users/{user}/purge")
    at_last, _ = delta(graph, link)
    tenant.control.post("clock", {"advanceSeconds": 30 * 86400 + 1})
    [after_thirty_days], _ = delta(tenant.graph(), "/groups/delta?$select=members")

    assert away == []
    assert anew["members@delta"] == [member("user", user), member("user", other)]
    assert at_last == [{"id": group, "members@delta": [gone("user", user)]}]
    assert after_thirty_days == {"id": group}


def test_a_deleted_group(tenant):
    """A security group is gone for good, a Microsoft 365 group can be restored with its members."""
    user = people(tenant)[0]
    security = make(tenant, "HR", [user])
    unified = make(tenant, "Team", [user], groupTypes=["Unified"])
    around = make(tenant, "Around", [security, unified])
    graph = tenant.graph()
    _, link = delta(graph, "/groups/delta?$select=displayName,members")
    tenant.control.delete(f"groups/{security}")
    tenant.control.delete(f"groups/{unified}")
    away, link = delta(graph, link)
    tenant.control.post(f"groups/{unified}/restore")
    back, link = delta(graph, link)
    tenant.control.post(f"groups/{unified}/purge")
    at_last, _ = delta(graph, link)

    assert away == [
        {"id": security, "@removed": {"reason": "deleted"}},
        {"displayName": "Around", "id": around, "members@delta": [gone("group", security)]},
        {"id": unified, "@removed": {"reason": "changed"}},
    ]
    assert back == [{"displayName": "Team", "id": unified, "members@delta": [member("user", user)]}]
    assert at_last == [
        {"id": unified, "@removed": {"reason": "deleted"}},
        {"displayName": "Around", "id": around, "members@delta": [gone("group", unified)]},
    ]
    assert_error(graph.get(f"/groups/{unified}/members"), 404, "Request_ResourceNotFound")


def test_a_large_group_is_repeated_over_pages(new_tenant):
    tenant = new_tenant(users=450, roles=READ)
    everyone = people(tenant)
    small, large = make(tenant, "Small", everyone[:50]), make(tenant, "Large", [])
    graph = tenant.graph()
    _, link = delta(graph, "/groups/delta?$select=displayName,members&$deltatoken=latest")
    tenant.control.post(f"groups/{large}/members", {"ids": everyone})
    anew, changed = pages(graph, "/groups/delta?$select=displayName,members"), pages(graph, link)

    def sizes(found: list[dict[str, Any]]) -> list[list[tuple[str, int]]]:
        return [[(each["id"], len(each["members@delta"])) for each in page["value"]] for page in found]

    def members(found: list[dict[str, Any]]) -> list[str]:
        return [each for item in items(found) if item["id"] == large for each in ids(item["members@delta"])]

    assert sizes(anew) == [[(small, 50), (large, 150)], [(large, 200)], [(large, 100)]]
    assert sizes(changed) == [[(large, 200)], [(large, 200)], [(large, 50)]]
    assert members(anew) == members(changed) == everyone
    assert {item["displayName"] for item in items(anew)} == {"Small", "Large"}


def test_a_full_page_of_members_ends_with_its_group(new_tenant):
    tenant = new_tenant(users=200, roles=READ)
    first, second = make(tenant, "First", people(tenant)), make(tenant, "Second", [])
    found = pages(tenant.graph(), "/groups/delta?$select=displayName,members")

    assert [ids(page["value"]) for page in found] == [[first], [second]]


def followed(graph: GraphSession, known: dict[str, tuple[str, set[str]]], link: str) -> str:
    """Bring what is known of groups, by id their names and members, up to date; returns the next delta link."""
    changed, following = delta(graph, link, Prefer="odata.maxpagesize=3")
    for item in changed:
        if "@removed" in item:
            known.pop(item["id"], None)
            continue
        members = known.get(item["id"], ("", set()))[1]
        for each in item.get("members@delta", []):
            (members.discard if "@removed" in each else members.add)(each["id"])
        known[item["id"]] = (item["displayName"], members)
    return following


@pytest.mark.parametrize("seed", range(6))
def test_whoever_follows_delta_knows_the_groups(new_tenant, seed):
    """Whatever happens, with empty pages, replays and early removals."""
    tenant = new_tenant(users=300, contactGroups=6, contactMembers=290, seed=2000 + seed, roles=READ)
    tenant.control.post("faults", {"untidyPaging": True, "seed": seed})
    graph, link = tenant.graph(), "/groups/delta?$select=displayName,members"
    known: dict[str, tuple[str, set[str]]] = {}
    kinds = ["patchGroup", "createGroup", "deleteGroup", "addMember", "removeMember", "delete", "restore"]
    for turn in range(5):
        link = followed(graph, known, link)

        assert known == {
            group["id"]: (group["displayName"], set(group["members"])) for group in tenant.control.get("groups")
        }
        tenant.control.post("mutate", {"count": 25, "seed": 10 * seed + turn, "kinds": kinds})
