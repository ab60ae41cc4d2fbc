"""Contacts from a group: its direct users stand alone, those of its direct member groups belong to these groups.

The tree is read whole, so that every person's groups are known; groups inside member groups are left out on purpose.
A later run first asks two delta links whether anything in the tree has changed, and reads the tree only then. The
links are hints: what is stored always comes from a complete reading.

Contacts of the portal's own have rows of their own and are never touched here; an import whose name equals one of
theirs (case, spaces and accents folded) is blocked until the clash is gone.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from storage.tables import Write
from sync.errors import CursorExpired, Forbidden, GraphError, NotFound, TenantsyncError
from sync.graph.client import BatchRequest, GraphClient
from sync.jobs import Finish, Work
from sync.mirror import At, Kind, Mirror, Source, Unreadable
from sync.plan import Absent, Present
from sync.runs import STATE, LogLine
from sync.sync_settings import ContactsSettings, GuardIn

CONTACT = "contact|"
GROUP = "contact-group|"
OWN = "own-contact|"
FIELDS = ("displayName", "givenName", "surname", "mail", "mobilePhone")
SELECT = "id,displayName,givenName,surname,mail,mobilePhone,visibility"
PAGE = 999  # the most that members gives at once (Learn: List group members)
BATCH = 20
MAX_RESTARTS = 3
FILTER_LIMIT = 50  # ids that groups/delta can be limited to (Learn: Get incremental changes for groups)
USER_TYPE, GROUP_TYPE = "#microsoft.graph.user", "#microsoft.graph.group"
NO_LIMIT = GuardIn(max_count=1_000_000, max_percent=100)

CONTACTS = Kind(
    entity="contact",
    prefix=CONTACT,
    remedies={
        "left": "Nothing to do: this person is no longer in the group or in any of its member groups.",
        "held": "Look at the run's plan, then approve or reject it.",
        "name-taken": "Rename or remove the portal's own contact of that name; the next sync takes this one in.",
        "no-right-to-read": "Grant the app User.Read.All, so that it may read the members' names.",
    },
)
GROUPS = Kind(entity="contact-group", prefix=GROUP, remedies={})

# Why a member is left out, by where it stands and what it is.
_LEFT_OUT = {
    "nested-group": "A group inside a member group is not imported: add it to the top group, or its people to this one.",
    "device": "A device is no contact: take it out of the group if you wish.",
    "organisation-contact": "Contacts of the organisation have no mobile phone field of their own: add the person as a user.",
    "unknown-kind": "Only users and groups are imported.",
}
_KINDS = {
    "#microsoft.graph.device": "device",
    "#microsoft.graph.orgContact": "organisation-contact",
    GROUP_TYPE: "nested-group",
}


def fold(name: str) -> str:
    """A name as it is compared: without case, accents and superfluous spaces."""
    plain = "".join(part for part in unicodedata.normalize("NFKD", name) if not unicodedata.combining(part))
    return " ".join(plain.casefold().split())


@dataclass
class Tree:
    """What a reading of the groups found."""

    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[str, str | None] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)  # groups whose members this app does not get to see
    hiding: set[str] = field(default_factory=set)

    def add(self, member: Mapping[str, Any], group: str | None) -> None:
        """Take in one member of the top group (`group` None) or of a member group."""
        kind, item_id = member.get("@odata.type"), member.get("id")
        if not isinstance(item_id, str) or not item_id:
            self.skipped.append(("", "unknown-kind"))
        elif kind == USER_TYPE:
            person = self.people.setdefault(item_id, {"fields": member, "direct": False, "groups": set()})
            person["direct"] = person["direct"] or group is None
            if group is not None:
                person["groups"].add(group)
        elif kind == GROUP_TYPE and group is None:
            self.groups[item_id] = member.get("displayName")
            if member.get("visibility") == "HiddenMembership":
                self.hiding.add(item_id)
        else:
            self.skipped.append((item_id, _KINDS.get(str(kind), "unknown-kind")))


def source(person: Mapping[str, Any], taken: frozenset[str]) -> Source:
    """What the tree says of one person; `taken` are the folded names of the portal's own contacts."""
    values = {name: person["fields"].get(name) for name in FIELDS}
    if not all(value is None or isinstance(value, str) for value in values.values()):
        return Unreadable("unreadable-field")
    if values["displayName"] is None:
        return Unreadable("no-right-to-read")
    if fold(values["displayName"]) in taken:
        return Unreadable("name-taken")
    return Present({**values, "direct": person["direct"], "groups": sorted(person["groups"])})


