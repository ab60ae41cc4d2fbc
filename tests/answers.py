"""Graph's answers said otherwise, where the simulated cloud cannot: what is asked for is done, or is not."""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pytest

from sync.graph.client import GraphClient
from sync.graph.protocol import NO_ANSWER, Answer, Headers
from tests.clock import never_wait

Rewrite = Callable[[str, str, Answer], Answer]
LOST = Answer(NO_ANSWER, Headers({}), {})


def rewriting(monkeypatch: pytest.MonkeyPatch, rewrite: Rewrite) -> None:
    """Have Graph's answers say something else, by method and path; what was asked for has happened all the same."""
    real = GraphClient._send
    never_wait(monkeypatch)

    def send(self: GraphClient, request: Any, token: str) -> Answer:
        return rewrite(request.method, unquote(request.url), real(self, request, token))

    monkeypatch.setattr(GraphClient, "_send", send)


def instead(monkeypatch: pytest.MonkeyPatch, answer: Callable[[str, str], Answer | None]) -> None:
    """Have Graph answer so, by method and path, and do nothing; None: as ever."""
    real = GraphClient._send
    never_wait(monkeypatch)

    def send(self: GraphClient, request: Any, token: str) -> Answer:
        return answer(request.method, unquote(request.url)) or real(self, request, token)

    monkeypatch.setattr(GraphClient, "_send", send)


def refusing(monkeypatch: pytest.MonkeyPatch, mailbox: str, answer: Answer) -> list[str]:
    """Have Graph answer so whatever is asked of a mailbox, outside of batches; the methods that were asked for."""
    asked: list[str] = []

    def refuse(method: str, path: str) -> Answer | None:
        if f"/users/{mailbox}/" not in path:
            return None
        asked.append(method)
        return answer

    instead(monkeypatch, refuse)
    return asked


def refusal(status: int, code: str) -> Answer:
    return Answer(status, Headers({}), {"error": {"code": code}})


def losing(method: str) -> Rewrite:
    """The first answer to this method gets lost."""
    lost: list[str] = []

    def rewrite(asked: str, path: str, answer: Answer) -> Answer:
        if asked == method and not lost:
            lost.append(path)
            return LOST
        return answer

    return rewrite
