"""The Graph client: on the wire case by case, then over real sockets against the simulated cloud."""

import base64
import gzip
import json
import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import responses

from sync.errors import CursorExpired, Deferred, Forbidden, GraphError, NotFound, SignInError
from sync.graph import client as client_module
from sync.graph.budget import Budget, BudgetState
from sync.graph.client import MAX_ATTEMPTS, BatchRequest, GraphClient, Page, Usage
from sync.graph.signin import ClientSecret, SignIn
from tests.cloud import TestTenant

GRAPH = "https://graph.microsoft.com"
SAMPLES = Path(__file__).parent / "samples" / "graph"
START = datetime(2026, 4, 11, 19, 2, 2, tzinfo=UTC)


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


class Clock:
    def __init__(self) -> None:
        self.now = START
        self.slept: list[float] = []

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.now += timedelta(seconds=seconds)


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


class TestRequests:
    def test_a_get_names_itself_and_carries_the_token(self, graph, wire):
        wire.get(f"{GRAPH}/v1.0/organization", json={"value": []})

        body = graph.get("/organization", params={"$select": "id"}, headers={"ConsistencyLevel": "eventual"})

        sent = wire.calls[0].request
        assert body == {"value": []}
        assert sent.url == f"{GRAPH}/v1.0/organization?%24select=id"
        assert sent.headers["Authorization"] == "Bearer token-1"
        assert sent.headers["ConsistencyLevel"] == "eventual"
        assert sent.headers["User-Agent"] == "Tenantsync"
        assert "gzip" in sent.headers["Accept-Encoding"]
        assert len(sent.headers["client-request-id"]) == 36

    def test_every_attempt_has_a_request_id_of_its_own(self, graph, wire):
        answer(wire, "throttled")
        answer(wire, "users-page")

        graph.page("/users")

        ids = {call.request.headers["client-request-id"] for call in wire.calls}
        assert len(ids) == 2

    def test_timeouts_are_set_and_redirects_are_not_followed(self, graph, wire):
        wire.get(f"{GRAPH}/v1.0/users", status=302, headers={"Location": "https://evil.example/"})

        with pytest.raises(GraphError) as refused:
            graph.get("/users")

        assert refused.value.http == 302
        assert wire.calls[0].request.req_kwargs["timeout"] == (5, 60)
        assert len(wire.calls) == 1

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("forbidden", Forbidden),
            ("mailbox-not-found", NotFound),
            ("delta-gone", CursorExpired),
            ("page-token-not-found", CursorExpired),
            ("unsupported-query", GraphError),
        ],
    )
    def test_refusals_are_typed_and_not_tried_again(self, graph, wire, name, kind):
        answer(wire, name)

        with pytest.raises(GraphError) as refused:
            graph.page("/users")

        assert type(refused.value) is kind
        assert graph.usage == Usage(requests=1)

    def test_an_answer_that_is_too_large_is_not_read(self, graph, wire, monkeypatch):
        monkeypatch.setattr(client_module, "MAX_BODY", 100_000)
        wire.get(f"{GRAPH}/v1.0/users", body=b" " * 100_001)

        with pytest.raises(GraphError) as refused:
            graph.get("/users")

        assert refused.value.code == "answer-too-large"

    def test_a_netrc_file_does_not_replace_the_token(self, graph, wire, tmp_path, monkeypatch):
        netrc = tmp_path / "netrc"
        netrc.write_text("default login someone password else\n", encoding="ascii")
        monkeypatch.setenv("NETRC", str(netrc))
        wire.get(f"{GRAPH}/v1.0/organization", json={})

        graph.get("/organization")

        assert wire.calls[0].request.headers["Authorization"] == "Bearer token-1"


