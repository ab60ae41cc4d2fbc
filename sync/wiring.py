"""The composition root: settings, storage, vault, clock and sign-ins, put together once per process on first use."""

import base64
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError
from azure.data.tables import TableServiceClient
from azure.identity import ManagedIdentityCredential
from azure.keyvault.secrets import SecretClient
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueServiceClient
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12

from storage.blobs import Blobs
from storage.meter import MeteredTransport
from storage.queues import Queues
from storage.secrets import Secrets, secret_name
from storage.tables import Conflict, Table, Tables, Write
from sync import connections, directory, photos, subscriptions
from sync.calendars import polling
from sync.calendars import run as calendars
from sync.calendars.store import load_states
from sync.connections import REMOVAL, Connection
from sync.contacts.run import run_contacts
from sync.errors import Deferred, RequestError, SignInError, TenantsyncError
from sync.graph.budget import Budget, BudgetState
from sync.graph.client import GraphClient
from sync.graph.signin import Certificate, ClientSecret, Credential, Federated, SignIn
from sync.jobs import Executor
from sync.models import CertificateIn, ClientSecretIn, CredentialIn, ManagedIdentityIn
from sync.notifications import Inbox
from sync.runs import STATE
from sync.settings import Settings

EXECUTORS: Mapping[str, Executor] = {
    "users": directory.run_users,
    "devices": directory.run_devices,
    "contacts": run_contacts,
    "photos": photos.run_photos,
    "calendars": calendars.run_calendars,
    REMOVAL: connections.remove,
}
# Seconds until another run of a sync has to follow one that has ended; None where nothing waits for one.
WAITING: Mapping[str, Callable[["App", str], float | None]] = {"calendars": calendars.waiting}
# What a sync does beside its schedule: it looks whether anything has to be polled, and sets when to look again.
POLLS: Mapping[str, Callable[["App", str, datetime | None], None]] = {"calendars": polling.poll}
# What is to be taken back from Microsoft while a connection that is removed still has its credential.
FAREWELLS: Sequence[Callable[["App", Connection], None]] = (subscriptions.remove_all,)
# What a managed identity's token is for (Learn: Configure an application to trust a managed identity).
FEDERATION = {
    "global": "api://AzureADTokenExchange",
    "usGov": "api://AzureADTokenExchangeUSGov",
    "usGovDod": "api://AzureADTokenExchangeUSGov",
    "china": "api://AzureADTokenExchangeChina",
}
# What Entra says of a credential that it does not know (any more): secret, certificate, federated credential.
REVOKED = frozenset({7000215, 700027, 700213, 70021})
_CERTIFICATE_MINUTES = 10
_SIGN_INS = 500


def utc_now() -> datetime:
    return datetime.now(UTC)


class _TableBudget:
    """The shared request budget of one app in one tenant, as a row."""

    def __init__(self, table: Table, tenant: str, client: str) -> None:
        self._table = table
        self._tenant = tenant
        self._client = client

    def load(self) -> tuple[BudgetState, str | None]:
        row = self._table.get(self._tenant, self._client)
        return (BudgetState(), None) if row is None else (BudgetState(**row["j_budget"]), row["etag"])

    def save(self, state: BudgetState, etag: str | None) -> bool:
        document = {name: getattr(state, name) for name in BudgetState.__dataclass_fields__}
        try:
            self._table.commit(
                self._tenant, [Write("replace" if etag else "insert", self._client, {"j_budget": document}, etag)]
            )
        except Conflict:
            return False
        return True


