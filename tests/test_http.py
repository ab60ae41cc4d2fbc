"""The HTTP edge: every malformed request is told apart, before anything is touched."""

import json
import re
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.errors import RequestError
from sync.http import MAX_BODY, Call, decode_cursor, encode_cursor, public_etag
from tests.edge import BODIES, CONNECTION, GUID, HINT, SECRET, edge, pointers, problem, two
from tests.house import House

__all__ = ["edge"]


class TestBodies:
    """What is no request body at all, for every call that takes one."""

    @pytest.mark.parametrize("call", BODIES)
    @pytest.mark.parametrize(
        "body",
        [
            b"{" + HINT.encode(),
            b'{"a":}',
            b"\xff\xfe",
            b'{"name":"\xff"}',
            b'{"name":"\\ud800"}',
            "{}".encode("utf-16"),
            b"\xef\xbb\xbf{}",
            b'{"name":"a"} x',
            b"{'name':1}",
            b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
            b"[" * 100_000,
            b'{"name":' + b"1" * 5_000 + b"}",
            b"NULL",
        ],
        ids=lambda body: repr(body[:12]),
    )
    def test_what_is_not_json(self, edge: House, call: str, body: bytes) -> None:
        """Bytes that are not JSON in UTF-8 are a 400, and nothing is repeated or done."""
        answer = edge.call(*two(call), body)

        assert "errors" not in problem(answer, 400, "malformed-json")
        assert HINT not in answer.content.decode()

    @pytest.mark.parametrize("call", [call for call in BODIES if not call.endswith("/runs")])
    @pytest.mark.parametrize("body", [b"", b"  \n"])
    def test_no_body(self, edge: House, call: str, body: bytes) -> None:
        """A body that is needed and empty is a 400."""
        problem(edge.call(*two(call), body), 400, "malformed-json")

    @pytest.mark.parametrize("call", BODIES)
    @pytest.mark.parametrize("body", [b"[]", b'"hunter2"', b"7", b"null", b"true", b'[{"name":"hunter2"}]'])
    def test_json_that_is_no_object(self, edge: House, call: str, body: bytes) -> None:
        """JSON that is not an object is a 422 that names the whole document."""
        assert pointers(edge.call(*two(call), body)) == [""]

    @pytest.mark.parametrize("call", BODIES)
    def test_unknown_fields(self, edge: House, call: str) -> None:
        """Fields that the contract does not know are named, in the form of a JSON pointer, beside valid ones."""
        unknown = {"status": HINT, "a/b~c": HINT, "": HINT, "é😀": {"deep": HINT}}
        answer = edge.call(*two(call), {**BODIES[call], **unknown})

        assert pointers(answer) == sorted(["/status", "/a~1b~0c", "/", "/é😀"])

    @pytest.mark.parametrize("call", [*BODIES, "POST connections/primary/check", "GET health"])
    def test_too_large(self, edge: House, call: str) -> None:
        """A byte over 1 MiB is a 413 for every call; a body of exactly 1 MiB is read."""
        over = edge.call(*two(call), b" " * (MAX_BODY + 1))
        problem(over, 413, "body-too-large")
        full = json.dumps({"type": "y" * (MAX_BODY - 12)}).encode()

        assert len(full) == MAX_BODY
        if call in BODIES:
            assert "/type" in pointers(edge.call(*two(call), full))


