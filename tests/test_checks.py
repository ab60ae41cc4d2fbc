"""Check connection, through the API against the simulated Entra and Graph: what is found, in which order, what is kept."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import responses
from cryptography.hazmat.primitives.asymmetric import rsa

from storage.secrets import secret_name
from sync import connections
from sync.settings import CLOUDS
from sync.settings import Cloud as Endpoints
from tests.cloud import Cloud, NewTenant, TestTenant
from tests.credentials import as_pem, certify, register
from tests.house import House

STEPS = ["secret", "token", "tenant", "permissions", "call", "expiry"]
READ = ["User.Read.All"]


def check(house: House, name: str = "primary") -> Any:
    """The answer of a check, which is also what the connection shows from then on."""
    answer = house.call("POST", f"connections/{name}/check")
    assert answer.status == 200, answer.content
    shown = house.get(f"connections/{name}")
    assert (shown["status"], shown["lastCheck"]) == (answer.json["status"], answer.json)
    return answer.json


def found(report: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The findings' levels and codes, by step, in their order."""
    return {finding["id"]: (finding["level"], finding["code"]) for finding in report["findings"]}


def finding(report: Mapping[str, Any], step: str) -> Any:
    return next(finding for finding in report["findings"] if finding["id"] == step)


def change_app(tenant: TestTenant, **changes: Any) -> None:
    tenant.control.patch(f"apps/{tenant.client_id}", changes)


def change_secret(tenant: TestTenant, **changes: Any) -> None:
    tenant.control.patch(f"apps/{tenant.client_id}/secrets/{tenant.app['secrets'][0]['keyId']}", changes)


def remove_secret(tenant: TestTenant) -> None:
    tenant.control.delete(f"apps/{tenant.client_id}/secrets/{tenant.app['secrets'][0]['keyId']}")


def edit(house: House, **changes: Any) -> None:
    """Change the stored connection `primary` past the API."""
    connections.save(house.app, replace(connections.load(house.app, "primary"), **changes))


@pytest.fixture
def connected(house: House, new_tenant: NewTenant) -> House:
    """A house with the connection `primary` whose users sync is enabled and whose app may read users."""
    house.connect(new_tenant(users=2), users={})
    return house


@pytest.fixture
def tenant(connected: House) -> TestTenant:
    return connected.tenants["primary"]


@pytest.fixture
def vault(cloud: Cloud) -> Iterator[Callable[..., None]]:
    """Turns the vault's switches; afterwards they are off again."""
    yield lambda **switches: cloud.control.post("vault", switches)
    cloud.control.post("vault", {})


class TestConfirmed:
    def test_everything_is_there(self, house: House, new_tenant: NewTenant) -> None:
        """Sign-in works and every enabled sync has what it needs: all steps are good, in their order."""
        tenant = new_tenant(users=1, roles=["User.Read.All", "Organization.Read.All"])
        house.connect(tenant, users={}, photos={})
        before = house.clock()

        report = check(house)

        assert report["status"] == "confirmed"
        assert list(found(report)) == STEPS
        assert [level for level, _ in found(report).values()] == ["ok"] * 5 + ["warning"]  # the expiry is not known
        assert report["tenant"] == {
            "id": tenant.id,
            "displayName": tenant.control.get()["displayName"],
            "defaultDomain": tenant.domain,
        }
        assert report["permissions"] == {
            "granted": ["Organization.Read.All", "User.Read.All"],
            "missing": {},
            "unneeded": [],
        }
        assert before <= datetime.fromisoformat(report["checkedAt"]) <= house.clock()

    def test_a_tenant_whose_name_may_not_be_read(self, connected: House, tenant: TestTenant) -> None:
        """Without the right to read the organization the tenant is known by its id, from the token."""
        report = check(connected)

        assert report["status"] == "confirmed"
        assert report["tenant"] == {"id": tenant.id, "displayName": None, "defaultDomain": None}

    def test_by_domain(self, house: House, new_tenant: NewTenant) -> None:
        """A tenant that is named by one of its domains is confirmed as well."""
        tenant = new_tenant(roles=["User.Read.All", "Organization.Read.All"])
        credential = {"type": "clientSecret", "secretValue": tenant.secret}
        body = {"name": "primary", "tenantId": tenant.domain, "clientId": tenant.client_id, "credential": credential}
        house.call("POST", "connections", body)

        assert found(check(house))["tenant"] == ("ok", "tenant-confirmed")

    def test_nothing_enabled_yet(self, house: House, new_tenant: NewTenant) -> None:
        """Before any sync is enabled, missing permissions are a hint, not a fault."""
        house.connect(new_tenant(roles=[]))

        report = check(house)

        assert report["status"] == "confirmed"
        assert found(report)["permissions"] == ("warning", "no-permissions")
        assert "call" not in found(report)

    def test_a_fresh_token_each_time(self, connected: House, tenant: TestTenant) -> None:
        """Two checks are two sign-ins, so that a secret that was just revoked does not look good."""
        check(connected)
        tokens = tenant.control.get("counters")["tokens"]
        check(connected)
        assert tenant.control.get("counters")["tokens"] == tokens + 1
        remove_secret(tenant)

        assert check(connected)["status"] == "failed"


