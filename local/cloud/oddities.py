"""Answers that differ from what the rest of this cloud gives, for tests of clients that must bear them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from local.cloud.faults import Oddity
from local.cloud.protocol import Answer, Call, Refused


def fitting(call: Call, name: str) -> list[Oddity]:
    """What is odd about this call; it forgets the query options that are to be ignored."""
    query = "&".join(f"{option}={value}" for option, value in call.query.items())
    odd = [
        each
        for each in call.tenant.faults.odd
        if each.call in ("", name)
        and each.query in query
        and each.mailbox.lower() in ("", (call.mailbox or "").lower())
    ]
    ignored = {option for each in odd for option in each.ignore}
    call.query = {option: value for option, value in call.query.items() if option not in ignored}
    for each in odd:
        if each.status and each.of_status is None:
            raise _refusal(each)
    return odd


def changed(answer: Answer, odd: list[Oddity], call: Call) -> Answer:
    """The answer as these have it."""
    for each in odd:
        if each.status and answer.status == each.of_status:
            answer = _refusal(each).answer(call.headers, call.request_id, call.now)
        elif answer.status < 300 and isinstance(answer.body, dict):
            text = json.dumps(answer.body)
            for old, new in each.replace.items():
                text = text.replace(old, new)
            answer.body = json.loads(text)
            for shown in _objects(answer.body):
                for name in each.drop:
                    _drop(shown, name)
    return answer


def _refusal(odd: Oddity) -> Refused:
    headers = {} if odd.retry_after is None else {"Retry-After": str(odd.retry_after)}
    return Refused(odd.status or 500, odd.code, "An oddity of the simulated cloud.", headers)


def _objects(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from body["value"] if isinstance(body.get("value"), list) else [body]


def _drop(shown: dict[str, Any], name: str) -> None:
    *path, last = [name] if name.startswith("@") else name.split(".")
    held: Any = shown
    for part in path:
        held = held.get(part) if isinstance(held, Mapping) else None
    if isinstance(held, dict):
        held.pop(last, None)
