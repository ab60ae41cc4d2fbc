"""The secrets of a Key Vault, simulated (Learn: "Key Vault REST API reference", secrets).

Errors have the service's own shape: `{"error": {"code", "message", "innererror": {"code"}}}`.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import jwt
from aiohttp import web

from local.cloud.identity import HOME_TENANT, ManagedIdentity

RESOURCE = "https://vault.azure.net"
RETENTION = timedelta(days=90)
PAGE = 25
VALUE_BYTES = 25 * 1024
TAGS, TAG_CHARACTERS = 15, 256
CHALLENGE = f'Bearer authorization="https://login.microsoftonline.com/{HOME_TENANT}", resource="{RESOURCE}"'
_NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")
_API_VERSION = re.compile(r"7\.\d|\d{4}-\d\d-\d\d(-preview)?(\.\d)?")

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.Response]]


class Refused(Exception):
    """The vault's answer to a request that it does not serve."""

    def __init__(self, status: HTTPStatus, code: str, message: str, inner: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error: Json = {"code": code, "message": message}
        if inner is not None:
            self.error["innererror"] = {"code": inner}


def _bad(message: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, "BadParameter", message)


@dataclass
class Version:
    """One version of a secret. Times are Unix seconds, as on the wire."""

    id: str
    value: str
    created: int
    updated: int
    enabled: bool = True
    nbf: int | None = None
    exp: int | None = None
    content_type: str | None = None
    tags: dict[str, str] | None = None

    def change(self, body: Json, now: int) -> None:
        """Take over what the body says of everything but the value; what it leaves out stays."""
        attributes = _checked_attributes(body.get("attributes"))
        self.enabled = attributes.get("enabled", self.enabled)
        self.nbf = attributes.get("nbf", self.nbf)
        self.exp = attributes.get("exp", self.exp)
        self.content_type = _checked_text(body, "contentType", self.content_type)
        self.tags = _checked_tags(body.get("tags"), self.tags)
        self.updated = now


@dataclass
class Secret:
    """All versions of one name, oldest first. `changed_at` is when it was last deleted or recovered."""

    name: str
    versions: list[Version] = field(default_factory=list)
    deleted: bool = False
    changed_at: int = 0


def _checked_attributes(attributes: object) -> Json:
    if attributes is None:
        return {}
    if not isinstance(attributes, dict):
        raise _bad("Property  has invalid value")
    known = {key: attributes[key] for key in ("enabled", "nbf", "exp") if attributes.get(key) is not None}
    if not isinstance(known.get("enabled", True), bool):
        raise _bad("Property enabled has invalid value")
    for key in ("nbf", "exp"):
        if type(known.get(key, 0)) is not int:
            raise _bad(f"Property {key} has invalid value")
    return known


def _checked_text(body: Json, key: str, old: str | None) -> str | None:
    new = body.get(key)
    if new is not None and not isinstance(new, str):
        raise _bad(f"Property {key} has invalid value")
    return old if new is None else new


def _checked_tags(tags: object, old: dict[str, str] | None) -> dict[str, str] | None:
    if tags is None:
        return old
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise _bad("Property tags has invalid value")
    if len(tags) > TAGS or any(len(text) > TAG_CHARACTERS for pair in tags.items() for text in pair):
        raise _bad(f"At most {TAGS} tags of at most {TAG_CHARACTERS} characters are allowed.")
    return tags


class Vault:
    """The state of one vault, and the switches that a test may turn while it serves.

    `unavailable`: every request is answered 503. `throttled`: the next so many requests are answered 429.
    `purge_protection`: nothing may be purged. `settles_after`: how long a deletion or a recovery stays under way.
    """

    def __init__(self, identity: ManagedIdentity, clock: Callable[[], datetime]) -> None:
        self.identity = identity
        self.clock = clock
        self.unavailable = False
        self.throttled = 0
        self.purge_protection = False
        self.settles_after = timedelta(0)
        self._secrets: dict[str, Secret] = {}

    def dump(self) -> list[Json]:
        """Everything that is kept, for `load` after a restart."""
        return [asdict(secret) for secret in self._secrets.values()]

    def load(self, kept: Iterable[Json]) -> None:
        for row in kept:
            versions = [Version(**version) for version in row["versions"]]
            self._secrets[row["name"].lower()] = Secret(**{**row, "versions": versions})

    def set(self, name: str, body: Json) -> tuple[Secret, Version]:
        value = body.get("value")
        if not isinstance(value, str):
            raise _bad("Property value is required and must be a string.")
        if len(value.encode()) > VALUE_BYTES:
            raise _bad("The length of the value property is too long.")
        self._purge_expired()
        secret = self._secrets.get(name.lower()) or Secret(name)
        self._refuse_reuse(secret)
        now = self._now()
        version = Version(uuid4().hex, value, created=now, updated=now)
        version.change(body, now)
        secret.versions.append(version)
        self._secrets[name.lower()] = secret
        return secret, version

    def version(self, name: str, version: str = "") -> tuple[Secret, Version]:
        """The named version, or the newest."""
        secret = self.living(name)
        found = [each for each in secret.versions if version in ("", each.id)]
        if not found:
            raise self._missing(f"{name}/{version}")
        return secret, found[-1]

    def update(self, name: str, version: str, body: Json) -> tuple[Secret, Version]:
        secret, found = self.version(name, version)
        found.change(body, self._now())
        return secret, found

    def delete(self, name: str) -> Secret:
        secret = self.living(name)
        secret.deleted, secret.changed_at = True, self._now()
        return secret

    def recover(self, name: str) -> Secret:
        secret = self.gone(name)
        secret.deleted, secret.changed_at = False, self._now()
        return secret

    def purge(self, name: str) -> None:
        secret = self.gone(name)
        if self.purge_protection:
            raise Refused(HTTPStatus.FORBIDDEN, "Forbidden", 'Operation "purge" is not enabled for this vault.')
        del self._secrets[secret.name.lower()]

    def living(self, name: str) -> Secret:
        secret = self._secrets.get(name.lower())
        if secret is None or secret.deleted or self._settling(secret):
            raise self._missing(name)
        return secret

    def gone(self, name: str) -> Secret:
        """The deleted secret of this name; not there while the deletion is still under way."""
        self._purge_expired()
        secret = self._secrets.get(name.lower())
        if secret is None or not secret.deleted or self._settling(secret):
            message = f"Deleted Secret not found: {name}"
            raise Refused(HTTPStatus.NOT_FOUND, "SecretNotFound", message)
        return secret

    def listed(self, *, deleted: bool) -> list[Secret]:
        """By name; without those whose deletion or recovery is under way."""
        self._purge_expired()
        found = (each for each in self._secrets.values() if each.deleted is deleted and not self._settling(each))
        return sorted(found, key=lambda each: each.name.lower())

    def purge_time(self, secret: Secret) -> int:
        return secret.changed_at + int(RETENTION.total_seconds())

    def _now(self) -> int:
        return int(self.clock().timestamp())

    def _settling(self, secret: Secret) -> bool:
        return self.clock().timestamp() < secret.changed_at + self.settles_after.total_seconds()

    def _purge_expired(self) -> None:
        now = self._now()
        expired = [key for key, each in self._secrets.items() if each.deleted and self.purge_time(each) <= now]
        for key in expired:
            del self._secrets[key]

    def _refuse_reuse(self, secret: Secret) -> None:
        subject = f"Secret {secret.name} is currently"
        if self._settling(secret):
            doing = "Deleted" if secret.deleted else "Recovered"
            message = f"{subject} being {doing.lower()} and cannot be re-created; retry later."
            raise Refused(HTTPStatus.CONFLICT, "Conflict", message, f"ObjectIsBeing{doing}")
        if secret.deleted:
            message = (
                f"{subject} in a deleted but recoverable state, and its name cannot be reused; "
                "in this state, the secret can only be recovered or purged."
            )
            raise Refused(HTTPStatus.CONFLICT, "Conflict", message, "ObjectIsDeletedButRecoverable")

    @staticmethod
    def _missing(name: str) -> Refused:
        message = f"A secret with (name/id) {name} was not found in this key vault."
        return Refused(HTTPStatus.NOT_FOUND, "SecretNotFound", message)


def routes(vault: Vault) -> list[web.RouteDef]:
    """The secrets operations of one vault, for an https server of its own."""
    api = _Api(vault)
    secret, version = "/secrets/{name}", "/secrets/{name}/{version}"
    deleted = "/deletedsecrets/{name}"
    return [
        web.get("/secrets", api.serve(api.list_secrets)),
        web.put(secret, api.serve(api.set)),
        web.delete(secret, api.serve(api.delete)),
        web.get(secret + "/versions", api.serve(api.list_versions)),
        # The clients ask for the newest version with a closing slash.
        *(web.get(path, api.serve(api.get)) for path in (secret, secret + "/", version)),
        *(web.patch(path, api.serve(api.update)) for path in (secret, secret + "/", version)),
        web.get("/deletedsecrets", api.serve(api.list_deleted)),
        web.get(deleted, api.serve(api.get_deleted)),
        web.delete(deleted, api.serve(api.purge)),
        web.post(deleted + "/recover", api.serve(api.recover)),
    ]


class _Api:
    def __init__(self, vault: Vault) -> None:
        self.vault = vault

    def serve(self, operation: Callable[[web.Request, Json], Json | None]) -> Handler:
        """The operation behind the checks that every request passes first."""

        async def answer(request: web.Request) -> web.Response:
            try:
                self._admit(request)
                result = operation(request, await _body(request))
            except Refused as refused:
                return _error(refused)
            return web.Response(status=204) if result is None else web.json_response(result)

        return answer

    def set(self, request: web.Request, body: Json) -> Json:
        return self._bundle(request, *self.vault.set(_name(request), body), value=True)

    def get(self, request: web.Request, _: Json) -> Json:
        secret, version = self.vault.version(_name(request), request.match_info.get("version", ""))
        if not version.enabled:
            message = "Operation get is not allowed on a disabled secret."
            raise Refused(HTTPStatus.FORBIDDEN, "Forbidden", message, "SecretDisabled")
        return self._bundle(request, secret, version, value=True)

    def update(self, request: web.Request, body: Json) -> Json:
        return self._bundle(request, *self.vault.update(_name(request), request.match_info.get("version", ""), body))

    def delete(self, request: web.Request, _: Json) -> Json:
        return self._deleted_bundle(request, self.vault.delete(_name(request)))

    def recover(self, request: web.Request, _: Json) -> Json:
        secret = self.vault.recover(_name(request))
        return self._bundle(request, secret, secret.versions[-1])

    def purge(self, request: web.Request, _: Json) -> None:
        self.vault.purge(_name(request))

    def get_deleted(self, request: web.Request, _: Json) -> Json:
        return self._deleted_bundle(request, self.vault.gone(_name(request)))

    def list_secrets(self, request: web.Request, _: Json) -> Json:
        return _page(
            request,
            [self._item(request, each) for each in self.vault.listed(deleted=False)],
        )

    def list_versions(self, request: web.Request, _: Json) -> Json:
        secret = self.vault.living(_name(request))
        return _page(request, [self._bundle(request, secret, version) for version in secret.versions])

    def list_deleted(self, request: web.Request, _: Json) -> Json:
        return _page(
            request,
            [self._item(request, each) | self._burial(request, each) for each in self.vault.listed(deleted=True)],
        )

    def _admit(self, request: web.Request) -> None:
        if self.vault.unavailable:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailable", "The service is unavailable.")
        if self.vault.throttled > 0:
            self.vault.throttled -= 1
            message = "Request was not processed because too many requests were received."
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, "Throttled", message)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            raise Refused(
                HTTPStatus.UNAUTHORIZED, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token."
            )
        try:
            self.vault.identity.claims(token, RESOURCE)
        except jwt.InvalidTokenError as error:
            message = "AKV10032: The token is not one that this vault accepts."
            raise Refused(HTTPStatus.UNAUTHORIZED, "Unauthorized", message) from error
        if not _API_VERSION.fullmatch(request.query.get("api-version", "")):
            raise _bad("The api-version query parameter is missing or not supported.")

    def _bundle(self, request: web.Request, secret: Secret, version: Version, *, value: bool = False) -> Json:
        result = {
            "id": f"{_base(request)}/secrets/{secret.name}/{version.id}",
            "contentType": version.content_type,
            "tags": version.tags,
            "attributes": self._attributes(version),
        }
        if value:
            result["value"] = version.value
        return {key: each for key, each in result.items() if each is not None}

    def _item(self, request: web.Request, secret: Secret) -> Json:
        """A row of a list: the newest version's properties under the id of the secret."""
        row = self._bundle(request, secret, secret.versions[-1])
        return {**row, "id": f"{_base(request)}/secrets/{secret.name}"}

    def _deleted_bundle(self, request: web.Request, secret: Secret) -> Json:
        return self._bundle(request, secret, secret.versions[-1]) | self._burial(request, secret)

    def _burial(self, request: web.Request, secret: Secret) -> Json:
        return {
            "recoveryId": f"{_base(request)}/deletedsecrets/{secret.name}",
            "deletedDate": secret.changed_at,
            "scheduledPurgeDate": self.vault.purge_time(secret),
        }

    def _attributes(self, version: Version) -> Json:
        attributes = {
            "enabled": version.enabled,
            "nbf": version.nbf,
            "exp": version.exp,
            "created": version.created,
            "updated": version.updated,
            "recoveryLevel": "Recoverable" if self.vault.purge_protection else "Recoverable+Purgeable",
            "recoverableDays": RETENTION.days,
        }
        return {key: value for key, value in attributes.items() if value is not None}