class TestPages:
    def test_a_listing_is_followed_by_its_links_unchanged(self, graph, wire):
        answer(wire, "users-page")
        answer(wire, "users-page-empty")
        answer(wire, "users-delta-last")
        headers = {"Prefer": "return=minimal"}

        first = graph.page("/users", params={"$top": "2"}, headers=headers)
        second = graph.page(first.next_link, headers=headers)
        third = graph.page(second.next_link, headers=headers)

        assert [len(page.items) for page in (first, second, third)] == [2, 0, 2]
        assert (third.next_link, third.delta_link is not None) == (None, True)
        assert wire.calls[1].request.url == first.next_link
        assert {call.request.headers["Prefer"] for call in wire.calls} == {"return=minimal"}

    @pytest.mark.parametrize(
        "link",
        [
            "https://evil.example/v1.0/users?$skiptoken=x",
            "http://graph.microsoft.com/v1.0/users?$skiptoken=x",
            "https://evil.example\\@graph.microsoft.com/v1.0/users",
            "users?$skiptoken=x",
        ],
    )
    def test_a_link_to_somewhere_else_gets_no_token(self, graph, wire, link):
        with pytest.raises(GraphError) as refused:
            graph.page(link)

        assert refused.value.code == "foreign-link"
        assert len(wire.calls) == 0

    @pytest.mark.parametrize(
        "fault",
        [
            requests.ConnectionError(ConnectionResetError(104, "Connection reset by peer")),
            requests.ReadTimeout(),
            requests.exceptions.ChunkedEncodingError(),
            b"<html><title>Please sign in</title></html>",
            b'{"value": [{"id": "1"}, {"id',
            b'{"value": null}',
        ],
    )
    def test_a_torn_answer_is_read_again_and_never_the_end_of_the_list(self, graph, wire, clock, fault):
        wire.get(f"{GRAPH}/v1.0/users", body=fault)
        answer(wire, "users-page")

        page = graph.page("/users")

        assert len(page.items) == 2
        assert clock.slept == [0.5]
        assert graph.usage == Usage(requests=2, retried=1)


class TestRetries:
    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 509])
    def test_transient_refusals_are_tried_again(self, graph, wire, clock, status):
        wire.get(f"{GRAPH}/v1.0/users", status=status, body="<html>")
        answer(wire, "users-page")

        graph.page("/users")

        assert clock.slept == [0.5]
        assert graph.usage == Usage(requests=2, retried=1, throttled=int(status == 429))

    @pytest.mark.parametrize(
        ("retry_after", "seconds"),
        [("4", 4.0), ("2.128", 2.128), ("Sat, 11 Apr 2026 19:02:12 GMT", 10.0), ("30", 30.0)],
    )
    def test_the_wait_is_as_long_as_asked(self, graph, wire, clock, retry_after, seconds):
        wire.get(f"{GRAPH}/v1.0/users", status=429, headers={"Retry-After": retry_after})
        answer(wire, "users-page")

        graph.page("/users")

        assert clock.now == START + timedelta(seconds=seconds)

    @pytest.mark.parametrize("status", [429, 503])
    def test_a_longer_one_is_deferred(self, graph, wire, clock, status):
        wire.get(f"{GRAPH}/v1.0/users", status=status, headers={"Retry-After": "300"})

        with pytest.raises(Deferred) as deferred:
            graph.page("/users")

        assert deferred.value.until == START + timedelta(seconds=300)
        assert deferred.value.throttled == (status == 429)
        assert clock.slept == []

    @pytest.mark.parametrize(("left", "patience"), [(3, 5), (20, 20), (240, 60)])
    def test_who_is_in_a_hurry_waits_for_no_slow_answer(self, tokens, record, wire, clock, left, patience):
        """An answer is waited for until the deadline, but for five seconds at least and a minute at most."""
        client = GraphClient(
            endpoint=GRAPH,
            token=tokens,
            budget=Budget(record, clock=clock, sleep=clock.sleep),
            clock=clock,
            deadline=START + timedelta(seconds=left),
        )
        answer(wire, "users-page-empty")

        client.page("/users")

        assert wire.calls[0].request.req_kwargs["timeout"] == (5, patience)
        client.close()

    def test_nothing_is_slept_past_the_deadline(self, tokens, record, wire, clock):
        graph = GraphClient(
            endpoint=GRAPH,
            token=tokens,
            budget=Budget(record, clock=clock, sleep=clock.sleep),
            clock=clock,
            sleep=clock.sleep,
            deadline=START + timedelta(seconds=3),
        )
        wire.get(f"{GRAPH}/v1.0/users", status=429, headers={"Retry-After": "4"})

        with pytest.raises(Deferred) as deferred:
            graph.page("/users")

        assert (deferred.value.until, clock.slept) == (START + timedelta(seconds=4), [])

    def test_a_fault_that_stays_is_deferred_after_a_bounded_number_of_attempts(self, graph, wire, clock):
        for _ in range(MAX_ATTEMPTS):
            wire.get(f"{GRAPH}/v1.0/users", status=500)

        with pytest.raises(Deferred) as deferred:
            graph.page("/users")

        assert clock.slept == [0.5, 1, 2, 4, 8, 10, 10, 10, 10]
        assert deferred.value.until == clock.now + timedelta(seconds=60)
        assert not deferred.value.throttled
        assert graph.usage == Usage(requests=10, retried=9)

    def test_a_retry_after_keeps_the_other_clients_of_the_tenant_waiting(self, graph, tokens, record, wire, clock):
        wire.get(f"{GRAPH}/v1.0/users", status=429, headers={"Retry-After": "40"})
        neighbour = GraphClient(
            endpoint=GRAPH, token=tokens, budget=Budget(record, clock=clock, sleep=clock.sleep), clock=clock
        )
        with pytest.raises(Deferred):
            graph.page("/users")

        with pytest.raises(Deferred) as deferred:
            neighbour.page("/users")

        assert deferred.value.until == START + timedelta(seconds=40)
        assert len(wire.calls) == 1


