"""Sign-in: Entra's refusals by table, MSAL's traffic on the wire, and credentials that show nothing."""

import base64
import json
import logging
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest
import requests
import responses
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from sync.errors import Deferred, SignInError, TenantsyncError
from sync.graph.aadsts import explain
from sync.graph.signin import Certificate, ClientSecret, Credential, Federated, SignIn, roles, tenant_id
from tests.clock import START, Clock
from tests.credentials import key, pem

__all__ = ["key"]

HOST = "https://login.microsoftonline.com"
TENANT = "1f4fe0a2-0d0f-4e1c-9d0c-6b1c1f0d7a11"
AUTHORITY = f"{HOST}/{TENANT}"
DISCOVERY = f"{AUTHORITY}/v2.0/.well-known/openid-configuration"
TOKEN = f"{AUTHORITY}/oauth2/v2.0/token"
SCOPE = "https://graph.microsoft.com/.default"
VALUE = "not~a~real+one/at=all"
CLIENT = "0a8f6f3a-5a58-4a0f-8f0e-5a8a6b0f2f10"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sign_in(clock: Clock) -> Callable[..., SignIn]:
    def make(credential: Credential = ClientSecret(VALUE), authority: str = AUTHORITY) -> SignIn:  # noqa: B008 - frozen, so it may be shared
        return SignIn(
            authority=authority, client_id=CLIENT, credential=credential, scope=SCOPE, clock=clock, sleep=clock.sleep
        )

    return make


@pytest.fixture
def entra() -> Any:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


def discover(entra: responses.RequestsMock) -> None:
    entra.get(
        DISCOVERY,
        json={
            "authorization_endpoint": f"{AUTHORITY}/oauth2/v2.0/authorize",
            "token_endpoint": TOKEN,
            "issuer": f"{AUTHORITY}/v2.0",
        },
    )


def issue(entra: responses.RequestsMock, token: str = "token-1") -> None:
    entra.post(TOKEN, json={"token_type": "Bearer", "expires_in": 3599, "access_token": token})


def refuse(entra: responses.RequestsMock, number: int, error: str, status: int, **more: Any) -> None:
    body = {"error": error, "error_description": f"AADSTS{number}: Of app Contoso.", "error_codes": [number], **more}
    entra.post(TOKEN, json=body, status=status)


def calls(entra: responses.RequestsMock) -> list[str]:
    return [str(call.request.url) for call in entra.calls]


class TestRefusals:
    @pytest.mark.parametrize(
        ("number", "error", "words"),
        [
            (90002, "invalid_request", "tenant does not exist"),
            (900023, "invalid_request", "neither an id nor a domain"),
            (700016, "unauthorized_client", "does not know the app"),
            (7000215, "invalid_client", "secret is wrong"),
            (7000222, "invalid_client", "secret has expired"),
            (7000229, "invalid_client", "no service principal"),
            (500011, "invalid_resource", "Graph is not known"),
            (1002012, "invalid_scope", "scope"),
            (70011, "invalid_scope", "scope"),
            (65001, "invalid_grant", "consented"),
            (700027, "invalid_client", "certificate is not registered"),
            (700024, "invalid_client", "validity time"),
            (700213, "invalid_client", "federated credential"),
            (70021, "unauthorized_client", "federated credential"),
            (53003, "invalid_grant", "Conditional Access"),
            (7000112, "unauthorized_client", "disabled"),
            (7000218, "invalid_client", "No credential"),
        ],
    )
    def test_every_number_of_the_reference_has_a_cause_and_a_remedy(self, number, error, words):
        refusal = explain({"error": error, "error_codes": [number], "error_description": f"AADSTS{number}: Contoso"})

        assert (refusal.code, refusal.aadsts) == (f"aadsts-{number}", number)
        assert words in refusal.cause
        assert len(refusal.remedy) > 20
        assert "Contoso" not in refusal.cause + refusal.remedy
        assert refusal.expired == (number == 7000222)

    def test_a_wrong_secret_is_often_the_secrets_id(self):
        assert "value, not its id" in explain({"error_codes": [7000215]}).remedy

    @pytest.mark.parametrize("reason", ["The key used is expired.", "The key was not found."])
    def test_an_expired_certificate_is_told_from_an_unknown_one(self, reason):
        text = f"AADSTS700027: The certificate ... [Reason - {reason}, Thumbprint ...]"

        refusal = explain({"error": "invalid_client", "error_codes": [700027], "error_description": text})

        assert refusal.expired == ("expired" in reason)
        assert ("has expired" in refusal.cause) == ("expired" in reason)

    @pytest.mark.parametrize(
        ("body", "code", "words"),
        [
            (
                {"error_description": "AADSTS7000222: The provided client secret keys are expired."},
                "aadsts-7000222",
                "expired",
            ),
            ({"error": "invalid_client", "error_codes": [4711999]}, "aadsts-4711999", "credential"),
            ({"error": "invalid_client"}, "sign-in-failed", "credential"),
            ({"error": "unauthorized_client"}, "sign-in-failed", "may not sign in"),
            ({"error": "invalid_tenant", "error_codes": []}, "sign-in-failed", "tenant does not exist"),
            ({"error": "interaction_required", "error_codes": ["x"]}, "sign-in-failed", "Conditional Access"),
            ({"error": "unsupported_grant_type"}, "sign-in-failed", "refused the sign-in"),
            ({}, "sign-in-failed", "refused the sign-in"),
        ],
    )
    def test_without_a_known_number_the_error_tells(self, body, code, words):
        refusal = explain(body)

        assert refusal.code == code
        assert words in refusal.cause

    @given(
        st.dictionaries(
            st.sampled_from(["error", "error_codes", "error_description"]),
            st.text() | st.lists(st.integers() | st.text()),
        )
    )
    def test_any_error_has_a_slug_a_cause_and_a_remedy(self, body):
        refusal = explain(body)

        assert re.fullmatch(r"aadsts--?\d+|sign-in-failed", refusal.code)
        assert refusal.cause
        assert refusal.remedy


