"""App settings: what the environment may say, and how all its faults are named at once."""

import pytest

from sync.errors import TenantsyncError
from sync.settings import CLOUDS, Cloud, Settings

LEAST = {"AzureWebJobsStorage": "UseDevelopmentStorage=true", "KEY_VAULT_URL": "https://vault.example"}


def test_the_least_that_must_be_set() -> None:
    """Storage and vault suffice; everything else has a default, and the clouds are Microsoft's own."""
    settings = Settings.read(LEAST)

    assert settings.storage_connection == "UseDevelopmentStorage=true"
    assert settings.key_vault_url == "https://vault.example"
    assert settings.clouds == CLOUDS
    assert settings.managed_identity is None
    assert (settings.slice_seconds, settings.photo_batches, settings.photo_bytes) == (240, 4, 4 * 1024 * 1024)


def test_the_global_cloud_elsewhere() -> None:
    """The endpoints replace the hosts of the global cloud, without a closing slash, and of no other cloud."""
    elsewhere = {"ENTRA_ENDPOINT": "https://entra.example/", "GRAPH_ENDPOINT": "https://graph.example:8443"}

    clouds = Settings.read({**LEAST, **elsewhere}).clouds

    assert clouds["global"] == Cloud("https://entra.example", "https://graph.example:8443")
    assert {name: cloud for name, cloud in clouds.items() if name != "global"} == {
        name: cloud for name, cloud in CLOUDS.items() if name != "global"
    }


def test_storage_by_identity() -> None:
    """Three service addresses take the place of a connection string."""
    uris = {kind: f"https://account.{kind}.example" for kind in ("blob", "queue", "table")}
    environ = {f"AzureWebJobsStorage__{kind}ServiceUri": uri for kind, uri in uris.items()}

    settings = Settings.read({"KEY_VAULT_URL": "https://vault.example", **environ, "AZURE_CLIENT_ID": "identity"})

    assert (settings.storage_connection, settings.storage_uris) == (None, uris)
    assert settings.managed_identity == "identity"


def test_numbers() -> None:
    """Whole numbers above zero are taken as they are; an empty setting means the default."""
    settings = Settings.read({**LEAST, "SLICE_SECONDS": "30", "PHOTO_BATCHES": "", "PHOTO_BYTES": "1"})

    assert (settings.slice_seconds, settings.photo_batches, settings.photo_bytes) == (30, 4, 1)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"AzureWebJobsStorage": ""}, "AzureWebJobsStorage"),
        (
            {"AzureWebJobsStorage": "", "AzureWebJobsStorage__blobServiceUri": "https://a.example"},
            "AzureWebJobsStorage",
        ),
        ({"KEY_VAULT_URL": ""}, "KEY_VAULT_URL"),
        ({"KEY_VAULT_URL": "http://vault.example"}, "KEY_VAULT_URL"),
        ({"KEY_VAULT_URL": "https://"}, "KEY_VAULT_URL"),
        ({"ENTRA_ENDPOINT": "login.example"}, "ENTRA_ENDPOINT"),
        ({"ENTRA_ENDPOINT": "https://login.example?x=1"}, "ENTRA_ENDPOINT"),
        ({"GRAPH_ENDPOINT": "https://graph.example#x"}, "GRAPH_ENDPOINT"),
        ({"SLICE_SECONDS": "0"}, "SLICE_SECONDS"),
        ({"SLICE_SECONDS": "-1"}, "SLICE_SECONDS"),
        ({"PHOTO_BATCHES": "four"}, "PHOTO_BATCHES"),
        ({"PHOTO_BYTES": "1.5"}, "PHOTO_BYTES"),
        ({"PHOTO_BYTES": "²"}, "PHOTO_BYTES"),
    ],
)
def test_a_wrong_setting(wrong: dict[str, str], named: str) -> None:
    """A setting that is missing or wrong is named, and nothing starts with it."""
    with pytest.raises(TenantsyncError) as refused:
        Settings.read({**LEAST, **wrong})

    assert refused.value.code == "invalid-settings"
    assert f": {named} (" in refused.value.detail
    assert "local.settings.json" in refused.value.remedy


def test_all_faults_at_once() -> None:
    """Every bad setting is named in one go, and no value is repeated: it might be a secret in the wrong place."""
    environ = {
        "ENTRA_ENDPOINT": "http://hunter2",
        "GRAPH_ENDPOINT": "hunter2",
        "KEY_VAULT_URL": "hunter2",
        "SLICE_SECONDS": "hunter2",
        "PHOTO_BATCHES": "hunter2",
        "PHOTO_BYTES": "hunter2",
    }
    with pytest.raises(TenantsyncError) as refused:
        Settings.read(environ)

    assert all(name in refused.value.detail for name in [*environ, "AzureWebJobsStorage"])
    assert "hunter2" not in refused.value.detail