@pytest.mark.parametrize(
    ("call", "body", "expected"),
    [
        ("POST connections", {}, ["/clientId", "/credential", "/name", "/tenantId"]),
        (
            "POST connections",
            {
                "name": f"../{HINT}",
                "tenantId": "common",
                "clientId": HINT,
                "cloud": HINT,
                "timeZone": f"../{HINT}",
                "labels": {"ok": "x", "a/b": 7},
                "credential": {**SECRET, "secretValue": 7, "secretId": HINT, "expiresOn": HINT, "more": HINT},
                "id": HINT,
            },
            [
                "/clientId",
                "/cloud",
                "/credential/expiresOn",
                "/credential/more",
                "/credential/secretId",
                "/credential/secretValue",
                "/id",
                "/labels/a~1b",
                "/name",
                "/tenantId",
                "/timeZone",
            ],
        ),
        ("POST connections", {**CONNECTION, "tenantId": f"https://{HINT}.com"}, ["/tenantId"]),
        ("POST connections", {**CONNECTION, "name": f"{HINT} {HINT}"}, ["/name"]),
        ("POST connections", {**CONNECTION, "timeZone": "America/../x"}, ["/timeZone"]),
        ("POST connections", {**CONNECTION, "labels": {"k" * 65: HINT, "": HINT}}, ["/labels/", f"/labels/{'k' * 65}"]),
        ("POST connections", {**CONNECTION, "credential": HINT}, ["/credential"]),
        ("POST connections", {**CONNECTION, "credential": {}}, ["/credential/type"]),
        ("POST connections", {**CONNECTION, "credential": {"type": HINT}}, ["/credential/type"]),
        ("POST connections", {**CONNECTION, "credential": {"type": "certificate"}}, ["/credential"]),
        ("POST connections", {**CONNECTION, "credential": {"type": "certificate", "pem": HINT}}, ["/credential/pem"]),
        (
            "POST connections",
            {**CONNECTION, "credential": {"type": "managedIdentity", "clientId": HINT, "secretValue": HINT}},
            ["/credential/clientId", "/credential/secretValue"],
        ),
        (
            "POST connections",
            {**CONNECTION, "credential": {"type": "clientSecret", "clientSecret": HINT}},
            ["/credential/clientSecret", "/credential/secretValue"],
        ),
        ("PUT connections/primary/credential", {"type": "clientSecret"}, ["/secretValue"]),
        ("PUT connections/primary/credential", {"type": "certificate"}, [""]),
        ("PUT connections/primary/credential", {"secretValue": HINT}, ["/type"]),
        ("PUT connections/primary/credential", {**SECRET, "secretvalue": HINT}, ["/secretvalue"]),
        (
            "PATCH connections/primary",
            {"timeZone": 7, "labels": [], "tenantId": GUID},
            ["/labels", "/tenantId", "/timeZone"],
        ),
        ("PATCH connections/primary", {"name": "other", "credential": SECRET}, ["/credential", "/name"]),
        ("POST connections/primary/syncs/users/runs", {"mode": HINT, "dryRun": "yes"}, ["/dryRun", "/mode"]),
        ("POST connections/primary/syncs/users/runs", {"mode": "delta", "delta": 1}, ["/delta"]),
        (
            "PUT connections/primary/syncs/users",
            {"enabled": "true", "includeGuests": 1, "invite": HINT, "size": "240x240"},
            ["/enabled", "/includeGuests", "/invite", "/size"],
        ),
        ("PUT connections/primary/syncs/users", {"schedule": {"mode": HINT}}, ["/schedule/mode"]),
        (
            "PUT connections/primary/syncs/photos",
            {"size": "1x1", "schedule": {"mode": "daily", "at": "25:00", "timeZone": "../etc/passwd", "every": HINT}},
            ["/schedule/at", "/schedule/every", "/schedule/timeZone", "/size"],
        ),
        (
            "PUT connections/primary/syncs/users",
            {
                "schedule": {"mode": "interval", "every": "P9999D"},
                "deletionGuard": {"maxCount": "5", "maxPercent": 101},
            },
            ["/deletionGuard/maxCount", "/deletionGuard/maxPercent", "/schedule/every"],
        ),
        ("PUT connections/primary/syncs/users", {"schedule": {"mode": "manual", "manual": HINT}}, ["/schedule/manual"]),
        ("PUT connections/primary/syncs/contacts", {"enabled": True}, ["/groupId"]),
        (
            "PUT connections/primary/syncs/calendars",
            {"window": {"pastDays": -1, "futureDays": 0.5}},
            ["/window/futureDays", "/window/pastDays"],
        ),
    ],
)
def test_every_bad_field_at_once(edge: House, call: str, body: object, expected: list[str]) -> None:
    """A 422 names every bad field by JSON pointer and none that is good, repeats no value, and does nothing."""
    assert pointers(edge.call(*two(call), body)) == expected


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"name": ""}, "letters, digits, - or _"),
        ({"labels": {"": "x"}}, "must not be empty"),
        ({"labels": {"x": "y" * 300}}, "is too long"),
        ({"nonsense": 1}, "not a known field"),
        ({"credential": {"type": "x"}}, "must be one of 'clientSecret'"),
        ({"credential": {}}, "is required"),
        ({"cloud": "x"}, "must be one of 'global'"),
    ],
)
def test_reasons_are_words(edge: House, body: object, words: str) -> None:
    """A person can read why a field is refused: no regular expression, no name of a class."""
    details = [error["detail"] for error in edge.call("POST", "connections", body).json["errors"]]

    assert any(words in detail for detail in details)
    assert not any(re.search(r"\^|Model|In\b|pydantic", detail) for detail in details)


