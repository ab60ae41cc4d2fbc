"""The HTTP edge: every malformed request is told apart, every answer has its headers, every key is used once."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import azure.functions as func
import pytest
from azure.core.exceptions import ServiceRequestError
from hypothesis import given
from hypothesis import strategies as st

from storage.tables import Conflict
from sync.api import OPERATIONS
from sync.errors import Deferred, RequestError, TenantsyncError
from sync.http import MAX_BODY, Call, Operation, Reply, decode_cursor, dump, encode_cursor, public_etag, respond
from sync.models import HealthOut
from sync.sync_settings import SETTINGS
from tests.cloud import NewTenant
from tests.house import Answer, Clock, House

HINT = "hunter2"  # stands wherever a request has a value; no answer may hold it
GUID = "1f4fe0a2-0d0f-4e1c-9d0c-6b1c1f0d7a11"
SECRET = {"type": "clientSecret", "secretValue": HINT}
CONNECTION = {"name": "primary", "tenantId": GUID, "clientId": GUID, "credential": SECRET}
BODIES: dict[str, dict[str, Any]] = {
    "POST connections": CONNECTION,
    "PATCH connections/primary": {"timeZone": "UTC"},
    "PUT connections/primary/credential": SECRET,
    "POST connections/primary/syncs/users/runs": {"mode": "full"},
    "PUT connections/primary/rooms/oak": {"displayName": "Oak", "externalCalendar": "oak@contoso.com"},
    "POST connections/primary/rooms/oak/reservations": {
        "title": "Planning",
        "start": {"dateTime": "2027-03-01T09:00", "timeZone": "UTC"},
        "end": {"dateTime": "2027-03-01T10:00", "timeZone": "UTC"},
    },
    "PATCH connections/primary/rooms/oak/reservations/r": {"title": "Planning"},
    **{f"PUT connections/primary/syncs/{sync}": {"enabled": False} for sync in SETTINGS},
}


@pytest.fixture(scope="module")
def edge() -> House:
    """The edge with nothing behind it: an answer other than a 500 shows that no store was touched."""
    return House(cast("Any", None), Clock(), cast("Any", None))


def two(call: str) -> tuple[str, str]:
    """The method and the path of a call."""
    method, path = call.split(" ", 1)
    return method, path


def problem(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """The problem document of an answer, which has all that RFC 9457 and the contract ask for."""
    document: dict[str, Any] = answer.json
    assert (answer.status, document["status"], document["code"]) == (status, status, code)
    assert document["type"] == f"urn:tenantsync:problem:{code}"
    assert document["title"]
    assert document["detail"]
    assert document["instance"].startswith("/api/")
    assert answer.headers["x-request-id"]
    return document


def pointers(answer: Answer) -> list[str]:
    """The fields that a 422 names; no value of the request is in it."""
    assert HINT not in answer.content.decode()
    document = problem(answer, 422, "invalid-request")
    assert all(error["detail"] for error in document["errors"])
    return sorted(error["pointer"] for error in document["errors"])


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
    ],
)
def test_if_match(if_match: str | None, matches: bool) -> None:
    """If-Match lets a write through where it is absent, a star, or the very version; a weak one never matches."""
    call = Call("PATCH", {}, None, None, if_match, None, cast("Any", None))
    if matches:
        call.match("v1")
        return
    with pytest.raises(RequestError) as refused:
        call.match("v1")
    assert (refused.value.status, refused.value.code) == (412, "etag-mismatch")


# --- what a handler may give back or raise ---------------------------------------------------------------------------


def ask(handler: Callable[[Call], Reply], **headers: str) -> Answer:
    """The answer of an operation made of `handler` alone."""
    operation = Operation("probe", "POST", "connections/{name}/probe", "Probe", handler, {200: None})
    request = func.HttpRequest(
        "POST",
        f"http://localhost/api/connections/primary/probe?code={HINT}",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        route_params={"name": "primary"},
        body=b"",
    )
    reply = respond(request, operation, lambda: cast("Any", None))
    return Answer(reply.status_code, dict(reply.headers), reply.get_body())


def fail(error: Exception) -> Callable[[Call], Reply]:
    def handler(_: Call) -> Reply:
        raise error

    return handler


@pytest.mark.parametrize(
    ("error", "status", "code", "headers"),
    [
        (RequestError("No", code="no-photo", status=404), 404, "no-photo", {}),
        (RequestError("No", headers={"Allow": "GET"}), 422, "invalid-request", {"Allow": "GET"}),
        (TenantsyncError("No"), 500, "internal-error", {}),
        (Deferred("Later", until=datetime(2026, 11, 22, tzinfo=UTC)), 503, "deferred", {"Retry-After": "30"}),
        (Conflict("UpdateConditionNotSatisfied"), 409, "conflict", {}),
        (ServiceRequestError(HINT), 503, "storage-unavailable", {"Retry-After": "30"}),
        (ValueError(HINT), 500, "internal-error", {}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_become_problems(error: Exception, status: int, code: str, headers: dict[str, str]) -> None:
    """Every error of a handler is a problem document with its code and headers, and tells nothing of its own text."""
    answer = ask(fail(error))

    document = problem(answer, status, code)
    assert document["instance"] == "/api/connections/primary/probe"
    assert HINT not in answer.content.decode()
    assert headers.items() <= answer.headers.items()


def test_an_unexpected_fault_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    """A bug gives the caller a request id, and the log the place under that id, but not what the exception says."""
    answer = ask(fail(ValueError(HINT)))

    request_id = answer.headers["x-request-id"]
    assert request_id in answer.json["remedy"]
    faults = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(faults) == 1
    assert f"unexpected ValueError request={request_id}" in faults[0]
    assert "in handler" in faults[0]
    assert HINT not in caplog.text


def test_extras_and_remedies_are_part_of_the_problem() -> None:
    """What an error adds, such as findings, stands beside the usual members."""
    error = RequestError("No", remedy="Do this.", extra={"findings": [{"id": "token"}]})

    document = ask(fail(error)).json

    assert (document["remedy"], document["findings"]) == ("Do this.", [{"id": "token"}])


@pytest.mark.parametrize("reply", [Reply(200, {"a": 1}, '"1"', {"Location": "/api/x"}), Reply(304), Reply(200, b"raw")])
def test_headers_of_every_answer(reply: Reply) -> None:
    """No answer is cached or sniffed, each has an id of its own, and an ETag only where there is one."""
    first, second = ask(lambda _: reply), ask(lambda _: reply)

    assert first.headers["Cache-Control"] == "no-store"
    assert first.headers["X-Content-Type-Options"] == "nosniff"
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert first.headers.get("ETag") == reply.etag
    assert reply.headers.items() <= first.headers.items()


def test_json_of_answers() -> None:
    """Models at any depth are camelCase, times are RFC 3339 in UTC, text stays as it is."""
    at = datetime(2026, 11, 22, 6, tzinfo=UTC)
    inner = HealthOut(status="ok", version="é😀")

    assert dump(inner) == '{"status":"ok","version":"é😀"}'.encode()
    assert json.loads(dump({"items": [inner], "at": at, "next": None})) == {
        "items": [{"status": "ok", "version": "é😀"}],
        "at": "2026-11-22T06:00:00Z",
        "next": None,
    }
    with pytest.raises(TypeError):
        dump({"what": object()})


class TestLogs:
    @pytest.fixture
    def lines(self, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
        caplog.set_level(logging.INFO, "sync.http")
        yield lambda: [record.getMessage() for record in caplog.records if record.name == "sync.http"]

    def test_a_request_is_one_line(self, lines: Callable[[], list[str]]) -> None:
        """The log ties the request id and the caller's trace to operation, connection and status."""
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        answer = ask(lambda _: Reply(204), traceparent=trace)

        expected = f"request operation=probe connection=primary status=204 request={answer.headers['x-request-id']}"
        assert lines() == [f"{expected} trace={trace}"]

    @pytest.mark.parametrize(
        "trace", ["", "x", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n", "00-\x1b[31m"]
    )
    def test_a_trace_that_is_none(self, lines: Callable[[], list[str]], trace: str) -> None:
        """A traceparent of another form leaves no trace in the log."""
        ask(lambda _: Reply(204), traceparent=trace)

        assert lines()[0].endswith(" trace=-")

    @pytest.mark.parametrize("name", ["a\nforged line", "\x1b[31mred", "x" * 64, HINT + "@contoso.com"])
    def test_a_name_that_is_none(self, edge: House, lines: Callable[[], list[str]], name: str) -> None:
        """What stands in the place of a name but is none does not reach the log."""
        edge.call("GET", f"connections/{name}")

        assert re.fullmatch(
            r"request operation=get_connection connection=\? status=404 request=[0-9a-f-]+ trace=-", lines()[0]
        )


# --- with everything behind it ---------------------------------------------------------------------------------------


@pytest.fixture
def connected(house: House, new_tenant: NewTenant) -> House:
    """A house with the connection `primary` whose users sync is enabled."""
    house.connect(new_tenant(), users={})
    return house


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("GET connections/other", "connection-not-found"),
        ("PATCH connections/other", "connection-not-found"),
        ("PUT connections/other/credential", "connection-not-found"),
        ("DELETE connections/other", "connection-not-found"),
        ("POST connections/other/check", "connection-not-found"),
        ("GET connections/Primary", "connection-not-found"),
        ("GET connections/other/syncs", "connection-not-found"),
        ("GET connections/other/syncs/users", "connection-not-found"),
        ("PUT connections/other/syncs/users", "connection-not-found"),
        ("GET connections/primary/syncs/nonsense", "sync-not-found"),
        ("PUT connections/primary/syncs/nonsense", "sync-not-found"),
        ("POST connections/primary/syncs/nonsense/runs", "sync-not-found"),
        ("POST connections/other/syncs/users/runs", "connection-not-found"),
        ("GET connections/other/runs", "connection-not-found"),
        ("GET connections/primary/runs/1", "run-not-found"),
        ("GET connections/other/runs/1", "connection-not-found"),
        ("GET connections/primary/runs/1/log", "run-not-found"),
        ("POST connections/primary/runs/1/cancel", "run-not-found"),
        ("GET connections/other/users", "connection-not-found"),
        ("GET connections/primary/users/1", "user-not-found"),
        (f"GET connections/primary/users/{'x' * 2000}", "user-not-found"),
        ("GET connections/primary/users/x'%20or%20PartitionKey%20ne%20'", "user-not-found"),
        ("GET connections/primary/users/1/photo", "user-not-found"),
        ("GET connections/other/changes", "connection-not-found"),
    ],
)
def test_what_is_not_there(connected: House, call: str, code: str) -> None:
    """Each kind of thing that is not there is a 404 with a code of its own."""
    method, path = two(call)
    known = next(
        (body for shape, body in BODIES.items() if path.replace("other", "primary") == shape.split(" ")[1]), {}
    )

    problem(connected.call(method, path, known if method != "GET" else None), 404, code)


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("connections?cursor={}", "/cursor"),
        ("connections/primary/runs?cursor={}", "/cursor"),
        ("connections/primary/runs/{run}/log?cursor={}", "/cursor"),
        ("connections/primary/runs/{run}/plan?cursor={}", "/cursor"),
        ("connections/primary/users?cursor={}", "/cursor"),
        ("connections/primary/devices?cursor={}", "/cursor"),
        ("connections/primary/contacts?cursor={}", "/cursor"),
        ("connections/primary/contact-groups?cursor={}", "/cursor"),
        ("connections/primary/changes?after={}", "/after"),
    ],
)
def test_cursors_that_are_not_ours(connected: House, path: str, pointer: str) -> None:
    """A cursor that this list did not give out is a 422, whatever it decodes to."""
    run = connected.start("primary", "users")
    for cursor in ("!", "hunter2", encode_cursor("active|users"), encode_cursor("user|a' or '"), encode_cursor("é")):
        answer = connected.call("GET", path.format(cursor, run=run))

        assert pointers(answer) == [pointer]


