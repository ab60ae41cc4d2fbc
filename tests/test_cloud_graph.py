"""The simulated Graph over HTTPS, answer by answer, where SDKs would hide it."""

import base64
import io
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from threading import Barrier
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from uuid import uuid4

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from PIL import Image

from local.cloud.throttling import Throttle
from tests.cloud import GraphSession, NewTenant, TestTenant

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
EVENTUAL = {"ConsistencyLevel": "eventual"}


def assert_error(answer: requests.Response, status: int, code: str) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]

    assert (answer.status_code, error["code"]) == (status, code)
    assert set(error) == {"code", "message", "innerError"}
    assert error["innerError"]["request-id"] == answer.headers["request-id"]
    assert error["innerError"]["client-request-id"] == answer.headers["client-request-id"]
    return error


def pages(graph: GraphSession, url: str, **headers: str) -> list[dict[str, Any]]:
    """Every page from `url` to the end of its links."""
    found = [graph.get(url, headers=headers).json()]
    while "@odata.nextLink" in found[-1]:
        found.append(graph.get(found[-1]["@odata.nextLink"], headers=headers).json())
    return found


def items(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for page in found for item in page["value"]]


def delta(graph: GraphSession, url: str, **headers: str) -> tuple[list[dict[str, Any]], str]:
    """All items of a round, and the delta link at its end."""
    found = pages(graph, url, **headers)
    return items(found), found[-1]["@odata.deltaLink"]


def ids(users: list[dict[str, Any]]) -> list[str]:
    return [user["id"] for user in users]


def users_of(tenant: TestTenant, **values: Any) -> list[dict[str, Any]]:
    """The live users that have these values, as the control endpoint knows them."""
    users = tenant.control.get("users", state="live")
    return [user for user in users if all(user.get(name) == value for name, value in values.items())]


# Headers and addresses


