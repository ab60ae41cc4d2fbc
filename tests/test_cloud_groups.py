"""Groups and their members in the simulated Graph, over HTTPS and through Microsoft's own SDK for Python."""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest
from kiota_abstractions.base_request_configuration import RequestConfiguration

from tests.cloud import ROOT, GraphSession, NewTenant, TestTenant
from tests.graph import EVENTUAL, assert_error, delta, ids, items, pages
from tests.test_cloud_msgraph_sdk import DEPRECATED, run

READ = ["GroupMember.Read.All", "User.Read.All"]
USER_CAST = "microsoft.graph.user?$count=true"


@pytest.fixture
def tenant(new_tenant: NewTenant) -> TestTenant:
    """A tenant of 10 users with an app that may read them and groups; it has no group yet."""
    return new_tenant(users=10, roles=READ)


def people(tenant: TestTenant) -> list[str]:
    return ids(tenant.control.get("users", state="live"))


def make(tenant: TestTenant, name: str, members: list[str], **properties: Any) -> str:
    """A group; returns its id."""
    return str(tenant.control.post("groups", {"displayName": name, "members": members, **properties})["id"])


def other_kinds(tenant: TestTenant) -> dict[str, str]:
    """A member of each kind that is no user, by kind."""
    return {
        "group": make(tenant, "HR", []),
        "device": tenant.control.post("devices", {"displayName": "KIOSK", "model": "Laptop 5"})["id"],
        "orgContact": tenant.control.post("orgContacts", {"displayName": "Front desk"})["id"],
    }


def member(kind: str, object_id: str, **properties: Any) -> dict[str, Any]:
    return {"@odata.type": f"#microsoft.graph.{kind}", "id": object_id, **properties}


def gone(kind: str, object_id: str) -> dict[str, Any]:
    return member(kind, object_id, **{"@removed": {"reason": "deleted"}})


# A group


def test_a_group(tenant):
    group = make(tenant, "Portal contacts", [], description="Ours", securityEnabled=True)
    graph = tenant.graph()
    every = graph.get(f"/groups/{group}").json()
    some = graph.get(f"/groups/{group}?$select=displayName,visibility").json()

    assert every["@odata.context"] == f"{tenant.cloud.graph}/v1.0/$metadata#groups/$entity"
    assert (every["id"], every["description"], every["groupTypes"]) == (group, "Ours", [])
    assert {name: value for name, value in some.items() if name != "@odata.context"} == {
        "displayName": "Portal contacts",
        "visibility": None,
    }


def test_groups_in_pages_and_by_name(tenant):
    made = [make(tenant, f"Team {number}", []) for number in range(5)]
    graph = tenant.graph()

    assert [ids(page["value"]) for page in pages(graph, "/groups?$top=3&$select=id")] == [made[:3], made[3:]]
    assert ids(graph.get("/groups?$filter=displayName eq 'team 2'").json()["value"]) == [made[2]]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/groups/nothing", 404, "Request_ResourceNotFound"),
        ("/groups/nothing/members", 404, "Request_ResourceNotFound"),
        ("/groups/nothing/transitiveMembers", 404, "Request_ResourceNotFound"),
        ("/groups/nothing/members/microsoft.graph.user?$count=true", 404, "Request_ResourceNotFound"),
        ("/groups/{group}?$select=mobilePhone", 400, "BadRequest"),
        ("/groups/{group}/members?$select=shoeSize", 400, "BadRequest"),
        ("/groups/{group}/members?$top=1000", 400, "Request_UnsupportedQuery"),
        ("/groups/{group}/members?$top=0", 400, "Request_UnsupportedQuery"),
        ("/groups/{group}/members?$skip=1", 400, "Request_BadRequest"),
        ("/groups/{group}/members?$filter=displayName eq 'Ann'", 400, "Request_UnsupportedQuery"),
        ("/groups/{group}/members?$expand=members", 400, "Request_UnsupportedQuery"),
        ("/groups/{group}/members/$count", 400, "Request_BadRequest"),
        ("/groups/{group}/members/microsoft.graph.user", 400, "Request_UnsupportedQuery"),
        ("/groups/{group}/members/microsoft.graph.user?$count=true", 400, "Request_UnsupportedQuery"),
        ("/groups/{group}/transitiveMembers/microsoft.graph.user?$count=true", 400, "Request_UnsupportedQuery"),
        ("/groups/{group}/members/microsoft.graph.printer?$count=true", 400, "BadRequest"),
        ("/groups/{group}/members/user?$count=true", 400, "BadRequest"),
        ("/groups/delta?$expand=members", 400, "Request_UnsupportedQuery"),
        ("/groups/delta?$top=5", 400, "Request_UnsupportedQuery"),
        ("/groups/delta?$filter=displayName eq 'HR'", 400, "Request_BadRequest"),
    ],
)
def test_what_groups_do_not_support(tenant, path, status, code):
    group = make(tenant, "HR", [])

    assert_error(tenant.graph().get(path.format(group=group)), status, code)


