"""The HTTP edge: what a handler gives back or raises becomes an answer with its headers, and a line in the log."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import azure.functions as func
import pytest
from azure.core.exceptions import ServiceRequestError

from storage.tables import Conflict
from sync.errors import Deferred, RequestError, TenantsyncError
from sync.http import Call, Operation, Reply, dump, respond
from sync.models import HealthOut
from tests.edge import HINT, edge, problem
from tests.house import Answer, House

__all__ = ["edge"]


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
