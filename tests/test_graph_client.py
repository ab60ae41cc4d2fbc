"""The Graph client on the wire, case by case: requests, pages, retries, tokens, and what is never told."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import requests
import responses

from sync.errors import CursorExpired, Deferred, Forbidden, GraphError, NotFound, SignInError
from sync.graph import client as client_module
from sync.graph.budget import Budget
from sync.graph.client import MAX_ATTEMPTS, GraphClient, Page, Usage
from tests.client import GRAPH, answer, clock, graph, record, tokens, wire
from tests.clock import START

__all__ = ["clock", "graph", "record", "tokens", "wire"]


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

    @pytest.mark.parametrize("method", ["PATCH", "DELETE"])
    def test_a_change_need_not_be_answered(self, graph, wire, method):
        wire.add(method, f"{GRAPH}/v1.0/subscriptions/a", status=200, body="")

        assert graph.write(method, "/subscriptions/a") == {}
        assert len(wire.calls) == 1

    def test_what_is_created_is_told_of(self, graph, wire):
        wire.post(f"{GRAPH}/v1.0/subscriptions", status=201, body="")
        wire.post(f"{GRAPH}/v1.0/subscriptions", status=201, json={"id": "a"})

        assert graph.write("POST", "/subscriptions") == {"id": "a"}

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