def run_contacts(work: Work) -> Finish | None:
    """One slice of the contacts sync."""
    settings = work.settings
    assert isinstance(settings, ContactsSettings)
    assert settings.group_id is not None
    mirror = Mirror(work, CONTACTS)
    at: At = dict(work.run.checkpoint) or {"stage": "begin"}
    while at["stage"] != "done":
        if work.time_is_up():
            return None
        match at["stage"]:
            case "begin":
                at = _begin(mirror, settings.group_id, at.get("restarts", 0))
            case "missing":
                at = mirror.missing(at, at["read"], at_end(at))
            case "deletions":
                at = mirror.deletions(at, settings.deletion_guard)
            case "approved":
                at = mirror.approved(at)
            case _:
                _labels(work).purge(at)
                at = mirror.purge(at)
    return Finish({}, held=at.get("held", 0), of=at.get("of", 0))


def at_end(at: At) -> list[Write]:
    """The state to keep once the reading is stored: the hints for the next run."""
    cursor = {name: at[name] for name in ("group", "users", "groups", "blocked")}
    return [Write("merge", STATE + "contacts", {"j_cursor": cursor})]


# --- has anything changed --------------------------------------------------------------------------------------------


def _begin(mirror: Mirror, group_id: str, restarts: int) -> At:
    """Read what has changed, or everything; a page link that no longer works means a new start, not for ever."""
    work = mirror.work
    cursor = work.state().get("j_cursor") or {}
    hints = cursor.get("group") == group_id and cursor.get("groups") and not cursor.get("blocked")
    if work.run.mode == "delta" and hints and not work.run.dry_run and not restarts:
        try:
            links = _unchanged(mirror, cursor)
        except CursorExpired:
            links = None
        if links is not None:
            at = {"stage": "deletions", "page": 1}
            work.claim.commit(
                work.now(), [Write("merge", STATE + "contacts", {"j_cursor": {**cursor, **links}})], checkpoint=at
            )
            return at
    try:
        return _read(mirror, group_id)
    except CursorExpired:
        if restarts == MAX_RESTARTS:
            raise
        again: At = {"stage": "begin", "restarts": restarts + 1}
        work.claim.commit(work.now(), checkpoint=again)
        return again


def _unchanged(mirror: Mirror, cursor: Mapping[str, Any]) -> dict[str, Any] | None:
    """The new hint links, or None where something in the tree has changed."""
    graph = mirror.work.graph
    groups = []
    for link in cursor["groups"]:
        items, following = _round(graph, link)
        if any(True for _ in items):
            return None
        groups.append(following)
    items, users = _round(graph, cursor["users"])
    if mirror.load(str(item.get("id")) for item in items):
        return None
    return {"users": users, "groups": groups}


def _round(graph: GraphClient, link: str) -> tuple[list[dict[str, Any]], str]:
    """All changes behind a delta link, and the next link."""
    found: list[dict[str, Any]] = []
    while True:
        page = graph.page(link)
        found += page.items
        if page.delta_link:
            return found, page.delta_link
        if not page.next_link:
            raise TenantsyncError(
                "Graph gave no delta link", code="graph-no-delta-link", remedy="Start the sync again."
            )
        link = page.next_link


# --- reading the tree ------------------------------------------------------------------------------------------------


