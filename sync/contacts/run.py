"""Contacts from a group: its direct users stand alone, those of its direct member groups belong to these groups.

The tree is read whole, so that every person's groups are known; groups inside member groups are left out on purpose.
A later run first asks whether anything in the tree has changed, and reads it only then.

Contacts of the portal's own have rows of their own and are never touched here; an import whose name equals one of
theirs (case, spaces and accents folded) is blocked until the clash is gone.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from storage.tables import Write, decode_key
from sync.contacts.fetch import Top, fetch_hints, fetch_top, fetch_tree
from sync.contacts.tree import LEFT_OUT, UNREAD, Tree, findings, source
from sync.deletions import At, Kind
from sync.errors import CursorExpired, TenantsyncError
from sync.jobs import Finish, Work
from sync.mirror import Mirror, Source, Unreadable
from sync.plan import Absent, Present, digest
from sync.runs import LEASE, STATE, LogLine, Outcome
from sync.sync_settings import ContactsSettings, GuardIn

CONTACT = "contact|"
GROUP = "contact-group|"
OWN = "own-contact|"
MAX_RESTARTS = 3
HINTS_LIVE = timedelta(days=1)  # a day at most goes by until a change is seen that a lagging answer hid from the hints
NO_LIMIT = GuardIn(max_count=1_000_000, max_percent=100)

CONTACTS = Kind(
    entity="contact",
    prefix=CONTACT,
    remedies={
        "left": "Nothing to do: this person is no longer in the group or in any of its member groups.",
        "name-taken": "Rename or remove the portal's own contact of that name; the next sync takes this one in.",
        "no-right-to-read": "Grant the app User.Read.All, so that it may read the members' names.",
    },
)
GROUPS = Kind(entity="contact-group", prefix=GROUP, remedies={})


def run_contacts(work: Work) -> Finish | None:
    """One slice of the contacts sync."""
    settings = work.settings
    assert isinstance(settings, ContactsSettings)
    mirror = Mirror(work, CONTACTS)
    at: At = dict(work.run.checkpoint) or {"stage": "begin"}
    while at["stage"] != "done":
        if work.time_is_up():
            return None
        match at["stage"]:
            case "begin":
                at = _begin(mirror, settings.group_id, at.get("restarts", 0))
            case "groups":
                at = _take_leave_of_groups(mirror, at)
            case "deletions":
                at = mirror.deletions(at, settings.deletion_guard)
            case "approved":
                at = mirror.approved(at)
            case _:
                _labels(work).purge(at)
                at = mirror.purge(at)
    return Finish({}, held=at.get("held", 0), of=at.get("of", 0))


def _begin(mirror: Mirror, group_id: str | None, restarts: int) -> At:
    """Read what has changed, or everything; a page link that no longer works means a new start, not for ever."""
    if group_id is None:
        raise TenantsyncError(
            "No group is named any more", code="sync-disabled", remedy="Enable the sync with the id of a group."
        )
    own = _Own.load(mirror.work)
    if not restarts and _unchanged(mirror, group_id, own):
        return {"stage": "deletions", "page": 1}
    graph = mirror.work.graph
    try:
        top = fetch_top(graph, group_id)
        tree = fetch_tree(graph, group_id, top, lambda: _still_here(mirror.work))
    except CursorExpired:
        if restarts == MAX_RESTARTS:
            raise
        again: At = {"stage": "begin", "restarts": restarts + 1}
        mirror.work.claim.commit(mirror.work.now(), checkpoint=again)
        return again
    _refuse_empty(mirror, tree)
    return _store(mirror, group_id, top, tree, own)


def _still_here(work: Work) -> None:
    """Renew the lease halfway through, without passing for progress."""
    until = work.run.lease_until
    if until is None or until - work.now() < LEASE / 2:
        work.claim.commit(work.now(), attempt=work.run.attempt)


class _Own:
    """The portal's own contacts, as far as an import may clash with them."""

    def __init__(self, names: frozenset[str], mail: frozenset[str]) -> None:
        self.names = names
        self.mail = mail

    @classmethod
    def load(cls, work: Work) -> "_Own":
        rows = list(work.app.tables.data.scan(work.connection, OWN, columns=("folded", "mail")))
        return cls(frozenset(row["folded"] for row in rows), frozenset(row["mail"] for row in rows if row.get("mail")))

    @property
    def digest(self) -> str:
        return digest({"names": sorted(self.names), "mail": sorted(self.mail)})


# --- has anything changed --------------------------------------------------------------------------------------------


