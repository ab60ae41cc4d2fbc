"""A worker may die at any moment: whatever was written last, the next one ends in the state of a run without a crash.

A process that dies after a write has left exactly what one leaves that dies before the next write, so every test
here lets it die after each single write of tables, blobs, queues and vault in turn, and once before the first.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any

import pytest

from storage.queues import Queues
from storage.secrets import secret_name
from storage.tables import Row, Write
from sync import collection, connections, jobs, mirror, photos
from sync.due import DUE_FAMILY, FAMILIES
from sync.jobs import WATCH
from sync.runs import LEASE, RUN, TERMINAL, Run, load_run, parse_run
from tests.cloud import NewTenant, TestTenant
from tests.dying import Killed, Reaper, process
from tests.house import House
from tests.truth import albums, blobs, held, in_order, kinds, people, pictures, tally, told

BASE = "base"


@dataclass
class Stage:
    """Where lives are lived: a tenant and a prepared connection, of which every life gets a copy."""

    make: Callable[..., House]
    house: House
    tenant: TestTenant
    rows: list[Row] = field(default_factory=list)
    bytes: dict[str, bytes] = field(default_factory=dict)
    ahead: timedelta = timedelta(0)

    @cached_property
    def other(self) -> House:
        """The process that goes on where another one died."""
        return self.make()

    def keep(self) -> None:
        """What the connection has come to by now, and the time, is what every life begins with."""
        data, store = self.house.app.tables.data, self.house.app.blobs
        self.ahead = self.house.clock.ahead
        self.rows = list(data.scan(BASE))
        self.bytes = {name.removeprefix(BASE): store.load(name) or b"" for name in blobs(self.house, BASE)}

    def copy(self, name: str) -> None:
        self.house.clock.ahead = self.ahead
        self.house.connect(self.tenant, name)
        writes = [
            Write(
                "insert", row["key"], {column: value for column, value in row.items() if column not in ("key", "etag")}
            )
            for row in self.rows
        ]
        for at in range(0, len(writes), 100):
            self.house.app.tables.data.commit(name, writes[at : at + 100])
        for rest, data in self.bytes.items():
            self.house.app.blobs.save(name + rest, data, "image/jpeg")


@pytest.fixture
def stage(build_house: Callable[..., House], new_tenant: NewTenant, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Seven people, small pages and transactions, two steps a slice, and messages that make time pass."""
    monkeypatch.setattr(collection, "PAGE", 4)
    monkeypatch.setattr(mirror, "WRITES", 3)
    monkeypatch.setattr(mirror, "DELETIONS", 1)
    monkeypatch.setattr(photos, "WRITES", 2)
    monkeypatch.setattr(photos, "COMMIT_WRITES", 4)
    monkeypatch.setattr(connections, "_DELETES", 10)
    house = build_house()
    tenant = new_tenant(users=7, guestShare=0, disabledShare=0, photoShare=0)
    stage = Stage(build_house, house, tenant)
    looks: Counter[tuple[str, int]] = Counter()

    def time_is_up(work: Any) -> bool:
        looks[work.run.id, work.run.slice] += 1
        return looks[work.run.id, work.run.slice] > 2

    def send(queues: Queues, queue: str, message: Any, delay_seconds: float = 0) -> None:
        house.clock.ahead += timedelta(seconds=delay_seconds)
        plain(queues, queue, message)

    plain = Queues.send
    monkeypatch.setattr(Queues, "send", send)
    monkeypatch.setattr("sync.jobs.Work.time_is_up", time_is_up)
    return stage


Begin = Callable[[House, str], None]
Look = Callable[[House, str], Any]


def live(stage: Stage, name: str, begin: Begin, reaper: Reaper) -> House:
    """What `begin` starts is worked at by a process that the reaper may end, and then by another one, to its end."""
    house = stage.house
    message: dict[str, Any] | None = None
    try:
        with process(reaper):
            begin(house, name)
            for message in house.messages():
                jobs.work(house.app, message)
            if message is not None:
                jobs.work(house.app, message)  # a queue may deliver twice
    except Killed:
        house = stage.other
        house.clock.ahead += LEASE + timedelta(seconds=1)
        if message is None:
            begin(house, name)  # the portal, or the timer, tries again
        else:
            jobs.work(house.app, message)  # the queue delivers again what was not finished
        house.work()
        for _ in range(2):
            house.clock.ahead += WATCH + timedelta(seconds=1)
            jobs.tick(house.app, DUE_FAMILY.get(newest(house, name).sync, "directory"))
            house.work()
    return house


