"""Graph's answers understood: pages, errors, waits and batches. No I/O, no clock, no randomness."""

import base64
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from sync.errors import Changed, CursorExpired, Forbidden, GraphError, NotFound

BATCH_SIZE = 20
NO_ANSWER = 0
"""The status of a request that was reset, timed out or answered with something unreadable."""

_BACKOFF_BASE = 0.5
_BACKOFF_CAP = 20.0
_MAILBOX_LIMIT = "ApplicationThrottled"
_PERMANENT_5XX = frozenset({501, 505})
_EXPIRED_CURSOR = frozenset(
    {
        "syncstatenotfound",
        "syncstateinvalid",
        "resyncrequired",
        "directory_expiredpagetoken",
        "directorypagetokennotfoundexception",
    }
)
_CONFLICT = "ErrorIrresolvableConflict"  # Exchange says so with 409 or 412
_WORD = re.compile(r"[A-Za-z$][A-Za-z.$]*")
_SLUG = re.compile(r"[A-Za-z0-9_.-]{1,100}")


class Headers(Mapping[str, str]):
    """Header fields by name in any letter case: Graph spells them differently inside and outside of a batch."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = {name.lower(): str(value) for name, value in fields.items()}

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


@dataclass(frozen=True)
class Answer:
    """What Graph said: `status` (NO_ANSWER for a fault on the way), header fields and the JSON body."""

    status: int
    headers: Headers
    body: Any


BatchAnswer = Answer
"""One item's answer inside a batch has the same parts; the body of a binary item is base64 text."""


@dataclass(frozen=True)
class BatchRequest:
    """One item of a batch: `id` is unique in any letter case, `url` relative to the version root ("/users/1/photo").

    Only GETs: an item without a proper answer is sent again, whatever became of it.
    """

    id: str
    method: Literal["GET"]
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """Objects of one page. Without a `next_link` the listing is complete; a delta round ends with a `delta_link`."""

    items: list[dict[str, Any]]
    next_link: str | None
    delta_link: str | None


@dataclass(frozen=True)
class Fold:
    """A batch answer sorted out: what is done, what is to be sent again after `delay` seconds, whether any item was
    throttled, and what was answered to those that were `unserved`.
    """

    done: Mapping[str, BatchAnswer]
    retry: Sequence[BatchRequest]
    delay: float
    throttled: bool
    unserved: Mapping[str, BatchAnswer]


@dataclass(frozen=True)
class Toll:
    """What an answer says about the tenant's request budget.

    How many units (requests, or items of a batch) Graph `accepted` and how many it `refused` with 429; for how many
    seconds it wants silence (`pause`, None if it does not), and which share of its limit is `used`, as far as it tells.
    """

    accepted: int
    refused: int
    pause: float | None
    used: float


def decode(
    status: int,
    fields: Mapping[str, object],
    content: bytes,
    *,
    wanted: str | None,
    bodiless: Collection[int] = (),
    may_be_binary: bool = False,
) -> Answer:
    """The answer to a request for a JSON object, whose member `wanted` must be a list of objects.

    A 2xx without that (half of the JSON, a proxy's HTML page) is no answer, and never the end of a list. With one of the
    statuses `bodiless` nothing need be said. Where it `may_be_binary`, a picture is base64 text, as in a batch.
    """
    if status in bodiless and not content:
        return Answer(status, Headers(fields), {})
    if may_be_binary and 200 <= status < 300 and _is_picture(Headers(fields)):
        return Answer(status, Headers(fields), base64.b64encode(content).decode())
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    if 200 <= status < 300 and not _readable(body, wanted):
        return Answer(NO_ANSWER, Headers({}), {})
    return Answer(status, Headers(fields), body if isinstance(body, dict) else {})