class TestIfMatch:
    @pytest.mark.parametrize(
        ("call", "body"),
        [
            ("PATCH connections/primary", {"labels": {"a": "b"}}),
            ("PUT connections/primary/credential", {"type": "clientSecret", "secretValue": "wrong"}),
            ("DELETE connections/primary", None),
            ("PUT connections/primary/syncs/users", {"enabled": False}),
        ],
    )
    def test_a_stale_version(self, connected: House, call: str, body: object) -> None:
        """A write that names another version than the present one is a 412 and changes nothing."""
        method, path = two(call)
        before = connected.get("connections/primary"), connected.get("connections/primary/syncs/users")

        answer = connected.call(method, path, body, If_Match='"0123456789abcdef0123"')

        problem(answer, 412, "etag-mismatch")
        assert (connected.get("connections/primary"), connected.get("connections/primary/syncs/users")) == before

    @pytest.mark.parametrize("path", ["connections/primary", "connections/primary/syncs/users"])
    def test_a_lost_update(self, connected: House, path: str) -> None:
        """Of two writers that read the same version, the second is told; the new version is in the first's answer."""
        method, body = ("PATCH", {"timeZone": "UTC"}) if path.endswith("primary") else ("PUT", {"enabled": False})
        etag = connected.call("GET", path).headers["ETag"]

        first = connected.call(method, path, body, If_Match=etag)
        second = connected.call(method, path, body, If_Match=etag)
        third = connected.call(method, path, body, If_Match=first.headers["ETag"])

        assert (first.status, second.status, third.status) == (200, 412, 200)
        assert connected.call("GET", path).headers["ETag"] == third.headers["ETag"]

    def test_settings_that_were_never_saved(self, connected: House) -> None:
        """Defaults have a version too: a first save may be made conditional on it."""
        path = "connections/primary/syncs/photos"
        etag = connected.call("GET", path).headers["ETag"]

        assert connected.call("PUT", path, {"enabled": False}, If_Match=etag).status == 200
        problem(connected.call("PUT", path, {"enabled": False}, If_Match=etag), 412, "etag-mismatch")

    def test_cancelling_a_run_that_moved_on(self, connected: House) -> None:
        """A run can be cancelled on condition that it is as it was seen."""
        run = f"connections/primary/runs/{connected.start('primary', 'users')}"
        etag = connected.call("GET", run).headers["ETag"]

        problem(connected.call("POST", f"{run}/cancel", If_Match='"other"'), 412, "etag-mismatch")
        assert connected.call("POST", f"{run}/cancel", If_Match=etag).json["status"] == "cancelled"
        problem(connected.call("POST", f"{run}/cancel"), 409, "run-finished")


