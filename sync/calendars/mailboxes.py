"""What is asked of mailboxes: the changes of a room, single events, instances of a series, organizers' copies.

Every call sends `Prefer: IdType="ImmutableId"` (Learn: Obtain immutable identifiers for Outlook resources), and at most
four items of a batch go to one mailbox: it serves no more at once (Learn: Microsoft Graph service-specific throttling
limits, Outlook).
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlencode

from sync.calendars.event import READ_HEADERS, SELECT
from sync.errors import CursorExpired, Forbidden, GraphError, NotFound
from sync.graph.client import BatchRequest, GraphClient

PAGE = 200
PAGES = 500
AT_ONCE = 4
BATCH = 20
_HEADERS = {"Prefer": f"{READ_HEADERS['Prefer']}, odata.maxpagesize={PAGE}"}
_NOBODY = frozenset({"ErrorInvalidUser", "Request_ResourceNotFound"})
_NO_MAILBOX = _NOBODY | {"MailboxNotEnabledForRESTAPI", "ResourceNotFound"}
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
    """A mailbox that cannot be read. `external` is one that is no mailbox of the tenant at all."""

    reason: Literal["denied", "no-mailbox", "external"]


def event_path(mailbox: str, event: str = "") -> str:
    """The path of a mailbox's events, or of one of them."""
    return f"/users/{quote(mailbox, safe='@')}/events" + (f"/{quote(event, safe='')}" if event else "")


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
            elif event not in events or _modified(item) >= _modified(events[event]):
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


def _modified(item: Raw) -> str:
    text = item.get("lastModifiedDateTime")
    return text if isinstance(text, str) else ""


def fetch_view(graph: GraphClient, mailbox: str, start: datetime, end: datetime) -> list[Raw]:
    """Everything that takes place between `start` and `end`, occurrences too (Learn: List calendarView)."""
    params = {**_window(start, end), "$select": SELECT, "$top": str(PAGE)}
    return _all(graph, f"/users/{quote(mailbox, safe='@')}/calendarView", params)


def fetch_instances(
    graph: GraphClient, mailbox: str, master: str, window: tuple[datetime, datetime]
) -> list[Raw] | None:
    """The instances of a series in the window, None where the series is gone (Learn: List instances)."""
    params = {**_window(*window), "$select": SELECT, "$top": str(PAGE)}
    try:
        return _all(graph, event_path(mailbox, master) + "/instances", params)
    except NotFound:
        return None


def _all(graph: GraphClient, path: str, params: Mapping[str, str]) -> list[Raw]:
    page = graph.page(path, params=params, headers=READ_HEADERS)
    found: list[Raw] = list(page.items)
    while page.next_link:
        page = graph.page(page.next_link, headers=READ_HEADERS)
        found += page.items
    return found


def fetch_event(graph: GraphClient, mailbox: str, event: str) -> Raw | None:
    """One event, None where it is gone. Raises NotFound where its mailbox is, Forbidden where that is closed."""
    try:
        return graph.get(event_path(mailbox, event), params={"$select": SELECT}, headers=READ_HEADERS)
    except NotFound as error:
        if is_mailbox_gone(error):
            raise
        return None


def is_mailbox_gone(error: NotFound) -> bool:
    """Whether it is the mailbox that is not there, not just the event."""
    return error.graph_code in _NO_MAILBOX


def fetch_events(graph: GraphClient, mailbox: str, events: Iterable[str]) -> dict[str, Raw | None]:
    """Single events by id, None for those that are gone. Raises as `fetch_event` does."""
    wanted = sorted(set(events))
    if len(wanted) == 1:
        return {wanted[0]: fetch_event(graph, mailbox, wanted[0])}
    paths = {event: (mailbox, f"{event_path(mailbox, event)}?{urlencode({'$select': SELECT})}") for event in wanted}
    found: dict[str, Raw | None] = {}
    for event, answer in _batched(graph, paths).items():
        if answer.status == 403:
            raise Forbidden("Graph refuses a room's event", http=403, graph_code="ErrorAccessDenied")
        if answer.status == 404 and _code(answer.body) in _NO_MAILBOX:
            raise NotFound("Graph knows no such mailbox", http=404, graph_code=_code(answer.body))
        if answer.status not in (200, 404, 410):
            raise GraphError("Graph refuses a room's event", http=answer.status, graph_code="unknown")
        found[event] = answer.body if answer.status == 200 else None
    return found


def fetch_copies(graph: GraphClient, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Raw | Denied | None]:
    """Organizers' copies by (mailbox, iCalUId): the event, or why its mailbox cannot be read.

    None where there is none, or Graph does not take the search: it is tried again with the next full sync.
    """
    paths = {key: (key[0], copy_path(*key)) for key in sorted(set(wanted))}
    answers = _batched(graph, paths)
    return {key: _copy(answer.status, answer.body) for key, answer in answers.items()}


def copy_path(mailbox: str, ical: str) -> str:
    """The search for an organizer's own copy of a meeting (Learn: List events, $filter)."""
    escaped = ical.replace("'", "''")
    return f"{event_path(mailbox)}?" + urlencode({"$filter": f"iCalUId eq '{escaped}'", "$select": SELECT})


def _copy(status: int, body: Any) -> Raw | Denied | None:
    if status == 200 and isinstance(body, Mapping):
        values = body.get("value")
        copies = [one for one in values if isinstance(one, Mapping)] if isinstance(values, list) else []
        return copies[0] if copies else None
    return denial(status, _code(body)) if status in (403, 404) else None


def denial(status: int, code: str) -> Denied:
    """Why a user's mailbox cannot be used, from a 403 or 404."""
    if status == 403:
        return Denied("denied")
    return Denied("external" if code in _NOBODY else "no-mailbox")


def _code(body: Any) -> str:
    """Graph's code in the body of a refusal that came in a batch."""
    error = body.get("error") if isinstance(body, Mapping) else None
    return str(error.get("code")) if isinstance(error, Mapping) else ""


def _batched(graph: GraphClient, paths: Mapping[K, tuple[str, str]]) -> dict[K, Any]:
    """The answers to GETs, in as few batches as the mailboxes' limit of concurrent requests allows."""
    answers: dict[K, Any] = {}
    waiting = list(paths.items())
    while waiting:
        part, waiting = _fill(waiting)
        requests = [
            BatchRequest(str(number), "GET", path, dict(READ_HEADERS))
            for number, (_, (_, path)) in enumerate(part, start=1)
        ]
        got = graph.batch(requests)
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
