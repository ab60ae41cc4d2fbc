"""The app settings, read once from the environment: nothing else in the product reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from sync.errors import TenantsyncError


@dataclass(frozen=True)
class Cloud:
    """Where one Microsoft cloud signs in and where its Graph answers (Learn: National cloud deployments)."""

    entra: str
    graph: str


CLOUDS: Mapping[str, Cloud] = {
    "global": Cloud("https://login.microsoftonline.com", "https://graph.microsoft.com"),
    "usGov": Cloud("https://login.microsoftonline.us", "https://graph.microsoft.us"),
    "usGovDod": Cloud("https://login.microsoftonline.us", "https://dod-graph.microsoft.us"),
    "china": Cloud("https://login.partner.microsoftonline.cn", "https://microsoftgraph.chinacloudapi.cn"),
}


@dataclass(frozen=True)
class Settings:
    """What the deployment decides. Times are seconds, sizes bytes."""

    clouds: Mapping[str, Cloud]
    key_vault_url: str
    storage_connection: str | None
    storage_uris: Mapping[str, str]
    managed_identity: str | None
    slice_seconds: int
    photo_batches: int
    photo_bytes: int
    webhook_base_url: str | None

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Settings":
        """The settings, or a TenantsyncError `invalid-settings` that names every bad one."""
        bad: list[str] = []
        storage = environ.get("AzureWebJobsStorage") or None
        uris = {kind: environ.get(f"AzureWebJobsStorage__{kind}ServiceUri", "") for kind in ("blob", "queue", "table")}
        if storage is None and not all(uris.values()):
            bad.append("AzureWebJobsStorage (a connection string, or its three __*ServiceUri settings)")
        clouds = dict(CLOUDS)
        clouds["global"] = Cloud(
            _https(environ, "ENTRA_ENDPOINT", CLOUDS["global"].entra, bad),
            _https(environ, "GRAPH_ENDPOINT", CLOUDS["global"].graph, bad),
        )
        settings = cls(
            clouds=clouds,
            key_vault_url=_https(environ, "KEY_VAULT_URL", "", bad),
            storage_connection=storage,
            storage_uris=uris,
            managed_identity=environ.get("AZURE_CLIENT_ID") or None,
            slice_seconds=_whole(environ, "SLICE_SECONDS", 240, bad),
            photo_batches=_whole(environ, "PHOTO_BATCHES", 4, bad),
            photo_bytes=_whole(environ, "PHOTO_BYTES", 4 * 1024 * 1024, bad),
            webhook_base_url=_webhooks(environ, bad),
        )
        if bad:
            raise TenantsyncError(
                "These app settings are missing or wrong: " + "; ".join(bad),
                code="invalid-settings",
                remedy="Set them as local.settings.json.example shows, and restart.",
            )
        return settings


def _webhooks(environ: Mapping[str, str], bad: list[str]) -> str | None:
    """Where Graph can reach this app's API; None where it cannot. Plain http serves a simulated cloud on this machine."""
    host = environ.get("WEBSITE_HOSTNAME")
    url = (environ.get("WEBHOOK_BASE_URL") or (f"https://{host}/api" if host else "")).rstrip("/")
    if not url:
        return None
    parts = urlsplit(url)
    at_home = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1")
    if not (at_home or parts.scheme == "https") or not parts.hostname or parts.query or parts.fragment:
        bad.append("WEBHOOK_BASE_URL (an https URL)")
    return url


def _https(environ: Mapping[str, str], name: str, default: str, bad: list[str]) -> str:
    url = (environ.get(name) or default).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment:
        bad.append(f"{name} (an https URL)")
    return url


def _whole(environ: Mapping[str, str], name: str, default: int, bad: list[str]) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal() or int(text) < 1:
        bad.append(f"{name} (a whole number above 0)")
        return default
    return int(text)