def die_everywhere(stage: Stage, begin: Begin, look: Look) -> Any:
    """What `look` sees after a life without a crash, and the same after a death behind each of its writes.

    A death costs at most the slice in which it came.
    """
    stage.copy("whole")
    reaper = Reaper()
    expected = look(live(stage, "whole", begin, reaper), "whole")
    longest = newest(stage.house, "whole").slice
    assert len(reaper.writes) > 4
    for after in range(len(reaper.writes)):
        name = f"dies-{after}"
        stage.copy(name)
        mortal = Reaper(after)
        house = live(stage, name, begin, mortal)
        assert mortal.dead
        assert look(house, name) == expected, f"died after write {after} of {reaper.writes}"
        assert newest(house, name).slice <= longest + 1
    return expected


def newest(house: House, name: str) -> Run:
    """The newest run of a connection."""
    return parse_run(name, next(house.app.tables.data.scan(name, RUN)))


def start(sync: str, **body: Any) -> Begin:
    def begin(house: House, name: str) -> None:
        house.start(name, sync, **body)

    return begin


def result(house: House, name: str) -> dict[str, Any]:
    """Everything that a run has led to, without times and ids of runs."""
    (run, *_) = house.get(f"connections/{name}/runs")["items"]
    lines = house.get(f"connections/{name}/runs/{run['id']}/log?top=1000")["items"]
    changes, _ = house.changes(name)
    assert in_order(changes)
    return {
        "status": run["status"],
        "counts": tally(run),
        "log": sorted((line["level"], line["id"], line["outcome"], line["reason"]) for line in lines),
        "users": {key: without_times(user) for key, user in house.users(name).items()},
        "photos": albums(house, name),
        "blobs": [blob.removeprefix(name) for blob in blobs(house, name)],
        "feed": told(changes),
        "rows": Counter(
            row["key"].partition("|")[0]
            for row in house.app.tables.data.scan(name)
            if not row["key"].startswith(("log|", "feed|"))
        ),
    }


def without_times(user: dict[str, Any]) -> dict[str, Any]:
    photo = user["photo"] and {**user["photo"], "updatedAt": None}
    return {**user, "deletedAt": user["deletedAt"] is not None, "photo": photo}


def upload(tenant: TestTenant, keys: list[str], longest: int = 48) -> None:
    for key in keys:
        tenant.control.put(f"users/{key}/photo", {"longest": longest})


def only(tenant: TestTenant, count: int) -> None:
    """Leave so many people in the tenant."""
    for key in list(people(tenant))[count:]:
        tenant.control.post(f"users/{key}/purge")


def spoil(tenant: TestTenant, key: str) -> None:
    tenant.control.put(f"users/{key}/photo", {"base64": "bm9uc2Vuc2U="})


# --- users -----------------------------------------------------------------------------------------------------------


def test_first_users_sync(stage: Stage) -> None:
    """A first sync, with people outside of its scope and one who cannot be read: invited once, each of the others."""
    keys = list(people(stage.tenant))
    for guest in keys[2:4]:
        stage.tenant.control.patch(f"users/{guest}", {"userType": "Guest"})
    stage.tenant.control.patch(f"users/{keys[5]}", {"mail": 5})
    stage.house.connect(stage.tenant, BASE, users={"invite": "onCreate"})
    stage.keep()

    seen = die_everywhere(stage, start("users"), result)

    assert seen["counts"] == {"created": 4, "skipped": 2, "failed": 1}
    assert set(seen["users"]) == set(keys) - {*keys[2:4], keys[5]}
    assert Counter(change for story in seen["feed"].values() for change in story) == {"created": 4, "invited": 4}