@dataclass
class App:
    """Everything the features need, and the ways to make a Graph client for a connection."""

    settings: Settings
    tables: Tables
    blobs: Blobs
    queues: Queues
    secrets: Secrets
    identity: Callable[[str | None, str], str]
    clock: Callable[[], datetime] = utc_now
    executors: Mapping[str, Executor] = field(default_factory=lambda: EXECUTORS)
    waiting: Mapping[str, Callable[["App", str], float | None]] = field(default_factory=lambda: WAITING)
    polls: Mapping[str, Callable[["App", str, datetime | None], None]] = field(default_factory=lambda: POLLS)
    farewells: Sequence[Callable[["App", Connection], None]] = FAREWELLS

    def __post_init__(self) -> None:
        self.inbox = Inbox(self)
        self._sign_ins: dict[tuple[Any, ...], SignIn] = {}
        self._budgets: dict[tuple[str, str], Budget] = {}
        self._lock = Lock()

    def credential(self, connection: Connection) -> Credential:
        """The connection's credential, with its secret from the vault.

        Raises TenantsyncError `secret-missing`, Deferred `vault-unavailable`.
        """
        stored = connection.credential
        if stored["type"] == "managedIdentity":
            return self._federated(connection, stored.get("clientId"))
        name, version = stored.get("keyVaultCertificate"), None
        if name is None:
            name, version = secret_name(connection.name), stored["version"]
        value = self._secret(name, version)
        return ClientSecret(value) if stored["type"] == "clientSecret" else Certificate(_pem(value))

    def credential_of(self, wanted: CredentialIn, connection: Connection) -> Credential:
        """A credential that has not been stored yet. Raises as `credential` does."""
        match wanted:
            case ClientSecretIn(secret_value=value):
                return ClientSecret(value.get_secret_value())
            case CertificateIn(pem=pem) if pem is not None:
                return Certificate(pem.get_secret_value().encode())
            case CertificateIn(key_vault_certificate=name):
                return self.credential(
                    replace(connection, credential={"type": "certificate", "keyVaultCertificate": name})
                )
            case ManagedIdentityIn(client_id=client):
                return self._federated(connection, client)
        raise AssertionError(wanted.type)

    def _federated(self, connection: Connection, client: str | None) -> Credential:
        """By the managed identity with that client id, else by that of the deployment."""
        return Federated(lambda: self.identity(client or self.settings.managed_identity, FEDERATION[connection.cloud]))

    def _secret(self, name: str, version: str | None) -> str:
        try:
            value = self.secrets.load(name, version)
        except AzureError as error:
            until = self.clock() + timedelta(minutes=1)
            raise Deferred("The vault does not answer", until=until, code="vault-unavailable") from error
        if value is None:
            raise TenantsyncError(
                "The vault has no secret for this connection",
                code="secret-missing",
                remedy="Enter the credential again.",
            )
        return value

    def sign_in(self, connection: Connection, credential: Credential) -> SignIn:
        """A new sign-in, with no token yet."""
        cloud = self.settings.clouds[connection.cloud]
        return SignIn(
            authority=f"{cloud.entra}/{connection.tenant_id}",
            client_id=connection.client_id,
            credential=credential,
            scope=f"{cloud.graph}/.default",
            clock=self.clock,
        )

    def _cached_sign_in(self, connection: Connection) -> SignIn:
        """One sign-in per version of a credential: its tokens serve every run of this process."""
        stored = connection.credential
        minutes = self.clock().timestamp() // 60 // _CERTIFICATE_MINUTES if "keyVaultCertificate" in stored else 0
        key = (
            connection.name,
            connection.tenant_id,
            connection.client_id,
            connection.cloud,
            *sorted(stored.items()),
            minutes,
        )
        with self._lock:
            found = self._sign_ins.get(key)
        if found is None:
            found = self.sign_in(connection, self.credential(connection))
            with self._lock:
                while len(self._sign_ins) >= _SIGN_INS:
                    self._sign_ins.pop(next(iter(self._sign_ins)))
                found = self._sign_ins.setdefault(key, found)
        return found

    def forget_sign_in(self, name: str) -> None:
        """Sign in afresh next time: a permission granted meanwhile shows in a new token only."""
        with self._lock:
            for key in [key for key in self._sign_ins if key[0] == name]:
                del self._sign_ins[key]

    def graph(self, name: str, *, deadline: datetime) -> GraphClient:
        """A Graph client for one slice of a run. Raises connection-not-found, and as `credential` does."""
        return self.graph_of(connections.load(self, name), deadline=deadline)

    def graph_of(self, connection: Connection, *, deadline: datetime) -> GraphClient:
        """A Graph client, also for a connection that is being removed. Raises as `credential` does."""
        return self._client(connection, self._cached_sign_in(connection).token, deadline)

    def graph_with(self, connection: Connection, token: str) -> GraphClient:
        """A Graph client for one check, with a token at hand."""
        return self._client(connection, lambda **_: token, self.clock() + timedelta(seconds=60))

    def _client(self, connection: Connection, token: Callable[..., str], deadline: datetime) -> GraphClient:
        owner = (connection.tenant_id, connection.client_id)
        with self._lock:
            if owner not in self._budgets:
                self._budgets[owner] = Budget(_TableBudget(self.tables.budgets, *owner), clock=self.clock)
        return GraphClient(
            endpoint=self.settings.clouds[connection.cloud].graph,
            token=token,
            budget=self._budgets[owner],
            clock=self.clock,
            deadline=deadline,
        )

    def lapsed(self, name: str) -> bool:
        """Whether the connection's credential has expired: its syncs wait for another one."""
        found = connections.find(self.tables.connections, name)
        return found is not None and found.status == "expired"

    def mark_sign_in_failed(self, name: str, error: SignInError) -> None:
        """Show on the connection that Entra refuses its credential: as expired also where it worked once and was revoked."""
        lapsed = error.expired or (error.aadsts in REVOKED and self._has_worked(name))
        with suppress(Conflict, RequestError):  # changed or removed meanwhile: whoever did that knows better
            connection = connections.load(self, name)
            connections.save(self, replace(connection, status="expired" if lapsed else "failed"))

    def _has_worked(self, name: str) -> bool:
        """Whether any sync of the connection has ever come to an end, for calendars that of a room: a new credential is
        tried before it is taken.
        """
        data = self.tables.data
        ended = any(row.get("j_cursor") for row in data.scan(name, STATE))
        return ended or any(state.synced_at for state in load_states(data, name).values())

    def create(self) -> None:
        """Make the tables, the queues and the container that are missing."""
        self.tables.create()
        self.blobs.create()
        self.queues.create()

    def ready(self) -> Mapping[str, str]:
        """`ok` or `failed` for each store."""
        probes = {
            "tables": self.tables.ping,
            "blobs": self.blobs.ping,
            "queues": self.queues.ping,
            "vault": self.secrets.ping,
        }
        return {name: _probe(name, ping) for name, ping in probes.items()}


