"""Lists of events (Learn: List events, List calendarView, List instances)."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from urllib.parse import quote

from local.cloud.exchange.access import open_mailbox
from local.cloud.exchange.events import READ, find_event
from local.cloud.exchange.expansion import expanded, read_expansion
from local.cloud.exchange.filters import read_filter, read_order
from local.cloud.exchange.mailbox import Item, Mailbox, Properties
from local.cloud.exchange.series import Occurrence, occurrences
from local.cloud.exchange.shape import View, preferences, render, selected_names
from local.cloud.exchange.zones import UTC_NAME, MalformedTime, read_instant
from local.cloud.protocol import Answer, Call, Refused, Route

DEFAULT_PAGE = 10
LARGEST_PAGE = 1000
LONGEST_WINDOW = timedelta(days=1825)
OPTIONS = {"$select", "$top", "$skip", "$filter", "$orderby", "$count", "$expand", "$format"}
WINDOW = {"$startDateTime", "$endDateTime"}
Entry = tuple[Item, Occurrence | None]


def list_events(call: Call, key: str, *_: str) -> Answer:
    """Single events and series, no occurrences."""
    mailbox = open_mailbox(call, key)
    return _page(call, mailbox, [(item, None) for item in mailbox.items.values()], "events", OPTIONS)


def list_view(call: Call, key: str, *_: str) -> Answer:
    """What happens in a window: single events, occurrences, exceptions."""
    mailbox = open_mailbox(call, key)
    since, until = window(call)
    return _page(
        call, mailbox, list(entries_in(mailbox.items.values(), since, until)), "calendarView", OPTIONS | WINDOW
    )


def list_instances(call: Call, key: str, event_id: str) -> Answer:
    mailbox = open_mailbox(call, key)
    since, until = window(call)
    item, each = find_event(mailbox, event_id)
    if item.recurrence is None or each:
        message = "Your request can't be completed. The event is not the master of a series."
        raise Refused(400, "ErrorInvalidRequest", message)
    found: list[Entry] = [(item, one) for one in occurrences(item, since, until)]
    return _page(call, mailbox, found, "instances", OPTIONS | WINDOW)


def entries_in(items: Iterable[Item], since: datetime, until: datetime) -> Iterable[Entry]:
    """The single events and occurrences of a window, without masters."""
    for item in items:
        if item.recurrence:
            yield from ((item, each) for each in occurrences(item, since, until))
        elif item.when.overlaps(since, until):
            yield item, None


def window(call: Call) -> tuple[datetime, datetime]:
    """startDateTime and endDateTime, or Refused."""
    try:
        since, until = (read_instant(call.query[name]) for name in ("$startDateTime", "$endDateTime"))
    except KeyError as error:
        message = "This request requires a time window specified by the query string parameters StartDateTime and EndDateTime."
        raise Refused(400, "ErrorInvalidParameter", message) from error
    except MalformedTime as error:
        message = f"The value '{error}' of parameter StartDateTime or EndDateTime is invalid."
        raise Refused(400, "ErrorInvalidParameter", message) from error
    if until < since:
        raise Refused(400, "ErrorInvalidParameter", "The EndDateTime is earlier than the StartDateTime.")
    if until - since > LONGEST_WINDOW:
        message = "The requested time range is too long: at most 1825 days are allowed."
        raise Refused(400, "ErrorInvalidParameter", message)
    return since, until


def _page(call: Call, mailbox: Mailbox, entries: list[Entry], collection: str, options: set[str]) -> Answer:
    for name in sorted(set(call.query) - options):
        raise Refused(400, "RequestBroker--ParseUri", f"The query parameter '{name}' is not supported.")
    view, names, expansions = preferences(call, paged=True), selected_names(call), read_expansion(call)
    found = _ordered(call, _filtered(call, mailbox, entries))
    skip, size = _number(call, "$skip", 0), view.page_size or _number(call, "$top", DEFAULT_PAGE)
    size = max(1, min(size, LARGEST_PAGE))
    shown = [
        render(mailbox, item, view, each, names) | expanded(mailbox, item, each, view, expansions)
        for item, each in found[skip : skip + size]
    ]
    body: Properties = {"@odata.context": f"{call.base}/$metadata#users('{mailbox.guid}')/{collection}"}
    if call.query.get("$count", "").lower() == "true":
        body["@odata.count"] = len(found)
    body["value"] = shown
    if len(found) > skip + size:
        body["@odata.nextLink"] = _next_link(call, skip + size)
    return Answer(body=body, headers=view.headers)


def _next_link(call: Call, skip: int) -> str:
    names = {name: name if name not in WINDOW else name[1:] for name in call.query}
    options = {names[name]: value for name, value in call.query.items()} | {"$skip": str(skip)}
    query = "&".join(f"{name}={quote(value, safe=',')}" for name, value in options.items())
    return f"{call.base}/{quote(call.path, safe='/@')}?{query}"


def _number(call: Call, name: str, default: int) -> int:
    text = call.query.get(name, str(default))
    if not text.isdecimal():
        raise Refused(400, "RequestBroker--ParseUri", f"The value '{text}' of {name} is not a number.")
    return int(text)


def _filtered(call: Call, mailbox: Mailbox, entries: list[Entry]) -> list[Entry]:
    if "$filter" not in call.query:
        return entries
    test = read_filter(call.query["$filter"])
    return [entry for entry in entries if test(_searchable(mailbox, *entry))]


def _ordered(call: Call, entries: list[Entry]) -> list[Entry]:
    if "$orderby" not in call.query:
        return entries
    order = read_order(call.query["$orderby"].split(",")[0])
    by: dict[str, Callable[[Entry], object]] = {
        "start/dateTime": lambda entry: (entry[1] or entry[0]).when.start,
        "end/dateTime": lambda entry: (entry[1] or entry[0]).when.end,
        "createdDateTime": lambda entry: entry[0].created,
        "lastModifiedDateTime": lambda entry: entry[0].modified,
        "subject": lambda entry: str(entry[0].properties["subject"]).lower(),
    }
    return sorted(entries, key=by[order.name], reverse=order.descending)  # type: ignore[arg-type]  # all of one kind


def _searchable(mailbox: Mailbox, item: Item, each: Occurrence | None) -> Properties:
    plain = View(UTC_NAME, immutable=True, body_type=None, page_size=None, applied="")
    properties = item.properties["singleValueExtendedProperties"]
    return render(mailbox, item, plain, each) | {"singleValueExtendedProperties": properties}


ROUTES = [
    Route("GET", "users/{id}/events/{event}/instances", list_instances, READ, units=0, mailbox=True),
    Route("GET", "users/{id}/calendar/events/{event}/instances", list_instances, READ, units=0, mailbox=True),
    Route("GET", "users/{id}/events", list_events, READ, units=0, mailbox=True),
    Route("GET", "users/{id}/calendar/events", list_events, READ, units=0, mailbox=True),
    Route("GET", "users/{id}/calendarView", list_view, READ, units=0, mailbox=True),
    Route("GET", "users/{id}/calendar/calendarView", list_view, READ, units=0, mailbox=True),
]
