"""Users: a first full listing, then delta; tombstones for leavers, purged after 30 days.

Stages of a run, each kept in the checkpoint:

    list     every page of /users, after a delta token for "from now" was taken
    missing  what the complete listing did not show becomes a tombstone
    delta    the changes since the last run
    purge    tombstones older than 30 days are emptied, with their photos
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from sys import intern
from typing import Any, Literal, NamedTuple

from storage.tables import Row, Write, decode_key, encode_key
from sync.errors import CursorExpired, Deferred, GraphError, NotFound, TenantsyncError
from sync.feed import Change
from sync.jobs import Finish, Work
from sync.models import UsersSettings
from sync.plan import Absent, Decision, Present, Stored, decide, digest
from sync.runs import STATE, LogLine, active_run

log = logging.getLogger(__name__)

USER = "user|"
PURGE = "purge|"
RETENTION = timedelta(days=30)
PAUSE = timedelta(seconds=3)
PAGE = 999  # the most that /users gives at once (Learn: List users)
WRITES = 96  # a transaction of 100, less run, log, feed and head rows
READERS = 8
MAX_RESTARTS = 3

# What Learn's "user resource type" calls them, as UserOut shows them.
FIELDS = (
    "userPrincipalName",
    "displayName",
    "givenName",
    "surname",
    "mail",
    "mobilePhone",
    "businessPhones",
    "jobTitle",
    "department",
    "companyName",
    "officeLocation",
    "employeeId",
    "userType",
    "accountEnabled",
)
# All that a photo sync without a users sync needs of a person.
PHOTO_FIELDS = ("userPrincipalName", "displayName", "mail", "userType", "accountEnabled")
_QUIET = ("skipped", "failed")  # outcomes that no row tells of: a listing that is read again counts them anew
_BOOLEANS = frozenset({"accountEnabled"})
_LISTS = frozenset({"businessPhones"})
_COLUMNS = ("digest", "state", "mark", "seen", "invited")


class Known(NamedTuple):
    """A stored user, small enough to hold 100,000 of them.

    `mark` names the run and page that last wrote it, `seen` the full listing that last showed it; `fields` are there
    only where single rows were read.
    """

    state: Literal["active", "deleted", "purged"]
    digest: str
    mark: str
    seen: str
    invited: bool
    fields: Mapping[str, Any] | None

    @classmethod
    def of(cls, row: Row) -> "Known":
        state: Any = intern(row["state"])
        return cls(state, row["digest"], intern(row["mark"]), intern(row["seen"]), row["invited"], row.get("j_user"))


@dataclass
class Reading:
    """How one run reads the directory: which fields and people, and what is remembered within a slice."""

    fields: tuple[str, ...]
    include_guests: bool
    include_disabled: bool
    invite: bool
    counted: bool
    index: dict[str, Known] | None = field(default=None, repr=False)

    @property
    def scope(self) -> dict[str, Any]:
        """What a delta link must have been made for to go on from it."""
        return {"fields": list(self.fields), "guests": self.include_guests, "disabled": self.include_disabled}


def run_users(work: Work) -> Finish | None:
    """One slice of the users sync."""
    assert isinstance(work.settings, UsersSettings)
    reading = _reading(work.settings, FIELDS, counted=True)
    return Finish({}) if read_directory(work, reading, dict(work.run.checkpoint), lambda at: at) else None


def people_for_photos(settings: UsersSettings, cursor: Mapping[str, Any] | None) -> Reading:
    """The reading that a photo sync does by itself where the users sync is off: no more fields than it needs,
    unless an earlier users sync left more, which then stay fresh.
    """
    known = tuple((cursor or {}).get("scope", {}).get("fields", ()))
    return _reading(settings, known if set(PHOTO_FIELDS) <= set(known) else PHOTO_FIELDS, counted=False)


def _reading(settings: UsersSettings, fields: tuple[str, ...], *, counted: bool) -> Reading:
    return Reading(
        fields=fields,
        include_guests=settings.include_guests,
        include_disabled=settings.include_disabled,
        invite=counted and settings.invite == "onCreate",
        counted=counted,
    )


Nest = Callable[[dict[str, Any]], dict[str, Any]]


def read_directory(work: Work, reading: Reading, checkpoint: dict[str, Any], nest: Nest) -> bool:
    """Bring the stored users up to date, from `checkpoint` on; False when the slice's time is up before the end.

    `nest` puts this reading's checkpoint into that of the run. Raises what the Graph client raises.
    """
    at = checkpoint or {"stage": "begin"}
    if at.get("scope", reading.scope) != reading.scope:  # the settings were changed while it was read
        at = _start_over(work, at, at["restarts"], nest)
    while at["stage"] != "done":
        if work.time_is_up():
            return False
        try:
            at = _STAGES[at["stage"]](work, reading, at, nest)
        except CursorExpired as error:
            at = _restart(work, at, error, nest)
    return True


def _restart(work: Work, at: dict[str, Any], error: CursorExpired, nest: Nest) -> dict[str, Any]:
    """Where to go on after a link has expired; not for ever.

    A page link from an answer to a retried request may not work (Learn: Paging Microsoft Graph data in your app):
    the listing goes on from the last link that did not come that way. Any other expiry means a full listing.
    """
    restarts = at.get("restarts", 0) + 1
    if restarts > MAX_RESTARTS:
        raise error
    log.info("directory listing steps back run=%s code=%s", work.run.id, error.graph_code)
    safe = at.get("safe")
    if at["stage"] == "list" and safe and safe["link"] != at["link"]:
        return _step_back(work, {**at, "link": safe["link"], "read": safe["read"]}, safe["quiet"], nest)
    return _start_over(work, at, restarts, nest)


def _start_over(work: Work, at: dict[str, Any], restarts: int, nest: Nest) -> dict[str, Any]:
    again = {"stage": "begin", "full": True, "restarts": restarts, "page": at.get("page", 0)}
    return _step_back(work, again, dict.fromkeys(_QUIET, 0), nest)


def _step_back(work: Work, again: dict[str, Any], quiet: Mapping[str, int], nest: Nest) -> dict[str, Any]:
    work.claim.commit(work.now(), checkpoint=nest(again), counts={**work.run.counts, **quiet})
    return again


def _begin(work: Work, reading: Reading, at: dict[str, Any], nest: Nest) -> dict[str, Any]:
    if reading.counted:
        _let_photos_finish(work)
    cursor = work.state("users").get("j_cursor")
    page = at.get("page", 0)
    if cursor and work.run.mode == "delta" and cursor["scope"] == reading.scope and not at.get("full"):
        return {
            "stage": "delta",
            "link": cursor["link"],
            "page": page,
            "scope": reading.scope,
            "restarts": at.get("restarts", 0),
        }
    select = ",".join(("id", *reading.fields))
    latest = work.graph.page("/users/delta", params={"$deltatoken": "latest", "$select": select})
    if latest.delta_link is None:
        raise _no_delta_link()
    following = {
        "stage": "list",
        "link": None,
        "delta": latest.delta_link,
        "page": page,
        "read": 0,
        "listing": f"{work.run.id}#{page}",
        "scope": reading.scope,
        "restarts": at.get("restarts", 0),
    }
    work.claim.commit(work.now(), checkpoint=nest(following))  # every step leaves a checkpoint, however slow Graph is
    return following


def _let_photos_finish(work: Work) -> None:
    """A photo run that reads people by itself began when the users sync was off: two readers would tell all twice."""
    found = active_run(work.app.tables.data, work.connection, "photos")
    if found and found[0].held_by_other(work.now()) and "after" not in found[0].checkpoint:
        raise Deferred("A photo sync is reading the directory", until=work.now() + PAUSE, throttled=True)


def _no_delta_link() -> TenantsyncError:
    return TenantsyncError("Graph gave no delta link", code="graph-no-delta-link", remedy="Start the sync again.")


def _list(work: Work, reading: Reading, at: dict[str, Any], nest: Nest) -> dict[str, Any]:
    """One page of the full listing."""
    params = {"$select": ",".join(("id", *reading.fields)), "$top": str(PAGE)}
    retried = work.graph.usage.retried
    page = work.graph.page(at["link"]) if at["link"] else work.graph.page("/users", params=params)
    if reading.index is None:
        rows = work.app.tables.data.scan(work.connection, USER, columns=_COLUMNS)
        reading.index = {row["key"]: Known.of(row) for row in rows}
    number = at["page"] + 1
    following = {**at, "page": number, "link": page.next_link, "read": at["read"] + len(page.items)}
    if not all(map(_item_id, page.items)):
        following["nameless"] = True
    if page.next_link is None:
        following["stage"] = "missing"
    batch = _apply(work, reading, items=page.items, stored=reading.index, mark=f"{at['listing']}|{number}", full=True)
    if work.graph.usage.retried == retried:
        quiet = {name: work.run.counts.get(name, 0) + batch.waiting(name) for name in _QUIET}
        following["safe"] = {"link": page.next_link, "read": following["read"], "quiet": quiet}
    batch.flush(nest(following))
    return following


def _missing(work: Work, reading: Reading, at: dict[str, Any], nest: Nest) -> dict[str, Any]:
    """After a complete listing: whoever is stored as active and was not in it has left.

    One that held an item without an id proves nobody's absence.
    """
    where = "state eq 'active' and seen ne @listing"
    values = {"listing": at["listing"]}
    rows = work.app.tables.data.scan(work.connection, USER, columns=_COLUMNS, where=where, values=values)
    batch = _Batch(work, reading)
    now = work.now()
    for row in () if at.get("nameless") else rows:
        if at["read"] == 0:
            raise TenantsyncError(
                "Graph listed no users at all, where there were some before; nothing was deleted",
                code="empty-listing",
                remedy="Check in the Entra admin centre that the app may read users, then start a full sync.",
            )
        writes = _tombstone(row["key"], f"{work.run.id}|{at['page']}", row["seen"], now)
        batch.add(decode_key(row["key"][len(USER) :]), writes, Decision("deleted", "deleted", "left"))
        if work.time_is_up():
            batch.flush(nest(at))
            return at
    cursor = {"link": at["delta"], "scope": reading.scope}
    following = {"stage": "purge", "page": at["page"] + 1}
    batch.flush(nest(following), [Write("merge", STATE + "users", {"j_cursor": cursor})])
    return following


def _delta(work: Work, reading: Reading, at: dict[str, Any], nest: Nest) -> dict[str, Any]:
    """One page of changes. A link that leads nowhere, or to another host than Graph, is worth no more than an old one."""
    try:
        page = work.graph.page(at["link"])
    except GraphError as error:
        if isinstance(error, NotFound) or error.code == "foreign-link":
            raise CursorExpired("The delta link leads nowhere", http=error.http, graph_code=error.graph_code) from error
        raise
    if page.next_link is None and page.delta_link is None:
        raise _no_delta_link()
    number = at["page"] + 1
    stored = _load(work, {USER + encode_key(str(item.get("id"))) for item in page.items})
    batch = _apply(work, reading, items=page.items, stored=stored, mark=f"{work.run.id}|{number}", full=False)
    if page.next_link:
        following = {**at, "page": number, "link": page.next_link}
        batch.flush(nest(following))
        return following
    following = {"stage": "purge", "page": number}
    cursor = {"link": page.delta_link, "scope": reading.scope}
    batch.flush(nest(following), [Write("merge", STATE + "users", {"j_cursor": cursor})])
    return following


def _purge(work: Work, _reading: Reading, at: dict[str, Any], _nest: Nest) -> dict[str, Any]:
    """Empty the tombstones whose 30 days are over; the index of tombstones makes an idle purge one read."""
    until = PURGE + (work.now() - RETENTION).isoformat(timespec="microseconds")
    data = work.app.tables.data
    for due in data.scan(work.connection, PURGE, until=until):
        if work.time_is_up():
            return at
        row = data.get(work.connection, due["row"])
        writes = [Write("delete", due["key"])]
        if row is not None and row["state"] == "deleted" and row["deleted_at"] == due["deleted_at"]:
            work.app.blobs.delete_all(photo_prefix(work.connection, due["row"]))
            kept = {"state": "purged", "digest": "", "mark": "", "seen": "", "invited": True}
            writes.append(
                Write("replace", due["row"], kept, row["etag"])
                if row["invited"]
                else Write("delete", due["row"], etag=row["etag"])
            )
        work.claim.commit(work.now(), writes)
    return {"stage": "done"}


_STAGES: dict[str, Callable[[Work, Reading, dict[str, Any], Nest], dict[str, Any]]] = {
    "begin": _begin,
    "list": _list,
    "missing": _missing,
    "delta": _delta,
    "purge": _purge,
}


def photo_prefix(connection: str, row_key: str) -> str:
    """Where the photos of a user are kept; `row_key` is the key of the user's row."""
    return f"{connection}/{row_key[len(USER) :]}/"


