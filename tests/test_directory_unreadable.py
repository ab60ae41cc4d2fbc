"""The users sync where Graph shows what cannot be read: one bad item keeps nobody else out."""

from typing import Any

import pytest

from sync.graph.client import Page
from tests.cloud import NewTenant
from tests.house import House
from tests.listings import change_pages, log
from tests.truth import held, people, tally

BAD = {
    "a number as name": ({"displayName": 5}, "unreadable-displayName"),
    "a text as flag": ({"accountEnabled": "yes"}, "unreadable-accountEnabled"),
    "a text as list": ({"businessPhones": "+1 206"}, "unreadable-businessPhones"),
    "numbers in a list": ({"businessPhones": [1]}, "unreadable-businessPhones"),
}


@pytest.mark.parametrize("mode", ["delta", "full"])
@pytest.mark.parametrize(("bad", "reason"), BAD.values(), ids=BAD)
def test_unreadable_item(house: House, new_tenant: NewTenant, bad: dict[str, Any], reason: str, mode: str) -> None:
    """A user that cannot be read fails with the reason, is kept as it was, and heals; all others go on."""
    tenant = new_tenant(users=5, guestShare=0, disabledShare=0)
    name = house.connect(tenant, users={})
    house.run(name, "users")
    key, other = list(people(tenant))[:2]
    good = tenant.control.get(f"users/{key}")
    before = held(house, name)
    tenant.control.patch(f"users/{key}", bad)
    tenant.control.patch(f"users/{other}", {"jobTitle": "Changed"})

    run = house.run(name, "users", mode=mode)

    assert run["status"] == "partial"
    assert tally(run) == {"failed": 1, "updated": 1} | ({"unchanged": 3} if mode == "full" else {})
    assert log(house, name, run) == [("failed", reason, key)]
    assert held(house, name) == before | {other: before[other] | {"jobTitle": "Changed"}}

    tenant.control.patch(f"users/{key}", {field: good.get(field) for field in bad} | {"surname": "Healed"})
    assert house.run(name, "users")["status"] == "succeeded"
    assert held(house, name) == people(tenant)


def test_unreadable_newcomer(house: House, new_tenant: NewTenant) -> None:
    """Somebody new who cannot be read is not taken in, and is once it can be."""
    tenant = new_tenant(users=5, guestShare=0)
    key = next(iter(people(tenant)))
    tenant.control.patch(f"users/{key}", {"mail": 5})
    name = house.connect(tenant, users={})

    run = house.run(name, "users")

    assert (run["status"], tally(run)) == ("partial", {"created": 4, "failed": 1})
    tenant.control.patch(f"users/{key}", {"mail": "ann@contoso.com"})
    assert tally(house.run(name, "users")) == {"created": 1}
    assert held(house, name) == people(tenant)


def test_item_without_id(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item without an id fails by itself; and a listing that holds one proves nobody's absence."""
    tenant = new_tenant(users=4, guestShare=0)
    name = house.connect(tenant, users={})
    house.run(name, "users")
    lost = next(iter(people(tenant)))

    def lose(page: Page) -> Page:
        items = [{**item, "id": None} if item["id"] == lost else item for item in page.items]
        return Page(items, page.next_link, page.delta_link)

    with monkeypatch.context() as patch:
        change_pages(patch, lose)
        run = house.run(name, "users", mode="full")

    assert (run["status"], tally(run)) == ("partial", {"failed": 1, "unchanged": 3})
    assert held(house, name) == people(tenant)


def test_half_a_character(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that was cut in the middle of an emoji, which JSON allows and UTF-8 does not, does not stop a run."""
    tenant = new_tenant(users=3, guestShare=0)
    name = house.connect(tenant, users={})
    cut = next(iter(people(tenant)))

    def halve(page: Page) -> Page:
        items = [{**item, "displayName": "Ann \ud83d"} if item["id"] == cut else item for item in page.items]
        return Page(items, page.next_link, page.delta_link)

    change_pages(monkeypatch, halve)
    run = house.run(name, "users")

    assert (run["status"], tally(run)) == ("succeeded", {"created": 3})
    assert house.users(name)[cut]["displayName"] == "Ann \ufffd"
