"""Reads a Graph collection: a first full listing, then delta.

Stages of a reading, each kept in the checkpoint, before those that sync/mirror.py adds:

    list     every page of the collection, after a delta token for "from now" was taken
    missing  what the complete listing did not show is noted as absent
    delta    the changes since the last run
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage.tables import Write
from sync.deletions import At
from sync.errors import CursorExpired, Forbidden, GraphError, GroupNotFound, NotFound, TenantsyncError
from sync.graph.client import BatchRequest, Page
from sync.graph.protocol import whole_text
from sync.jobs import Work
from sync.mirror import QUIET, Mirror, Source, Unreadable
from sync.plan import Absent, Present
from sync.runs import STATE
from sync.sync_settings import GuardIn

log = logging.getLogger(__name__)

PAGE = 999  # the most that /users gives at once (Learn: List users); for /devices nobody says
MAX_RESTARTS = 3
OWNERS = "registeredOwners"
MANAGER = "manager"
MAX_VALUE = 8_000  # characters of a property whose form is not known here
_BOOLEANS = frozenset({"accountEnabled", "isCompliant", "isManaged", "isRooted", "onPremisesSyncEnabled"})
_LISTS = frozenset({"businessPhones", "otherMails", "physicalIds", "proxyAddresses", "systemLabels"})
_OPEN = frozenset({"assignedLicenses", "extensionAttributes", "onPremisesExtensionAttributes"})


@dataclass(frozen=True)
class Reading:
    """How one run reads one collection. A delta link made for another `scope` cannot be gone on from.

    `excluded` says why an item is not wanted, "" where it is; `filter` has the source leave out what it can. Where only
    the users of a `group` are wanted, every run lists them: delta tells of the whole directory (Learn: user: delta).
    """

    collection: str
    fields: tuple[str, ...]
    scope: Mapping[str, Any]
    excluded: Callable[[Mapping[str, Any]], str]
    guard: GuardIn
    filter: str = ""
    owners: bool = False
    group: str = ""

    @property
    def path(self) -> str:
        """What the listing lists: the whole collection, or the users of a group and of all groups below it."""
        return f"/groups/{self.group}/transitiveMembers/microsoft.graph.user" if self.group else f"/{self.collection}"

    @property
    def headers(self) -> dict[str, str]:
        """Those of every page. A cast needs them (Learn: Advanced query capabilities on Microsoft Entra ID objects)."""
        return {"ConsistencyLevel": "eventual"} if self.group else {}

    @property
    def roles(self) -> str:
        """The least permissions that reading takes."""
        least = "Device.Read.All" if self.collection == "devices" else "User.Read.All"
        return f"GroupMember.Read.All and {least}" if self.group else least

    @property
    def left(self) -> str:
        """Why something is gone that a listing no longer shows."""
        return "not-listed" if self.group or self.filter else "left"

    def first_page(self) -> dict[str, str]:
        """The parameters of the listing. References are expanded there, while delta takes their names as fields."""
        references = [MANAGER] if MANAGER in self.fields else []
        references += [OWNERS] if self.owners else []
        wanted = {
            "$select": ",".join(("id", *(name for name in self.fields if name != MANAGER))),
            "$top": str(PAGE),
            "$expand": ",".join(f"{reference}($select=id)" for reference in references),
            "$filter": self.filter,
            "$count": "true" if self.group else "",
        }
        return {name: value for name, value in wanted.items() if value}


def read_collection(mirror: Mirror, reading: Reading, checkpoint: At) -> At | None:
    """Bring the stored copy up to date, from `checkpoint` on; None when the slice's time is up before the end.

    Raises what the Graph client raises.
    """
    at = checkpoint or {"stage": "begin"}
    if at.get("scope", reading.scope) != reading.scope:  # the settings were changed while it was read
        at = _start_over(mirror, at, at["restarts"])
    while at["stage"] != "done":
        if mirror.work.time_is_up():
            return None
        try:
            at = _STAGES[at["stage"]](mirror, reading, at)
        except CursorExpired as error:
            at = _restart(mirror, at, error)
        except Forbidden as error:
            remedy = f"Grant the app {reading.roles} with admin consent, then check the connection."
            raise Forbidden(error.detail, http=error.http, graph_code=error.graph_code, remedy=remedy) from error
    return at


def _restart(mirror: Mirror, at: At, error: CursorExpired) -> At:
    """Where to go on after a link has expired; not for ever.

    A page link from an answer to a retried request may not work (Learn: Paging Microsoft Graph data in your app):
    the listing goes on from the last link that did not come that way. Any other expiry means a full listing.
    """
    restarts = at.get("restarts", 0) + 1
    if restarts > MAX_RESTARTS:
        raise error
    log.info("directory listing steps back run=%s code=%s", mirror.work.run.id, error.graph_code)
    safe = at.get("safe")
    if at["stage"] == "list" and safe and safe["link"] != at["link"] and not mirror.dry:
        work = mirror.work
        back = {**at, "link": safe["link"], "read": safe["read"]}
        work.claim.commit(work.now(), checkpoint=mirror.nest(back), counts={**work.run.counts, **safe["quiet"]})
        return back
    return _start_over(mirror, at, restarts)


def _start_over(mirror: Mirror, at: At, restarts: int) -> At:
    again = {"stage": "begin", "full": True, "restarts": restarts, "page": at.get("page", 0)}
    mirror.start_over(again)
    return again


def _begin(mirror: Mirror, reading: Reading, at: At) -> At:
    work = mirror.work
    cursor: At = work.state(reading.collection).get("j_cursor") or {"link": None}
    page = at.get("page", 0)
    following = {"page": page, "scope": dict(reading.scope), "restarts": at.get("restarts", 0)}
    fits = cursor["link"] and cursor["scope"] == reading.scope
    if fits and work.run.mode == "delta" and not at.get("full"):
        return {**following, "stage": "delta", "link": cursor["link"]}
    delta = None if reading.group else _latest(work, reading)
    following |= {"stage": "list", "link": None, "delta": delta, "read": 0, "whole": True}
    following["listing"] = f"{work.run.id}#{page}"
    work.claim.commit(
        work.now(), checkpoint=mirror.nest(following)
    )  # every step leaves a checkpoint, however slow Graph is
    return following


def _latest(work: Work, reading: Reading) -> str:
    """A delta link for "from now"."""
    select = ",".join(("id", *reading.fields))
    page = work.graph.page(f"/{reading.collection}/delta", params={"$deltatoken": "latest", "$select": select})
    if page.delta_link is None:
        raise _no_delta_link()
    return page.delta_link


def _no_delta_link() -> TenantsyncError:
    return TenantsyncError("Graph gave no delta link", code="graph-no-delta-link", remedy="Start the sync again.")


def _list(mirror: Mirror, reading: Reading, at: At) -> At:
    """One page of the full listing."""
    work = mirror.work
    retried = work.graph.usage.retried
    page = _listed(work, reading, at["link"])
    number = at["page"] + 1
    following = {**at, "page": number, "link": page.next_link, "read": at["read"] + len(page.items)}
    following["whole"] = at["whole"] and all(map(_item_id, page.items))
    if page.next_link is None:
        following["stage"] = "missing"
    batch = mirror.take(_sources(page.items, reading, {}), mirror.index(), number, listing=at["listing"], full=True)
    if work.graph.usage.retried == retried:
        quiet = {name: work.run.counts.get(name, 0) + batch.waiting(name) for name in QUIET}
        following["safe"] = {"link": page.next_link, "read": following["read"], "quiet": quiet}
    batch.flush(following)
    return following


def _listed(work: Work, reading: Reading, link: str | None) -> Page:
    """The page behind `link`, or the first one. Raises GroupNotFound besides what the Graph client raises."""
    if link:
        return work.graph.page(link, headers=reading.headers)
    try:
        return work.graph.page(reading.path, params=reading.first_page(), headers=reading.headers)
    except NotFound as error:
        if not reading.group:
            raise
        raise GroupNotFound(error) from error


def _missing(mirror: Mirror, reading: Reading, at: At) -> At:
    return mirror.missing(at, [_cursor(reading, at["delta"])], reading.left)


def _delta(mirror: Mirror, reading: Reading, at: At) -> At:
    """One page of changes. A link that leads nowhere, or to another host than Graph, is worth no more than an old one."""
    try:
        page = mirror.work.graph.page(at["link"])
    except GraphError as error:
        if isinstance(error, NotFound) or error.code == "foreign-link":
            raise CursorExpired("The delta link leads nowhere", http=error.http, graph_code=error.graph_code) from error
        raise
    if page.next_link is None and page.delta_link is None:
        raise _no_delta_link()
    number = at["page"] + 1
    stored = mirror.load(str(item.get("id")) for item in page.items)
    before = {mirror.id(key): known.fields or {} for key, known in stored.items()}
    items = _with_owners(mirror.work, page.items) if reading.owners else page.items
    batch = mirror.take(_sources(items, reading, before), stored, number, listing=mirror.work.run.id, full=False)
    if page.next_link:
        following = {**at, "page": number, "link": page.next_link}
        batch.flush(following)
        return following
    following = {"stage": "deletions", "page": number + 1}
    batch.flush(following, [_cursor(reading, page.delta_link)])
    return following


def _cursor(reading: Reading, link: str | None) -> Write:
    return Write("merge", STATE + reading.collection, {"j_cursor": {"link": link, "scope": dict(reading.scope)}})


def _with_owners(work: Work, items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The items with their owners, which delta cannot expand: asked for by 20 (Learn: List registeredOwners)."""
    changed = [item for item in items if "@removed" not in item and isinstance(item.get("id"), str)]
    owners: dict[str, Any] = {}
    for start in range(0, len(changed), 20):
        part = changed[start : start + 20]
        requests = [
            BatchRequest(str(number), "GET", f"/devices/{item['id']}/{OWNERS}?$select=id")
            for number, item in enumerate(part)
        ]
        answers = work.graph.batch(requests)
        for number, item in enumerate(part):
            answer = answers[str(number)]
            if answer.status == 200 and isinstance(answer.body, Mapping):
                owners[item["id"]] = answer.body.get("value")
    return [{**item, OWNERS: owners[item["id"]]} if item.get("id") in owners else item for item in items]


