"""Certificates, federated credentials and azure-identity at the simulated Entra."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import jwt
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import (
    CertificateCredential,
    ClientAssertionCredential,
    ClientSecretCredential,
    ManagedIdentityCredential,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.cloud import TestTenant
from tests.entra import (
    ASSERTION,
    DEFAULT,
    EXCHANGE,
    Certificate,
    assert_refused,
    certificate,
    claims_of,
    identity_token,
    msal_answer,
    post_token,
)

__all__ = ["certificate"]

# Certificates and federation


@pytest.mark.parametrize("by_thumbprint", [True, False])
def test_msal_signs_in_with_a_certificate(tenant, certificate, by_thumbprint):
    """msal sends RS256 with x5t where it is given a SHA-1 thumbprint, else PS256 with x5t#S256."""
    tenant.control.post(f"apps/{tenant.client_id}/certificates", {"pem": certificate.pem})
    credential = {"private_key": certificate.private} | (
        {"thumbprint": certificate.thumbprint} if by_thumbprint else {"public_certificate": certificate.pem}
    )
    answer = msal_answer(tenant, credential)

    assert claims_of(answer["access_token"])["appidacr"] == "2"


def test_a_certificate_nobody_registered(tenant, certificate):
    answer = msal_answer(tenant, {"private_key": certificate.private, "thumbprint": certificate.thumbprint})

    assert (answer["error"], answer["error_codes"]) == ("invalid_client", [700027])
    assert "Reason - The key was not found." in answer["error_description"]


def test_an_expired_certificate(tenant):
    expired = Certificate(days=-1)
    tenant.control.post(f"apps/{tenant.client_id}/certificates", {"pem": expired.pem})
    answer = msal_answer(tenant, {"private_key": expired.private, "thumbprint": expired.thumbprint})

    assert (answer["error"], answer["error_codes"]) == ("invalid_client", [700027])
    assert "Reason - The key used is expired." in answer["error_description"]


def test_a_certificate_taken_away(tenant, certificate):
    path = f"apps/{tenant.client_id}/certificates"
    key_id = tenant.control.post(path, {"pem": certificate.pem})["keyId"]
    tenant.control.delete(f"{path}/{key_id}")
    answer = msal_answer(tenant, {"private_key": certificate.private, "thumbprint": certificate.thumbprint})

    assert answer["error_codes"] == [700027]


def test_another_key_under_a_registered_thumbprint(tenant, certificate):
    tenant.control.post(f"apps/{tenant.client_id}/certificates", {"pem": certificate.pem})
    answer = msal_answer(tenant, {"private_key": Certificate().private, "thumbprint": certificate.thumbprint})

    assert (answer["error"], answer["error_codes"]) == ("invalid_client", [700027])


def own_assertion(tenant: TestTenant, certificate: Certificate, **changes: Any) -> str:
    now = int(datetime.now(UTC).timestamp())
    claims = {
        "iss": tenant.client_id,
        "sub": tenant.client_id,
        "aud": f"{tenant.authority}/oauth2/v2.0/token",
        "jti": str(uuid4()),
        "iat": now,
        "exp": now + 600,
    } | changes
    thumbprint = x509.load_pem_x509_certificate(certificate.pem.encode()).fingerprint(hashes.SHA256())
    header = {"x5t#S256": jwt.utils.base64url_encode(thumbprint).decode()}
    return jwt.encode(claims, certificate.key, algorithm="PS256", headers=header)


def post_assertion(tenant: TestTenant, assertion: str) -> requests.Response:
    return post_token(tenant, client_secret=None, client_assertion=assertion, client_assertion_type=ASSERTION)


def test_an_assertion_outside_its_time(tenant, certificate):
    tenant.control.post(f"apps/{tenant.client_id}/certificates", {"pem": certificate.pem})
    now = int(datetime.now(UTC).timestamp())
    late = post_assertion(tenant, own_assertion(tenant, certificate, iat=now - 4000, exp=now - 3000))
    early = post_assertion(tenant, own_assertion(tenant, certificate, nbf=now + 3000))

    assert post_assertion(tenant, own_assertion(tenant, certificate)).status_code == 200
    assert_refused(late, 401, "invalid_client", 700024, "not within its valid time range")
    assert_refused(early, 401, "invalid_client", 700024, "not within its valid time range")


def test_an_assertion_for_somebody_else_or_no_assertion_at_all(tenant, certificate):
    tenant.control.post(f"apps/{tenant.client_id}/certificates", {"pem": certificate.pem})
    other = post_assertion(tenant, own_assertion(tenant, certificate, aud="https://login.example"))

    assert_refused(other, 401, "invalid_client", 700023, "audience")
    assert_refused(post_assertion(tenant, "not.a.jwt"), 400, "invalid_request", 50027, "malformed")


