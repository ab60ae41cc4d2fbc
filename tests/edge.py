"""The HTTP edge alone, calls with bodies that are right, and what a refusal has to be."""

from typing import Any, cast

import pytest

from sync.sync_settings import SETTINGS
from tests.house import Answer, Clock, House

HINT = "hunter2"  # stands wherever a request has a value; no answer may hold it
GUID = "1f4fe0a2-0d0f-4e1c-9d0c-6b1c1f0d7a11"
SECRET = {"type": "clientSecret", "secretValue": HINT}
CONNECTION = {"name": "primary", "tenantId": GUID, "clientId": GUID, "credential": SECRET}
BODIES: dict[str, dict[str, Any]] = {
    "POST connections": CONNECTION,
    "PATCH connections/primary": {"timeZone": "UTC"},
    "PUT connections/primary/credential": SECRET,
    "POST connections/primary/syncs/users/runs": {"mode": "full"},
    "PUT connections/primary/rooms/oak": {"displayName": "Oak", "externalCalendar": "oak@contoso.com"},
    "POST connections/primary/rooms/oak/reservations": {
        "title": "Planning",
        "start": {"dateTime": "2027-03-01T09:00", "timeZone": "UTC"},
        "end": {"dateTime": "2027-03-01T10:00", "timeZone": "UTC"},
    },
    "PATCH connections/primary/rooms/oak/reservations/r": {"title": "Planning"},
    **{f"PUT connections/primary/syncs/{sync}": {"enabled": False} for sync in SETTINGS},
}


@pytest.fixture(scope="module")
def edge() -> House:
    """The edge with nothing behind it: an answer other than a 500 shows that no store was touched."""
    return House(cast("Any", None), Clock(), cast("Any", None))


def two(call: str) -> tuple[str, str]:
    """The method and the path of a call."""
    method, path = call.split(" ", 1)
    return method, path


def problem(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """The problem document of an answer, which has all that RFC 9457 and the contract ask for."""
    document: dict[str, Any] = answer.json
    assert (answer.status, document["status"], document["code"]) == (status, status, code)
    assert document["type"] == f"urn:tenantsync:problem:{code}"
    assert document["title"]
    assert document["detail"]
    assert document["instance"].startswith("/api/")
    assert answer.headers["x-request-id"]
    return document


def pointers(answer: Answer) -> list[str]:
    """The fields that a 422 names; no value of the request is in it."""
    assert HINT not in answer.content.decode()
    document = problem(answer, 422, "invalid-request")
    assert all(error["detail"] for error in document["errors"])
    return sorted(error["pointer"] for error in document["errors"])
