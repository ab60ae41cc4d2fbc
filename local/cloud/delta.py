"""GET /users/delta (Learn: user: delta, Use delta query to track changes in Microsoft Graph data)."""

import re
from datetime import timedelta
from typing import Any, NamedTuple

from local.cloud.directory import DEFAULT_PROPERTIES, READ_USERS, USER_PROPERTIES
from local.cloud.odata import bad, refuse_options, selected
from local.cloud.paging import link, open_page_token, page_token, preferred_page_size, seal, unseal, untidy
from local.cloud.protocol import Answer, Call, Refused, Route
from local.cloud.users import Change, Properties

PAGE = 200
TOKEN_LIFE = timedelta(days=7)
MOST_IDS = 50
_ID_CLAUSE = re.compile(r"id eq '([^']+)'")


class Tracking(NamedTuple):
    """What one delta loop follows: the properties of $select, and the users of $filter, None for all."""

    names: list[str] | None
    ids: list[str] | None

    @property
    def tracked(self) -> list[str]:
        return self.names or DEFAULT_PROPERTIES

    def follows(self, user_id: str) -> bool:
        return self.ids is None or user_id in self.ids


class Round(NamedTuple):
    """One pass of a loop: changes between two versions of the log, or with `since` None everything there is."""

    since: int | None
    until: int
    position: int
    tracking: Tracking


def users_delta(call: Call) -> Answer:
    """A page of changes with a next link, or at the end of the round with a delta link."""
    refuse_options(call, {"$top", "$orderby", "$expand", "$search", "$skip", "$count"})
    if "$skiptoken" in call.query:
        return _page(call, _continued(call))
    latest = len(call.tenant.users.log)
    match call.query.get("$deltatoken", ""):
        case "":
            return _page(call, Round(None, latest, 0, _tracking(call)))
        case "latest":
            return _answer(call, Round(latest, latest, 0, _tracking(call)), [], None)
        case token:
            since, tracking = _resumed(call, token)
            return _page(call, Round(since, latest, 0, tracking))


def _tracking(call: Call) -> Tracking:
    ids = None
    if "$filter" in call.query:
        clauses = [_ID_CLAUSE.fullmatch(clause.strip()) for clause in call.query["$filter"].split(" or ")]
        ids = [clause[1].lower() for clause in clauses if clause]
        if len(ids) != len(clauses) or len(ids) > MOST_IDS:
            raise bad(f"A delta query is filtered by at most {MOST_IDS} ids: id eq '...' or id eq '...'.")
    return Tracking(selected(call, USER_PROPERTIES), ids)


def _continued(call: Call) -> Round:
    match open_page_token(call, call.query["$skiptoken"]):
        case [since, int(until), int(position), [names, ids]]:
            return Round(since, until, position, Tracking(names, ids))
    raise bad("Badly formed token.")


def _resumed(call: Call, token: str) -> tuple[int, Tracking]:
    match unseal(token):
        case ["delta", tenant, int(serial), float(issued), int(since), [names, ids]]:
            aged = call.now.timestamp() - issued >= TOKEN_LIFE.total_seconds()
            foreign = tenant != call.tenant.id or since > len(call.tenant.users.log)
            if aged or foreign or serial <= call.tenant.expiry.delta_before:
                raise _expired(call)
            return since, Tracking(names, ids)
    raise bad("Badly formed token.")


def _expired(call: Call) -> Refused:
    """The documents name two answers: 410 with the URL of a new start, or a 40x with a code."""
    style = call.tenant.faults.expired_delta
    if style == "gone":
        restart = {"Location": f"{call.base}/users/delta?$deltatoken="}
        return Refused(410, "syncStateNotFound", "The sync state generation is not found; start a full sync.", restart)
    return Refused(400, style, "The sync state generation is not found; start a full sync.")


def _page(call: Call, this: Round) -> Answer:
    if untidy(call):
        return _answer(call, this, [], this.position)
    size = preferred_page_size(call) or PAGE
    items, after = _everything(call, this, size) if this.since is None else _changes(call, this, size)
    return _answer(call, this, items + _repeats(call, this), after)


def _everything(call: Call, this: Round, size: int) -> tuple[list[Properties], int | None]:
    items: list[Properties] = []
    members = call.tenant.users.members
    for position in range(this.position, len(members)):
        user = members[position]
        if user.live and this.tracking.follows(user.id):
            if len(items) == size:
                return items, position
            items.append(_render(Change(user, None), this.tracking))
    return items, None


def _changes(call: Call, this: Round, size: int) -> tuple[list[Properties], int | None]:
    changes = call.tenant.users.changes(this.since or 0, this.until, frozenset(this.tracking.tracked))
    followed = [change for change in changes if this.tracking.follows(change.user.id)]
    after = this.position + size
    minimal = "return=minimal" in call.headers.get("prefer", "")
    items = [_render(change, this.tracking, minimal=minimal) for change in followed[this.position : after]]
    return items, after if after < len(followed) else None


def _render(change: Change, tracking: Tracking, *, minimal: bool = False) -> Properties:
    """A user as delta shows it: properties that were never set are left out, cleared ones are null."""
    user = change.user
    if not user.live:
        return {"id": user.id, "@removed": {"reason": "deleted" if user.purged else "changed"}}
    names = [name for name in tracking.tracked if not minimal or change.properties is None or name in change.properties]
    return {name: user.properties[name] for name in dict.fromkeys([*names, "id"]) if name in user.properties}


def _repeats(call: Call, this: Round) -> list[Properties]:
    """Where paging is untidy: objects that appeared before or did not change at all, removed ones among them."""
    members = call.tenant.users.members
    if not call.tenant.faults.untidy_paging or not members:
        return []
    again = call.tenant.rng.choices(members, k=3)
    return [_render(Change(user, None), this.tracking) for user in again if this.tracking.follows(user.id)]


def _answer(call: Call, this: Round, items: list[Properties], after: int | None) -> Answer:
    names, ids = this.tracking
    shape = f"({','.join(names)})" if names else ""
    body: dict[str, Any] = {"@odata.context": f"{call.base}/$metadata#users{shape}/$delta"}
    if after is None:
        state = ["delta", call.tenant.id, call.tenant.expiry.issue(), call.now.timestamp(), this.until, [names, ids]]
        body["@odata.deltaLink"] = link(call, "users/delta", {"$deltatoken": seal(state)})
    else:
        token = page_token(call, [this.since, this.until, after, [names, ids]])
        body["@odata.nextLink"] = link(call, "users/delta", {"$skiptoken": token})
    return Answer(body=body | {"value": items}, headers=_applied(call))


def _applied(call: Call) -> dict[str, str]:
    honoured = [part for part in ("return=minimal", "odata.maxpagesize") if part in call.headers.get("prefer", "")]
    return {"Preference-Applied": ", ".join(honoured)} if honoured else {}


ROUTES = [Route("GET", "users/delta", users_delta, READ_USERS, units=2)]