class TestTokens:
    def test_a_refused_token_is_replaced_once(self, graph, wire):
        answer(wire, "unauthorized")
        answer(wire, "users-page")

        graph.page("/users")

        assert [call.request.headers["Authorization"] for call in wire.calls] == ["Bearer token-1", "Bearer token-2"]

    def test_a_fresh_token_that_is_refused_too_is_an_error_for_a_person(self, graph, wire):
        answer(wire, "unauthorized")
        answer(wire, "unauthorized")

        with pytest.raises(SignInError) as refused:
            graph.page("/users")

        assert refused.value.code == "graph-token-refused"
        assert not refused.value.expired
        assert graph.usage.requests == 2

    def test_threads_with_the_same_refused_token_fetch_one_fresh_token(self, graph, tokens):
        barrier = threading.Barrier(4, timeout=60)

        def refuse_the_first_token(request):
            if request.headers["Authorization"] == "Bearer token-1":
                barrier.wait()
                return 401, {}, "{}"
            return 200, {}, '{"value": []}'

        with responses.RequestsMock() as wire, ThreadPoolExecutor(4) as pool:
            wire.add_callback("GET", f"{GRAPH}/v1.0/users", refuse_the_first_token)
            pages = [future.result() for future in [pool.submit(graph.page, "/users") for _ in range(4)]]

        assert pages == [Page([], None, None)] * 4
        assert tokens.issued == 2


