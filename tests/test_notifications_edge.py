"""What Graph posts: the handshake, bodies that it does not send, and what is decided about an item."""

import json
import logging
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.http import MAX_BODY
from sync.notifications import Notice, parse_notice, refusal
from sync.subscriptions import Sender, digest_of
from tests.edge import edge
from tests.house import House
from tests.notices import GRAPH, GUID, LIFECYCLE, NAME, dropped, post

__all__ = ["edge"]

SCRIPT = "<script>alert(1)</script>"


@pytest.mark.parametrize("path", [GRAPH, LIFECYCLE])
class TestHandshake:
    @pytest.mark.parametrize(
        "token",
        [
            "Validation: Testing client application reachability 7c2c",
            "a+b/c d%20é😀",
            SCRIPT,
            '{"body":"x","status":500}',
            "x" * 4096,
        ],
        ids=lambda token: token[:12],
    )
    @pytest.mark.parametrize("body", [b"", b"not JSON", b"[]"])
    def test_the_token_comes_back(self, edge: House, path: str, token: str, body: bytes) -> None:
        """The decoded token is the whole answer, as plain text that no browser takes for anything else, without a store."""
        answer = edge.call("POST", f"{path}?validationToken={token}", body, Content_Type="text/plain")

        assert (answer.status, answer.content.decode()) == (200, token)
        assert answer.headers["Content-Type"] == "text/plain"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"

    def test_a_token_that_is_too_long(self, edge: House, path: str) -> None:
        """What cannot come from Graph is refused and not repeated."""
        answer = edge.call("POST", f"{path}?validationToken={'x' * 4097}")

        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/validationToken")
        assert "xxx" not in answer.content.decode()


