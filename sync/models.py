"""The HTTP contract as models: what requests may say and what answers hold. OpenAPI is made from these."""

import re
from datetime import date, datetime
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from pydantic.alias_generators import to_camel

from storage.secrets import OUR_NAMES
from sync.feed import ChangeKind
from sync.runs import Action

SyncName = Literal["photos", "users", "devices", "contacts", "calendars", "partners"]
Status = Literal["unchecked", "confirmed", "limited", "failed", "expired"]
RunStatus = Literal["queued", "running", "succeeded", "partial", "failed", "held", "cancelled"]
NAME_PATTERN = r"^[A-Za-z0-9_-]{1,63}$"
CERTIFICATE_PATTERN = r"^[A-Za-z0-9-]{1,127}$"
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_DOMAIN = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]", re.IGNORECASE | re.ASCII)


class Model(BaseModel):
    """camelCase on the wire; unknown fields are errors."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    def wire(self) -> dict[str, Any]:
        """The JSON form."""
        return self.model_dump(mode="json", by_alias=True)


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("must be an IANA time zone such as America/New_York") from None
    return name


def _guid(text: str) -> str:
    if not _GUID.fullmatch(text):
        raise ValueError("must be a GUID")
    return text.lower()


def _tenant(text: str) -> str:
    lower = text.lower()
    if _GUID.fullmatch(lower) or (_DOMAIN.fullmatch(lower) and not lower.endswith((".local", ".localhost"))):
        return lower
    raise ValueError("must be the tenant's GUID or one of its verified domains")


def _name(text: str) -> str:
    if not re.fullmatch(NAME_PATTERN, text):
        raise ValueError("must be 1 to 63 letters, digits, - or _")
    return text


def _certificate_name(text: str) -> str:
    if not re.fullmatch(CERTIFICATE_PATTERN, text):
        raise ValueError("must be 1 to 127 letters, digits or -")
    if text.lower().startswith(OUR_NAMES):
        raise ValueError("names a secret of this service: give the certificate itself as pem")
    return text


TimeZone = Annotated[str, Field(max_length=64), AfterValidator(_time_zone)]
Guid = Annotated[str, Field(max_length=36, json_schema_extra={"format": "uuid"}), AfterValidator(_guid)]
Tenant = Annotated[str, Field(max_length=253), AfterValidator(_tenant)]
Name = Annotated[str, Field(json_schema_extra={"pattern": NAME_PATTERN}), AfterValidator(_name)]
LastDay = Annotated[date, Field(ge=date(2000, 1, 1), le=date(2999, 12, 31))]
Labels = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=256)]],
    Field(max_length=32),
]
CloudName = Literal["global", "usGov", "usGovDod", "china"]


# --- connections -----------------------------------------------------------------------------------------------------


class ClientSecretIn(Model):
    type: Literal["clientSecret"]
    secret_id: Guid | None = None
    secret_value: Annotated[SecretStr, Field(min_length=1, max_length=1024)]
    expires_on: LastDay | None = None


def _key_pair(pem: SecretStr) -> SecretStr:
    data = pem.get_secret_value().encode()
    try:
        key = load_pem_private_key(data, password=None)
        certified = [one.public_key() for one in x509.load_pem_x509_certificates(data)]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("must hold an unencrypted private key and its certificate") from None
    if not isinstance(key, RSAPrivateKey) or key.public_key() not in certified:
        raise ValueError("must hold an RSA private key and its certificate")
    return pem


class CertificateIn(Model):
    """Either the name of a certificate in the vault, or the PEM of key and certificate (RSA, unencrypted)."""

    type: Literal["certificate"]
    key_vault_certificate: (
        Annotated[str, Field(json_schema_extra={"pattern": CERTIFICATE_PATTERN}), AfterValidator(_certificate_name)]
        | None
    ) = None
    pem: Annotated[SecretStr, Field(min_length=1, max_length=24_000), AfterValidator(_key_pair)] | None = None
    expires_on: LastDay | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.key_vault_certificate is None) == (self.pem is None):
            raise ValueError("needs either keyVaultCertificate or pem")
        return self


class ManagedIdentityIn(Model):
    type: Literal["managedIdentity"]
    client_id: Guid | None = None


CredentialIn = Annotated[ClientSecretIn | CertificateIn | ManagedIdentityIn, Field(discriminator="type")]


class ConnectionIn(Model):
    name: Name
    tenant_id: Tenant
    client_id: Guid
    cloud: CloudName = "global"
    credential: CredentialIn
    time_zone: TimeZone = "America/New_York"
    labels: Labels = Field(default_factory=dict)


class ConnectionPatch(Model):
    """What may be edited. Tenant, client and cloud are fixed: another tenant is another connection."""

    time_zone: TimeZone | None = None
    labels: Labels | None = None


class CredentialOut(Model):
    type: Literal["clientSecret", "certificate", "managedIdentity"]
    secret_id: str | None = None
    key_vault_certificate: str | None = None
    client_id: str | None = None
    expires_on: date | None = None
    days_left: int | None = None


class FindingOut(Model):
    id: str
    level: Literal["ok", "warning", "error"]
    code: str
    detail: str
    remedy: str


class TenantOut(Model):
    id: str | None
    display_name: str | None
    default_domain: str | None


class PermissionsOut(Model):
    granted: list[str]
    missing: dict[str, list[str]]
    unneeded: list[str]


class CheckOut(Model):
    status: Status
    checked_at: datetime
    tenant: TenantOut | None
    findings: list[FindingOut]
    permissions: PermissionsOut


class ConnectionOut(Model):
    name: str
    tenant_id: str
    client_id: str
    cloud: CloudName
    credential: CredentialOut
    time_zone: str
    labels: dict[str, str]
    status: Status
    last_check: CheckOut | None
    created_at: datetime
    updated_at: datetime


# --- runs -------------------------------------------------------------------------------------------------------------


class RunIn(Model):
    mode: Literal["delta", "full"] = "delta"
    dry_run: bool = False


class Progress(Model):
    done: int = 0
    total: int | None = None
    unit: str = "items"


class Counts(Model):
    """What became of the items read; they add up to it."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    restored: int = 0
    skipped: int = 0
    failed: int = 0