class TestPermissions:
    def test_consent_that_is_missing(self, connected: House, tenant: TestTenant) -> None:
        """A token without roles is no failed sign-in: the check names what each enabled sync lacks."""
        change_app(tenant, roles=[])
        connected.enable("primary", "photos")

        report = check(connected)

        assert report["status"] == "limited"
        assert report["permissions"] == {
            "granted": [],
            "missing": {"photos": ["User.Read.All"], "users": ["User.Read.All"]},
            "unneeded": [],
        }
        assert found(report)["permissions"] == ("error", "no-permissions")
        assert "consent" in finding(report, "permissions")["remedy"]

    def test_the_wrong_consent(self, connected: House, tenant: TestTenant) -> None:
        """A role that no enabled sync can use does not help, and is named as unneeded."""
        change_app(tenant, roles=["Device.Read.All"])

        report = check(connected)

        assert report["status"] == "limited"
        assert found(report)["permissions"] == ("error", "permissions-missing")
        assert "User.Read.All" in finding(report, "permissions")["detail"]
        assert report["permissions"]["missing"] == {"users": ["User.Read.All"]}
        assert report["permissions"]["unneeded"] == ["Device.Read.All"]

    def test_more_than_needed(self, connected: House, tenant: TestTenant) -> None:
        """Roles beyond the least are named, and do not limit the connection."""
        change_app(tenant, roles=["User.Read.All", "Directory.ReadWrite.All"])

        report = check(connected)

        assert report["status"] == "confirmed"
        assert found(report)["permissions"] == ("warning", "permissions-unneeded")
        assert report["permissions"]["unneeded"] == ["Directory.ReadWrite.All"]

    def test_a_grant_after_the_last_check(self, connected: House, tenant: TestTenant) -> None:
        """Consent that was given meanwhile shows in the next check."""
        change_app(tenant, roles=[])
        assert check(connected)["status"] == "limited"
        change_app(tenant, roles=READ)

        assert check(connected)["status"] == "confirmed"


def use_certificate(house: House, tenant: TestTenant, *, days: int = 100, known: bool = True) -> None:
    key = rsa.generate_private_key(65537, 2048)
    certificate = certify(key, days=days)
    if known:
        register(tenant, certificate)
    version = house.app.secrets.save(secret_name("primary"), as_pem(key, certificate), tags={})
    edit(house, credential={"type": "certificate", "version": version})


def use_clock(house: House, tenant: TestTenant) -> None:
    use_certificate(house, tenant)
    tenant.control.post("clock", {"advanceSeconds": 3600})


def point_graph(house: House, host: str) -> None:
    clouds = {**house.app.settings.clouds, "global": Endpoints(house.cloud.entra, host)}
    house.app.settings = replace(house.app.settings, clouds=clouds)


