"""The function app itself: every trigger, on what it fires, and that each does what its name says."""

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

import azure.functions as func
import pytest

import function_app
from storage.queues import MANUAL, SCHEDULED
from storage.tables import Write
from sync import wiring
from sync.api import OPERATIONS, VERSION
from sync.calendars.model import RoomState, Subscription
from sync.calendars.store import state_key, state_row
from sync.due import due_key
from sync.subscriptions import RENEWALS
from tests.cloud import Cloud, NewTenant
from tests.house import Answer, House


def _triggers() -> dict[str, dict[str, Any]]:
    """What the host sees of each function, by name. The library lists an app once only unless it forgets."""
    function_app.app.functions_bindings = {}
    listed = function_app.app.get_functions()
    function_app.app.functions_bindings = {}
    return {str(one.get_function_name()): cast("Any", one.get_trigger()).get_dict_repr() for one in listed}


TRIGGERS = _triggers()
QUARTER = timedelta(minutes=16)
HTTP = [name for name, trigger in TRIGGERS.items() if trigger["type"] == "httpTrigger"]


def run(name: str, argument: object) -> Any:
    """Call a function as the host's worker would."""
    return getattr(function_app, name).build().get_user_function()(argument)


def call(name: str, method: str = "GET", /, **path: str) -> Answer:
    request = func.HttpRequest(method, "http://localhost/api/x", route_params=path, body=b"")
    reply = run(name, request)
    return Answer(reply.status_code, dict(reply.headers), reply.get_body())