class GraphUse(Model):
    """`requests` on the wire to Graph, `batched` the requests inside batches, `throttled` 429s seen anywhere."""

    requests: int = 0
    batched: int = 0
    throttled: int = 0
    retried: int = 0


class StorageUse(Model):
    transactions: int = 0


class ErrorOut(Model):
    code: str
    detail: str
    remedy: str


class RunOut(Model):
    id: str
    sync: str
    trigger: Literal["timer", "manual", "notification", "lifecycle"]
    mode: Literal["delta", "full"]
    dry_run: bool
    status: RunStatus
    progress: Progress
    counts: Counts
    graph: GraphUse
    storage: StorageUse
    slices: int
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: ErrorOut | None


class SyncOut(Model):
    sync: SyncName
    settings: dict[str, Any]
    last_run: RunOut | None
    next_run: datetime | None


class LogEntry(Model):
    at: datetime
    level: Literal["info", "warning", "error"]
    entity: str
    id: str
    outcome: Literal["created", "updated", "unchanged", "deleted", "restored", "skipped", "failed"]
    reason: str
    remedy: str


class PlanEntry(Model):
    """`displayName` is that of the stored item; null for one that is not stored yet, or no more."""

    entity: str
    id: str
    action: Action
    reason: str
    display_name: str | None = None


# --- what was synced -------------------------------------------------------------------------------------------------


class PhotoOut(Model):
    etag: str
    content_type: str
    updated_at: datetime