def test_every_answer_names_its_request(tenant):
    mine = str(uuid4())
    answer = tenant.graph().get("/users", headers={"client-request-id": mine})

    assert answer.headers["client-request-id"] == mine
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["request-id"])
    assert abs(parsedate_to_datetime(answer.headers["Date"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert answer.headers["Content-Type"].startswith("application/json;odata.metadata=minimal")


def test_links_lead_to_the_host_that_the_client_called(tenant):
    graph = tenant.graph()
    port = urlsplit(tenant.cloud.graph).port
    for host in ("localhost", "127.0.0.1"):
        page = graph.get(f"https://{host}:{port}/v1.0/users?$top=10").json()

        assert page["@odata.nextLink"].startswith(f"https://{host}:{port}/v1.0/users?")
        assert graph.get(page["@odata.nextLink"]).status_code == 200


def test_answers_are_compressed_when_asked(new_tenant):
    graph = new_tenant(users=50).graph()
    plain = graph.get("/users", headers={"Accept-Encoding": "identity"})
    packed = graph.get("/users", headers={"Accept-Encoding": "gzip"})

    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"]) / 2
    assert packed.json()["value"] == plain.json()["value"]


def test_what_graph_does_not_have(tenant):
    graph = tenant.graph()

    assert_error(graph.get("/nothing"), 400, "BadRequest")
    assert_error(graph.get(f"{tenant.cloud.graph}/beta/users"), 400, "BadRequest")
    assert_error(graph.put("/users"), 405, "Request_BadRequest")


# Users


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


# Delta


def test_the_first_round_is_everything_in_pages_of_two_hundred(new_tenant):
    tenant = new_tenant(users=450)
    found = pages(tenant.graph(), "/users/delta?$select=id,displayName")

    assert [len(page["value"]) for page in found] == [200, 200, 50]
    assert sorted(ids(items(found))) == sorted(ids(users_of(tenant)))
    assert found[0]["@odata.context"].endswith("$metadata#users(id,displayName)/$delta")
    assert ["@odata.deltaLink" in page for page in found] == [False, False, True]
    assert ["@odata.nextLink" in page for page in found] == [True, True, False]


def test_the_page_size_can_be_asked_for(new_tenant):
    tenant = new_tenant(users=25)
    answer = tenant.graph().get("/users/delta", headers={"Prefer": "odata.maxpagesize=10"})

    assert len(answer.json()["value"]) == 10
    assert "odata.maxpagesize" in answer.headers["Preference-Applied"]


def test_latest_is_a_link_from_now_on(tenant):
    graph = tenant.graph()
    nothing, link = delta(graph, "/users/delta?$deltatoken=latest&$select=displayName")
    user = users_of(tenant)[0]
    tenant.control.patch(f"users/{user['id']}", {"displayName": "New Name", "city": "Elsewhere"})
    changed, link = delta(graph, link)

    assert nothing == []
    assert changed == [{"displayName": "New Name", "id": user["id"]}]
    assert delta(graph, link)[0] == []


def test_only_selected_properties_are_followed(tenant):
    graph = tenant.graph()
    _, link = delta(graph, "/users/delta?$deltatoken=latest&$select=displayName")
    tenant.control.patch(f"users/{users_of(tenant)[0]['id']}", {"city": "Elsewhere"})

    assert delta(graph, link)[0] == []


def test_photos_are_not_followed(tenant):
    graph = tenant.graph()
    _, link = delta(graph, "/users/delta?$deltatoken=latest")
    tenant.control.put(f"users/{users_of(tenant)[0]['id']}/photo", {"longest": 648})
    tenant.control.delete(f"users/{users_of(tenant)[1]['id']}/photo")

    assert delta(graph, link)[0] == []


def test_never_set_is_left_out_and_cleared_is_null(new_tenant):
    tenant = new_tenant()
    created = {"userPrincipalName": "ann@contoso.com", "displayName": "Ann", "mobilePhone": "+1"}
    user_id = tenant.control.post("users", created)["id"]
    graph, select = tenant.graph(), "$select=displayName,mobilePhone,jobTitle"
    first, link = delta(graph, f"/users/delta?{select}")
    tenant.control.patch(f"users/{user_id}", {"mobilePhone": None, "jobTitle": None})
    second, _ = delta(graph, link)

    assert first == [{"displayName": "Ann", "mobilePhone": "+1", "id": user_id}]
    assert second == [{"displayName": "Ann", "mobilePhone": None, "id": user_id}]


def test_minimal_returns_only_what_changed(tenant):
    graph, user = tenant.graph(), users_of(tenant)[0]
    _, link = delta(graph, "/users/delta?$deltatoken=latest&$select=displayName,city,department")
    tenant.control.patch(f"users/{user['id']}", {"city": "Elsewhere"})
    tenant.control.patch(f"users/{user['id']}", {"department": "Law"})
    answer = graph.get(link, headers={"Prefer": "return=minimal"})

    assert answer.json()["value"] == [{"city": "Elsewhere", "department": "Law", "id": user["id"]}]
    assert answer.headers["Preference-Applied"] == "return=minimal"


def test_removal_for_a_while_and_for_good(tenant):
    graph = tenant.graph()
    soft, hard, back = (user["id"] for user in users_of(tenant)[:3])
    tenant.control.delete(f"users/{back}")
    _, link = delta(graph, "/users/delta?$deltatoken=latest&$select=displayName")
    tenant.control.delete(f"users/{soft}")
    tenant.control.post(f"users/{hard}/purge")
    tenant.control.post(f"users/{back}/restore")
    changed, link = delta(graph, link)
    found = {item["id"]: item for item in changed}

    assert found[soft] == {"id": soft, "@removed": {"reason": "changed"}}
    assert found[hard] == {"id": hard, "@removed": {"reason": "deleted"}}
    assert found[back]["displayName"]
    assert len(found) == 3


def test_the_recycle_bin_is_emptied_after_thirty_days(tenant):
    user_id = users_of(tenant)[0]["id"]
    tenant.control.delete(f"users/{user_id}")
    tenant.control.post("clock", {"advanceSeconds": 29 * 86400})
    graph = tenant.graph()
    _, link = delta(graph, "/users/delta?$deltatoken=latest")
    tenant.control.post("clock", {"advanceSeconds": 86400})
    changed, _ = delta(tenant.graph(), link)

    assert changed == [{"id": user_id, "@removed": {"reason": "deleted"}}]
    with pytest.raises(AssertionError, match="404"):
        tenant.control.post(f"users/{user_id}/restore")


def test_a_change_during_the_first_round_comes_in_the_next(new_tenant):
    tenant = new_tenant(users=450)
    graph = tenant.graph()
    first = graph.get("/users/delta?$select=displayName").json()
    early, late = first["value"][0]["id"], users_of(tenant)[-1]["id"]
    tenant.control.patch(f"users/{early}", {"displayName": "Changed"})
    tenant.control.delete(f"users/{late}")
    rest, link = delta(graph, first["@odata.nextLink"])
    changed, _ = delta(graph, link)

    assert late not in ids(rest)
    assert sorted(changed, key=len) == sorted(
        [{"displayName": "Changed", "id": early}, {"id": late, "@removed": {"reason": "changed"}}], key=len
    )


def test_a_filter_by_ids_follows_only_them(tenant):
    one, two, other = (user["id"] for user in users_of(tenant)[:3])
    graph = tenant.graph()
    first, link = delta(graph, f"/users/delta?$select=displayName&$filter=id eq '{one}' or id eq '{two}'")
    for user_id in (two, other):
        tenant.control.patch(f"users/{user_id}", {"displayName": "Changed"})

    assert sorted(ids(first)) == sorted([one, two])
    assert ids(delta(graph, link)[0]) == [two]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("$top=10", "Request_UnsupportedQuery"),
        ("$orderby=displayName", "Request_UnsupportedQuery"),
        ("$expand=manager", "Request_UnsupportedQuery"),
        ('$search="displayName:A"', "Request_UnsupportedQuery"),
        ("$filter=userType eq 'Member'", "Request_BadRequest"),
        ("$filter=" + " or ".join(f"id eq '{number}'" for number in range(51)), "Request_BadRequest"),
        ("$select=shoeSize", "BadRequest"),
        ("$skiptoken=nonsense", "Request_BadRequest"),
        ("$deltatoken=nonsense", "Request_BadRequest"),
    ],
)
def test_queries_that_delta_does_not_support(tenant, query, code):
    assert_error(tenant.graph().get(f"/users/delta?{query}"), 400, code)


def test_tokens_of_another_kind(tenant):
    graph = tenant.graph()
    list_token = parse_qs(urlsplit(graph.get("/users?$top=5").json()["@odata.nextLink"]).query)["$skiptoken"][0]
    page = graph.get("/users/delta", headers={"Prefer": "odata.maxpagesize=5"}).json()
    delta_page = parse_qs(urlsplit(page["@odata.nextLink"]).query)["$skiptoken"][0]

    assert_error(graph.get(f"/users/delta?$skiptoken={list_token}"), 400, "Request_BadRequest")
    assert_error(graph.get(f"/users/delta?$deltatoken={list_token}"), 400, "Request_BadRequest")
    assert_error(graph.get(f"/users?$skiptoken={delta_page}"), 400, "Request_BadRequest")


def test_a_delta_link_lives_seven_days(tenant):
    _, link = delta(tenant.graph(), "/users/delta?$deltatoken=latest")
    tenant.control.post("clock", {"advanceSeconds": 7 * 86400 - 60})
    before = tenant.graph().get(link)
    tenant.control.post("clock", {"advanceSeconds": 120})
    after = tenant.graph().get(link)

    assert before.status_code == 200
    assert_error(after, 410, "syncStateNotFound")
    assert after.headers["Location"] == f"{tenant.cloud.graph}/v1.0/users/delta?$deltatoken="
    assert len(items(pages(tenant.graph(), after.headers["Location"]))) == 30


@pytest.mark.parametrize("code", ["syncStateNotFound", "syncStateInvalid", "resyncRequired"])
def test_a_delta_link_that_expires_the_other_way(tenant, code):
    graph = tenant.graph()
    _, old = delta(graph, "/users/delta?$deltatoken=latest")
    tenant.control.post("faults", {"expiredDelta": code})
    tenant.control.post("expire", {"delta": True})
    _, new = delta(graph, "/users/delta?$deltatoken=latest")
    answer = graph.get(old)

    assert_error(answer, 400, code)
    assert "Location" not in answer.headers
    assert graph.get(new).status_code == 200


def test_a_delta_link_is_no_use_in_another_tenant(new_tenant):
    one, other = new_tenant(users=1), new_tenant(users=1)
    _, link = delta(one.graph(), "/users/delta?$deltatoken=latest")

    assert other.graph().get(link).status_code == 410


@pytest.mark.parametrize("code", ["Directory_ExpiredPageToken", "DirectoryPageTokenNotFoundException"])
@pytest.mark.parametrize("path", ["/users?$top=10", "/users/delta"])
def test_page_links_expire(tenant, path, code):
    graph = tenant.graph()
    prefer = {"Prefer": "odata.maxpagesize=10"}
    old = graph.get(path, headers=prefer).json()["@odata.nextLink"]
    tenant.control.post("expire", {"pages": code})

    assert_error(graph.get(old), 400, code)
    assert len(items(pages(graph, path, **prefer))) == 30


def test_a_link_from_a_retried_answer_fails(tenant):
    """Where the faults say so; the link before it still leads on."""
    graph = tenant.graph()
    first = graph.get("/users?$top=10").json()["@odata.nextLink"]
    tenant.control.post("faults", {"rate503": 1, "retriedPageLinksFail": True, "retryAfter": {"seconds": 0}})
    refused = graph.get(first).status_code
    tenant.control.post("faults", {"retriedPageLinksFail": True, "retryAfter": {"seconds": 0}})
    broken = graph.get(first).json()["@odata.nextLink"]
    good = graph.get(first).json()["@odata.nextLink"]

    assert refused == 503
    assert_error(graph.get(broken), 400, "DirectoryPageTokenNotFoundException")
    assert len(graph.get(good).json()["value"]) == 10


def test_untidy_paging_loses_nobody(new_tenant):
    """Empty pages with a next link, repeats, and replays of objects that did not change or were removed before."""
    tenant = new_tenant(users=600)
    purged, binned = ids(users_of(tenant))[:2]
    tenant.control.post(f"users/{purged}/purge")
    tenant.control.delete(f"users/{binned}")
    tenant.control.post("faults", {"untidyPaging": True, "seed": 11})
    graph = tenant.graph()
    listed = pages(graph, "/users?$top=20")
    first = pages(graph, "/users/delta", Prefer="odata.maxpagesize=20")
    link = first[-1]["@odata.deltaLink"]
    changed = tenant.control.post("mutate", {"count": 40, "kinds": ["patch"]})["patch"]
    second, _ = delta(graph, link, Prefer="odata.maxpagesize=5")
    alive = set(ids(users_of(tenant)))
    removals = {item["@removed"]["reason"] for item in items(first) if "@removed" in item}

    assert any(not page["value"] for page in listed + first)
    assert len(ids(items(listed))) == len(set(ids(items(listed)))) == 598
    assert len(ids(items(first))) > len(set(ids(items(first))))
    assert alive <= set(ids(items(first)))
    assert removals <= {"changed", "deleted"}
    assert set(changed) < set(ids(second))


# Organization and applications


def test_the_organization(new_tenant):
    tenant = new_tenant(roles=["Organization.Read.All"])
    page = tenant.graph().get("/organization").json()
    [organization] = page["value"]

    assert organization["id"] == tenant.id
    assert organization["verifiedDomains"][0]["name"] == tenant.domain
    assert set(organization) == {"id", "displayName", "countryLetterCode", "tenantType", "verifiedDomains"}
    chosen = tenant.graph().get("/organization?$select=id,displayName").json()["value"]
    assert set(chosen[0]) == {"id", "displayName"}


def test_an_application_shows_when_its_credentials_end(new_tenant):
    tenant = new_tenant(roles=["Application.Read.All"])
    graph = tenant.graph()
    by_key = graph.get(f"/applications(appId='{tenant.client_id}')").json()
    [by_filter] = graph.get(f"/applications?$filter=appId eq '{tenant.client_id}'").json()["value"]
    [password] = by_key["passwordCredentials"]
    secret = tenant.app["secrets"][0]

    assert by_key["id"] == by_filter["id"] == tenant.app["objectId"]
    assert password["keyId"] == secret["keyId"]
    assert datetime.fromisoformat(password["endDateTime"]) == datetime.fromisoformat(secret["endDateTime"]).replace(
        microsecond=0
    )
    assert secret["value"] not in str(by_key)
    assert by_filter["passwordCredentials"] == by_key["passwordCredentials"]


def test_an_application_shows_when_its_certificates_end(new_tenant):
    tenant = new_tenant(roles=["Application.Read.All"])
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "portal")])
    ends = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 7)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    added = tenant.control.post(f"apps/{tenant.client_id}/certificates", {"pem": pem})
    application = tenant.graph().get(f"/applications(appId='{tenant.client_id}')?$select=keyCredentials").json()
    [shown] = application["keyCredentials"]

    assert set(application) == {"@odata.context", "keyCredentials"}
    assert (shown["keyId"], shown["type"], shown["usage"]) == (added["keyId"], "AsymmetricX509Cert", "Verify")
    assert datetime.fromisoformat(shown["endDateTime"]) == ends
    assert shown["key"] is None