class _Unreadable(ValueError):
    """A value that cannot be taken; the text is a reason slug."""


def _sources(
    items: Sequence[Mapping[str, Any]], reading: Reading, before: Mapping[str, Mapping[str, Any]]
) -> dict[str, Source]:
    """What Graph says of each item; one may come twice in a page: the last one counts."""
    sources: dict[str, Source] = {}
    for item in items:
        item_id = item.get("id")
        readable = isinstance(item_id, str) and bool(item_id)
        sources[str(item_id)] = (
            _source(item, reading, before.get(str(item_id), {})) if readable else Unreadable("no-id")
        )
    return sources


def _item_id(item: Mapping[str, Any]) -> str:
    """The id of an item of Graph's, empty where it has none that can be read."""
    found = item.get("id")
    return found if isinstance(found, str) else ""


def _source(item: Mapping[str, Any], reading: Reading, before: Mapping[str, Any]) -> Source:
    """What Graph says of one item. A property that a delta answer leaves out is as it was before."""
    if "@removed" in item:
        removed = item["@removed"]
        for_good = reading.collection == "users" and isinstance(removed, Mapping) and removed.get("reason") == "deleted"
        return Absent("gone-for-good" if for_good else "left")
    try:
        fields = {name: _value(name, _raw(name, item, before)) for name in reading.fields}
        if reading.owners:
            fields["owners"] = _owners(item, before)
    except _Unreadable as bad:
        return Unreadable(str(bad))
    reason = reading.excluded(fields)
    return Absent(reason) if reason else Present(fields)


