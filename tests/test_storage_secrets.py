"""The vault's client against the simulated Key Vault, through the challenge and the managed identity."""

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from azure.core.exceptions import AzureError, HttpResponseError
from azure.identity import ManagedIdentityCredential
from azure.keyvault.secrets import SecretClient

from storage.secrets import Secrets, secret_name
from tests.cloud import Cloud

TAGS = {"connection": "primary"}


@pytest.fixture
def client(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretClient]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", cloud.ca)
    monkeypatch.setenv("IDENTITY_ENDPOINT", cloud.identity["endpoint"])
    monkeypatch.setenv("IDENTITY_HEADER", cloud.identity["header"])
    with SecretClient(
        cloud.vault, ManagedIdentityCredential(), verify_challenge_resource=False, retry_total=0
    ) as client:
        yield client


@pytest.fixture
def secrets(client: SecretClient) -> Secrets:
    return Secrets(client)


@pytest.fixture
def name() -> str:
    return secret_name(str(uuid.uuid4()))


@pytest.fixture
def vault(cloud: Cloud) -> Iterator[Callable[..., None]]:
    """Turns the vault's switches; afterwards they are off again."""
    yield lambda **switches: cloud.control.post("vault", switches)
    cloud.control.post("vault", {})


class TestNames:
    def test_names_that_only_case_tells_apart(self) -> None:
        """The vault ignores case; connections that differ in case or underscores have secrets of their own."""
        names = [secret_name(connection).lower() for connection in ("main", "Main", "ma_in", "ma-in")]

        assert len(set(names)) == 4
        assert all(len(name) <= 127 and name.replace("-", "").isalnum() for name in names)


class TestVersions:
    def test_every_version_stays_readable(self, secrets: Secrets, name: str) -> None:
        """A second value is a version of its own: the first is still there by its version, the newest without one."""
        first = secrets.save(name, "one", tags=TAGS)
        second = secrets.save(name, "two é😀", tags=TAGS)

        assert [secrets.load(name, first), secrets.load(name, second), secrets.load(name)] == [
            "one",
            "two é😀",
            "two é😀",
        ]

    def test_what_is_stored_beside_the_value(self, secrets: Secrets, client: SecretClient, name: str) -> None:
        """A secret carries its connection as a tag and its last day as its expiry."""
        ends = datetime(2028, 11, 1, tzinfo=UTC)
        version = secrets.save(name, "value", tags=TAGS, expires_on=ends)

        properties = client.get_secret(name, version).properties
        assert (properties.tags, properties.expires_on) == (TAGS, ends)

    def test_a_disabled_version(self, secrets: Secrets, name: str) -> None:
        """A disabled version cannot be read any more; the newer one can."""
        old = secrets.save(name, "old", tags=TAGS)
        secrets.save(name, "new", tags=TAGS)

        secrets.disable(name, old)

        with pytest.raises(HttpResponseError) as refused:
            secrets.load(name, old)
        assert refused.value.status_code == 403
        assert secrets.load(name) == "new"

    def test_what_is_not_there(self, secrets: Secrets, name: str) -> None:
        """A missing name and a missing version load as None."""
        assert secrets.load(name) is None
        secrets.save(name, "value", tags=TAGS)
        assert secrets.load(name, "0" * 32) is None


class TestDeletion:
    def test_nothing_is_left(self, secrets: Secrets, client: SecretClient, name: str) -> None:
        """Deleting removes every version and purges them; doing it again is fine."""
        version = secrets.save(name, "value", tags=TAGS)

        secrets.delete(name)
        secrets.delete(name)

        assert (secrets.load(name), secrets.load(name, version)) == (None, None)
        assert name not in {deleted.name for deleted in client.list_deleted_secrets()}

    def test_a_vault_that_forbids_purging(
        self, secrets: Secrets, client: SecretClient, name: str, vault: Callable[..., None]
    ) -> None:
        """Under purge protection a deleted secret cannot be read and the vault forgets it by itself later."""
        vault(purgeProtection=True)
        secrets.save(name, "value", tags=TAGS)

        secrets.delete(name)

        assert secrets.load(name) is None
        assert client.get_deleted_secret(name).scheduled_purge_date is not None

    def test_a_name_that_is_used_again(self, secrets: Secrets, name: str, vault: Callable[..., None]) -> None:
        """A soft-deleted name takes a new value: it is recovered first, and the new value is the newest version."""
        vault(purgeProtection=True)
        secrets.save(name, "old", tags=TAGS)
        secrets.delete(name)

        version = secrets.save(name, "new", tags={"connection": "other"})

        assert (secrets.load(name), secrets.load(name, version)) == ("new", "new")


class TestFaults:
    @pytest.mark.parametrize("call", ["load", "save", "delete", "ping"])
    def test_a_vault_that_is_down(self, secrets: Secrets, name: str, vault: Callable[..., None], call: str) -> None:
        """No call takes an unavailable vault for an empty one."""
        calls: dict[str, Callable[[], object]] = {
            "load": lambda: secrets.load(name),
            "save": lambda: secrets.save(name, "value", tags=TAGS),
            "delete": lambda: secrets.delete(name),
            "ping": secrets.ping,
        }
        vault(unavailable=True)

        with pytest.raises(AzureError):
            calls[call]()

    def test_a_value_the_vault_refuses(self, secrets: Secrets, name: str) -> None:
        """A refusal tells nothing of the value."""
        value = "secret-value-" * 3000
        with pytest.raises(HttpResponseError) as refused:
            secrets.save(name, value, tags=TAGS)

        assert "secret-value" not in str(refused.value)

    def test_a_vault_that_answers(self, secrets: Secrets) -> None:
        """The ping needs no secret to be there."""
        secrets.ping()