def test_users_delta(stage: Stage) -> None:
    """A delta with every kind of change in it, and somebody who is skipped."""
    keys = list(people(stage.tenant))
    stage.house.connect(stage.tenant, BASE, users={"invite": "onCreate"})
    stage.tenant.control.delete(f"users/{keys[6]}")
    stage.house.run(BASE, "users")
    stage.tenant.control.delete(f"users/{keys[5]}")
    stage.house.run(BASE, "users")
    stage.keep()
    stage.tenant.control.post(f"users/{keys[5]}/restore")
    stage.tenant.control.post(f"users/{keys[6]}/restore")
    stage.tenant.control.delete(f"users/{keys[0]}")
    stage.tenant.control.patch(f"users/{keys[1]}", {"userType": "Guest"})
    stage.tenant.control.patch(f"users/{keys[2]}", {"jobTitle": "Changed"})
    stage.tenant.control.patch(f"users/{keys[3]}", {"accountEnabled": False})
    stage.tenant.control.patch(f"users/{keys[4]}", {"displayName": 5})
    stage.tenant.control.post("users", {"userPrincipalName": f"new@{stage.tenant.domain}", "userType": "Guest"})

    seen = die_everywhere(stage, start("users"), result)

    assert seen["counts"] == {"created": 1, "updated": 2, "deleted": 2, "restored": 1, "skipped": 1, "failed": 1}


def test_users_full_with_another_scope(stage: Stage) -> None:
    """A full listing after guests were shut out: they and a leaver become tombstones, each counted once."""
    keys = list(people(stage.tenant))
    for guest in keys[1:4:2]:
        stage.tenant.control.patch(f"users/{guest}", {"userType": "Guest"})
    stage.house.connect(stage.tenant, BASE, users={"includeGuests": True})
    stage.house.run(BASE, "users")
    stage.house.enable(BASE, "users", includeGuests=False)
    stage.tenant.control.delete(f"users/{keys[6]}")
    stage.tenant.control.patch(f"users/{keys[2]}", {"jobTitle": "Changed"})
    stage.keep()

    seen = die_everywhere(stage, start("users"), result)

    assert seen["counts"] == {"deleted": 3, "updated": 1, "unchanged": 3}
    assert {key for key, user in seen["users"].items() if user["state"] == "active"} == set(people(stage.tenant))


def test_purge(stage: Stage) -> None:
    """Tombstones whose time is over go with their photos; who was invited is remembered, and nobody else."""
    keys = list(people(stage.tenant))
    upload(stage.tenant, keys[:3])
    stage.house.connect(stage.tenant, BASE, users={"invite": "onCreate"}, photos={})
    stage.house.run(BASE, "users")
    stage.house.run(BASE, "photos")
    for key in keys[:2]:
        stage.tenant.control.delete(f"users/{key}")
    stage.house.run(BASE, "users")
    stage.house.clock.ahead += timedelta(days=31)
    stage.keep()

    seen = die_everywhere(stage, start("users"), result)

    assert set(seen["users"]) == set(keys[2:])
    assert len(seen["blobs"]) == 1
    assert (seen["rows"]["purge"], seen["rows"]["user"]) == (0, 7)


# --- photos ----------------------------------------------------------------------------------------------------------


def test_first_photo_pass(stage: Stage) -> None:
    """A first pass with one photo that is refused."""
    keys = list(people(stage.tenant))
    upload(stage.tenant, keys[:4], 648)
    spoil(stage.tenant, keys[2])
    stage.house.connect(stage.tenant, BASE, users={}, photos={})
    stage.house.run(BASE, "users")
    stage.keep()

    seen = die_everywhere(stage, start("photos"), result)

    assert seen["counts"] == {"created": 3, "failed": 1, "unchanged": 3}
    assert (len(seen["photos"]), len(seen["blobs"])) == (3, 3)


