"""Who may call what: everything needs the key, but the health check, the page without data, and what Graph calls."""

import pytest

from local.portal import Portal
from sync.api import OPERATIONS

# What comes from Graph has no key, and proves itself by its clientState.
OPEN = {"get_health", "get_console", "receive_notifications", "receive_lifecycle_events"}


@pytest.mark.parametrize("operation", sorted(set(OPERATIONS) - OPEN))
@pytest.mark.parametrize("key", [None, "wrong"])
def test_without_the_key_nothing_is_answered(stack, operation: str, key: str | None) -> None:
    method, path = OPERATIONS[operation].method, OPERATIONS[operation].path.replace("{", "").replace("}", "")

    answer = Portal(stack.api, key).send(method, path)

    assert (answer.status_code, answer.content) == (401, b"")


def test_health_and_the_page_are_open(stack) -> None:
    anonymous = Portal(stack.api, None)

    assert anonymous.get("health")["status"] == "ok"
    page = anonymous.send("GET", "console")
    assert (page.status_code, page.headers["Content-Type"].partition(";")[0]) == (200, "text/html")


def test_the_key_may_come_in_the_address_and_the_master_key_opens_too(stack) -> None:
    assert Portal(stack.api, None).get(f"ready?code={stack.key}")["status"] == "ready"
    assert Portal(stack.api, stack.master_key).get("ready")["status"] == "ready"


def test_the_contract_describes_itself_and_every_path_in_it_is_served(portal) -> None:
    document = portal.get("openapi.json")

    assert document["openapi"].startswith("3.1")
    served = {(method.upper(), path.strip("/")) for path, methods in document["paths"].items() for method in methods}
    assert {(one.method, one.path) for one in OPERATIONS.values()} <= {
        (method, path.removeprefix("api/")) for method, path in served
    }
