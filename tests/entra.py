"""Apps of the simulated Entra for tests: MSAL's, plain requests for tokens, and certificates."""

from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import msal
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from requests.adapters import HTTPAdapter

from tests.cloud import Cloud, TestTenant

DEFAULT = "https://graph.microsoft.com/.default"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
EXCHANGE = "api://AzureADTokenExchange"


class Certificate:
    """A key with its self-signed certificate."""

    def __init__(self, days: float = 30) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "portal")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder(name, name, self.key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=60))
            .not_valid_after(now + timedelta(days=days))
            .sign(self.key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        self.thumbprint = certificate.fingerprint(hashes.SHA1()).hex()
        self.private = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    return Certificate()


class PublicName(HTTPAdapter):
    """Brings requests for Microsoft's own host to the simulated one."""

    def __init__(self, entra: str) -> None:
        self.entra = entra
        super().__init__()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        request.url = str(request.url).replace("https://login.microsoftonline.com", self.entra)
        return super().send(request, *args, **kwargs)


def msal_app(tenant: TestTenant, credential: Any, *, authority: str | None = None, client_id: str | None = None) -> Any:
    """msal as an application makes it, under Microsoft's own name, so that it does its instance discovery too."""
    session = tenant.cloud.session()
    session.mount("https://login.microsoftonline.com/", PublicName(tenant.cloud.entra))
    return msal.ConfidentialClientApplication(
        client_id or tenant.client_id,
        client_credential=credential,
        authority=authority or f"https://login.microsoftonline.com/{tenant.id}",
        http_client=session,
    )


def msal_answer(tenant: TestTenant, credential: Any, **options: Any) -> dict[str, Any]:
    answer: dict[str, Any] = msal_app(tenant, credential, **options).acquire_token_for_client([DEFAULT])
    return answer


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def post_token(tenant: TestTenant, key: str | None = None, **changes: Any) -> requests.Response:
    """A token request that would succeed but for the changes; None leaves a field out."""
    form = {
        "grant_type": "client_credentials",
        "client_id": tenant.client_id,
        "client_secret": tenant.secret,
        "scope": DEFAULT,
    } | changes
    sent = {name: value for name, value in form.items() if value is not None}
    with tenant.cloud.session() as session:
        return session.post(f"{tenant.cloud.entra}/{key or tenant.id}/oauth2/v2.0/token", data=sent, timeout=60)


def assert_refused(answer: requests.Response, status: int, error: str, number: int, text: str) -> None:
    body = answer.json()

    assert (answer.status_code, body["error"], body["error_codes"]) == (status, error, [number])
    assert body["error_description"].startswith(f"AADSTS{number}: ")
    assert text in body["error_description"]
    assert f"Trace ID: {body['trace_id']} Correlation ID: {body['correlation_id']}" in body["error_description"]
    assert body["error_description"].endswith(f"Timestamp: {body['timestamp']}")
    assert body["error_uri"].endswith(f"/error?code={number}")


def identity_token(cloud: Cloud, resource: str = EXCHANGE) -> str:
    with cloud.session() as session:
        answer = session.get(
            cloud.identity["endpoint"],
            params={"api-version": "2019-08-01", "resource": resource},
            headers={"X-IDENTITY-HEADER": cloud.identity["header"]},
            timeout=60,
        )
    return str(answer.json()["access_token"])
