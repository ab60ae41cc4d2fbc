"""Groups and their members in the simulated Graph, over HTTPS and through Microsoft's own SDK for Python."""

import asyncio
from typing import Any
from urllib.parse import quote

import pytest
from kiota_abstractions.base_request_configuration import RequestConfiguration

from tests.graph import EVENTUAL, assert_error, delta, ids, items, pages
from tests.groups import READ, USER_CAST, make, member, other_kinds, people, tenant
from tests.test_cloud_msgraph_sdk import DEPRECATED, run

__all__ = ["tenant"]

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


def test_groups_in_a_batch(tenant):
    user = people(tenant)[0]
    group = make(tenant, "HR", [user])
    urls = [f"/groups/{group}?$select=displayName", f"/groups/{group}/members?$select=id", "/groups/nothing/members"]
    answers = tenant.graph().batch(*urls)

    assert [answers[number]["status"] for number in ("1", "2", "3")] == [200, 200, 404]
    assert answers["1"]["body"]["displayName"] == "HR"
    assert answers["2"]["body"]["value"] == [member("user", user)]


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
