"""The portal's own contacts through the API: made, changed and removed there, and never touched by a sync."""

from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError

from tests.cloud import NewTenant, TestTenant
from tests.house import House

NAME = "primary"
PATH = f"connections/{NAME}/contacts"
FULL = {
    "displayName": "Reception",
    "givenName": "Re",
    "surname": "Ception",
    "mobilePhone": "+1 555",
    "mail": "reception@contoso.com",
}


@pytest.fixture
def tenant(house: House, new_tenant: NewTenant) -> TestTenant:
    """A connected tenant whose top group has one user, Ann."""
    tenant = new_tenant(users=0, roles=["User.Read.All", "GroupMember.Read.All"])
    ann = tenant.control.post("users", {"userPrincipalName": f"ann@{tenant.domain}", "displayName": "Ann"})["id"]
    top = tenant.control.post("groups", {"displayName": "Top", "members": [ann]})["id"]
    house.connect(tenant, NAME, contacts={"groupId": top})
    return tenant


def create(house: House, **fields: Any) -> dict[str, Any]:
    answer = house.call("POST", PATH, {**FULL, **fields})
    assert answer.status == 201, answer.content
    created: dict[str, Any] = answer.json
    return created


def test_create_and_read(house: House, tenant: TestTenant) -> None:
    """A new contact answers with its address and ETag; it has no Azure id, no groups, and azureState none."""
    answer = house.call("POST", PATH, FULL)

    made = answer.json
    assert answer.status == 201
    assert answer.headers["Location"] == f"/api/{PATH}/{made['id']}"
    assert made == {**FULL, "id": made["id"], "azureId": None, "azureState": "none", "groups": []}
    read = house.call("GET", f"{PATH}/{made['id']}")
    assert (read.json, read.headers["ETag"]) == (made, answer.headers["ETag"])
    assert create(house)["id"] != made["id"]
    short = house.call("POST", PATH, {"displayName": "Short"}).json
    assert (short["mobilePhone"], short["mail"]) == (None, None)