class UserOut(Model):
    id: str
    user_principal_name: str | None = None
    display_name: str | None = None
    given_name: str | None = None
    surname: str | None = None
    mail: str | None = None
    mobile_phone: str | None = None
    business_phones: list[str] = Field(default_factory=list)
    job_title: str | None = None
    department: str | None = None
    company_name: str | None = None
    office_location: str | None = None
    employee_id: str | None = None
    user_type: str | None = None
    account_enabled: bool | None = None
    state: Literal["active", "deleted"]
    deleted_at: datetime | None
    photo: PhotoOut | None
    more: dict[str, Any] = Field(default_factory=dict)


class DeviceOut(Model):
    """`id` is the object id, `deviceId` that of the registration. `stale` is null where no sign-in was ever seen.

    `duplicates` are the ids of other active devices that seem to be the same machine.
    """

    id: str
    device_id: str | None = None
    display_name: str | None = None
    account_enabled: bool | None = None
    operating_system: str | None = None
    operating_system_version: str | None = None
    trust_type: str | None = None
    profile_type: str | None = None
    is_compliant: bool | None = None
    is_managed: bool | None = None
    manufacturer: str | None = None
    model: str | None = None
    mdm_app_id: str | None = None
    approximate_last_sign_in_date_time: str | None = None
    registration_date_time: str | None = None
    device_ownership: str | None = None
    management_type: str | None = None
    enrollment_type: str | None = None
    device_category: str | None = None
    physical_ids: list[str] = Field(default_factory=list)
    system_labels: list[str] = Field(default_factory=list)
    on_premises_sync_enabled: bool | None = None
    owners: list[str] = Field(default_factory=list)
    more: dict[str, Any] = Field(default_factory=dict)
    stale: bool | None
    duplicates: list[str]
    state: Literal["active", "deleted"]
    deleted_at: datetime | None


class GroupRef(Model):
    id: str
    display_name: str | None


class ContactOut(Model):
    """`azureState` is `none` for a contact of the portal's own."""

    id: str
    azure_id: str | None
    azure_state: Literal["active", "deleted", "none"]
    display_name: str | None
    given_name: str | None
    surname: str | None
    mobile_phone: str | None
    mail: str | None
    groups: list[GroupRef]


class ContactGroupOut(Model):
    id: str
    azure_id: str
    azure_state: Literal["active", "deleted"]
    display_name: str | None


_Text = Annotated[str, Field(max_length=256)]
_Display = Annotated[str, Field(min_length=1, max_length=256, pattern=r"\S")]


class ContactIn(Model):
    """A contact of the portal's own."""

    display_name: _Display
    given_name: _Text | None = None
    surname: _Text | None = None
    mobile_phone: _Text | None = None
    mail: _Text | None = None


class ContactPatch(Model):
    """What is named is changed; null empties a field."""

    display_name: _Display | None = None
    given_name: _Text | None = None
    surname: _Text | None = None
    mobile_phone: _Text | None = None
    mail: _Text | None = None


class ChangeOut(Model):
    """`invited` tells of a new user to invite, once; `expiring` that a connection's credential ends soon, at each of 30,
    7, 1 and 0 days. `run` is empty where no run made the change.
    """

    cursor: str
    at: datetime
    entity: str
    id: str
    change: ChangeKind
    run: str


# --- service ---------------------------------------------------------------------------------------------------------


class HealthOut(Model):
    status: Literal["ok"]
    version: str


class ReadyChecks(Model):
    tables: Literal["ok", "failed"]
    blobs: Literal["ok", "failed"]
    queues: Literal["ok", "failed"]
    vault: Literal["ok", "failed"]


class ReadyOut(Model):
    status: Literal["ready", "unavailable"]
    checks: ReadyChecks


class FieldError(Model):
    pointer: str
    detail: str


class Problem(Model):
    """RFC 9457, with a stable `code`."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    remedy: str | None = None
    errors: list[FieldError] | None = None
