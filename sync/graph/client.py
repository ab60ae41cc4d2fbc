"""The way to Microsoft Graph: pages, delta and batches, with one room for retries and the shared request budget."""

import copy
import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import requests
from requests.adapters import HTTPAdapter

from sync.errors import Deferred, GraphError, SignInError
from sync.graph.budget import Budget
from sync.graph.protocol import (
    BATCH_SIZE,
    NO_ANSWER,
    Answer,
    BatchAnswer,
    BatchRequest,
    Headers,
    Page,
    decode,
    fold_batch,
    is_transient,
    measure,
    parse_error,
    parse_page,
    path_template,
    retry_delay,
    same_origin,
)

__all__ = ["BatchAnswer", "BatchRequest", "GraphClient", "Page", "Usage"]

MAX_SLEEP = 30.0
MAX_ATTEMPTS = 10
MAX_BODY = 32 * 1024 * 1024
RETRY_LATER = 60.0
"""Seconds until a request that failed MAX_ATTEMPTS times is worth another try."""
NO_BATCH = frozenset({400, 404, 405, 501})
"""How Graph refuses a batch as such: each of its requests may be served by itself."""

_CONNECT, _LEAST, _MOST = 5.0, 5.0, 60.0  # seconds to connect, and those that an answer may take to begin
_CONNECTIONS = 16
# What is created is told of; what is changed or deleted need not be.
_BODILESS = {"POST": (202, 204), "PATCH": (200, 202, 204), "DELETE": (200, 202, 204)}

_log = logging.getLogger(__name__)


@dataclass
class Usage:
    """Requests sent, items inside batches, 429s seen (items too), and requests or items sent again."""

    requests: int = 0
    batched: int = 0
    throttled: int = 0
    retried: int = 0

    def counts(self) -> dict[str, int]:
        """The counters by name."""
        return asdict(self)


@dataclass(frozen=True)
class _Request:
    """`wanted` is the list that the answer must hold; `as_item`: its body is to be that of a batch's item."""

    method: str
    url: str
    params: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None
    json: object = None
    wanted: str | None = None
    as_item: bool = False


