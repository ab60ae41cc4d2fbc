"""Connections from the first form to the last trace: created, listed, edited, rotated, removed."""

import base64
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12
from cryptography.x509.oid import NameOID

from storage.meter import MeteredTransport
from storage.secrets import secret_name
from storage.tables import Conflict, Write
from sync import connections, jobs
from sync.runs import Claim, load_run
from sync.settings import CLOUDS
from sync.settings import Cloud as Endpoints
from tests.cloud import Cloud, NewTenant, TestTenant
from tests.contents import contents
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


class TestCreating:
    def test_the_answer(self, house: House, new_tenant: NewTenant) -> None:
        """A new connection is shown as it was sent, less its secret, with its address, version and defaults."""
        tenant = new_tenant()
        body = request(tenant, labels={"customer": "42 é😀"}, timeZone="Europe/Berlin")
        body["credential"] |= {"secretId": str(uuid.uuid4()), "expiresOn": "2999-01-01"}

        answer = house.call("POST", "connections", body)

        shown = answer.json
        assert answer.status == 201
        assert answer.headers["Location"] == "/api/connections/primary"
        assert {name: shown[name] for name in ("name", "tenantId", "clientId", "timeZone", "labels")} == {
            name: body[name] for name in ("name", "tenantId", "clientId", "timeZone", "labels")
        }
        assert (shown["cloud"], shown["status"], shown["lastCheck"]) == ("global", "unchecked", None)
        assert shown["credential"]["secretId"] == body["credential"]["secretId"]
        assert shown["credential"]["daysLeft"] == (date(2999, 1, 1) - house.clock().date()).days
        assert shown["createdAt"] == shown["updatedAt"]
        assert tenant.secret not in answer.content.decode()
        again = house.call("GET", "connections/primary")
        assert (again.json, again.headers["ETag"]) == (shown, answer.headers["ETag"])

    def test_where_the_secret_goes(self, connected: House) -> None:
        """The secret is in the vault, under a name that tells nothing, and nowhere else."""
        value = connected.tenants["primary"].secret

        assert connected.app.secrets.load(secret_name("primary")) == value
        assert contents(connected).naming(value) == []

    def test_a_name_that_is_taken(self, connected: House, new_tenant: NewTenant) -> None:
        """A second connection of the same name is refused, and the first one's credential still works."""
        answer = connected.call("POST", "connections", request(new_tenant()))

        assert code(answer) == (409, "connection-exists")
        assert check(connected)["status"] == "confirmed"

    def test_two_at_once(self, house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of two requests for one name at the same moment one wins, whole: its own secret is the one that works."""
        winner, loser = new_tenant(), new_tenant()
        find = connections.find

        def find_and_be_overtaken(*arguments: Any) -> Any:
            found = find(*arguments)
            monkeypatch.setattr(connections, "find", find)
            assert house.call("POST", "connections", request(winner)).status == 201
            return found

        monkeypatch.setattr(connections, "find", find_and_be_overtaken)
        answer = house.call("POST", "connections", request(loser))

        assert code(answer) == (409, "connection-exists")
        assert house.get("connections/primary")["tenantId"] == winner.id
        assert check(house)["status"] == "confirmed"

    def test_names_that_only_case_tells_apart(self, house: House, new_tenant: NewTenant) -> None:
        """Names are case-sensitive: two that differ in case are two connections with secrets of their own."""
        for name in ("main", "Main"):
            house.connect(new_tenant(), name)

        assert [check(house, name)["status"] for name in ("main", "Main")] == ["confirmed", "confirmed"]
        assert house.get("connections/main")["tenantId"] != house.get("connections/Main")["tenantId"]

    def test_a_vault_that_is_down(self, house: House, new_tenant: NewTenant, vault: Callable[..., None]) -> None:
        """Without the vault nothing is created: 503, and the name is still free afterwards."""
        body = request(new_tenant(), f"new-{uuid.uuid4()}")
        vault(unavailable=True)
        answer = house.call("POST", "connections", body)
        vault()

        assert code(answer) == (503, "storage-unavailable")
        assert answer.headers["Retry-After"]
        assert contents(house).naming(body["name"]) == []
        assert house.call("POST", "connections", body).status == 201

    def test_what_a_dead_removal_left(self, house: House, new_tenant: NewTenant) -> None:
        """A new connection does not inherit rows of an old one of that name."""
        house.app.tables.data.commit("primary", [Write("insert", f"user|{number}") for number in range(100)])
        house.app.tables.data.commit("primary", [Write("insert", "settings|users", {"j_settings": {"enabled": True}})])

        house.connect(new_tenant())

        assert house.users("primary") == {}
        assert not house.get("connections/primary/syncs/users")["enabled"]


class TestLostAnswers:
    """Storage did the write, but a gateway answered 503 in its place: the SDK sends the write again."""

    @pytest.fixture
    def lose(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
        """Loses the answer to the next request of a method to the table of connections; tells what was sent."""

        def arm(method: str) -> list[str]:
            send, sent = MeteredTransport.send, []

            def lossy(self: Any, request: Any, **options: Any) -> Any:
                answer = send(self, request, **options)
                if request.method == method and "/connections" in request.url:
                    sent.append(request.url)
                    if len(sent) == 1:
                        answer.status_code = 503
                return answer

            monkeypatch.setattr(MeteredTransport, "send", lossy)
            return sent

        return arm

    def test_of_a_new_connection(self, house: House, new_tenant: NewTenant, lose: Callable[[str], list[str]]) -> None:
        """The connection that the first attempt made is not taken for somebody else's."""
        sent = lose("POST")

        answer = house.call("POST", "connections", request(new_tenant()))

        assert (answer.status, len(sent)) == (201, 2)
        assert answer.headers["ETag"] == house.call("GET", "connections/primary").headers["ETag"]

    def test_of_an_edit(self, connected: House, lose: Callable[[str], list[str]]) -> None:
        """The change that the first attempt made is not taken for somebody else's."""
        sent = lose("PUT")

        answer = connected.call("PATCH", "connections/primary", {"labels": {"a": "1"}})

        assert (answer.status, answer.json["labels"], len(sent)) == (200, {"a": "1"}, 2)


class TestListing:
    def test_pages(self, house: House, new_tenant: NewTenant) -> None:
        """Every connection comes once, in the order of names, page by page, without any secret."""
        tenant = new_tenant()
        names = ["A", "B-1", "B_2", "a", "b"]
        for name in reversed(names):
            house.connect(tenant, name)

        found, cursor = [], ""
        while True:
            answer = house.call("GET", f"connections?top=2{cursor}")
            assert tenant.secret not in answer.content.decode()
            found.append([one["name"] for one in answer.json["items"]])
            if answer.json["next"] is None:
                break
            cursor = f"&cursor={answer.json['next']}"

        assert found == [["A", "B-1"], ["B_2", "a"], ["b"]]

    def test_none(self, house: House) -> None:
        """Without connections the list is empty."""
        assert house.get("connections") == {"items": [], "next": None}


class TestEditing:
    def test_what_may_change(self, connected: House) -> None:
        """Labels are replaced as a whole, the time zone too; what is not named stays."""
        before = connected.get("connections/primary")
        connected.call("PATCH", "connections/primary", {"labels": {"a": "1", "b": "2"}})
        connected.call("PATCH", "connections/primary", {"timeZone": "UTC"})
        connected.call("PATCH", "connections/primary", {"labels": {"c": "3"}})

        after = connected.get("connections/primary")

        assert (after["labels"], after["timeZone"]) == ({"c": "3"}, "UTC")
        assert after["updatedAt"] > before["updatedAt"]
        changed = ("labels", "timeZone", "updatedAt")
        assert {k: v for k, v in after.items() if k not in changed} == {
            k: v for k, v in before.items() if k not in changed
        }

    def test_emptied_labels(self, connected: House) -> None:
        """An empty object takes all labels away."""
        connected.call("PATCH", "connections/primary", {"labels": {"a": "1"}})

        assert connected.call("PATCH", "connections/primary", {"labels": {}}).json["labels"] == {}

    def test_two_at_once(self, connected: House) -> None:
        """An edit over a version that has changed since it was loaded is refused."""
        seen = connections.load(connected.app, "primary")
        connected.call("PATCH", "connections/primary", {"labels": {"a": "1"}})

        with pytest.raises(Conflict):
            connections.save(connected.app, seen)
        assert connected.get("connections/primary")["labels"] == {"a": "1"}


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


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def certify(key: rsa.RSAPrivateKey, *, days: int = 100) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tenantsync tests")])
    start = datetime.now(UTC) - timedelta(days=30)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), start, start + timedelta(days=30 + days)
    )
    return builder.sign(key, hashes.SHA256())