def trust_identity(tenant: TestTenant) -> dict[str, Any]:
    trusted = tenant.cloud.control.get("identity")
    body = {"issuer": trusted["issuer"], "subject": trusted["subject"], "audiences": [trusted["audience"]]}
    tenant.control.post(f"apps/{tenant.client_id}/federatedCredentials", body)
    return body


def test_msal_signs_in_with_a_managed_identity(tenant):
    trust_identity(tenant)
    answer = msal_answer(tenant, {"client_assertion": lambda: identity_token(tenant.cloud)})

    assert claims_of(answer["access_token"])["appidacr"] == "2"


def test_a_managed_identity_that_is_not_trusted(tenant):
    answer = post_assertion(tenant, identity_token(tenant.cloud))
    trusted = tenant.cloud.control.get("identity")

    assert_refused(answer, 401, "invalid_client", 700213, "No matching federated identity record found")
    assert trusted["subject"] in answer.json()["error_description"]


@pytest.mark.parametrize("field", ["issuer", "subject"])
def test_a_federated_credential_for_another(tenant, field):
    trusted = tenant.cloud.control.get("identity")
    body = {"issuer": trusted["issuer"], "subject": trusted["subject"]} | {field: "https://somebody.else"}
    tenant.control.post(f"apps/{tenant.client_id}/federatedCredentials", body)

    assert post_assertion(tenant, identity_token(tenant.cloud)).json()["error_codes"] == [700213]


def test_an_identity_token_for_another_audience(tenant):
    trust_identity(tenant)

    assert post_assertion(tenant, identity_token(tenant.cloud, DEFAULT)).json()["error_codes"] == [700213]


def test_a_forged_identity_token(tenant, certificate):
    trusted = trust_identity(tenant)
    claims = {"iss": trusted["issuer"], "sub": trusted["subject"], "aud": EXCHANGE, "exp": 4000000000, "nbf": 0}

    answer = post_assertion(tenant, jwt.encode(claims, certificate.key, algorithm="RS256"))

    assert_refused(answer, 400, "invalid_grant", 50013, "signature")


def test_a_federated_credential_taken_away(tenant):
    trust_identity(tenant)
    tenant.control.delete(f"apps/{tenant.client_id}/federatedCredentials/federated")

    assert post_assertion(tenant, identity_token(tenant.cloud)).json()["error_codes"] == [700213]


# azure-identity


def azure_options(tenant: TestTenant) -> dict[str, Any]:
    return {
        "authority": tenant.cloud.entra,
        "disable_instance_discovery": True,
        "connection_verify": tenant.cloud.ca,
        "retry_total": 0,
    }


def test_azure_identity_signs_in_with_a_secret(tenant):
    with ClientSecretCredential(tenant.id, tenant.client_id, tenant.secret, **azure_options(tenant)) as credential:
        token = credential.get_token(DEFAULT)

    assert claims_of(token.token)["appid"] == tenant.client_id


def test_azure_identity_reports_a_wrong_secret(tenant):
    with (
        ClientSecretCredential(tenant.id, tenant.client_id, "wrong", **azure_options(tenant)) as credential,
        pytest.raises(ClientAuthenticationError, match="AADSTS7000215"),
    ):
        credential.get_token(DEFAULT)


def test_azure_identity_signs_in_with_a_certificate(tenant, certificate):
    tenant.control.post(f"apps/{tenant.client_id}/certificates", {"pem": certificate.pem})
    data = (certificate.private + certificate.pem).encode()
    options = azure_options(tenant)
    with CertificateCredential(tenant.id, tenant.client_id, certificate_data=data, **options) as credential:
        token = credential.get_token(DEFAULT)

    assert claims_of(token.token)["appidacr"] == "2"


def test_azure_identity_chains_a_managed_identity_to_the_tenant(tenant, monkeypatch):
    trust_identity(tenant)
    monkeypatch.setenv("IDENTITY_ENDPOINT", tenant.cloud.identity["endpoint"])
    monkeypatch.setenv("IDENTITY_HEADER", tenant.cloud.identity["header"])
    with ManagedIdentityCredential(connection_verify=tenant.cloud.ca) as managed:

        def assertion() -> str:
            return str(managed.get_token(f"{EXCHANGE}/.default").token)

        options = azure_options(tenant)
        with ClientAssertionCredential(tenant.id, tenant.client_id, assertion, **options) as credential:
            token = credential.get_token(DEFAULT)

    assert claims_of(token.token)["appidacr"] == "2"
