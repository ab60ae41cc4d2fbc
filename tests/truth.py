"""What must be true after a sync, worked out from the simulated tenant and from the feed alone."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from sync.images import inspect, without_exif
from tests.cloud import TestTenant
from tests.house import House

FIELDS = (
    "userPrincipalName",
    "displayName",
    "givenName",
    "surname",
    "mail",
    "mobilePhone",
    "jobTitle",
    "department",
    "companyName",
    "officeLocation",
    "employeeId",
    "userType",
    "accountEnabled",
)
# What may be told of one user or photo, in which order: c created, u updated, d deleted, r restored, i invited.
ORDER = {"user": re.compile(r"c(i?)u*(d(ru*d)*((r|c)u*)?)*"), "photo": re.compile(r"(cu*d)*(cu*)?")}


def people(tenant: TestTenant, *, guests: bool = False, disabled: bool = True) -> dict[str, dict[str, Any]]:
    """The tenant's users, by id, that belong to a sync with these settings."""
    return {
        user["id"]: {name: user.get(name) for name in FIELDS} | {"businessPhones": user.get("businessPhones") or []}
        for user in tenant.control.get("users", state="live")
        if (guests or user.get("userType") != "Guest") and (disabled or user.get("accountEnabled") is not False)
    }


def held(house: House, name: str) -> dict[str, dict[str, Any]]:
    """The portal's active users by id, in the same form."""
    wanted = (*FIELDS, "businessPhones")
    return {key: {field: user[field] for field in wanted} for key, user in house.users(name, state="active").items()}


def pictures(tenant: TestTenant, ids: Iterable[str], size: str = "240x240") -> dict[str, bytes]:
    """The photo of each of these users who has one, as the portal shall show it."""
    found: dict[str, bytes] = {}
    shown = {user["id"]: user["photo"] for user in tenant.control.get("users", state="live")}
    for key in ids:
        if shown[key] is not None:
            side = min(int(size.partition("x")[0]), shown[key]["longest"])
            data = tenant.control.get(f"users/{key}/photo", size=f"{side}x{side}")
            found[key] = without_exif(data, inspect(data, len(data)))
    return found


def albums(house: House, name: str) -> dict[str, bytes]:
    """The photos that the portal serves of its active users. One of those who have none is asked for as well."""
    found: dict[str, bytes] = {}
    users = house.users(name, state="active")
    without = [key for key, user in users.items() if user["photo"] is None]
    for key in [*(users.keys() - without), *without[:1]]:
        answer = house.call("GET", f"connections/{name}/users/{key}/photo")
        assert (answer.status == 200) == (key not in without), answer.content
        if answer.status == 200:
            found[key] = answer.content
    return found


def blobs(house: House, name: str) -> list[str]:
    """The names of all blobs of a connection."""
    return sorted(house.app.blobs._container.list_blob_names(name_starts_with=f"{name}/"))


def told(changes: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], list[str]]:
    """What the feed tells of each object, in order."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for change in changes:
        found[change["entity"], change["id"]].append(change["change"])
    return dict(found)


def in_order(changes: Iterable[Mapping[str, Any]]) -> bool:
    """Whether each object's changes can follow each other: nothing is created twice or deleted before it was there."""
    return all(
        ORDER[entity].fullmatch("".join(change[0] for change in story)) for (entity, _), story in told(changes).items()
    )


def tally(run: Mapping[str, Any]) -> dict[str, int]:
    """The counts of a run that are not zero."""
    return {name: count for name, count in run["counts"].items() if count}


def kinds(changes: Iterable[Mapping[str, Any]], entity: str = "user") -> Counter[str]:
    """How often each kind of change is told of an entity."""
    return Counter(change["change"] for change in changes if change["entity"] == entity)
