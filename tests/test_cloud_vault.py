"""The simulated vault and managed identity, proved with the clients that the product uses: azure-identity over the
App Service endpoint, and azure-keyvault-secrets over https."""

import asyncio
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
import requests
from aiohttp import web
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.identity import ManagedIdentityCredential
from azure.keyvault.secrets import SecretClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from local.cloud import identity, vault

CLIENT_ID = "9a5c4a43-6b4f-4c0e-9f0b-0c3a6a1f7d21"
START = datetime(2026, 11, 22, 6, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Cloud:
    vault: vault.Vault
    identity: identity.ManagedIdentity
    clock: Clock
    url: str
    endpoint: str
    ca: str

    def call(self, method: str, path: str, *, token: str | None = None, params=None, **keywords) -> requests.Response:
        if token is None:
            token = self.identity.token(vault.RESOURCE, CLIENT_ID, datetime.now(UTC))
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        params = {"api-version": "7.4"} if params is None else params
        return requests.request(
            method, self.url + path, params=params, headers=headers, verify=self.ca, timeout=60, **keywords
        )


def certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vault.test")])
    today = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, pem_key = folder / "vault.pem", folder / "vault.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem_key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, pem_key


async def listen(routes: list[web.RouteDef], tls: ssl.SSLContext | None) -> tuple[web.AppRunner, int]:
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    return runner, runner.addresses[0][1]


@contextmanager
def running() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(asyncio.sleep(0.25))  # TLS connections close a few turns of the loop later
        loop.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[vault.Vault, identity.ManagedIdentity, Clock, int, int, str]]:
    pem, key = certificate(tmp_path_factory.mktemp("tls"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem, key)
    clock = Clock()
    who = identity.ManagedIdentity("header-of-the-app", lambda: datetime.now(UTC))
    state = vault.Vault(who, clock)
    with running() as loop:
        secrets, secrets_port = asyncio.run_coroutine_threadsafe(listen(vault.routes(state), tls), loop).result()
        tokens, tokens_port = asyncio.run_coroutine_threadsafe(listen(identity.routes(who), None), loop).result()
        yield state, who, clock, secrets_port, tokens_port, str(pem)
        for runner in (secrets, tokens):
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()


@pytest.fixture
def cloud(served, monkeypatch) -> Iterator[Cloud]:
    state, who, clock, secrets_port, tokens_port, ca = served
    state.__init__(who, clock)
    clock.now = START
    endpoint = f"http://127.0.0.1:{tokens_port}/msi/token"
    monkeypatch.setenv("IDENTITY_ENDPOINT", endpoint)
    monkeypatch.setenv("IDENTITY_HEADER", who.header)
    yield Cloud(state, who, clock, f"https://127.0.0.1:{secrets_port}", endpoint, ca)


@pytest.fixture
def client(cloud) -> Iterator[SecretClient]:
    with (
        ManagedIdentityCredential(client_id=CLIENT_ID) as credential,
        SecretClient(
            cloud.url, credential, verify_challenge_resource=False, connection_verify=cloud.ca, retry_total=0
        ) as made,
    ):
        yield made


def refusal(error: HttpResponseError) -> tuple[int | None, str | None, str | None]:
    """Status, code and inner code, as the SDK tells them."""
    assert error.error is not None
    inner = error.error.innererror or {}
    return error.status_code, error.error.code, inner.get("code")


def error(answer: requests.Response) -> tuple[int, str, str | None]:
    told = answer.json()["error"]
    return answer.status_code, told["code"], told.get("innererror", {}).get("code")


class TestSdk:
    """azure-keyvault-secrets with azure-identity, unchanged."""

    def test_it_sets_a_new_version_and_gets_the_newest(self, client):
        first = client.set_secret("App-1", "one")
        second = client.set_secret("app-1", "two", tags={"a": "b"}, content_type="text/plain", expires_on=START)
        newest = client.get_secret("APP-1")

        assert ("two", second.properties.version) == (newest.value, newest.properties.version)
        assert client.get_secret("App-1", first.properties.version).value == "one"
        assert (
            newest.properties.expires_on,
            newest.properties.tags,
            newest.properties.content_type,
            newest.properties.created_on,
        ) == (START, {"a": "b"}, "text/plain", START)
        assert (newest.properties.recovery_level, newest.properties.recoverable_days) == ("Recoverable+Purgeable", 90)

    def test_an_unknown_name_or_version_is_not_found(self, client):
        client.set_secret("known", "v")

        for ask in (("unknown",), ("known", "0" * 32)):
            with pytest.raises(ResourceNotFoundError) as raised:
                client.get_secret(*ask)
            assert refusal(raised.value) == (404, "SecretNotFound", None)

    def test_properties_change_without_a_new_version(self, client, cloud):
        made = client.set_secret("app", "v", tags={"kept": "yes"}, expires_on=START)
        cloud.clock.now = START + timedelta(hours=1)
        later = START + timedelta(days=30)
        changed = client.update_secret_properties("app", expires_on=later)

        assert (made.properties.version, later, {"kept": "yes"}, cloud.clock.now) == (
            changed.version,
            changed.expires_on,
            changed.tags,
            changed.updated_on,
        )
        assert client.update_secret_properties("app", changed.version, tags={"new": "tags"}).tags == {"new": "tags"}
        assert client.get_secret("app").value == "v"

    def test_a_disabled_version_cannot_be_read_and_its_neighbour_can(self, client):
        first = client.set_secret("app", "one")
        client.set_secret("app", "two", enabled=False)

        with pytest.raises(HttpResponseError) as raised:
            client.get_secret("app")
        assert refusal(raised.value) == (403, "Forbidden", "SecretDisabled")
        assert client.get_secret("app", first.properties.version).value == "one"

        client.update_secret_properties("app", enabled=True)
        assert client.get_secret("app").value == "two"

    def test_lists_come_in_pages_and_hold_no_value(self, client):
        names = [f"s{number:02}" for number in range(30)]
        for name in names:
            client.set_secret(name, "hidden")

        listed = list(client.list_properties_of_secrets())
        pages = list(client.list_properties_of_secrets(max_page_size=12).by_page())
        assert names == [each.name for each in listed]
        assert [len(list(page)) for page in pages] == [12, 12, 6]
        assert {None} == {each.version for each in listed}

    def test_versions_are_listed_in_pages(self, client):
        made = [client.set_secret("app", str(number)).properties.version for number in range(3)]
        client.set_secret("other", "x")

        listed = client.list_properties_of_secret_versions("app", max_page_size=2)
        assert made == [each.version for each in listed]
        with pytest.raises(ResourceNotFoundError):
            list(client.list_properties_of_secret_versions("unknown"))

    def test_a_deleted_secret_blocks_its_name_until_it_is_recovered(self, client, cloud):
        client.set_secret("app", "one")
        client.begin_delete_secret("app").wait()
        deleted = client.get_deleted_secret("app")

        assert (START, START + timedelta(days=90), f"{cloud.url}/deletedsecrets/app") == (
            deleted.deleted_date,
            deleted.scheduled_purge_date,
            deleted.recovery_id,
        )
        assert [each.name for each in client.list_deleted_secrets()] == ["app"]
        assert list(client.list_properties_of_secrets()) == []
        with pytest.raises(ResourceNotFoundError):
            client.get_secret("app")
        with pytest.raises(ResourceExistsError) as raised:
            client.set_secret("app", "two")
        assert refusal(raised.value) == (409, "Conflict", "ObjectIsDeletedButRecoverable")

        client.begin_recover_deleted_secret("app").wait()
        assert client.get_secret("app").value == "one"
        assert client.set_secret("app", "two").value == "two"

    def test_a_purged_secret_frees_its_name(self, client):
        client.set_secret("app", "one")
        client.begin_delete_secret("app").wait()
        client.purge_deleted_secret("app")
        client.set_secret("app", "two")

        assert len(list(client.list_properties_of_secret_versions("app"))) == 1
        with pytest.raises(ResourceNotFoundError):
            client.purge_deleted_secret("app")

    def test_purge_protection_refuses_a_purge(self, client, cloud):
        cloud.vault.purge_protection = True
        client.set_secret("app", "one")
        client.begin_delete_secret("app").wait()

        with pytest.raises(HttpResponseError) as raised:
            client.purge_deleted_secret("app")
        assert refusal(raised.value) == (403, "Forbidden", None)
        assert client.get_deleted_secret("app").properties.recovery_level == "Recoverable"

    def test_a_deleted_secret_is_purged_by_itself_after_90_days(self, client, cloud):
        client.set_secret("app", "one")
        client.begin_delete_secret("app").wait()
        cloud.clock.now = START + timedelta(days=90)

        assert list(client.list_deleted_secrets()) == []
        client.set_secret("app", "two")
        assert len(list(client.list_properties_of_secret_versions("app"))) == 1

    def test_deletion_and_recovery_take_a_moment(self, client, cloud):
        client.set_secret("app", "one")
        cloud.vault.settles_after = timedelta(seconds=5)
        poller = client.begin_delete_secret("app", _polling_interval=0.01)
        for call in (client.get_secret, client.get_deleted_secret):
            with pytest.raises(ResourceNotFoundError):
                call("app")
        with pytest.raises(ResourceExistsError) as raised:
            client.set_secret("app", "two")
        assert refusal(raised.value) == (409, "Conflict", "ObjectIsBeingDeleted")

        cloud.clock.now += timedelta(seconds=5)
        poller.wait()
        client.begin_recover_deleted_secret("app")
        with pytest.raises(ResourceExistsError) as raised:
            client.set_secret("app", "two")
        assert refusal(raised.value) == (409, "Conflict", "ObjectIsBeingRecovered")

        cloud.clock.now += timedelta(seconds=5)
        client.set_secret("app", "two")

    def test_throttling_and_outage_reach_the_caller_as_such(self, client, cloud):
        client.set_secret("app", "v")
        cloud.vault.throttled = 1
        with pytest.raises(HttpResponseError) as raised:
            client.get_secret("app")
        assert refusal(raised.value) == (429, "Throttled", None)
        assert client.get_secret("app").value == "v"

        cloud.vault.unavailable = True
        with pytest.raises(HttpResponseError) as raised:
            client.get_secret("app")
        assert refusal(raised.value) == (503, "ServiceUnavailable", None)

    def test_a_state_that_was_kept_goes_on_after_a_restart(self, client, cloud):
        client.set_secret("app", "one", tags={"a": "b"})
        client.set_secret("gone", "two")
        client.begin_delete_secret("gone").wait()
        kept = json.loads(json.dumps(cloud.vault.dump()))
        cloud.vault.__init__(cloud.identity, cloud.clock)
        assert list(client.list_properties_of_secrets()) == []
        cloud.vault.load(kept)

        assert (client.get_secret("APP").value, client.get_secret("app").properties.tags) == ("one", {"a": "b"})
        assert [each.name for each in client.list_deleted_secrets()] == ["gone"]


class TestWire:
    """What the clients hide or never send."""

    def test_a_request_without_a_token_is_challenged(self, cloud):
        answer = cloud.call("GET", "/secrets/app", token="")

        assert error(answer) == (401, "Unauthorized", None)
        assert answer.headers["WWW-Authenticate"] == vault.CHALLENGE
        assert 'resource="https://vault.azure.net"' in vault.CHALLENGE

    def test_a_throttled_request_says_when_to_come_back(self, cloud):
        cloud.vault.throttled = 1
        answer = cloud.call("GET", "/secrets")

        assert error(answer) == (429, "Throttled", None)
        assert answer.headers["Retry-After"] == "1"

    def test_only_a_token_of_the_identity_for_the_vault_in_its_time_is_accepted(self, cloud):
        now = datetime.now(UTC)
        other = identity.ManagedIdentity("x", lambda: now)
        good = cloud.identity.token(vault.RESOURCE, CLIENT_ID, now)
        bad = [
            "nonsense",
            other.token(vault.RESOURCE, CLIENT_ID, now),
            cloud.identity.token("https://graph.microsoft.com", CLIENT_ID, now),
            cloud.identity.token(vault.RESOURCE, CLIENT_ID, now - timedelta(hours=25)),
            cloud.identity.token(vault.RESOURCE, CLIENT_ID, now + timedelta(hours=1)),
            jwt.encode({"aud": vault.RESOURCE, "iss": cloud.identity.issuer}, key="", algorithm="none"),
        ]

        assert [401] * len(bad) == [cloud.call("GET", "/secrets", token=token).status_code for token in bad]
        assert cloud.call("GET", "/secrets", token=good).status_code == 200

    @pytest.mark.parametrize("params", [{}, {"api-version": ""}, {"api-version": "6.0"}])
    def test_the_api_version_is_required(self, cloud, params):
        assert error(cloud.call("GET", "/secrets", params=params)) == (400, "BadParameter", None)

    @pytest.mark.parametrize("name", ["under_score", "a.b", "a b", "é", "x" * 128])
    def test_names_hold_letters_digits_and_hyphens_only(self, cloud, name):
        assert error(cloud.call("PUT", f"/secrets/{name}", json={"value": "v"})) == (400, "BadParameter", None)
        assert cloud.call("PUT", "/secrets/" + "x" * 127, json={"value": "v"}).status_code == 200

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"value": 1},
            {"value": "x" * (25 * 1024 + 1)},
            {"value": "é" * 12_801},
            {"value": "v", "tags": {str(number): "" for number in range(16)}},
            {"value": "v", "tags": {"a": "x" * 257}},
            {"value": "v", "tags": {"a": 1}},
            {"value": "v", "tags": []},
            {"value": "v", "contentType": 1},
            {"value": "v", "attributes": {"exp": "2026-11-22"}},
            {"value": "v", "attributes": {"nbf": True}},
            {"value": "v", "attributes": {"enabled": "no"}},
            {"value": "v", "attributes": []},
            ["value"],
        ],
    )
    def test_a_bad_body_is_refused_and_leaves_nothing(self, cloud, body):
        assert error(cloud.call("PUT", "/secrets/app", json=body)) == (400, "BadParameter", None)
        assert cloud.call("GET", "/secrets/app").status_code == 404

    def test_a_body_that_is_not_json_is_refused(self, cloud):
        assert error(cloud.call("PUT", "/secrets/app", data=b"{")) == (400, "BadParameter", None)

    def test_a_value_of_25_kilobytes_is_kept(self, cloud):
        value = "x" * 25 * 1024
        cloud.call("PUT", "/secrets/app", json={"value": value})

        assert value == cloud.call("GET", "/secrets/app").json()["value"]

    @pytest.mark.parametrize("most", ["0", "26", "x", "-1"])
    def test_a_page_holds_1_to_25(self, cloud, most):
        answer = cloud.call("GET", "/secrets", params={"api-version": "7.4", "maxresults": most})
        assert error(answer) == (400, "BadParameter", None)

    def test_only_set_and_get_tell_the_value(self, cloud):
        cloud.call("PUT", "/secrets/app", json={"value": "hidden"})
        answers = [
            cloud.call("PATCH", "/secrets/app/", json={"tags": {}}),
            cloud.call("GET", "/secrets"),
            cloud.call("GET", "/secrets/app/versions"),
            cloud.call("DELETE", "/secrets/app"),
            cloud.call("GET", "/deletedsecrets"),
            cloud.call("GET", "/deletedsecrets/app"),
            cloud.call("POST", "/deletedsecrets/app/recover"),
        ]

        assert [200] * len(answers) == [answer.status_code for answer in answers]
        assert not [answer.url for answer in answers if "hidden" in answer.text]