def _base(request: web.Request) -> str:
    return f"https://{request.host}"


def _name(request: web.Request) -> str:
    name = request.match_info["name"]
    if not _NAME.fullmatch(name):
        raise _bad(f"The request URI contains an invalid name: {name}")
    return name


async def _body(request: web.Request) -> Json:
    if not request.can_read_body:
        return {}
    try:
        body = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _bad("The request body is not valid JSON.") from error
    if not isinstance(body, dict):
        raise _bad("The request body is not a JSON object.")
    return body


def _page(request: web.Request, rows: list[Json]) -> Json:
    size, start = (_whole(request, name, default) for name, default in (("maxresults", PAGE), ("$skiptoken", 0)))
    if not 1 <= size <= PAGE:
        raise _bad(f"The maxresults query parameter must be between 1 and {PAGE}.")
    after = start + size
    more = request.url.update_query({"$skiptoken": str(after)})
    return {"value": rows[start:after], "nextLink": str(more) if after < len(rows) else None}


def _whole(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdecimal():
        raise _bad(f"The {name} query parameter is not a whole number.")
    return int(text)


def _error(refused: Refused) -> web.Response:
    headers = {}
    if refused.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = CHALLENGE
    if refused.status == HTTPStatus.TOO_MANY_REQUESTS:
        headers["Retry-After"] = "1"
    return web.json_response({"error": refused.error}, status=refused.status, headers=headers)