def _load(work: Work, keys: Iterable[str]) -> dict[str, Known]:
    """The stored rows of `keys`, by key: one point read each, several at a time."""
    data = work.app.tables.data
    wanted = sorted(keys)
    contexts = [copy_context() for _ in wanted]
    with ThreadPoolExecutor(READERS) as pool:
        rows = pool.map(lambda key, context: context.run(data.get, work.connection, key), wanted, contexts)
        return {key: Known.of(row) for key, row in zip(wanted, rows, strict=True) if row is not None}


class _BadItem(ValueError):
    """An item of Graph's that cannot be taken; the text is a reason slug."""


def _apply(
    work: Work,
    reading: Reading,
    *,
    items: Sequence[Mapping[str, Any]],
    stored: dict[str, Known],
    mark: str,
    full: bool,
) -> "_Batch":
    """Decide about every item of a page; what is not written yet waits in the batch, to be flushed with a checkpoint.

    `mark` is the run, after a # which try of its listing, and the page: a listing that starts over proves nothing by
    what its former try saw.
    """
    batch = _Batch(work, reading)
    now = work.now()
    listing = mark.partition("|")[0]
    latest = {str(item.get("id")): item for item in items}  # an item may come twice in a page: the last one counts
    for item_id, item in latest.items():
        key = USER + encode_key(item_id)
        known = stored.get(key)
        try:
            source = _source(item, reading, known)
        except _BadItem as bad:
            seen = [Write("merge", key, {"seen": listing})] if full and known else []  # unreadable is not gone
            batch.add(item_id, seen, Decision("failed", None, str(bad)))
            continue
        decision = decide(source, known and Stored(known.state, known.digest))
        counted = decision.change is None and known is not None and _counted(known, mark, full=full)
        if counted and known and (not full or known.seen == listing):
            continue
        writes, after = _writes(key, source, decision, known, mark=mark, now=now, reading=reading, full=full)
        invite = after is not None and after.invited and not (known and known.invited)
        batch.add(item_id, writes, None if counted else decision, invite=invite)
        if after is not None:
            stored[key] = after
    return batch


