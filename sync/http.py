"""The HTTP edge: a request becomes a checked call, a result JSON, an error problem+json (RFC 9457)."""

import base64
import binascii
import hashlib
import json
import logging
import re
import secrets
import traceback
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from math import ceil
from typing import TYPE_CHECKING, Annotated, Any

import azure.functions as func
from azure.core.exceptions import AzureError
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from storage.tables import Conflict, Row, Write
from sync.connections import IDEMPOTENCY, Connection, load, not_found
from sync.errors import Deferred, RequestError, TenantsyncError
from sync.models import NAME_PATTERN, Model

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from sync.wiring import App

log = logging.getLogger(__name__)

MAX_BODY = 1024 * 1024
KEPT = timedelta(hours=24)  # how long an Idempotency-Key is remembered
PENDING = timedelta(seconds=60)
_CHANGED = TenantsyncError("Something else changed it meanwhile", code="conflict", status=409, remedy="Try again.")
_UNAVAILABLE = TenantsyncError(
    "Storage does not answer", code="storage-unavailable", status=503, remedy="Try again soon."
)
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_ETAG = re.compile(r'(?:W/)?"[^"]*"')
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TAGS = frozenset({"clientSecret", "certificate", "managedIdentity", "daily", "interval", "manual"})  # of union members
_SAFE = re.compile(r"_type$|^(string|int|float|bool|date|greater|less|too)_")


@dataclass(frozen=True)
class Reply:
    """What a handler gives back. `body` is a model, JSON, bytes with their `content_type`, or None."""

    status: int
    body: Any = None
    etag: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass(frozen=True)
class Call:
    """A checked request. `path`, `query` and `body` have been validated by the operation's models.

    `token` names it: a request that died and is repeated under its Idempotency-Key has the same.
    """

    method: str
    path: Mapping[str, str]
    query: Any
    body: Any
    if_match: str | None
    if_none_match: str | None
    make_app: Callable[[], "App"]
    token: str = field(default_factory=secrets.token_urlsafe)

    @property
    def app(self) -> "App":
        """The app, built on first use: a call that needs no store touches none."""
        return self.make_app()

    def match(self, etag: str | None) -> None:
        """Raises RequestError `etag-mismatch` where If-Match was sent and does not name this version; None where there is
        nothing yet.

        It names one, several, or any (`*`); weak tags never match (RFC 9110, 13.1.1).
        """
        wanted = self.if_match
        if wanted is None or (etag is not None and wanted.strip() == "*"):
            return
        if etag is None or public_etag(etag) not in _ETAG.findall(wanted):
            raise RequestError(
                "The resource has changed since you read it",
                code="etag-mismatch",
                status=412,
                remedy="Read it again, then repeat the change.",
            )


@dataclass(frozen=True)
class Operation:
    """One call of the contract: `handler` does it, the rest describes it, for validation and for OpenAPI.

    `body` is a type, or a type for each sync in the path; an answer is a type, a media type, or None for no body.
    `instead_of_body` names a field of the query: where it is given, no body is read.
    """

    id: str
    method: str
    path: str
    summary: str
    handler: Callable[[Call], Reply]
    answers: Mapping[int, Any]
    body: Any = None
    optional_body: bool = False
    instead_of_body: str | None = None
    query: type[Model] | None = None
    anonymous: bool = False
    errors: Sequence[int] = ()

    @property
    def takes_key(self) -> bool:
        """Whether Idempotency-Key is honoured."""
        return self.method == "POST" and not self.anonymous


def public_etag(etag: str) -> str:
    """A version, mostly a storage etag, as a short opaque one."""
    return '"' + hashlib.sha256(etag.encode()).hexdigest()[:20] + '"'


def encode_cursor(position: str) -> str:
    """A position as an opaque cursor."""
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, pattern: str, pointer: str = "/cursor") -> str:
    """The position in a cursor, which must match `pattern` whole. Raises RequestError naming `pointer`."""
    with suppress(ValueError, binascii.Error):
        position = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        if re.fullmatch(pattern, position):
            return position
    raise RequestError("A parameter is not valid", fields=[(pointer, "is not a cursor that this service gave out")])


Top = Annotated[int, Field(ge=1, le=1000)]


class ListQuery(Model):
    """What every list takes."""

    top: Top = 100
    cursor: Annotated[str, Field(max_length=2000)] | None = None


def listing(items: Iterable[Any], following: str | None) -> dict[str, Any]:
    """A page of a list; `following` is the position that the next one begins behind, None at the end."""
    return {"items": list(items), "next": None if following is None else encode_cursor(following)}


def missing(what: str) -> RequestError:
    """A 404 with the code of its own that each kind of thing has."""
    return RequestError(
        f"There is no such {what}",
        code=f"{what}-not-found",
        status=404,
        remedy="Check the address; ids are case-sensitive.",
    )


