"""Pages of events on the wire: which of two that are the same counts, where a listing ends, and how it is asked for."""

from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import pytest
import responses

from sync.calendars.mailboxes import PAGES, copy_path, fetch_instances, fetch_round, fetch_view
from sync.errors import Forbidden, GraphError
from sync.graph.client import GraphClient
from tests.client import GRAPH, clock, graph, record, tokens
from tests.clock import START

__all__ = ["clock", "graph", "record", "tokens"]

MAIL = "oak@contoso.com"
WINDOW = (START, START + timedelta(days=7))
VIEW = f"{GRAPH}/v1.0/users/{MAIL}/calendarView"


def seen(subject: str, changed: str | None) -> dict[str, Any]:
    return {"id": "E", "subject": subject, **({} if changed is None else {"lastModifiedDateTime": changed})}


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        ("2026-03-01T10:00:00Z", "2026-03-01T10:00:00.1234567Z", "second"),
        ("2026-03-01T10:00:00.15Z", "2026-03-01T10:00:00.1Z", "first"),
        ("2026-03-01T10:00:00.1Z", "2026-03-01T10:00:00.15Z", "second"),
        ("2026-03-01T10:00:00.10Z", "2026-03-01T10:00:00.1Z", "second"),
        ("2026-03-01T10:00:01Z", "2026-03-01T10:00:00Z", "first"),
        ("2026-03-01T10:00:00Z", None, "second"),
        (None, "2026-03-01T10:00:00Z", "second"),
        ("2026-03-01T10:00:00Z", "yesterday", "second"),
    ],
)
@responses.activate
def test_the_last_word_on_an_event(graph: GraphClient, first: str | None, second: str | None, counts: str) -> None:
    """The later version, whatever zeros are left out; where one does not say when it was changed, the one that came last."""
    items = [seen("first", first), seen("second", second)]
    responses.get(f"{VIEW}/delta", json={"value": items, "@odata.deltaLink": f"{VIEW}/delta?$deltatoken=1"})

    assert fetch_round(graph, MAIL, "", WINDOW).events["E"]["subject"] == counts


@responses.activate
def test_a_listing_that_leads_to_itself(graph: GraphClient) -> None:
    """It is never complete: nothing is made of what it has shown."""
    link = f"{VIEW}?$skip=1"
    responses.get(VIEW, json={"value": [seen("A", None)], "@odata.nextLink": link})

    with pytest.raises(GraphError) as failed:
        fetch_view(graph, MAIL, *WINDOW)

    assert failed.value.code == "endless-listing"
    assert len(responses.calls) == 2


@responses.activate
def test_a_listing_without_an_end(graph: GraphClient) -> None:
    """Every page leads to another one that is new: there are so many at most."""

    def page(request: Any) -> tuple[int, dict[str, str], str]:
        number = len(responses.calls)
        return 200, {}, f'{{"value": [], "@odata.nextLink": "{VIEW}?$skip={number}"}}'

    responses.add_callback("GET", VIEW, page)

    with pytest.raises(GraphError) as failed:
        fetch_view(graph, MAIL, *WINDOW)

    assert failed.value.code == "endless-listing"
    assert len(responses.calls) == PAGES


@responses.activate
def test_instances_that_are_refused(graph: GraphClient) -> None:
    """Who may not look does not look elsewhere."""
    url = f"{GRAPH}/v1.0/users/{MAIL}/events/M/instances"
    responses.get(url, status=403, json={"error": {"code": "ErrorAccessDenied"}})

    with pytest.raises(Forbidden):
        fetch_instances(graph, MAIL, "M", WINDOW)

    assert len(responses.calls) == 1


def test_a_search_can_be_read_by_whoever_decodes_percents() -> None:
    """Spaces are %20, and what Learn's examples leave as it is stays so; a quote in an id is doubled."""
    path = copy_path("ann+lee@contoso.com", "0400'00 82+/=&x")

    assert path.startswith(
        "/users/ann%2Blee@contoso.com/events?$filter=iCalUId%20eq%20'0400''00%2082%2B%2F=%26x'&$select=id,"
    )
    assert "+" not in path
    assert unquote(path).split("&$select=")[0].endswith("$filter=iCalUId eq '0400''00 82+/=&x'")