def test_an_unknown_application(new_tenant):
    graph = new_tenant(roles=["Application.Read.All"]).graph()

    assert_error(graph.get(f"/applications(appId='{uuid4()}')"), 404, "Request_ResourceNotFound")
    assert graph.get(f"/applications?$filter=appId eq '{uuid4()}'").json()["value"] == []


# Photos


def person_with_photo(new_tenant: NewTenant, longest: int) -> tuple[TestTenant, str]:
    tenant = new_tenant()
    user = tenant.control.post("users", {"userPrincipalName": "ann@contoso.com", "photo": longest})
    return tenant, user["id"]


def test_every_size_up_to_the_upload_is_a_real_jpeg(new_tenant):
    tenant, user_id = person_with_photo(new_tenant, 240)
    graph = tenant.graph()
    sizes = [photo["id"] for photo in graph.get(f"/users/{user_id}/photos").json()["value"]]

    assert sizes == ["48x48", "64x64", "96x96", "120x120", "240x240"]
    for size in sizes:
        answer = graph.get(f"/users/{user_id}/photos/{size}/$value")
        image = Image.open(io.BytesIO(answer.content))
        image.load()
        assert (answer.headers["Content-Type"], image.format) == ("image/jpeg", "JPEG")
        assert f"{image.width}x{image.height}" == size
    assert_error(graph.get(f"/users/{user_id}/photos/360x360/$value"), 404, "ImageNotFound")
    assert_error(graph.get(f"/users/{user_id}/photos/360x360"), 404, "ImageNotFound")