@pytest.fixture
def environment(cloud: Cloud, empty_storage: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The app settings of this deployment; the app of the process is made anew from them."""
    settings = {
        "AzureWebJobsStorage": empty_storage,
        "KEY_VAULT_URL": cloud.vault,
        "ENTRA_ENDPOINT": cloud.entra,
        "GRAPH_ENDPOINT": cloud.graph,
        "REQUESTS_CA_BUNDLE": cloud.ca,
        "IDENTITY_ENDPOINT": cloud.identity["endpoint"],
        "IDENTITY_HEADER": cloud.identity["header"],
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    wiring.app.cache_clear()
    wiring.probe.cache_clear()
    yield monkeypatch
    wiring.app.cache_clear()
    wiring.probe.cache_clear()


class TestHttp:
    @pytest.mark.parametrize("name", [name for name in HTTP if name in OPERATIONS])
    def test_each_function_is_its_operation(
        self, environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
    ) -> None:
        """A function serves the operation of its own name."""
        caplog.set_level(logging.INFO, "sync.http")
        answer = call(name, OPERATIONS[name].method, name="nobody", sync="users", id="1")

        lines = [record.getMessage() for record in caplog.records if record.name == "sync.http"]
        assert [line.split()[1] for line in lines] == [f"operation={name}"]
        expected = {
            "get_health": 200,
            "get_ready": 200,
            "get_openapi": 200,
            "get_console": 200,
            "list_connections": 200,
        }
        needs_body = {each.id for each in OPERATIONS.values() if each.body and not each.optional_body}
        assert answer.status == {**expected, **dict.fromkeys(needs_body, 400)}.get(name, 404)

    @pytest.mark.parametrize(
        ("method", "path", "status", "allow"),
        [
            ("GET", "nonsense", 404, None),
            ("GET", "connections/a/nonsense", 404, None),
            ("GET", "connections/a/users/b/photo/c", 404, None),
            ("GET", "openapiXjson", 404, None),
            ("GET", "", 404, None),
            ("GET", "../connections", 404, None),
            ("POST", "health", 405, "GET"),
            ("DELETE", "connections", 405, "GET, POST"),
            ("HEAD", "connections/a", 405, "DELETE, GET, PATCH"),
            ("OPTIONS", "connections/a/syncs/users/runs", 405, "POST"),
            ("PATCH", "connections/a/syncs/users", 405, "GET, PUT"),
            ("PUT", "connections/a/credential/x", 404, None),
        ],
    )
    def test_everything_else(
        self, environment: pytest.MonkeyPatch, method: str, path: str, status: int, allow: str | None
    ) -> None:
        """An unknown address is a 404, a wrong method a 405 that names the right ones; both are problems."""
        answer = call("zz_no_such_route", method, path=path)

        assert (answer.status, answer.headers.get("Allow")) == (status, allow)
        assert answer.json["code"] == ("method-not-allowed" if allow else "route-not-found")
        assert allow is None or answer.json["remedy"] == f"Use {allow.replace(', ', ' or ')}."

    def test_it_comes_last(self) -> None:
        """The route for everything else takes every method, needs a key, and sorts behind all others."""
        trigger = TRIGGERS["zz_no_such_route"]

        assert trigger["route"] == "{*path}"
        assert {method.value for method in trigger["methods"]} >= {one.method for one in OPERATIONS.values()}
        assert trigger["authLevel"] == func.AuthLevel.FUNCTION
        assert max(HTTP) == "zz_no_such_route"


class TestHealth:
    def test_alive_without_anything(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Health touches no dependency: it answers where not even the settings are there."""
        wiring.app.cache_clear()
        monkeypatch.delenv("KEY_VAULT_URL", raising=False)

        assert call("get_health").json == {"status": "ok", "version": VERSION}

    def test_settings_that_are_missing(self, environment: pytest.MonkeyPatch) -> None:
        """Without its settings the app says which ones it lacks, in every other answer."""
        environment.setenv("KEY_VAULT_URL", "http://vault.example")
        environment.setenv("SLICE_SECONDS", "soon")

        for name in ("get_ready", "list_connections"):
            answer = call(name)
            assert (answer.status, answer.json["code"]) == (500, "invalid-settings")
            assert "KEY_VAULT_URL" in answer.json["detail"]
            assert "SLICE_SECONDS" in answer.json["detail"]
            assert "vault.example" not in answer.content.decode()

    def test_ready_before_the_first_call(self, environment: pytest.MonkeyPatch) -> None:
        """A new deployment, whose tables nobody has made yet, is ready."""
        answer = call("get_ready")

        assert answer.status == 200
        assert answer.json == {
            "status": "ready",
            "checks": {"tables": "ok", "blobs": "ok", "queues": "ok", "vault": "ok"},
        }

    def test_a_store_that_does_not_answer(self, environment: pytest.MonkeyPatch, cloud: Cloud) -> None:
        """When one of the stores is down the app is not ready, and says which one."""
        cloud.control.post("vault", {"unavailable": True})
        answer = call("get_ready")
        cloud.control.post("vault", {})

        assert answer.status == 503
        assert answer.json == {
            "status": "unavailable",
            "checks": {"tables": "ok", "blobs": "ok", "queues": "ok", "vault": "failed"},
        }


class TestTimersAndQueues:
    def test_when_they_fire(self) -> None:
        """Photos are looked after every quarter of an hour, everything else every five minutes."""
        timers = {name: t["schedule"] for name, t in TRIGGERS.items() if t["type"] == "timerTrigger"}

        assert timers == {
            "daily_photo_sync": "0 */15 * * * *",
            "periodic_directory_sync": "0 */5 * * * *",
            "poll_calendars": "0 */5 * * * *",
            "renew_subscriptions": "0 17 */6 * * *",
            "warn_of_ends": "0 7 * * * *",
        }

    def test_which_queues_are_read(self) -> None:
        """Every queue that the product writes is read, and so is what becomes of its poisoned messages."""
        queues = {t["queueName"]: t["connection"] for t in TRIGGERS.values() if t["type"] == "queueTrigger"}

        wanted = (MANUAL, SCHEDULED, f"{MANUAL}-poison", f"{SCHEDULED}-poison")
        assert queues == dict.fromkeys(wanted, "AzureWebJobsStorage")

    @pytest.fixture
    def deployed(self, environment: pytest.MonkeyPatch, cloud: Cloud, new_tenant: NewTenant) -> House:
        """The app of this process with a connection whose photos, users and calendars are due every 15 minutes."""
        house = House(wiring.app(), cast("Any", wiring.utc_now), cloud)
        often = {"mode": "interval", "every": "PT15M"}
        house.connect(new_tenant(users=1), users={"schedule": often}, photos={"schedule": often})
        house.enable("primary", "calendars", schedule=often)
        return house

    @pytest.mark.parametrize(
        ("timer", "sync"),
        [("daily_photo_sync", "photos"), ("periodic_directory_sync", "users"), ("poll_calendars", "calendars")],
    )
    def test_a_timer_starts_what_is_due(
        self, deployed: House, monkeypatch: pytest.MonkeyPatch, timer: str, sync: str
    ) -> None:
        """A timer starts the due runs of its own kind, and the queue's function carries them out."""
        monkeypatch.setattr(deployed.app, "clock", lambda: wiring.utc_now() + QUARTER)

        run(timer, None)
        started = deployed.get("connections/primary/runs")["items"]
        (message,) = deployed.messages()
        run("run_scheduled_sync", func.QueueMessage(body=json.dumps(message).encode()))

        assert [(one["sync"], one["trigger"], one["status"]) for one in started] == [(sync, "timer", "queued")]
        assert deployed.get(f"connections/primary/runs/{started[0]['id']}")["startedAt"] is not None

    def test_the_timer_of_subscriptions(self, deployed: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """A subscription that is in its last day is seen to by a run."""
        now = wiring.utc_now()
        state = RoomState(subscription=Subscription("id", "digest", now + timedelta(hours=23)))
        deployed.app.tables.data.commit("primary", [Write("replace", state_key("oak"), state_row(state))])
        row = {"connection": "primary", "room": "oak"}
        deployed.app.tables.due.commit(RENEWALS, [Write("insert", due_key(now, "primary", "oak"), row)])

        run("renew_subscriptions", None)

        started = deployed.get("connections/primary/runs")["items"]
        assert [(one["sync"], one["trigger"]) for one in started] == [("calendars", "timer")]

    def test_a_manual_run(self, deployed: House) -> None:
        """A run that a person starts travels on its own queue to its own function."""
        started = deployed.start("primary", "users")
        (message,) = deployed.messages()

        run("run_manual_sync", func.QueueMessage(body=json.dumps(message).encode()))

        assert deployed.get(f"connections/primary/runs/{started}")["status"] == "succeeded"

    @pytest.mark.parametrize("function", ["record_poisoned_manual_sync", "record_poisoned_scheduled_sync"])
    def test_a_message_that_the_host_gave_up(self, deployed: House, function: str) -> None:
        """A poisoned message ends its run with an error that the portal shows; the next run can start."""
        started = deployed.start("primary", "users")
        (message,) = deployed.messages()

        run(function, func.QueueMessage(body=json.dumps(message).encode()))

        shown = deployed.get(f"connections/primary/runs/{started}")
        assert (shown["status"], shown["error"]["code"]) == ("failed", "run-crashed")
        assert deployed.start("primary", "users") != started
