"""The Graph client on the wire: batches."""

import json
from datetime import timedelta

import pytest
import requests

from sync.errors import Deferred, Forbidden
from sync.graph.client import MAX_ATTEMPTS, BatchRequest, Usage
from tests.client import GRAPH, batch_items, clock, graph, photos, record, sent_ids, tokens, wire
from tests.clock import START

__all__ = ["clock", "graph", "record", "tokens", "wire"]


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

    def test_one_request_is_sent_by_itself(self, graph, wire):
        """Its refusal is an answer all the same, and a picture is base64 text as in a batch."""
        wire.get(f"{GRAPH}/v1.0/users/a/photo", status=404, json={"error": {"code": "ImageNotFound"}})
        wire.get(f"{GRAPH}/v1.0/users/b/photo", body=b"\xff\xd8\xff", content_type="image/jpeg", headers={"ETag": "1"})

        missing = graph.ask(BatchRequest("a", "GET", "/users/a/photo", {"Prefer": "p"}))
        [there] = [graph.ask(photo) for photo in photos("b")]

        assert (missing.status, missing.body) == (404, {"error": {"code": "ImageNotFound"}})
        assert (there.status, there.headers["etag"], there.body) == (200, "1", "/9j/")
        assert wire.calls[0].request.headers["Prefer"] == "p"
        assert graph.usage == Usage(requests=2)

    @pytest.mark.parametrize("status", [400, 404, 405, 501])
    def test_where_batches_are_refused_each_request_is_sent_by_itself(self, graph, wire, status):
        wire.post(f"{GRAPH}/v1.0/$batch", status=status, json={"error": {"code": "ResourceNotFound"}})
        wire.get(f"{GRAPH}/v1.0/users/a/photo", json={"id": "1x1"})
        wire.get(f"{GRAPH}/v1.0/users/b/photo", status=403)

        answers = graph.batch(photos("a", "b"))

        assert {id_: each.status for id_, each in answers.items()} == {"a": 200, "b": 403}

    def test_a_batch_that_is_forbidden_is_refused(self, graph, wire):
        wire.post(f"{GRAPH}/v1.0/$batch", status=403, json={"error": {"code": "Authorization_RequestDenied"}})

        with pytest.raises(Forbidden):
            graph.batch(photos("a", "b"))

    @pytest.mark.parametrize("ids", [["a"], ["a", "b"]])
    def test_who_has_little_patience_gets_the_answer_that_there_is(self, graph, wire, ids, clock):
        """After so many attempts, and at once where Graph asks for more than a worker sleeps."""
        if len(ids) > 1:
            for _ in range(2):
                batch_items(wire, *({"id": id_, "status": 503} for id_ in ids))
            batch_items(wire, *({"id": id_, "status": 429, "headers": {"Retry-After": "90"}} for id_ in ids))
        else:
            for _ in range(2):
                wire.get(f"{GRAPH}/v1.0/users/a/photo", status=503)
            limit = {"error": {"code": "ApplicationThrottled"}}
            wire.get(f"{GRAPH}/v1.0/users/a/photo", status=429, headers={"Retry-After": "90"}, json=limit)

        hasty = graph.brief(2)
        unwell, busy = (
            hasty.batch(photos(*ids)).values() if len(ids) > 1 else [hasty.ask(one) for one in photos(*ids)]
            for _ in range(2)
        )

        assert {each.status for each in unwell} == {503}
        assert {each.status for each in busy} == {429}
        assert clock.slept == [0.5]
        assert graph.usage.retried == len(ids)
