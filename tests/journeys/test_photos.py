"""The portal shows everybody's photo, byte for byte what Microsoft 365 has at the wished size."""

import io

from PIL import Image, ImageChops

from local.portal import Json
from tests.journeys.conftest import Customer


def same_photos(customer: Customer) -> None:
    theirs = {key: user["photo"] for key, user in customer.tenant.people().items() if user["photo"]}

    assert customer.pictured() == set(theirs)
    for key, photo in theirs.items():
        side = min(240, photo["longest"])
        original = customer.tenant.send("GET", f"users/{key}/photo?size={side}x{side}").content
        assert_same(original, customer.photo(key))


def assert_same(one: bytes, other: bytes) -> None:
    first, second = (Image.open(io.BytesIO(data)) for data in (one, other))
    assert first.size == second.size
    assert ImageChops.difference(first.convert("RGB"), second.convert("RGB")).getbbox() is None


def by_change(changes: list[Json]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for change in changes:
        if change["entity"] == "photo":
            found.setdefault(change["change"], set()).add(change["id"])
    return found


def test_photos_come_once_and_later_only_those_that_changed(portal, connect) -> None:
    customer = connect(users=50)
    customer.enable("users", "photos")
    customer.sync("users")
    first = customer.sync("photos")
    same_photos(customer)
    assert sum(first["counts"].values()) == first["progress"]["total"] == 50

    _, cursor = portal.changes(customer.name, None)
    nothing = customer.sync("photos")
    assert (nothing["counts"]["unchanged"], nothing["graph"]["requests"]) == (50, 3)
    assert portal.changes(customer.name, cursor)[0] == []

    changed, removed, *_ = sorted(customer.pictured())
    added = min(set(customer.users()) - customer.pictured())
    customer.tenant.call("PUT", f"users/{changed}/photo", {"longest": 648})
    customer.tenant.call("PUT", f"users/{added}/photo", {"longest": 120})
    customer.tenant.call("DELETE", f"users/{removed}/photo")
    run = customer.sync("photos")
    same_photos(customer)
    assert {word: run["counts"][word] for word in ("created", "updated", "deleted", "unchanged")} == {
        "created": 1,
        "updated": 1,
        "deleted": 1,
        "unchanged": 47,
    }
    changes, _ = portal.changes(customer.name, cursor)
    assert by_change(changes) == {"updated": {changed}, "created": {added}, "deleted": {removed}}
    gone = portal.send("GET", f"{customer.path}/users/{removed}/photo")
    assert (gone.status_code, gone.json()["code"]) == (404, "no-photo")


def test_a_photo_that_the_browser_has_is_not_sent_again(portal, connect) -> None:
    customer = connect(users=3, photoShare=1)
    customer.enable("users", "photos")
    customer.sync("users")
    customer.sync("photos")
    path = f"{customer.path}/users/{min(customer.users())}/photo"

    answer = portal.send("GET", path)
    again = portal.send("GET", path, headers={"If-None-Match": answer.headers["ETag"]})

    assert answer.headers["Content-Type"] == "image/jpeg"
    assert (again.status_code, again.content) == (304, b"")


def test_bytes_that_are_no_picture_are_refused_and_the_old_photo_stays(portal, connect) -> None:
    customer = connect(users=5, photoShare=1)
    customer.enable("users", "photos")
    customer.sync("users")
    customer.sync("photos")
    key = min(customer.users())
    before = customer.photo(key)
    customer.tenant.call("PUT", f"users/{key}/photo", {"base64": "bm90IGEgcGljdHVyZQ==", "contentType": "image/jpeg"})

    run = portal.sync(customer.name, "photos")

    assert (run["status"], run["counts"]["failed"], run["counts"]["unchanged"]) == ("partial", 1, 4)
    (line,) = portal.items(f"{customer.path}/runs/{run['id']}/log")
    assert (line["id"], line["outcome"]) == (key, "failed")
    assert line["reason"].startswith("photo-")
    assert customer.photo(key) == before


def test_a_photo_sync_fetches_the_people_first_where_nobody_has(connect) -> None:
    customer = connect(users=10, photoShare=1)
    customer.enable("users", "photos")

    customer.sync("photos")

    assert len(customer.runs("users")) == 1
    same_photos(customer)
