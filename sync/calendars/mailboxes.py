"""What is asked of mailboxes: the changes of a room, single events, instances of a series, organizers' copies.

Every call sends `Prefer: IdType="ImmutableId"` (Learn: Obtain immutable identifiers for Outlook resources), and at most
four items of a batch go to one mailbox: it serves no more at once (Learn: Microsoft Graph service-specific throttling
limits, Outlook).
"""

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlencode

from sync.calendars.event import READ_HEADERS, SELECT
from sync.errors import CursorExpired, GraphError, NotFound
from sync.graph.client import BatchAnswer, BatchRequest, GraphClient
from sync.graph.protocol import is_transient

PAGE = 200
PAGES = 500
AT_ONCE = 4
BATCH = 20
_HEADERS = {"Prefer": f"{READ_HEADERS['Prefer']}, odata.maxpagesize={PAGE}"}
ATTEMPTS = 3
"""How often a user's mailbox is asked the same: a room waits for its own alone."""

_NOBODY = frozenset({"ErrorInvalidUser", "Request_ResourceNotFound"})
_NO_MAILBOX = frozenset({"ErrorInvalidUser", "MailboxNotEnabledForRESTAPI"})
_NO_EVENT = "ErrorItemNotFound"
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_REFUSED = frozenset({400, 404, 405, 410, 501})
_MODIFIED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,12}))?Z", re.ASCII)
Raw = Mapping[str, Any]
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Round:
    """All changes up to `delta_link`: the last word on every event, and the ids of those that are said to be removed."""

    events: Mapping[str, Raw]
    removed: frozenset[str]
    delta_link: str


@dataclass(frozen=True)
class Denied:
    """A mailbox that cannot be read. `external` is one that is no mailbox of the tenant at all, `unanswered` one that
    gives no proper answer now.
    """

    reason: Literal["denied", "no-mailbox", "external", "unanswered"]


def event_path(mailbox: str, event: str = "") -> str:
    """The path of a mailbox's events, or of one of them."""
    return f"/users/{quote(mailbox, safe='@')}/events" + (f"/{quote(event, safe='')}" if event else "")


def _query(options: Mapping[str, str]) -> str:
    """Query options as Learn writes them: whoever decodes %20 alone can read them."""
    return urlencode(options, quote_via=quote, safe="$',=")


def _one_path(mailbox: str, event: str) -> str:
    return f"{event_path(mailbox, event)}?" + _query({"$select": SELECT})