class GraphClient:
    """One tenant's Graph. Thread-safe.

    Every call raises Deferred when the answer has to wait past `deadline` or longer than a worker sleeps, SignInError
    when Graph refuses even a fresh token, and a GraphError for every other refusal.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        token: Callable[..., str],
        budget: Budget,
        clock: Callable[[], datetime],
        sleep: Callable[[float], None] = time.sleep,
        deadline: datetime | None = None,
        usage: Usage | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.usage = usage or Usage()
        self._endpoint = endpoint
        self._token = token
        self._budget = budget
        self._clock = clock
        self._sleep = sleep
        self._deadline = deadline
        self._jitter = jitter
        self.attempts: int | None = None
        self._lock = threading.Lock()
        self._renewing = threading.Lock()
        self._local = threading.local()
        self._connections = HTTPAdapter(pool_connections=1, pool_maxsize=_CONNECTIONS)

    def close(self) -> None:
        """Close the kept-alive connections of all threads."""
        self._connections.close()

    def get(
        self, path: str, *, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The JSON object at `path`, such as "/organization"."""
        body: dict[str, Any] = self._call(_Request("GET", self._url(path), params, headers)).body
        return body

    def page(
        self, path_or_link: str, *, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> Page:
        """One page of a listing or delta round, from its path or from a next or delta link, which is used unchanged.

        `params` belong to the first page only, `headers` to every page (Learn: Paging Microsoft Graph data in your app).
        Raises GraphError `foreign-link` for a link that leaves Graph, and CursorExpired for one that no longer works.
        """
        request = _Request("GET", self._url(path_or_link), params, headers, wanted="value")
        return parse_page(self._call(request).body)

    def write(
        self,
        method: Literal["POST", "PATCH", "DELETE"],
        path: str,
        json: object = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Change something; what Graph answers, {} where it has nothing to say.

        A request whose answer got lost is sent again, so every write must bear that: by a transactionId, an If-Match, or
        by its nature. Raises Changed where If-Match names an old version.
        """
        body: dict[str, Any] = self._call(_Request(method, self._url(path), None, headers, json)).body
        return body

    def brief(self, attempts: int) -> "GraphClient":
        """The client for requests that nobody waits long for: after so many attempts, or where Graph asks for more time
        than a worker sleeps, a 429 or 5xx is a refusal like any other, and no answer at all is one with status 0.
        """
        hasty = copy.copy(self)
        hasty.attempts = attempts
        return hasty

    def batch(self, requests: Sequence[BatchRequest]) -> dict[str, BatchAnswer]:
        """An answer for each of at most 20 GETs, by id. Throttled and failed items are sent again until they succeed.

        Learn: Combine multiple HTTP requests using JSON batching. Item errors such as 404 are answers, not exceptions. Where
        Graph takes no batch, each request is sent by itself.
        """
        if len(requests) > BATCH_SIZE or len({request.id.lower() for request in requests}) < len(requests):
            raise ValueError("A batch takes at most 20 requests with ids of their own.")
        try:
            return self._batch(requests)
        except GraphError as error:
            if error.http not in NO_BATCH:
                raise
        return {one.id: self.ask(one) for one in requests}

    def ask(self, request: BatchRequest) -> BatchAnswer:
        """The answer to what could be an item of a batch, sent by itself."""
        return self._settle(_Request("GET", self._url(request.url), None, request.headers, as_item=True))

    def _batch(self, requests: Sequence[BatchRequest]) -> dict[str, BatchAnswer]:
        done: dict[str, BatchAnswer] = {}
        waiting, attempt = requests, 0
        while waiting:
            body = self._call(self._batch_request(waiting), units=len(waiting)).body
            fold = fold_batch(waiting, body, attempt, self._clock(), self._jitter())
            self._count(batched=len(waiting))
            done.update(fold.done)
            waiting, attempt = fold.retry, attempt + 1
            if waiting and self._gives_up(fold.delay, attempt):
                return {**done, **fold.unserved}
            if waiting:
                self._count(retried=len(waiting))
                self._pause(fold.delay, attempt, throttled=fold.throttled)
        return done

    def _batch_request(self, items: Sequence[BatchRequest]) -> _Request:
        body = {"requests": [{name: value for name, value in asdict(item).items() if value} for item in items]}
        return _Request("POST", self._url("/$batch"), json=body, wanted="responses")

    def _url(self, path_or_link: str) -> str:
        if path_or_link.startswith("/"):
            return f"{self._endpoint}/v1.0{path_or_link}"
        if not same_origin(path_or_link, self._endpoint):
            raise GraphError(
                "A link that came from outside leads to another host than Graph: it was not followed.",
                http=NO_ANSWER,
                graph_code="unknown",
                code="foreign-link",
            )
        return path_or_link

    def _call(self, request: _Request, *, units: int = 1) -> Answer:
        answer = self._settle(request, units=units)
        if 200 <= answer.status < 300:
            return answer
        raise parse_error(answer)

    def _settle(self, request: _Request, *, units: int = 1) -> Answer:
        """What Graph answers in the end."""
        attempt = 0
        while True:
            answer = self._attempt(request, units)
            if not is_transient(answer.status):
                return answer
            attempt += 1
            delay = retry_delay(answer.headers, attempt - 1, self._clock(), self._jitter())
            if self._gives_up(delay, attempt):
                return answer
            self._pause(delay, attempt, throttled=answer.status == 429)
            self._count(retried=1)

    def _gives_up(self, seconds: float, attempt: int) -> bool:
        """Whether the next attempt is one too many, or too late."""
        return self.attempts is not None and (attempt >= self.attempts or self._after(seconds) > self._latest())

    def _after(self, seconds: float) -> datetime:
        return self._clock() + timedelta(seconds=seconds)

    def _attempt(self, request: _Request, units: int) -> Answer:
        """One paced attempt, with one fresh token if Graph refuses the one at hand."""
        self._budget.spend(units, latest=self._latest())
        token = self._token()
        answer = self._send(request, token)
        if answer.status == 401:
            answer = self._send(request, self._renewed(token))
            if answer.status == 401:
                raise SignInError(
                    "Graph refuses the tokens that Entra issues for this connection.",
                    remedy="Check that the connection's cloud is the one that the tenant is in.",
                    code="graph-token-refused",
                    aadsts=None,
                )
        toll = measure(answer, units, self._clock())
        self._count(throttled=1 if answer.status == 429 else toll.refused)
        self._budget.record(toll)
        return answer

    def _renewed(self, refused: str) -> str:
        """A fresh token, fetched once however many threads were refused with the old one."""
        with self._renewing:
            token = self._token()
            return token if token != refused else self._token(fresh=True)

    def _send(self, request: _Request, token: str) -> Answer:
        self._count(requests=1)
        try:
            with self._session().request(
                request.method,
                request.url,
                params=request.params,
                headers={**(request.headers or {}), "client-request-id": str(uuid.uuid4())},
                json=request.json,
                auth=_Bearer(token),
                timeout=(_CONNECT, self._patience()),
                allow_redirects=False,
                stream=True,
            ) as response:
                answer = decode(
                    response.status_code,
                    response.headers,
                    _read(response),
                    wanted=request.wanted,
                    bodiless=_BODILESS.get(request.method, ()),
                    may_be_binary=request.as_item,
                )
        except requests.RequestException as fault:
            _log.debug("%s %s %s", request.method, path_template(request.url), type(fault).__name__)
            return Answer(NO_ANSWER, Headers({}), {})
        request_id = answer.headers.get("request-id")
        _log.debug("%s %s %d %s", request.method, path_template(request.url), answer.status, request_id)
        return answer

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            session = requests.Session()
            session.mount("https://", self._connections)
            session.headers["User-Agent"] = "Tenantsync"
            self._local.session = session
        return self._local.session  # type: ignore[no-any-return] # a thread-local has no declared members

    def _patience(self) -> float:
        """Seconds to wait for an answer: less where the deadline is near, for whoever asks has no use for a later one."""
        left = (self._deadline - self._clock()).total_seconds() if self._deadline else _MOST
        return min(max(left, _LEAST), _MOST)

    def _latest(self) -> datetime:
        latest = self._clock() + timedelta(seconds=MAX_SLEEP)
        return min(latest, self._deadline) if self._deadline else latest

    def _pause(self, seconds: float, attempt: int, *, throttled: bool) -> None:
        """Sleep before the next attempt, or raise Deferred."""
        until = self._after(seconds)
        if attempt == MAX_ATTEMPTS:
            until = max(until, self._clock() + timedelta(seconds=RETRY_LATER))
            raise Deferred("Graph did not answer properly after several attempts.", until=until, throttled=throttled)
        if until > self._latest():
            raise Deferred("Graph asks for a longer wait.", until=until, throttled=throttled)
        self._sleep(seconds)

    def _count(self, *, requests: int = 0, batched: int = 0, throttled: int = 0, retried: int = 0) -> None:
        with self._lock:
            self.usage.requests += requests
            self.usage.batched += batched
            self.usage.throttled += throttled
            self.usage.retried += retried


class _Bearer(requests.auth.AuthBase):
    """As `auth` rather than as a header, because requests lets a netrc file override the header."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _read(response: requests.Response) -> bytes:
    """The body, unpacked and at most MAX_BODY bytes."""
    content = bytearray()
    for piece in response.iter_content(64 * 1024):
        content += piece
        if len(content) > MAX_BODY:
            raise GraphError(
                "Graph's answer is larger than this app reads at once.",
                http=response.status_code,
                graph_code="unknown",
                code="answer-too-large",
            )
    return bytes(content)
