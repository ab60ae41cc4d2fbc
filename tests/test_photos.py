"""The photo sync against the simulated Graph: what is stored and served, what is refused, and what it costs."""

import base64
import itertools
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from random import Random
from typing import Any

import pytest
from PIL import Image

from sync import collection, photos
from sync.graph.client import BatchAnswer, BatchRequest, GraphClient
from sync.images import inspect, without_exif
from sync.jobs import work
from tests.cloud import NewTenant, TestTenant
from tests.house import UNGUARDED, House
from tests.truth import albums, blobs, in_order, kinds, people, pictures, tally, told

NAME = "primary"
SEEDS = itertools.count(1)


@pytest.fixture
def tenant(new_tenant: NewTenant) -> TestTenant:
    """Ten members with a large photo each."""
    return members(new_tenant, 10)


def members(new_tenant: NewTenant, users: int, photos: int | None = None) -> TestTenant:
    """A tenant of so many members, of whom the first `photos` have a large photo each."""
    tenant = new_tenant(users=users, guestShare=0, disabledShare=0, photoShare=0)
    for key in list(people(tenant))[:photos]:
        tenant.control.put(f"users/{key}/photo", {"longest": 648})
    return tenant


def connect(house: House, tenant: TestTenant, **settings: Any) -> None:
    """Connected with users, who are synced, and photos, which are not yet."""
    house.connect(tenant, NAME, users={}, photos=settings)
    assert house.run(NAME, "users")["status"] == "succeeded"


def sync(house: House, **body: Any) -> dict[str, Any]:
    """A photo run, which must succeed; its counts."""
    run = house.run(NAME, "photos", **body)
    assert run["status"] == "succeeded", run
    return tally(run)


def replace_photo(tenant: TestTenant, key: str) -> None:
    """Another photo of a user: nobody ever had this one. (Of the drawings there are but a few.)"""
    upload(tenant, key, written("JPEG", seed=next(SEEDS)))


def cost(tenant: TestTenant) -> tuple[int, int]:
    """Batches and items of batches since the last call."""
    graph = tenant.control.post("counters")["graph"]
    return graph["batchPosts"], graph["batchItems"]


