"""The managed identity endpoint of App Service and Functions, simulated.

Learn: "How to use managed identities for App Service and Azure Functions", REST endpoint reference. One signing
key serves every audience; Entra's simulation trusts it as an issuer through `issuer`, `subject` and `jwks`.
"""

import hmac
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

HOME_TENANT = "5e1f0c6a-7d0b-4c51-9b0a-2f7a8c3d4e10"
SYSTEM_ASSIGNED = "0b9f6a52-31c4-4f3e-8a77-6c1de0f25b94"
TOKEN_EXCHANGE = "api://AzureADTokenExchange"
LIFETIME = timedelta(hours=24)
_KEY_ID = "managed-identity"
_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PRINCIPALS = UUID(HOME_TENANT)


class ManagedIdentity:
    """Issues and checks tokens of the app's identities, which live in the vendor's own tenant.

    `clock` should be the machine's own even where the rest of the simulated cloud runs on another: the callers'
    token caches compare `expires_on` with the time they know.
    """

    def __init__(self, header: str, clock: Callable[[], datetime]) -> None:
        self.header = header
        self.clock = clock
        self.issuer = f"https://login.microsoftonline.com/{HOME_TENANT}/v2.0"
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def subject(self, client_id: str) -> str:
        """The principal's object id: what a federated credential names as its subject."""
        return str(uuid5(_PRINCIPALS, client_id.lower()))

    def token(self, resource: str, client_id: str, now: datetime) -> str:
        issued = int(now.timestamp())
        claims = {
            "aud": resource,
            "iss": self.issuer,
            "iat": issued,
            "nbf": issued,
            "exp": issued + int(LIFETIME.total_seconds()),
            "appid": client_id,
            "idtyp": "app",
            "oid": self.subject(client_id),
            "sub": self.subject(client_id),
            "tid": HOME_TENANT,
        }
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": _KEY_ID})

    def claims(self, token: str, audience: str) -> Mapping[str, Any]:
        """What a token of ours says, or jwt.InvalidTokenError: not ours, out of its time, for somebody else."""
        claims: dict[str, Any] = jwt.decode(
            token,
            self._key.public_key(),
            algorithms=["RS256"],
            audience=audience,
            issuer=self.issuer,
            options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
        if not claims["nbf"] - 300 <= self.clock().timestamp() < claims["exp"]:
            raise jwt.ExpiredSignatureError
        return claims

    def jwks(self) -> dict[str, Any]:
        key = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [{**key, "kid": _KEY_ID, "use": "sig", "alg": "RS256"}]}


def _refused(status: int, message: str) -> web.Response:
    return web.json_response({"statusCode": status, "message": message}, status=status)


def routes(identity: ManagedIdentity) -> list[web.RouteDef]:
    """Set IDENTITY_ENDPOINT to this server's `/msi/token` and IDENTITY_HEADER to the identity's header."""

    async def answer(request: web.Request) -> web.Response:
        sent = request.headers.get("X-IDENTITY-HEADER", "")
        if not hmac.compare_digest(sent.encode(), identity.header.encode()):
            return _refused(401, "The X-IDENTITY-HEADER header is missing or wrong.")
        if request.query.get("api-version") != "2019-08-01":
            return _refused(400, "The api-version is missing or not supported.")
        resource = request.query.get("resource", "")
        if not resource:
            return _refused(400, "The resource is missing.")
        client_id = request.query.get("client_id", SYSTEM_ASSIGNED)
        if not _GUID.fullmatch(client_id):
            return _refused(400, "No User Assigned or Delegated Managed Identity found for specified ClientId.")
        now = identity.clock().astimezone(UTC)
        return web.json_response(
            {
                "access_token": identity.token(resource, client_id, now),
                "expires_on": str(int((now + LIFETIME).timestamp())),
                "resource": resource,
                "token_type": "Bearer",
                "client_id": client_id,
            }
        )

    return [web.get("/msi/token", answer)]