REFUSALS: dict[str, tuple[Callable[[House, TestTenant], object], str]] = {
    "90002": (lambda house, _: edit(house, tenant_id=str(uuid.uuid4())), "failed"),
    "900023": (lambda house, _: edit(house, tenant_id="nonsense"), "failed"),
    "700016": (lambda house, _: edit(house, client_id=str(uuid.uuid4())), "failed"),
    "7000215": (lambda _, tenant: remove_secret(tenant), "failed"),
    "7000222": (lambda _, tenant: change_secret(tenant, endDateTime="2026-01-01T00:00:00Z"), "expired"),
    "7000229": (lambda _, tenant: change_app(tenant, hasServicePrincipal=False), "failed"),
    "500011": (lambda house, _: point_graph(house, "https://graph.elsewhere.example"), "failed"),
    "70011": (lambda house, _: point_graph(house, "https://graph.example https://other.example"), "failed"),
    "700027": (lambda house, tenant: use_certificate(house, tenant, known=False), "failed"),
    "700027 expired": (lambda house, tenant: use_certificate(house, tenant, days=-1), "expired"),
    "700024": (use_clock, "failed"),
    "700213": (lambda house, _: edit(house, credential={"type": "managedIdentity"}), "failed"),
    "53003": (lambda _, tenant: change_app(tenant, conditionalAccessBlock=True), "failed"),
    "7000112": (lambda _, tenant: change_app(tenant, enabled=False), "failed"),
}


class TestRefusedSignIns:
    @pytest.mark.parametrize("case", REFUSALS)
    def test_every_refusal_of_entra(self, connected: House, tenant: TestTenant, case: str) -> None:
        """A refusal is a finding with its AADSTS number and a remedy; no later step is tried and Graph is not asked."""
        cause, status = REFUSALS[case]
        cause(connected, tenant)
        tenant.control.post("counters")

        report = check(connected)

        assert report["status"] == status
        assert found(report) == {
            "secret": ("ok", "secret-found"),
            "token": ("error", f"aadsts-{case.partition(' ')[0]}"),
        }
        assert len(finding(report, "token")["remedy"]) > 20
        assert (report["tenant"], report["permissions"]["granted"]) == (None, [])
        assert tenant.control.get("counters")["graph"]["requests"] == 0
        text = str(report)
        assert not any(value in text for value in (tenant.secret, tenant.client_id, "contoso", "Trace ID"))

    def test_a_repaired_credential(self, connected: House, tenant: TestTenant) -> None:
        """What was expired is confirmed again once a new credential is in place."""
        change_secret(tenant, endDateTime="2026-01-01T00:00:00Z")
        assert check(connected)["status"] == "expired"
        value = tenant.control.post(f"apps/{tenant.client_id}/secrets", {})["value"]
        body = {"type": "clientSecret", "secretValue": value}

        assert connected.call("PUT", "connections/primary/credential", body).json["status"] == "unchecked"
        assert check(connected)["status"] == "confirmed"

    def test_entra_down(self, connected: House, tenant: TestTenant, build_house: Callable[..., House]) -> None:
        """When Entra does not answer, the check says so in its report."""
        clouds = {**CLOUDS, "global": Endpoints("https://127.0.0.1:9", connected.cloud.graph)}

        report = check(build_house(clouds=clouds))

        assert (report["status"], found(report)["token"]) == ("failed", ("error", "entra-unreachable"))
        assert list(found(report)) == ["secret", "token"]


class TestSecrets:
    def test_a_secret_that_is_gone(self, connected: House) -> None:
        """A secret that somebody deleted from the vault is the first finding and the last."""
        connected.app.secrets.delete(secret_name("primary"))

        report = check(connected)

        assert report["status"] == "failed"
        assert found(report) == {"secret": ("error", "secret-missing")}
        assert finding(report, "secret")["remedy"]

    @pytest.mark.parametrize("down", [True, False], ids=["down", "disabled"])
    def test_a_vault_that_does_not_hand_it_out(self, connected: House, vault: Callable[..., None], down: bool) -> None:
        """A vault that is down, or keeps the version to itself, is a finding: the check itself still answers."""
        if down:
            vault(unavailable=True)
        else:
            version = connections.load(connected.app, "primary").credential["version"]
            connected.app.secrets.disable(secret_name("primary"), version)

        report = check(connected)

        assert report["status"] == "failed"
        assert found(report) == {"secret": ("error", "vault-unavailable")}


