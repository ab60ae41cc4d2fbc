"""An app registration and its service principal in one tenant, with everything that it may sign in with."""

import base64
import secrets
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from pydantic import AwareDatetime, Field, field_validator

from local.cloud.model import Model

TWO_YEARS = timedelta(days=730)


def _guid() -> str:
    return str(uuid4())


class Secret(Model):
    """A client secret; `key_id` is what portals call the secret id."""

    value: str = Field(default_factory=lambda: "sim8Q~" + secrets.token_urlsafe(25))
    key_id: str = Field(default_factory=_guid)
    display_name: str = "secret"
    start_date_time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    end_date_time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC) + TWO_YEARS)


class Certificate(Model):
    """A registered certificate in PEM form, without its key."""

    pem: str
    key_id: str = Field(default_factory=_guid)
    display_name: str = "certificate"

    @field_validator("pem")
    @classmethod
    def _is_certificate(cls, pem: str) -> str:
        x509.load_pem_x509_certificate(pem.encode())
        return pem

    @property
    def x509(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.pem.encode())

    def thumbprint(self, algorithm: hashes.HashAlgorithm) -> str:
        """The fingerprint in the base64url form of the JWT headers x5t (SHA-1) and x5t#S256 (SHA-256)."""
        return base64.urlsafe_b64encode(self.x509.fingerprint(algorithm)).rstrip(b"=").decode()


class FederatedCredential(Model):
    """Another issuer whose tokens the app may present instead of a secret (Learn: Workload identity federation)."""

    issuer: str
    subject: str
    audiences: list[str] = Field(default_factory=lambda: ["api://AzureADTokenExchange"])
    name: str = "federated"


class App(Model):
    """One app as one tenant sees it. `roles` are the application permissions that an admin has consented to.

    `mailbox_scope` are the addresses of the only mailboxes that it may touch, whose calendars it may change by a role in
    Exchange; None: of all, by the roles in its token alone.
    """

    app_id: str = Field(default_factory=_guid)
    object_id: str = Field(default_factory=_guid)
    principal_id: str = Field(default_factory=_guid)
    display_name: str = "Portal sync"
    roles: list[str] = Field(default_factory=list)
    secrets: list[Secret] = Field(default_factory=list)
    certificates: list[Certificate] = Field(default_factory=list)
    federated_credentials: list[FederatedCredential] = Field(default_factory=list)
    enabled: bool = True
    has_service_principal: bool = True
    conditional_access_block: bool = False
    mailbox_scope: list[str] | None = None
