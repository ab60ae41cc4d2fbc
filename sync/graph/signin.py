"""App-only sign-in to one tenant with MSAL (Learn: OAuth 2.0 client credentials flow on the Microsoft identity platform)."""

import base64
import binascii
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import msal
import requests
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from sync.errors import Deferred, SignInError, TenantsyncError
from sync.graph.aadsts import explain
from sync.graph.protocol import NO_ANSWER, is_transient, retry_delay

_ATTEMPTS = 4
_MAX_SLEEP = 10.0
_RETRY_LATER = 60.0
_TIMEOUTS = (5, 30)
_BUSY = frozenset({"temporarily_unavailable", "server_error"})

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClientSecret:
    value: str = field(repr=False)


@dataclass(frozen=True)
class Certificate:
    """`pem`: an RSA private key without a password and its certificate."""

    pem: bytes = field(repr=False)


@dataclass(frozen=True)
class Federated:
    """`assertion` gets a token of the managed identity for api://AzureADTokenExchange."""

    assertion: Callable[[], str] = field(repr=False)


Credential = ClientSecret | Certificate | Federated


class SignIn:
    """One version of one connection's credential. Thread-safe.

    `authority` is the cloud's sign-in host and the tenant ("https://login.microsoftonline.com/{tenant}"), `scope` the
    Graph host's default scope ("https://graph.microsoft.com/.default").
    """

    def __init__(
        self,
        *,
        authority: str,
        client_id: str,
        credential: Credential,
        scope: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if urlsplit(authority).scheme != "https":
            raise TenantsyncError("Sign-in works over https only.", code="invalid-authority")
        self._authority = authority
        self._client_id = client_id
        self._credential = credential
        self._scope = scope
        self._clock = clock
        self._http = _Entra(clock, sleep)
        self._lock = threading.Lock()
        self._app: Any = None

    def token(self, *, fresh: bool = False) -> str:
        """An access token for Graph: MSAL's cached one while it is good, a `fresh` one if asked for.

        Raises SignInError when Entra refuses the credential, Deferred when Entra does not answer.
        """
        with self._lock:
            try:
                return self._acquire(fresh=fresh)
            except _NoAnswer as fault:
                raise Deferred("Entra did not answer properly.", until=fault.until, throttled=fault.throttled) from None

    def _acquire(self, *, fresh: bool) -> str:
        # MSAL keeps tokens for their life and 400s for a minute per app object, which would hide a revoked secret.
        app = self._new_app() if fresh or self._app is None else self._app
        result: Mapping[str, Any] = app.acquire_token_for_client([self._scope])
        if isinstance(token := result.get("access_token"), str):
            self._app = app
            return token
        if result.get("error") in _BUSY:
            raise _NoAnswer(self._clock() + timedelta(seconds=_RETRY_LATER), throttled=True)
        raise _refused(result)

    def _new_app(self) -> Any:
        """MSAL reads the tenant's discovery document here. Discovery of the host is off: the deployment names the host."""
        try:
            return msal.ConfidentialClientApplication(
                self._client_id,
                client_credential=_msal_credential(self._credential),
                authority=self._authority,
                instance_discovery=False,
                http_client=self._http,
            )
        except (KeyError, ValueError):
            raise SignInError(
                "Entra's description of the tenant's sign-in cannot be used.",
                remedy="Check the sign-in host in this app's settings.",
                code="sign-in-failed",
                aadsts=None,
            ) from None


def _refused(error: Mapping[str, Any]) -> SignInError:
    refusal = explain(error)
    return SignInError(
        refusal.cause, remedy=refusal.remedy, code=refusal.code, aadsts=refusal.aadsts, expired=refusal.expired
    )


def _msal_credential(credential: Credential) -> object:
    if isinstance(credential, ClientSecret):
        return credential.value
    if isinstance(credential, Certificate):
        return _key_pair(credential.pem)
    return {"client_assertion": credential.assertion}


def _key_pair(pem: bytes) -> dict[str, str]:
    """The key and the certificate that belongs to it; other certificates of a chain are left out."""
    try:
        key = load_pem_private_key(pem, password=None)
        certificate = next(
            c
            for c in x509.load_pem_x509_certificates(pem)
            if isinstance(key, RSAPrivateKey) and c.public_key() == key.public_key()
        )
    except (
        TypeError,
        ValueError,
        UnsupportedAlgorithm,
        StopIteration,
    ):  # a password; not PEM; no RSA key, or no certificate of the key
        raise SignInError(
            "The certificate cannot be used.",
            remedy="Give a PEM text with an RSA private key without a password, and the certificate of that key.",
            code="certificate-unreadable",
            aadsts=None,
        ) from None
    return {
        "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "public_certificate": certificate.public_bytes(Encoding.PEM).decode(),
    }


class _NoAnswer(requests.RequestException):
    """Entra is unreachable or busy. Of requests' family, so that MSAL still falls back on a token that it holds."""

    def __init__(self, until: datetime, *, throttled: bool) -> None:
        super().__init__()
        self.until = until
        self.throttled = throttled


class _Entra:
    """The HTTP client that MSAL is given: timeouts, no redirects, bounded retries, JSON or nothing."""

    def __init__(self, clock: Callable[[], datetime], sleep: Callable[[float], None]) -> None:
        self._session = requests.Session()
        self._clock = clock
        self._sleep = sleep

    def get(self, url: str, **options: Any) -> requests.Response:
        """Discovery: raises SignInError for a tenant that does not exist."""
        response = self._send("GET", url, options)
        if response.status_code >= 400:
            raise _refused(_json(response))
        return response

    def post(self, url: str, **options: Any) -> requests.Response:
        return self._send("POST", url, options)

    def _send(self, method: str, url: str, options: Mapping[str, Any]) -> requests.Response:
        attempt = 0
        while True:
            response = self._try(method, url, options)
            if response.status_code != NO_ANSWER and not is_transient(response.status_code):
                return response
            attempt += 1
            delay = retry_delay(response.headers, attempt, self._clock(), random.random())  # noqa: S311 - jitter, not a secret
            if attempt == _ATTEMPTS or delay > _MAX_SLEEP:
                until = self._clock() + timedelta(seconds=max(delay, _RETRY_LATER if attempt == _ATTEMPTS else 0))
                raise _NoAnswer(until, throttled=response.status_code == 429)
            self._sleep(delay)

    def _try(self, method: str, url: str, options: Mapping[str, Any]) -> requests.Response:
        """One attempt; an empty response with NO_ANSWER stands for a fault on the way or an answer that is not JSON."""
        nothing = requests.Response()
        nothing.status_code = NO_ANSWER
        try:
            response = self._session.request(method, url, timeout=_TIMEOUTS, allow_redirects=False, **options)
        except requests.RequestException as fault:
            _log.debug("Entra: %s", type(fault).__name__)
            return nothing
        _log.debug("Entra: %s %d", method, response.status_code)
        return response if is_transient(response.status_code) or _json(response) else nothing


def _json(response: requests.Response) -> Mapping[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def roles(token: str) -> frozenset[str]:
    """The application roles that the token claims. For diagnosis only: Microsoft calls access tokens opaque to clients."""
    claimed = _claims(token).get("roles")
    return frozenset(role for role in claimed if isinstance(role, str)) if isinstance(claimed, list) else frozenset()


def tenant_id(token: str) -> str:
    """The tenant that the token claims to be for, "" if it does not say. For diagnosis only."""
    claimed = _claims(token).get("tid")
    return claimed if isinstance(claimed, str) else ""


def _claims(token: str) -> Mapping[str, Any]:
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, binascii.Error):
        return {}
    return claims if isinstance(claims, dict) else {}