class TestIdempotencyKeys:
    def test_the_same_request_twice(self, house: House, new_tenant: NewTenant) -> None:
        """A repeated request gets the first answer again, headers and all, and is done once."""
        tenant = new_tenant()
        body = {**CONNECTION, "tenantId": tenant.id, "clientId": tenant.client_id}

        first = house.call("POST", "connections", body, Idempotency_Key="create-1")
        second = house.call("POST", "connections", body, Idempotency_Key="create-1")

        assert (first.status, second.status) == (201, 201)
        assert (second.json, second.headers["Location"], second.headers["ETag"]) == (
            first.json,
            first.headers["Location"],
            first.headers["ETag"],
        )
        problem(house.call("POST", "connections", body, Idempotency_Key="create-2"), 409, "connection-exists")

    def test_another_body(self, connected: House) -> None:
        """A key that comes back with another body is refused."""
        path = "connections/primary/syncs/users/runs"
        connected.call("POST", path, {"mode": "delta"}, Idempotency_Key="k")

        answer = connected.call("POST", path, {"mode": "full"}, Idempotency_Key="k")

        problem(answer, 422, "idempotency-key-reused")

    def test_what_a_key_belongs_to(self, connected: House, new_tenant: NewTenant) -> None:
        """The same key of another call, sync or connection is another key; other methods have none."""
        connected.connect(new_tenant(), "second", users={}, photos={})
        runs = [
            connected.call("POST", f"connections/{path}/runs", {}, Idempotency_Key="k").json["id"]
            for path in ("primary/syncs/users", "second/syncs/users", "second/syncs/photos", "primary/syncs/users")
        ]
        check = connected.call("POST", "connections/primary/check", {}, Idempotency_Key="k")
        edits = [
            connected.call("PATCH", "connections/primary", {"labels": {"n": label}}, Idempotency_Key="k").json["labels"]
            for label in "ab"
        ]

        assert runs[0] == runs[3]
        assert len(set(runs)) == 3
        assert check.json["status"] == "confirmed"
        assert edits == [{"n": "a"}, {"n": "b"}]

    def test_an_answer_outlives_what_it_tells_of(self, connected: House) -> None:
        """A repetition after the run has ended still gets the first answer, and starts no second run."""
        path = "connections/primary/syncs/users/runs"
        first = connected.call("POST", path, {}, Idempotency_Key="k")
        connected.work()

        second = connected.call("POST", path, {}, Idempotency_Key="k")

        assert second.json == first.json
        assert len(connected.get("connections/primary/runs")["items"]) == 1

    def test_a_day_later(self, connected: House) -> None:
        """A key is forgotten after 24 hours."""
        path = "connections/primary/syncs/users/runs"
        first = connected.call("POST", path, {}, Idempotency_Key="k").json
        connected.work()

        connected.clock.ahead += timedelta(hours=23, minutes=59)
        assert connected.call("POST", path, {}, Idempotency_Key="k").json["id"] == first["id"]
        connected.clock.ahead += timedelta(minutes=2)
        assert connected.call("POST", path, {}, Idempotency_Key="k").json["id"] != first["id"]

    def test_a_request_that_failed(self, connected: House) -> None:
        """A failure is not kept: the same key may try again once the reason is gone."""
        path = "connections/primary/syncs/photos/runs"
        problem(connected.call("POST", path, {}, Idempotency_Key="k"), 409, "sync-disabled")
        connected.enable("primary", "photos")

        assert connected.call("POST", path, {}, Idempotency_Key="k").status == 202

    def test_a_bad_request_does_not_use_up_its_key(self, connected: House) -> None:
        """A body that is refused leaves the key free for the right one."""
        path = "connections/primary/syncs/users/runs"
        assert pointers(connected.call("POST", path, {"mode": HINT}, Idempotency_Key="k")) == ["/mode"]

        assert connected.call("POST", path, {"mode": "full"}, Idempotency_Key="k").status == 202

    def test_two_at_once(self, connected: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """While the first request is being served, its repetition is told to wait; nothing is done twice."""
        path = "connections/primary/syncs/users/runs"
        start = OPERATIONS["start_run"].handler
        meanwhile: list[Answer] = []

        def slow(call: Call) -> Reply:
            if not meanwhile:
                meanwhile.append(connected.call("POST", path, {}, Idempotency_Key="k"))
            return start(call)

        monkeypatch.setitem(OPERATIONS, "start_run", with_handler("start_run", slow))
        first = connected.call("POST", path, {}, Idempotency_Key="k")

        assert first.status == 202
        problem(meanwhile[0], 409, "request-in-progress")
        assert 0 < int(meanwhile[0].headers["Retry-After"]) <= 60
        assert connected.call("POST", path, {}, Idempotency_Key="k").json == first.json

    def test_a_process_that_died(self, connected: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """A request whose process died is still in progress for a minute, then its repetition is served."""
        path = "connections/primary/syncs/users/runs"
        with monkeypatch.context() as patch:
            patch.setitem(OPERATIONS, "start_run", with_handler("start_run", die))
            with pytest.raises(SystemExit):
                connected.call("POST", path, {}, Idempotency_Key="k")

        problem(connected.call("POST", path, {}, Idempotency_Key="k"), 409, "request-in-progress")
        connected.clock.ahead += timedelta(seconds=61)
        assert connected.call("POST", path, {}, Idempotency_Key="k").status == 202


def with_handler(name: str, handler: Callable[[Call], Reply]) -> Operation:
    fields = {field: getattr(OPERATIONS[name], field) for field in Operation.__dataclass_fields__}
    return Operation(**{**fields, "handler": handler})


def die(_: Call) -> Reply:
    raise SystemExit