class TestGraphFaults:
    def test_graph_that_wants_a_pause(self, connected: House, tenant: TestTenant) -> None:
        """When Graph is busy the sign-in still counts: the call is a warning, and the check does not wait for it."""
        tenant.control.post("faults", {"rate429": 1, "retryAfter": {"style": "seconds", "seconds": 600}})

        report = check(connected)

        assert report["status"] == "confirmed"
        assert found(report)["call"] == ("warning", "deferred")
        assert found(report)["tenant"] == ("ok", "tenant-confirmed")
        assert list(found(report)) == STEPS

    def test_graph_that_refuses_the_token(self, connected: House) -> None:
        """A token that Graph does not take although Entra issued it is an error of the call."""
        point_graph(connected, "https://graph.microsoft.com")
        with graph_answers(connected, {"users": (401, {"error": {"code": "InvalidAuthenticationToken"}})}):
            report = check(connected)

        assert (report["status"], found(report)["call"]) == ("limited", ("error", "graph-token-refused"))

    @pytest.mark.parametrize(
        ("status", "body", "expected"),
        [
            (403, {"error": {"code": "Authorization_RequestDenied"}}, "graph-forbidden"),
            (404, {"error": {"code": "Request_ResourceNotFound"}}, "graph-not-found"),
            (400, {"error": {"code": "BadRequest"}}, "graph-error"),
        ],
    )
    def test_graph_that_refuses_the_call(
        self, connected: House, status: int, body: dict[str, Any], expected: str
    ) -> None:
        """A right in the token does not prove that Graph honours it: a refusal limits the connection, with a remedy."""
        point_graph(connected, "https://graph.microsoft.com")
        with graph_answers(connected, {"users": (status, body)}):
            report = check(connected)

        assert report["status"] == "limited"
        assert found(report)["call"] == ("error", expected)
        assert finding(report, "call")["remedy"]


@contextmanager
def graph_answers(house: House, answers: Mapping[str, tuple[int, Any]]) -> Iterator[None]:
    """Graph's own host answers these paths as told; everything else goes over the wire as usual."""
    organization = (200, {"value": [{"id": house.tenants["primary"].id, "verifiedDomains": []}]})
    with responses.RequestsMock() as mock:
        for prefix in ("https://127.0.0.1", "https://localhost", "http://127.0.0.1", "http://localhost"):
            mock.add_passthru(prefix)
        for path, (status, body) in {"organization": organization, **answers}.items():
            mock.get(f"https://graph.microsoft.com/v1.0/{path}", status=status, json=body)
        yield


@pytest.mark.parametrize(
    ("named", "organization", "fits"),
    [
        ("id", {"id": "other"}, False),
        ("id", {}, True),
        ("contoso.com", {"verifiedDomains": [{"name": "fabrikam.com", "isDefault": True}]}, False),
        ("contoso.com", {"verifiedDomains": [{"name": "Contoso.com"}, "odd"]}, True),
    ],
)
def test_whose_tenant_it_is(
    connected: House, monkeypatch: pytest.MonkeyPatch, named: str, organization: dict[str, Any], fits: bool
) -> None:
    """A sign-in to a tenant other than the one that the connection names is told from one to the right tenant."""
    tenant = connected.tenants["primary"]
    point_graph(connected, "https://graph.microsoft.com")
    answers = {"organization": (200, {"value": [organization]}), "users": (200, {"value": []})}
    sign_in = connected.app.sign_in
    monkeypatch.setattr(  # Entra knows the tenant by its id alone
        connected.app, "sign_in", lambda connection, *more: sign_in(replace(connection, tenant_id=tenant.id), *more)
    )
    edit(connected, tenant_id=tenant.id if named == "id" else named)

    with graph_answers(connected, answers):
        report = check(connected)

    assert found(report)["tenant"] == (("ok", "tenant-confirmed") if fits else ("error", "tenant-mismatch"))
    assert report["status"] == ("confirmed" if fits else "limited")


def in_days(house: House, days: int) -> str:
    return str(house.clock().date() + timedelta(days=days))


