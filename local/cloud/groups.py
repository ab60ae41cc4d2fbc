"""The members of a group (Learn: List group members, List group transitive members)."""

import re
from collections.abc import Iterable, Iterator

from local.cloud.kinds import GROUP, KINDS, Kind, project, sees_members
from local.cloud.listing import (
    ADVANCED_ONLY,
    Listing,
    filter_test,
    is_advanced,
    linked_objects,
    refuse_listing_options,
    shape,
)
from local.cloud.objects import DirectoryObject, Group, Link
from local.cloud.odata import bad, refuse_options, selected, unsupported
from local.cloud.protocol import Answer, Call, Refused, Route

_CAST = re.compile(r"(?:microsoft\.)?graph\.(\w+)")


def list_members(call: Call, key: str, cast: str = "") -> Answer:
    """A page of direct members of all kinds, or of one kind with all of its properties."""
    group = _group(call, key)
    return _listing(call, group, cast, group.links.values()).answer(call)


def list_transitive_members(call: Call, key: str, cast: str = "") -> Answer:
    """A page of the members of the group and of all groups below it, each once, whichever the level."""
    group = _group(call, key)
    return _listing(call, group, cast, _below(call, group)).answer(call)


def count_members(call: Call, key: str) -> Answer:
    if not call.advanced:
        raise bad("$count is not currently supported.")
    group = _group(call, key)
    return Answer(body=str(_listing(call, group, "", group.links.values()).count()), content_type="text/plain")


def _group(call: Call, key: str) -> Group:
    group: Group = GROUP.find(call, key)
    if not sees_members(call, group):
        raise Refused(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
    return group


def _listing(call: Call, group: Group, cast: str, links: Iterable[Link]) -> Listing:
    return _of_one_kind(call, _cast(call, group, cast), links) if cast else linked_objects(call, links)


def _of_one_kind(call: Call, kind: Kind, links: Iterable[Link]) -> Listing:
    refuse_listing_options(call)
    refuse_options(call, {"$search", "$orderby", "$expand"})
    names = selected(call, kind.knows, kind.name)
    readable = bool(kind.readers & call.roles)
    wanted = names or kind.default

    def candidates(start: int) -> Iterator[tuple[int, DirectoryObject]]:
        return ((serial, each) for serial, each in links if serial >= start and each.kind == kind.name)

    return Listing(
        context=f"{kind.path}{shape(names)}",
        candidates=candidates,
        test=filter_test(call, kind.known),
        render=lambda each: project(each, wanted) if readable else dict.fromkeys(wanted) | {"id": each.id},
    )


def _cast(call: Call, group: Group, cast: str) -> Kind:
    """Learn: Advanced query capabilities on Microsoft Entra ID objects, OData cast."""
    found = _CAST.fullmatch(cast)
    kind = KINDS.get(found[1]) if found else None
    if kind is None:
        raise Refused(400, "BadRequest", f"Resource not found for the segment '{cast}'.")
    if not is_advanced(call) or (kind is GROUP and group.unified):
        raise unsupported(ADVANCED_ONLY)
    return kind


def _below(call: Call, group: Group) -> Iterable[Link]:
    found: dict[str, DirectoryObject] = {}
    waiting = [group]
    while waiting:
        for _, target in waiting.pop(0).links.values():
            if target.id in found or not target.live:
                continue
            found[target.id] = target
            if isinstance(target, Group) and sees_members(call, target):
                waiting.append(target)
    return [Link(number, target) for number, target in enumerate(found.values(), 1)]


ROUTES = [
    Route("GET", "groups/{id}/members/$count", count_members, GROUP.readers, units=3),
    Route("GET", "groups/{id}/members/{cast}", list_members, GROUP.readers, units=3),
    Route("GET", "groups/{id}/members", list_members, GROUP.readers, units=3),
    Route("GET", "groups/{id}/transitiveMembers/{cast}", list_transitive_members, GROUP.readers, units=5),
    Route("GET", "groups/{id}/transitiveMembers", list_transitive_members, GROUP.readers, units=5),
]
