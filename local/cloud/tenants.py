"""One customer's tenant: who it is, its apps, its users, and how Graph behaves towards it."""

import json
import random
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from pydantic import Field

from local.cloud.apps import App
from local.cloud.clock import Clock
from local.cloud.counters import Counters
from local.cloud.exchange.mailbox import Exchange, Room
from local.cloud.faults import Faults
from local.cloud.model import Model
from local.cloud.objects import Device, DirectoryObject, Group, Objects, OrgContact
from local.cloud.throttling import Throttle
from local.cloud.users import Users

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
    devices: Objects[Device] = field(default_factory=lambda: Objects(Device))
    groups: Objects[Group] = field(default_factory=lambda: Objects(Group))
    org_contacts: Objects[OrgContact] = field(default_factory=lambda: Objects(OrgContact))
    clock: Clock = field(default_factory=Clock)
    faults: Faults = field(default_factory=Faults)
    counters: Counters = field(default_factory=Counters)
    throttle: Throttle = field(default_factory=Throttle)
    journal: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=JOURNAL_LENGTH))
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    expiry: Expiry = field(default_factory=Expiry)
    exchange: Exchange = field(default_factory=Exchange)

    def __post_init__(self) -> None:
        for store in self.stores:
            store.when_purged = self._forget

    @property
    def stores(self) -> tuple[Objects[Any], ...]:
        """Everything that the directory holds; ids are unique over all of it."""
        return self.users, self.groups, self.devices, self.org_contacts

    def member(self, object_id: str) -> DirectoryObject:
        """The live or soft-deleted object with that id, or KeyError."""
        for store in self.stores:
            if object_id.lower() in store:
                found: DirectoryObject = store.stored(object_id)
                return found
        raise KeyError(object_id)

    def settle(self) -> None:
        """Empty the recycle bin up to the tenant's present."""
        for store in self.stores:
            store.settle(self.clock.now())

    def _forget(self, object_id: str) -> None:
        for store in self.stores:
            store.forget(object_id)

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
        self.exchange.outbox.rng = random.Random(faults.seed)
        self.throttle.buckets.clear()


class Step(Model):
    """Something that happens in the tenant: a call to the control endpoint, and how to tell it."""

    says: str
    method: str
    path: str
    body: dict[str, Any] = Field(default_factory=dict)


class TenantFile(Model):
    """The form of a tenant data file and of POST /tenants. A user is its Graph properties plus `photo`, the side of its
    uploaded picture in pixels, and `mailbox`, "cloud", "none" or "onPremises". Objects name those that they link to by id: a user its `manager`, a device its
    `registeredOwners`, a group its `members`. `story` is for whoever shows the tenant: control calls below
    /tenants/{t}, in order.
    """

    id: str = Field(default_factory=lambda: str(uuid4()), pattern=f"^{GUID.pattern}$")
    display_name: str
    domain: str
    country: str = "US"
    apps: list[App] = Field(default_factory=list)
    users: list[dict[str, Any]] = Field(default_factory=list)
    rooms: list[Room] = Field(default_factory=list)
    meeting_delay_ms: float | Literal["manual"] = 0
    devices: list[dict[str, Any]] = Field(default_factory=list)
    groups: list[dict[str, Any]] = Field(default_factory=list)
    org_contacts: list[dict[str, Any]] = Field(default_factory=list)
    story: list[Step] = Field(default_factory=list)

    def tenant(self) -> Tenant:
        tenant = Tenant(self.id, self.display_name, self.domain, apps=self.apps, country=self.country)
        given = (self.users, self.groups, self.devices, self.org_contacts)
        made: list[tuple[Objects[Any], Any, list[str]]] = []
        for store, every in zip(tenant.stores, given, strict=True):
            for each in every:
                properties, ids = parted(each, store.relation)
                made.append((store, store.create(properties, logged=False), ids))
        for store, holder, ids in made:
            store.link(holder, map(tenant.member, ids), logged=False)
        for room in self.rooms:
            tenant.exchange.add_room(tenant.id, room)
        tenant.exchange.delay_ms = None if self.meeting_delay_ms == "manual" else self.meeting_delay_ms
        return tenant


def parted(given: Mapping[str, Any], relation: str) -> tuple[dict[str, Any], list[str]]:
    """An object's own properties, and the ids that it names in its relation: one, several or null."""
    ids = given.get(relation) or []
    own = {name: value for name, value in given.items() if name != relation}
    return own, [ids] if isinstance(ids, str) else ids


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
            tenant.settle()
        return tenant

    def remove(self, tenant: Tenant) -> None:
        del self._by_key[tenant.id], self._by_key[tenant.domain.lower()]

    def __iter__(self) -> Iterator[Tenant]:
        return (tenant for key, tenant in self._by_key.items() if key == tenant.id)
