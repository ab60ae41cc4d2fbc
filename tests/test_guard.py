"""The deletion guard: what it lets through, what waits, and what a person may decide about that."""

from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from storage.tables import Conflict, Table
from sync import collection, decisions, deletions, jobs, mirror
from sync.errors import RequestError
from sync.runs import load_run
from tests.cloud import NewTenant, TestTenant
from tests.contents import contents
from tests.held import NAME, decide, die_again_and_again, leave, one_step_a_slice, plan, proposed, shown
from tests.house import UNGUARDED, House
from tests.truth import albums, held, in_order, kinds, people, pictures, tally, told

# --- the guard ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guard", "leavers", "status"),
    [
        ({}, 8, "succeeded"),  # 20 of 100 is the limit
        ({}, 9, "held"),
        ({"maxCount": 3, "maxPercent": 100}, 3, "succeeded"),
        ({"maxCount": 3, "maxPercent": 100}, 4, "held"),
        ({"maxCount": 0, "maxPercent": 100}, 1, "held"),
    ],
)
@pytest.mark.parametrize("mode", ["delta", "full"])
def test_limits(house: House, crowd: TestTenant, guard: dict[str, int], leavers: int, status: str, mode: str) -> None:
    """Up to the limits deletions are applied; one more and all of them wait, while hires and changes go on."""
    house.enable(NAME, "users", deletionGuard=guard)
    gone = leave(crowd, leavers)
    hire = crowd.control.post("users", {"userPrincipalName": f"new@{crowd.domain}", "displayName": "New"})["id"]
    changed = next(key for key in people(crowd) if key != hire)
    crowd.control.patch(f"users/{changed}", {"jobTitle": "Changed"})

    run = house.run(NAME, "users", mode=mode)

    waiting = leavers if status == "held" else 0
    assert run["status"] == status
    assert (run["counts"]["created"], run["counts"]["updated"]) == (1, 1)
    assert (run["counts"]["deleted"], run["counts"]["skipped"]) == (leavers - waiting, waiting)
    assert proposed(house, run) == (gone if waiting else [])
    active = held(house, NAME)
    assert {key: active[key] for key in people(crowd)} == people(crowd)
    assert len(active) == 41 - leavers + waiting
    assert (run["error"] and run["error"]["code"]) == ("deletions-held" if waiting else None)


def test_approve_and_reject(house: House, crowd: TestTenant) -> None:
    """Reject drops what is proposed, and it is proposed again; approve deletes just what was shown less what came back."""
    gone = leave(crowd, 12)
    first = house.run(NAME, "users")
    later = leave(crowd, 3, seed=2)
    second = house.run(NAME, "users")
    assert (first["status"], second["status"]) == ("held", "held")
    assert (proposed(house, first), proposed(house, second)) == (gone, sorted(gone + later))

    assert decide(house, second, "reject")[1]["status"] == "partial"
    assert shown(house, second)["error"]["code"] == "deletions-rejected"
    third = house.run(NAME, "users")
    assert (third["status"], proposed(house, third)) == ("held", sorted(gone + later))
    crowd.control.post(f"users/{gone[0]}/restore")
    fourth = house.run(NAME, "users")
    assert proposed(house, fourth) == sorted(gone[1:] + later)
    cursor = house.changes(NAME)[1]
    assert decide(house, first, "approve")[0] == 202
    house.work()

    done = shown(house, first)
    assert (done["status"], done["error"], done["counts"]["deleted"], done["counts"]["skipped"]) == (
        "succeeded",
        None,
        11,
        0,
    )
    assert sorted(house.users(NAME, state="deleted")) == gone[1:]
    assert told(house.changes(NAME, cursor)[0]) == {("user", key): ["deleted"] for key in gone[1:]}
    for verb in ("approve", "reject"):
        status, problem = decide(house, first, verb)
        assert (status, problem["code"]) == (409, "run-not-held")
    last = house.run(NAME, "users")
    assert (last["status"], last["counts"]["deleted"]) == ("succeeded", 3)  # 3 of 28 are within the limits
    assert held(house, NAME) == people(crowd)


def test_who_came_back_before_any_sync_is_not_deleted(house: House, crowd: TestTenant) -> None:
    """Who returned and was seen again stays when an older proposal is approved, even of the whole lot."""
    gone = leave(crowd, 12)
    run = house.run(NAME, "users")
    for key in gone:
        crowd.control.post(f"users/{key}/restore")
    assert house.run(NAME, "users")["status"] == "succeeded"

    assert decide(house, run, "approve")[0] == 202
    house.work()

    assert (shown(house, run)["status"], tally(shown(house, run))) == ("succeeded", {})
    assert held(house, NAME) == people(crowd)