def _owners(item: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    if OWNERS not in item:
        return list(before.get("owners", ()))
    owners = item[OWNERS] or []
    if not isinstance(owners, list) or not all(
        isinstance(one, Mapping) and isinstance(one.get("id"), str) for one in owners
    ):
        raise _Unreadable("unreadable-owners")
    return sorted(one["id"] for one in owners)


def _raw(name: str, item: Mapping[str, Any], before: Mapping[str, Any]) -> Any:
    """A property as Graph gives it; a manager, which comes in two forms, as an id."""
    if name != MANAGER:
        return item.get(name, before.get(name))
    if f"{MANAGER}@delta" in item:
        left = [one for one in item[f"{MANAGER}@delta"] if "@removed" not in one]
        return left[0].get("id") if left else None
    if MANAGER in item:
        return (item[MANAGER] or {}).get("id")
    return before.get(MANAGER)


def _value(name: str, value: Any) -> Any:
    if name in _OPEN or name.startswith("extension_"):
        text = json.dumps(value)
        if len(text) > MAX_VALUE:
            raise _Unreadable(f"too-large-{name}")
        return value
    if name in _LISTS:
        value = value or []
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            raise _Unreadable(f"unreadable-{name}")
        return [whole_text(part) for part in value]
    if value is not None and not isinstance(value, bool if name in _BOOLEANS else str):
        raise _Unreadable(f"unreadable-{name}")
    return whole_text(value) if isinstance(value, str) else value


_STAGES: dict[str, Callable[[Mirror, Reading, At], At]] = {
    "begin": _begin,
    "list": _list,
    "missing": _missing,
    "delta": _delta,
    "deletions": lambda mirror, reading, at: mirror.deletions(at, reading.guard),
    "approved": lambda mirror, _reading, at: mirror.approved(at),
    "purge": lambda mirror, _reading, at: mirror.purge(at),
}
