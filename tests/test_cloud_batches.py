"""Batches in the simulated Graph, over HTTPS."""

import base64
from typing import Any
from uuid import uuid4

import pytest
import requests

from tests.cloud import GraphSession
from tests.graph import assert_error, person_with_photo, users_of


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
