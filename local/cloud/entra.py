"""Microsoft Entra ID, simulated: discovery documents, the token endpoint of client credentials, and token checks.

Learn: OAuth 2.0 client credentials flow; OpenID Connect on the Microsoft identity platform.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus
from uuid import uuid4

import jwt
from aiohttp import web

from local.cloud import refusals
from local.cloud.apps import App
from local.cloud.assertions import check_assertion
from local.cloud.identity import ManagedIdentity
from local.cloud.refusals import SignInRefused
from local.cloud.signing import Claims, SigningKey
from local.cloud.tenants import GUID, Tenant, Tenants

LIFETIME = 3600
BACKDATED = 300
GRAPH = "https://graph.microsoft.com"
GRAPH_APP_ID = "00000003-0000-0000-c000-000000000000"
SHARED = {"common", "organizations", "consumers"}
CHECKED_TOKENS = 1000
_DOMAIN = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+", re.IGNORECASE)
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_POLICY = "8c9b1f2e-5d34-4c8a-9d0b-6f1f5a1c7e21"


class TokenRejected(Exception):
    """Why a token does not open Graph."""


class Entra:
    """Signs apps in. `graph_hosts` are the further names under which tokens for Graph may be asked for."""

    def __init__(self, tenants: Tenants, identity: ManagedIdentity) -> None:
        self.graph_hosts: set[str] = set()
        self._tenants = tenants
        self._identity = identity
        self._key = SigningKey()
        self._checked: dict[str, Claims] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/common/discovery/instance", self._instance),
            web.get("/{tenant}/v2.0/.well-known/openid-configuration", self._configuration),
            web.get("/{tenant}/discovery/v2.0/keys", self._keys),
            web.post("/{tenant}/oauth2/v2.0/token", self._token),
        ]

    def check_token(self, token: str) -> tuple[Tenant, Claims]:
        """Whom a Graph token stands for; TokenRejected if it is not one, is meant for another API or has expired."""
        claims = self._checked.get(token) or self._verified(token)
        tenant = self._tenants.find(claims["tid"])
        if tenant is None:
            raise TokenRejected("Invalid tenant.")
        if not claims["nbf"] <= tenant.clock.now().timestamp() < claims["exp"]:
            raise TokenRejected("Lifetime validation failed, the token is expired.")
        return tenant, claims

    def _verified(self, token: str) -> Claims:
        try:
            claims = self._key.verify(token)
        except jwt.InvalidTokenError as error:
            raise TokenRejected("Invalid signature or format.") from error
        if claims["aud"] not in {GRAPH, GRAPH_APP_ID} | self.graph_hosts:
            raise TokenRejected("Invalid audience.")
        if len(self._checked) >= CHECKED_TOKENS:
            self._checked.clear()
        self._checked[token] = claims
        return claims

    async def _instance(self, request: web.Request) -> web.Response:
        names = [
            request.host,
            "login.microsoftonline.com",
            "login.windows.net",
            "login.microsoft.com",
            "sts.windows.net",
        ]
        cloud = {"preferred_network": request.host, "preferred_cache": "login.windows.net", "aliases": names}
        endpoint = f"https://{request.host}/common/v2.0/.well-known/openid-configuration"
        return web.json_response({"tenant_discovery_endpoint": endpoint, "api-version": "1.1", "metadata": [cloud]})

    async def _configuration(self, request: web.Request) -> web.Response:
        key = request.match_info["tenant"]
        try:
            tenant_id = key if key in SHARED else self._find(key).id
        except SignInRefused as refused:
            refused.error = "invalid_tenant"
            return _refused_answer(request, refused, datetime.now(UTC))
        host = f"https://{request.host}"
        return web.json_response(
            {
                "token_endpoint": f"{host}/{tenant_id}/oauth2/v2.0/token",
                "token_endpoint_auth_methods_supported": [
                    "client_secret_post",
                    "private_key_jwt",
                    "client_secret_basic",
                ],
                "jwks_uri": f"{host}/{tenant_id}/discovery/v2.0/keys",
                "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
                "scopes_supported": ["openid", "profile", "email", "offline_access"],
                "issuer": f"{host}/{tenant_id}/v2.0",
                "authorization_endpoint": f"{host}/{tenant_id}/oauth2/v2.0/authorize",
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "tenant_region_scope": "NA",
                "cloud_instance_name": request.host,
                "msgraph_host": "graph.microsoft.com",
            }
        )

    async def _keys(self, _: web.Request) -> web.Response:
        return web.json_response(self._key.jwks())

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        key = request.match_info["tenant"]
        tenant = self._tenants.find(key)
        try:
            answer = self._sign_in(request, form, key)
        except SignInRefused as refused:
            if tenant:
                tenant.counters.tokens_refused += 1
            return _refused_answer(request, refused, tenant.clock.now() if tenant else datetime.now(UTC))
        return web.json_response(answer, headers={"Cache-Control": "no-store, no-cache", "Pragma": "no-cache"})

    def _sign_in(self, request: web.Request, form: Mapping[str, str], key: str) -> dict[str, Any]:
        tenant = self._find(key)
        form = {**form, **_basic(request.headers.get("Authorization", ""))}
        if form.get("grant_type") != "client_credentials":
            raise refusals.unsupported_grant(form.get("grant_type", ""))
        if not form.get("client_id"):
            raise refusals.missing_parameter("client_id")
        app = tenant.app(form["client_id"])
        if app is None:
            raise refusals.unknown_app(form["client_id"], tenant.display_name)
        if not app.enabled:
            raise refusals.disabled_app(app.app_id, app.display_name)
        kind = self._authenticate(tenant, app, form, {f"https://{request.host}/{name}" for name in (key, tenant.id)})
        if not app.has_service_principal:
            raise refusals.no_service_principal(app.app_id, tenant.id)
        if app.conditional_access_block:
            raise refusals.blocked_by_policy(_POLICY)
        resource = self._resource(form.get("scope", ""), tenant)
        tenant.counters.tokens += 1
        token = self._key.sign(_claims(tenant, app, resource, kind))
        lasts = {"expires_in": LIFETIME - 1, "ext_expires_in": LIFETIME - 1}
        return {"token_type": "Bearer", **lasts, "access_token": token}

    def _find(self, key: str) -> Tenant:
        if not GUID.fullmatch(key.lower()) and not _DOMAIN.fullmatch(key):
            raise refusals.malformed_tenant(key)
        tenant = self._tenants.find(key)
        if tenant is None:
            raise refusals.unknown_tenant(key)
        return tenant

    def _authenticate(self, tenant: Tenant, app: App, form: Mapping[str, str], authorities: set[str]) -> str:
        """How the app proved who it is, in the words of the claim appidacr; SignInRefused if it did not."""
        now = tenant.clock.now()
        if "client_assertion" in form and form.get("client_assertion_type") == _ASSERTION:
            audiences = {authority + path for authority in authorities for path in ("/oauth2/v2.0/token", "/v2.0")}
            check_assertion(app, form["client_assertion"], audiences, self._identity, now)
            return "2"
        if "client_secret" not in form:
            raise refusals.no_credential()
        _check_secret(app, form["client_secret"], now)
        return "1"

    def _resource(self, scope: str, tenant: Tenant) -> str:
        if not scope:
            raise refusals.missing_parameter("scope")
        if len(scope.split()) != 1:
            raise refusals.invalid_scope(scope)
        if not scope.endswith("/.default"):
            raise refusals.scope_without_default(scope)
        resource = scope.removesuffix("/.default").rstrip("/")
        if resource not in {GRAPH, GRAPH_APP_ID} | self.graph_hosts:
            raise refusals.unknown_resource(resource, tenant.display_name)
        return resource


def _basic(authorization: str) -> dict[str, str]:
    """Client id and secret of an HTTP Basic header; nothing where there is none."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return {}
    try:
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise refusals.no_credential() from error
    return {"client_id": unquote_plus(client_id), "client_secret": unquote_plus(secret)}


