"""Connections and their credentials for tests: the form, the vault's switches, certificates."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.cloud import Cloud, NewTenant, TestTenant
from tests.house import Answer, House


def request(tenant: TestTenant, name: str = "primary", **changes: Any) -> dict[str, Any]:
    credential = {"type": "clientSecret", "secretValue": tenant.secret}
    return {"name": name, "tenantId": tenant.id, "clientId": tenant.client_id, "credential": credential, **changes}


def secret(value: str, **more: Any) -> dict[str, Any]:
    return {"type": "clientSecret", "secretValue": value, **more}


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["code"]


@pytest.fixture
def vault(cloud: Cloud) -> Iterator[Callable[..., None]]:
    """Turns the vault's switches; afterwards they are off again."""
    yield lambda **switches: cloud.control.post("vault", switches)
    cloud.control.post("vault", {})


@pytest.fixture
def connected(house: House, new_tenant: NewTenant) -> House:
    """A house with the connection `primary`."""
    house.connect(new_tenant())
    return house


def check(house: House, name: str = "primary") -> Any:
    return house.call("POST", f"connections/{name}/check").json


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def certify(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, *, days: int = 100) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tenantsync tests")])
    start = datetime.now(UTC) - timedelta(days=30)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), start, start + timedelta(days=30 + days)
    )
    return builder.sign(key, hashes.SHA256())


def as_pem(key: rsa.RSAPrivateKey, certificate: x509.Certificate) -> str:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (private + certificate.public_bytes(Encoding.PEM)).decode()


def pem(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, *, days: int = 30, password: bytes | None = None
) -> tuple[bytes, bytes]:
    """The key, locked where there is a password, and its self-signed certificate."""
    lock = BestAvailableEncryption(password) if password else NoEncryption()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
    return private, certify(key, days=days).public_bytes(Encoding.PEM)


def register(tenant: TestTenant, certificate: x509.Certificate) -> None:
    pem = certificate.public_bytes(Encoding.PEM).decode()
    tenant.control.post(f"apps/{tenant.client_id}/certificates", {"pem": pem})
