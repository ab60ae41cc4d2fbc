"""The simulated Microsoft cloud for tests: one process per test process, a tenant of its own for every test."""

import itertools
import json
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from local.processes import unmeasured

ROOT = Path(__file__).parent.parent
SEEDS = itertools.count(1)


@dataclass
class Control:
    """The control endpoint below one path; local/cloud/control.py lists the calls."""

    url: str
    session: requests.Session

    def get(self, path: str = "", **query: Any) -> Any:
        return self._call("GET", path, params=query)

    def post(self, path: str, body: Any = None) -> Any:
        return self._call("POST", path, json=body or {})

    def patch(self, path: str, body: Any) -> Any:
        return self._call("PATCH", path, json=body)

    def put(self, path: str, body: Any) -> Any:
        return self._call("PUT", path, json=body)

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path)

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        answer = self.session.request(method, f"{self.url}/{path}".rstrip("/"), timeout=120, **arguments)
        if not answer.ok:
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        return answer.json() if is_json else answer.content


@dataclass
class Cloud:
    """Where the simulated cloud answers; `ca` is the file of its certificate authority."""

    entra: str
    graph: str
    vault: str
    identity: dict[str, str]
    ca: str
    control: Control

    def session(self) -> requests.Session:
        """A session that trusts the cloud, whatever the environment says of certificates."""
        session = requests.Session()
        session.trust_env = False
        session.verify = self.ca
        return session

    def generate(self, **population: Any) -> "TestTenant":
        """A generated tenant: users, seed, photoShare, guestShare, disabledShare, devices, contactGroups, contactMembers,
        rooms, eventsPerRoom, roles."""
        wanted = {"users": 0, "seed": next(SEEDS), **population}
        return self._tenant(self.control.post("tenants", {"generate": wanted}))

    def load(self, data: dict[str, Any]) -> "TestTenant":
        """A tenant from the content of a tenant data file."""
        return self._tenant(self.control.post("tenants", data))

    def _tenant(self, shown: dict[str, Any]) -> "TestTenant":
        control = Control(f"{self.control.url}/tenants/{shown['id']}", self.control.session)
        return TestTenant(self, control, shown["id"], shown["domain"], shown["apps"][0])


@dataclass
class TestTenant:
    """A tenant and its first app, `app` being as the control endpoint shows it."""

    __test__ = False

    cloud: Cloud
    control: Control
    id: str
    domain: str
    app: dict[str, Any]

    @property
    def client_id(self) -> str:
        return str(self.app["appId"])

    @property
    def secret(self) -> str:
        return str(self.app["secrets"][0]["value"])

    @property
    def authority(self) -> str:
        return f"{self.cloud.entra}/{self.id}"

    def token(self) -> str:
        """A fresh access token for Graph."""
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.secret,
            "scope": f"{self.cloud.graph}/.default",
        }
        with self.cloud.session() as session:
            answer = session.post(f"{self.authority}/oauth2/v2.0/token", data=form, timeout=60)
        return str(answer.json()["access_token"])

    def graph(self) -> "GraphSession":
        return GraphSession(self)


class GraphSession(requests.Session):
    """A plain HTTP client of Graph with a fresh token; paths are relative to the version root."""

    def __init__(self, tenant: TestTenant) -> None:
        super().__init__()
        self.trust_env = False
        self.verify = tenant.cloud.ca
        self.root = f"{tenant.cloud.graph}/v1.0"
        self.headers["Authorization"] = f"Bearer {tenant.token()}"

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", 60)
        full = str(url) if str(url).startswith("https://") else self.root + str(url)
        return super().request(method, full, *args, **kwargs)

    def batch(self, *urls: str) -> dict[str, dict[str, Any]]:
        """GETs of these URLs in one batch, answers by position from "1"."""
        items = [{"id": str(number), "method": "GET", "url": url} for number, url in enumerate(urls, 1)]
        answer = self.post("/$batch", json={"requests": items})
        assert answer.status_code == 200, answer.text
        return {item["id"]: item for item in answer.json()["responses"]}


# The fixture `new_tenant`: its keywords are those of Cloud.generate.
NewTenant = Callable[..., TestTenant]


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A running cloud without tenants."""
    directory = tmp_path_factory.mktemp("cloud")
    command = [sys.executable, "-m", "local.cloud", "--dir", str(directory), "--with-parent"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=unmeasured(), stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        session = requests.Session()
        session.trust_env = False
        session.verify = line["ca"]
        control = Control(line["control"], session)
        yield Cloud(line["entra"], line["graph"], line["vault"], line["identity"], line["ca"], control)
        session.close()
        process.terminate()
        assert process.wait(timeout=60) == 0


@pytest.fixture
def new_tenant(cloud: Cloud, request: pytest.FixtureRequest) -> Iterator[NewTenant]:
    """Makes tenants, the same for the same test, that are removed after it."""
    made: list[TestTenant] = []
    seed = zlib.crc32(request.node.nodeid.encode())

    def make(**population: Any) -> TestTenant:
        made.append(cloud.generate(**{"seed": seed + len(made), **population}))
        return made[-1]

    yield make
    for tenant in made:
        tenant.control.delete("")


@pytest.fixture
def tenant(new_tenant: NewTenant) -> TestTenant:
    """A tenant of 30 users with an app that may read them."""
    return new_tenant(users=30)
