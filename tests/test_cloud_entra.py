"""Entra's sign-in in the simulated cloud, through MSAL and with plain requests."""

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import jwt
import pytest

from tests.cloud import NewTenant, TestTenant
from tests.entra import (
    DEFAULT,
    assert_refused,
    certificate,
    claims_of,
    identity_token,
    msal_answer,
    msal_app,
    post_token,
)

__all__ = ["certificate"]

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