def connection_of(call: Call) -> Connection:
    """The connection in the path. Raises RequestError `connection-not-found`."""
    return load(call.app, call.path["name"])


def respond(request: func.HttpRequest, operation: Operation, app: Callable[[], "App"]) -> func.HttpResponse:
    """Serve one request; every fault becomes a problem document."""
    request_id = str(uuid.uuid4())
    trace = request.headers.get("traceparent", "")
    try:
        reply = _serve(request, operation, app)
    except TenantsyncError as error:
        reply = _problem(error, request)
    except Conflict:
        reply = _problem(_CHANGED, request)
    except AzureError as fault:
        log.warning("store does not answer fault=%s request=%s", type(fault).__name__, request_id)
        reply = _problem(_UNAVAILABLE, request)
    except Exception as fault:  # noqa: BLE001 - the edge: whatever it is, the caller gets a problem and we a trace
        frames = "".join(traceback.format_tb(fault.__traceback__))
        log.error("unexpected %s request=%s\n%s", type(fault).__name__, request_id, frames)  # noqa: TRY400 - the text may tell
        detail = "Something went wrong on our side"
        reply = _problem(TenantsyncError(detail, remedy=f"Report the request id {request_id}."), request)
    log.info(
        "request operation=%s connection=%s status=%d request=%s trace=%s",
        operation.id,
        _plain(request.route_params.get("name", "-")),
        reply.status,
        request_id,
        trace if _TRACE.fullmatch(trace) else "-",
    )
    return _response(reply, request_id)


def _plain(text: str) -> str:
    """A path parameter as a log may hold it."""
    return text if re.fullmatch(r"[A-Za-z0-9_-]{1,63}", text) else "?"


def _serve(request: func.HttpRequest, operation: Operation, app: Callable[[], "App"]) -> Reply:
    raw = request.get_body()
    if len(raw) > MAX_BODY:
        raise RequestError("The body is larger than 1 MiB", code="body-too-large", status=413, remedy="Send less.")
    if not re.fullmatch(NAME_PATTERN, request.route_params.get("name", "-")):
        raise not_found()
    query = None if operation.query is None else _query(operation.query, request.params)
    unread = operation.instead_of_body is not None and getattr(query, operation.instead_of_body) is not None
    body = None if operation.body is None or unread else _body(operation, raw, request.route_params)
    call = Call(
        request.method,
        dict(request.route_params),
        query,
        body,
        request.headers.get("If-Match"),
        request.headers.get("If-None-Match"),
        app,
    )
    key = request.headers.get("Idempotency-Key") if operation.takes_key else None
    return operation.handler(call) if not key else _once(call, operation, key, raw)


# --- validation ------------------------------------------------------------------------------------------------------


def _query(model: type[Model], params: Mapping[str, str]) -> Any:
    given = {name: value for name, value in params.items() if name != "code"}  # the function key may travel as ?code=
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _invalid(error, given) from None


def _body(operation: Operation, raw: bytes, path: Mapping[str, str]) -> Any:
    wanted = operation.body.get(path["sync"]) if isinstance(operation.body, Mapping) else operation.body
    if wanted is None:
        return None
    if operation.optional_body and not raw.strip():
        raw = b"{}"
    try:
        return TypeAdapter(wanted).validate_json(raw, strict=True)
    except ValidationError as error:
        if any(one["type"] == "json_invalid" for one in error.errors(include_input=False, include_url=False)):
            raise RequestError(
                "The body is not JSON", code="malformed-json", status=400, remedy="Send a JSON object in UTF-8."
            ) from None
        raise _invalid(error, json.loads(raw)) from None


def _invalid(error: ValidationError, data: Any) -> RequestError:
    """Every bad field at once, by JSON pointer; no value is echoed."""
    faults = error.errors(include_input=False, include_url=False)
    fields = [(_pointer(_path(fault), data), _explain(fault)) for fault in faults]
    return RequestError("The request has fields that are missing, unknown or wrong", fields=fields)


def _path(fault: "ErrorDetails") -> Sequence[int | str]:
    """Where a validation error is; that of a union is in the field that tells its members apart."""
    if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return (*fault["loc"], fault["ctx"]["discriminator"].strip("'"))
    return fault["loc"]


def _pointer(path: Sequence[int | str], data: Any) -> str:
    """A JSON pointer (RFC 6901) from a validation error's path, less what pydantic adds to the names in the body."""
    pointer, is_tag = "", False
    for part in path:
        is_tag = (
            not is_tag and part in _TAGS and isinstance(data, dict) and part in (data.get("type"), data.get("mode"))
        )
        if is_tag or part == "[key]":
            continue
        try:
            name, data = str(part), data[part]
        except (KeyError, IndexError, TypeError):
            name, data = to_camel(str(part)), None  # a default that is refused comes under its name in Python
        pointer += "/" + name.replace("~", "~0").replace("/", "~1")
    return pointer


