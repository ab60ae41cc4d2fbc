"""The whole product in this process, over real sockets: Azurite, the simulated cloud, its own clock.

Only the function host is left out: `call` does what it does with a request, `work` what it does with messages.
"""

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import azure.functions as func
import pytest

from storage.queues import MANUAL, SCHEDULED
from sync import jobs
from sync.api import OPERATIONS
from sync.http import respond
from sync.settings import CLOUDS, Settings
from sync.settings import Cloud as Endpoints
from sync.wiring import App, build
from tests.cloud import Cloud, TestTenant

# Settings of a sync that may delete everything at once.
UNGUARDED: dict[str, Any] = {"deletionGuard": {"maxCount": 1_000_000, "maxPercent": 100}}


@dataclass
class Clock:
    """Real time, moved by what a test adds."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@dataclass
class House:
    """`app` and the means to use it as a portal and as the function host would."""

    app: App
    clock: Clock
    cloud: Cloud
    tenants: dict[str, TestTenant] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One API call; `body` is JSON, or bytes to be sent as they are. Headers take _ for -."""
        bare, _, query = path.partition("?")
        params = dict(part.split("=", 1) for part in query.split("&") if part)
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        for operation in OPERATIONS.values():
            hit = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", operation.path), bare)
            if hit and operation.method == method:
                request = func.HttpRequest(
                    method,
                    f"http://localhost/api/{path}",
                    headers={name.replace("_", "-"): value for name, value in headers.items()},
                    params=params,
                    route_params=hit.groupdict(),
                    body=raw,
                )
                reply = respond(request, operation, lambda: self.app)
                return Answer(reply.status_code, {**reply.headers, "Content-Type": reply.mimetype}, reply.get_body())
        raise AssertionError(f"no operation for {method} {path}")

    def get(self, path: str, **headers: str) -> Any:
        """The JSON of a GET that must work."""
        answer = self.call("GET", path, **headers)
        assert answer.status == 200, answer.content
        return answer.json

    def connect(self, tenant: TestTenant, name: str = "primary", **syncs: Any) -> str:
        """A connection to `tenant`, with these syncs enabled by these settings."""
        body = {
            "name": name,
            "tenantId": tenant.id,
            "clientId": tenant.client_id,
            "credential": {"type": "clientSecret", "secretValue": tenant.secret},
        }
        assert self.call("POST", "connections", body).status == 201
        self.tenants[name] = tenant
        for sync, settings in syncs.items():
            self.enable(name, sync, **settings)
        return name

    def enable(self, name: str, sync: str, **settings: Any) -> None:
        body = {"enabled": True, "schedule": {"mode": "manual"}, **settings}
        answer = self.call("PUT", f"connections/{name}/syncs/{sync}", body)
        assert answer.status == 200, answer.content

    def start(self, name: str, sync: str, **body: Any) -> str:
        """A manual run; its id."""
        answer = self.call("POST", f"connections/{name}/syncs/{sync}/runs", body)
        assert answer.status == 202, answer.content
        return str(answer.json["id"])

    def run(self, name: str, sync: str, **body: Any) -> Any:
        """A manual run, worked to its end."""
        run = self.start(name, sync, **body)
        self.work()
        return self.get(f"connections/{name}/runs/{run}")

    def messages(self) -> Iterator[dict[str, Any]]:
        """The messages that can be seen now, manual ones first; taking one removes it."""
        while True:
            for queue in (MANUAL, SCHEDULED):
                client = self.app.queues._clients[queue]
                message = client.receive_message()
                if message is not None:
                    client.delete_message(message)
                    yield json.loads(base64.b64decode(message.content))
                    break
            else:
                return

    def work(self) -> int:
        """Work through all messages, as one worker would; how many slices that were."""
        slices = 0
        for message in self.messages():
            jobs.work(self.app, message)
            slices += 1
        return slices

    def users(self, name: str, **query: str) -> dict[str, Any]:
        """All users by id."""
        found: dict[str, Any] = {}
        cursor = ""
        while True:
            asked = "&".join(f"{key}={value}" for key, value in {**query, "top": "1000"}.items()) + cursor
            answer = self.get(f"connections/{name}/users?{asked}")
            found |= {user["id"]: user for user in answer["items"]}
            if answer["next"] is None:
                return found
            cursor = f"&cursor={answer['next']}"

    def changes(self, name: str, after: str = "") -> tuple[list[dict[str, Any]], str]:
        """The changes behind a cursor, all pages, and the cursor to poll with next."""
        found: list[dict[str, Any]] = []
        while True:
            answer = self.get(f"connections/{name}/changes?top=1000" + (f"&after={after}" if after else ""))
            found += answer["items"]
            after = answer["next"]
            if not answer["items"]:
                return found, after


def furnish(cloud: Cloud, storage: str, clock: Clock, environment: pytest.MonkeyPatch, **changes: Any) -> House:
    """The app on this storage, with these settings over those of the tests."""
    environment.setenv("REQUESTS_CA_BUNDLE", cloud.ca)
    environment.setenv("IDENTITY_ENDPOINT", cloud.identity["endpoint"])
    environment.setenv("IDENTITY_HEADER", cloud.identity["header"])
    values: dict[str, Any] = {
        "clouds": {**CLOUDS, "global": Endpoints(cloud.entra, cloud.graph)},
        "key_vault_url": cloud.vault,
        "storage_connection": storage,
        "storage_uris": {},
        "managed_identity": None,
        "slice_seconds": 240,
        "photo_batches": 4,
        "photo_bytes": 4 * 1024 * 1024,
        "webhook_base_url": None,
    }
    app = build(Settings(**{**values, **changes}), clock=clock)
    app.create()
    return House(app, clock, cloud)


@pytest.fixture
def build_house(cloud: Cloud, empty_storage: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., House]:
    """Makes the app on storage of its own; called again it is a second process on the same storage."""
    clock = Clock()
    return lambda **changes: furnish(cloud, empty_storage, clock, monkeypatch, **changes)


@pytest.fixture
def house(build_house: Callable[..., House]) -> House:
    return build_house()


@pytest.fixture(scope="module")
def shared_house(cloud: Cloud, _accounts: Iterator[str]) -> Iterator[House]:
    """One house for all tests of a module that leave nothing behind in it."""
    with pytest.MonkeyPatch.context() as environment:
        yield furnish(cloud, next(_accounts), Clock(), environment)
