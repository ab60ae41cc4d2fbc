"""GET /users, /users/{id}, /users/$count (Learn: List users, Get user)."""

from typing import Any

from local.cloud.odata import Filter, Test, bad, selected, unsupported
from local.cloud.paging import link, open_page_token, page_size, page_token, untidy
from local.cloud.protocol import READ_DIRECTORY, Answer, Call, Refused, Route
from local.cloud.users import Properties, User

READ_USERS = frozenset({"User.Read.All", "User.ReadWrite.All"}) | READ_DIRECTORY

DEFAULT_PROPERTIES = [
    "businessPhones",
    "displayName",
    "givenName",
    "jobTitle",
    "mail",
    "mobilePhone",
    "officeLocation",
    "preferredLanguage",
    "surname",
    "userPrincipalName",
    "id",
]
COLLECTIONS = frozenset({"businessPhones", "assignedLicenses", "proxyAddresses", "otherMails"})
USER_PROPERTIES = (
    frozenset(DEFAULT_PROPERTIES)
    | COLLECTIONS
    | frozenset(
        [
            "accountEnabled",
            "city",
            "companyName",
            "country",
            "createdDateTime",
            "creationType",
            "deletedDateTime",
            "department",
            "employeeId",
            "externalUserState",
            "lastPasswordChangeDateTime",
            "mailNickname",
            "onPremisesSyncEnabled",
            "postalCode",
            "state",
            "streetAddress",
            "usageLocation",
            "userType",
        ]
    )
)
# Learn: List users, "not supported when listing": they live in the mailbox store.
ONE_AT_A_TIME = frozenset({"aboutMe", "birthday", "interests", "mySite", "pastProjects", "schools", "skills"})
LISTING_OPTIONS = {"$select", "$top", "$filter", "$count", "$search", "$orderby", "$expand", "$skiptoken", "$format"}


def list_users(call: Call) -> Answer:
    """A page of users, from the position that the page token names."""
    _refuse_listing(call)
    names = _selected_for_list(call)
    test = _filter(call)
    size = page_size(call, 100, 999)
    start = _page_start(call)
    page, after = _take(call, start, size, test)
    body: dict[str, Any] = {"@odata.context": f"{call.base}/$metadata#users{_shape(names)}"}
    if start == 0 and _advanced_query(call):  # $count without the header is ignored without a word
        body["@odata.count"] = sum(1 for user in call.tenant.users.live() if test(user.properties))
    if after is not None:
        options = {name: value for name, value in call.query.items() if name != "$skiptoken"}
        body["@odata.nextLink"] = link(call, "users", {**options, "$skiptoken": page_token(call, after)})
    body["value"] = [project(user, names or DEFAULT_PROPERTIES) for user in page]
    return Answer(body=body)


def count_users(call: Call) -> Answer:
    if not call.advanced:
        raise bad("$count is not currently supported.")
    test = _filter(call)
    total = sum(1 for user in call.tenant.users.live() if test(user.properties))
    return Answer(body=str(total), content_type="text/plain")


def get_user(call: Call, key: str) -> Answer:
    names = selected(call, USER_PROPERTIES | ONE_AT_A_TIME)
    user = find_user(call, key)
    body = {"@odata.context": f"{call.base}/$metadata#users{_shape(names)}/$entity"}
    return Answer(body=body | project(user, names or DEFAULT_PROPERTIES))


def find_user(call: Call, key: str) -> User:
    """The live user with that id or userPrincipalName, or Refused as Graph words it."""
    user = call.tenant.users.find(key)
    if user is None:
        message = f"Resource '{key}' does not exist or one of its queried reference-property objects are not present."
        raise Refused(404, "Request_ResourceNotFound", message)
    return user


def project(user: User, names: list[str]) -> Properties:
    """The named properties; what was never set is null, or empty where it is a collection."""
    return {name: user.properties.get(name, [] if name in COLLECTIONS else None) for name in names}


def _refuse_listing(call: Call) -> None:
    if "$skip" in call.query:
        raise bad("'$skip' is not supported by the service.")
    for name in sorted(set(call.query) - LISTING_OPTIONS):
        raise bad(f"Unrecognized query argument specified: '{name}'.")
    if "$search" in call.query and not call.advanced:
        raise unsupported(
            "Request with $search query parameter only works through MSGraph with a special request header:"
            " 'ConsistencyLevel: eventual'"
        )
    if "$orderby" in call.query and "$filter" in call.query and not _advanced_query(call):
        raise unsupported("Sorting not supported for current query.")
    for name in sorted({"$search", "$orderby", "$expand"} & set(call.query)):
        raise Refused(501, "NotSimulated", f"The simulated Graph does not serve {name} on /users.")


def _advanced_query(call: Call) -> bool:
    return call.advanced and call.query.get("$count") == "true"


def _selected_for_list(call: Call) -> list[str] | None:
    names = selected(call, USER_PROPERTIES | ONE_AT_A_TIME)
    if names and ONE_AT_A_TIME & set(names):
        raise Refused(501, "NotImplemented", "This operation target is not yet supported.")
    return names


def _filter(call: Call) -> Test:
    if "$filter" not in call.query:
        return lambda _: True
    parsed = Filter(call.query["$filter"], USER_PROPERTIES)
    if parsed.advanced and not (call.advanced and (call.path.endswith("$count") or _advanced_query(call))):
        raise unsupported(
            "Unsupported Query. The query or its required parameters might be missing. Try adding $count=true query"
            " parameter and ConsistencyLevel:eventual header. Refer to https://aka.ms/graph-docs/advanced-queries"
        )
    return parsed.test


def _take(call: Call, start: int, size: int, test: Test) -> tuple[list[User], int | None]:
    """Up to `size` users from the position `start`, and where the next page starts, None at the end."""
    page: list[User] = []
    members = call.tenant.users.members
    if untidy(call):
        return [], start
    for position in range(start, len(members)):
        user = members[position]
        if user.live and test(user.properties):
            if len(page) == size:
                return page, position
            page.append(user)
    return page, None


def _page_start(call: Call) -> int:
    start = open_page_token(call, call.query["$skiptoken"]) if "$skiptoken" in call.query else 0
    if not isinstance(start, int):
        raise bad("Badly formed token.")
    return start


def _shape(names: list[str] | None) -> str:
    return f"({','.join(names)})" if names else ""


ROUTES = [
    Route("GET", "users/$count", count_users, READ_USERS, units=2),
    Route("GET", "users/{id}", get_user, READ_USERS, units=2),
    Route("GET", "users", list_users, READ_USERS, units=2),
]
