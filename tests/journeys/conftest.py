"""One running stack for all journeys of a test process: host, Azurite and cloud as processes, used over HTTP alone."""

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from local.portal import Control, Json, Portal, Tenant
from local.stack import Stack

NUMBERS = itertools.count(1)
MANUAL = {"mode": "manual"}


@dataclass
class Customer:
    """A connected tenant; `path` is that of its connection."""

    name: str
    tenant: Tenant
    portal: Portal

    @property
    def path(self) -> str:
        return f"connections/{self.name}"

    def enable(self, *syncs: str, **settings: Any) -> None:
        for sync in syncs:
            self.portal.enable(self.name, sync, **{"schedule": MANUAL, **settings})

    def sync(self, sync: str, **body: Any) -> Json:
        """A manual run, waited for, that must succeed."""
        run = self.portal.sync(self.name, sync, seconds=200, **body)
        assert run["status"] == "succeeded", run
        return run

    def wait(self, run: Json) -> Json:
        return self.portal.wait(self.name, run, seconds=200)

    def runs(self, sync: str) -> list[Json]:
        return list(self.portal.items(f"{self.path}/runs?sync={sync}"))

    def users(self, state: str = "active") -> dict[str, Json]:
        return {user["id"]: user for user in self.portal.items(f"{self.path}/users?state={state}")}

    def pictured(self) -> set[str]:
        """Whose photo the portal has."""
        return {key for key, user in self.users().items() if user["photo"]}

    def photo(self, user: str) -> bytes:
        answer = self.portal.send("GET", f"{self.path}/users/{user}/photo")
        assert answer.status_code == 200, answer.text
        return answer.content


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(logs=tmp_path_factory.mktemp("logs")) as started:
        yield started


@pytest.fixture
def portal(stack: Stack) -> Portal:
    return Portal.of(stack)


@pytest.fixture
def new_tenant(stack: Stack) -> Callable[..., Tenant]:
    """Makes tenants of their own; 30 members without guests where nothing else is said."""
    control = Control.of(stack)

    def make(**population: Any) -> Tenant:
        seed = os.getpid() * 1000 + next(NUMBERS)
        return control.generate(**{"users": 30, "seed": seed, "guestShare": 0, **population})

    return make


@pytest.fixture
def connect(portal: Portal, new_tenant: Callable[..., Tenant]) -> Callable[..., Customer]:
    """Connects a new tenant under a name of its own."""

    def make(**population: Any) -> Customer:
        tenant = new_tenant(**population)
        name = f"customer-{next(NUMBERS):04d}"
        portal.post("connections", tenant.connection(name))
        return Customer(name, tenant, portal)

    return make