class TestBatch:
    def test_nothing_to_ask_costs_nothing(self, graph, wire):
        assert graph.batch([]) == {}
        assert graph.usage.counts() == {"requests": 0, "batched": 0, "throttled": 0, "retried": 0}

    def test_answers_come_back_by_id_whatever_their_order_and_letter_case(self, graph, wire):
        batch_items(
            wire,
            {"id": "b", "status": 404, "body": {"error": {"code": "ImageNotFound"}}},
            {"id": "A", "status": 200, "headers": {"ETag": '"1"'}, "body": "/9j/"},
        )

        answers = graph.batch(photos("a", "B"))

        assert {id_: (each.status, each.headers.get("etag")) for id_, each in answers.items()} == {
            "a": (200, '"1"'),
            "B": (404, None),
        }
        assert json.loads(wire.calls[0].request.body) == {
            "requests": [
                {"id": "a", "method": "GET", "url": "/users/a/photo"},
                {"id": "B", "method": "GET", "url": "/users/B/photo"},
            ]
        }
        assert graph.usage == Usage(requests=1, batched=2)

    def test_only_what_was_throttled_is_sent_again_after_the_largest_retry_after(self, graph, wire, clock):
        ids = [f"u{number}" for number in range(20)]
        waits = {"u3": "2", "u7": "11.5", "u12": "Sat, 11 Apr 2026 19:02:05 GMT"}
        batch_items(
            wire,
            *(
                {"id": id_, "status": 429, "headers": {"Retry-After": waits[id_]}}
                if id_ in waits
                else {"id": id_, "status": 200}
                for id_ in ids
            ),
        )
        batch_items(wire, *({"id": id_, "status": 200, "body": "again"} for id_ in waits))

        answers = graph.batch(photos(*ids))

        assert list(waits) == sent_ids(wire.calls[1])
        assert clock.now == START + timedelta(seconds=11.5)
        assert {id_ for id_, each in answers.items() if each.body == "again"} == set(waits)
        assert len(answers) == 20
        assert graph.usage == Usage(requests=2, batched=23, throttled=3, retried=3)

    @pytest.mark.parametrize("status", [500, 502, 503, 504, 509])
    def test_items_that_failed_and_items_that_are_missing_are_sent_again(self, graph, wire, clock, status):
        batch_items(wire, {"id": "a", "status": status}, {"id": "b", "status": 200})
        batch_items(wire, {"id": "a", "status": 200}, {"id": "c", "status": 404})

        answers = graph.batch(photos("a", "b", "c"))

        assert {id_: each.status for id_, each in answers.items()} == {"a": 200, "b": 200, "c": 404}
        assert sent_ids(wire.calls[1]) == ["a", "c"]
        assert clock.slept == [0.5]

    def test_a_batch_that_is_reset_or_refused_as_a_whole_is_sent_again_whole(self, graph, wire, clock):
        wire.post(f"{GRAPH}/v1.0/$batch", body=requests.ConnectionError())
        wire.post(f"{GRAPH}/v1.0/$batch", status=429, headers={"Retry-After": "7"})
        wire.post(f"{GRAPH}/v1.0/$batch", body=b'{"responses": [{"id": "a", "st')
        batch_items(wire, {"id": "a", "status": 200}, {"id": "b", "status": 200})

        assert len(graph.batch(photos("a", "b"))) == 2
        assert [sent_ids(call) for call in wire.calls] == [["a", "b"]] * 4
        assert graph.usage == Usage(requests=4, batched=2, throttled=1, retried=3)

    def test_an_item_that_stays_throttled_is_deferred(self, graph, wire, clock):
        batch_items(wire, {"id": "a", "status": 200}, {"id": "b", "status": 429, "headers": {"Retry-After": "120"}})

        with pytest.raises(Deferred) as deferred:
            graph.batch(photos("a", "b"))

        assert (deferred.value.until, deferred.value.throttled) == (START + timedelta(seconds=120), True)

    def test_an_item_that_keeps_failing_is_deferred_after_a_bounded_number_of_attempts(self, graph, wire):
        for _ in range(MAX_ATTEMPTS):
            batch_items(wire, {"id": "a", "status": 503})

        with pytest.raises(Deferred) as deferred:
            graph.batch(photos("a"))

        assert not deferred.value.throttled
        assert graph.usage.requests == MAX_ATTEMPTS

    @pytest.mark.parametrize("ids", [[str(number) for number in range(21)], ["a", "A"]])
    def test_a_batch_that_graph_would_refuse_is_not_sent(self, graph, wire, ids):
        with pytest.raises(ValueError, match="at most 20"):
            graph.batch(photos(*ids))

        assert len(wire.calls) == 0


class TestSecrets:
    def test_neither_errors_nor_logs_hold_the_token_or_an_id(self, graph, wire, caplog):
        caplog.set_level(logging.DEBUG)
        person = "ann.lee@contoso.com"
        wire.get(f"{GRAPH}/v1.0/users/{person}", body=requests.ConnectionError(f"{GRAPH}/v1.0/users/{person}?token-1"))
        answer(wire, "mailbox-not-found", f"{GRAPH}/v1.0/users/{person}")

        with pytest.raises(NotFound) as refused:
            graph.get(f"/users/{person}", params={"$select": "mail"})

        told = f"{refused.value!r} {refused.value.remedy} {refused.value.__cause__} {caplog.text}"
        assert "token-1" not in told
        assert person not in told
        assert "$select" not in told
        lines = [record.getMessage() for record in caplog.records if record.name == "sync.graph.client"]
        assert lines == [
            "GET /v1.0/users/{id} ConnectionError",
            "GET /v1.0/users/{id} 404 5f9f7c3e-0000-4000-8000-000000000008",
        ]

    def test_a_fault_that_stays_does_not_tell_the_address(self, graph, wire):
        for _ in range(MAX_ATTEMPTS):
            wire.get(f"{GRAPH}/v1.0/users/ann", body=requests.ConnectionError("/v1.0/users/ann"))

        with pytest.raises(Deferred) as deferred:
            graph.get("/users/ann")

        assert "ann" not in f"{deferred.value!r}{deferred.value.__cause__}{deferred.value.__context__}"


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