@pytest.mark.parametrize(
    "path",
    ["", "/x", "/x/members", "/x/members/$count", f"/x/members/{USER_CAST}", "/x/transitiveMembers", "/delta"],
)
def test_the_roles_for_groups(new_tenant, path):
    refused = new_tenant(roles=["User.Read.All", "Device.Read.All"]).graph().get(f"/groups{path}", headers=EVENTUAL)

    assert_error(refused, 403, "Authorization_RequestDenied")
    for role in ("GroupMember.Read.All", "Group.Read.All", "Directory.Read.All"):
        answer = new_tenant(roles=[role]).graph().get(f"/groups{path}", headers=EVENTUAL)

        assert answer.status_code in (200, 404)


def test_what_groups_cost(tenant):
    group = make(tenant, "HR", people(tenant))
    graph = tenant.graph()
    costs = {
        f"/groups/{group}": "1",
        f"/groups/{group}/members": "3",
        f"/groups/{group}/members?$select=id": "2",
        f"/groups/{group}/members?$select=id&$top=10": "1",
        f"/groups/{group}/members/{USER_CAST}": "3",
        f"/groups/{group}/transitiveMembers": "5",
        "/groups/delta": "1",
    }

    assert {path: graph.get(path, headers=EVENTUAL).headers["x-ms-resource-unit"] for path in costs} == costs


# Members


def test_members_are_of_all_kinds(new_tenant):
    tenant = new_tenant(users=1, roles=["Directory.Read.All"])
    [user] = tenant.control.get("users")
    others = other_kinds(tenant)
    group = make(tenant, "Portal contacts", [user["id"], *others.values()])
    page = tenant.graph().get(f"/groups/{group}/members?$select=id,displayName,mobilePhone,model").json()

    assert page["@odata.context"].endswith("$metadata#directoryObjects(id,displayName,mobilePhone,model)")
    assert page["value"] == [
        member("user", user["id"], displayName=user["displayName"], mobilePhone=user.get("mobilePhone")),
        member("group", others["group"], displayName="HR"),
        member("device", others["device"], displayName="KIOSK", model="Laptop 5"),
        member("orgContact", others["orgContact"], displayName="Front desk"),
    ]


def test_members_without_select_have_the_default_properties_of_their_kind(tenant):
    user = tenant.control.get("users")[0]
    [shown] = tenant.graph().get(f"/groups/{make(tenant, 'HR', [user['id']])}/members").json()["value"]

    assert shown["userPrincipalName"] == user["userPrincipalName"]
    assert {"jobTitle", "mail", "mobilePhone", "surname"} <= set(shown)
    assert "department" not in shown


@pytest.mark.parametrize(
    ("role", "readable"),
    [
        ("GroupMember.Read.All", {"group"}),
        ("User.Read.All", {"group", "user"}),
        ("Device.Read.All", {"group", "device"}),
        ("OrgContact.Read.All", {"group", "orgContact"}),
        ("Directory.Read.All", {"group", "user", "device", "orgContact"}),
    ],
)
def test_members_that_the_app_may_not_read_are_ids(new_tenant, role, readable):
    tenant = new_tenant(users=1, roles=["GroupMember.Read.All", role])
    group = make(tenant, "Portal contacts", [*people(tenant), *other_kinds(tenant).values()])
    value = tenant.graph().get(f"/groups/{group}/members?$select=displayName").json()["value"]

    assert {each["@odata.type"].rpartition(".")[2] for each in value if each["displayName"]} == readable
    assert [set(each) for each in value] == [{"@odata.type", "id", "displayName"}] * 4


def test_members_are_direct_ones_in_pages(new_tenant):
    tenant = new_tenant(users=1050, roles=READ)
    below = make(tenant, "Below", people(tenant)[:5])
    group = make(tenant, "Portal contacts", [*people(tenant), below])
    graph = tenant.graph()
    by_hundred = pages(graph, f"/groups/{group}/members?$select=id")
    by_most = pages(graph, f"/groups/{group}/members?$select=id&$top=999")

    assert [len(page["value"]) for page in by_hundred] == [100] * 10 + [51]
    assert [len(page["value"]) for page in by_most] == [999, 52]
    assert ids(items(by_hundred)) == ids(items(by_most)) == [*people(tenant), below]
    assert by_most[0]["@odata.nextLink"].startswith(f"{tenant.cloud.graph}/v1.0/groups/{group}/members?")


