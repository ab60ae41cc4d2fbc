"""Sign-in with every credential against the simulated Entra, with MSAL unchanged."""

import pytest

from sync.errors import Deferred, SignInError
from sync.graph.signin import Certificate, ClientSecret, Credential, Federated, SignIn, roles, tenant_id
from tests.cloud import Cloud, TestTenant
from tests.credentials import key, pem

__all__ = ["key"]


@pytest.fixture
def trusted(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", cloud.ca)
    return cloud


def into(
    tenant: TestTenant, credential: Credential, *, authority: str = "", client_id: str = "", scope: str = ""
) -> SignIn:
    return SignIn(
        authority=authority or tenant.authority,
        client_id=client_id or tenant.client_id,
        credential=credential,
        scope=scope or f"{tenant.cloud.graph}/.default",
    )


def refusal_of(signed: SignIn) -> SignInError:
    with pytest.raises(SignInError) as refused:
        signed.token(fresh=True)
    return refused.value


class TestSimulatedEntra:
    """Over TLS, with MSAL unchanged."""

    def test_a_secret(self, trusted, tenant):
        token = into(tenant, ClientSecret(tenant.secret)).token()

        assert tenant_id(token) == tenant.id
        assert roles(token) == frozenset(tenant.app["roles"])

    def test_a_domain_names_the_tenant_as_well(self, trusted, tenant):
        signed = into(tenant, ClientSecret(tenant.secret), authority=f"{trusted.entra}/{tenant.domain}")

        assert tenant_id(signed.token()) == tenant.id

    def test_a_certificate(self, trusted, tenant, key):
        own_key, own = pem(key)
        tenant.control.post(f"apps/{tenant.client_id}/certificates", {"pem": own.decode()})

        assert tenant_id(into(tenant, Certificate(own_key + own)).token()) == tenant.id

    def test_a_certificate_that_has_expired(self, trusted, tenant, key):
        own_key, own = pem(key, days=-1)
        tenant.control.post(f"apps/{tenant.client_id}/certificates", {"pem": own.decode()})

        refused = refusal_of(into(tenant, Certificate(own_key + own)))

        assert (refused.aadsts, refused.expired) == (700027, True)

    def test_a_certificate_that_is_not_registered(self, trusted, tenant, key):
        refused = refusal_of(into(tenant, Certificate(b"".join(pem(key)))))

        assert (refused.aadsts, refused.expired) == (700027, False)

    def test_a_managed_identity(self, trusted, tenant):
        trust = trusted.control.get("identity")
        signed = into(tenant, Federated(lambda: managed_identity_token(trusted)))
        assert refusal_of(signed).aadsts == 700213

        federated = {
            "issuer": trust["issuer"],
            "subject": trust["subject"],
            "audiences": [trust["audience"]],
            "name": "house",
        }
        tenant.control.post(f"apps/{tenant.client_id}/federatedCredentials", federated)
        assert tenant_id(signed.token()) == tenant.id

    def test_wrong_values(self, trusted, tenant):
        secret = ClientSecret(tenant.secret)
        unknown = "00000000-0000-4000-8000-000000000000"

        assert refusal_of(into(tenant, ClientSecret("wrong"))).aadsts == 7000215
        assert refusal_of(into(tenant, secret, client_id=unknown)).aadsts == 700016
        assert refusal_of(into(tenant, secret, authority=f"{trusted.entra}/{unknown}")).aadsts == 90002
        assert refusal_of(into(tenant, secret, authority=f"{trusted.entra}/contoso")).aadsts == 900023
        assert refusal_of(into(tenant, secret, scope="https://example.com/.default")).aadsts == 500011
        assert refusal_of(into(tenant, secret, scope=f"{trusted.graph}/User.Read")).aadsts == 1002012

    def test_an_expired_secret(self, trusted, tenant):
        key_id = tenant.app["secrets"][0]["keyId"]
        signed = into(tenant, ClientSecret(tenant.secret))
        signed.token()
        tenant.control.patch(f"apps/{tenant.client_id}/secrets/{key_id}", {"endDateTime": "2020-01-01T00:00:00Z"})

        refused = refusal_of(signed)

        assert (refused.aadsts, refused.expired, refused.code) == (7000222, True, "aadsts-7000222")

    @pytest.mark.parametrize(
        ("change", "number"),
        [
            ({"enabled": False}, 7000112),
            ({"hasServicePrincipal": False}, 7000229),
            ({"conditionalAccessBlock": True}, 53003),
        ],
    )
    def test_what_the_tenants_admin_may_have_changed(self, trusted, tenant, change, number):
        tenant.control.patch(f"apps/{tenant.client_id}", change)

        assert refusal_of(into(tenant, ClientSecret(tenant.secret))).aadsts == number

    def test_without_consent_the_token_comes_without_roles(self, trusted, tenant):
        tenant.control.patch(f"apps/{tenant.client_id}", {"roles": []})

        assert roles(into(tenant, ClientSecret(tenant.secret)).token(fresh=True)) == frozenset()

    def test_entra_out_of_reach(self, trusted, tenant):
        slept: list[float] = []
        signed = SignIn(
            authority=f"https://localhost:1/{tenant.id}",
            client_id=tenant.client_id,
            credential=ClientSecret(tenant.secret),
            scope="https://graph.microsoft.com/.default",
            sleep=slept.append,
        )

        with pytest.raises(Deferred):
            signed.token()

        assert len(slept) == 3


def managed_identity_token(cloud: Cloud) -> str:
    with cloud.session() as session:
        answer = session.get(
            cloud.identity["endpoint"],
            params={"resource": "api://AzureADTokenExchange", "api-version": "2019-08-01"},
            headers={"X-IDENTITY-HEADER": cloud.identity["header"]},
            timeout=60,
        )
    return str(answer.json()["access_token"])
