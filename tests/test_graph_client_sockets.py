"""The Graph client over real sockets: torn answers, and the simulated cloud."""

import base64
import gzip
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from sync.errors import CursorExpired, Forbidden, NotFound
from sync.graph.budget import Budget
from sync.graph.client import BatchRequest, GraphClient, Page, Usage
from sync.graph.signin import ClientSecret, SignIn
from tests.client import Record, clock, record, tokens
from tests.cloud import TestTenant

__all__ = ["clock", "record", "tokens"]


class Sockets:
    """A server that plays one raw answer per connection: bytes, or None for a reset."""

    def __init__(self, *answers: bytes | None) -> None:
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for answer in self._answers:
            connection, _ = self._listener.accept()
            with connection:
                connection.recv(65536)
                if answer is None:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    connection.sendall(answer)

    def close(self) -> None:
        self._thread.join(timeout=60)
        self._listener.close()


def raw(body: bytes, *fields: str, length: int | None = None) -> bytes:
    head = [
        "HTTP/1.1 200 OK",
        f"Content-Length: {len(body) if length is None else length}",
        "Connection: close",
        *fields,
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


class TestSockets:
    def test_resets_torn_and_packed_answers(self, tokens, record, clock):
        whole = json.dumps({"value": [{"id": str(number)} for number in range(999)]}).encode()
        packed = gzip.compress(whole)
        server = Sockets(
            None,
            b"",
            raw(whole[:-100], length=len(whole)),
            raw(whole[:-100]),
            raw(packed[:-100], "Content-Encoding: gzip"),
            raw(b"no gzip", "Content-Encoding: gzip"),
            raw(packed, "Content-Encoding: gzip"),
        )
        graph = GraphClient(
            endpoint=server.url,
            token=tokens,
            budget=Budget(record, clock=clock, sleep=clock.sleep),
            clock=clock,
            sleep=clock.sleep,
        )

        page = graph.page("/users")

        assert len(page.items) == 999
        assert graph.usage == Usage(requests=7, retried=6)
        graph.close()
        server.close()


Connect = Callable[..., GraphClient]


@pytest.fixture
def connect(tenant: TestTenant, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Makes clients of the simulated tenant on the real clock."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", tenant.cloud.ca)
    credential = ClientSecret(tenant.secret)
    scope = f"{tenant.cloud.graph}/.default"
    sign_in = SignIn(authority=tenant.authority, client_id=tenant.client_id, credential=credential, scope=scope)
    record = Record()
    made: list[GraphClient] = []

    def now() -> datetime:
        return datetime.now(UTC)

    def make(**more: Any) -> GraphClient:
        budget = Budget(record, clock=now)
        made.append(GraphClient(endpoint=tenant.cloud.graph, token=sign_in.token, budget=budget, clock=now, **more))
        return made[-1]

    yield make
    for client in made:
        client.close()


def listing(graph: GraphClient, page: Page) -> Iterator[dict[str, Any]]:
    yield from page.items
    while page.next_link:
        page = graph.page(page.next_link)
        yield from page.items


def photo_requests(tenant: TestTenant) -> list[BatchRequest]:
    users = tenant.control.get("users", state="live")
    return [BatchRequest(user["id"], "GET", f"/users/{user['id']}/photos/48x48/$value") for user in users]


def fetch(graph: GraphClient, items: list[BatchRequest], threads: int) -> dict[str, Any]:
    """Every item's answer, batches of 20 at a time from several threads."""
    batches = [items[start : start + 20] for start in range(0, len(items), 20)]
    with ThreadPoolExecutor(threads) as pool:
        return {id_: answer for answers in pool.map(graph.batch, batches) for id_, answer in answers.items()}


def check_photos(tenant: TestTenant, answers: dict[str, Any]) -> None:
    users = tenant.control.get("users", state="live")
    assert set(answers) == {user["id"] for user in users}
    for user in users:
        answer = answers[user["id"]]
        if user["photo"] is None:
            assert answer.status == 404
        else:
            expected = tenant.control.get(f"users/{user['id']}/photo", size="48x48")
            assert base64.b64decode(answer.body) == expected


class TestSimulatedGraph:
    """Over TLS, against tests nobody wrote for this client."""

    def test_a_listing(self, connect, tenant):
        graph = connect()

        users = list(listing(graph, graph.page("/users", params={"$select": "id", "$top": "7"})))

        assert {user["id"] for user in users} == {user["id"] for user in tenant.control.get("users", state="live")}
        assert graph.usage == Usage(requests=5)
        assert tenant.control.get("counters")["graph"]["requests"] == 5

    def test_a_delta_round_and_its_changes(self, connect, tenant):
        graph = connect()
        start = graph.page("/users/delta", params={"$deltatoken": "latest", "$select": "displayName"})
        changed = tenant.control.get("users", state="live")[0]["id"]
        tenant.control.patch(f"users/{changed}", {"displayName": "Changed"})

        changes = graph.page(start.delta_link)

        assert start.items == []
        assert [(user["id"], user["displayName"]) for user in changes.items] == [(changed, "Changed")]
        assert changes.delta_link

    @pytest.mark.parametrize("how", ["gone", "syncStateNotFound", "syncStateInvalid", "resyncRequired"])
    def test_a_delta_link_that_has_expired(self, connect, tenant, how):
        graph = connect()
        start = graph.page("/users/delta", params={"$deltatoken": "latest"})
        tenant.control.post("faults", {"expiredDelta": how})
        tenant.control.post("expire", {"delta": True})

        with pytest.raises(CursorExpired):
            graph.page(start.delta_link)

    @pytest.mark.parametrize("code", ["Directory_ExpiredPageToken", "DirectoryPageTokenNotFoundException"])
    def test_a_page_link_that_has_expired(self, connect, tenant, code):
        graph = connect()
        first = graph.page("/users", params={"$top": "7"})
        tenant.control.post("expire", {"pages": code})

        with pytest.raises(CursorExpired) as expired:
            graph.page(first.next_link)

        assert expired.value.graph_code == code

    def test_what_is_not_there(self, connect):
        with pytest.raises(NotFound):
            connect().get("/users/00000000-0000-4000-8000-000000000000")

    def test_what_the_app_may_not_read(self, connect, tenant):
        tenant.control.patch(f"apps/{tenant.client_id}", {"roles": []})

        with pytest.raises(Forbidden):
            connect().get("/users")

    def test_a_token_that_has_expired_is_renewed(self, connect, tenant):
        graph = connect()
        graph.page("/users")
        tenant.control.post("clock", {"advanceSeconds": 2 * 3600})

        graph.page("/users")

        assert tenant.control.get("counters")["tokens"] == 2

    def test_photos_in_batches(self, connect, tenant):
        graph = connect()

        check_photos(tenant, fetch(graph, photo_requests(tenant), 2))
        assert graph.usage == Usage(requests=2, batched=30)

    @pytest.mark.parametrize("style", ["seconds", "decimal", "date", "absent"])
    def test_nothing_is_lost_and_nothing_comes_too_early_under_faults(self, connect, tenant, style):
        rates = {"rate429": 0.1, "rate503": 0.1, "rateReset": 0.1, "rateBatchItem": 0.1}
        seconds = 0.05 if style == "decimal" else 1
        tenant.control.post("faults", {**rates, "retryAfter": {"style": style, "seconds": seconds}, "seed": 7})
        graph = connect()

        users = list(listing(graph, graph.page("/users", params={"$select": "id", "$top": "10"})))
        answers = fetch(graph, photo_requests(tenant), 2)

        counters = tenant.control.get("counters")["graph"]
        tenant.control.post("faults", {})
        assert len(users) == 30
        check_photos(tenant, answers)
        assert counters["faulted"] > 0
        assert counters["retryViolations"] == 0
        assert counters["requests"] == graph.usage.requests
