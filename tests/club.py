"""A tenant whose groups are a portal's shared contacts, and what its admin and its portal see of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from tests.cloud import Cloud, NewTenant, TestTenant
from tests.house import House

ROLES = ["User.Read.All", "GroupMember.Read.All"]
NAME = "primary"
FIELDS = ("displayName", "givenName", "surname", "mobilePhone", "mail")


@dataclass
class Club:
    """A tenant with a top group, and what its admin does there."""

    tenant: TestTenant
    top: str

    def user(self, name: str, **fields: Any) -> str:
        body = {"userPrincipalName": f"{uuid4().hex}@{self.tenant.domain}", "displayName": name, **fields}
        return str(self.tenant.control.post("users", body)["id"])

    def group(self, name: str, members: Iterable[str] = (), **fields: Any) -> str:
        return str(self.tenant.control.post("groups", {"displayName": name, "members": [*members], **fields})["id"])

    def add(self, group: str, *members: str) -> None:
        self.tenant.control.post(f"groups/{group}/members", {"ids": [*members]})

    def take_out(self, group: str, member: str) -> None:
        self.tenant.control.delete(f"groups/{group}/members/{member}")

    def requests(self) -> int:
        return int(self.tenant.control.post("counters")["graph"]["requests"])


@pytest.fixture
def club(new_tenant: NewTenant) -> Club:
    """A tenant with nobody in it but an empty top group."""
    tenant = new_tenant(users=0, roles=ROLES)
    return Club(tenant, str(tenant.control.post("groups", {"displayName": "Shared contacts"})["id"]))


def connect(house: House, club: Club, name: str = NAME, **more: Any) -> str:
    return house.connect(club.tenant, name, contacts={"groupId": club.top, **more})


def listed(house: House, name: str = NAME, what: str = "contacts", **query: str) -> dict[str, dict[str, Any]]:
    """Everything that a list shows, by id."""
    found: dict[str, dict[str, Any]] = {}
    cursor = ""
    while True:
        asked = "&".join(f"{key}={value}" for key, value in {**query, "top": "1000"}.items()) + cursor
        answer = house.get(f"connections/{name}/{what}?{asked}")
        found |= {item["id"]: item for item in answer["items"]}
        if answer["next"] is None:
            return found
        cursor = f"&cursor={answer['next']}"


def groups_of(house: House, name: str = NAME) -> dict[str, set[str]]:
    """The names of the groups of every active contact."""
    shown = listed(house, name, azureState="active")
    return {key: {group["displayName"] for group in one["groups"]} for key, one in shown.items()}


def log(house: House, run: dict[str, Any], name: str = NAME) -> set[tuple[str, str, str]]:
    """The lines of a run's log: outcome, reason and id. Each has a remedy."""
    lines = house.get(f"connections/{name}/runs/{run['id']}/log?top=1000")["items"]
    assert all(line["remedy"] for line in lines)
    return {(line["outcome"], line["reason"], line["id"]) for line in lines}


def crowd(cloud: Cloud, groups: int, each: int) -> Club:
    """A top group of so many groups with so many members each."""
    users = [
        {"id": str(uuid4()), "userPrincipalName": f"user{number}@crowd.com", "displayName": f"User {number}"}
        for number in range(groups * each)
    ]
    made = [
        {
            "id": str(uuid4()),
            "displayName": f"Group {number}",
            "members": [user["id"] for user in users[number * each : (number + 1) * each]],
        }
        for number in range(groups)
    ]
    top = {"id": str(uuid4()), "displayName": "Top", "members": [group["id"] for group in made]}
    app = {"appId": str(uuid4()), "displayName": "Sync", "roles": ROLES, "secrets": [{"value": uuid4().hex}]}
    number = uuid4().hex[:8]
    data = {
        "displayName": "Crowd",
        "domain": f"crowd{number}.onmicrosoft.com",
        "apps": [app],
        "users": users,
        "groups": [*made, top],
    }
    return Club(cloud.load(data), str(top["id"]))