def test_the_photo_is_the_largest_size(new_tenant):
    tenant, user_id = person_with_photo(new_tenant, 504)
    graph = tenant.graph()
    known = graph.get(f"/users/{user_id}/photo").json()
    content = graph.get(f"/users/{user_id}/photo/$value")

    assert known == {
        "@odata.context": f"{tenant.cloud.graph}/v1.0/$metadata#users('{user_id}')/photo/$entity",
        "@odata.mediaContentType": "image/jpeg",
        "@odata.mediaEtag": content.headers["ETag"],
        "id": "504x504",
        "width": 504,
        "height": 504,
    }
    assert Image.open(io.BytesIO(content.content)).size == (504, 504)


def test_a_new_photo_has_new_bytes_and_a_new_etag(new_tenant):
    tenant, user_id = person_with_photo(new_tenant, 648)
    graph, path = tenant.graph(), f"/users/{user_id}/photos/240x240/$value"
    before, again = graph.get(path), graph.get(path)
    tenant.control.put(f"users/{user_id}/photo", {"longest": 648})
    after = graph.get(path)

    assert (before.content, before.headers["ETag"]) == (again.content, again.headers["ETag"])
    assert before.content != after.content
    assert before.headers["ETag"] != after.headers["ETag"]
    assert re.fullmatch(r'"[0-9A-F]{8}"', after.headers["ETag"])