def wire_time(at: datetime) -> str:
    """An instant as Graph's query parameters take it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _window(start: datetime, end: datetime) -> dict[str, str]:
    return {"startDateTime": wire_time(start), "endDateTime": wire_time(end)}


def fetch_round(graph: GraphClient, mailbox: str, link: str, window: tuple[datetime, datetime]) -> Round:
    """The changes since `link`, or everything in the window where that is "".

    A page may be empty and still lead on; the same event may come several times (Learn: event: delta). Raises
    CursorExpired, also for a link that leads nowhere or never to an end.
    """
    events: dict[str, Raw] = {}
    removed: set[str] = set()
    following, params = link, None
    if not link:
        following, params = f"/users/{quote(mailbox, safe='@')}/calendarView/delta", _window(*window)
    followed = {following}
    for _ in range(PAGES):
        page = _page(graph, following, params, fresh=not link)
        for item in page.items:
            event = item.get("id")
            if not isinstance(event, str):
                continue
            if "@removed" in item:
                removed.add(event)
            elif event not in events or not _is_older(item, events[event]):
                events[event] = item
        if page.delta_link:
            return Round(events, frozenset(removed), page.delta_link)
        if not page.next_link or page.next_link in followed:
            break
        following, params = page.next_link, None
        followed.add(following)
    raise CursorExpired("The changes of a calendar came to no end", http=200, graph_code="unknown")


def _page(graph: GraphClient, link: str, params: Mapping[str, str] | None, *, fresh: bool) -> Any:
    try:
        return graph.page(link, params=params, headers=_HEADERS)
    except GraphError as error:
        if not fresh and error.code == "foreign-link":
            raise CursorExpired("The delta link leads nowhere", http=error.http, graph_code=error.graph_code) from error
        raise


def _is_older(item: Raw, other: Raw) -> bool:
    """Whether `item` says that it is older than the `other`; where one of them does not say, the last one counts."""
    first, second = _modified(item), _modified(other)
    return bool(first and second) and first < second


def _modified(item: Raw) -> str:
    """When an event was changed, as a text to compare: Graph leaves zeros at the end of a fraction out."""
    found = _MODIFIED.fullmatch(str(item.get("lastModifiedDateTime")))
    return f"{found[1]}.{found[2] or '':0<12}" if found else ""


def fetch_view(graph: GraphClient, mailbox: str, start: datetime, end: datetime) -> list[Raw]:
    """Everything that takes place between `start` and `end`, occurrences too (Learn: List calendarView)."""
    return _all(graph, f"/users/{quote(mailbox, safe='@')}/calendarView", _window(start, end))


def fetch_instances(
    graph: GraphClient, mailbox: str, master: str, window: tuple[datetime, datetime]
) -> list[Raw] | None:
    """The instances of a series in the window, None where it is gone (Learn: List instances).

    Raises as `fetch_event` does. Only the series itself can say that it is gone: where its instances alone are not to be
    had, they are looked for among all that takes place in the window.
    """
    try:
        return _all(graph, event_path(mailbox, master) + "/instances", _window(*window))
    except GraphError as error:
        if error.http not in _REFUSED or error.graph_code in _NO_MAILBOX:
            raise
    if fetch_event(graph, mailbox, master) is None:
        return None
    return [raw for raw in fetch_view(graph, mailbox, *window) if raw.get("seriesMasterId") == master]


def _all(graph: GraphClient, path: str, window: Mapping[str, str]) -> list[Raw]:
    """All pages of a listing. Raises GraphError where they come to no end."""
    found: list[Raw] = []
    following, params = path, {**window, "$select": SELECT, "$top": str(PAGE)}
    followed: set[str] = set()
    while following not in followed and len(followed) < PAGES:
        followed.add(following)
        page = graph.page(following, params=params, headers=READ_HEADERS)
        found += page.items
        if not page.next_link:
            return found
        following, params = page.next_link, {}
    raise GraphError("A listing of events came to no end", http=200, graph_code="unknown", code="endless-listing")


def fetch_event(graph: GraphClient, mailbox: str, event: str) -> Raw | None:
    """One event, None where it is gone. Raises NotFound where its mailbox is, Forbidden where that is closed."""
    try:
        return graph.get(event_path(mailbox, event), params={"$select": SELECT}, headers=READ_HEADERS)
    except GraphError as error:
        if not _says_gone(error.http, error.graph_code):
            raise
        _check_mailbox(graph, mailbox, error.http, error.graph_code)
        return None


def _says_gone(status: int, code: str) -> bool:
    """Whether an event is not there, or perhaps its mailbox. An id that Exchange cannot read is that of no event."""
    return status in (404, 410) or (status == 400 and code == "ErrorInvalidIdMalformed")


def _check_mailbox(graph: GraphClient, mailbox: str, status: int, code: str) -> None:
    """Raise NotFound where a 404 for an event is about its mailbox. Where the code may mean either, the mailbox is asked
    for a minute that is long over: nobody's events are listed.
    """
    if status != 404 or code == _NO_EVENT:
        return
    if code in _NO_MAILBOX:
        raise NotFound("Graph knows no such mailbox", http=404, graph_code=code)
    params = {**_window(_LONG_AGO, _LONG_AGO + timedelta(minutes=1)), "$select": "id", "$top": "1"}
    graph.page(f"/users/{quote(mailbox, safe='@')}/calendarView", params=params, headers=READ_HEADERS)


def is_mailbox_gone(graph: GraphClient, mailbox: str, error: NotFound) -> bool:
    """Whether it is the mailbox that is not there, not just the event."""
    try:
        _check_mailbox(graph, mailbox, error.http, error.graph_code)
    except NotFound:
        return True
    return False


def fetch_events(graph: GraphClient, mailbox: str, events: Iterable[str]) -> dict[str, Raw | Denied | None]:
    """Single events by id: None for those that are gone, Denied for those that are refused with 403.

    Raises NotFound where the mailbox is gone.
    """
    wanted = sorted(set(events))
    paths = {event: (mailbox, _one_path(mailbox, event)) for event in wanted}
    found: dict[str, Raw | Denied | None] = {}
    unclear: set[str] = set()
    for event, answer in _batched(graph, paths).items():
        code = _code(answer.body)
        if answer.status == 200 and isinstance(answer.body, Mapping):
            found[event] = answer.body
        elif answer.status == 403:
            found[event] = Denied("denied")
        elif _says_gone(answer.status, code):
            found[event] = None
            unclear |= {code} if answer.status == 404 else set()
        else:
            raise GraphError("Graph refuses a room's event", http=answer.status, graph_code=code or "unknown")
    for code in sorted(unclear, key=lambda each: each not in _NO_MAILBOX):
        _check_mailbox(graph, mailbox, 404, code)
    return found


def fetch_copies(
    graph: GraphClient, wanted: Iterable[tuple[str, str]], ids: Mapping[tuple[str, str], str] = MappingProxyType({})
) -> dict[tuple[str, str], Raw | Denied | None]:
    """Organizers' copies by (mailbox, iCalUId): the event, or why its mailbox cannot be read.

    None where there is none, or Graph does not take the search and their `ids` are not known either.
    """
    searches = _batched(graph, {key: (key[0], copy_path(*key)) for key in sorted(set(wanted))})
    found = {key: _searched(key[1], answer) for key, answer in searches.items()}
    unsearched = [key for key in ids if found[key] is None and not _is_empty(searches[key])]
    by_id = _batched(graph, {key: (key[0], _one_path(key[0], ids[key])) for key in unsearched})
    return found | {key: _own(answer) for key, answer in by_id.items()}


def copy_path(mailbox: str, ical: str) -> str:
    """The search for an organizer's own copy of a meeting (Learn: List events, $filter)."""
    escaped = ical.replace("'", "''")
    return f"{event_path(mailbox)}?" + _query({"$filter": f"iCalUId eq '{escaped}'", "$select": SELECT})