def test_members_that_come_and_go_while_they_are_listed(tenant):
    """A listing neither repeats nor loses those who stay."""
    everyone = people(tenant)
    group = make(tenant, "HR", everyone[:9])
    graph = tenant.graph()
    first = graph.get(f"/groups/{group}/members?$top=4&$select=id").json()
    for left in (everyone[0], everyone[6]):
        tenant.control.delete(f"groups/{group}/members/{left}")
    tenant.control.post(f"groups/{group}/members", {"ids": [everyone[9], everyone[0]]})
    rest = items(pages(graph, first["@odata.nextLink"]))

    assert ids(first["value"]) == everyone[:4]
    assert ids(rest) == [everyone[4], everyone[5], everyone[7], everyone[8], everyone[9], everyone[0]]


def test_a_soft_deleted_member_is_listed_again_when_it_is_restored(tenant):
    user, other = people(tenant)[:2]
    group = make(tenant, "HR", [user, other])
    graph = tenant.graph()
    tenant.control.delete(f"users/{user}")
    without = graph.get(f"/groups/{group}/members").json()["value"]
    tenant.control.post(f"users/{user}/restore")

    assert ids(without) == [other]
    assert ids(graph.get(f"/groups/{group}/members").json()["value"]) == [user, other]


def test_members_of_one_kind(tenant):
    users, others = tenant.control.get("users")[:4], other_kinds(tenant)
    group = make(tenant, "Portal contacts", [*others.values(), *ids(users)])
    graph = tenant.graph()
    for cast in ("microsoft.graph.user", "graph.user"):
        query = "$count=true&$select=id,department&$top=3"
        found = pages(graph, f"/groups/{group}/members/{cast}?{query}", **EVENTUAL)

        assert found[0]["@odata.context"].endswith("$metadata#users(id,department)")
        assert found[0]["@odata.count"] == 4
        assert items(found) == [{"id": user["id"], "department": user["department"]} for user in users]
    groups = graph.get(f"/groups/{group}/members/microsoft.graph.group?$count=true", headers=EVENTUAL).json()
    assert ids(groups["value"]) == [others["group"]]
    assert graph.get(f"/groups/{group}/members/$count", headers=EVENTUAL).text == "7"


def test_members_of_one_kind_by_filter(new_tenant):
    tenant = new_tenant(users=40, disabledShare=0.4, roles=READ)
    group = make(tenant, "Everyone", people(tenant))
    enabled = [user["id"] for user in tenant.control.get("users") if user["accountEnabled"]]
    url = f"/groups/{group}/members/{USER_CAST}&$select=id&$filter={quote('accountEnabled eq true')}"

    assert 0 < len(enabled) < 40
    assert ids(items(pages(tenant.graph(), url, **EVENTUAL))) == enabled


def test_members_of_one_kind_that_the_app_may_not_read(new_tenant):
    tenant = new_tenant(users=1, roles=["GroupMember.Read.All"])
    group = make(tenant, "HR", people(tenant))
    page = tenant.graph().get(f"/groups/{group}/members/{USER_CAST}&$select=mail", headers=EVENTUAL).json()

    assert page["value"] == [{"mail": None, "id": people(tenant)[0]}]


def test_a_microsoft_365_group_has_no_groups_to_cast_to(tenant):
    group = make(tenant, "Team", people(tenant), groupTypes=["Unified"])
    graph = tenant.graph()
    answer = graph.get(f"/groups/{group}/members/microsoft.graph.group?$count=true", headers=EVENTUAL)

    assert_error(answer, 400, "Request_UnsupportedQuery")
    assert graph.get(f"/groups/{group}/members/{USER_CAST}", headers=EVENTUAL).json()["@odata.count"] == 10


def test_transitive_members(tenant):
    """All levels in one list, each member once, even where groups contain each other."""
    one, two, three, four = people(tenant)[:4]
    deep = make(tenant, "Deep", [three, one])
    middle = make(tenant, "Middle", [two, deep])
    top = make(tenant, "Top", [one, middle, four])
    tenant.control.post(f"groups/{deep}/members", {"ids": [middle]})
    graph = tenant.graph()
    every = pages(graph, f"/groups/{top}/transitiveMembers?$select=displayName&$top=2")
    users = graph.get(f"/groups/{top}/transitiveMembers/{USER_CAST}&$select=id", headers=EVENTUAL).json()

    assert [len(page["value"]) for page in every] == [2, 2, 2]
    assert ids(items(every)) == [one, middle, four, two, deep, three]
    assert (ids(users["value"]), users["@odata.count"]) == ([one, four, two, three], 4)


# Hidden membership


