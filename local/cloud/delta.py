"""GET /users/delta, /devices/delta, /groups/delta (Learn: Use delta query to track changes in Microsoft Graph data)."""

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from local.cloud.kinds import DEVICE, GROUP, USER, Kind, reference, sees_members, shaped
from local.cloud.objects import Change, DirectoryObject, Group, Properties
from local.cloud.odata import bad, refuse_options, selected
from local.cloud.paging import link, open_page_token, page_token, preferred_page_size, seal, unseal, untidy
from local.cloud.protocol import Answer, Call, Refused, Route

MOST_LINKS = 200
TOKEN_LIFE = timedelta(days=7)
MOST_IDS = 50
START = [0, 0]
_ID_CLAUSE = re.compile(r"id eq '([^']+)'")


class Tracking(NamedTuple):
    """What one delta loop follows: the properties of $select, and the objects of $filter, None for all."""

    kind: Kind
    names: list[str] | None
    ids: list[str] | None

    @property
    def tracked(self) -> list[str]:
        return self.names or self.kind.default

    @property
    def token(self) -> list[Any]:
        return [self.kind.name, self.names, self.ids]

    def follows(self, object_id: str) -> bool:
        return self.ids is None or object_id in self.ids


class Round(NamedTuple):
    """One pass of a loop: changes between two versions of the log, or with `since` None everything there is.

    `position` is where the next page starts: at which object, and at which of its links.
    """

    since: int | None
    until: int
    position: list[int]
    tracking: Tracking


class Part(NamedTuple):
    """An object as one page shows it; `after` is the first of its links that the page has no room for."""

    shown: Properties
    links: int
    after: int | None


def delta(kind: Kind, call: Call) -> Answer:
    """A page of changes with a next link, or at the end of the round with a delta link."""
    refuse_options(call, {"$top", "$orderby", "$expand", "$search", "$skip", "$count"})
    if "$skiptoken" in call.query:
        return _page(call, _continued(call, kind))
    latest = len(kind.store(call.tenant).log)
    match call.query.get("$deltatoken", ""):
        case "":
            return _page(call, Round(None, latest, START, _tracking(call, kind)))
        case "latest":
            return _answer(call, Round(latest, latest, START, _tracking(call, kind)), [], None)
        case token:
            since, tracking = _resumed(call, kind, token)
            return _page(call, Round(since, latest, START, tracking))


def _tracking(call: Call, kind: Kind) -> Tracking:
    ids = None
    if "$filter" in call.query:
        clauses = [_ID_CLAUSE.fullmatch(clause.strip()) for clause in call.query["$filter"].split(" or ")]
        ids = [clause[1].lower() for clause in clauses if clause]
        if len(ids) != len(clauses) or len(ids) > MOST_IDS:
            raise bad(f"A delta query is filtered by at most {MOST_IDS} ids: id eq '...' or id eq '...'.")
    names = selected(call, lambda name: name == _followed(kind) or kind.knows(name), kind.name)
    return Tracking(kind, names, ids)


def _followed(kind: Kind) -> str | None:
    """The relation that delta tracks where $select names it; who owns a device is not tracked."""
    return None if kind is DEVICE else kind.relation


def _continued(call: Call, kind: Kind) -> Round:
    match open_page_token(call, call.query["$skiptoken"]):
        case [since, int(until), [int(position), int(offset)], [kind.name, names, ids]]:
            return Round(since, until, [position, offset], Tracking(kind, names, ids))
    raise bad("Badly formed token.")


def _resumed(call: Call, kind: Kind, token: str) -> tuple[int, Tracking]:
    match unseal(token):
        case ["delta", tenant, int(serial), float(issued), int(since), [kind.name, names, ids]]:
            aged = call.now.timestamp() - issued >= TOKEN_LIFE.total_seconds()
            foreign = tenant != call.tenant.id or since > len(kind.store(call.tenant).log)
            if aged or foreign or serial <= call.tenant.expiry.delta_before:
                raise _expired(call, kind)
            return since, Tracking(kind, names, ids)
    raise bad("Badly formed token.")


def _expired(call: Call, kind: Kind) -> Refused:
    """The documents name two answers: 410 with the URL of a new start, or a 40x with a code."""
    style = call.tenant.faults.expired_delta
    if style == "gone":
        restart = {"Location": f"{call.base}/{kind.path}/delta?$deltatoken="}
        return Refused(410, "syncStateNotFound", "The sync state generation is not found; start a full sync.", restart)
    return Refused(400, style, "The sync state generation is not found; start a full sync.")


def _page(call: Call, this: Round) -> Answer:
    if untidy(call):
        return _answer(call, this, [], this.position)
    items, after = _take(call, this, preferred_page_size(call) or call.tenant.faults.delta_page)
    return _answer(call, this, items + _repeats(call, this), after)


