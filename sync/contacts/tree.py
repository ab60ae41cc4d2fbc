"""The contact tree: what Graph's answers say of a group, its direct users and its direct member groups. Pure."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sync.graph.protocol import whole_text
from sync.mirror import Source, Unreadable
from sync.plan import Present
from sync.runs import LogLine

FIELDS = ("displayName", "givenName", "surname", "mail", "mobilePhone")
USER_TYPE, GROUP_TYPE = "#microsoft.graph.user", "#microsoft.graph.group"

# Why a member is left out, and what to do about it.
LEFT_OUT = {
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
# Why the people of a member group cannot be read, and what to do about it.
UNREAD = {
    "hidden-membership": "Grant the app Member.Read.Hidden, or use a group without hidden membership; nobody is deleted "
    "until then.",
    "group-gone": "Nothing to do: the group was removed while it was read. The next sync looks again.",
}


@dataclass
class Person:
    """One user in the tree: whether directly in the top group, and in which of its member groups."""

    fields: Mapping[str, Any]
    direct: bool = False
    groups: set[str] = field(default_factory=set)


@dataclass
class Tree:
    """What a reading of the groups found: people and member groups by id, members that are left out with the reason,
    and the groups whose people could not be read with the reason.
    """

    people: dict[str, Person] = field(default_factory=dict)
    groups: dict[str, str | None] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not self.people and not self.groups and not self.left_out

    def add(self, member: Mapping[str, Any], group: str | None) -> None:
        """Take in one member of the top group (`group` None) or of a member group."""
        kind, item_id = member.get("@odata.type"), member.get("id")
        if not isinstance(item_id, str) or not item_id:
            self.left_out.append(("", "unknown-kind"))
        elif kind == USER_TYPE:
            person = self.people.setdefault(item_id, Person(member))
            person.direct = person.direct or group is None
            if group is not None:
                person.groups.add(group)
        elif kind == GROUP_TYPE and group is None:
            name = member.get("displayName")
            self.groups[item_id] = whole_text(name) if isinstance(name, str) else None
        else:
            self.left_out.append((item_id, _KINDS.get(str(kind), "unknown-kind")))


def _whole(value: Any) -> Any:
    return whole_text(value) if isinstance(value, str) else value


def fold(name: str) -> str:
    """A name as it is compared: without case, accents, superfluous spaces, and characters that nobody sees."""
    spaced = " ".join(unicodedata.normalize("NFKD", name).split())
    return "".join(part for part in spaced if _seen(part)).casefold()


def _seen(part: str) -> bool:
    return not unicodedata.combining(part) and not unicodedata.category(part).startswith("C")


def source(person: Person, taken: frozenset[str]) -> Source:
    """What the tree says of one person; `taken` are the folded names of the portal's own contacts."""
    values = {name: _whole(person.fields.get(name)) for name in FIELDS}
    if not all(value is None or isinstance(value, str) for value in values.values()):
        return Unreadable("unreadable-field")
    if values["displayName"] is None:
        return Unreadable("no-right-to-read")
    if fold(values["displayName"]) in taken:
        return Unreadable("name-taken")
    return Present({**values, "direct": person.direct, "groups": sorted(person.groups)})


def findings(tree: Tree, own_mail: frozenset[str]) -> Iterator[LogLine]:
    """What the admin should know of the tree beyond the outcome of each contact; `own_mail` are the folded addresses
    of the portal's own contacts.
    """
    if tree.empty:
        remedy = "Add people or groups to the group that the settings name."
        yield LogLine("warning", "contact-group", "", "unchanged", "group-empty", remedy)
    for item_id, person in tree.people.items():
        if person.direct and person.groups:
            remedy = "Take the person out of the top group, so that only the member group counts."
            yield _of(item_id, "in-top-group-and-member-group", remedy)
        if len(person.groups) > 1:
            yield _of(item_id, "in-several-groups", "If the person has moved, take the person out of the former group.")
    for item_id in _sharing(tree, own_mail):
        yield _of(item_id, "mail-shared", "Both contacts are kept. If they are one person, remove one of them.")


def _of(item_id: str, reason: str, remedy: str) -> LogLine:
    return LogLine("info", "contact", item_id, "unchanged", reason, remedy)


def _sharing(tree: Tree, own_mail: frozenset[str]) -> Iterator[str]:
    """Whose address another contact has as well: two directory objects, or one and a contact of the portal's own."""
    holders: dict[str, list[str]] = defaultdict(list)
    for item_id, person in tree.people.items():
        mail = person.fields.get("mail")
        if isinstance(mail, str) and mail.strip():
            holders[fold(mail)].append(item_id)
    for mail, ids in holders.items():
        if len(ids) > 1 or mail in own_mail:
            yield from ids
