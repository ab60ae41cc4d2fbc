"""Calendars in the simulated Exchange, over HTTPS."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cloud import TestTenant
from tests.test_cloud_graph import NewTenant

CALENDARS = ["Calendars.ReadWrite", "Place.Read.All"]
IMMUTABLE = {"Prefer": 'IdType="ImmutableId"'}


@pytest.fixture
def tenant(new_tenant: NewTenant) -> TestTenant:
    """A tenant of two rooms and three people with an app that may write calendars."""
    return new_tenant(users=3, guestShare=0, rooms=2, roles=CALENDARS)


def day(offset: int) -> str:
    """A date so many days after the Monday of the week after next."""
    today = datetime.now(UTC).date()
    return (today + timedelta(days=14 - today.weekday() + offset)).isoformat()


def event(subject: str = "Planning", on: int = 0, hour: int = 9, **more: Any) -> dict[str, Any]:
    """One hour in UTC."""
    start = {"dateTime": f"{day(on)}T{hour:02}:00:00", "timeZone": "UTC"}
    end = {"dateTime": f"{day(on)}T{hour + 1:02}:00:00", "timeZone": "UTC"}
    return {"subject": subject, "start": start, "end": end, **more}


def inviting(*rooms: dict[str, Any]) -> dict[str, Any]:
    invited = [{"type": "resource", "emailAddress": {"address": room["emailAddress"]}} for room in rooms]
    return {"attendees": invited, "location": {"displayName": rooms[0]["displayName"]} if rooms else None}


def round_of(graph: Any, url: str) -> tuple[list[dict[str, Any]], str]:
    """All rows of a delta round, and its delta link."""
    rows: list[dict[str, Any]] = []
    while True:
        page = graph.get(url, headers=IMMUTABLE).json()
        rows += page["value"]
        if "@odata.deltaLink" in page:
            return rows, page["@odata.deltaLink"]
        url = page["@odata.nextLink"]


def view_delta(room: dict[str, Any]) -> str:
    window = f"startDateTime={day(-30)}T00:00:00Z&endDateTime={day(200)}T00:00:00Z"
    return f"/users/{room['emailAddress']}/calendarView/delta?{window}"


def test_a_booking_appears_in_the_room_under_the_name_of_its_organizer(tenant):
    graph, room, ann = tenant.graph(), tenant.control.get("rooms")[0], tenant.control.get("users")[0]
    _, link = round_of(graph, view_delta(room))
    body = event(sensitivity="private", body={"contentType": "text", "content": "not for all"}, **inviting(room))
    made = graph.post(f"/users/{ann['id']}/events", json=body, headers=IMMUTABLE).json()
    rows, _ = round_of(graph, link)
    own = graph.get(f"/users/{ann['mail']}/events/{made['id']}", headers=IMMUTABLE).json()

    assert [(row["subject"], row["sensitivity"], row["body"]["content"]) for row in rows] == [
        (ann["displayName"], "normal", "")
    ]
    assert rows[0]["iCalUId"] == made["iCalUId"]
    assert rows[0]["id"] != made["id"]
    assert (rows[0]["isOrganizer"], rows[0]["responseStatus"]["response"]) == (False, "accepted")
    assert rows[0]["organizer"]["emailAddress"] == {"name": ann["displayName"], "address": ann["mail"]}
    assert own["subject"] == "Planning"
    assert [each["status"]["response"] for each in own["attendees"]] == ["accepted"]


def test_an_event_is_made_read_changed_and_deleted(tenant):
    graph, room = tenant.graph(), tenant.control.get("rooms")[0]
    events = f"/users/{room['id']}/events"
    made = graph.post(events, json=event()).json()
    patched = graph.patch(
        f"{events}/{made['id']}", json={"subject": "Moved"}, headers={"If-Match": made["@odata.etag"]}
    )
    stale = graph.patch(f"{events}/{made['id']}", json={"subject": "x"}, headers={"If-Match": made["@odata.etag"]})
    gone = graph.delete(f"{events}/{made['id']}")

    assert (patched.status_code, patched.json()["subject"]) == (200, "Moved")
    assert patched.json()["changeKey"] != made["changeKey"]
    assert (stale.status_code, stale.json()["error"]["code"]) == (412, "ErrorIrresolvableConflict")
    assert gone.status_code == 204
    assert graph.get(f"{events}/{made['id']}").json()["error"]["code"] == "ErrorItemNotFound"
