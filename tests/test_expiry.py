"""A credential that ends is told of in good time: once at each step of the ladder, and never of one that was replaced."""

import logging
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.tables import Conflict, Table
from sync import connections
from sync.connections import LADDER, warn_of_ends, warnings
from tests.cloud import NewTenant, TestTenant
from tests.contents import contents
from tests.house import House

NAME = "primary"
DAY = timedelta(days=1)


def connect(house: House, tenant: TestTenant, days: int) -> str:
    """A connection whose secret ends in so many days; the day."""
    ends = str((house.clock() + days * DAY).date())
    credential = {"type": "clientSecret", "secretValue": tenant.secret, "expiresOn": ends}
    body = {"name": NAME, "tenantId": tenant.id, "clientId": tenant.client_id, "credential": credential}
    assert house.call("POST", "connections", body).status == 201
    return ends


def alerts(house: House) -> list[tuple[str, str, str, str]]:
    return [(one["entity"], one["id"], one["change"], one["run"]) for one in house.changes(NAME)[0]]


ALERT = ("credential", NAME, "expiring", "")


def test_one_alert_at_each_step(house: House, tenant: TestTenant, caplog: pytest.LogCaptureFixture) -> None:
    """With a look every few hours for two months there is one alert each at 30, 7, 1 and 0 days, in feed and log."""
    caplog.set_level(logging.WARNING, "sync.connections")
    connect(house, tenant, 45)
    told: list[int] = []

    for _ in range(60 * 4):
        before = len(alerts(house))
        warn_of_ends(house.app)
        if len(alerts(house)) > before:
            told.append(int(house.get(f"connections/{NAME}")["credential"]["daysLeft"]))
        house.clock.ahead += DAY / 4

    assert told == [30, 7, 1, 0]
    assert alerts(house) == [ALERT] * 4
    lines = [record.getMessage() for record in caplog.records if record.name == "sync.connections"]
    assert lines == [f"credential ends connection={NAME} days={days}" for days in LADDER]


def test_a_new_one_ends_the_alerts_of_the_old(house: House, tenant: TestTenant) -> None:
    """After a rotation nothing is told of the old secret's end, and the new one has a ladder of its own."""
    connect(house, tenant, 10)
    secret = tenant.control.post(f"apps/{tenant.client_id}/secrets")["value"]
    ends = str((house.clock() + 100 * DAY).date())
    credential = {"type": "clientSecret", "secretValue": secret, "expiresOn": ends}
    assert house.call("PUT", f"connections/{NAME}/credential", credential).status == 200

    for _ in range(60):
        house.clock.ahead += DAY
        warn_of_ends(house.app)
    assert alerts(house) == []
    house.clock.ahead += 11 * DAY
    warn_of_ends(house.app)

    assert alerts(house) == [ALERT]


def test_what_the_directory_says_counts(house: House, new_tenant: NewTenant) -> None:
    """Where the check reads another day from the directory, the ladder is that of this day."""
    tenant = new_tenant(users=1, roles=["User.Read.All", "Application.Read.All"])
    secret = tenant.control.post(
        f"apps/{tenant.client_id}/secrets", {"endDateTime": (house.clock() + 5 * DAY).isoformat()}
    )
    credential = {"type": "clientSecret", "secretId": secret["keyId"], "secretValue": secret["value"]}
    body = {"name": NAME, "tenantId": tenant.id, "clientId": tenant.client_id, "credential": credential}
    assert house.call("POST", "connections", body).status == 201
    warn_of_ends(house.app)
    assert alerts(house) == []

    house.call("POST", f"connections/{NAME}/check")
    warn_of_ends(house.app)

    assert alerts(house) == [ALERT]


def test_two_hosts_tell_once(build_house: Callable[..., House], tenant: TestTenant) -> None:
    """Two timers at once, and one that died before it had tidied up, make one alert."""
    house, other = build_house(), build_house()
    connect(house, tenant, 20)
    rows = list(house.app.tables.due.scan("credentials"))

    for each in (house, other, house):
        for row in rows[:1]:
            connections._warn(each.app, NAME, row)
        warn_of_ends(each.app)

    assert alerts(house) == [ALERT]


def test_a_run_that_writes_the_feed_at_the_same_time(
    house: House, tenant: TestTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alert finds its place in the feed although somebody else was first."""
    connect(house, tenant, 20)
    house.enable(NAME, "users")
    plain, met = Table.commit, 0

    def commit(table: Table, partition: str, writes: Any) -> Any:
        nonlocal met
        if met == 0 and any(write.key.startswith("warned|") for write in writes):
            met += 1
            house.run(NAME, "users")
            raise Conflict
        return plain(table, partition, writes)

    with monkeypatch.context() as patch:
        patch.setattr(Table, "commit", commit)
        warn_of_ends(house.app)

    assert alerts(house)[-1] == ALERT
    assert len(alerts(house)) > 1


def test_a_removed_connection(house: House, tenant: TestTenant) -> None:
    """Nobody is warned of a connection that is gone, and nothing of it is left."""
    connect(house, tenant, 20)
    warn_of_ends(house.app)
    house.call("DELETE", f"connections/{NAME}")
    house.work()

    house.clock.ahead += 30 * DAY
    warn_of_ends(house.app)

    left = {key for table, key in contents(house).naming(NAME) if not key.startswith(("run|", "active|", "state|"))}
    assert left == set()


@given(st.dates(date(2020, 1, 1), date(2030, 1, 1)), st.integers(-3000, 3000))
def test_steps(ends: date, hours: int) -> None:
    """Every step that is ahead is there once, and of those that have passed the last alone, in order."""
    now = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=hours)

    steps = warnings(ends, now)

    ahead = [step for step in steps if step > now]
    assert steps == sorted(steps)
    assert len(steps) - len(ahead) == (1 if len(ahead) < len(LADDER) else 0)
    assert all((ends - step.date()).days in LADDER for step in steps)
