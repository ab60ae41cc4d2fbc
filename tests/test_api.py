"""What the portal reads: pages, filters and searches of users, runs, logs and changes; photos; settings of all syncs."""

from datetime import timedelta
from typing import Any

import pytest

from storage.tables import Write, encode_key
from sync import api_copies
from sync.sync_settings import SETTINGS
from tests.cloud import NewTenant
from tests.house import House


def pages(house: House, path: str, top: int) -> list[list[Any]]:
    """All pages of a list at `path`, which has a question mark already; it must come to an end."""
    found: list[list[Any]] = []
    cursor = ""
    while len(found) < 50:
        answer = house.get(f"{path}&top={top}{cursor}")
        found.append(answer["items"])
        if answer["next"] is None:
            return found
        cursor = f"&cursor={answer['next']}"
    raise AssertionError(path)


def joined(found: list[list[Any]]) -> list[Any]:
    return [item for page in found for item in page]


@pytest.fixture
def connected(house: House, new_tenant: NewTenant) -> House:
    house.connect(new_tenant(), users={})
    return house


def put_users(house: House, *users: dict[str, Any], state: str = "active") -> None:
    """Store users as a sync would."""
    writes = [
        Write("insert", f"user|{encode_key(user['id'])}", {"j_fields": user, "state": state, "deleted_at": ""})
        for user in users
    ]
    for at in range(0, len(writes), 100):
        house.app.tables.data.commit("primary", writes[at : at + 100])