def test_everybodys_bytes_are_their_own(new_tenant):
    tenant = new_tenant(users=200, photoShare=1)
    graph = tenant.graph()
    with ThreadPoolExecutor(4) as pool:
        photos = list(
            pool.map(lambda user_id: graph.get(f"/users/{user_id}/photo/$value").content, ids(users_of(tenant)))
        )

    assert len(set(photos)) == 200


def test_no_photo_and_no_user(new_tenant):
    tenant, user_id = person_with_photo(new_tenant, 648)
    tenant.control.delete(f"users/{user_id}/photo")
    graph = tenant.graph()
    for path in ("photo", "photo/$value", "photos", "photos/240x240", "photos/240x240/$value"):
        error = assert_error(graph.get(f"/users/{user_id}/{path}"), 404, "ImageNotFound")
        assert "ImageNotFoundException" in error["message"]
        assert_error(graph.get(f"/users/{uuid4()}/{path}"), 404, "Request_ResourceNotFound")


def test_planted_bytes_are_served_as_they_are(new_tenant):
    tenant, user_id = person_with_photo(new_tenant, 648)
    planted = b"this is no picture"
    body = {"base64": base64.b64encode(planted).decode(), "contentType": "image/png"}
    tenant.control.put(f"users/{user_id}/photo", body)
    answer = tenant.graph().get(f"/users/{user_id}/photos/240x240/$value")

    assert (answer.content, answer.headers["Content-Type"]) == (planted, "image/png")


@pytest.mark.parametrize(
    ("role", "status"),
    [("ProfilePhoto.Read.All", 200), ("User.Read.All", 200), ("User.ReadWrite.All", 200), ("Directory.Read.All", 403)],
)
def test_the_roles_for_photos(new_tenant, role, status):
    tenant = new_tenant(users=1, photoShare=1, roles=[role])
    answer = tenant.graph().get(f"/users/{users_of(tenant)[0]['id']}/photo")

    assert answer.status_code == status
    if status == 403:
        assert_error(answer, 403, "ErrorAccessDenied")


# Batches


def batch(graph: GraphSession, *requests_: dict[str, Any]) -> requests.Response:
    return graph.post("/$batch", json={"requests": list(requests_)})


def get(item_id: str, url: str, **more: Any) -> dict[str, Any]:
    return {"id": item_id, "method": "GET", "url": url, **more}


def test_a_batch_answers_every_item_in_no_order(new_tenant):
    tenant = new_tenant(users=20, photoShare=0.5)
    users = users_of(tenant)
    answer = batch(tenant.graph(), *(get(str(n), f"/users/{user['id']}/photo") for n, user in enumerate(users)))
    responses = answer.json()["responses"]
    order = [item["id"] for item in responses]

    assert sorted(order, key=int) == [str(n) for n in range(20)]
    assert order != sorted(order, key=int)
    for item in responses:
        user = users[int(item["id"])]
        assert item["status"] == (200 if user["photo"] else 404)
        assert item["headers"]["Content-Type"] == "application/json"
        if user["photo"]:
            assert item["body"]["@odata.mediaEtag"] == user["photo"]["etag"]
        else:
            assert item["body"]["error"]["code"] == "ImageNotFound"


