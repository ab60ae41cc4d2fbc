"""Rounds of users/delta in the simulated Graph, over HTTPS, and how long a link is of use."""

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.graph import assert_error, delta, ids, items, pages, users_of


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