def _check_secret(app: App, sent: str, now: datetime) -> None:
    known = [secret for secret in app.secrets if hmac.compare_digest(secret.value.encode(), sent.encode())]
    if not known:
        raise refusals.wrong_secret(app.app_id)
    if all(secret.end_date_time <= now for secret in known):
        raise refusals.expired_secret(app.app_id)


def _claims(tenant: Tenant, app: App, resource: str, kind: str) -> Claims:
    now = int(tenant.clock.now().timestamp())
    claims = {
        "aud": resource,
        "iss": f"https://sts.windows.net/{tenant.id}/",
        "iat": now - BACKDATED,
        "nbf": now - BACKDATED,
        "exp": now + LIFETIME,
        "aio": uuid4().hex,
        "app_displayname": app.display_name,
        "appid": app.app_id,
        "appidacr": kind,
        "idp": f"https://sts.windows.net/{tenant.id}/",
        "idtyp": "app",
        "oid": app.principal_id,
        "rh": uuid4().hex,
        "sub": app.principal_id,
        "tenant_region_scope": "NA",
        "tid": tenant.id,
        "uti": uuid4().hex[:22],
        "ver": "1.0",
        "wids": ["0997a1d0-0d1d-4acb-b408-d5ca73121e90"],
        "xms_tcdt": 1600000000,
    }
    return claims | ({"roles": sorted(app.roles)} if app.roles else {})


def _refused_answer(request: web.Request, refused: SignInRefused, now: datetime) -> web.Response:
    trace, correlation = str(uuid4()), request.headers.get("client-request-id", str(uuid4()))
    at = now.strftime("%Y-%m-%d %H:%M:%SZ")
    body = {
        "error": refused.error,
        "error_description": f"AADSTS{refused.number}: {refused.text} Trace ID: {trace} Correlation ID: {correlation}"
        f" Timestamp: {at}",
        "error_codes": [refused.number],
        "timestamp": at,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": f"https://{request.host}/error?code={refused.number}",
    }
    return web.json_response(body | refused.extra, status=refused.status)