def _probe(name: str, ping: Callable[[], None]) -> str:
    try:
        ping()
    except AzureError as error:
        logging.getLogger(__name__).warning("not ready store=%s fault=%s", name, type(error).__name__)
        return "failed"
    return "ok"


def _pem(value: str) -> bytes:
    """A certificate's secret as PEM: the vault holds PEM or base64 PKCS 12 (Learn: About Azure Key Vault certificates)."""
    if "-----BEGIN" in value:
        return value.encode()
    try:
        key, certificate, _ = pkcs12.load_key_and_certificates(base64.b64decode(value), None)
    except ValueError:
        key = certificate = None
    if key is None or certificate is None:
        raise TenantsyncError(
            "The vault's certificate has no private key that can be read",
            code="certificate-unreadable",
            remedy="Import the certificate with its private key, exportable, into the vault.",
        )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)


class _Storage:
    """The SDK clients, by connection string locally and by managed identity on Azure."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._options: dict[str, Any] = {"transport": MeteredTransport()}

    @cached_property
    def identity(self) -> ManagedIdentityCredential:
        return ManagedIdentityCredential(client_id=self._settings.managed_identity)

    def tables(self) -> TableServiceClient:
        if self._settings.storage_connection:
            return TableServiceClient.from_connection_string(self._settings.storage_connection, **self._options)
        return TableServiceClient(self._settings.storage_uris["table"], credential=self.identity, **self._options)

    @property
    def _brief_retries(self) -> dict[str, Any]:
        """The SDK's own retries of blobs and queues wait a minute and a half in all: longer than a caller does."""
        return {**self._options, "initial_backoff": 1, "increment_base": 2, "retry_total": 3}

    def blobs(self) -> BlobServiceClient:
        if self._settings.storage_connection:
            return BlobServiceClient.from_connection_string(self._settings.storage_connection, **self._brief_retries)
        return BlobServiceClient(self._settings.storage_uris["blob"], credential=self.identity, **self._brief_retries)

    def queues(self) -> QueueServiceClient:
        if self._settings.storage_connection:
            return QueueServiceClient.from_connection_string(self._settings.storage_connection, **self._brief_retries)
        return QueueServiceClient(self._settings.storage_uris["queue"], credential=self.identity, **self._brief_retries)


def _assertion(client: str | None, audience: str) -> str:
    """A managed identity's token for the federated credential (Learn: Configure an application to trust a managed identity)."""
    token: str = ManagedIdentityCredential(client_id=client).get_token(f"{audience}/.default").token
    return token


def build(settings: Settings, *, clock: Callable[[], datetime] = utc_now) -> App:
    """The app for these settings; nothing is asked of any store yet."""
    storage = _Storage(settings)
    at_home = urlsplit(settings.key_vault_url).hostname in (
        "localhost",
        "127.0.0.1",
    )  # the simulated vault's name is no suffix
    vault = SecretClient(settings.key_vault_url, storage.identity, verify_challenge_resource=not at_home)
    return App(
        settings=settings,
        tables=Tables(storage.tables()),
        blobs=Blobs(storage.blobs(), "photos"),
        queues=Queues(storage.queues()),
        secrets=Secrets(vault),
        identity=_assertion,
        clock=clock,
    )


@cache
def probe() -> App:
    """The app of this process as it is, to see whether its stores answer."""
    return build(Settings.read(os.environ))


@cache
def app() -> App:
    """The app of this process, with its tables, queues and container made where they were missing."""
    made = probe()
    made.create()
    return made
