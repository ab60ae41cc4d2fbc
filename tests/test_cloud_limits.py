"""How the simulated Graph refuses, fails and cuts off, and who came back too early."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from local.cloud.throttling import Throttle
from tests.cloud import TestTenant
from tests.graph import assert_error, ids, person_with_photo, users_of

# Limits and faults


@pytest.mark.parametrize(
    ("style", "pattern"), [("seconds", r"2"), ("decimal", r"1\.500"), ("date", r".* GMT"), ("absent", None)]
)
@pytest.mark.parametrize(
    ("rate", "status", "code"),
    [
        ("rate429", 429, "TooManyRequests"),
        ("rate503", 503, "ServiceUnavailable"),
        ("rate504", 504, "GatewayTimeout"),
    ],
)
def test_refusals_and_how_they_say_when_to_come_back(tenant, rate, status, code, style, pattern):
    tenant.control.post("faults", {rate: 1, "retryAfter": {"style": style, "seconds": 1.5}})
    graph, asked = tenant.graph(), datetime.now(UTC)
    answer = graph.get("/users")
    sent = answer.headers.get("Retry-After")

    assert_error(answer, status, code)
    assert sent is None if pattern is None else re.fullmatch(pattern, str(sent))
    if style == "date":
        told = parsedate_to_datetime(str(sent))
        assert asked + timedelta(seconds=1.5) < told <= datetime.now(UTC) + timedelta(seconds=2.5)
    if status == 429:
        scope = f"Tenant_Application/ReadWrite/{tenant.client_id}/{tenant.id}"
        assert answer.headers["x-ms-throttle-scope"] == scope
        assert answer.headers["x-ms-throttle-information"] == "ResourceUnitLimitExceeded"


def test_resets_cut_the_connection_before_or_in_the_answer(tenant):
    tenant.control.post("faults", {"rateReset": 1, "seed": 3})
    graph = tenant.graph()
    errors = []
    for _ in range(12):
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)) as raised:
            graph.get("/users")
        errors.append(type(raised.value))

    assert set(errors) == {requests.ConnectionError, requests.exceptions.ChunkedEncodingError}
    assert tenant.control.get("counters")["graph"]["faulted"] == 12
    tenant.control.post("faults", {})
    assert graph.get("/users").status_code == 200


def test_faults_are_the_same_for_the_same_seed(tenant):
    graph = tenant.graph()

    def statuses() -> list[int]:
        tenant.control.post("faults", {"rate429": 0.3, "rate503": 0.3, "seed": 7, "retryAfter": {"seconds": 0}})
        return [graph.get("/users?$top=1").status_code for _ in range(20)]

    first = statuses()

    assert first == statuses()
    assert set(first) == {200, 429, 503}


def test_items_of_a_batch_fail_one_by_one(new_tenant):
    tenant = new_tenant(users=20, photoShare=1)
    tenant.control.post("faults", {"rateBatchItem": 0.5, "seed": 1, "retryAfter": {"seconds": 7}})
    found = tenant.graph().batch(*(f"/users/{user['id']}/photo" for user in users_of(tenant)))
    refused = [item for item in found.values() if item["status"] != 200]

    assert {item["status"] for item in found.values()} == {200, 429, 503}
    assert {item["headers"]["Retry-After"] for item in refused} == {"7"}
    assert tenant.control.get("counters")["graph"]["faulted"] == len(refused)


def test_latency(tenant):
    graph = tenant.graph()
    graph.get("/users?$top=1")
    tenant.control.post("faults", {"latencyMs": 120})
    started = time.monotonic()
    graph.get("/users?$top=1")

    assert time.monotonic() - started >= 0.12


@pytest.mark.parametrize(
    ("path", "units"),
    [
        ("/users", "2"),
        ("/users?$select=id", "1"),
        ("/users?$top=10", "1"),
        ("/users?$select=id&$top=10", "1"),
        ("/users/delta", "2"),
        ("/organization", "1"),
    ],
)
def test_what_a_call_costs(new_tenant, path, units):
    graph = new_tenant(users=1, roles=["User.Read.All", "Organization.Read.All"]).graph()

    assert graph.get(path).headers["x-ms-resource-unit"] == units


def test_a_spent_budget_refuses_until_it_has_refilled(tenant):
    tenant.control.post("faults", {"unitsPer10s": 20, "retryAfter": {"style": "decimal"}})
    graph = tenant.graph()
    started = time.monotonic()
    answers = [graph.get("/users?$top=1")]
    while answers[-1].status_code == 200:
        answers.append(graph.get("/users?$top=1"))
    refilled = 2 * (time.monotonic() - started)
    answers.append(graph.get("/users?$top=1"))
    used = [answer.headers.get("x-ms-throttle-limit-percentage") for answer in answers]
    wait = float(answers[-2].headers["Retry-After"])

    assert 20 <= len(answers) - 2 <= 20 + refilled
    assert used[0] is None
    assert max(float(share) for share in used if share) > 0.9
    assert 0 < wait <= 1
    assert tenant.control.get("counters")["graph"]["throttled"] == sum(a.status_code == 429 for a in answers)
    time.sleep(float(answers[-1].headers["Retry-After"]))
    assert graph.get("/users?$top=1").status_code == 200


def test_a_budget_counts_the_items_of_a_batch(new_tenant):
    tenant = new_tenant(users=20, photoShare=1)
    tenant.control.post("faults", {"unitsPer10s": 12})
    found = tenant.graph().batch(*(f"/users/{user['id']}/photo" for user in users_of(tenant)))
    statuses = [item["status"] for item in found.values()]

    assert (statuses.count(200), statuses.count(429)) == (12, 8)


def test_a_mailbox_serves_four_calls_at_a_time(new_tenant):
    tenant, user_id = person_with_photo(new_tenant, 648)
    graph = tenant.graph()
    found = graph.batch(*[f"/users/{user_id}/photo"] * 6)
    refused = [item for item in found.values() if item["status"] == 429]

    assert len(refused) == 2
    assert refused[0]["body"]["error"]["code"] == "ApplicationThrottled"
    assert "MailboxConcurrency" in refused[0]["body"]["error"]["message"]
    assert refused[0]["headers"]["Retry-After"] == "1"
    assert graph.get(f"/users/{user_id}/photo").status_code == 200


def eight_at_once(tenant: TestTenant, path: str, **faults: Any) -> list[int]:
    """The statuses of eight GETs on connections of their own, which are open before the faults begin."""
    everybody = Barrier(8, action=lambda: tenant.control.post("faults", {"latencyMs": 700, **faults}))

    def fetch(_: int) -> int:
        with tenant.graph() as graph:
            graph.get("/users?$top=1")
            everybody.wait(60)
            return graph.get(path).status_code

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(fetch, range(8)))


def test_a_mailbox_counts_calls_in_flight_of_every_connection(new_tenant):
    tenant, user_id = person_with_photo(new_tenant, 648)
    statuses = eight_at_once(tenant, f"/users/{user_id}/photo")

    assert 1 <= statuses.count(429) <= 4
    assert statuses.count(200) >= 4


# Who came back too early


def violations(tenant: TestTenant) -> int:
    return int(tenant.control.get("counters")["graph"]["retryViolations"])


def test_the_same_request_too_early(tenant):
    graph = tenant.graph()
    tenant.control.post("faults", {"rate503": 1, "retryAfter": {"seconds": 60}})
    graph.get("/users")
    graph.get("/users?$top=1")
    before = violations(tenant)
    graph.get("/users")

    assert (before, violations(tenant)) == (0, 1)


def test_the_same_request_in_time(tenant):
    graph = tenant.graph()
    tenant.control.post("faults", {"rate503": 1, "retryAfter": {"style": "decimal", "seconds": 0.2}})
    graph.get("/users")
    time.sleep(0.2)
    graph.get("/users")

    assert violations(tenant) == 0


@pytest.mark.parametrize(
    ("seconds", "request_", "early"),
    [(0.4, "other", False), (0.4, "refused", True), (0.6, "other", True), (4.9, "other", True), (5, "other", False)],
)
def test_half_a_second_is_granted_to_what_was_under_way(monkeypatch, seconds, request_, early):
    now = 100.0
    monkeypatch.setattr("local.cloud.throttling.time", SimpleNamespace(monotonic=lambda: now))
    throttle = Throttle()
    throttle.pause("app", "refused", 5, sent_in=0, whole_app=True)
    now += seconds

    assert throttle.arrive("app", request_).early is early


def test_after_a_429_the_whole_app_has_to_wait(tenant):
    """All but what came before the refusal was sent."""
    refused = eight_at_once(tenant, "/users", rate429=1, retryAfter={"seconds": 60})
    under_way = violations(tenant)
    tenant.control.post("faults", {})
    time.sleep(0.6)
    tenant.graph().get("/users?$top=2")

    assert refused == [429] * 8
    assert (under_way, violations(tenant)) == (0, 1)


def test_an_item_too_early(new_tenant):
    tenant = new_tenant(users=2)
    one, two = ids(users_of(tenant))
    graph = tenant.graph()
    tenant.control.post("faults", {"rateBatchItem": 1, "retryAfter": {"seconds": 60}})
    graph.batch(f"/users/{one}")
    tenant.control.post("counters")
    graph.batch(f"/users/{two}")
    before = violations(tenant)
    graph.batch(f"/users/{one}")

    assert (before, violations(tenant)) == (0, 1)


def test_a_refusal_that_was_lost_with_its_batch_binds_nobody(new_tenant):
    tenant = new_tenant(users=1)
    graph, [user_id] = tenant.graph(), ids(users_of(tenant))
    tenant.control.post("faults", {"rateReset": 1, "rateBatchItem": 1, "retryAfter": {"seconds": 5}})
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        graph.batch(f"/users/{user_id}")
    tenant.control.post("faults", {})

    assert graph.batch(f"/users/{user_id}")["1"]["status"] == 200
    assert violations(tenant) == 0


def test_a_busy_mailbox_does_not_stop_the_app(new_tenant):
    tenant, user_id = person_with_photo(new_tenant, 648)
    statuses = eight_at_once(tenant, f"/users/{user_id}/photo", retryAfter={"seconds": 60})
    tenant.control.post("faults", {})
    time.sleep(0.6)
    tenant.graph().get("/users?$top=1")

    assert 429 in statuses
    assert violations(tenant) == 0


def test_without_a_time_nobody_is_early(tenant):
    graph = tenant.graph()
    tenant.control.post("faults", {"rate429": 1, "retryAfter": {"style": "absent", "seconds": 5}})
    graph.get("/users")
    graph.get("/users")

    assert violations(tenant) == 0