@pytest.mark.parametrize("path", [GRAPH, LIFECYCLE])
class TestBodies:
    """What is no set of notifications is refused; storage is asked about none of it."""

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            (b"", 400, "malformed-json"),
            (b"{", 400, "malformed-json"),
            (b"\xff\xfe", 400, "malformed-json"),
            (b'{"value":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}", 400, "malformed-json"),
            (b'{"value":' * 50_000 + b"1" + b"}" * 50_000, 400, "malformed-json"),
            (b'{"value":[' + b"9" * 100_000 + b"]}", 400, "malformed-json"),
            (b'{"value":["\\ud800"]}', 400, "malformed-json"),
            (b"[]", 422, "invalid-request"),
            (b"null", 422, "invalid-request"),
            (b"{}", 422, "invalid-request"),
            (b'{"value":null}', 422, "invalid-request"),
            (b'{"value":{}}', 422, "invalid-request"),
            (b'{"value":"<script>"}', 422, "invalid-request"),
            (b'{"value":[]}' + b" " * MAX_BODY, 413, "body-too-large"),
        ],
        ids=lambda value: repr(value[:16]) if isinstance(value, bytes) else str(value),
    )
    def test_hostile(self, edge: House, path: str, body: bytes, status: int, code: str) -> None:
        """Bytes that are not JSON are a 400, other JSON a 422, too much of it a 413; nothing is repeated."""
        answer = edge.call("POST", path, body)

        assert (answer.status, answer.json["code"]) == (status, code)
        assert "script" not in answer.content.decode()

    @pytest.mark.parametrize(
        "item",
        [
            *(None, 1, 1e999, "x", [], {}),
            {"clientState": None, "subscriptionId": GUID},
            {"clientState": 1, "subscriptionId": GUID},
            {"clientState": "", "subscriptionId": GUID},
            {"clientState": "x" * 129, "subscriptionId": GUID},
            {"clientState": "x", "subscriptionId": ["a"]},
            {"clientState": "x"},
        ],
    )
    def test_what_graph_does_not_send(
        self, edge: House, path: str, item: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Items of any other form are dropped and counted, however many, and the answer is still 202 without a body."""
        caplog.set_level(logging.INFO, "sync.notifications")
        raw = json.dumps({"value": [item] * 5000, "more": {"a": [1]}}).replace("Infinity", "1e999").encode()
        answer = edge.call("POST", path, raw)

        assert (answer.status, answer.content) == (202, b"")
        assert dropped(caplog) == ["unreadable:5000"]

    def test_nothing_at_all(self, edge: House, path: str) -> None:
        """No notification is well-formed too."""
        assert post(edge, path=path).status == 202

    def test_with_resource_data(self, edge: House, path: str, caplog: pytest.LogCaptureFixture) -> None:
        """Notifications with tokens of their own are not ours: no subscription asks for resource data."""
        caplog.set_level(logging.INFO, "sync.notifications")
        item = {"clientState": "x", "subscriptionId": GUID}
        answer = edge.call("POST", path, {"value": [item], "validationTokens": ["eyJhbGciOiJub25lIn0.e30."]})

        assert (answer.status, dropped(caplog)) == (202, ["unreadable:1"])

    def test_an_idempotency_key(self, edge: House, path: str) -> None:
        """Nobody without a key of the app can have a key remembered."""
        assert edge.call("POST", path, {"value": []}, Idempotency_Key="k").status == 202


ITEMS = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=140),
    lambda some: st.lists(some, max_size=4) | st.dictionaries(
        st.sampled_from(["clientState", "subscriptionId", "tenantId", "lifecycleEvent", "x"]), some, max_size=5
    ),
)  # fmt: skip


class TestDecisions:
    @given(item=ITEMS, kind=st.sampled_from(["notification", "lifecycle"]))
    def test_any_item(self, item: Any, kind: Any) -> None:
        """Whatever an item is, it is either read with both of its proofs or dropped."""
        notice = parse_notice(item, kind)

        if notice is not None:
            assert notice.digest == digest_of(item["clientState"])
            assert notice.subscription == item["subscriptionId"].lower()

    @pytest.mark.parametrize(
        ("event", "asked"),
        [("reauthorizationRequired", "renew"), ("subscriptionRemoved", "recreate"), ("missed", "")],
    )
    def test_lifecycle_events(self, event: str, asked: str) -> None:
        """Each lifecycle event asks for what Graph's documentation says; as a change notification it asks for nothing."""
        item = {"clientState": "x", "subscriptionId": GUID, "lifecycleEvent": event}

        assert cast("Notice", parse_notice(item, "lifecycle")).asked == asked
        assert cast("Notice", parse_notice(item, "notification")).asked == ""

    @pytest.mark.parametrize("event", [None, "", "Missed", "renew", [], 1])
    def test_other_lifecycle_events(self, event: Any) -> None:
        """An event that Graph does not have is dropped."""
        item = {"clientState": "x", "subscriptionId": GUID, "lifecycleEvent": event}

        assert parse_notice(item, "lifecycle") is None

    @pytest.mark.parametrize(
        ("sender", "reason"),
        [
            ({}, ""),
            ({"subscription": ""}, ""),
            ({"tenant": ""}, ""),
            ({"digest": "0" * 64}, "unknown-client-state"),
            ({"subscription": "other"}, "other-subscription"),
            ({"tenant": "other"}, "other-tenant"),
            ({"subscription": "", "tenant": "other"}, "other-tenant"),
        ],
    )
    def test_who_is_believed(self, sender: dict[str, str], reason: str) -> None:
        """clientState, subscription and tenant have to be those that are stored, as far as they are known."""
        notice = Notice(digest_of("x"), GUID, "tenant", "")
        known = {"digest": notice.digest, "subscription": GUID, "tenant": "tenant", **sender}

        assert refusal(notice, Sender(NAME, "room", **known)) == reason

    def test_nobody_is_believed(self) -> None:
        assert refusal(Notice(digest_of("x"), GUID, "", ""), None) == "unknown-client-state"