def as_pem(key: rsa.RSAPrivateKey, certificate: x509.Certificate) -> str:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (private + certificate.public_bytes(Encoding.PEM)).decode()


def register(tenant: TestTenant, certificate: x509.Certificate) -> None:
    pem = certificate.public_bytes(Encoding.PEM).decode()
    tenant.control.post(f"apps/{tenant.client_id}/certificates", {"pem": pem})


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


def fill(house: House, tenant: TestTenant, name: str) -> None:
    interval = {"mode": "interval", "every": "PT4H"}
    house.connect(tenant, name, users={"schedule": interval}, photos={"schedule": interval})
    house.run(name, "users")
    house.run(name, "photos")
    house.app.tables.budgets.commit(tenant.id, [Write("replace", tenant.client_id, {"j_budget": {}})])
    house.call("POST", f"connections/{name}/check", {}, Idempotency_Key="k")


class TestRemoving:
    @pytest.fixture
    def full(self, house: House, new_tenant: NewTenant) -> House:
        """A connection with users, photos, runs, feed, due rows, a kept answer and a request budget."""
        fill(house, new_tenant(users=2, photoShare=1), "primary")
        return house

    def test_nothing_is_left_but_the_run(self, full: House, new_tenant: NewTenant) -> None:
        """A removal takes rows, photos, secret and connection of its own and nothing of another one."""
        fill(full, new_tenant(users=2, photoShare=1), "other")
        tenant = full.tenants["primary"]
        words = ("primary", tenant.id, tenant.client_id)
        before = contents(full)
        assert {place for place, _ in before.naming(*words)} == {"connections", "data", "due", "budgets", "blobs"}

        answer = full.call("DELETE", "connections/primary")
        assert answer.status == 202
        assert answer.headers["Location"] == f"/api/connections/primary/runs/{answer.json['id']}"
        full.work()

        after = contents(full)
        assert after.naming(*words) == [("data", f"run|{answer.json['id']}")]
        assert secret_name("primary") not in after.secrets
        run = full.get(f"connections/primary/runs/{answer.json['id']}")
        assert (run["status"], run["sync"], run["error"]) == ("succeeded", "connection", None)
        kept = ("other", full.tenants["other"].id, full.tenants["other"].client_id)
        assert after.naming(*kept) == before.naming(*kept)
        assert secret_name("other") in after.secrets
        assert full.run("other", "users")["status"] == "succeeded"

    def test_from_the_first_moment_on(self, full: House) -> None:
        """A connection that is being removed is not found, starts no run, and its name is not free yet."""
        run = full.call("DELETE", "connections/primary").json["id"]

        for method, path in (
            ("GET", "connections/primary"),
            ("GET", "connections/primary/users"),
            ("POST", "connections/primary/check"),
            ("POST", "connections/primary/syncs/users/runs"),
        ):
            assert code(full.call(method, path)) == (404, "connection-not-found")
        assert full.get("connections")["items"] == []
        assert code(full.call("POST", "connections", request(full.tenants["primary"]))) == (409, "connection-exists")
        assert full.get(f"connections/primary/runs/{run}")["status"] == "queued"

    def test_deleting_it_again(self, full: House) -> None:
        """A second DELETE is answered with the same run, and with a 404 once all is gone."""
        first, second = (full.call("DELETE", "connections/primary") for _ in range(2))
        full.work()

        assert (second.status, second.json["id"]) == (202, first.json["id"])
        assert code(full.call("DELETE", "connections/primary")) == (404, "connection-not-found")

    def test_the_name_afterwards(self, full: House, new_tenant: NewTenant) -> None:
        """The name can be used again at once, for another tenant, and shows nothing of before."""
        full.call("DELETE", "connections/primary")
        full.work()

        full.connect(new_tenant(users=1), "primary", users={})

        assert full.users("primary") == {}
        assert full.get("connections/primary/runs")["items"] == []
        assert full.changes("primary")[0] == []
        assert full.run("primary", "users")["counts"]["created"] == 1

    def test_a_name_the_vault_may_not_purge(
        self, full: House, new_tenant: NewTenant, vault: Callable[..., None]
    ) -> None:
        """Under purge protection too a removed connection's name can be used again, with the new secret."""
        vault(purgeProtection=True)
        full.call("DELETE", "connections/primary")
        full.work()
        assert full.app.secrets.load(secret_name("primary")) is None

        full.connect(new_tenant(), "primary")

        assert check(full)["status"] == "confirmed"

    def test_while_a_run_is_queued(self, full: House) -> None:
        """A run that waits is cancelled by the removal, and its message comes to nothing."""
        full.start("primary", "users")
        run = full.call("DELETE", "connections/primary").json["id"]

        full.work()

        assert contents(full).naming("primary") == [("data", f"run|{run}")]
        assert contents(full).messages == []

    def test_while_a_run_is_at_work(self, full: House) -> None:
        """A removal waits until the worker of a running run has noticed or its lease is over, then takes all of it."""
        started = full.start("primary", "users")
        found = load_run(full.app.tables.data, "primary", started)
        assert found is not None
        worker = Claim.take(full.app.tables.data, *found, now=full.clock())
        assert worker is not None
        run = full.call("DELETE", "connections/primary").json["id"]

        full.work()
        assert full.get(f"connections/primary/runs/{run}")["status"] == "running"
        assert full.app.secrets.load(secret_name("primary")) is not None
        full.clock.ahead += timedelta(seconds=100)
        jobs.work(full.app, {"connection": "primary", "run": run})

        assert full.get(f"connections/primary/runs/{run}")["status"] == "succeeded"
        assert {key for _, key in contents(full).naming("primary")} - {""} == {f"run|{run}"}

    def test_with_the_vault_down(self, full: House, vault: Callable[..., None]) -> None:
        """A removal that the vault interrupts is carried on later; nothing is called removed before it is."""
        run = full.call("DELETE", "connections/primary").json["id"]
        vault(unavailable=True)
        with pytest.raises(Exception):  # noqa: B017 - the host sees the fault and gives the message back
            full.work()
        vault()
        assert full.get(f"connections/primary/runs/{run}")["status"] == "running"

        jobs.work(full.app, {"connection": "primary", "run": run})

        assert full.get(f"connections/primary/runs/{run}")["status"] == "succeeded"
        assert contents(full).naming("primary") == [("data", f"run|{run}")]

    @pytest.mark.parametrize("step", ["secrets.delete", "blobs.delete_all", "tables.connections.commit"])
    def test_killed_on_the_way(self, full: House, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
        """A worker that dies after any step leaves a removal that the next one ends."""
        run = full.call("DELETE", "connections/primary").json["id"]
        *parts, name = step.split(".")
        owner: Any = full.app
        for part in parts:
            owner = getattr(owner, part)
        done = getattr(owner, name)

        def die(*arguments: Any) -> None:
            done(*arguments)
            raise SystemExit

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, die)
            with pytest.raises(SystemExit):
                full.work()
        full.clock.ahead += timedelta(seconds=100)
        jobs.work(full.app, {"connection": "primary", "run": run})

        assert full.get(f"connections/primary/runs/{run}")["status"] == "succeeded"
        assert contents(full).naming("primary") == [("data", f"run|{run}")]
        assert secret_name("primary") not in contents(full).secrets

    def test_a_removal_that_was_cancelled(self, full: House) -> None:
        """A removal that somebody stops can be asked for again, and then takes everything."""
        run = full.call("DELETE", "connections/primary").json["id"]
        assert full.call("POST", f"connections/primary/runs/{run}/cancel").json["status"] == "cancelled"

        second = full.call("DELETE", "connections/primary").json["id"]
        full.work()

        assert second != run
        assert contents(full).naming("primary") == [("data", f"run|{second}")]
