"""What the tests of the users sync share: small pages, what Graph does to them, and what a run says of it."""

from collections.abc import Callable
from typing import Any

import pytest

from sync import collection, mirror
from sync.graph.client import GraphClient, Page
from tests.cloud import TestTenant
from tests.house import House


def log(house: House, name: str, run: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The lines of a run's log: outcome, reason and id."""
    lines = house.get(f"connections/{name}/runs/{run['id']}/log?top=1000")["items"]
    return sorted((line["outcome"], line["reason"], line["id"]) for line in lines)


def requests(tenant: TestTenant) -> int:
    return int(tenant.control.get("counters")["graph"]["requests"])


def first(tenant: TestTenant, **wanted: Any) -> str:
    """The id of the first live user with these properties."""
    users = tenant.control.get("users", state="live")
    return str(next(user["id"] for user in users if all(user.get(key) == value for key, value in wanted.items())))


def paged(monkeypatch: pytest.MonkeyPatch, page: int, writes: int = 96) -> None:
    """Small pages and transactions, so that few users fill several."""
    monkeypatch.setattr(collection, "PAGE", page)
    monkeypatch.setattr(mirror, "WRITES", writes)
    monkeypatch.setattr(mirror, "DELETIONS", max(writes // 3, 1))


def change_pages(monkeypatch: pytest.MonkeyPatch, change: Callable[[Page], Page]) -> None:
    """Every page that Graph gives goes through `change`: for what the simulated Graph does not do."""
    plain = GraphClient.page
    monkeypatch.setattr(GraphClient, "page", lambda *args, **options: change(plain(*args, **options)))


def expire_pages(
    monkeypatch: pytest.MonkeyPatch, tenant: TestTenant, on: set[int], code: str = "Directory_ExpiredPageToken"
) -> None:
    """Let every link that was handed out so far expire before these of the calls for a page, counted from 1."""
    plain = GraphClient.page
    calls = 0

    def page(*args: Any, **options: Any) -> Page:
        nonlocal calls
        calls += 1
        if calls in on:
            tenant.control.post("expire", {"delta": True, "pages": code})
        return plain(*args, **options)

    monkeypatch.setattr(GraphClient, "page", page)
