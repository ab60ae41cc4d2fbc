"""Connections: removed to the last trace, whoever dies on the way."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from storage.secrets import secret_name
from storage.tables import Write
from sync import jobs
from sync.runs import Claim, load_run
from tests.cloud import NewTenant, TestTenant
from tests.contents import contents
from tests.credentials import check, code, key, request, vault
from tests.house import House

__all__ = ["key", "vault"]


def fill(house: House, tenant: TestTenant, name: str) -> None:
    interval = {"mode": "interval", "every": "PT4H"}
    house.connect(tenant, name, users={"schedule": interval}, photos={"schedule": interval})
    house.run(name, "users")
    house.run(name, "photos")
    house.app.tables.budgets.commit(tenant.id, [Write("replace", tenant.client_id, {"j_budget": {}})])
    house.call("POST", f"connections/{name}/check", {}, Idempotency_Key="k")


class TestRemoving:
    @pytest.fixture
    def full(self, house: House, new_tenant: NewTenant) -> House:
        """A connection with users, photos, runs, feed, due rows, a kept answer and a request budget."""
        fill(house, new_tenant(users=2, photoShare=1), "primary")
        return house

    def test_nothing_is_left_but_the_run(self, full: House, new_tenant: NewTenant) -> None:
        """A removal takes rows, photos, secret and connection of its own and nothing of another one."""
        fill(full, new_tenant(users=2, photoShare=1), "other")
        tenant = full.tenants["primary"]
        words = ("primary", tenant.id, tenant.client_id)
        before = contents(full)
        assert {place for place, _ in before.naming(*words)} == {"connections", "data", "due", "budgets", "blobs"}

        answer = full.call("DELETE", "connections/primary")
        assert answer.status == 202
        assert answer.headers["Location"] == f"/api/connections/primary/runs/{answer.json['id']}"
        full.work()

        after = contents(full)
        assert after.naming(*words) == [("data", f"run|{answer.json['id']}")]
        assert secret_name("primary") not in after.secrets
        run = full.get(f"connections/primary/runs/{answer.json['id']}")
        assert (run["status"], run["sync"], run["error"]) == ("succeeded", "connection", None)
        kept = ("other", full.tenants["other"].id, full.tenants["other"].client_id)
        assert after.naming(*kept) == before.naming(*kept)
        assert secret_name("other") in after.secrets
        assert full.run("other", "users")["status"] == "succeeded"

    def test_from_the_first_moment_on(self, full: House) -> None:
        """A connection that is being removed is not found, starts no run, and its name is not free yet."""
        run = full.call("DELETE", "connections/primary").json["id"]

        for method, path in (
            ("GET", "connections/primary"),
            ("GET", "connections/primary/users"),
            ("POST", "connections/primary/check"),
            ("POST", "connections/primary/syncs/users/runs"),
        ):
            assert code(full.call(method, path)) == (404, "connection-not-found")
        assert full.get("connections")["items"] == []
        assert code(full.call("POST", "connections", request(full.tenants["primary"]))) == (409, "connection-exists")
        assert full.get(f"connections/primary/runs/{run}")["status"] == "queued"

    def test_deleting_it_again(self, full: House) -> None:
        """A second DELETE is answered with the same run, and with a 404 once all is gone."""
        first, second = (full.call("DELETE", "connections/primary") for _ in range(2))
        full.work()

        assert (second.status, second.json["id"]) == (202, first.json["id"])
        assert code(full.call("DELETE", "connections/primary")) == (404, "connection-not-found")

    def test_the_name_afterwards(self, full: House, new_tenant: NewTenant) -> None:
        """The name can be used again at once, for another tenant, and shows nothing of before."""
        full.call("DELETE", "connections/primary")
        full.work()

        full.connect(new_tenant(users=1), "primary", users={})

        assert full.users("primary") == {}
        assert full.get("connections/primary/runs")["items"] == []
        assert full.changes("primary")[0] == []
        assert full.run("primary", "users")["counts"]["created"] == 1

    def test_a_name_the_vault_may_not_purge(
        self, full: House, new_tenant: NewTenant, vault: Callable[..., None]
    ) -> None:
        """Under purge protection too a removed connection's name can be used again, with the new secret."""
        vault(purgeProtection=True)
        full.call("DELETE", "connections/primary")
        full.work()
        assert full.app.secrets.load(secret_name("primary")) is None

        full.connect(new_tenant(), "primary")

        assert check(full)["status"] == "confirmed"

    def test_while_a_run_is_queued(self, full: House) -> None:
        """A run that waits is cancelled by the removal, and its message comes to nothing."""
        full.start("primary", "users")
        run = full.call("DELETE", "connections/primary").json["id"]

        full.work()

        assert contents(full).naming("primary") == [("data", f"run|{run}")]
        assert contents(full).messages == []

    def test_while_a_run_is_at_work(self, full: House) -> None:
        """A removal waits until the worker of a running run has noticed or its lease is over, then takes all of it."""
        started = full.start("primary", "users")
        found = load_run(full.app.tables.data, "primary", started)
        assert found is not None
        worker = Claim.take(full.app.tables.data, *found, now=full.clock())
        assert worker is not None
        run = full.call("DELETE", "connections/primary").json["id"]

        full.work()
        assert full.get(f"connections/primary/runs/{run}")["status"] == "running"
        assert full.app.secrets.load(secret_name("primary")) is not None
        full.clock.ahead += timedelta(seconds=100)
        jobs.work(full.app, {"connection": "primary", "run": run})

        assert full.get(f"connections/primary/runs/{run}")["status"] == "succeeded"
        assert {key for _, key in contents(full).naming("primary")} - {""} == {f"run|{run}"}

    def test_with_the_vault_down(self, full: House, vault: Callable[..., None]) -> None:
        """A removal that the vault interrupts is carried on later; nothing is called removed before it is."""
        run = full.call("DELETE", "connections/primary").json["id"]
        vault(unavailable=True)
        with pytest.raises(Exception):  # noqa: B017 - the host sees the fault and gives the message back
            full.work()
        vault()
        assert full.get(f"connections/primary/runs/{run}")["status"] == "running"

        jobs.work(full.app, {"connection": "primary", "run": run})

        assert full.get(f"connections/primary/runs/{run}")["status"] == "succeeded"
        assert contents(full).naming("primary") == [("data", f"run|{run}")]

    @pytest.mark.parametrize("step", ["secrets.delete", "blobs.delete_all", "tables.connections.commit"])
    def test_killed_on_the_way(self, full: House, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
        """A worker that dies after any step leaves a removal that the next one ends."""
        run = full.call("DELETE", "connections/primary").json["id"]
        *parts, name = step.split(".")
        owner: Any = full.app
        for part in parts:
            owner = getattr(owner, part)
        done = getattr(owner, name)

        def die(*arguments: Any) -> None:
            done(*arguments)
            raise SystemExit

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, die)
            with pytest.raises(SystemExit):
                full.work()
        full.clock.ahead += timedelta(seconds=100)
        jobs.work(full.app, {"connection": "primary", "run": run})

        assert full.get(f"connections/primary/runs/{run}")["status"] == "succeeded"
        assert contents(full).naming("primary") == [("data", f"run|{run}")]
        assert secret_name("primary") not in contents(full).secrets

    def test_a_removal_that_was_cancelled(self, full: House) -> None:
        """A removal that somebody stops can be asked for again, and then takes everything."""
        run = full.call("DELETE", "connections/primary").json["id"]
        assert full.call("POST", f"connections/primary/runs/{run}/cancel").json["status"] == "cancelled"

        second = full.call("DELETE", "connections/primary").json["id"]
        full.work()

        assert second != run
        assert contents(full).naming("primary") == [("data", f"run|{second}")]