def _is_picture(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Type", "").lower().startswith("image/")


def _readable(body: object, wanted: str | None) -> bool:
    if not isinstance(body, dict) or wanted is None:
        return isinstance(body, dict)
    listed = body.get(wanted)
    return isinstance(listed, list) and all(isinstance(item, dict) for item in listed)


def parse_page(body: Mapping[str, Any]) -> Page:
    """Learn: Paging Microsoft Graph data in your app; Use delta query."""
    return Page(body["value"], body.get("@odata.nextLink"), body.get("@odata.deltaLink"))


def whole_text(value: str) -> str:
    """`value` without the half characters that JSON allows and UTF-8 does not, as where an emoji was cut in two."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def same_origin(link: str, endpoint: str) -> bool:
    """Whether `link` leads to the very scheme, host and port of `endpoint`.

    It is read by the parser that will also send the request, so that both see the same host.
    """
    try:
        there, here = parse_url(link), parse_url(endpoint)
    except LocationParseError:
        return False
    return there.auth is None and _origin(there) == _origin(here)


def _origin(url: Url) -> tuple[str | None, str | None, int | None]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else None)


def path_template(url: str) -> str:
    """The path of `url` with everything that could name somebody replaced, for the log."""
    segments = urlsplit(url).path.split("/")
    return "/".join(part if not part or part == "v1.0" or _WORD.fullmatch(part) else "{id}" for part in segments)


def is_transient(status: int) -> bool:
    """Whether the same request may succeed later (Learn: Microsoft Graph throttling guidance)."""
    return status in (NO_ANSWER, 429) or (status >= 500 and status not in _PERMANENT_5XX)


def retry_delay(headers: Mapping[str, str], attempt: int, now: datetime, random: float) -> float:
    """Seconds to wait before the next attempt: what Retry-After asks for, else backoff with full jitter.

    `attempt` counts from 0, `random` is from [0, 1). Retry-After may be whole or decimal seconds or a date.
    """
    asked = retry_after(headers, now)
    if asked is not None:
        return asked
    return random * min(_BACKOFF_CAP, _BACKOFF_BASE * 2.0 ** min(attempt + 1, 10))


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that the answer asks to wait; None if it does not say so in a readable way."""
    text = headers.get("Retry-After", "")
    try:
        seconds = float(text)
    except ValueError:
        seconds = _seconds_until(text, headers.get("Date", ""), now)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _seconds_until(date: str, sent: str, now: datetime) -> float:
    """Measured on the server's clock where it sends one: ours may differ."""
    until = _http_date(date)
    if until is None:
        return math.nan
    return (until - (_http_date(sent) or now)).total_seconds()


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def throttle_percentage(headers: Mapping[str, str]) -> float:
    """How much of the throttle limit is used, as `x-ms-throttle-limit-percentage` tells above 0.8; otherwise 0."""
    try:
        used = float(headers.get("x-ms-throttle-limit-percentage", "0"))
    except ValueError:
        return 0.0
    return used if math.isfinite(used) else 0.0


def parse_error(answer: Answer) -> GraphError:
    """The typed error for a refusal (Learn: Microsoft Graph error responses). Graph's own text is left out: it may hold names."""
    codes = list(_codes(answer.body.get("error")))
    code = codes[0] if codes else "unknown"
    detail = f"Graph answered {answer.status} {code} (request {_slug(answer.headers.get('request-id'))})."
    if answer.status == 410 or (400 <= answer.status < 500 and _EXPIRED_CURSOR & {c.lower() for c in codes}):
        return CursorExpired(detail, http=answer.status, graph_code=code)
    status = 412 if _CONFLICT in codes else answer.status
    kind = {403: Forbidden, 404: NotFound, 412: Changed}.get(status, GraphError)
    return kind(detail, http=answer.status, graph_code=code)


def _codes(error: object) -> Iterator[str]:
    """The error's code, then the more special ones that it wraps."""
    while isinstance(error, dict):
        if error.get("code"):
            yield _slug(error["code"])
        error = error.get("innerError") or error.get("innererror")


def _slug(text: object) -> str:
    return text if isinstance(text, str) and _SLUG.fullmatch(text) else "unknown"


def fold_batch(
    sent: Sequence[BatchRequest], body: Mapping[str, Any], attempt: int, now: datetime, random: float
) -> Fold:
    """Learn: Combine multiple HTTP requests using JSON batching. Answers come in any order, ids in any letter case.

    An item without an answer is sent again like one that failed. Nothing is sent before the largest Retry-After.
    """
    answers = {str(raw.get("id")).lower(): _parse_item(raw) for raw in body["responses"]}
    paired = [(request, answers.get(request.id.lower(), _parse_item({}))) for request in sent]
    again = [(request, answer) for request, answer in paired if is_transient(answer.status)]
    return Fold(
        done={request.id: answer for request, answer in paired if not is_transient(answer.status)},
        retry=[request for request, _ in again],
        delay=max([retry_delay(answer.headers, attempt, now, random) for _, answer in again], default=0.0),
        throttled=any(answer.status == 429 for _, answer in again),
        unserved={request.id: answer for request, answer in again},
    )


def measure(answer: Answer, units: int, now: datetime) -> Toll:
    """The toll of a request for `units`; a batch that Graph has read is judged item by item."""
    batch = 200 <= answer.status < 300 and _readable(answer.body, "responses")
    items = [_parse_item(raw) for raw in answer.body["responses"]] if batch else [answer] * units
    pauses = [_pause(item, now) for item in items]
    return Toll(
        accepted=sum(not is_transient(item.status) for item in items),
        refused=sum(item.status == 429 for item in items),
        pause=max([pause for pause in pauses if pause is not None], default=None),
        used=max(throttle_percentage(each.headers) for each in [answer, *items]),
    )


def _pause(answer: Answer, now: datetime) -> float | None:
    """A 429 that does not say how long still counts as one: nobody else has to wait for it, but the limit is reached.

    A mailbox that has had enough of this app is alone in that (Learn: Microsoft Graph service-specific throttling limits,
    Outlook).
    """
    error = answer.body.get("error") if isinstance(answer.body, Mapping) else None
    if _MAILBOX_LIMIT in _codes(error):
        return None
    asked = retry_after(answer.headers, now) if is_transient(answer.status) else None
    return 0.0 if asked is None and answer.status == 429 else asked


def _parse_item(raw: Mapping[str, Any]) -> BatchAnswer:
    status, fields = raw.get("status"), raw.get("headers")
    return Answer(
        status if isinstance(status, int) else NO_ANSWER,
        Headers(fields if isinstance(fields, dict) else {}),
        raw.get("body"),
    )
