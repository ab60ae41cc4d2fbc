"""The photo sync against the simulated Graph: what is stored and served, for whom, and what it costs."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from sync import collection, photos
from sync.graph.client import GraphClient
from sync.images import inspect
from tests.cloud import NewTenant, TestTenant
from tests.house import UNGUARDED, House
from tests.photos import NAME, carry_on, connect, cost, members, replace_photo, sync, tenant
from tests.truth import albums, blobs, in_order, kinds, people, pictures, tally, told

__all__ = ["tenant"]

# --- passes ----------------------------------------------------------------------------------------------------------


def test_first_pass(house: House, new_tenant: NewTenant) -> None:
    """The first pass fetches each photo once, without asking for metadata first, and tells of each."""
    tenant = members(new_tenant, 50, photos=30)
    connect(house, tenant)
    cost(tenant)

    run = house.run(NAME, "photos")

    assert (run["status"], tally(run)) == ("succeeded", {"created": 30, "unchanged": 20})
    assert run["progress"] == {"done": 50, "total": 50, "unit": "people"}
    assert cost(tenant) == (4, 70)  # 50 in three batches, and one more for the 20 who might have a smaller photo
    assert albums(house, NAME) == pictures(tenant, people(tenant))
    changes, _ = house.changes(NAME)
    assert kinds(changes, "photo") == {"created": 30}
    assert len(blobs(house, NAME)) == 30


def test_nothing_changed(house: House, tenant: TestTenant) -> None:
    """A later pass without changes asks once for each person's metadata and fetches, writes and tells nothing."""
    connect(house, tenant)
    sync(house)
    users, (_, cursor) = house.users(NAME), house.changes(NAME)
    cost(tenant)

    assert sync(house) == {"unchanged": 10}
    assert cost(tenant) == (1, 10)
    assert (house.users(NAME), house.changes(NAME, cursor)) == (users, ([], cursor))


def test_each_kind_of_change(house: House, new_tenant: NewTenant) -> None:
    """A first photo, a new one and a removed one are found, told of once, and only those are fetched."""
    tenant = members(new_tenant, 10, photos=9)
    connect(house, tenant)
    sync(house)
    keys = list(people(tenant))
    changed, removed, first = keys[0], keys[1], keys[9]
    replace_photo(tenant, changed)
    tenant.control.delete(f"users/{removed}/photo")
    replace_photo(tenant, first)
    _, cursor = house.changes(NAME)
    before = house.users(NAME)
    cost(tenant)

    assert sync(house) == {"updated": 1, "deleted": 1, "created": 1, "unchanged": 7}

    assert cost(tenant) == (2, 13)  # all metadata, the removed one's as a whole, two photos
    assert told(house.changes(NAME, cursor)[0]) == {
        ("photo", changed): ["updated"],
        ("photo", removed): ["deleted"],
        ("photo", first): ["created"],
    }
    assert albums(house, NAME) == pictures(tenant, keys)
    assert len(blobs(house, NAME)) == 9
    after = house.users(NAME)
    assert {key for key in keys if before[key]["photo"] != after[key]["photo"]} == {changed, removed, first}
    assert house.call("GET", f"connections/{NAME}/users/{removed}/photo").json["code"] == "no-photo"


