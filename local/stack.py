"""Every part of a running app on this machine: Azurite, a cloud (simulated or outside) and the function host."""

import fcntl
import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import certifi

from local import azurite
from local.processes import ROOT, Child, Failed, unmeasured

LOGS = ROOT / ".dev/logs"
CORE_TOOLS_PORT = 7071

Json = dict[str, Any]


@dataclass(frozen=True)
class Outside:
    """A cloud that is not simulated here. An endpoint that is None is Microsoft's own."""

    entra: str | None = None
    graph: str | None = None


class Stack:
    """Started on entering, stopped on leaving.

    `port` is the function host's (0, or one that is taken: any free one). With `data` everything stored stays in that folder, else it ends
    with the stack. `settings` are further app settings, `cloud` further options of the simulated cloud, which holds
    the tenants of local/tenants. While entered: `api`, `key`, `master_key` and `console` of the
    host; `control` of the simulated cloud, None with `outside`; `storage`, the connection string; `app_settings`, what points the
    app at the parts; `pids` of the parts by name; `logs`, the folder of their logs.
    """

    api: str
    key: str
    master_key: str
    control: str | None
    storage: str
    app_settings: dict[str, str]

    def __init__(
        self,
        *,
        port: int = 0,
        data: Path | None = None,
        outside: Outside | None = None,
        ca_bundle: Path | None = None,
        settings: Mapping[str, str] | None = None,
        cloud: Sequence[str] = (),
        host: bool = True,
        logs: Path = LOGS,
    ) -> None:
        self._port = port
        self._data = data
        self._outside = outside
        self._ca_bundle = ca_bundle
        self._settings = dict(settings or {})
        self._cloud = cloud
        self._host = host
        self.logs = logs
        self._running: dict[str, Child[Any]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as parts:
            scratch = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="tenantsync-")))
            self._folder = self._data or scratch
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            parts.enter_context(_held(self._folder))
            if self._host:
                self._listening = parts.enter_context(_listen(self._port))
            parts.callback(self._stop_all)
            data = self._data and self._data / "azurite"
            self._running["azurite"] = azurite.start(self.logs / "azurite.log", data=data)
            self._start_cloud()
            self.storage = azurite.connection_string(self._running["azurite"].wait_ready())
            cloud = self._running["cloud"].wait_ready()
            self.control = None if self._outside else cloud["control"]
            self.app_settings = self._point_at(cloud, scratch / "ca.pem")
            if self._host:
                self.start_host()
            self._parts = parts.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parts.close()

    @property
    def console(self) -> str:
        return f"{self.api}/console"

    @property
    def pids(self) -> dict[str, int]:
        return {name: child.pid for name, child in self._running.items()}

    def check(self) -> None:
        """Raise Failed if a part has ended."""
        for child in self._running.values():
            child.check()

    def start_host(self) -> None:
        """Start the function host, in place of the one before, with the same port and keys.

        The port is the stack's: nobody else can take it between two hosts, and whoever calls meanwhile waits.
        """
        if host := self._running.pop("host", None):
            host.stop()
        shared = self._listening.fileno()
        options = ["--app", str(ROOT), "--socket", str(shared), "--keys", str(self._folder / "keys.json")]
        # The developer's own local.settings.json is for Core Tools; here the environment says everything.
        (self._folder / "settings.json").write_text('{"Values": {}}')
        options += ["--settings", str(self._folder / "settings.json")]
        self._running["host"] = self._python("host", options, {**os.environ, **self.app_settings}, pass_fds=[shared])
        ready = self._running["host"].wait_ready()
        self.api, self.key, self.master_key = ready["api"], ready["key"], ready["masterKey"]

    def _start_cloud(self) -> None:
        folder = self._folder / "cloud"
        folder.mkdir(mode=0o700, exist_ok=True)
        options = ["--dir", str(folder), *self._cloud]
        for tenant in sorted((ROOT / "local/tenants").glob("*.json")):
            options += ["--tenant", str(tenant)]
        if self._outside:
            options += ["--only", "vault"]
        self._running["cloud"] = self._python("cloud", options, unmeasured())

    def _python(
        self, part: str, options: Sequence[str], environ: Mapping[str, str], pass_fds: Sequence[int] = ()
    ) -> Child[Json]:
        command = [sys.executable, "-m", f"local.{part}", *options, "--with-parent"]
        log = self.logs / f"{part}.log"
        return Child(f"local.{part}", command, environ=environ, log=log, parse=_json_line, pass_fds=pass_fds)

    def _stop_all(self) -> None:
        """The host first: it writes to the others until it has ended."""
        for name in reversed(list(self._running)):
            self._running.pop(name).stop()

    def _point_at(self, cloud: Json, bundle: Path) -> dict[str, str]:
        trusted = [os.environ.get("REQUESTS_CA_BUNDLE") or certifi.where(), cloud["ca"], self._ca_bundle]
        bundle.write_text("\n".join(Path(file).read_text() for file in trusted if file))
        entra = self._outside.entra if self._outside else cloud["entra"]
        graph = self._outside.graph if self._outside else cloud["graph"]
        return {
            "ENTRA_ENDPOINT": entra or "",
            "GRAPH_ENDPOINT": graph or "",
            "AzureWebJobsStorage": self.storage,
            "KEY_VAULT_URL": cloud["vault"],
            "IDENTITY_ENDPOINT": cloud["identity"]["endpoint"],
            "IDENTITY_HEADER": cloud["identity"]["header"],
            "REQUESTS_CA_BUNDLE": str(bundle),
            "SSL_CERT_FILE": str(bundle),
            "WEBHOOK_BASE_URL": self._webhooks(),
            "PYTHON_THREADPOOL_THREAD_COUNT": "32",
            **self._settings,
        }

    def _webhooks(self) -> str:
        """Where the cloud reaches the host: on this machine, unless the person says where. Microsoft's own cannot."""
        if said := os.environ.get("WEBHOOK_BASE_URL"):
            return said
        if self._outside and not self._outside.graph:
            return ""
        port = self._listening.getsockname()[1] if self._host else CORE_TOOLS_PORT
        return f"http://127.0.0.1:{port}/api"


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Two Azurites on one folder would destroy what it holds: Failed for the second."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed(f"{folder} is in use by another dev.py: end that one, or name another folder.") from None
        yield


def _listen(wanted: int) -> socket.socket:
    """A listening socket on the port `wanted`; where that is taken, with a word to the person, on any other."""
    try:
        return socket.create_server(("127.0.0.1", wanted))
    except OSError:
        found = socket.create_server(("127.0.0.1", 0))
    print(f"Port {wanted} is in use; taking {found.getsockname()[1]} instead.", file=sys.stderr)
    return found


def _json_line(line: str) -> Json | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