def test_bytes_in_a_batch_are_base64(new_tenant):
    tenant, user_id = person_with_photo(new_tenant, 648)
    graph = tenant.graph()
    item = graph.batch(f"/users/{user_id}/photos/240x240/$value")["1"]
    alone = graph.get(f"/users/{user_id}/photos/240x240/$value")

    assert base64.b64decode(item["body"]) == alone.content
    assert item["headers"]["Content-Type"] == "image/jpeg"
    assert item["headers"]["ETag"] == alone.headers["ETag"]


def test_inner_headers_and_other_paths(tenant):
    graph = tenant.graph()
    answer = batch(
        graph,
        get("count", "/users/$count", headers={"consistencylevel": "eventual"}),
        get("list", "users?$top=2&$select=id"),
        get("wrong", "/nothing"),
        get("gone", f"/users/{uuid4()}"),
    )
    found = {item["id"]: item for item in answer.json()["responses"]}

    assert (found["count"]["status"], found["count"]["body"]) == (200, "30")
    assert found["list"]["body"]["@odata.nextLink"].startswith(f"{graph.root}/users?")
    assert (found["wrong"]["status"], found["gone"]["status"]) == (400, 404)


def test_roles_count_inside_a_batch(new_tenant):
    found = new_tenant(users=1).graph().batch("/users", "/organization")

    assert (found["1"]["status"], found["2"]["status"]) == (200, 403)


def test_dependent_requests_stop_at_the_first_failure(tenant):
    answer = batch(
        tenant.graph(),
        get("a", "/users?$top=1"),
        get("B", f"/users/{uuid4()}", dependsOn=["A"]),
        get("c", "/users?$top=1", dependsOn=["b"]),
    )
    found = {item["id"]: item for item in answer.json()["responses"]}

    assert {item_id: item["status"] for item_id, item in found.items()} == {"a": 200, "B": 404, "c": 424}
    assert found["c"]["body"]["error"]["code"] == "FailedDependency"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"requests": [get(str(number), "/users") for number in range(21)]}, "exceeds the limit"),
        ({"requests": []}, "Invalid batch payload"),
        ({}, "Invalid batch payload"),
        ([], "Invalid batch payload"),
        ({"requests": ["x"]}, "Invalid batch payload"),
        ({"requests": [get("a", "/users"), get("A", "/users")]}, "unique"),
        ({"requests": [{"method": "GET", "url": "/users"}]}, "Request Id"),
        ({"requests": [get(1, "/users")]}, "Request Id"),  # type: ignore[arg-type]  # the wrong type is the case
        ({"requests": [{"id": "1", "url": "/users"}]}, "needs a method"),
        ({"requests": [get("1", "/users", headers=[])]}, "headers"),
        ({"requests": [get("1", "/$batch")]}, "cannot hold a batch"),
        ({"requests": [{"id": "1", "method": "POST", "url": "/users", "body": {}}]}, "Content-Type"),
        ({"requests": [get("1", "/users"), get("2", "/users", dependsOn="1")]}, "Invalid batch payload"),
        ({"requests": [get("1", "/users"), get("2", "/users"), get("3", "/users", dependsOn=["1"])]}, "dependsOn"),
        ({"requests": [get("1", "/users", dependsOn=["2"]), get("2", "/users")]}, "dependsOn"),
    ],
)
def test_batches_that_are_wrong_as_a_whole(tenant, body, message):
    error = assert_error(tenant.graph().post("/$batch", json=body), 400, "BadRequest")

    assert message in error["message"]
    assert tenant.control.get("counters")["graph"]["batchItems"] == 0


def test_a_batch_that_is_not_json(tenant):
    assert_error(tenant.graph().post("/$batch", data="{not json"), 400, "BadRequest")


# Limits and faults


@pytest.mark.parametrize(
    ("style", "pattern"), [("seconds", r"2"), ("decimal", r"1\.500"), ("date", r".* GMT"), ("absent", None)]
)
@pytest.mark.parametrize(
    ("rate", "status", "code"),
    [
        ("rate429", 429, "TooManyRequests"),
        ("rate503", 503, "ServiceUnavailable"),
        ("rate504", 504, "GatewayTimeout"),
    ],
)
def test_refusals_and_how_they_say_when_to_come_back(tenant, rate, status, code, style, pattern):
    tenant.control.post("faults", {rate: 1, "retryAfter": {"style": style, "seconds": 1.5}})
    graph, asked = tenant.graph(), datetime.now(UTC)
    answer = graph.get("/users")
    sent = answer.headers.get("Retry-After")

    assert_error(answer, status, code)
    assert sent is None if pattern is None else re.fullmatch(pattern, str(sent))
    if style == "date":
        told = parsedate_to_datetime(str(sent))
        assert asked + timedelta(seconds=1.5) < told <= datetime.now(UTC) + timedelta(seconds=2.5)
    if status == 429:
        scope = f"Tenant_Application/ReadWrite/{tenant.client_id}/{tenant.id}"
        assert answer.headers["x-ms-throttle-scope"] == scope
        assert answer.headers["x-ms-throttle-information"] == "ResourceUnitLimitExceeded"