class TestWire:
    def test_a_secret_goes_to_the_tenants_own_token_endpoint(self, sign_in, entra):
        discover(entra)
        issue(entra)

        assert sign_in().token() == "token-1"
        assert calls(entra) == [DISCOVERY, TOKEN]
        form = parse_qs(entra.calls[1].request.body)
        assert {name: form[name] for name in ("client_id", "client_secret", "grant_type", "scope")} == {
            "client_id": [CLIENT],
            "client_secret": [VALUE],
            "grant_type": ["client_credentials"],
            "scope": [SCOPE],
        }
        assert {call.request.req_kwargs["timeout"] for call in entra.calls} == {(5, 30)}

    def test_a_token_is_kept_while_it_is_good_and_renewed_when_asked(self, sign_in, entra):
        discover(entra)
        issue(entra)
        signed = sign_in()

        assert [signed.token(), signed.token()] == ["token-1", "token-1"]
        assert len(entra.calls) == 2

        entra.remove("POST", TOKEN)
        issue(entra, "token-2")
        assert [signed.token(fresh=True), signed.token()] == ["token-2", "token-2"]
        assert calls(entra) == [DISCOVERY, TOKEN, DISCOVERY, TOKEN]

    def test_a_fresh_token_sees_a_revoked_secret_which_the_kept_one_hides(self, sign_in, entra):
        discover(entra)
        issue(entra)
        signed = sign_in()
        signed.token()
        entra.remove("POST", TOKEN)
        refuse(entra, 7000215, "invalid_client", 401)

        assert signed.token() == "token-1"
        with pytest.raises(SignInError) as refused:
            signed.token(fresh=True)

        assert refused.value.code == "aadsts-7000215"

    def test_a_400_that_msal_would_keep_for_a_minute_is_asked_again(self, sign_in, entra):
        discover(entra)
        refuse(entra, 700016, "unauthorized_client", 400)
        signed = sign_in()
        with pytest.raises(SignInError):
            signed.token()

        entra.remove("POST", TOKEN)
        issue(entra)  # consent was given meanwhile
        assert signed.token() == "token-1"

    def test_a_tenant_that_does_not_exist_is_known_before_any_secret_is_sent(self, sign_in, entra):
        error = {
            "error": "invalid_tenant",
            "error_description": "AADSTS90002: Tenant 'x' not found.",
            "error_codes": [90002],
        }
        entra.get(DISCOVERY, json=error, status=400)

        with pytest.raises(SignInError) as refused:
            sign_in().token()

        assert (refused.value.aadsts, refused.value.code) == (90002, "aadsts-90002")
        assert calls(entra) == [DISCOVERY]

    @pytest.mark.parametrize("authority", [AUTHORITY, "https://localhost:8443/contoso.com"])
    def test_no_other_host_is_ever_asked(self, sign_in, entra, authority):
        host = authority.rsplit("/", 1)[0]
        endpoints = {name: f"{authority}/{name}" for name in ("authorization_endpoint", "token_endpoint")}
        entra.get(re.compile(".*/common/discovery"), json={})
        entra.get(re.compile(".*/.well-known/"), json={**endpoints, "issuer": "x"})
        entra.post(re.compile(".*"), json={"error": "invalid_client", "error_codes": [7000222]}, status=401)

        with pytest.raises(SignInError) as refused:
            sign_in(authority=authority).token()

        assert refused.value.expired
        assert len(entra.calls) == 2
        assert all(url.startswith(host) for url in calls(entra))

    @pytest.mark.parametrize(
        "document",
        [{}, {"token_endpoint": TOKEN}, {"authorization_endpoint": "x", "token_endpoint": "http://evil.example/t"}],
    )
    def test_a_discovery_document_that_is_none_is_an_error(self, sign_in, entra, document):
        entra.get(DISCOVERY, json={"issuer": "x", **document})

        with pytest.raises(SignInError) as refused:
            sign_in().token()

        assert refused.value.code == "sign-in-failed"
        assert calls(entra) == [DISCOVERY]

    def test_an_authority_without_tls_is_refused(self, sign_in):
        with pytest.raises(TenantsyncError) as refused:
            sign_in(authority=f"http://login.microsoftonline.com/{TENANT}")

        assert refused.value.code == "invalid-authority"

    @pytest.mark.parametrize(
        "fault",
        [
            {"body": requests.ConnectionError()},
            {"body": requests.ReadTimeout()},
            {"body": "<html>proxy</html>"},
            {"body": '{"access_token": "tok'},
            {"body": "[]"},
            {"status": 500, "body": "{}"},
            {"status": 503, "body": "{}", "headers": {"Retry-After": "1"}},
            {"status": 429, "body": "{}"},
        ],
    )
    def test_a_passing_fault_is_tried_again(self, sign_in, entra, clock, fault):
        entra.get(DISCOVERY, **fault)
        discover(entra)
        entra.post(TOKEN, **fault)
        issue(entra)

        assert sign_in().token() == "token-1"
        assert calls(entra) == [DISCOVERY, DISCOVERY, TOKEN, TOKEN]
        assert len(clock.slept) == 2

    def test_a_fault_that_stays_is_deferred_after_a_bounded_number_of_attempts(self, sign_in, entra, clock):
        entra.get(DISCOVERY, status=503)

        with pytest.raises(Deferred) as deferred:
            sign_in().token()

        assert len(entra.calls) == 4
        assert deferred.value.until == clock.now + timedelta(seconds=60)
        assert not deferred.value.throttled

    def test_a_long_retry_after_is_deferred_at_once(self, sign_in, entra, clock):
        discover(entra)
        entra.post(TOKEN, status=429, headers={"Retry-After": "300"})

        with pytest.raises(Deferred) as deferred:
            sign_in().token()

        assert (deferred.value.until, deferred.value.throttled) == (START + timedelta(seconds=300), True)
        assert clock.slept == []

    def test_entra_that_says_it_is_busy_is_deferred(self, sign_in, entra):
        discover(entra)
        refuse(entra, 90033, "temporarily_unavailable", 400)

        with pytest.raises(Deferred) as deferred:
            sign_in().token()

        assert deferred.value.until == START + timedelta(seconds=60)

    def test_an_aging_token_is_used_while_entra_is_away(self, sign_in, entra):
        discover(entra)
        body = {"token_type": "Bearer", "expires_in": 86_000, "refresh_in": -1, "access_token": "token-1"}
        entra.post(TOKEN, json=body)
        signed = sign_in()
        signed.token()
        entra.remove("POST", TOKEN)
        entra.post(TOKEN, status=503)

        assert signed.token() == "token-1"

    def test_a_redirect_of_the_credential_is_not_followed(self, sign_in, entra):
        discover(entra)
        entra.post(TOKEN, status=307, headers={"Location": "https://evil.example/token"}, json={"error": "moved"})
        entra.post("https://evil.example/token", json={"access_token": "x"})

        with pytest.raises(SignInError):
            sign_in().token()

        assert calls(entra) == [DISCOVERY, TOKEN]


