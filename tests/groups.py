"""Groups of the simulated Graph for its tests: made, with members of all kinds, and as delta shows them."""

from typing import Any

import pytest

from tests.cloud import NewTenant, TestTenant
from tests.graph import ids

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
