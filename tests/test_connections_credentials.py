"""Connections: credentials of every kind, rotated without a gap."""

import base64
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

from storage.secrets import secret_name
from sync import connections
from sync.settings import CLOUDS
from sync.settings import Cloud as Endpoints
from tests.cloud import Cloud, NewTenant, TestTenant
from tests.contents import contents
from tests.credentials import as_pem, certify, check, code, connected, key, register, request, secret, vault
from tests.house import House

__all__ = ["connected", "key", "vault"]


def add_secret(tenant: TestTenant, **more: Any) -> Any:
    return tenant.control.post(f"apps/{tenant.client_id}/secrets", more)


def remove_secret(tenant: TestTenant, key: str) -> None:
    tenant.control.delete(f"apps/{tenant.client_id}/secrets/{key}")


class TestRotating:
    def test_a_credential_that_works(self, connected: House) -> None:
        """The new secret takes the old one's place; the old one cannot be read any more, and Entra may forget it."""
        tenant = connected.tenants["primary"]
        old = connections.load(connected.app, "primary").credential["version"]
        added = add_secret(tenant)
        body = secret(added["value"], secretId=added["keyId"], expiresOn="2999-01-01")

        answer = connected.call("PUT", "connections/primary/credential", body)
        remove_secret(tenant, tenant.app["secrets"][0]["keyId"])

        assert answer.status == 200
        assert answer.json["credential"]["secretId"] == added["keyId"]
        assert answer.json["credential"]["expiresOn"] == "2999-01-01"
        assert answer.headers["ETag"] == connected.call("GET", "connections/primary").headers["ETag"]
        assert check(connected)["status"] == "confirmed"
        with pytest.raises(HttpResponseError) as refused:
            connected.app.secrets.load(secret_name("primary"), old)
        assert refused.value.status_code == 403

    def test_a_run_after_it(self, connected: House) -> None:
        """A process that has signed in with the old secret uses the new one from the next run on."""
        tenant = connected.tenants["primary"]
        connected.enable("primary", "users")
        assert connected.run("primary", "users")["status"] == "succeeded"
        added = add_secret(tenant)
        connected.call("PUT", "connections/primary/credential", secret(added["value"]))
        remove_secret(tenant, tenant.app["secrets"][0]["keyId"])
        tokens = tenant.control.get("counters")["tokens"]

        assert connected.run("primary", "users")["status"] == "succeeded"
        assert tenant.control.get("counters")["tokens"] == tokens + 1

    @pytest.mark.parametrize("expired", [False, True])
    def test_a_credential_that_does_not_work(self, connected: House, expired: bool) -> None:
        """A refused secret is answered with the reason; the old one stays, in the vault too, and still works."""
        tenant = connected.tenants["primary"]
        past = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        value = add_secret(tenant, endDateTime=past)["value"] if expired else "wrong~value"
        before = connected.get("connections/primary")

        answer = connected.call("PUT", "connections/primary/credential", secret(value))

        number = 7000222 if expired else 7000215
        assert code(answer) == (422, "credential-rejected")
        assert [(finding["id"], finding["level"], finding["code"]) for finding in answer.json["findings"]] == [
            ("token", "error", f"aadsts-{number}")
        ]
        assert answer.json["findings"][0]["remedy"]
        assert value not in answer.content.decode()
        assert connected.get("connections/primary") == before
        assert connected.app.secrets.load(secret_name("primary")) == tenant.secret
        assert check(connected)["status"] == "confirmed"

    @pytest.mark.parametrize("status", ["failed", "expired", "confirmed"])
    def test_what_a_new_credential_heals(self, connected: House, status: str) -> None:
        """A connection that had failed is unchecked again with a working credential; another keeps its status."""
        connections.save(connected.app, replace(connections.load(connected.app, "primary"), status=status))

        body = secret(connected.tenants["primary"].secret)
        answer = connected.call("PUT", "connections/primary/credential", body)

        assert answer.json["status"] == ("confirmed" if status == "confirmed" else "unchecked")

    def test_entra_down(self, connected: House, build_house: Callable[..., House]) -> None:
        """When Entra cannot be asked, nothing changes: 503."""
        nowhere = Endpoints("https://127.0.0.1:9", connected.cloud.graph)
        stranded = build_house(clouds={**CLOUDS, "global": nowhere})
        before = connected.get("connections/primary")

        answer = stranded.call("PUT", "connections/primary/credential", secret("new"))

        assert code(answer) == (503, "deferred")
        assert answer.headers["Retry-After"]
        assert connected.get("connections/primary") == before
        assert connected.app.secrets.load(secret_name("primary")) == connected.tenants["primary"].secret

    def test_the_vault_down(self, connected: House, vault: Callable[..., None]) -> None:
        """When the vault does not take the new secret, the old one stays in place: 503."""
        before = connected.get("connections/primary")
        added = add_secret(connected.tenants["primary"])
        vault(unavailable=True)
        answer = connected.call("PUT", "connections/primary/credential", secret(added["value"]))
        vault()

        assert code(answer) == (503, "storage-unavailable")
        assert connected.get("connections/primary") == before
        assert check(connected)["status"] == "confirmed"


