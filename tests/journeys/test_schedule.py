"""Syncs start by themselves when they are due, and only then."""

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import requests

from local.portal import Json
from local.stack import Stack
from tests.journeys.conftest import Customer


def tick(stack: Stack, timer: str, key: str) -> int:
    """The answer to a timer that is fired by hand, as an operator would."""
    url = f"{stack.api.removesuffix('/api')}/admin/functions/{timer}"
    return requests.post(url, json={"input": ""}, headers={"x-functions-key": key}, timeout=60).status_code


def eventually_run(customer: Customer, sync: str) -> Json:
    last = time.monotonic() + 120
    while not (found := customer.runs(sync)):
        assert time.monotonic() < last
        time.sleep(0.1)
    return customer.wait(found[0])


def next_run(customer: Customer, sync: str) -> datetime:
    syncs = {each["sync"]: each for each in customer.portal.items(f"{customer.path}/syncs")}
    return datetime.fromisoformat(syncs[sync]["nextRun"])


def test_a_sync_that_is_due_is_started_by_the_timer_once(stack, connect) -> None:
    customer = connect()
    customer.enable("users", schedule={"mode": "interval", "every": "PT4H"})
    due = next_run(customer, "users")

    assert tick(stack, "periodic_directory_sync", stack.master_key) == 202
    run = eventually_run(customer, "users")

    assert (run["trigger"], run["status"], run["counts"]["created"]) == ("timer", "succeeded", 30)
    assert next_run(customer, "users") == due + timedelta(hours=4)
    assert tick(stack, "periodic_directory_sync", stack.master_key) == 202
    assert tick(stack, "daily_photo_sync", stack.master_key) == 202
    customer.sync("users")
    assert [each["trigger"] for each in customer.runs("users")] == ["manual", "timer"]


def test_photos_are_due_at_the_local_time_that_was_set_and_not_before(stack, connect) -> None:
    customer = connect()
    zone = ZoneInfo("Asia/Tokyo")
    at = (datetime.now(zone) + timedelta(hours=2)).replace(second=0, microsecond=0)
    customer.enable("photos", schedule={"mode": "daily", "at": f"{at:%H:%M}", "timeZone": "Asia/Tokyo"})

    assert tick(stack, "daily_photo_sync", stack.master_key) == 202

    assert next_run(customer, "photos") == at.astimezone(UTC)
    other = connect()
    other.enable("users")
    other.sync("users")  # time enough for the tick to have started what is due
    assert customer.runs("photos") == []


def test_a_timer_is_fired_by_hand_with_the_master_key_only(stack) -> None:
    assert tick(stack, "periodic_directory_sync", stack.key) == 401
    assert tick(stack, "periodic_directory_sync", "wrong") == 401
    assert tick(stack, "no_such_timer", stack.master_key) == 404