class TestUsers:
    def test_pages(self, connected: House) -> None:
        """Every user comes once, in pages of the wished size, whatever characters the ids hold."""
        ids = ["a", "a'b", "a/b", "b", "c d", "é", "😀"]
        put_users(connected, *({"id": one} for one in ids))

        found = pages(connected, "connections/primary/users?", 3)

        assert [len(page) for page in found] == [3, 3, 1]
        assert sorted(user["id"] for user in joined(found)) == sorted(ids)

    def test_a_last_page_that_is_full(self, connected: House) -> None:
        """A list that ends with a full page ends with an empty one."""
        put_users(connected, *({"id": str(number)} for number in range(4)))

        assert [len(page) for page in pages(connected, "connections/primary/users?", 2)] == [2, 2, 0]

    def test_by_state(self, connected: House) -> None:
        """Active and deleted users can be told apart; a purged one is in no list."""
        put_users(connected, {"id": "1"})
        put_users(connected, {"id": "2"}, state="deleted")
        put_users(connected, {"id": "3"}, state="purged")

        assert sorted(connected.users("primary")) == ["1", "2"]
        assert [sorted(connected.users("primary", state=state)) for state in ("active", "deleted")] == [["1"], ["2"]]
        assert connected.call("GET", "connections/primary/users/3").json["code"] == "user-not-found"

    @pytest.mark.parametrize(
        ("search", "expected"),
        [
            ("MÜLLER", ["1"]),
            ("straße", ["2"]),
            ("STRASSE", ["2"]),
            ("jo", ["1", "3"]),
            ("@contoso", ["1", "2"]),
            ("x' or '1", []),
            ("accountant", []),
        ],
    )
    def test_search(self, connected: House, search: str, expected: list[str]) -> None:
        """A search looks into names and addresses, whatever the case, and into nothing else."""
        put_users(
            connected,
            {"id": "1", "displayName": "Jo Müller", "mail": "jo@contoso.com", "jobTitle": "Accountant"},
            {"id": "2", "surname": "Straße", "userPrincipalName": "S@Contoso.com", "givenName": None},
            {"id": "3", "givenName": "Major", "displayName": None},
        )

        assert sorted(connected.users("primary", search=search)) == expected

    def test_search_and_state(self, connected: House) -> None:
        """A search can be limited to a state."""
        put_users(connected, {"id": "1", "displayName": "Jo"})
        put_users(connected, {"id": "2", "displayName": "Jo"}, state="deleted")

        assert sorted(connected.users("primary", search="jo", state="deleted")) == ["2"]

    def test_a_long_search(self, connected: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """A search that finds little gives up for the moment and goes on where it was, until all have been seen."""
        monkeypatch.setattr(api_copies, "SEARCHED", 1000)
        put_users(
            connected,
            *({"id": f"{number:05}", "displayName": "Jo" if number % 1200 == 0 else "Al"} for number in range(2500)),
        )

        found = pages(connected, "connections/primary/users?search=jo", 100)

        assert [[user["id"] for user in page] for page in found] == [["00000"], ["01200"], ["02400"]]

    def test_a_full_page_of_a_search(self, connected: House) -> None:
        """Matches beyond the page follow on the next one, none twice."""
        put_users(connected, *({"id": str(number), "displayName": "Jo"} for number in range(5)))

        found = pages(connected, "connections/primary/users?search=jo", 2)

        assert [[user["id"] for user in page] for page in found] == [["0", "1"], ["2", "3"], ["4"]]

    def test_one_user(self, connected: House) -> None:
        """A user is shown with the fields of the contract alone, in a list as by itself, there with its version."""
        put_users(connected, {"id": "a~b", "displayName": "Jo", "businessPhones": ["+1"], "city": "Rome", "mail": None})

        (shown,) = connected.users("primary").values()

        assert (shown["id"], shown["displayName"], shown["businessPhones"], shown["mail"]) == (
            "a~b",
            "Jo",
            ["+1"],
            None,
        )
        assert "city" not in shown
        assert (shown["state"], shown["deletedAt"], shown["photo"]) == ("active", None, None)
        answer = connected.call("GET", "connections/primary/users/a~b")
        assert (answer.json, answer.headers["ETag"][0]) == (shown, '"')


class TestPhotos:
    @pytest.fixture
    def photo(self, house: House, new_tenant: NewTenant) -> str:
        """The path of a photo that was synced."""
        house.connect(new_tenant(users=1, photoShare=1, guestShare=0, disabledShare=0), users={}, photos={})
        house.run("primary", "users")
        house.run("primary", "photos")
        (user,) = house.users("primary")
        return f"connections/primary/users/{user}/photo"

    def test_bytes_and_version(self, house: House, photo: str) -> None:
        """A photo is served as a picture with an ETag, which the user shows too; browsers ask again each time."""
        answer = house.call("GET", photo)
        user = house.get(photo.removesuffix("/photo"))

        assert answer.content.startswith(b"\xff\xd8\xff")
        assert answer.headers["ETag"] == f'"{user["photo"]["etag"]}"'
        assert answer.headers["Cache-Control"] == "private, no-cache"

    @pytest.mark.parametrize(
        ("condition", "status"),
        [("{}", 304), ("W/{}", 304), ('"other", {}', 304), ('"other"', 200), ("", 200)],
    )
    def test_one_that_is_known(self, house: House, photo: str, condition: str, status: int) -> None:
        """A reader that has this very version gets no bytes."""
        etag = house.call("GET", photo).headers["ETag"]

        answer = house.call("GET", photo, If_None_Match=condition.format(etag))

        assert (answer.status, answer.content == b"", answer.headers["ETag"]) == (status, status == 304, etag)

    def test_bytes_that_are_gone(self, house: House, photo: str) -> None:
        """A photo whose bytes are being replaced at this moment is none, not a fault."""
        house.app.blobs.delete_all("primary/")

        answer = house.call("GET", photo)

        assert (answer.status, answer.json["code"]) == (404, "no-photo")


class TestRuns:
    def test_newest_first_by_page_and_filter(self, connected: House) -> None:
        """Runs come newest first, each once, and can be limited to a sync and a status."""
        connected.enable("primary", "photos")
        started = []
        for sync in ("users", "photos", "users", "users"):
            started.append(connected.start("primary", sync))
            connected.call("POST", f"connections/primary/runs/{started[-1]}/cancel")
            connected.clock.ahead += timedelta(seconds=1)
        started.append(connected.start("primary", "users"))

        def ids(query: str, top: int = 100) -> list[list[str]]:
            return [[run["id"] for run in page] for page in pages(connected, f"connections/primary/runs?{query}", top)]

        newest = started[::-1]
        assert ids("", 2) == [newest[:2], newest[2:4], newest[4:]]
        assert ids("sync=photos") == [[started[1]]]
        assert ids("status=queued") == [[started[4]]]
        assert ids("sync=users&status=cancelled") == [[started[3], started[2], started[0]]]
        assert ids("sync=nonsense") == [[]]

    def test_a_dry_run(self, connected: House) -> None:
        """A dry run is a run of its own, beside a real one."""
        dry = connected.call("POST", "connections/primary/syncs/users/runs", {"dryRun": True}).json
        real = connected.call("POST", "connections/primary/syncs/users/runs", {}).json

        assert (dry["dryRun"], real["dryRun"]) == (True, False)
        assert len(connected.get("connections/primary/runs")["items"]) == 2

    def test_no_body(self, connected: House) -> None:
        """A run may be started without saying how."""
        answer = connected.call("POST", "connections/primary/syncs/users/runs", b"")

        assert (answer.status, answer.json["mode"], answer.json["trigger"]) == (202, "delta", "manual")


class TestLogs:
    @pytest.fixture
    def log(self, connected: House) -> str:
        """The path of a log of three rows with six lines."""
        run = connected.start("primary", "users")
        for page, lines in enumerate(["iw", "e", "wie"]):
            kinds = {"i": "info", "w": "warning", "e": "error"}
            packed = [[kinds[one], "user", f"{page}{one}", "skipped", "because", "do"] for one in lines]
            row = {"j_lines": packed, "at": connected.clock()}
            connected.app.tables.data.commit("primary", [Write("insert", f"log|{run}|{page:07}|0000", row)])
        return f"connections/primary/runs/{run}/log?"

    @pytest.mark.parametrize("top", [1, 2, 3, 4, 6, 100])
    def test_pages(self, connected: House, log: str, top: int) -> None:
        """Every line comes once and in order, whatever the page's size."""
        lines = joined(pages(connected, log, top))

        assert [line["id"] for line in lines] == ["0i", "0w", "1e", "2w", "2i", "2e"]
        assert {(line["entity"], line["outcome"], line["reason"], line["remedy"]) for line in lines} == {
            ("user", "skipped", "because", "do")
        }

    @pytest.mark.parametrize("top", [1, 100])
    def test_by_level(self, connected: House, log: str, top: int) -> None:
        """A log can be limited to one level."""
        found = {
            level: [line["id"] for line in joined(pages(connected, f"{log}level={level}", top))]
            for level in ("info", "warning", "error")
        }

        assert found == {"info": ["0i", "2i"], "warning": ["0w", "2w"], "error": ["1e", "2e"]}


def test_changes_one_by_one(house: House, new_tenant: NewTenant) -> None:
    """The feed gives every change once, in pages of any size, and always a cursor to poll with."""
    tenant = new_tenant(users=5)
    house.connect(tenant, users={})
    path = "connections/primary/changes"
    empty = house.get(path)
    house.run("primary", "users")

    found, after = [], empty["next"]
    while items := (answer := house.get(f"{path}?top=2&after={after}"))["items"]:
        found += items
        after = answer["next"]

    assert empty["items"] == []
    assert found == house.get(path)["items"]
    assert {item["change"] for item in found} == {"created"}
    assert answer["next"] == after == found[-1]["cursor"]
    tenant.control.post("users", {"userPrincipalName": f"new@{tenant.domain}", "displayName": "New"})
    house.run("primary", "users")
    assert [item["change"] for item in house.get(f"{path}?after={after}")["items"]] == ["created"]


class TestSyncs:
    def test_all_six(self, connected: House) -> None:
        """Every sync is shown with its settings; one that ran and is due, with its last and its next run."""
        connected.enable("primary", "users", schedule={"mode": "interval", "every": "PT1H"})
        run = connected.run("primary", "users")

        shown = {item["sync"]: item for item in connected.get("connections/primary/syncs")["items"]}

        assert list(shown) == list(SETTINGS)
        assert shown["users"]["lastRun"] == run
        assert shown["users"]["nextRun"] is not None
        assert shown["users"]["settings"] == connected.get("connections/primary/syncs/users")
        assert [shown[sync]["nextRun"] for sync in SETTINGS if sync != "users"] == [None] * 5
        assert shown["photos"]["settings"] == SETTINGS["photos"]().wire()

    def test_a_sync_that_is_not_there_yet(self, connected: House) -> None:
        """A sync that this version lacks can be set up but not enabled."""
        path = "connections/primary/syncs/partners"

        answer = connected.call("PUT", path, {"enabled": True})

        assert (answer.status, answer.json["code"]) == (409, "sync-not-available")
        assert connected.call("PUT", path, {}).status == 200
        assert connected.get(path)["enabled"] is False
