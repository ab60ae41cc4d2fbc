"""GET /users, /devices, /groups, one of them, and their number (Learn: List users, Get user, List devices, Get group)."""

from collections.abc import Iterator
from functools import partial
from itertools import islice

from local.cloud.kinds import DEVICE, GROUP, USER, Kind, expansion, project
from local.cloud.listing import Listing, filter_test, is_advanced, refuse_listing_options, shape
from local.cloud.objects import DirectoryObject
from local.cloud.odata import bad, selected, unsupported
from local.cloud.protocol import Answer, Call, Refused, Route

# Learn: List users, "not supported when listing": they live in the mailbox store.
ONE_AT_A_TIME = frozenset({"aboutMe", "birthday", "interests", "mySite", "pastProjects", "schools", "skills"})


def list_objects(kind: Kind, call: Call) -> Answer:
    """A page of objects, from the position that the page token names."""
    _refuse_listing(call, kind)
    names = _selected(call, kind)
    if names and ONE_AT_A_TIME & set(names):
        raise Refused(501, "NotImplemented", "This operation target is not yet supported.")
    return _listing(call, kind, names).answer(call)


def count_objects(kind: Kind, call: Call) -> Answer:
    if not call.advanced:
        raise bad("$count is not currently supported.")
    return Answer(body=str(_listing(call, kind, None).count()), content_type="text/plain")


def get_object(kind: Kind, call: Call, key: str) -> Answer:
    names = _selected(call, kind)
    expand = expansion(call, kind)
    found = kind.find(call, key)
    body = {"@odata.context": f"{call.base}/$metadata#{kind.path}{shape(names)}/$entity"}
    return Answer(body=body | project(found, names or kind.default) | expand(found))


def _listing(call: Call, kind: Kind, names: list[str] | None) -> Listing:
    members = kind.store(call.tenant).members
    expand = expansion(call, kind)

    def candidates(start: int) -> Iterator[tuple[int, DirectoryObject]]:
        return islice(enumerate(members), start, None)

    return Listing(
        context=f"{kind.path}{shape(names)}",
        candidates=candidates,
        test=filter_test(call, kind.known),
        render=lambda each: project(each, names or kind.default) | expand(each),
    )


def _selected(call: Call, kind: Kind) -> list[str] | None:
    alone = ONE_AT_A_TIME if kind is USER else frozenset()
    return selected(call, lambda name: name in alone or kind.knows(name), kind.name)


def _refuse_listing(call: Call, kind: Kind) -> None:
    refuse_listing_options(call)
    if "$search" in call.query and not call.advanced:
        raise unsupported(
            "Request with $search query parameter only works through MSGraph with a special request header:"
            " 'ConsistencyLevel: eventual'"
        )
    if "$orderby" in call.query and "$filter" in call.query and not is_advanced(call):
        raise unsupported("Sorting not supported for current query.")
    for name in sorted({"$search", "$orderby"} & set(call.query)):
        raise Refused(501, "NotSimulated", f"The simulated Graph does not serve {name} on /{kind.path}.")


ROUTES = [
    route
    for kind, units in ((USER, 2), (DEVICE, 1), (GROUP, 1))
    for route in (
        Route("GET", f"{kind.path}/$count", partial(count_objects, kind), kind.readers, units=units),
        Route("GET", f"{kind.path}/{{id}}", partial(get_object, kind), kind.readers, units=units),
        Route("GET", kind.path, partial(list_objects, kind), kind.readers, units=units),
    )
]