class TestManagedIdentity:
    def test_a_token_names_the_principal_and_is_signed_by_the_published_key(self, cloud):
        with ManagedIdentityCredential(client_id=CLIENT_ID) as credential:
            made = credential.get_token(identity.TOKEN_EXCHANGE + "/.default")
        key = jwt.PyJWK(cloud.identity.jwks()["keys"][0])
        claims = jwt.decode(made.token, key, audience=identity.TOKEN_EXCHANGE, issuer=cloud.identity.issuer)

        assert (cloud.identity.subject(CLIENT_ID), CLIENT_ID) == (claims["sub"], claims["appid"])
        assert made.expires_on == pytest.approx(time.time() + 24 * 3600, abs=60)
        assert key.key_id == jwt.get_unverified_header(made.token)["kid"]

    def test_without_a_client_id_it_is_the_system_assigned_identity(self, cloud):
        with ManagedIdentityCredential() as credential:
            made = credential.get_token(vault.RESOURCE + "/.default")

        claims = cloud.identity.claims(made.token, vault.RESOURCE)
        assert cloud.identity.subject(identity.SYSTEM_ASSIGNED) == claims["oid"]
        assert cloud.identity.subject(CLIENT_ID) != claims["oid"]

    @pytest.mark.parametrize(
        ("status", "header", "change"),
        [
            (401, "", {}),
            (401, "wrong", {}),
            (400, None, {"resource": ""}),
            (400, None, {"api-version": "2018-02-01"}),
            (400, None, {"client_id": "not-a-guid"}),
        ],
    )
    def test_a_request_that_the_app_service_refuses(self, cloud, status, header, change):
        params = {"api-version": "2019-08-01", "resource": vault.RESOURCE, **change}
        headers = {"X-IDENTITY-HEADER": cloud.identity.header if header is None else header}
        answer = requests.get(cloud.endpoint, params=params, headers=headers, timeout=60)

        assert (status, status) == (answer.status_code, answer.json()["statusCode"])
        assert "access_token" not in answer.text