def _own(answer: BatchAnswer) -> Raw | Denied | None:
    """The copy with the id that was asked for."""
    code = _code(answer.body)
    if answer.status == 200 and isinstance(answer.body, Mapping):
        return answer.body
    return None if _says_gone(answer.status, code) and code not in _NO_MAILBOX else _refusal(answer)


def _searched(ical: str, answer: BatchAnswer) -> Raw | Denied | None:
    """The copy that was searched for: whatever else an answer holds is another event of that user."""
    if answer.status != 200:
        return _refusal(answer)
    return next((raw for raw in _values(answer) if isinstance(raw, Mapping) and raw.get("iCalUId") == ical), None)


def _is_empty(answer: BatchAnswer) -> bool:
    """Whether a search was made, and found nothing."""
    return answer.status == 200 and not _values(answer)


def _values(answer: BatchAnswer) -> list[Any]:
    values = answer.body.get("value") if isinstance(answer.body, Mapping) else None
    return values if isinstance(values, list) else []


def _refusal(answer: BatchAnswer) -> Denied | None:
    """Why a mailbox cannot be read; None where only this request is not taken."""
    refused = answer.status in (403, 404) or is_transient(answer.status)
    return denial(answer.status, _code(answer.body)) if refused else None


def fetch_copy_at(graph: GraphClient, mailbox: str, ical: str, start: datetime, end: datetime) -> Raw | None:
    """An organizer's copy that no search finds, looked for at the time of its meeting: it is an event there, or the
    series that one of them belongs to.
    """
    view = fetch_view(graph, mailbox, start, end)
    masters = {str(raw["seriesMasterId"]) for raw in view if raw.get("seriesMasterId")}
    found = [raw for raw in view if raw.get("iCalUId") == ical]
    if not found and masters:
        series = fetch_events(graph, mailbox, masters).values()
        found = [raw for raw in series if isinstance(raw, Mapping) and raw.get("iCalUId") == ical]
    return found[0] if found else None


def denial(status: int, code: str) -> Denied:
    """Why a user's mailbox cannot be used. Only 403 and 404 are said for good."""
    if status == 403:
        return Denied("denied")
    if status != 404:
        return Denied("unanswered")
    return Denied("external" if code in _NOBODY else "no-mailbox")


def _code(body: Any) -> str:
    """Graph's code in the body of a refusal that came in a batch."""
    error = body.get("error") if isinstance(body, Mapping) else None
    return str(error.get("code")) if isinstance(error, Mapping) else ""


def _batched(graph: GraphClient, paths: Mapping[K, tuple[str, str]]) -> dict[K, BatchAnswer]:
    """The answers to GETs, in as few batches as the mailboxes' limit of concurrent requests allows."""
    answers: dict[K, BatchAnswer] = {}
    waiting = list(paths.items())
    while waiting:
        part, waiting = _fill(waiting)
        requests = [
            BatchRequest(str(number), "GET", path, dict(READ_HEADERS))
            for number, (_, (_, path)) in enumerate(part, start=1)
        ]
        got = graph.batch(requests) if len(requests) > 1 else {"1": graph.ask(requests[0])}
        answers |= {key: got[str(number)] for number, (key, _) in enumerate(part, start=1)}
    return answers


def _fill(
    waiting: Sequence[tuple[K, tuple[str, str]]],
) -> tuple[list[tuple[K, tuple[str, str]]], list[tuple[K, tuple[str, str]]]]:
    """The next batch, and what is left for others."""
    part: list[tuple[K, tuple[str, str]]] = []
    left: list[tuple[K, tuple[str, str]]] = []
    open_calls: Counter[str] = Counter()
    for one in waiting:
        mailbox = one[1][0]
        if len(part) < BATCH and open_calls[mailbox] < AT_ONCE:
            open_calls[mailbox] += 1
            part.append(one)
        else:
            left.append(one)
    return part, left
