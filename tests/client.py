"""A Graph client for tests: on the wire, with samples for answers, a clock and a budget of its own."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import responses

from sync.graph.budget import Budget, BudgetState
from sync.graph.client import BatchRequest, GraphClient
from tests.clock import Clock

GRAPH = "https://graph.microsoft.com"
SAMPLES = Path(__file__).parent / "samples" / "graph"


class Record:
    """A budget store of the tests."""

    def __init__(self) -> None:
        self.state = BudgetState()
        self.version = 0

    def load(self) -> tuple[BudgetState, str | None]:
        return self.state, str(self.version)

    def save(self, state: BudgetState, etag: str | None) -> bool:
        if etag != str(self.version):
            return False
        self.state, self.version = state, self.version + 1
        return True


class Tokens:
    def __init__(self) -> None:
        self.issued = 1

    def __call__(self, *, fresh: bool = False) -> str:
        self.issued += fresh
        return f"token-{self.issued}"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def record() -> Record:
    return Record()


@pytest.fixture
def graph(clock: Clock, tokens: Tokens, record: Record) -> Iterator[GraphClient]:
    with_clock = GraphClient(
        endpoint=GRAPH,
        token=tokens,
        budget=Budget(record, clock=clock, sleep=clock.sleep),
        clock=clock,
        sleep=clock.sleep,
        jitter=lambda: 0.5,
    )
    yield with_clock
    with_clock.close()


@pytest.fixture
def wire() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(registry=responses.registries.OrderedRegistry) as mock:
        yield mock


def answer(wire: responses.RequestsMock, name: str, url: str = f"{GRAPH}/v1.0/users", method: str = "GET") -> None:
    """The next answer is the sample's."""
    raw = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    fields = {key: value for key, value in raw["headers"].items() if key != "Content-Type"}
    wire.add(method, url, json=raw["body"], status=raw["status"], headers=fields)


def batch_items(wire: responses.RequestsMock, *items: dict[str, Any], **answer: Any) -> None:
    wire.post(f"{GRAPH}/v1.0/$batch", json={"responses": list(items)}, **answer)


def sent_ids(call: Any) -> list[str]:
    return [item["id"] for item in json.loads(call.request.body)["requests"]]


def photos(*ids: str) -> list[BatchRequest]:
    return [BatchRequest(id_, "GET", f"/users/{id_}/photo") for id_ in ids]
