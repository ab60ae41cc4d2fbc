"""Tenants whose members have photos, their photo sync, and pictures to upload."""

import base64
import itertools
from io import BytesIO
from random import Random
from typing import Any

import pytest
from PIL import Image

from sync.jobs import work
from tests.cloud import NewTenant, TestTenant
from tests.house import House
from tests.truth import people, tally

NAME = "primary"
SEEDS = itertools.count(1)


@pytest.fixture
def tenant(new_tenant: NewTenant) -> TestTenant:
    """Ten members with a large photo each."""
    return members(new_tenant, 10)


def members(new_tenant: NewTenant, users: int, photos: int | None = None) -> TestTenant:
    """A tenant of so many members, of whom the first `photos` have a large photo each."""
    tenant = new_tenant(users=users, guestShare=0, disabledShare=0, photoShare=0)
    for key in list(people(tenant))[:photos]:
        tenant.control.put(f"users/{key}/photo", {"longest": 648})
    return tenant


def connect(house: House, tenant: TestTenant, **settings: Any) -> None:
    """Connected with users, who are synced, and photos, which are not yet."""
    house.connect(tenant, NAME, users={}, photos=settings)
    assert house.run(NAME, "users")["status"] == "succeeded"


def sync(house: House, **body: Any) -> dict[str, Any]:
    """A photo run, which must succeed; its counts."""
    run = house.run(NAME, "photos", **body)
    assert run["status"] == "succeeded", run
    return tally(run)


def replace_photo(tenant: TestTenant, key: str) -> None:
    """Another photo of a user: nobody ever had this one. (Of the drawings there are but a few.)"""
    upload(tenant, key, written("JPEG", seed=next(SEEDS)))


def cost(tenant: TestTenant) -> tuple[int, int]:
    """Batches and items of batches since the last call."""
    graph = tenant.control.post("counters")["graph"]
    return graph["batchPosts"], graph["batchItems"]


def reasons(house: House, run: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """The lines of a run's log: outcome and reason by user."""
    items = house.get(f"connections/{NAME}/runs/{run['id']}/log?top=1000")["items"]
    return {line["id"]: (line["outcome"], line["reason"]) for line in items}


def upload(tenant: TestTenant, key: str, data: bytes, content_type: str = "image/jpeg") -> None:
    body = {"base64": base64.b64encode(data).decode(), "contentType": content_type}
    tenant.control.put(f"users/{key}/photo", body)


def written(kind: str, side: int = 32, seed: int = 0, **options: Any) -> bytes:
    """A picture of noise, so that it has the size that its pixels make one expect."""
    file = BytesIO()
    noise = Image.frombytes("RGB", (side, side), Random(seed).randbytes(3 * side * side))
    noise.save(file, kind, **options)
    return file.getvalue()


def carry_on(house: House, run: str) -> int:
    """Work at a run that waits for its time, as its delayed message would make a worker do."""
    work(house.app, {"connection": NAME, "run": run})
    return 1