def test_a_request_that_failed(house: House, tenant: TestTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was answered with a fault after its write makes no second contact when it is repeated under its key."""

    def fail(*_: Any, **__: Any) -> None:
        raise ServiceRequestError("down")

    with monkeypatch.context() as patch:
        patch.setattr("sync.api_copies._contact", fail)
        assert house.call("POST", PATH, FULL, Idempotency_Key="k").status == 503
    (made,) = house.get(f"{PATH}?azureState=none")["items"]

    again = house.call("POST", PATH, FULL, Idempotency_Key="k")

    assert (again.status, again.json) == (201, made)
    assert house.get(f"{PATH}?azureState=none")["items"] == [made]


def test_edit(house: House, tenant: TestTenant) -> None:
    """What is named changes, null empties, the rest stays; If-Match guards against a lost update."""
    made = house.call("POST", PATH, FULL)
    path, etag = f"{PATH}/{made.json['id']}", made.headers["ETag"]

    changed = house.call("PATCH", path, {"mobilePhone": "+1 556", "mail": None}, If_Match=etag)

    assert (changed.status, changed.json) == (200, {**made.json, "mobilePhone": "+1 556", "mail": None})
    assert changed.headers["ETag"] != etag
    assert house.call("PATCH", path, {"surname": "X"}, If_Match=etag).status == 412
    assert house.call("DELETE", path, If_Match=etag).status == 412
    assert house.get(path) == changed.json
    assert house.call("PATCH", path, {"surname": "X"}).json["surname"] == "X"


def test_remove(house: House, tenant: TestTenant) -> None:
    """A removed contact is gone; removing it again is a 404."""
    path = f"{PATH}/{create(house)['id']}"

    assert house.call("DELETE", path).status == 204
    for method, body in (("GET", None), ("PATCH", {"surname": "X"}), ("DELETE", None)):
        answer = house.call(method, path, body)
        assert (answer.status, answer.json["code"]) == (404, "contact-not-found")


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/displayName"]),
        ({"displayName": ""}, ["/displayName"]),
        ({"displayName": " \t"}, ["/displayName"]),
        ({"displayName": None, "mail": 5}, ["/displayName", "/mail"]),
        ({"displayName": "x" * 257, "groups": []}, ["/displayName", "/groups"]),
        ({"displayName": "A", "azureState": "active"}, ["/azureState"]),
    ],
)
def test_bad_bodies(house: House, tenant: TestTenant, body: dict[str, Any], pointers: list[str]) -> None:
    """Every bad field is named, and nothing is stored."""
    answer = house.call("POST", PATH, body)

    assert (answer.status, answer.json["code"]) == (422, "invalid-request")
    assert sorted(error["pointer"] for error in answer.json["errors"]) == pointers
    assert house.get(PATH)["items"] == []


def test_a_name_cannot_be_emptied(house: House, tenant: TestTenant) -> None:
    """A patch may not take the name away; the contact stays as it was."""
    made = create(house)

    for bad in (None, ""):
        answer = house.call("PATCH", f"{PATH}/{made['id']}", {"displayName": bad, "mail": None})
        assert (answer.status, [error["pointer"] for error in answer.json["errors"]]) == (422, ["/displayName"])
    assert house.get(f"{PATH}/{made['id']}") == made


def test_what_comes_from_microsoft_is_changed_there(house: House, tenant: TestTenant) -> None:
    """An imported contact cannot be edited or removed here."""
    house.run(NAME, "contacts")
    (ann,) = house.get(PATH)["items"]

    for method, body in (("PATCH", {"mobilePhone": "5"}), ("DELETE", None)):
        answer = house.call(method, f"{PATH}/{ann['id']}", body)
        assert (answer.status, answer.json["code"]) == (409, "contact-is-synced")
    assert house.get(PATH)["items"] == [ann]


def test_no_sync_touches_them(house: House, tenant: TestTenant) -> None:
    """Full and delta runs, also one that deletes everything else, leave the portal's own as they are."""
    own = [create(house), create(house, displayName="Ann's office", mobilePhone=None)]
    etags = [house.call("GET", f"{PATH}/{one['id']}").headers["ETag"] for one in own]
    house.run(NAME, "contacts")
    (ann,) = (one for one in house.get(PATH)["items"] if one["azureState"] != "none")
    other = tenant.control.post("users", {"userPrincipalName": f"bob@{tenant.domain}", "displayName": "Bob"})["id"]
    top = tenant.control.post("groups", {"displayName": "Other", "members": [other]})["id"]
    house.enable(NAME, "contacts", groupId=top, deletionGuard={"maxCount": 1000, "maxPercent": 100})

    for mode in ("delta", "full"):
        house.run(NAME, "contacts", mode=mode)

    assert [one["id"] for one in house.get(f"{PATH}?azureState=deleted")["items"]] == [ann["id"]]
    assert sorted(house.get(f"{PATH}?azureState=none")["items"], key=str) == sorted(own, key=str)
    assert [house.call("GET", f"{PATH}/{one['id']}").headers["ETag"] for one in own] == etags


def test_lists(house: House, tenant: TestTenant) -> None:
    """Imported and own ones come in one list, in pages of any size, each once; state and search choose among them."""
    own = {create(house, displayName=f"Desk {number}")["id"] for number in range(3)}
    house.run(NAME, "contacts")
    (ann,) = (one["id"] for one in house.get(f"{PATH}?azureState=active")["items"])

    for top in (1, 2, 3, 4, 5):
        found, cursor = [], ""
        while cursor is not None:
            page = house.get(f"{PATH}?top={top}" + (f"&cursor={cursor}" if cursor else ""))
            found += [one["id"] for one in page["items"]]
            cursor = page["next"]
        assert (sorted(found), len(found)) == (sorted({*own, ann}), 4)
    assert {one["id"] for one in house.get(f"{PATH}?azureState=none")["items"]} == own
    assert {one["id"] for one in house.get(f"{PATH}?search=desk")["items"]} == own
    assert house.get(f"{PATH}?azureState=deleted")["items"] == []
    assert house.call("GET", f"{PATH}?azureState=other").status == 422


def test_idempotency(house: House, tenant: TestTenant) -> None:
    """The same Idempotency-Key makes one contact."""
    first = house.call("POST", PATH, FULL, Idempotency_Key="key-1")
    second = house.call("POST", PATH, FULL, Idempotency_Key="key-1")

    assert (first.status, second.status, first.json["id"]) == (201, 201, second.json["id"])
    assert len(house.get(PATH)["items"]) == 1
