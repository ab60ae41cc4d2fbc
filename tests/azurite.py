"""Real Table, Blob and Queue protocols for tests: one Azurite per test process, with many accounts.

`azurite` is a connection string that the whole test process shares; `empty_storage` is one of an account that no
other test has seen, for tests that use the product's fixed table and queue names.
"""

import base64
from collections.abc import Iterator

import pytest

from local import azurite as emulator

KEY = base64.b64encode(b"an account of a test").decode()
ACCOUNTS = [f"test{number}" for number in range(2000)]


@pytest.fixture(scope="session")
def _accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[str]]:
    child = emulator.start(tmp_path_factory.mktemp("azurite") / "azurite.log", accounts=dict.fromkeys(ACCOUNTS, KEY))
    try:
        services = child.wait_ready()
        yield (emulator.connection_string(services, account, KEY) for account in ACCOUNTS)
    finally:
        child.stop()


@pytest.fixture(scope="session")
def azurite(_accounts: Iterator[str]) -> str:
    return next(_accounts)


@pytest.fixture
def empty_storage(_accounts: Iterator[str]) -> str:
    return next(_accounts)
