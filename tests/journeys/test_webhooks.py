"""Graph proves that the app listens, and what is booked in Outlook comes to the portal by itself."""

import time
from datetime import UTC, datetime, timedelta
from urllib.parse import quote_plus

import pytest
import requests

ROLES = ["Calendars.ReadWrite", "Place.Read.All", "Organization.Read.All"]
TOKEN = "Validation: Testing client application reachability <b>é</b> a+b&c=d%20e"
SECONDS = 120


def until(found, seconds: float = SECONDS):
    """What `found` gives once it gives something."""
    last = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < last
        time.sleep(0.2)
    return result


@pytest.mark.parametrize("path", ["webhooks/graph", "webhooks/graph/lifecycle"])
def test_graph_proves_that_the_app_listens(portal, path: str) -> None:
    url = f"{portal.api}/{path}"
    answer = requests.post(
        f"{url}?validationToken={quote_plus(TOKEN)}", headers={"Content-Type": "text/plain"}, timeout=60
    )

    assert (answer.status_code, answer.content.decode()) == (200, TOKEN)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert requests.post(url, json={"value": []}, timeout=60).status_code == 202
    assert requests.post(url, data="{", timeout=60).status_code == 400
    assert requests.get(url, timeout=60).status_code == 401


def test_a_meeting_that_is_booked_in_outlook_comes_by_itself(portal, connect) -> None:
    customer = connect(users=1, rooms=1, roles=ROLES)
    mailbox = customer.tenant.call("GET", "rooms")[0]["emailAddress"]
    customer.enable("calendars")
    room = f"{customer.path}/rooms/oak"
    link = {"displayName": "Oak", "calendarType": "office365", "externalCalendar": mailbox, "active": True}
    assert portal.put(room, link)["status"] == "pending"
    until(lambda: portal.get(room)["status"] == "active")
    assert portal.get(room)["statusDetail"] == "webhook"

    day = (datetime.now(UTC) + timedelta(days=2)).date()
    times = {
        name: {"dateTime": f"{day}T{hour}:00:00", "timeZone": "UTC"} for name, hour in (("start", "09"), ("end", "10"))
    }
    customer.tenant.call("POST", f"mailboxes/{mailbox}/events", {"subject": "Planning", **times})
    (booked,) = until(lambda: list(portal.items(f"{room}/reservations")))

    assert (booked["title"], booked["origin"], booked["syncState"]) == ("Planning", "microsoft", "synced")
    assert "notification" in {run["trigger"] for run in customer.runs("calendars")}

    run = portal.call("DELETE", customer.path)
    assert customer.wait(run)["status"] == "succeeded"
    assert customer.tenant.call("GET", "subscriptions") == []
