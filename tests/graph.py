"""The simulated Graph over plain HTTPS: how its tests ask, and what they compare with."""

from typing import Any

import requests

from tests.cloud import GraphSession, NewTenant, TestTenant

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


def person_with_photo(new_tenant: NewTenant, longest: int) -> tuple[TestTenant, str]:
    tenant = new_tenant()
    user = tenant.control.post("users", {"userPrincipalName": "ann@contoso.com", "photo": longest})
    return tenant, user["id"]