def _explain(fault: "ErrorDetails") -> str:
    """Why a field is refused, in words that hold nothing of what was sent."""
    kind, context = fault["type"], fault.get("ctx", {})
    told = {
        "missing": "is required",
        "extra_forbidden": "is not a known field",
        "value_error": f"{context.get('error')}",
        "literal_error": f"must be one of {context.get('expected')}",
        "union_tag_invalid": f"must be one of {context.get('expected_tags')}",
        "union_tag_not_found": "is required",
        "too_short": "must not be empty",
        "string_too_short": "must not be empty",
        "too_long": "is too long",
        "string_too_long": "is too long",
    }
    return told.get(kind) or (fault["msg"] if _SAFE.search(kind) else "is not valid")


# --- answers ---------------------------------------------------------------------------------------------------------


def _response(reply: Reply, request_id: str) -> func.HttpResponse:
    headers = {**_HEADERS, **reply.headers, "x-request-id": request_id}
    if reply.etag is not None:
        headers["ETag"] = reply.etag
    body = reply.body
    if body is not None and not isinstance(body, bytes):
        body = dump(body)
    return func.HttpResponse(
        body or b"", status_code=reply.status, headers=headers, mimetype=reply.content_type, charset="utf-8"
    )


def dump(body: Any) -> bytes:
    """A model, or JSON that may hold models and datetimes, as bytes."""
    plain = body.wire() if isinstance(body, Model) else body
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), default=_default).encode()


def _default(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(type(value).__name__)


def _problem(error: TenantsyncError, request: func.HttpRequest) -> Reply:
    document: dict[str, Any] = {
        "type": f"urn:tenantsync:problem:{error.code}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "instance": "/" + request.url.partition("://")[2].partition("/")[2].partition("?")[0],
        "code": error.code,
    }
    if error.remedy:
        document["remedy"] = error.remedy
    headers: dict[str, str] = {}
    if isinstance(error, RequestError):
        headers = error.headers
        document.update(error.extra)
        if error.fields:
            document["errors"] = [{"pointer": pointer, "detail": detail} for pointer, detail in error.fields]
    elif isinstance(error, Deferred) or error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers = {"Retry-After": "30"}
    return Reply(error.status, document, headers=headers, content_type="application/problem+json")


# --- Idempotency-Key -------------------------------------------------------------------------------------------------


def _once(call: Call, operation: Operation, key: str, raw: bytes) -> Reply:
    """Do the call unless its key has been used in the last 24 hours; then give the first answer again.

    A refusal does not use up the key. A request that has failed otherwise may be repeated with the same body.
    """
    partition = call.path.get("name") or call.body.name
    address = json.dumps([operation.id, sorted(call.path.items()), key])
    row_key = IDEMPOTENCY + hashlib.sha256(address.encode()).hexdigest()[:40]
    content = hashlib.sha256(raw).hexdigest()
    data, now = call.app.tables.data, call.app.clock()
    fresh = {"content": content, "at": now, "status": 0, "token": call.token}
    etag = None
    try:
        etag = data.commit(partition, [Write("insert", row_key, fresh)])[0]
    except Conflict:
        before = data.get(partition, row_key) or {"at": now - KEPT, "etag": None}
        if now - before["at"] < KEPT:
            if earlier := _earlier(before, content, now):
                return earlier
            call = replace(call, token=before.get("token", call.token))
            fresh["token"] = call.token
        etag = data.commit(partition, [Write("replace", row_key, fresh, before["etag"])])[0]
    try:
        reply = operation.handler(call)
    except RequestError:
        with suppress(Conflict):
            data.commit(partition, [Write("delete", row_key, etag=etag)])
        raise
    except Exception:  # it may have come to its effect: its repetition is served at once, and has the same token
        with suppress(Conflict):
            data.commit(partition, [Write("replace", row_key, {**fresh, "at": now - PENDING}, etag)])
        raise
    kept = {"status": reply.status, "etag_out": reply.etag or "", "j_headers": dict(reply.headers)}
    body = json.loads(dump(reply.body)) if reply.body is not None else None
    with suppress(Conflict):
        data.commit(partition, [Write("replace", row_key, {**fresh, **kept, "j_body": body}, etag)])
    return reply


def _earlier(before: Row, content: str, now: datetime) -> Reply | None:
    """The answer that the key already has; None where its first request seems to have died."""
    if before["content"] != content:
        raise RequestError(
            "This Idempotency-Key was used with another body",
            code="idempotency-key-reused",
            remedy="Use a new key for a new request.",
        )
    if before["status"]:
        return Reply(before["status"], before["j_body"], before["etag_out"] or None, before["j_headers"])
    if now - before["at"] < PENDING:
        wait = ceil((before["at"] + PENDING - now).total_seconds())
        raise RequestError(
            "The first request with this Idempotency-Key is still being served",
            code="request-in-progress",
            status=409,
            remedy="Wait for its answer.",
            headers={"Retry-After": str(wait)},
        )
    return None