def _read(mirror: Mirror, group_id: str) -> At:
    """Read the tree and take it in."""
    work = mirror.work
    graph = work.graph
    tree = Tree()
    group, users = _top(graph, group_id)
    first = Tree()
    for member in _members(graph, [group_id])[group_id] or ():
        first.add(member, None)
    # The hints are taken before everything is read for good: a change in between is seen twice rather than never.
    groups = _group_hints(graph, [group_id, *first.groups])
    members = _members(graph, [group_id, *first.groups])
    for member in members.pop(group_id) or ():
        tree.add(member, None)
    if group.get("visibility") == "HiddenMembership" and not tree.people and not tree.groups:
        tree.hidden.append(group_id)
    if set(tree.groups) != set(first.groups):
        groups, members = [], _members(graph, list(tree.groups))
    for member_group, found in members.items():
        for member in found or ():
            tree.add(member, member_group)
        if found is None or (not found and member_group in tree.hiding):
            tree.hidden.append(member_group)
    _refuse_empty(mirror, tree)
    return _store(mirror, tree, {"group": group_id, "users": users, "groups": groups})


def _top(graph: GraphClient, group_id: str) -> tuple[Mapping[str, Any], str]:
    """The top group, and a hint link for changes of users from now on, in one request."""
    fields = ",".join(("id", *FIELDS))
    answers = graph.batch(
        [
            BatchRequest("group", "GET", f"/groups/{group_id}?$select=id,displayName,visibility"),
            BatchRequest("users", "GET", f"/users/delta?$deltatoken=latest&$select={fields}"),
        ]
    )
    if answers["group"].status == 404:
        raise NotFound(
            "The group is not there",
            http=404,
            graph_code="Request_ResourceNotFound",
            code="group-not-found",
            remedy="Copy the group's object id from its overview page in the Entra admin centre.",
        )
    return _body(answers["group"], "group"), str(_body(answers["users"], "users").get("@odata.deltaLink", ""))


def _body(answer: Any, what: str) -> Mapping[str, Any]:
    if answer.status == 200 and isinstance(answer.body, Mapping):
        return answer.body
    kind = Forbidden if answer.status == 403 else GraphError
    raise kind(
        f"Graph refuses to read the {what}",
        http=answer.status,
        graph_code="",
        code="contacts-forbidden" if answer.status == 403 else None,
        remedy="Grant the app GroupMember.Read.All and User.Read.All with admin consent, then check the connection.",
    )


def _members(graph: GraphClient, groups: Sequence[str]) -> dict[str, list[Mapping[str, Any]] | None]:
    """All direct members of each group, or None where they may not be read: first pages by 20 in a batch."""
    found: dict[str, list[Mapping[str, Any]] | None] = {}
    for start in range(0, len(groups), BATCH):
        part = groups[start : start + BATCH]
        answers = graph.batch(
            [
                BatchRequest(str(number), "GET", f"/groups/{group}/members?$select={SELECT}&$top={PAGE}")
                for number, group in enumerate(part)
            ]
        )
        for number, group in enumerate(part):
            answer = answers[str(number)]
            if answer.status in (403, 404):
                found[group] = None
                continue
            body = _body(answer, "members")
            members, link = list(body.get("value") or ()), body.get("@odata.nextLink")
            while link:
                page = graph.page(link)
                members += page.items
                link = page.next_link
            found[group] = members
    return found


def _group_hints(graph: GraphClient, groups: Sequence[str]) -> list[str]:
    """Hint links for changes of these groups from now on; taken before their members are read."""
    parts = [groups[start : start + FILTER_LIMIT] for start in range(0, len(groups), FILTER_LIMIT)]
    requests = []
    for number, part in enumerate(parts[:BATCH]):
        wanted = " or ".join(f"id eq '{group}'" for group in part)
        query = f"$deltatoken=latest&$select=displayName,members&$filter={wanted}"
        requests.append(BatchRequest(str(number), "GET", f"/groups/delta?{query}"))
    answers = graph.batch(requests)
    links = [_body(answers[request.id], "groups").get("@odata.deltaLink") for request in requests]
    return [link for link in links if isinstance(link, str)] if len(parts) <= BATCH and all(links) else []