class TestCertificates:
    @pytest.mark.parametrize("entered", [{}, {"expiresOn": "2999-01-01"}], ids=["read", "entered"])
    def test_a_pem(self, house: House, new_tenant: NewTenant, key: rsa.RSAPrivateKey, entered: dict[str, str]) -> None:
        """Key and certificate sign in; a last day that is not entered is the certificate's; the key is never shown."""
        tenant, certificate = new_tenant(), certify(key)
        register(tenant, certificate)
        credential = {"type": "certificate", "pem": as_pem(key, certificate), **entered}
        ends = entered.get("expiresOn", str(certificate.not_valid_after_utc.date()))

        answer = house.call("POST", "connections", request(tenant, credential=credential))

        assert answer.status == 201
        assert answer.json["credential"]["expiresOn"] == ends
        assert "PRIVATE" not in answer.content.decode()
        assert check(house)["status"] == "confirmed"
        assert contents(house).naming("PRIVATE") == []

    @pytest.mark.parametrize("form", ["pem", "pkcs12"])
    def test_a_certificate_of_the_vault(
        self, house: House, new_tenant: NewTenant, key: rsa.RSAPrivateKey, form: str
    ) -> None:
        """A certificate that the vault keeps signs in by its name, in either form that the vault stores."""
        tenant, certificate, name = new_tenant(), certify(key), f"portal-{uuid.uuid4()}"
        register(tenant, certificate)
        bundle = pkcs12.serialize_key_and_certificates(b"x", key, certificate, None, NoEncryption())
        stored = as_pem(key, certificate) if form == "pem" else base64.b64encode(bundle).decode()
        house.app.secrets.save(name, stored, tags={})
        credential = {"type": "certificate", "keyVaultCertificate": name, "expiresOn": "2999-01-01"}

        answer = house.call("POST", "connections", request(tenant, credential=credential))

        assert answer.json["credential"]["keyVaultCertificate"] == name
        assert check(house)["status"] == "confirmed"

    def test_from_secret_to_certificate(self, connected: House, key: rsa.RSAPrivateKey) -> None:
        """A certificate takes a secret's place once it works; before it is registered it is refused."""
        tenant, certificate = connected.tenants["primary"], certify(key)
        body = {"type": "certificate", "pem": as_pem(key, certificate)}

        refused = connected.call("PUT", "connections/primary/credential", body)
        register(tenant, certificate)
        accepted = connected.call("PUT", "connections/primary/credential", body)
        remove_secret(tenant, tenant.app["secrets"][0]["keyId"])

        assert refused.json["findings"][0]["code"] == "aadsts-700027"
        assert accepted.json["credential"]["type"] == "certificate"
        assert check(connected)["status"] == "confirmed"

    def test_a_name_in_place_of_a_secret(self, connected: House, key: rsa.RSAPrivateKey) -> None:
        """A certificate by name may replace a secret, and leaves no version of its own in the vault."""
        tenant, certificate, name = connected.tenants["primary"], certify(key), f"portal-{uuid.uuid4()}"
        register(tenant, certificate)
        connected.app.secrets.save(name, as_pem(key, certificate), tags={})
        body = {"type": "certificate", "keyVaultCertificate": name}

        first = connected.call("PUT", "connections/primary/credential", body)
        second = connected.call("PUT", "connections/primary/credential", body)

        assert (first.status, second.status) == (200, 200)
        assert connections.load(connected.app, "primary").credential == {
            "type": "certificate",
            "keyVaultCertificate": name,
        }

    @pytest.mark.parametrize(
        ("stored", "expected"),
        [(None, "secret-missing"), ("no certificate", "certificate-unreadable"), ("é", "certificate-unreadable")],
    )
    def test_a_certificate_that_is_none(self, connected: House, stored: str | None, expected: str) -> None:
        """A name that the vault does not know, or that names something else, is rejected with the reason."""
        name = f"portal-{uuid.uuid4()}"
        if stored is not None:
            connected.app.secrets.save(name, stored, tags={})
        body = {"type": "certificate", "keyVaultCertificate": name}

        answer = connected.call("PUT", "connections/primary/credential", body)

        assert code(answer) == (422, "credential-rejected")
        assert [(finding["id"], finding["code"]) for finding in answer.json["findings"]] == [("secret", expected)]
        assert check(connected)["status"] == "confirmed"


