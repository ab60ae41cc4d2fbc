"""One process with all listening ports of the simulated cloud."""

import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from local.cloud import control, identity, vault
from local.cloud.certificates import server_context
from local.cloud.entra import Entra
from local.cloud.exchange.courier import Courier
from local.cloud.graph import Graph
from local.cloud.tenants import Tenants

LARGEST_BODY = 64 * 1024 * 1024
Middleware = Any
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Cloud:
    """The running services; `start` gives them their ports."""

    directory: Path
    tenants: Tenants
    only_vault: bool = False

    def __post_init__(self) -> None:
        self._runners: list[web.AppRunner] = []
        self._identity = identity.ManagedIdentity(secrets.token_urlsafe(16), lambda: datetime.now(UTC))
        self._vault = vault.Vault(self._identity, lambda: datetime.now(UTC))
        self._kept = self.directory / "vault.json"
        self._courier = Courier(self.directory / "ca.pem")

    async def start(self, base_port: int) -> dict[str, Any]:
        """Listen on `base_port` and the ports after it (0: any free ones); returns the line that the starter reads."""
        context = server_context(self.directory)
        if self._kept.exists():
            self._vault.load(json.loads(self._kept.read_text("utf-8")))
        entra = Entra(self.tenants, self._identity)
        urls: dict[str, str | None] = {}
        for offset, (name, app) in enumerate(self._apps(entra).items()):
            if self.only_vault and name not in ("vault", "identity"):
                urls[name] = None
                continue
            runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
            await runner.setup()
            self._runners.append(runner)
            await web.TCPSite(runner, "127.0.0.1", base_port and base_port + offset, ssl_context=context).start()
            urls[name] = f"https://localhost:{runner.addresses[0][1]}"
        if urls["graph"]:
            entra.graph_hosts = {urls["graph"], urls["graph"].replace("localhost", "127.0.0.1")}
        managed = {"endpoint": f"{urls['identity']}/msi/token", "header": self._identity.header}
        return {**urls, "identity": managed, "ca": str(self.directory / "ca.pem")}

    async def stop(self) -> None:
        await self._courier.close()
        for runner in self._runners:
            await runner.cleanup()

    def _apps(self, entra: Entra) -> dict[str, web.Application]:
        apps = {
            "entra": web.Application(client_max_size=LARGEST_BODY),
            "graph": web.Application(client_max_size=LARGEST_BODY),
            "vault": web.Application(middlewares=[self._keep()]),
            "identity": web.Application(),
            "control": web.Application(
                middlewares=[control.refusals, control.poking(self.tenants, self._courier)],
                client_max_size=LARGEST_BODY,
            ),
        }
        apps["entra"].add_routes(entra.routes())
        apps["graph"].add_routes(Graph(entra, self._courier).routes())
        apps["vault"].add_routes(vault.routes(self._vault))
        apps["identity"].add_routes(identity.routes(self._identity))
        apps["control"].add_routes(control.Control(self.tenants, self._identity, self._vault, self._courier).routes())
        return apps

    def _keep(self) -> Middleware:
        """Write the vault to disk after every change, so that it outlives the process as a real one does."""

        @web.middleware
        async def keep(request: web.Request, handler: Handler) -> web.StreamResponse:
            response = await handler(request)
            if request.method != "GET":
                fresh = self._kept.with_suffix(".new")
                fresh.touch(mode=0o600)
                fresh.write_text(json.dumps(self._vault.dump()), "utf-8")
                fresh.replace(self._kept)
            return response

        return keep