def test_resets_cut_the_connection_before_or_in_the_answer(tenant):
    tenant.control.post("faults", {"rateReset": 1, "seed": 3})
    graph = tenant.graph()
    errors = []
    for _ in range(12):
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)) as raised:
            graph.get("/users")
        errors.append(type(raised.value))

    assert set(errors) == {requests.ConnectionError, requests.exceptions.ChunkedEncodingError}
    assert tenant.control.get("counters")["graph"]["faulted"] == 12
    tenant.control.post("faults", {})
    assert graph.get("/users").status_code == 200


def test_faults_are_the_same_for_the_same_seed(tenant):
    graph = tenant.graph()

    def statuses() -> list[int]:
        tenant.control.post("faults", {"rate429": 0.3, "rate503": 0.3, "seed": 7, "retryAfter": {"seconds": 0}})
        return [graph.get("/users?$top=1").status_code for _ in range(20)]

    first = statuses()

    assert first == statuses()
    assert set(first) == {200, 429, 503}


def test_items_of_a_batch_fail_one_by_one(new_tenant):
    tenant = new_tenant(users=20, photoShare=1)
    tenant.control.post("faults", {"rateBatchItem": 0.5, "seed": 1, "retryAfter": {"seconds": 7}})
    found = tenant.graph().batch(*(f"/users/{user['id']}/photo" for user in users_of(tenant)))
    refused = [item for item in found.values() if item["status"] != 200]

    assert {item["status"] for item in found.values()} == {200, 429, 503}
    assert {item["headers"]["Retry-After"] for item in refused} == {"7"}
    assert tenant.control.get("counters")["graph"]["faulted"] == len(refused)


def test_latency(tenant):
    graph = tenant.graph()
    graph.get("/users?$top=1")
    tenant.control.post("faults", {"latencyMs": 120})
    started = time.monotonic()
    graph.get("/users?$top=1")

    assert time.monotonic() - started >= 0.12


@pytest.mark.parametrize(
    ("path", "units"),
    [
        ("/users", "2"),
        ("/users?$select=id", "1"),
        ("/users?$top=10", "1"),
        ("/users?$select=id&$top=10", "1"),
        ("/users/delta", "2"),
        ("/organization", "1"),
    ],
)
def test_what_a_call_costs(new_tenant, path, units):
    graph = new_tenant(users=1, roles=["User.Read.All", "Organization.Read.All"]).graph()

    assert graph.get(path).headers["x-ms-resource-unit"] == units


def test_a_spent_budget_refuses_until_it_has_refilled(tenant):
    tenant.control.post("faults", {"unitsPer10s": 20, "retryAfter": {"style": "decimal"}})
    graph = tenant.graph()
    started = time.monotonic()
    answers = [graph.get("/users?$top=1")]
    while answers[-1].status_code == 200:
        answers.append(graph.get("/users?$top=1"))
    refilled = 2 * (time.monotonic() - started)
    answers.append(graph.get("/users?$top=1"))
    used = [answer.headers.get("x-ms-throttle-limit-percentage") for answer in answers]
    wait = float(answers[-2].headers["Retry-After"])

    assert 20 <= len(answers) - 2 <= 20 + refilled
    assert used[0] is None
    assert max(float(share) for share in used if share) > 0.9
    assert 0 < wait <= 1
    assert tenant.control.get("counters")["graph"]["throttled"] == sum(a.status_code == 429 for a in answers)
    time.sleep(float(answers[-1].headers["Retry-After"]))
    assert graph.get("/users?$top=1").status_code == 200


def test_a_budget_counts_the_items_of_a_batch(new_tenant):
    tenant = new_tenant(users=20, photoShare=1)
    tenant.control.post("faults", {"unitsPer10s": 12})
    found = tenant.graph().batch(*(f"/users/{user['id']}/photo" for user in users_of(tenant)))
    statuses = [item["status"] for item in found.values()]

    assert (statuses.count(200), statuses.count(429)) == (12, 8)


def test_a_mailbox_serves_four_calls_at_a_time(new_tenant):
    tenant, user_id = person_with_photo(new_tenant, 648)
    graph = tenant.graph()
    found = graph.batch(*[f"/users/{user_id}/photo"] * 6)
    refused = [item for item in found.values() if item["status"] == 429]

    assert len(refused) == 2
    assert refused[0]["body"]["error"]["code"] == "ApplicationThrottled"
    assert "MailboxConcurrency" in refused[0]["body"]["error"]["message"]
    assert refused[0]["headers"]["Retry-After"] == "1"
    assert graph.get(f"/users/{user_id}/photo").status_code == 200


