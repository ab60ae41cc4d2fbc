"""One customer's tenant: who it is, its apps, its users, and how Graph behaves towards it."""

import json
import random
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import Field

from local.cloud.apps import App
from local.cloud.clock import Clock
from local.cloud.counters import Counters
from local.cloud.faults import Faults
from local.cloud.model import Model
from local.cloud.throttling import Throttle
from local.cloud.users import Photo, Users

GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
JOURNAL_LENGTH = 5000


@dataclass
class Expiry:
    """Tokens with a serial below these numbers no longer work. `serial` counts the tokens that were issued."""

    serial: int = 0
    delta_before: int = 0
    page_before: int = 0
    page_code: str = "Directory_ExpiredPageToken"

    def issue(self) -> int:
        self.serial += 1
        return self.serial


@dataclass
class Tenant:
    id: str
    display_name: str
    domain: str
    apps: list[App] = field(default_factory=list)
    country: str = "US"
    users: Users = field(default_factory=Users)
    clock: Clock = field(default_factory=Clock)
    faults: Faults = field(default_factory=Faults)
    counters: Counters = field(default_factory=Counters)
    throttle: Throttle = field(default_factory=Throttle)
    journal: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=JOURNAL_LENGTH))
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    expiry: Expiry = field(default_factory=Expiry)

    def app(self, app_id: str) -> App | None:
        return next((app for app in self.apps if app.app_id == app_id.lower()), None)

    def reset_counters(self) -> Counters:
        """Start counting anew; returns what was counted."""
        before, self.counters = self.counters, Counters()
        return before

    def set_faults(self, faults: Faults) -> None:
        """Take over the faults; random draws and budgets start anew, announced pauses stay."""
        self.faults = faults
        self.rng = random.Random(faults.seed)
        self.throttle.buckets.clear()


class Step(Model):
    """Something that happens in the tenant: a call to the control endpoint, and how to tell it."""

    says: str
    method: str
    path: str
    body: dict[str, Any] = Field(default_factory=dict)


class TenantFile(Model):
    """The form of a tenant data file and of POST /tenants. A user is its Graph properties plus `photo`, the side of its
    uploaded picture in pixels. `story` is for whoever shows the tenant: control calls below /tenants/{t}, in order.
    """

    id: str = Field(default_factory=lambda: str(uuid4()), pattern=f"^{GUID.pattern}$")
    display_name: str
    domain: str
    country: str = "US"
    apps: list[App] = Field(default_factory=list)
    users: list[dict[str, Any]] = Field(default_factory=list)
    story: list[Step] = Field(default_factory=list)

    def tenant(self) -> Tenant:
        tenant = Tenant(self.id, self.display_name, self.domain, apps=self.apps, country=self.country)
        for given in self.users:
            properties = dict(given)
            side = properties.pop("photo", None)
            tenant.users.create(properties, Photo(1, side) if side else None, logged=False)
        return tenant


def read_file(path: Path) -> Tenant:
    return TenantFile.model_validate(json.loads(path.read_text("utf-8"))).tenant()


class Tenants:
    """All tenants of the simulated cloud, found by id or domain. Their clocks follow the cloud's."""

    def __init__(self) -> None:
        self.clock = Clock()
        self._by_key: dict[str, Tenant] = {}

    def add(self, tenant: Tenant) -> None:
        """Add a tenant; one with the same id or domain is replaced."""
        tenant.clock = Clock(self.clock)
        self._by_key[tenant.id] = tenant
        self._by_key[tenant.domain.lower()] = tenant

    def find(self, key: str) -> Tenant | None:
        """The tenant, its recycle bin emptied up to its present."""
        tenant = self._by_key.get(key.lower())
        if tenant:
            tenant.users.settle(tenant.clock.now())
        return tenant

    def remove(self, tenant: Tenant) -> None:
        del self._by_key[tenant.id], self._by_key[tenant.domain.lower()]

    def __iter__(self) -> Iterator[Tenant]:
        return (tenant for key, tenant in self._by_key.items() if key == tenant.id)