def _unchanged(mirror: Mirror, group_id: str, own: _Own) -> bool:
    """Whether nothing has changed since the tree was read last; the hints are then moved on.

    Where somebody could not be taken in or read, the tree is read again each time: to tell of it, and to see it heal.
    """
    work = mirror.work
    cursor = work.state().get("j_cursor") or {}
    fits = cursor.get("group") == group_id and cursor.get("own") == own.digest and cursor.get("clean")
    if not fits or work.run.mode == "full" or work.run.dry_run:
        return False
    if not cursor["users"] or not cursor["groups"] or datetime.fromisoformat(cursor["at"]) < work.now() - HINTS_LIVE:
        return False
    labels = _labels(work)

    def known_groups(ids: Sequence[str]) -> bool:
        return group_id in ids or bool(labels.load(ids))

    def known_users(ids: Sequence[str]) -> bool:
        return bool(mirror.load(ids))

    hints = fetch_hints(work.graph, cursor["users"], cursor["groups"], known_users, known_groups)
    if hints is None:
        return False
    moved = {**cursor, "users": hints[0], "groups": hints[1]}
    work.claim.commit(
        work.now(),
        [Write("merge", STATE + "contacts", {"j_cursor": moved})],
        checkpoint={"stage": "deletions", "page": 1},
    )
    return True


# --- storing the tree ------------------------------------------------------------------------------------------------


def _refuse_empty(mirror: Mirror, tree: Tree) -> None:
    if not tree.people and not tree.unread and any(known.state == "active" for known in mirror.index().values()):
        raise TenantsyncError(
            "There is nobody in the group any more; nothing was deleted",
            code="group-empty",
            remedy="Add the people to the group again, or name another group in the settings.",
        )


def _store(mirror: Mirror, group_id: str, top: Top, tree: Tree, own: _Own) -> At:
    """Compare the tree with what is stored, and write the difference.

    The tree is at hand as a whole, so whoever is not in it is known at once, and no row has to say that it was seen.
    """
    work = mirror.work
    if tree.unread:
        _remember_groups(work, tree)
    _take_groups(_labels(work), tree)
    sources = {item_id: source(person, own.names) for item_id, person in sorted(tree.people.items())}
    clean = not tree.unread and None not in tree.groups.values()
    clean = clean and not any(isinstance(one, Unreadable) for one in sources.values())
    if not tree.unread:
        active = (mirror.id(key) for key, known in mirror.index().items() if known.state == "active")
        sources |= {item_id: Absent("left") for item_id in active if item_id not in tree.people}
    batch = mirror.take(sources, mirror.index(), 1, listing=work.run.id, full=False)
    for outcome, line in _told(tree, own):
        batch.tell(line, outcome)
    cursor = {"group": group_id, "own": own.digest, "users": top.users, "groups": top.groups, "clean": clean}
    at: At = {"stage": "groups", "page": 1}
    batch.flush(at, [Write("merge", STATE + "contacts", {"j_cursor": {**cursor, "at": work.now().isoformat()}})])
    return at


def _remember_groups(work: Work, tree: Tree) -> None:
    """Leave people in those groups whose members could not be read this time, where they were in them before."""
    rows = work.app.tables.data.scan(work.connection, CONTACT, columns=("j_fields",), where="state eq 'active'")
    for row in rows:
        person = tree.people.get(decode_key(row["key"][len(CONTACT) :]))
        if person is not None:
            person.groups |= tree.unread.keys() & set(row["j_fields"]["groups"])


def _told(tree: Tree, own: _Own) -> Iterator[tuple[Outcome | None, LogLine]]:
    """What is to be logged beside the people, and how it counts."""
    for item, why in tree.left_out:
        yield "skipped", LogLine("info", "member", item, "skipped", why, LEFT_OUT[why])
    for item, why in tree.unread.items():
        yield "failed", LogLine("warning", "contact-group", item, "failed", why, UNREAD[why])
    for line in findings(tree, own.mail):
        yield None, line


def _labels(work: Work) -> Mirror:
    """The copy of the groups: names beside the contacts, without counts of their own."""
    return Mirror(work, GROUPS, counted=False, nest=lambda _at: dict(work.run.checkpoint))


def _take_groups(labels: Mirror, tree: Tree) -> None:
    groups: dict[str, Source] = {group: Present({"displayName": name}) for group, name in tree.groups.items() if name}
    if not tree.unread:
        groups |= {group: Absent("left") for group in map(labels.id, labels.index()) if group not in tree.groups}
    labels.take(groups, labels.index(), 1, listing=labels.work.run.id, full=False).flush({})


def _take_leave_of_groups(mirror: Mirror, at: At) -> At:
    """Delete the groups that are no longer in the tree; no guard, for nobody is lost with a name."""
    done = _labels(mirror.work).deletions({"stage": "deletions", "page": 1}, NO_LIMIT)["stage"] != "deletions"
    return {**at, "stage": "deletions"} if done else at
