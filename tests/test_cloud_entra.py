"""The simulated Entra, over HTTPS: as msal and azure-identity see it, and answer by answer."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import msal
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
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from requests.adapters import HTTPAdapter

from tests.cloud import Cloud, NewTenant, TestTenant

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


# Signing in


def test_msal_signs_in_with_a_secret_and_keeps_the_token(tenant):
    app = msal_app(tenant, tenant.secret)
    first = app.acquire_token_for_client([DEFAULT])
    second = app.acquire_token_for_client([DEFAULT])

    assert (first["token_type"], first["token_source"], second["token_source"]) == (
        "Bearer",
        "identity_provider",
        "cache",
    )
    assert 3500 < first["expires_in"] <= 3599
    assert tenant.control.get("counters")["tokens"] == 1


def test_a_token_says_who_the_app_is_and_what_it_may_do(tenant):
    claims = claims_of(post_token(tenant).json()["access_token"])
    app = tenant.app

    assert claims["aud"] == "https://graph.microsoft.com"
    assert claims["iss"] == f"https://sts.windows.net/{tenant.id}/"
    assert (claims["tid"], claims["appid"], claims["idtyp"], claims["ver"]) == (
        tenant.id,
        app["appId"],
        "app",
        "1.0",
    )
    assert claims["oid"] == claims["sub"] == app["principalId"]
    assert (claims["appidacr"], claims["roles"]) == ("1", ["User.Read.All"])
    assert claims["nbf"] <= datetime.now(UTC).timestamp() < claims["exp"]


def test_an_app_without_consent_gets_a_token_without_roles(tenant):
    tenant.control.patch(f"apps/{tenant.client_id}", {"roles": []})

    assert "roles" not in claims_of(post_token(tenant).json()["access_token"])
    assert tenant.graph().get("/users").json()["error"]["code"] == "Authorization_RequestDenied"


def test_a_grant_shows_only_in_a_new_token(tenant):
    old = tenant.graph()
    tenant.control.patch(f"apps/{tenant.client_id}", {"roles": ["Organization.Read.All"]})

    assert old.get("/organization").status_code == 403
    assert tenant.graph().get("/organization").status_code == 200
    assert old.get("/users").status_code == 200
    assert tenant.graph().get("/users").status_code == 403


def test_the_domain_names_the_tenant_too(tenant):
    assert claims_of(post_token(tenant, key=tenant.domain).json()["access_token"])["tid"] == tenant.id


def test_http_basic_carries_id_and_secret(tenant):
    with tenant.cloud.session() as session:
        answer = session.post(
            f"{tenant.authority}/oauth2/v2.0/token",
            data={"grant_type": "client_credentials", "scope": DEFAULT},
            auth=(tenant.client_id, tenant.secret),
            timeout=60,
        )

    assert answer.status_code == 200


def test_http_basic_that_cannot_be_read(tenant):
    with tenant.cloud.session() as session:
        answer = session.post(
            f"{tenant.authority}/oauth2/v2.0/token",
            data={"grant_type": "client_credentials", "scope": DEFAULT},
            headers={"Authorization": "Basic ???"},
            timeout=60,
        )

    assert_refused(answer, 401, "invalid_client", 7000218, "client_secret")


def test_the_scope_may_name_the_simulated_graph_by_its_own_address(tenant):
    for scope in (f"{tenant.cloud.graph}/.default", f"{tenant.cloud.graph}//.default"):
        assert claims_of(post_token(tenant, scope=scope).json()["access_token"])["aud"] == tenant.cloud.graph


def test_tokens_verify_with_the_published_keys(tenant):
    token = post_token(tenant).json()["access_token"]
    with tenant.cloud.session() as session:
        configuration = session.get(f"{tenant.authority}/v2.0/.well-known/openid-configuration", timeout=60).json()
        keys = jwt.PyJWKSet.from_dict(session.get(configuration["jwks_uri"], timeout=60).json())
    key = keys[jwt.get_unverified_header(token)["kid"]]

    assert jwt.decode(token, key, audience="https://graph.microsoft.com")["tid"] == tenant.id


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


def identity_token(cloud: Cloud, resource: str = EXCHANGE) -> str:
    with cloud.session() as session:
        answer = session.get(
            cloud.identity["endpoint"],
            params={"api-version": "2019-08-01", "resource": resource},
            headers={"X-IDENTITY-HEADER": cloud.identity["header"]},
            timeout=60,
        )
    return str(answer.json()["access_token"])


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


# Refusals


def test_msal_cannot_be_made_for_an_unknown_tenant(tenant):
    with pytest.raises(ValueError, match="Unable to get authority configuration") as raised:
        msal_app(tenant, tenant.secret, authority=f"https://login.microsoftonline.com/{uuid4()}")

    assert "AADSTS90002" in str(raised.value.__context__)


@pytest.mark.parametrize(
    ("key", "number", "text"),
    [
        ("11111111-2222-4333-8444-555555555555", 90002, "Tenant '11111111-2222-4333-8444-555555555555' not found."),
        ("nobody.example", 90002, "Tenant 'nobody.example' not found."),
        ("nonsense", 900023, "Specified tenant identifier 'nonsense' is neither a valid DNS name"),
    ],
)
def test_a_tenant_that_is_not_there(tenant, key, number, text):
    assert_refused(post_token(tenant, key=key), 400, "invalid_request", number, text)
    with tenant.cloud.session() as session:
        answer = session.get(f"{tenant.cloud.entra}/{key}/v2.0/.well-known/openid-configuration", timeout=60)

    assert_refused(answer, 400, "invalid_tenant", number, text)


@pytest.mark.parametrize(
    ("change", "status", "error", "number", "text"),
    [
        ({"client_id": "9" * 8 + "-0000-4000-8000-" + "0" * 12}, 400, "unauthorized_client", 700016, "was not found"),
        ({"client_secret": "wrong"}, 401, "invalid_client", 7000215, "Invalid client secret provided."),
        ({"client_secret": None}, 401, "invalid_client", 7000218, "'client_assertion' or 'client_secret'"),
        ({"scope": "https://vault.example/.default"}, 400, "invalid_resource", 500011, "The resource principal named"),
        ({"scope": "https://graph.microsoft.us/.default"}, 400, "invalid_resource", 500011, "graph.microsoft.us"),
        ({"scope": "https://graph.microsoft.com/User.Read.All"}, 400, "invalid_scope", 1002012, "/.default"),
        ({"scope": f"{DEFAULT} openid"}, 400, "invalid_scope", 70011, "is not valid"),
        ({"scope": None}, 400, "invalid_request", 900144, "'scope'"),
        ({"client_id": None}, 400, "invalid_request", 900144, "'client_id'"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type", 70003, "password"),
    ],
)
def test_a_request_with_one_thing_wrong(tenant, change, status, error, number, text):
    assert_refused(post_token(tenant, **change), status, error, number, text)
    assert tenant.control.get("counters")["tokens"] == 0
    assert tenant.control.get("counters")["tokensRefused"] == 1


def test_the_secret_id_is_not_the_secret(tenant):
    answer = msal_answer(tenant, tenant.app["secrets"][0]["keyId"])

    assert (answer["error"], answer["error_codes"]) == ("invalid_client", [7000215])


@pytest.mark.parametrize(
    ("change", "status", "error", "number", "text"),
    [
        ({"enabled": False}, 400, "unauthorized_client", 7000112, "is disabled"),
        ({"hasServicePrincipal": False}, 401, "invalid_client", 7000229, "is missing service principal in the tenant"),
        ({"conditionalAccessBlock": True}, 400, "invalid_grant", 53003, "blocked by Conditional Access"),
    ],
)
def test_an_app_with_one_thing_wrong(tenant, change, status, error, number, text):
    tenant.control.patch(f"apps/{tenant.client_id}", change)

    assert_refused(post_token(tenant), status, error, number, text)
    assert msal_answer(tenant, tenant.secret)["error_codes"] == [number]


def test_conditional_access_names_its_policy(tenant):
    tenant.control.patch(f"apps/{tenant.client_id}", {"conditionalAccessBlock": True})
    body = post_token(tenant).json()

    assert body["suberror"] == "message_only"
    assert json.loads(body["claims"])["access_token"]["capolids"]["values"]


def test_an_expired_secret(tenant):
    path = f"apps/{tenant.client_id}/secrets"
    tenant.control.patch(f"{path}/{tenant.app['secrets'][0]['keyId']}", {"endDateTime": "2020-01-01T00:00:00Z"})
    answer = post_token(tenant)

    assert_refused(answer, 401, "invalid_client", 7000222, "secret keys for app")
    assert tenant.secret not in answer.text


def test_a_secret_expires_as_the_clock_moves(tenant):
    soon = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    tenant.control.patch(f"apps/{tenant.client_id}/secrets/{tenant.app['secrets'][0]['keyId']}", {"endDateTime": soon})
    before = post_token(tenant).status_code
    tenant.control.post("clock", {"advanceSeconds": 31 * 86400})

    assert (before, post_token(tenant).json()["error_codes"]) == (200, [7000222])


def test_a_secret_is_rotated(tenant):
    path = f"apps/{tenant.client_id}/secrets"
    fresh = tenant.control.post(path, {"displayName": "next"})
    both = [post_token(tenant, client_secret=value).status_code for value in (tenant.secret, fresh["value"])]
    tenant.control.delete(f"{path}/{tenant.app['secrets'][0]['keyId']}")

    assert both == [200, 200]
    assert post_token(tenant).json()["error_codes"] == [7000215]
    assert post_token(tenant, client_secret=fresh["value"]).status_code == 200


def test_tenants_do_not_know_each_others_apps(new_tenant: NewTenant):
    one, other = new_tenant(), new_tenant()

    assert post_token(other, client_id=one.client_id, client_secret=one.secret).json()["error_codes"] == [700016]


def test_the_correlation_id_is_the_callers(tenant):
    mine = str(uuid4())
    with tenant.cloud.session() as session:
        answer = session.post(
            f"{tenant.authority}/oauth2/v2.0/token", headers={"client-request-id": mine}, data={}, timeout=60
        )

    assert answer.json()["correlation_id"] == mine


# What Graph makes of a token


def graph_status(tenant: TestTenant, authorization: str) -> tuple[int, str]:
    with tenant.cloud.session() as session:
        answer = session.get(f"{tenant.cloud.graph}/v1.0/users", headers={"Authorization": authorization}, timeout=60)
    return answer.status_code, answer.json().get("error", {}).get("code", "")


def test_graph_refuses_what_is_not_a_token_for_it(tenant, certificate):
    token = tenant.token()
    forged = jwt.encode(claims_of(token), certificate.key, algorithm="RS256")
    for wrong in ("", "Bearer", "Bearer nonsense", f"Bearer {forged}", f"Basic {token}", f"Bearer {token[:-4]}AAAA"):
        assert graph_status(tenant, wrong) == (401, "InvalidAuthenticationToken")
    assert graph_status(tenant, f"Bearer {identity_token(tenant.cloud, DEFAULT)}")[0] == 401
    assert graph_status(tenant, f"Bearer {token}")[0] == 200


def test_a_token_of_a_tenant_that_is_gone(cloud):
    tenant = cloud.generate()
    authorization = f"Bearer {tenant.token()}"
    tenant.control.delete("")

    assert graph_status(tenant, authorization) == (401, "InvalidAuthenticationToken")


def test_a_token_ends_with_its_hour(tenant):
    authorization = f"Bearer {tenant.token()}"
    tenant.control.post("clock", {"advanceSeconds": 3500})
    before = graph_status(tenant, authorization)
    tenant.control.post("clock", {"advanceSeconds": 200})

    assert before[0] == 200
    assert graph_status(tenant, authorization) == (401, "InvalidAuthenticationToken")
    assert graph_status(tenant, f"Bearer {tenant.token()}")[0] == 200