class TestExpiry:
    @pytest.mark.parametrize(
        ("days", "level", "code"),
        [
            (400, "ok", "expiry-far"),
            (31, "ok", "expiry-far"),
            (30, "warning", "expiry-near"),
            (0, "warning", "expiry-near"),
            (-1, "warning", "expiry-past"),
        ],
    )
    def test_as_the_connection_says(self, connected: House, days: int, level: str, code: str) -> None:
        """From a month before its last day a credential is warned about; the day itself is still a day."""
        ends = in_days(connected, days)
        edit(connected, credential={**connections.load(connected.app, "primary").credential, "expiresOn": ends})

        report = check(connected)

        assert found(report)["expiry"] == (level, code)
        assert ends in finding(report, "expiry")["detail"]
        assert "the connection" in finding(report, "expiry")["detail"]
        assert report["status"] == "confirmed"
        assert connected.get("connections/primary")["credential"]["daysLeft"] == days

    def test_not_known(self, connected: House) -> None:
        """A last day that nobody has entered is asked for."""
        assert found(check(connected))["expiry"] == ("warning", "expiry-unknown")

    def test_a_managed_identity(self, connected: House, tenant: TestTenant, cloud: Cloud) -> None:
        """A managed identity has nothing that could expire."""
        identity = cloud.control.get("identity")
        tenant.control.post(
            f"apps/{tenant.client_id}/federatedCredentials",
            {"issuer": identity["issuer"], "subject": identity["subject"]},
        )
        edit(connected, credential={"type": "managedIdentity"})

        assert found(check(connected))["expiry"] == ("ok", "no-expiry")


class TestExpiryFromTheDirectory:
    @pytest.fixture
    def connected(self, connected: House) -> House:
        """The app may read its own registration; the connection says that the secret ends in a year."""
        change_app(connected.tenants["primary"], roles=["User.Read.All", "Application.Read.All"])
        edit(
            connected,
            credential={
                **connections.load(connected.app, "primary").credential,
                "expiresOn": in_days(connected, 365),
            },
        )
        return connected

    def ends(self, connected: House, days: int) -> date:
        at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
        change_secret(connected.tenants["primary"], endDateTime=at.isoformat())
        return at.date()

    def test_it_knows_better(self, connected: House) -> None:
        """What the directory says of the only secret wins over what was entered, and is kept."""
        ends = self.ends(connected, 10)

        report = check(connected)

        assert found(report)["expiry"] == ("warning", "expiry-near")
        assert f"{ends} (10 days), says the directory" in finding(report, "expiry")["detail"]
        assert connected.get("connections/primary")["credential"]["expiresOn"] == str(ends)
        assert report["permissions"]["unneeded"] == []

    def test_which_of_several_secrets(self, connected: House, tenant: TestTenant) -> None:
        """Among several secrets the connection's own is found by its id; without an id none is guessed."""
        ends = self.ends(connected, 40)
        tenant.control.post(f"apps/{tenant.client_id}/secrets", {})
        assert "the connection" in finding(check(connected), "expiry")["detail"]
        stored = connections.load(connected.app, "primary").credential
        edit(connected, credential={**stored, "secretId": tenant.app["secrets"][0]["keyId"]})

        assert finding(check(connected), "expiry")["detail"].endswith(f"{ends}, says the directory.")

    def test_of_a_certificate(self, connected: House, tenant: TestTenant) -> None:
        """A certificate's last day is read from the registered keys, not from the secrets."""
        self.ends(connected, 10)
        use_certificate(connected, tenant, days=200)

        assert finding(check(connected), "expiry")["detail"].endswith("says the directory.")
        assert found(check(connected))["expiry"] == ("ok", "expiry-far")

    def test_a_registration_that_is_elsewhere(self, connected: House) -> None:
        """An app of another tenant has no registration here: the connection's own date counts."""
        point_graph(connected, "https://graph.microsoft.com")
        client = connected.tenants["primary"].client_id
        missing = (404, {"error": {"code": "Request_ResourceNotFound"}})
        with graph_answers(connected, {"users": (200, {"value": []}), f"applications(appId='{client}')": missing}):
            report = check(connected)

        assert found(report)["expiry"] == ("ok", "expiry-far")
        assert "the connection" in finding(report, "expiry")["detail"]


def test_a_connection_that_changes_meanwhile(connected: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of what has been changed since it began is answered, but not kept with the changed connection."""
    sign_in = connected.app.sign_in

    def sign_in_slowly(*arguments: Any) -> Any:
        connected.call("PATCH", "connections/primary", {"labels": {"a": "1"}})
        return sign_in(*arguments)

    monkeypatch.setattr(connected.app, "sign_in", sign_in_slowly)
    answer = connected.call("POST", "connections/primary/check")

    assert answer.json["status"] == "confirmed"
    shown = connected.get("connections/primary")
    assert (shown["status"], shown["lastCheck"], shown["labels"]) == ("unchecked", None, {"a": "1"})