def _counted(known: Known, mark: str, *, full: bool) -> bool:
    """Whether this run has written, and so counted, the row before: in a listing, or in a first try at this page."""
    return known.seen.partition("#")[0] == mark.partition("#")[0] if full else known.mark == mark


def _source(item: Mapping[str, Any], reading: Reading, known: Known | None) -> Present | Absent:
    """What Graph says of a user. A property that a delta answer leaves out is as it was before."""
    if not _item_id(item):
        raise _BadItem("no-id")
    if "@removed" in item:
        return Absent("left")
    before = (known and known.fields) or {}
    fields = {name: _value(name, item.get(name, before.get(name))) for name in reading.fields}
    if fields["userType"] == "Guest" and not reading.include_guests:
        return Absent("guest")
    if fields["accountEnabled"] is False and not reading.include_disabled:
        return Absent("disabled")
    return Present(fields)


def _item_id(item: Mapping[str, Any]) -> str:
    """The id of an item of Graph's, empty where it has none that can be read."""
    found = item.get("id")
    return found if isinstance(found, str) else ""


def _value(name: str, value: Any) -> Any:
    if name in _LISTS:
        value = value or []
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            raise _BadItem(f"unreadable-{name}")
        return [_text(part) for part in value]
    if value is not None and not isinstance(value, bool if name in _BOOLEANS else str):
        raise _BadItem(f"unreadable-{name}")
    return _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    """`value` without the half characters that JSON allows and UTF-8 does not, as where an emoji was cut in two."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _writes(
    key: str,
    source: Present | Absent,
    decision: Decision,
    known: Known | None,
    *,
    mark: str,
    now: datetime,
    reading: Reading,
    full: bool,
) -> tuple[list[Write], Known | None]:
    """The rows to write for one user, and what is known of it afterwards (None: as before)."""
    run = mark.partition("|")[0]
    if isinstance(source, Absent):
        if decision.change is None or known is None:
            return [], None
        gone = known._replace(state="deleted", mark=mark, seen=run if full else known.seen, fields=None)
        return _tombstone(key, mark, gone.seen, now), gone
    if decision.change is None:
        if not full or known is None or known.seen == run:
            return [], None
        return [Write("merge", key, {"seen": run})], known._replace(seen=run)
    invited = bool(known and known.invited) or (reading.invite and decision.change == "created")
    seen = run if full else known.seen if known else ""
    after = Known("active", digest(source.fields), mark, seen, invited, None)
    columns = {name: value for name, value in after._asdict().items() if name != "fields"}
    return [Write("merge", key, {**columns, "j_user": source.fields, "deleted_at": ""})], after


def _tombstone(key: str, mark: str, seen: str, now: datetime) -> list[Write]:
    at = now.isoformat(timespec="microseconds")
    gone = {"state": "deleted", "deleted_at": at, "mark": mark, "seen": seen}
    return [Write("merge", key, gone), Write("replace", f"{PURGE}{at}|{key}", {"row": key, "deleted_at": at})]


_REMEDIES = {
    "guest": "Include guests in the settings of the users sync to take them in.",
    "disabled": "Include disabled accounts in the settings of the users sync to take them in.",
    "left": "Nothing to do: the directory no longer has this user.",
}


class _Batch:
    """Collects what a page leads to and commits it in transactions of at most 96 rows.

    Items of which no row tells that they were counted are counted and logged with the checkpoint, in the last
    transaction: repeating the page after a crash cannot count them twice.
    """

    def __init__(self, work: Work, reading: Reading) -> None:
        self._work = work
        self._reading = reading
        self._quiet: Counter[str] = Counter()
        self._quiet_log: list[LogLine] = []
        self._clear()

    def _clear(self) -> None:
        self._writes: list[Write] = []
        self._changes: list[Change] = []
        self._log: list[LogLine] = []
        self._outcomes: Counter[str] = Counter()

    def add(self, item_id: str, writes: Sequence[Write], decision: Decision | None, *, invite: bool = False) -> None:
        """Take in one item; without a decision its rows alone, where it has been counted before."""
        if len(self._writes) + len(writes) > WRITES:
            self._commit()
        self._writes += writes
        if decision is None:
            return
        if decision.change is not None:
            self._changes.append(Change("user", item_id, decision.change))
        if invite:
            self._changes.append(Change("user", item_id, "invited"))
        self._count(item_id, decision, quiet=not writes or decision.outcome in _QUIET)

    def waiting(self, outcome: str) -> int:
        """How many items with this outcome the next flush counts."""
        return self._quiet[outcome] + self._outcomes[outcome]

    def _count(self, item_id: str, decision: Decision, *, quiet: bool) -> None:
        """Count an item, and log it where it was not plain success."""
        if not self._reading.counted:
            return
        (self._quiet if quiet else self._outcomes)[decision.outcome] += 1
        if decision.reason:
            level: Literal["info", "warning"] = "warning" if decision.outcome == "failed" else "info"
            remedy = _REMEDIES.get(decision.reason, "Look at this user in the Entra admin centre.")
            line = LogLine(level, "user", item_id, decision.outcome, decision.reason, remedy)
            (self._quiet_log if quiet else self._log).append(line)

    def flush(self, checkpoint: dict[str, Any], extra: Sequence[Write] = ()) -> None:
        """Commit the rest, and with it `checkpoint` and `extra`."""
        if len(self._writes) + len(extra) > WRITES:
            self._commit()
        self._outcomes += self._quiet
        self._log += self._quiet_log
        self._commit(extra, checkpoint=checkpoint)

    def _commit(self, extra: Sequence[Write] = (), **fields: Any) -> None:
        self._work.claim.commit(
            self._work.now(),
            [*self._writes, *extra],
            changes=self._changes,
            log=self._log,
            outcomes=self._outcomes,
            **fields,
        )
        self._clear()
