"""Key Vault: the only place where a secret is kept. Names are `tenantsync-` and a digest of the connection's."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.keyvault.secrets import SecretClient

OUR_NAMES = "tenantsync-"


def secret_name(connection: str) -> str:
    """The vault's name for a connection's secret (vault names ignore case and know no underscore)."""
    return OUR_NAMES + hashlib.sha256(connection.encode()).hexdigest()[:40]


class Secrets:
    """Versions of secrets. A version is opaque; what is stored never appears in an error of this class."""

    def __init__(self, client: SecretClient) -> None:
        self._client = client

    def save(self, name: str, value: str, *, tags: Mapping[str, str], expires_on: datetime | None = None) -> str:
        """Store `value` as the newest version of `name` and return that version.

        A name that was soft-deleted is recovered first: the vault refuses it until then (Learn: Azure Key Vault
        soft-delete overview).
        """
        try:
            secret = self._client.set_secret(name, value, tags=dict(tags), expires_on=expires_on)
        except ResourceExistsError:
            self._client.begin_recover_deleted_secret(name).wait()
            secret = self._client.set_secret(name, value, tags=dict(tags), expires_on=expires_on)
        return str(secret.properties.version)

    def load(self, name: str, version: str | None = None) -> str | None:
        """The value of that version (None: the newest), or None where there is none."""
        try:
            return self._client.get_secret(name, version).value
        except ResourceNotFoundError:
            return None

    def disable(self, name: str, version: str) -> None:
        """Make an old version unreadable."""
        self._client.update_secret_properties(name, version, enabled=False)

    def delete(self, name: str) -> None:
        """Delete every version, and purge them where the vault allows it; a missing one is fine."""
        try:
            self._client.begin_delete_secret(name).wait()
        except ResourceNotFoundError:
            return
        with suppress(HttpResponseError):  # 403 under purge protection: the vault forgets it by itself later
            self._client.purge_deleted_secret(name)

    def ping(self) -> None:
        """One small read; raises the SDK's error where the vault does not answer."""
        self.load("tenantsync-ping")