class TestManagedIdentity:
    @pytest.mark.parametrize("client", [None, str(uuid.uuid4())], ids=["system-assigned", "user-assigned"])
    def test_a_federated_credential(
        self, house: House, new_tenant: NewTenant, cloud: Cloud, client: str | None
    ) -> None:
        """The app's own identity signs in where the tenant's app trusts it, without any secret to keep."""
        tenant = new_tenant()
        identity = cloud.control.get("identity", **({"clientId": client} if client else {}))
        tenant.control.post(
            f"apps/{tenant.client_id}/federatedCredentials",
            {"issuer": identity["issuer"], "subject": identity["subject"], "audiences": [identity["audience"]]},
        )
        credential = {"type": "managedIdentity", **({"clientId": client} if client else {})}
        name = f"federated-{uuid.uuid4()}"

        answer = house.call("POST", "connections", request(tenant, name, credential=credential))

        assert answer.json["credential"]["clientId"] == client
        assert answer.json["credential"]["expiresOn"] is None
        assert check(house, name)["status"] == "confirmed"
        assert secret_name(name) not in contents(house).secrets

    def test_an_identity_that_is_not_trusted(self, connected: House) -> None:
        """An identity that the tenant's app does not trust is rejected, with what to do about it."""
        answer = connected.call("PUT", "connections/primary/credential", {"type": "managedIdentity"})

        assert code(answer) == (422, "credential-rejected")
        assert answer.json["findings"][0]["code"] == "aadsts-700213"
        assert "federated credential" in answer.json["findings"][0]["remedy"]

    def test_from_secret_to_identity(self, connected: House, cloud: Cloud) -> None:
        """Once an identity is trusted it takes the secret's place, and the secret cannot be read any more."""
        tenant, identity = connected.tenants["primary"], cloud.control.get("identity")
        tenant.control.post(
            f"apps/{tenant.client_id}/federatedCredentials",
            {"issuer": identity["issuer"], "subject": identity["subject"]},
        )

        assert connected.call("PUT", "connections/primary/credential", {"type": "managedIdentity"}).status == 200

        assert check(connected)["status"] == "confirmed"
        with pytest.raises(HttpResponseError):
            connected.app.secrets.load(secret_name("primary"))