def test_later_photo_pass(stage: Stage) -> None:
    """Photos that are new, changed, removed, refused and unchanged: no bytes are lost and none are left over."""
    keys = list(people(stage.tenant))
    upload(stage.tenant, keys[:5], 648)
    stage.house.connect(stage.tenant, BASE, users={}, photos={})
    stage.house.run(BASE, "users")
    stage.house.run(BASE, "photos")
    stage.keep()
    stage.house.run(BASE, "photos")
    for key in keys[:2]:
        before = pictures(stage.tenant, [key])
        while pictures(stage.tenant, [key]) == before:
            upload(stage.tenant, [key], 648)
    stage.tenant.control.delete(f"users/{keys[2]}/photo")
    spoil(stage.tenant, keys[3])
    upload(stage.tenant, keys[5:6], 648)

    seen = die_everywhere(stage, start("photos"), result)

    assert seen["counts"] == {"updated": 2, "deleted": 1, "failed": 1, "created": 1, "unchanged": 2}
    assert (len(seen["photos"]), len(seen["blobs"])) == (5, 5)


def test_photos_alone(stage: Stage) -> None:
    """A photo sync that reads people by itself: they and their photos, told of once."""
    only(stage.tenant, 5)
    upload(stage.tenant, list(people(stage.tenant))[:2], 648)
    stage.house.connect(stage.tenant, BASE, photos={})
    stage.keep()

    seen = die_everywhere(stage, start("photos"), result)

    assert seen["counts"] == {"created": 2, "unchanged": 3}
    assert len(seen["users"]) == 5


# --- starting and removing -------------------------------------------------------------------------------------------


def test_timer(stage: Stage) -> None:
    """A timer that dies anywhere between two writes starts the sync once, and the next one is not forgotten."""
    only(stage.tenant, 1)
    stage.house.connect(stage.tenant, BASE, users={"schedule": {"mode": "interval", "every": "PT4H"}})
    stage.keep()
    (row,) = stage.house.app.tables.due.scan("directory")
    copy = stage.copy

    def with_due_row(name: str) -> None:
        copy(name)
        key = row["key"].replace(BASE, name)
        fields = {"connection": name, "sync": "users", "due": row["due"]}
        stage.house.app.tables.due.commit("directory", [Write("insert", key, fields)])

    stage.copy = with_due_row  # type: ignore[method-assign] # this one needs its row in the index as well
    stage.house.app.tables.due.commit("directory", [Write("delete", row["key"])])

    def look(house: House, name: str) -> Any:
        seen = result(house, name)
        house.clock.ahead += WATCH + timedelta(seconds=1)
        jobs.tick(house.app, "directory")
        dues = [
            (due["sync"], due["due"]) for due in house.app.tables.due.scan("directory") if due["connection"] == name
        ]
        syncs = {each["sync"]: each for each in house.get(f"connections/{name}/syncs")["items"]}
        assert len(dues) == 1
        assert syncs["users"]["nextRun"] == dues[0][1].replace("+00:00", "Z")
        assert syncs["users"]["lastRun"]["trigger"] == "timer"
        return seen

    seen = die_everywhere(stage, lambda house, _: jobs.tick(house.app, "directory"), look)

    assert (seen["status"], seen["rows"]["run"]) == ("succeeded", 1)


def test_removal(stage: Stage) -> None:
    """A connection that is removed leaves nothing but the run that removed it: no row, blob, secret or due row."""
    keys = list(people(stage.tenant))
    upload(stage.tenant, keys[:3])
    stage.house.connect(stage.tenant, BASE, users={}, photos={"schedule": {"mode": "daily", "at": "01:00"}})
    stage.house.run(BASE, "users")
    stage.house.run(BASE, "photos")
    stage.keep()

    def remove(house: House, name: str) -> None:
        answer = house.call("DELETE", f"connections/{name}")
        assert answer.status in (202, 404), answer.content

    def look(house: House, name: str) -> Any:
        (run,) = [row["key"] for row in house.app.tables.data.scan(name)]
        found = load_run(house.app.tables.data, name, run.removeprefix("run|"))
        assert found
        assert found[0].status in TERMINAL
        dues = [row for family in FAMILIES for row in house.app.tables.due.scan(family) if row["connection"] == name]
        secret = house.app.secrets.load(secret_name(name))
        status = house.call("GET", f"connections/{name}").status
        return found[0].status, blobs(house, name), dues, secret, status

    assert die_everywhere(stage, remove, look) == ("succeeded", [], [], None, 404)
    assert held(stage.house, BASE) == people(stage.tenant)
    assert kinds(stage.house.changes(BASE)[0], "photo") == {"created": 3}
