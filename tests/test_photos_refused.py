"""The photo sync where Graph has bytes that are no photo, or answers that are none."""

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from sync.graph.client import BatchAnswer, BatchRequest, GraphClient
from sync.images import inspect, without_exif
from tests.cloud import NewTenant, TestTenant
from tests.house import House
from tests.photos import NAME, carry_on, connect, cost, members, reasons, replace_photo, sync, tenant, upload, written
from tests.truth import albums, blobs, in_order, kinds, people, pictures, tally

__all__ = ["tenant"]


def bomb() -> bytes:
    """A small PNG that says it has 400 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


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
