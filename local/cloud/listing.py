"""Pages of directory objects, whichever collection they are in (Learn: Paging Microsoft Graph data in your app)."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from local.cloud.kinds import linked, selected_of_any
from local.cloud.objects import DirectoryObject, Link, Properties
from local.cloud.odata import Filter, Test, bad, refuse_options, unsupported
from local.cloud.paging import link, open_page_token, page_size, page_token, untidy
from local.cloud.protocol import Answer, Call

LISTING_OPTIONS = {"$select", "$top", "$filter", "$count", "$search", "$orderby", "$expand", "$skiptoken", "$format"}
ADVANCED_ONLY = (
    "Unsupported Query. The query or its required parameters might be missing. Try adding $count=true query parameter"
    " and ConsistencyLevel:eventual header. Refer to https://aka.ms/graph-docs/advanced-queries"
)


@dataclass(frozen=True)
class Listing:
    """One collection as a call asks for it. `candidates` are its objects from a position on, each with its position;
    positions only grow, so that a page can start where the one before it ended."""

    context: str
    candidates: Callable[[int], Iterable[tuple[int, DirectoryObject]]]
    test: Test
    render: Callable[[Any], Properties]

    def answer(self, call: Call) -> Answer:
        size = page_size(call, 100, 999)
        start = _page_start(call)
        found, after = ([], start) if untidy(call) else self._take(start, size)
        body: dict[str, Any] = {"@odata.context": f"{call.base}/$metadata#{self.context}"}
        if start == 0 and is_advanced(call):  # $count without the header is ignored without a word
            body["@odata.count"] = self.count()
        if after is not None:
            options = {name: value for name, value in call.query.items() if name != "$skiptoken"}
            body["@odata.nextLink"] = link(call, call.path, {**options, "$skiptoken": page_token(call, after)})
        body["value"] = [self.render(each) for each in found]
        return Answer(body=body)

    def count(self) -> int:
        return sum(1 for _ in self._wanted(0))

    def _wanted(self, start: int) -> Iterator[tuple[int, DirectoryObject]]:
        return (
            (position, each) for position, each in self.candidates(start) if each.live and self.test(each.properties)
        )

    def _take(self, start: int, size: int) -> tuple[list[DirectoryObject], int | None]:
        """Up to `size` objects, and where the next page starts, None at the end."""
        found: list[DirectoryObject] = []
        for position, each in self._wanted(start):
            if len(found) == size:
                return found, position
            found.append(each)
        return found, None


def is_advanced(call: Call) -> bool:
    return call.advanced and call.query.get("$count") == "true"


def refuse_listing_options(call: Call) -> None:
    """Refuse what no collection of the directory supports."""
    if "$skip" in call.query:
        raise bad("'$skip' is not supported by the service.")
    for name in sorted(set(call.query) - LISTING_OPTIONS):
        raise bad(f"Unrecognized query argument specified: '{name}'.")


def filter_test(call: Call, known: frozenset[str]) -> Test:
    """What $filter asks of an object; Refused where it is wrong or needs eventual consistency and a count."""
    if "$filter" not in call.query:
        return lambda _: True
    parsed = Filter(call.query["$filter"], known)
    if parsed.advanced and not (call.advanced and (call.path.endswith("$count") or is_advanced(call))):
        raise unsupported(ADVANCED_ONLY)
    return parsed.test


def linked_objects(call: Call, links: Iterable[Link]) -> Listing:
    """The objects of all kinds that another one links to."""
    refuse_listing_options(call)
    refuse_options(call, {"$filter", "$search", "$orderby", "$expand"})
    names = selected_of_any(call.query["$select"]) if "$select" in call.query else None
    return Listing(
        context=f"directoryObjects{shape(names)}",
        candidates=lambda start: ((serial, each) for serial, each in links if serial >= start),
        test=lambda _: True,
        render=lambda each: linked(call, each, names),
    )


def shape(names: list[str] | None) -> str:
    return f"({','.join(names)})" if names else ""


def _page_start(call: Call) -> int:
    start = open_page_token(call, call.query["$skiptoken"]) if "$skiptoken" in call.query else 0
    if not isinstance(start, int):
        raise bad("Badly formed token.")
    return start
