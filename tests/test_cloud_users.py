"""Users in the simulated Graph, over HTTPS: listed, filtered, one by one, by whoever may."""

from urllib.parse import parse_qs, quote, urlsplit
from uuid import uuid4

import pytest

from tests.graph import EVENTUAL, assert_error, ids, items, pages, users_of

DEFAULT_PROPERTIES = {
    "businessPhones",
    "displayName",
    "givenName",
    "id",
    "jobTitle",
    "mail",
    "mobilePhone",
    "officeLocation",
    "preferredLanguage",
    "surname",
    "userPrincipalName",
}


def test_users_have_the_default_properties(tenant):
    page = tenant.graph().get("/users").json()

    assert page["@odata.context"] == f"{tenant.cloud.graph}/v1.0/$metadata#users"
    assert len(page["value"]) == 30
    assert {frozenset(user) for user in page["value"]} == {frozenset(DEFAULT_PROPERTIES)}


def test_selected_properties_that_were_never_set_are_null(new_tenant):
    tenant = new_tenant(users=0)
    tenant.control.post("users", {"userPrincipalName": "ann@contoso.com", "displayName": "Ann"})
    page = tenant.graph().get("/users?$select=displayName,jobTitle,businessPhones,accountEnabled").json()

    assert page["@odata.context"].endswith("#users(displayName,jobTitle,businessPhones,accountEnabled)")
    assert page["value"] == [{"displayName": "Ann", "jobTitle": None, "businessPhones": [], "accountEnabled": None}]


def test_pages_hold_a_hundred_users_unless_asked_for_more(new_tenant):
    tenant = new_tenant(users=1050)
    graph = tenant.graph()
    by_hundred, by_most = pages(graph, "/users"), pages(graph, "/users?$select=id&$top=999")

    assert [len(page["value"]) for page in by_hundred] == [100] * 10 + [50]
    assert [len(page["value"]) for page in by_most] == [999, 51]
    assert sorted(ids(items(by_most))) == sorted(ids(users_of(tenant)))
    link = parse_qs(urlsplit(by_most[0]["@odata.nextLink"]).query)
    assert (link["$select"], link["$top"]) == (["id"], ["999"])
    assert len(link["$skiptoken"]) == 1


def test_users_that_come_and_go_while_a_listing_runs(new_tenant):
    """A listing neither repeats nor loses those who stay."""
    tenant = new_tenant(users=30)
    graph = tenant.graph()
    first = graph.get("/users?$top=10").json()
    stayed = ids(users_of(tenant))
    leaver, missed = ids(first["value"])[0], stayed[20]
    tenant.control.delete(f"users/{leaver}")
    tenant.control.delete(f"users/{missed}")
    hired = tenant.control.post("users", {"userPrincipalName": "new@contoso.com"})["id"]
    rest = items(pages(graph, first["@odata.nextLink"]))

    assert sorted(ids(first["value"]) + ids(rest)) == sorted({*stayed, hired} - {missed})


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("$top=0", 400, "Request_UnsupportedQuery"),
        ("$top=1000", 400, "Request_UnsupportedQuery"),
        ("$skip=10", 400, "Request_BadRequest"),
        ("$nonsense=1", 400, "Request_BadRequest"),
        ("$skiptoken=nonsense", 400, "Request_BadRequest"),
        ("$select=id,shoeSize", 400, "BadRequest"),
        ("$select=aboutMe", 501, "NotImplemented"),
        ("$filter=accountEnabled", 400, "Request_BadRequest"),
        ("$filter=accountEnabled eq maybe", 400, "Request_BadRequest"),
        ("$filter=accountEnabled gt true", 400, "Request_UnsupportedQuery"),
        ("$filter=shoeSize eq '42'", 400, "Request_UnsupportedQuery"),
        ("$filter=userType ne 'Guest'", 400, "Request_UnsupportedQuery"),
        ("$filter=not(userType eq 'Guest')", 400, "Request_UnsupportedQuery"),
        ("$filter=endsWith(mail,'.com')", 400, "Request_UnsupportedQuery"),
        ("$filter=userType eq null", 400, "Request_UnsupportedQuery"),
        ("$filter=companyName eq 'Contoso'", 400, "Request_UnsupportedQuery"),
        ("$filter=companyName eq 'Contoso'&$count=true", 400, "Request_UnsupportedQuery"),
        ('$search="displayName:Ann"', 400, "Request_UnsupportedQuery"),
        ("$filter=accountEnabled eq true&$orderby=displayName", 400, "Request_UnsupportedQuery"),
        ("$filter=(accountEnabled eq true", 400, "Request_BadRequest"),
        ("$filter=startsWith(displayName,true)", 400, "Request_BadRequest"),
        ("$filter='open", 400, "Request_BadRequest"),
        ("$expand=memberOf", 501, "NotSimulated"),
        ("$expand=manager($top=1)", 400, "Request_BadRequest"),
    ],
)
def test_queries_that_users_do_not_support(tenant, query, status, code):
    assert_error(tenant.graph().get(f"/users?{query}"), status, code)


