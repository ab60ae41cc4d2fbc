"""POST /$batch (Learn: Combine multiple HTTP requests using JSON batching)."""

import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

from local.cloud.protocol import Answer, Call, Refused, split_url

MOST_REQUESTS = 20
Item = dict[str, Any]
Serve = Callable[[Call], Awaitable[Answer]]


async def post_batch(call: Call, serve: Serve) -> Answer:
    """Every inner request through `serve`, the answers in no order; Refused where the batch itself is wrong."""
    items = _items(call)
    answers: dict[str, Item] = {}
    for item in items:
        answers[item["id"].lower()] = await _serve_item(call, item, answers, serve)
    responses = list(answers.values())
    call.tenant.rng.shuffle(responses)
    return Answer(body={"responses": responses})


def _items(call: Call) -> list[Item]:
    try:
        items = json.loads(call.body)["requests"]
    except (ValueError, KeyError, TypeError) as error:
        raise _bad("Invalid batch payload format.") from error
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise _bad("Invalid batch payload format.")
    if len(items) > MOST_REQUESTS:
        raise _bad("Number of requests inside batch exceeds the limit.")
    for item in items:
        _check(item)
    ids = [item["id"].lower() for item in items]
    if len(set(ids)) != len(ids):
        raise _bad("Request Id has to be unique in a batch.")
    _check_dependencies(items, ids)
    return items


def _check(item: Item) -> None:
    if not isinstance(item.get("id"), str) or not item["id"]:
        raise _bad("Request Id cannot be null or empty.")
    if not isinstance(item.get("method"), str) or not isinstance(item.get("url"), str):
        raise _bad(f"Request {item['id']} needs a method and a url.")
    if split_url(item["url"])[0] == "$batch":
        raise _bad("A batch cannot hold a batch.")
    if not isinstance(item.get("headers", {}), dict):
        raise _bad(f"The headers of request {item['id']} must be an object.")
    if "body" in item and "content-type" not in _headers(item):
        raise _bad(f"Write request id : {item['id']} does not contain Content-Type header or body.")


def _check_dependencies(items: list[Item], ids: list[str]) -> None:
    """Either no request depends on another, or each on the one before it."""
    given = [_dependencies(item) for item in items]
    in_sequence = [[], *([before] for before in ids[:-1])]
    if any(given) and given != in_sequence:
        raise _bad("Invalid dependsOn: requests are either all independent or each depends on the one before it.")


def _dependencies(item: Item) -> list[str]:
    depends = item.get("dependsOn") or []
    if not isinstance(depends, list):
        raise _bad("Invalid batch payload format.")
    return [str(each).lower() for each in depends]


async def _serve_item(call: Call, item: Item, answers: dict[str, Item], serve: Serve) -> Item:
    if any(answers[before]["status"] >= 400 for before in _dependencies(item)):
        error = {"code": "FailedDependency", "message": "A request that this one depends on has failed."}
        return {"id": item["id"], "status": 424, "headers": {}, "body": {"error": error}}
    path, query = split_url(item["url"])
    body = json.dumps(item["body"]).encode() if "body" in item else b""
    inner = replace(
        call,
        method=item["method"].upper(),
        path=path,
        query=query,
        headers=_headers(item),
        body=body,
        request_id=str(uuid4()),
        url=item["url"],
        in_batch=True,
        mailbox=None,
    )
    return _response(item["id"], await serve(inner))


def _response(item_id: str, answer: Answer) -> Item:
    content = base64.b64encode(answer.body).decode() if isinstance(answer.body, bytes) else answer.body
    headers = {"Cache-Control": "private", **answer.headers, "Content-Type": answer.content_type.split(";")[0]}
    return {"id": item_id, "status": answer.status, "headers": headers, "body": content}


def _headers(item: Item) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in (item.get("headers") or {}).items()}


def _bad(message: str) -> Refused:
    return Refused(400, "BadRequest", message)