class TestQueries:
    @pytest.mark.parametrize(
        "path", ["connections", *(f"connections/primary/{name}" for name in ("runs", "runs/1/log", "users", "changes"))]
    )
    @pytest.mark.parametrize("top", ["0", "1001", "-1", "abc", "1.5", "", "1e2", "99999999999999999999", "hunter2"])
    def test_top(self, edge: House, path: str, top: str) -> None:
        """A page holds 1 to 1,000 items."""
        assert pointers(edge.call("GET", f"{path}?top={top}")) == ["/top"]

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("connections?limit=hunter2&top=0", ["/limit", "/top"]),
            (f"connections?cursor={'x' * 2001}", ["/cursor"]),
            ("connections/primary/users?state=hunter2&skip=hunter2", ["/skip", "/state"]),
            (f"connections/primary/users?search={HINT * 20}", ["/search"]),
            ("connections/primary/runs?status=hunter2", ["/status"]),
            ("connections/primary/runs/1/log?level=hunter2", ["/level"]),
            ("connections/primary/changes?cursor=hunter2", ["/cursor"]),
        ],
    )
    def test_other_parameters(self, edge: House, path: str, expected: list[str]) -> None:
        """Unknown and wrong parameters are named like fields; nothing is looked up."""
        assert pointers(edge.call("GET", path)) == expected

    def test_the_key_in_the_address(self, edge: House) -> None:
        """A function key as ?code= is neither unknown nor repeated."""
        answer = edge.call("GET", f"connections?code={HINT}&top=0")

        assert pointers(answer) == ["/top"]


HOSTILE_NAMES = [
    "x" * 64,
    "x" * 2000,
    "..",
    ".",
    "%2e%2e",
    "a%2Fb",
    "a b",
    "é",
    "a\0b",
    "x' or PartitionKey ne '",
    "~41",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize(
    "call", ["GET {}", "DELETE {}", "POST {}/check", "GET {}/users", "GET {}/runs/1", "GET {}/changes"]
)
def test_names_that_no_connection_can_have(edge: House, call: str, name: str) -> None:
    """An impossible name is not found, without asking any store, also with an Idempotency-Key."""
    method, path = two(call.format(f"connections/{name}"))
    answer = edge.call(method, path, Idempotency_Key="key")

    problem(answer, 404, "connection-not-found")


class TestCursors:
    @given(st.text())
    def test_round_trip(self, position: str) -> None:
        """A cursor gives back the position it was made from, and is safe in an address."""
        cursor = encode_cursor(position)

        assert decode_cursor(cursor, r"[\s\S]*") == position
        assert re.fullmatch(r"[A-Za-z0-9_-]*", cursor)

    @given(st.text(max_size=40))
    def test_any_text_is_a_cursor_or_a_422(self, text: str) -> None:
        """No text makes the decoder fail in another way."""
        try:
            position = decode_cursor(text, r"[0-9]+", "/after")
        except RequestError as refused:
            assert (refused.status, refused.code) == (422, "invalid-request")
            assert refused.fields == (("/after", "is not a cursor that this service gave out"),)
        else:
            assert position.isdigit()

    @pytest.mark.parametrize("cursor", ["", "!", "a", "YQ=", "é", encode_cursor("12x"), encode_cursor("12\n"), "__8"])
    def test_foreign_cursors(self, cursor: str) -> None:
        """A cursor must decode, to a position of the form that the list uses, whole."""
        with pytest.raises(RequestError):
            decode_cursor(cursor, r"[0-9]{2}")


@pytest.mark.parametrize(
    ("if_match", "matches"),
    [
        (None, True),
        ("*", True),
        (public_etag("v1"), True),
        (public_etag("v2"), False),
        ("v1", False),
        ("", False),
        (f"W/{public_etag('v1')}", False),
        (" * ", True),
        (f'"a,b" , {public_etag("v1")}', True),
        (f'{public_etag("v1")},"x"', True),
        (f'W/"x", {public_etag("v1")}', True),
        (f'"x", W/{public_etag("v1")}', False),
        ('"x", "*"', False),
        (f"{public_etag('v2')}, {public_etag('v3')}", False),
    ],
)
def test_if_match(if_match: str | None, matches: bool) -> None:
    """If-Match lets a write through where it is absent, a star, or names the very version, alone or among others; a weak
    one never matches.
    """
    call = Call("PATCH", {}, None, None, if_match, None, cast("Any", None))
    if matches:
        call.match("v1")
        return
    with pytest.raises(RequestError) as refused:
        call.match("v1")
    assert (refused.value.status, refused.value.code) == (412, "etag-mismatch")