def _take(call: Call, this: Round, size: int) -> tuple[list[Properties], list[int] | None]:
    """What fits on a page of `size` objects, and where the next one starts, None at the end of the round."""
    items: list[Properties] = []
    room = MOST_LINKS
    minimal = this.since is not None and "return=minimal" in call.headers.get("prefer", "")
    position, offset = this.position
    for index, change in _steps(call, this, position):
        if len(items) == size or not room:
            return items, [index, 0]
        part = _render(call, change, this.tracking, (offset if index == position else 0, room), minimal=minimal)
        items.append(part.shown)
        if part.after is not None:
            return items, [index, part.after]
        room -= part.links
    return items, None


def _steps(call: Call, this: Round, start: int) -> Iterator[tuple[int, Change[DirectoryObject]]]:
    """The objects of the round from a position on, each with its position and what is to be shown of it."""
    store, tracking = this.tracking.kind.store(call.tenant), this.tracking
    if this.since is None:
        for index in range(start, len(store.members)):
            subject = store.members[index]
            if subject.live and tracking.follows(subject.id):
                yield index, Change(subject, None)
        return
    changes: Sequence[Change[Any]] = store.changes(this.since, this.until, frozenset(tracking.tracked))
    for index in range(start, len(changes)):
        if tracking.follows(changes[index].subject.id):
            yield index, changes[index]


def _render(
    call: Call,
    change: Change[DirectoryObject],
    tracking: Tracking,
    window: tuple[int, int] = (0, MOST_LINKS),
    *,
    minimal: bool = False,
) -> Part:
    """An object as delta shows it: properties that were never set are left out, cleared ones are null.

    `window` says at which of its links to start and how many to show.
    """
    subject = change.subject
    if not subject.live:
        reason = "deleted" if subject.purged else "changed"
        return Part({"id": subject.id, "@removed": {"reason": reason}}, 0, None)
    names = [name for name in tracking.tracked if not minimal or change.properties is None or name in change.properties]
    held = [name for name in dict.fromkeys([*names, "id"]) if name in subject.properties]
    shown = {name: shaped(name, subject.properties[name]) for name in held}
    start, room = window
    links = list(islice(_links(call, change, tracking, start), room + 1))
    if links:
        shown[f"{tracking.kind.relation}@delta"] = [entry for _, entry in links[:room]]
    return Part(shown, len(links[:room]), links[room][0] if len(links) > room else None)


def _links(
    call: Call, change: Change[DirectoryObject], tracking: Tracking, start: int
) -> Iterator[tuple[int, Properties]]:
    """What there is to say of the object's links, from a number on, each with its number."""
    subject = change.subject
    if _followed(tracking.kind) not in tracking.tracked:
        return
    if isinstance(subject, Group) and not sees_members(call, subject):
        return
    if change.properties is None:
        for serial, target in subject.links.values():
            if serial >= start:
                yield serial, reference(target)
        return
    for number, (target, added) in enumerate(change.links.values()):
        if number >= start:
            yield number, reference(target) | ({} if added else {"@removed": {"reason": "deleted"}})


def _repeats(call: Call, this: Round) -> list[Properties]:
    """Where paging is untidy: objects that appeared before or did not change at all, removed ones among them."""
    members = this.tracking.kind.store(call.tenant).members
    if not call.tenant.faults.untidy_paging or not members:
        return []
    again = call.tenant.rng.choices(members, k=3)
    return [_render(call, Change(each, None), this.tracking).shown for each in again if this.tracking.follows(each.id)]


def _answer(call: Call, this: Round, items: list[Properties], after: list[int] | None) -> Answer:
    tracking, path = this.tracking, this.tracking.kind.path
    shape = f"({','.join(tracking.names)})" if tracking.names else ""
    body: dict[str, Any] = {"@odata.context": f"{call.base}/$metadata#{path}{shape}/$delta"}
    if after is None:
        state = ["delta", call.tenant.id, call.tenant.expiry.issue(), call.now.timestamp(), this.until, tracking.token]
        body["@odata.deltaLink"] = link(call, f"{path}/delta", {"$deltatoken": seal(state)})
    else:
        token = page_token(call, [this.since, this.until, after, tracking.token])
        body["@odata.nextLink"] = link(call, f"{path}/delta", {"$skiptoken": token})
    return Answer(body=body | {"value": items}, headers=_applied(call))


def _applied(call: Call) -> dict[str, str]:
    honoured = [part for part in ("return=minimal", "odata.maxpagesize") if part in call.headers.get("prefer", "")]
    return {"Preference-Applied": ", ".join(honoured)} if honoured else {}


ROUTES = [
    Route("GET", f"{kind.path}/delta", partial(delta, kind), kind.readers, units=units)
    for kind, units in ((USER, 2), (DEVICE, 1), (GROUP, 1))
]