def reasons(house: House, run: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """The lines of a run's log: outcome and reason by user."""
    items = house.get(f"connections/{NAME}/runs/{run['id']}/log?top=1000")["items"]
    return {line["id"]: (line["outcome"], line["reason"]) for line in items}


def upload(tenant: TestTenant, key: str, data: bytes, content_type: str = "image/jpeg") -> None:
    body = {"base64": base64.b64encode(data).decode(), "contentType": content_type}
    tenant.control.put(f"users/{key}/photo", body)


def written(kind: str, side: int = 32, seed: int = 0, **options: Any) -> bytes:
    """A picture of noise, so that it has the size that its pixels make one expect."""
    file = BytesIO()
    noise = Image.frombytes("RGB", (side, side), Random(seed).randbytes(3 * side * side))
    noise.save(file, kind, **options)
    return file.getvalue()


def bomb() -> bytes:
    """A small PNG that says it has 400 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


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


# --- bytes that are no photo -----------------------------------------------------------------------------------------

BAD = {
    "not an image": (b"<html>Sign in</html>", "photo-not-jpeg-or-png"),
    "a GIF": (b"GIF89a" + b"0" * 100, "photo-not-jpeg-or-png"),
    "nothing": (b"", "photo-empty"),
    "a JPEG cut short": (written("JPEG")[:-100], "photo-does-not-decode"),
    "a PNG cut short": (written("PNG")[:-20], "photo-does-not-decode"),
    "a bomb": (bomb(), "photo-too-many-pixels"),
    "too large": (written("PNG", 128), "photo-too-large"),
}


def test_refused_bytes(build_house: Callable[..., House], new_tenant: NewTenant) -> None:
    """Bytes that are no photo fail with the reason, keep the old one, and are not fetched until their etag changes."""
    house = build_house(photo_bytes=40_000)
    tenant = members(new_tenant, len(BAD) + 2)
    connect(house, tenant)
    sync(house)
    before = albums(house, NAME)
    *keys, changed, _ = people(tenant)
    bad = dict(zip(keys, BAD.values(), strict=True))
    for key, (data, _) in bad.items():
        upload(tenant, key, data)
    replace_photo(tenant, changed)

    run = house.run(NAME, "photos")
    assert (run["status"], tally(run)) == ("partial", {"failed": len(bad), "updated": 1, "unchanged": 1})
    assert reasons(house, run) == {key: ("failed", reason) for key, (_, reason) in bad.items()}
    assert albums(house, NAME) == before | pictures(tenant, [changed])

    cost(tenant)
    run = house.run(NAME, "photos")
    assert (run["status"], tally(run)) == ("succeeded", {"skipped": len(bad), "unchanged": 2})
    assert reasons(house, run) == dict.fromkeys(bad, ("skipped", "photo-refused-before"))
    assert cost(tenant) == (1, len(bad) + 2)

    for key in bad:
        replace_photo(tenant, key)
    assert sync(house) == {"updated": len(bad), "unchanged": 2}
    assert albums(house, NAME) == pictures(tenant, people(tenant))
    assert in_order(house.changes(NAME)[0])


def test_refused_in_the_first_pass(house: House, new_tenant: NewTenant) -> None:
    """Somebody whose first photo is refused has none, and heals with the next upload."""
    tenant = members(new_tenant, 2)
    key, other = people(tenant)
    upload(tenant, key, b"nonsense")
    connect(house, tenant)

    run = house.run(NAME, "photos")

    assert (run["status"], tally(run)) == ("partial", {"created": 1, "failed": 1})
    assert list(albums(house, NAME)) == [other]
    cost(tenant)
    assert sync(house) == {"skipped": 1, "unchanged": 1}
    assert cost(tenant) == (1, 2)
    replace_photo(tenant, key)
    assert sync(house) == {"created": 1, "unchanged": 1}


def test_refused_photo_that_is_removed(house: House, new_tenant: NewTenant) -> None:
    """A refused photo that is removed at the source takes the old one, which was kept, with it."""
    tenant = members(new_tenant, 2)
    key = next(iter(people(tenant)))
    connect(house, tenant)
    sync(house)
    upload(tenant, key, b"nonsense")
    house.run(NAME, "photos")
    tenant.control.delete(f"users/{key}/photo")
    assert sync(house) == {"deleted": 1, "unchanged": 1}
    assert len(blobs(house, NAME)) == 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_metadata_is_taken_out(house: House, new_tenant: NewTenant, kind: str) -> None:
    """A photo is served in its own type, with its pixels and without what a camera wrote into it, such as the place."""
    tenant = members(new_tenant, 1)
    (key,) = people(tenant)
    block = Image.Exif()
    block[0x010E] = "38.8977N"
    data = written(kind, exif=block)
    assert b"38.8977N" in data
    upload(tenant, key, data, f"image/{kind.lower()}")
    connect(house, tenant)
    sync(house)

    answer = house.call("GET", f"connections/{NAME}/users/{key}/photo")

    assert answer.headers["Content-Type"] == f"image/{kind.lower()}"
    assert b"38.8977N" not in answer.content
    assert answer.content == without_exif(data, inspect(data, len(data)))
    with Image.open(BytesIO(answer.content)) as shown, Image.open(BytesIO(data)) as original:
        assert shown.tobytes() == original.tobytes()


def test_type_that_is_claimed_does_not_count(house: House, new_tenant: NewTenant) -> None:
    """The bytes decide: a PNG that Graph calls a JPEG is served as a PNG."""
    tenant = members(new_tenant, 1)
    (key,) = people(tenant)
    upload(tenant, key, written("PNG"), "image/jpeg")
    connect(house, tenant)
    sync(house)
    assert house.call("GET", f"connections/{NAME}/users/{key}/photo").headers["Content-Type"] == "image/png"
    assert house.users(NAME)[key]["photo"]["contentType"] == "image/png"


def test_same_bytes_under_another_etag(house: House, new_tenant: NewTenant) -> None:
    """The same picture uploaded again is no change for the portal, and is not fetched once more after that."""
    tenant = members(new_tenant, 1)
    (key,) = people(tenant)
    upload(tenant, key, written("PNG"))
    connect(house, tenant)
    sync(house)
    user = house.users(NAME)[key]
    upload(tenant, key, written("PNG"))
    cost(tenant)

    assert sync(house) == {"unchanged": 1}
    assert cost(tenant) == (2, 2)
    assert sync(house) == {"unchanged": 1}
    assert cost(tenant) == (1, 1)
    assert house.users(NAME)[key] == user
    assert kinds(house.changes(NAME)[0], "photo") == {"created": 1}


# --- answers of Graph ------------------------------------------------------------------------------------------------


def answer_items(monkeypatch: pytest.MonkeyPatch, change: Callable[[BatchRequest, BatchAnswer], BatchAnswer]) -> None:
    """Every item of every batch goes through `change`: for what the simulated Graph does not answer."""
    plain = GraphClient.batch

    def batch(client: GraphClient, requests: Sequence[BatchRequest]) -> dict[str, BatchAnswer]:
        answers = plain(client, requests)
        return {request.id: change(request, answers[request.id]) for request in requests}

    monkeypatch.setattr(GraphClient, "batch", batch)


def refusal(status: int, code: str) -> dict[str, Any]:
    return {"status": status, "body": {"error": {"code": code}}}


ODD = {
    "403": (refusal(403, "ErrorAccessDenied"), "graph-403"),
    "400": (refusal(400, "BadRequest"), "graph-400"),
    "an error without a code": ({"status": 400, "body": "no"}, "graph-400"),
    "an error that is a text": ({"status": 400, "body": {"error": "no"}}, "graph-400"),
    "a body that is no base64": ({"body": "!"}, "photo-unreadable"),
    "a body that is no ASCII": ({"body": "ü"}, "photo-unreadable"),
    "a body that is no text": ({"body": {"a": 1}}, "photo-unreadable"),
    "no body": ({"body": None}, "photo-unreadable"),
}
NOBODY = {
    "no such user": (refusal(404, "Request_ResourceNotFound"), "user-not-found"),
    "no such mailbox": (refusal(404, "ErrorInvalidUser"), "user-not-found"),
}


@pytest.mark.parametrize("first", [True, False], ids=["in the first pass", "in a later pass"])
@pytest.mark.parametrize(
    ("answers", "outcome", "status"),
    [(ODD, "failed", "partial"), (NOBODY, "skipped", "succeeded")],
    ids=["odd", "nobody"],
)
def test_odd_answer_for_one(
    house: House,
    new_tenant: NewTenant,
    monkeypatch: pytest.MonkeyPatch,
    answers: dict[str, tuple[dict[str, Any], str]],
    outcome: str,
    status: str,
    first: bool,
) -> None:
    """An answer that brings no photo is one person's matter: it is logged, the old photo stays, the others go on."""
    tenant = members(new_tenant, len(answers) + 2)
    connect(house, tenant)
    odd = dict(zip(people(tenant), answers.values(), strict=False))
    if not first:
        sync(house)
        for key in odd:
            replace_photo(tenant, key)
    before = albums(house, NAME)

    def instead(request: BatchRequest, answer: BatchAnswer) -> BatchAnswer:
        found = next((fields for key, (fields, _) in odd.items() if key in request.url and "value" in request.url), {})
        return replace(answer, **found)

    with monkeypatch.context() as patch:
        answer_items(patch, instead)
        run = house.run(NAME, "photos")

    assert run["status"] == status
    assert reasons(house, run) == {key: (outcome, reason) for key, (_, reason) in odd.items()}
    assert tally(run) == {outcome: len(odd), ("created" if first else "unchanged"): 2}
    assert albums(house, NAME) == before | pictures(tenant, people(tenant).keys() - odd)


@pytest.mark.parametrize(
    "odd",
    [
        refusal(404, "ImageNotFound"),
        refusal(404, "ErrorEntityNotFound"),
        refusal(404, "ErrorItemNotFound"),
        {"body": {"id": "1x1", "@odata.mediaEtag": '"X"'}},
    ],
    ids=["ImageNotFound", "ErrorEntityNotFound", "ErrorItemNotFound", "a placeholder"],
)
def test_ways_to_say_no_photo(
    house: House, tenant: TestTenant, monkeypatch: pytest.MonkeyPatch, odd: dict[str, Any]
) -> None:
    """However Graph says that a known user has no photo, the photo goes."""
    connect(house, tenant)
    sync(house)
    key = next(iter(people(tenant)))
    answer_items(monkeypatch, lambda request, answer: replace(answer, **odd) if key in request.url else answer)

    assert sync(house) == {"deleted": 1, "unchanged": 9}
    assert key not in albums(house, NAME)
    assert len(blobs(house, NAME)) == 9


def test_photo_without_a_rendition(house: House, new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large photo of which Graph has no rendition at the wished size all the same is taken whole."""
    tenant = members(new_tenant, 3, photos=2)
    connect(house, tenant)
    sync(house)
    key = list(people(tenant))[2]
    tenant.control.put(f"users/{key}/photo", {"longest": 648})
    odd = refusal(404, "ImageNotFound")
    answer_items(
        monkeypatch,
        lambda request, answer: replace(answer, **odd) if f"{key}/photos/240x240" in request.url else answer,
    )

    assert sync(house) == {"created": 1, "unchanged": 2}
    assert albums(house, NAME)[key] == pictures(tenant, [key], "648x648")[key]
    assert sync(house) == {"unchanged": 3}


def test_metadata_without_etag(house: House, tenant: TestTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata that names no etag proves nothing: the bytes are compared."""
    connect(house, tenant)
    sync(house)
    answer_items(
        monkeypatch,
        lambda request, answer: answer if "value" in request.url else replace(answer, body={"id": "240x240"}),
    )
    cost(tenant)
    assert sync(house) == {"unchanged": 10}
    assert cost(tenant) == (2, 20)


def test_forbidden_for_all(house: House, tenant: TestTenant) -> None:
    """An app that may read no photo at all fails at once, with what to grant, and nothing is removed."""
    connect(house, tenant)
    sync(house)
    before = albums(house, NAME)
    tenant.control.patch(f"apps/{tenant.client_id}", {"roles": []})
    house.app._sign_ins.clear()
    cost(tenant)

    run = house.run(NAME, "photos")

    assert (run["status"], run["error"]["code"], tally(run)) == ("failed", "photos-forbidden", {})
    assert "User.Read.All" in run["error"]["remedy"]
    assert albums(house, NAME) == before
    assert cost(tenant)[0] == 1


def test_user_who_is_gone(house: House, tenant: TestTenant) -> None:
    """Somebody who left since the last users sync is skipped, and keeps the photo until that sync notices."""
    connect(house, tenant)
    sync(house)
    key = next(iter(people(tenant)))
    tenant.control.delete(f"users/{key}")

    run = house.run(NAME, "photos")

    assert (run["status"], tally(run)) == ("succeeded", {"skipped": 1, "unchanged": 9})
    assert reasons(house, run) == {key: ("skipped", "user-not-found")}
    assert key in albums(house, NAME)


def test_faults_end_the_run(house: House, tenant: TestTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Graph that never answers ends a photo run after a bounded number of tries, without losing a photo."""
    connect(house, tenant)
    sync(house)
    before = albums(house, NAME)
    monkeypatch.setattr(
        "sync.wiring.GraphClient", lambda **options: GraphClient(**options, sleep=lambda _: None, jitter=lambda: 0.0)
    )
    tenant.control.post("faults", {"rateReset": 1})
    run = house.start(NAME, "photos")
    slices = house.work()
    while house.get(f"connections/{NAME}/runs/{run}")["status"] == "running":
        assert slices < 20
        house.clock.ahead += timedelta(minutes=10)
        slices += carry_on(house, run)

    shown = house.get(f"connections/{NAME}/runs/{run}")
    assert (shown["status"], shown["error"]["code"], tally(shown)) == ("failed", "deferred", {})
    assert albums(house, NAME) == before


def carry_on(house: House, run: str) -> int:
    """Work at a run that waits for its time, as its delayed message would make a worker do."""
    work(house.app, {"connection": NAME, "run": run})
    return 1


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