def test_changed_photos_fill_batches(
    build_house: Callable[..., House], new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed photos are collected across rounds and pages of the walk: each 20 of them cost one batch more."""
    monkeypatch.setattr(photos, "PAGE_LIMIT", 20)
    house = build_house(photo_batches=1)
    tenant = members(new_tenant, 50)
    connect(house, tenant)
    sync(house)
    keys = sorted(people(tenant), reverse=True)
    for changed in (45, 21, 20, 1, 0):
        for key in keys[:changed]:
            replace_photo(tenant, key)
        cost(tenant)

        counts = {"updated": changed, "unchanged": 50 - changed}
        assert sync(house) == {name: count for name, count in counts.items() if count}
        assert cost(tenant) == (3 + -(-changed // 20), 50 + changed)
    assert albums(house, NAME) == pictures(tenant, keys)


def test_hire_and_leaver(house: House, tenant: TestTenant) -> None:
    """A hire's photo comes with the next photo run; a leaver's stays with the tombstone and is not asked for."""
    connect(house, tenant)
    sync(house)
    leaver = next(iter(people(tenant)))
    hire = tenant.control.post("users", {"userPrincipalName": f"new@{tenant.domain}", "photo": 648})["id"]
    tenant.control.delete(f"users/{leaver}")
    house.run(NAME, "users")
    cost(tenant)

    assert sync(house) == {"created": 1, "unchanged": 9}
    assert cost(tenant) == (2, 11)
    assert hire in albums(house, NAME)
    assert house.call("GET", f"connections/{NAME}/users/{leaver}/photo").status == 200


def test_full_run_fetches_all_again(house: House, tenant: TestTenant) -> None:
    """A full run fetches every photo without trusting what is stored, and writes what is different."""
    connect(house, tenant)
    sync(house)
    cost(tenant)
    assert sync(house, mode="full") == {"unchanged": 10}
    assert cost(tenant) == (1, 10)
    assert kinds(house.changes(NAME)[0], "photo") == {"created": 10}


def test_size(house: House, tenant: TestTenant) -> None:
    """Photos come in the size of the setting; another size fetches all again and replaces them."""
    connect(house, tenant, size="96x96")
    assert sync(house) == {"created": 10}
    assert albums(house, NAME) == pictures(tenant, people(tenant), "96x96")
    assert {inspect(data, len(data)).width for data in albums(house, NAME).values()} == {96}

    house.enable(NAME, "photos", size="648x648")
    assert sync(house) == {"updated": 10}
    assert albums(house, NAME) == pictures(tenant, people(tenant), "648x648")
    assert len(blobs(house, NAME)) == 10
    assert sync(house) == {"unchanged": 10}
    assert in_order(house.changes(NAME)[0])


@pytest.mark.parametrize("first", [True, False], ids=["in the first pass", "in a later pass"])
def test_small_upload(house: House, new_tenant: NewTenant, first: bool) -> None:
    """A photo smaller than the wished size, of which Graph has no rendition at it, is found and taken whole."""
    tenant = members(new_tenant, 5, photos=4)
    key = list(people(tenant))[4]
    connect(house, tenant)
    if first:
        tenant.control.put(f"users/{key}/photo", {"longest": 96})
    assert sync(house) == {"created": 4 + first, **({} if first else {"unchanged": 1})}
    if not first:
        tenant.control.put(f"users/{key}/photo", {"longest": 96})
        assert sync(house) == {"created": 1, "unchanged": 4}
    assert albums(house, NAME) == pictures(tenant, people(tenant))
    cost(tenant)

    assert sync(house) == {"unchanged": 5}
    assert cost(tenant) == (1, 5)

    tenant.control.put(f"users/{key}/photo", {"longest": 648})
    assert sync(house) == {"updated": 1, "unchanged": 4}
    tenant.control.put(f"users/{key}/photo", {"longest": 48})
    assert sync(house) == {"updated": 1, "unchanged": 4}
    tenant.control.delete(f"users/{key}/photo")
    assert sync(house) == {"deleted": 1, "unchanged": 4}
    assert albums(house, NAME) == pictures(tenant, people(tenant))
    assert in_order(house.changes(NAME)[0])


def test_guesses_are_bounded(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first pass asks so many people for a smaller photo and no more; the next pass finds the rest."""
    monkeypatch.setattr(photos, "GUESSES", 3)
    tenant = members(new_tenant, 12, photos=0)
    for key in people(tenant):
        tenant.control.put(f"users/{key}/photo", {"longest": 48})
    connect(house, tenant)
    cost(tenant)

    assert sync(house) == {"created": 3, "unchanged": 9}
    assert cost(tenant) == (3, 18)
    assert sync(house) == {"created": 9, "unchanged": 3}
    assert albums(house, NAME) == pictures(tenant, people(tenant))


# --- people ----------------------------------------------------------------------------------------------------------


def test_photos_wait_for_the_first_users_sync(house: House, tenant: TestTenant) -> None:
    """Where users are synced too but never were, the photo run has them read first, once, and then goes on."""
    house.connect(tenant, NAME, users={}, photos={})
    run = house.start(NAME, "photos")
    house.work()
    shown = house.get(f"connections/{NAME}/runs/{run}")
    assert shown["status"] == "running"
    users = house.get(f"connections/{NAME}/runs?sync=users")["items"]
    assert [(each["status"], each["trigger"]) for each in users] == [("succeeded", "manual")]

    house.clock.ahead += timedelta(seconds=4)
    carry_on(house, run)

    assert house.get(f"connections/{NAME}/runs/{run}")["status"] == "succeeded"
    assert albums(house, NAME) == pictures(tenant, people(tenant))
    assert in_order(house.changes(NAME)[0])


def test_photos_do_not_wait_for_ever(house: House, tenant: TestTenant) -> None:
    """A users sync that fails ends the photo run that waited for it, with a hint."""
    tenant.control.patch(f"apps/{tenant.client_id}", {"roles": []})
    house.connect(tenant, NAME, users={}, photos={})
    run = house.start(NAME, "photos")
    house.work()
    house.clock.ahead += timedelta(seconds=4)
    carry_on(house, run)

    shown = house.get(f"connections/{NAME}/runs/{run}")
    assert (shown["status"], shown["error"]["code"]) == ("failed", "users-sync-needed")


def test_photos_alone(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where users are not synced, the photo sync reads the people it needs, with few fields, and follows changes."""
    monkeypatch.setattr(collection, "PAGE", 4)
    tenant = members(new_tenant, 10)
    house.connect(tenant, NAME, photos={})

    run = house.run(NAME, "photos")

    assert (run["status"], tally(run)) == ("succeeded", {"created": 10})
    selects = [each["url"] for each in tenant.control.get("journal") if each["template"] == "GET /users"]
    assert len(selects) == 3
    assert "userPrincipalName%2CdisplayName%2Cmail%2CuserType%2CaccountEnabled&" in selects[0]
    assert {user["jobTitle"] for user in house.users(NAME).values()} == {None}
    assert albums(house, NAME) == pictures(tenant, people(tenant))

    leaver = next(iter(people(tenant)))
    tenant.control.delete(f"users/{leaver}")
    hire = tenant.control.post("users", {"userPrincipalName": f"new@{tenant.domain}", "photo": 648})["id"]
    assert sync(house) == {"created": 1, "unchanged": 9}
    assert told(house.changes(NAME)[0])["user", hire] == ["created"]
    assert told(house.changes(NAME)[0])["user", leaver] == ["created", "deleted"]
    assert albums(house, NAME) == pictures(tenant, people(tenant))


def test_users_sync_that_is_turned_on_later(house: House, new_tenant: NewTenant) -> None:
    """A users sync that comes later fills in the fields; turned off again, the photo sync keeps them fresh."""
    tenant = members(new_tenant, 4)
    house.connect(tenant, NAME, photos={})
    sync(house)
    house.enable(NAME, "users")
    run = house.run(NAME, "users")
    assert tally(run) == {"updated": 4}
    house.enable(NAME, "users", enabled=False)
    key = next(iter(people(tenant)))
    tenant.control.patch(f"users/{key}", {"jobTitle": "Changed"})
    sync(house)
    assert house.users(NAME)[key]["jobTitle"] == "Changed"
    assert in_order(house.changes(NAME)[0])


def test_guests_of_the_users_setting(house: House, new_tenant: NewTenant) -> None:
    """Also a photo sync by itself knows guests by the setting of the users sync."""
    tenant = members(new_tenant, 3)
    guest = next(iter(people(tenant)))
    tenant.control.patch(f"users/{guest}", {"userType": "Guest"})
    house.connect(tenant, NAME, photos={})
    assert sync(house) == {"created": 2}
    house.enable(NAME, "users", enabled=False, includeGuests=True)
    assert sync(house) == {"created": 1, "unchanged": 2}


def test_users_run_waits_for_photos_that_read_people(
    house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A users sync that is turned on while the photo sync reads people waits: nobody is told of twice."""
    tenant = members(new_tenant, 6)
    house.connect(tenant, NAME, photos={})
    plain = GraphClient.page
    waited: list[str] = []

    def page(client: GraphClient, path: str, **options: Any) -> Any:
        if path == "/users" and not waited:
            waited.append("photos read people")
            house.enable(NAME, "users")
            run = house.start(NAME, "users")
            carry_on(house, run)
            waited.append(house.get(f"connections/{NAME}/runs/{run}")["status"])
        return plain(client, path, **options)

    monkeypatch.setattr(GraphClient, "page", page)
    assert sync(house) == {"created": 6}
    assert waited == ["photos read people", "running"]

    house.clock.ahead += timedelta(seconds=4)
    (users,) = house.get(f"connections/{NAME}/runs?sync=users")["items"]
    carry_on(house, users["id"])
    assert house.get(f"connections/{NAME}/runs/{users['id']}")["status"] == "succeeded"
    changes, _ = house.changes(NAME)
    assert in_order(changes)
    assert kinds(changes)["created"] == 6


# --- serving ---------------------------------------------------------------------------------------------------------


def test_etag(house: House, tenant: TestTenant) -> None:
    """A photo is served with an ETag: 304 while it is the same, the new bytes once it is not."""
    connect(house, tenant)
    sync(house)
    key = next(iter(people(tenant)))
    path = f"connections/{NAME}/users/{key}/photo"
    first = house.call("GET", path)
    assert (first.status, first.headers["Content-Type"]) == (200, "image/jpeg")
    etag = first.headers["ETag"]
    for sent in (etag, f"W/{etag}", f'"other", {etag}'):
        again = house.call("GET", path, If_None_Match=sent)
        assert (again.status, again.content, again.headers["ETag"]) == (304, b"", etag)

    replace_photo(tenant, key)
    sync(house)
    fresh = house.call("GET", path, If_None_Match=etag)
    assert (fresh.status, fresh.headers["ETag"] != etag) == (200, True)
    assert fresh.content == pictures(tenant, [key])[key]
    assert house.users(NAME)[key]["photo"]["etag"] == fresh.headers["ETag"].strip('"')


# --- slices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [False, True], ids=["first pass", "later pass"])
@pytest.mark.parametrize("writes", [96, 7])
def test_slices(
    build_house: Callable[..., House],
    new_tenant: NewTenant,
    monkeypatch: pytest.MonkeyPatch,
    later: bool,
    writes: int,
) -> None:
    """A walk whose time is up after each round of batches goes on over many messages, and counts everybody once."""
    monkeypatch.setattr(photos, "WRITES", writes)
    house = build_house(photo_batches=1)
    tenant = members(new_tenant, 41, photos=25)
    connect(house, tenant, **UNGUARDED)
    keys = list(people(tenant))
    if later:
        sync(house)
        for key in keys[:12]:
            replace_photo(tenant, key)
        for key in keys[12:18]:
            tenant.control.delete(f"users/{key}/photo")
    looked: set[int] = set()

    def time_is_up(work: Any) -> bool:
        if work.run.slice in looked:
            return True
        looked.add(work.run.slice)
        return False

    monkeypatch.setattr("sync.jobs.Work.time_is_up", time_is_up)
    run = house.start(NAME, "photos")
    slices = house.work()

    shown = house.get(f"connections/{NAME}/runs/{run}")
    expected = {"updated": 12, "deleted": 6, "unchanged": 23} if later else {"created": 25, "unchanged": 16}
    assert (shown["status"], tally(shown), shown["slices"]) == ("succeeded", expected, slices)
    assert slices == 3
    assert albums(house, NAME) == pictures(tenant, keys)
    assert len(blobs(house, NAME)) == (19 if later else 25)
    assert in_order(house.changes(NAME)[0])


def test_commits_in_between(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long walk commits as it goes, so that a worker that dies repeats little."""
    monkeypatch.setattr(photos, "COMMIT_RESULTS", 100)
    monkeypatch.setattr(photos, "COMMIT_WRITES", 30)
    tenant = members(new_tenant, 200, photos=0)
    connect(house, tenant)
    done: list[int] = []
    plain = photos._Walk._deal

    def deal(walk: Any, *args: Any) -> Any:
        done.append(walk._work.run.done)
        return plain(walk, *args)

    monkeypatch.setattr(photos._Walk, "_deal", deal)
    assert sync(house) == {"unchanged": 200}
    assert done[0] == 0
    assert done[-1] >= 60
