"""Reads the contact tree from Graph, and asks cheaply whether it has changed since it was last read.

Two delta links taken before a reading, one for users and one for groups, tell whether anything in the tree has changed
since. They are hints: what is stored always comes from a complete reading.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sync.contacts.tree import FIELDS, Tree
from sync.errors import CursorExpired, Forbidden, GraphError, GroupNotFound, NotFound, TenantsyncError
from sync.graph.client import BatchAnswer, BatchRequest, GraphClient

PAGE = 999  # the most that members gives at once (Learn: List group members)
BATCH = 20
HINT_PAGES = 5  # in a busy tenant, reading the tree again costs less than reading on
HIDDEN = "HiddenMembership"
_MINIMAL = {"Prefer": "return=minimal"}
_SELECT = ",".join(("id", *FIELDS))
_Members = Sequence[Mapping[str, Any]]


class Top(NamedTuple):
    """The top group as it was before its members were read, and the hints taken then ("" where Graph gave none)."""

    hidden: bool
    users: str
    groups: str


def fetch_top(graph: GraphClient, group_id: str) -> Top:
    """The top group and fresh hints, in one request. Raises GroupNotFound, Forbidden `contacts-forbidden`."""
    requests = {
        "group": f"/groups/{group_id}?$select=id,visibility",
        "users": f"/users/delta?$deltatoken=latest&$select={_SELECT},userPrincipalName",
        "groups": "/groups/delta?$deltatoken=latest&$select=displayName,visibility,members",
    }
    answers = graph.batch([BatchRequest(name, "GET", url) for name, url in requests.items()])
    try:
        group = _body(answers["group"])
    except NotFound as error:
        raise GroupNotFound(error) from error
    hints = []
    for name in ("users", "groups"):
        if answers[name].status in (401, 403):
            _body(answers[name])
        body = answers[name].body
        link = body.get("@odata.deltaLink") if isinstance(body, Mapping) else None
        hints.append(link if isinstance(link, str) else "")
    return Top(group.get("visibility") == HIDDEN, *hints)


def fetch_tree(graph: GraphClient, group_id: str, top: Top, still_here: Callable[[], None]) -> Tree:
    """The whole tree; `still_here` is called between requests.

    Raises TenantsyncError `group-hidden-membership` where the top group does not show its members, GroupNotFound,
    Forbidden `contacts-forbidden`.
    """
    tree = Tree()
    for member in _fetch_top_members(graph, group_id, top):
        tree.add(member, None)
    nobody = []
    for group, answer, members in _fetch_members(graph, list(tree.groups), still_here):
        if answer.status in (403, 404):
            tree.unread[group] = "hidden-membership" if answer.status == 403 else "group-gone"
        elif not members:
            nobody.append(group)
        for member in members:
            tree.add(member, group)
    for group in _hidden(graph, nobody):
        tree.unread[group] = "hidden-membership"
    return tree


def _fetch_top_members(graph: GraphClient, group_id: str, top: Top) -> _Members:
    try:
        page = graph.page(f"/groups/{group_id}/members", params={"$select": _SELECT, "$top": str(PAGE)})
    except NotFound as error:
        raise GroupNotFound(error) from error
    except Forbidden as error:
        if top.hidden:
            raise _hides() from error
        raise _forbidden(error.http, error.graph_code) from error
    if top.hidden and not page.items and not page.next_link:
        raise _hides()
    return [*page.items, *_behind(graph, page.next_link)]


def _fetch_members(
    graph: GraphClient, groups: Sequence[str], still_here: Callable[[], None]
) -> Iterator[tuple[str, BatchAnswer, _Members]]:
    """For each group the answer to its first page, and all its direct members: first pages by 20 in a batch."""
    for start in range(0, len(groups), BATCH):
        part = groups[start : start + BATCH]
        urls = [f"/groups/{group}/members?$select={_SELECT}&$top={PAGE}" for group in part]
        answers = graph.batch([BatchRequest(str(number), "GET", url) for number, url in enumerate(urls)])
        for number, group in enumerate(part):
            answer = answers[str(number)]
            if answer.status in (403, 404):
                yield group, answer, ()
                continue
            body = _body(answer)
            yield group, answer, [*(body.get("value") or ()), *_behind(graph, body.get("@odata.nextLink"))]
            still_here()


def _behind(graph: GraphClient, link: str | None) -> Iterator[Mapping[str, Any]]:
    """Everything behind a page link."""
    while link:
        page = graph.page(link)
        yield from page.items
        link = page.next_link


def _hidden(graph: GraphClient, groups: Sequence[str]) -> Iterator[str]:
    """Those of these groups, which show nobody, that hide their members (Learn: List group members, hidden membership)."""
    for start in range(0, len(groups), BATCH):
        part = groups[start : start + BATCH]
        asked = [BatchRequest(group, "GET", f"/groups/{group}?$select=id,visibility") for group in part]
        for group, answer in graph.batch(asked).items():
            if isinstance(answer.body, Mapping) and answer.body.get("visibility") == HIDDEN:
                yield group


def _body(answer: BatchAnswer) -> Mapping[str, Any]:
    """What a batch item answered. Raises NotFound, Forbidden `contacts-forbidden`, GraphError."""
    if answer.status == 200 and isinstance(answer.body, Mapping):
        return answer.body
    error = answer.body.get("error") if isinstance(answer.body, Mapping) else None
    code = str(error.get("code", "")) if isinstance(error, Mapping) else ""
    if answer.status in (401, 403):
        raise _forbidden(answer.status, code)
    kind = NotFound if answer.status == 404 else GraphError
    raise kind(f"Graph answered {answer.status} for a group", http=answer.status, graph_code=code)


def _forbidden(http: int, graph_code: str) -> Forbidden:
    return Forbidden(
        "Graph refuses to read the group and its people",
        http=http,
        graph_code=graph_code,
        code="contacts-forbidden",
        remedy="Grant the app GroupMember.Read.All and User.Read.All with admin consent, then check the connection.",
    )


def _hides() -> TenantsyncError:
    return TenantsyncError(
        "The group hides its members from this app; nothing was deleted",
        code="group-hidden-membership",
        remedy="Grant the app Member.Read.Hidden, or use a group without hidden membership.",
    )


# --- has anything changed --------------------------------------------------------------------------------------------


def fetch_hints(
    graph: GraphClient,
    users: str,
    groups: str,
    known_users: Callable[[Sequence[str]], object],
    known_groups: Callable[[Sequence[str]], object],
) -> tuple[str, str] | None:
    """New hints where nothing that matters has changed behind these, else None.

    A group matters where it is known. A user matters where the user is known, or comes whole: somebody new, or restored
    with the memberships of before, of which groups/delta does not tell. With `Prefer: return=minimal` a mere change
    does not show the name to sign in with.
    """

    def whole_or_known(items: _Members) -> bool:
        return any("userPrincipalName" in item for item in items) or bool(known_users(_ids(items)))

    later_groups = _quiet(graph, groups, lambda items: bool(known_groups(_ids(items))))
    later_users = later_groups and _quiet(graph, users, whole_or_known)
    return (later_users, later_groups) if later_users and later_groups else None


def _ids(items: _Members) -> list[str]:
    return [str(item.get("id")) for item in items]


def _quiet(graph: GraphClient, link: str, matters: Callable[[_Members], bool]) -> str | None:
    """The next link where nothing behind this one matters; None where something does, or it is not known."""
    for _ in range(HINT_PAGES):
        try:
            page = graph.page(link, headers=_MINIMAL)
        except (CursorExpired, NotFound):
            return None
        except Forbidden as error:
            raise _forbidden(error.http, error.graph_code) from error
        if page.items and matters(page.items):
            return None
        if page.delta_link or not page.next_link:
            return page.delta_link
        link = page.next_link
    return None