def test_approve_beside_an_active_run(house: House, crowd: TestTenant) -> None:
    """While another run of the sync is active nothing can be approved; afterwards it can."""
    leave(crowd, 12)
    run = house.run(NAME, "users")
    house.start(NAME, "users")

    status, problem = decide(house, run, "approve")
    assert (status, problem["code"]) == (409, "sync-busy")
    house.work()
    assert decide(house, run, "approve")[0] == 202
    house.work()
    assert shown(house, run)["counts"]["deleted"] == 12


def test_approve_needs_the_version_that_was_shown(house: House, crowd: TestTenant) -> None:
    """An approval with an old ETag is refused; with the present one it is taken. Cancelling drops the deletions."""
    leave(crowd, 12)
    run = house.run(NAME, "users")
    path = f"connections/{NAME}/runs/{run['id']}"
    etag = house.call("GET", path).headers["ETag"]

    assert house.call("POST", f"{path}/approve", If_Match='"other"').status == 412
    assert shown(house, run)["status"] == "held"
    assert house.call("POST", f"{path}/cancel", If_Match=etag).json["status"] == "cancelled"
    assert len(house.users(NAME, state="active")) == 40


@pytest.mark.parametrize("slices", ["one", "many"])
def test_a_large_plan(house: House, crowd: TestTenant, monkeypatch: pytest.MonkeyPatch, slices: str) -> None:
    """A plan of several rows is paged without loss, and applied whole, also over many slices."""
    monkeypatch.setattr(deletions, "LINES", 5)
    monkeypatch.setattr(mirror, "DELETIONS", 2)
    gone = leave(crowd, 23)
    run = house.run(NAME, "users")

    pages = [plan(house, run, top) for top in (1, 4, 5, 7, 1000)]
    assert all(sorted(item for _, item, _ in lines) == gone for lines in pages)
    if slices == "many":
        one_step_a_slice(monkeypatch)
    assert decide(house, run, "approve")[0] == 202
    while shown(house, run)["status"] not in ("succeeded", "failed"):
        house.work()
    assert (shown(house, run)["status"], sorted(house.users(NAME, state="deleted"))) == ("succeeded", gone)
    assert shown(house, run)["counts"]["deleted"] == 23


def test_an_empty_listing_deletes_nothing(house: House, crowd: TestTenant) -> None:
    """A full listing that shows nobody where there were some is a failure, with or without a guard."""
    house.enable(NAME, "users", deletionGuard={"maxCount": 1000, "maxPercent": 100})
    leave(crowd, 40)

    for dry in (False, True):
        run = house.run(NAME, "users", mode="full", dryRun=dry)
        assert (run["status"], run["error"]["code"], tally(run)) == ("failed", "empty-listing", {})
    assert len(house.users(NAME, state="active")) == 40