def eight_at_once(tenant: TestTenant, path: str, **faults: Any) -> list[int]:
    """The statuses of eight GETs on connections of their own, which are open before the faults begin."""
    everybody = Barrier(8, action=lambda: tenant.control.post("faults", {"latencyMs": 700, **faults}))

    def fetch(_: int) -> int:
        with tenant.graph() as graph:
            graph.get("/users?$top=1")
            everybody.wait(60)
            return graph.get(path).status_code

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(fetch, range(8)))


def test_a_mailbox_counts_calls_in_flight_of_every_connection(new_tenant):
    tenant, user_id = person_with_photo(new_tenant, 648)
    statuses = eight_at_once(tenant, f"/users/{user_id}/photo")

    assert 1 <= statuses.count(429) <= 4
    assert statuses.count(200) >= 4


# Who came back too early


def violations(tenant: TestTenant) -> int:
    return int(tenant.control.get("counters")["graph"]["retryViolations"])


def test_the_same_request_too_early(tenant):
    graph = tenant.graph()
    tenant.control.post("faults", {"rate503": 1, "retryAfter": {"seconds": 60}})
    graph.get("/users")
    graph.get("/users?$top=1")
    before = violations(tenant)
    graph.get("/users")

    assert (before, violations(tenant)) == (0, 1)


def test_the_same_request_in_time(tenant):
    graph = tenant.graph()
    tenant.control.post("faults", {"rate503": 1, "retryAfter": {"style": "decimal", "seconds": 0.2}})
    graph.get("/users")
    time.sleep(0.2)
    graph.get("/users")

    assert violations(tenant) == 0


@pytest.mark.parametrize(
    ("seconds", "request_", "early"),
    [(0.4, "other", False), (0.4, "refused", True), (0.6, "other", True), (4.9, "other", True), (5, "other", False)],
)
def test_half_a_second_is_granted_to_what_was_under_way(monkeypatch, seconds, request_, early):
    now = 100.0
    monkeypatch.setattr("local.cloud.throttling.time", SimpleNamespace(monotonic=lambda: now))
    throttle = Throttle()
    throttle.pause("app", "refused", 5, sent_in=0, whole_app=True)
    now += seconds

    assert throttle.arrive("app", request_).early is early


def test_after_a_429_the_whole_app_has_to_wait(tenant):
    """All but what came before the refusal was sent."""
    refused = eight_at_once(tenant, "/users", rate429=1, retryAfter={"seconds": 60})
    under_way = violations(tenant)
    tenant.control.post("faults", {})
    time.sleep(0.6)
    tenant.graph().get("/users?$top=2")

    assert refused == [429] * 8
    assert (under_way, violations(tenant)) == (0, 1)


def test_an_item_too_early(new_tenant):
    tenant = new_tenant(users=2)
    one, two = ids(users_of(tenant))
    graph = tenant.graph()
    tenant.control.post("faults", {"rateBatchItem": 1, "retryAfter": {"seconds": 60}})
    graph.batch(f"/users/{one}")
    tenant.control.post("counters")
    graph.batch(f"/users/{two}")
    before = violations(tenant)
    graph.batch(f"/users/{one}")

    assert (before, violations(tenant)) == (0, 1)


def test_a_refusal_that_was_lost_with_its_batch_binds_nobody(new_tenant):
    tenant = new_tenant(users=1)
    graph, [user_id] = tenant.graph(), ids(users_of(tenant))
    tenant.control.post("faults", {"rateReset": 1, "rateBatchItem": 1, "retryAfter": {"seconds": 5}})
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        graph.batch(f"/users/{user_id}")
    tenant.control.post("faults", {})

    assert graph.batch(f"/users/{user_id}")["1"]["status"] == 200
    assert violations(tenant) == 0


def test_a_busy_mailbox_does_not_stop_the_app(new_tenant):
    tenant, user_id = person_with_photo(new_tenant, 648)
    statuses = eight_at_once(tenant, f"/users/{user_id}/photo", retryAfter={"seconds": 60})
    tenant.control.post("faults", {})
    time.sleep(0.6)
    tenant.graph().get("/users?$top=1")

    assert 429 in statuses
    assert violations(tenant) == 0


def test_without_a_time_nobody_is_early(tenant):
    graph = tenant.graph()
    tenant.control.post("faults", {"rate429": 1, "retryAfter": {"style": "absent", "seconds": 5}})
    graph.get("/users")
    graph.get("/users")

    assert violations(tenant) == 0