class TestCredentials:
    def test_none_of_them_shows_its_secret(self):
        shown = repr([ClientSecret(VALUE), Certificate(b"secret"), Federated(lambda: "secret")])

        assert "ClientSecret()" in shown
        assert "secret" not in shown.replace("ClientSecret", "")

    @pytest.mark.parametrize("order", ["key first", "certificate first", "with a chain"])
    def test_a_pem_in_any_order(self, sign_in, entra, key, order):
        own_key, own = pem(key)
        _, other = pem(rsa.generate_private_key(65537, 2048))
        text = {"key first": own_key + own, "certificate first": own + own_key, "with a chain": other + own_key + own}[
            order
        ]
        discover(entra)
        issue(entra)

        assert sign_in(Certificate(text)).token() == "token-1"
        assertion = parse_qs(entra.calls[1].request.body)["client_assertion"][0]
        header = json.loads(base64.urlsafe_b64decode(assertion.split(".")[0] + "=="))
        thumbprint = x509.load_pem_x509_certificate(own).fingerprint(hashes.SHA256())
        assert header["alg"] == "PS256"
        assert base64.urlsafe_b64decode(header["x5t#S256"] + "==") == thumbprint

    @pytest.mark.parametrize(
        "case", ["text", "no certificate", "no key", "elliptic key", "locked", "other certificate"]
    )
    def test_a_pem_that_cannot_sign_is_refused_before_any_request(self, sign_in, entra, key, case):
        own_key, own = pem(key)
        other_key, other = pem(ec.generate_private_key(ec.SECP256R1()))
        text = {
            "text": b"not a PEM",
            "no certificate": own_key,
            "no key": own,
            "elliptic key": other_key + other,
            "locked": b"".join(pem(key, password=b"password")),
            "other certificate": own_key + other,
        }[case]

        with pytest.raises(SignInError) as refused:
            sign_in(Certificate(text)).token()

        assert refused.value.code == "certificate-unreadable"
        assert len(entra.calls) == 0

    def test_what_a_federated_credentials_source_raises_comes_through(self, sign_in, entra):
        discover(entra)

        def unavailable() -> str:
            raise Deferred("No managed identity here.", until=START)

        with pytest.raises(Deferred, match="No managed identity"):
            sign_in(Federated(unavailable)).token()

    @pytest.mark.parametrize("kind", ["secret", "certificate", "federated"])
    def test_the_log_at_its_finest_holds_no_credential_and_no_token(self, sign_in, entra, key, caplog, kind):
        caplog.set_level(logging.DEBUG)
        credential = {
            "secret": ClientSecret(VALUE),
            "certificate": Certificate(b"".join(pem(key))),
            "federated": Federated(lambda: "federated-assertion"),
        }[kind]
        discover(entra)
        entra.post(TOKEN, body='{"access_token": "half-tok')
        issue(entra, "whole-token")

        sign_in(credential).token()

        assertion = parse_qs(entra.calls[1].request.body).get("client_assertion", ["federated-assertion"])[0]
        for hidden in (VALUE, assertion, "half-tok", "whole-token"):
            assert hidden not in caplog.text


class TestClaims:
    def test_roles_and_tenant_are_read_for_diagnosis(self):
        token = self.token({"roles": ["User.Read.All", 5], "tid": TENANT, "app_displayname": "Grüße"})

        assert (roles(token), tenant_id(token)) == (frozenset({"User.Read.All"}), TENANT)

    def test_without_consent_there_are_no_roles(self):
        assert roles(self.token({"tid": TENANT})) == frozenset()

    @pytest.mark.parametrize("token", ["", "opaque", "a.b.c", "a.bm8.c", "a.W10.c", "a.ü.c"])
    def test_a_token_that_cannot_be_read_claims_nothing(self, token):
        assert (roles(token), tenant_id(token)) == (frozenset(), "")

    @staticmethod
    def token(claims: dict[str, Any]) -> str:
        payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        return f"header.{payload}.signature"