def test_hidden_membership_needs_its_own_role(tenant):
    group = make(tenant, "Secret", people(tenant)[:2], visibility="HiddenMembership")
    around = make(tenant, "Around", [group])
    graph = tenant.graph()

    assert graph.get(f"/groups/{group}?$select=visibility").json()["visibility"] == "HiddenMembership"
    for path in ("members", f"members/{USER_CAST}", "members/$count", "transitiveMembers"):
        answer = graph.get(f"/groups/{group}/{path}", headers=EVENTUAL)

        assert_error(answer, 403, "Authorization_RequestDenied")
    assert ids(graph.get(f"/groups/{around}/transitiveMembers").json()["value"]) == [group]
    assert graph.get(f"/groups/{group}?$expand=members").json()["members"] == []
    shown = {each["id"]: "members@delta" in each for each in delta(graph, "/groups/delta?$select=members")[0]}
    assert shown == {group: False, around: True}


def test_hidden_membership_with_its_role(new_tenant):
    tenant = new_tenant(users=2, roles=[*READ, "Member.Read.Hidden"])
    group = make(tenant, "Secret", people(tenant), visibility="HiddenMembership")
    graph = tenant.graph()
    [shown] = delta(graph, "/groups/delta?$select=members")[0]

    assert ids(graph.get(f"/groups/{group}/members").json()["value"]) == people(tenant)
    assert ids(shown["members@delta"]) == people(tenant)
    tenant.control.patch(f"groups/{group}", {"visibility": "Private"})
    assert tenant.graph().get(f"/groups/{group}").json()["visibility"] == "Private"


# Delta


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


def test_groups_in_a_batch(tenant):
    user = people(tenant)[0]
    group = make(tenant, "HR", [user])
    urls = [f"/groups/{group}?$select=displayName", f"/groups/{group}/members?$select=id", "/groups/nothing/members"]
    answers = tenant.graph().batch(*urls)

    assert [answers[number]["status"] for number in ("1", "2", "3")] == [200, 200, 404]
    assert answers["1"]["body"]["displayName"] == "HR"
    assert answers["2"]["body"]["value"] == [member("user", user)]


# Managers, extensions, licences


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


# What is there


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


# Microsoft's SDK


@pytest.mark.filterwarnings(*[f"ignore:{message}:DeprecationWarning" for message in DEPRECATED])
def test_the_sdk_reads_a_group_its_members_and_their_delta(new_tenant):
    tenant = new_tenant(users=12, roles=["Directory.Read.All"])
    everyone, others = people(tenant), other_kinds(tenant)
    group = make(tenant, "Portal contacts", [*everyone[:5], *others.values()], visibility="Private")
    url = f"{tenant.cloud.graph}/v1.0/groups"

    async def work(graph: Any) -> tuple[Any, ...]:
        shown = await graph.groups.by_group_id(group).get()
        direct = await graph.groups.by_group_id(group).members.get()
        cast = await all_members(graph)
        first = await graph.groups.delta.with_url(f"{url}/delta?$select=displayName,members").get()
        await asyncio.to_thread(tenant.control.delete, f"groups/{group}/members/{everyone[0]}")
        await asyncio.to_thread(tenant.control.delete, f"groups/{others['group']}")
        second = await graph.groups.delta.with_url(first.odata_delta_link).get()
        return shown, direct, cast, first, second

    async def all_members(graph: Any) -> list[Any]:
        builder = graph.groups.by_group_id(group).members.graph_user
        query = type(builder).GraphUserRequestBuilderGetQueryParameters(count=True, top=2)
        configuration: RequestConfiguration[Any] = RequestConfiguration(query_parameters=query)
        configuration.headers.add("ConsistencyLevel", "eventual")
        page, found = await builder.get(configuration), []
        while page:
            found += page.value
            page = await builder.with_url(page.odata_next_link).get(configuration) if page.odata_next_link else None
        return found

    shown, direct, cast, first, second = run(tenant, work)
    portal = next(each for each in first.value if each.id == group)
    changes = {each.id: each.additional_data for each in second.value}

    assert (shown.display_name, shown.visibility) == ("Portal contacts", "Private")
    assert [type(each).__name__ for each in direct.value] == ["User"] * 5 + ["Group", "Device", "OrgContact"]
    assert [each.display_name for each in direct.value][5:] == ["HR", "KIOSK", "Front desk"]
    assert [each.id for each in cast] == everyone[:5]
    assert len(portal.additional_data["members@delta"]) == 8
    assert changes[others["group"]] == {"@removed": {"reason": "deleted"}}
    assert [str(each["id"]) for each in changes[group]["members@delta"]] == [everyone[0], others["group"]]