def _refuse_empty(mirror: Mirror, tree: Tree) -> None:
    if (
        tree.people
        or tree.groups
        or tree.skipped
        or not any(known.state == "active" for known in mirror.index().values())
    ):
        return
    if tree.hidden:
        raise TenantsyncError(
            "The group hides its members from this app; nothing was deleted",
            code="group-hidden-membership",
            remedy="Grant the app Member.Read.Hidden, or use a group without hidden membership.",
        )
    raise TenantsyncError(
        "The group has no members any more; nothing was deleted",
        code="group-empty",
        remedy="Add the people to the group again, or remove the connection's contacts by removing the connection.",
    )


def _store(mirror: Mirror, tree: Tree, hints: Mapping[str, Any]) -> At:
    """Compare the tree with what is stored, and write the difference. `hints` are for the state at the end."""
    work = mirror.work
    taken = frozenset(row["folded"] for row in work.app.tables.data.scan(work.connection, OWN, columns=("folded",)))
    sources = {item_id: source(person, taken) for item_id, person in sorted(tree.people.items())}
    listing = f"{work.run.id}#{work.run.slice}"
    batch = mirror.take(sources, mirror.index(), 1, listing=listing, full=True)
    _store_groups(_labels(work), tree)
    skipped = [
        LogLine("info", "member", item_id, "skipped", reason, _LEFT_OUT[reason]) for item_id, reason in tree.skipped
    ]
    for start in range(0, len(skipped), 1000):
        part = skipped[start : start + 1000]
        work.claim.commit(work.now(), log=part)
    blocked = any(isinstance(one, Unreadable) for one in sources.values())
    at: At = {
        "stage": "missing",
        "page": 1,
        "read": len(tree.people),
        "listing": listing,
        **hints,
        "blocked": blocked,
        "nameless": bool(tree.hidden),
    }
    batch.tell([*_double(tree), *_hidden(tree)], skipped=len(skipped))
    batch.flush(at)
    return at


def _labels(work: Work) -> Mirror:
    """The copy of the groups: names beside the contacts, without counts of their own."""
    return Mirror(work, GROUPS, counted=False, nest=lambda _at: dict(work.run.checkpoint))


def _store_groups(labels: Mirror, tree: Tree) -> None:
    groups: dict[str, Source] = {group: Present({"displayName": name}) for group, name in tree.groups.items() if name}
    stored = labels.index()
    gone: Iterable[str] = () if tree.hidden else (labels.id(key) for key in stored)
    groups |= {group: Absent("left") for group in gone if group not in tree.groups}
    labels.take(groups, stored, 1, listing=f"{labels.work.run.id}#", full=True).flush({})
    labels.deletions({"stage": "deletions", "page": 1}, NO_LIMIT)


def _double(tree: Tree) -> Iterator[LogLine]:
    """People who stand in the top group and in a member group: they are imported as both."""
    for item_id, person in tree.people.items():
        if person["direct"] and person["groups"]:
            remedy = "Take the person out of the top group, so that only the member group counts."
            yield _line("info", "contact", item_id, "in-top-group-and-member-group", remedy)
        if len(person["groups"]) > 1:
            remedy = "If the person has moved, take the person out of the former group."
            yield _line("info", "contact", item_id, "in-several-groups", remedy)


def _hidden(tree: Tree) -> Iterator[LogLine]:
    for group in tree.hidden:
        remedy = (
            "Grant the app Member.Read.Hidden, or use a group without hidden membership; nobody is deleted until then."
        )
        yield _line("warning", "contact-group", group, "hidden-membership", remedy)


def _line(level: Literal["info", "warning"], entity: str, item_id: str, reason: str, remedy: str) -> LogLine:
    return LogLine(level, entity, item_id, "unchanged", reason, remedy)