@pytest.mark.parametrize(
    ("clause", "holds"),
    [
        ("accountEnabled eq true", lambda user: user["accountEnabled"]),
        ("accountEnabled eq false", lambda user: not user["accountEnabled"]),
        ("userType eq 'Member'", lambda user: user["userType"] == "Member"),
        ("userType eq 'guest'", lambda user: user["userType"] == "Guest"),
        (
            "userType eq 'Member' and accountEnabled eq true",
            lambda user: user["userType"] == "Member" and user["accountEnabled"],
        ),
        (
            "(userType eq 'Guest' or accountEnabled eq false) and startsWith(displayName,'A')",
            lambda user: (
                (user["userType"] == "Guest" or not user["accountEnabled"])
                and user["displayName"].lower().startswith("a")
            ),
        ),
        ("department in ('Sales','Legal')", lambda user: user["department"] in ("Sales", "Legal")),
        ("surname eq 'O''Brien'", lambda user: user["surname"] == "O'Brien"),
    ],
)
def test_filters(new_tenant, clause, holds):
    tenant = new_tenant(users=400, guestShare=0.3, disabledShare=0.3)
    found = items(pages(tenant.graph(), f"/users?$select=id&$top=50&$filter={quote(clause)}"))
    wanted = [user["id"] for user in users_of(tenant) if holds(user)]

    assert wanted
    assert sorted(ids(found)) == sorted(wanted)


def test_a_filter_by_id(tenant):
    user = users_of(tenant)[3]

    assert ids(tenant.graph().get(f"/users?$filter=id eq '{user['id']}'").json()["value"]) == [user["id"]]


def test_advanced_filters_need_the_header_and_the_count(new_tenant):
    tenant = new_tenant(users=40, guestShare=0.5)
    graph, clause = tenant.graph(), "$filter=userType ne 'Guest'&$select=id"
    members = users_of(tenant, userType="Member")

    assert_error(graph.get(f"/users?{clause}", headers=EVENTUAL), 400, "Request_UnsupportedQuery")
    page = graph.get(f"/users?{clause}&$count=true", headers=EVENTUAL).json()
    assert page["@odata.count"] == len(members)
    assert sorted(ids(page["value"])) == sorted(ids(members))


def test_the_count_is_only_on_the_first_page_and_only_with_the_header(tenant):
    graph = tenant.graph()
    with_header = pages(graph, "/users?$top=20&$count=true", **EVENTUAL)

    assert [page.get("@odata.count") for page in with_header] == [30, None]
    assert "@odata.count" not in graph.get("/users?$count=true").json()


def test_headers_are_not_part_of_a_page_link(new_tenant):
    tenant = new_tenant(users=40)
    graph = tenant.graph()
    first = graph.get("/users?$top=10&$count=true&$filter=userType ne 'X'", headers=EVENTUAL).json()

    assert_error(graph.get(first["@odata.nextLink"]), 400, "Request_UnsupportedQuery")
    assert graph.get(first["@odata.nextLink"], headers=EVENTUAL).status_code == 200


def test_the_number_of_users_is_plain_text(new_tenant):
    tenant = new_tenant(users=40, guestShare=0.5)
    graph = tenant.graph()
    answer = graph.get("/users/$count", headers=EVENTUAL)
    guests = graph.get("/users/$count?$filter=userType ne 'Member'", headers=EVENTUAL)

    assert (answer.text, answer.headers["Content-Type"]) == ("40", "text/plain")
    assert int(guests.text) == len(users_of(tenant, userType="Guest"))
    assert_error(graph.get("/users/$count"), 400, "Request_BadRequest")


def test_one_user(tenant):
    user, graph = users_of(tenant)[0], tenant.graph()
    by_id = graph.get(f"/users/{user['id']}").json()
    by_name = graph.get(f"/users/{quote(user['userPrincipalName'].upper())}?$select=id,city").json()

    assert set(by_id) == DEFAULT_PROPERTIES | {"@odata.context"}
    assert by_id["@odata.context"].endswith("$metadata#users/$entity")
    assert (by_name["id"], by_name["city"]) == (user["id"], user["city"])
    assert_error(graph.get(f"/users/{uuid4()}"), 404, "Request_ResourceNotFound")


def test_a_deleted_user_is_not_found_and_a_restored_one_is(tenant):
    user, graph = users_of(tenant)[0], tenant.graph()
    tenant.control.delete(f"users/{user['id']}")

    assert_error(graph.get(f"/users/{user['id']}"), 404, "Request_ResourceNotFound")
    assert user["id"] not in ids(items(pages(graph, "/users")))
    tenant.control.post(f"users/{user['id']}/restore")
    assert graph.get(f"/users/{user['id']}").status_code == 200


@pytest.mark.parametrize("path", ["/users", "/users/delta", "/users/someone", "/organization", "/applications"])
def test_a_missing_role_is_refused(new_tenant, path):
    tenant = new_tenant(users=1, roles=["Device.Read.All"])

    assert_error(tenant.graph().get(path), 403, "Authorization_RequestDenied")


@pytest.mark.parametrize("role", ["User.Read.All", "User.ReadWrite.All", "Directory.Read.All"])
def test_any_sufficient_role_opens_users(new_tenant, role):
    assert new_tenant(users=1, roles=[role]).graph().get("/users").status_code == 200
