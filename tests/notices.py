"""Notifications as Graph posts them for tests, and what they lead to."""

import logging
from secrets import token_urlsafe
from typing import Any

import pytest

from storage.tables import decode_key
from sync import jobs
from sync.calendars.store import WAITS
from sync.subscriptions import Sender, digest_of, save_sender
from sync.sync_settings import CalendarsSettings
from tests.cloud import NewTenant, TestTenant
from tests.house import Answer, House

NAME = "primary"
GRAPH = "webhooks/graph"
LIFECYCLE = "webhooks/graph/lifecycle"
GUID = "7c2c8f56-3b1e-4e51-9f0a-1d2f3a4b5c6d"


@pytest.fixture
def portal(house: House, new_tenant: NewTenant) -> House:
    """A house with one connection whose calendars are synced."""
    connect(house, new_tenant(), NAME)
    return house


def connect(house: House, tenant: TestTenant, name: str, *, enabled: bool = True) -> None:
    house.connect(tenant, name)
    jobs.save_settings(house.app, name, "calendars", CalendarsSettings(enabled=enabled), None)


def subscribe(house: House, room: str, name: str = NAME, **fields: str) -> dict[str, Any]:
    """A subscription of the room as it stands in storage; what Graph posts for it."""
    client_state, subscription = token_urlsafe(32), f"{GUID[:-4]}{len(room):04d}"
    known = {"subscription": subscription, "tenant": house.tenants[name].id, **fields}
    save_sender(house.app.tables.subscriptions, Sender(name, room, digest_of(client_state), **known))
    return {
        "subscriptionId": subscription,
        "subscriptionExpirationDateTime": "2026-04-20T18:23:45.93+00:00",
        "clientState": client_state,
        "changeType": "updated",
        "tenantId": house.tenants[name].id,
        "resource": "Users/somebody/Events/AAMk",
        "resourceData": {"@odata.type": "#Microsoft.Graph.Event", "id": "AAMk"},
    }


def post(house: House, *items: Any, path: str = GRAPH) -> Answer:
    return house.call("POST", path, {"value": list(items)})


def heard(house: House, name: str = NAME) -> dict[str, set[str]]:
    """The rooms that a run has to look at, each with what it is asked for."""
    rows = house.app.tables.data.scan(name, WAITS)
    return {
        decode_key(row["key"].split("|")[1]): {flag for flag in ("renew", "recreate") if row.get(flag)} for row in rows
    }


def runs(house: House, name: str = NAME) -> list[tuple[str, str, str]]:
    return [(run["sync"], run["trigger"], run["status"]) for run in house.get(f"connections/{name}/runs")["items"]]


def dropped(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was dropped and counted since this was last asked for."""
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    caplog.clear()
    return [reason for line in lines if " reasons=" in line for reason in line.rpartition("reasons=")[2].split(",")]