def test_a_partial_listing_deletes_nothing(house: House, crowd: TestTenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing that breaks off after some pages leaves everybody where they are."""
    house.enable(NAME, "users", deletionGuard={"maxCount": 1000, "maxPercent": 100})
    monkeypatch.setattr(collection, "PAGE", 10)
    pages = 0
    whole = collection._STAGES["list"]

    def breaks_off(copy: Any, reading: Any, at: Any) -> Any:
        nonlocal pages
        pages += 1
        if pages == 3:
            crowd.control.patch(f"apps/{crowd.client_id}", {"roles": []})
            house.app._sign_ins.clear()
            del copy.work.__dict__["graph"]  # a slice of another worker, which has no token yet
        return whole(copy, reading, at)

    monkeypatch.setitem(collection._STAGES, "list", breaks_off)
    run = house.run(NAME, "users", mode="full")

    assert (run["status"], run["counts"]["deleted"]) == ("failed", 0)
    assert len(house.users(NAME, state="active")) == 40


# --- the hostile and the unlucky ------------------------------------------------------------------------------------


def test_two_people_approve_at_once(build_house: Callable[..., House], new_tenant: NewTenant) -> None:
    """One approval is taken; the other hears that nothing is held any more; each leaver is deleted and told of once."""
    house, other = build_house(), build_house()
    tenant = new_tenant(users=40, guestShare=0)
    house.connect(tenant, NAME, users={})
    house.run(NAME, "users")
    leave(tenant, 12)
    run = house.run(NAME, "users")
    read = load_run(house.app.tables.data, NAME, run["id"])
    assert read is not None

    decisions.approve(house.app, *read)
    with pytest.raises(RequestError) as refused:
        decisions.approve(other.app, *read)

    assert refused.value.code == "run-not-held"
    assert decide(other, run, "reject")[1]["code"] == "run-not-held"
    for each in (house, other):
        each.work()
    done = shown(house, run)
    assert (done["status"], done["counts"]["deleted"]) == ("succeeded", 12)
    assert kinds(house.changes(NAME)[0])["deleted"] == 12


@pytest.mark.parametrize("verb", ["approve", "reject", "cancel"])
def test_a_decision_whose_answer_is_lost(
    house: House, crowd: TestTenant, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Where storage has the decision and says so only to the first of two tries, it stands."""
    leave(crowd, 12)
    run = house.run(NAME, "users")
    plain = Table.commit

    def twice(table: Table, partition: str, writes: Any) -> Any:
        done = plain(table, partition, writes)
        if any(write.key == f"run|{run['id']}" for write in writes):
            raise Conflict
        return done

    with monkeypatch.context() as patch:
        patch.setattr(Table, "commit", twice)
        status, _ = decide(house, run, verb)
    house.work()

    ended = {"approve": "succeeded", "reject": "partial", "cancel": "cancelled"}[verb]
    assert (status < 300, shown(house, run)["status"]) == (True, ended)
    assert len(house.users(NAME, state="deleted")) == (12 if verb == "approve" else 0)


@pytest.mark.parametrize("later", ["limits raised", "sync disabled", "credential lapsed", "sync changed"])
def test_approved_after_the_settings_changed(house: House, crowd: TestTenant, later: str) -> None:
    """What was shown is applied, whatever the settings are by then: it needs neither Graph nor a schedule."""
    gone = leave(crowd, 12)
    run = house.run(NAME, "users")
    if later == "limits raised":
        house.enable(NAME, "users", **UNGUARDED)
    if later == "sync disabled":
        assert house.call("PUT", f"connections/{NAME}/syncs/users", {"enabled": False}).status == 200
    if later == "credential lapsed":
        crowd.control.delete(f"apps/{crowd.client_id}/secrets/{crowd.app['secrets'][0]['keyId']}")
        house.app.forget_sign_in(NAME)
    if later == "sync changed":
        house.enable(NAME, "users", includeGuests=True, moreFields=["city"])

    assert decide(house, run, "approve")[0] == 202
    house.work()

    assert (shown(house, run)["status"], sorted(house.users(NAME, state="deleted"))) == ("succeeded", gone)


def test_raised_limits_let_the_next_run_through(house: House, crowd: TestTenant) -> None:
    """After the limits were raised the next run deletes by itself; an approval of the old plan then finds nothing."""
    leave(crowd, 12)
    run = house.run(NAME, "users")
    house.enable(NAME, "users", **UNGUARDED)

    assert tally(house.run(NAME, "users")) == {"deleted": 12}
    assert decide(house, run, "approve")[0] == 202
    house.work()

    assert (shown(house, run)["status"], tally(shown(house, run))) == ("succeeded", {})
    assert kinds(house.changes(NAME)[0])["deleted"] == 12


def test_a_connection_that_is_removed_while_a_run_is_held(house: House, crowd: TestTenant) -> None:
    """Nothing of it can be approved any more, and nothing of it is left."""
    leave(crowd, 12)
    run = house.run(NAME, "users")
    removal = house.call("DELETE", f"connections/{NAME}").json

    for verb in ("approve", "reject", "cancel"):
        status, problem = decide(house, run, verb)
        assert (status, problem["code"]) == (404, "connection-not-found")
    house.work()

    assert house.get(f"connections/{NAME}/runs/{removal['id']}")["status"] == "succeeded"
    assert contents(house).naming(run["id"]) == []


@pytest.mark.parametrize("when", ["while it is held", "while it is applied"])
def test_a_worker_that_dies(house: House, crowd: TestTenant, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Killed after any write: the plan shows everybody once, and each is deleted, counted and told of once."""
    monkeypatch.setattr(deletions, "LINES", 5)
    monkeypatch.setattr(mirror, "DELETIONS", 2)
    gone = leave(crowd, 12)
    run = {"id": house.start(NAME, "users")}
    if when == "while it is held":
        assert die_again_and_again(house, run["id"]) > 1
    else:
        house.work()
    held_run = shown(house, run)
    assert (held_run["status"], tally(held_run)) == ("held", {"skipped": 12})
    assert [item for _, item, _ in plan(house, run)] == gone

    assert decide(house, run, "approve")[0] == 202
    if when == "while it is applied":
        assert die_again_and_again(house, run["id"]) > 1
    else:
        house.work()

    assert (shown(house, run)["status"], tally(shown(house, run))) == ("succeeded", {"deleted": 12})
    assert sorted(house.users(NAME, state="deleted")) == gone
    assert kinds(house.changes(NAME)[0])["deleted"] == 12


def test_an_approved_run_that_is_cancelled_midway(
    house: House, crowd: TestTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was deleted stays so; the rest is proposed again."""
    monkeypatch.setattr(mirror, "DELETIONS", 2)
    gone = leave(crowd, 12)
    run = house.run(NAME, "users")
    decide(house, run, "approve")
    with monkeypatch.context() as patch:
        one_step_a_slice(patch)
        jobs.work(house.app, next(house.messages()))

    assert decide(house, run, "cancel")[1]["status"] == "cancelled"

    done = house.users(NAME, state="deleted")
    assert 0 < len(done) < 12
    assert proposed(house, house.run(NAME, "users")) == [key for key in gone if key not in done]


def test_a_secret_that_is_rotated_in_the_middle(
    house: House, crowd: TestTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that began with the old secret ends with the new one, and nobody is lost."""
    monkeypatch.setattr(collection, "PAGE", 10)
    run = house.start(NAME, "users", mode="full")
    with monkeypatch.context() as patch:
        one_step_a_slice(patch)
        jobs.work(house.app, next(house.messages()))
    secret = crowd.control.post(f"apps/{crowd.client_id}/secrets")["value"]
    credential = {"type": "clientSecret", "secretValue": secret}
    assert house.call("PUT", f"connections/{NAME}/credential", credential).status == 200
    crowd.control.delete(f"apps/{crowd.client_id}/secrets/{crowd.app['secrets'][0]['keyId']}")

    house.work()

    done = house.get(f"connections/{NAME}/runs/{run}")
    assert (done["status"], tally(done)) == ("succeeded", {"unchanged": 40})


# --- photos ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictured(house: House, new_tenant: NewTenant) -> TestTenant:
    """20 synced users with a photo each, under the default guard."""
    tenant = new_tenant(users=20, guestShare=0, photoShare=1)
    house.connect(tenant, NAME, users={}, photos={})
    house.run(NAME, "users")
    house.run(NAME, "photos")
    assert len(albums(house, NAME)) == 20
    return tenant


def notes(house: House) -> list[str]:
    """Whose photo is noted as gone."""
    return [row["RowKey"] for row in contents(house).rows["data"] if row["RowKey"].startswith("absent|photo")]


def take_away(tenant: TestTenant, count: int) -> list[str]:
    """So many users lose their photo; their ids."""
    keys = sorted(people(tenant))[:count]
    for key in keys:
        tenant.control.delete(f"users/{key}/photo")
    return keys


def test_photos_wait_too(house: House, pictured: TestTenant) -> None:
    """Where too many photos are gone at once they stay until somebody approves; new ones are taken in meanwhile."""
    gone = take_away(pictured, 8)
    changed = sorted(people(pictured))[10]
    pictured.control.put(f"users/{changed}/photo", {"longest": 500})

    run = house.run(NAME, "photos")

    assert (run["status"], run["counts"]["skipped"], run["counts"]["deleted"]) == ("held", 8, 0)
    assert sum(run["counts"].values()) == 20
    assert proposed(house, run) == gone
    assert len(albums(house, NAME)) == 20
    assert albums(house, NAME)[changed] == pictures(pictured, [changed])[changed]
    pictured.control.put(f"users/{gone[0]}/photo", {"longest": 648})
    pictured.control.delete(f"users/{gone[1]}")
    house.run(NAME, "users")
    again = house.run(NAME, "photos")
    assert (again["status"], proposed(house, again)) == ("held", gone[2:])

    assert decide(house, run, "approve")[0] == 202
    house.work()

    done = shown(house, run)
    assert (done["status"], done["counts"]["deleted"], done["counts"]["skipped"]) == ("succeeded", 6, 0)
    assert albums(house, NAME) == pictures(pictured, people(pictured))
    assert house.run(NAME, "photos")["status"] == "succeeded"
    assert notes(house) == []
    assert in_order(house.changes(NAME)[0])


def test_photos_that_come_back_before_anybody_decides(house: House, pictured: TestTenant) -> None:
    """A Graph that had no photo of anybody for an hour costs nothing."""
    before = albums(house, NAME)
    gone = take_away(pictured, 20)
    run = house.run(NAME, "photos")
    assert (run["status"], tally(run)) == ("held", {"skipped": 20})
    for key in gone:
        pictured.control.put(
            f"users/{key}/photo", {"base64": b64encode(before[key]).decode(), "contentType": "image/jpeg"}
        )

    assert house.run(NAME, "photos")["status"] == "succeeded"
    assert decide(house, run, "approve")[0] == 202
    house.work()

    assert (tally(shown(house, run)), albums(house, NAME)) == ({}, before)
    assert notes(house) == []


def test_a_photo_that_waits_goes_with_its_user(house: House, pictured: TestTenant) -> None:
    """A user who is purged takes photo and note along; the next run is none the wiser."""
    gone = take_away(pictured, 8)
    house.run(NAME, "photos")
    pictured.control.post(f"users/{gone[0]}/purge")
    house.run(NAME, "users")

    run = house.run(NAME, "photos")

    assert (run["status"], proposed(house, run)) == ("held", gone[1:])
    assert [key for table, key in contents(house).naming(gone[0]) if key.startswith(("absent", "user"))] == []
