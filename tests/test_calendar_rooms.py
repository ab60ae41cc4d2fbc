"""Rooms through the API: linked, shown with what their sync has come to, and removed with all that was theirs."""

from collections.abc import Iterator
from typing import Any

import pytest
import responses

from storage.tables import Write
from sync.calendars import commits, rooms, store
from sync.calendars.model import Link, Subscription
from sync.calendars.rooms import PLACES_PAGE, _rooms
from sync.graph.client import GraphClient
from tests.calendars import CALENDARS
from tests.client import GRAPH, clock, graph, record, tokens, wire
from tests.cloud import Cloud, NewTenant
from tests.house import House
from tests.rooms import (
    NAME,
    ROOM,
    ROOMS,
    START,
    book,
    connect,
    enable,
    link,
    make_reservation,
    pointers,
    problem,
    put_reservation,
    put_state,
    together,
)

__all__ = ["clock", "graph", "record", "tokens", "wire"]


@pytest.fixture(scope="module")
def standing(shared_house: House, cloud: Cloud) -> Iterator[House]:
    """A portal for tests that leave nothing behind."""
    tenant = cloud.generate()
    connect(shared_house, tenant)
    yield shared_house
    tenant.control.delete("")


@pytest.fixture
def portal(house: House, new_tenant: NewTenant) -> House:
    connect(house, new_tenant())
    return house


@pytest.fixture
def enabled(portal: House) -> House:
    enable(portal)
    return portal


class TestPut:
    def test_a_new_room(self, portal: House) -> None:
        """A new room answers 201 with its address and ETag, in every field of the contract."""
        answer = portal.call("PUT", f"{ROOMS}/oak", ROOM)

        assert answer.status == 201
        assert answer.headers["Location"] == f"/api/{ROOMS}/oak"
        assert answer.json == {
            **ROOM,
            "id": "oak",
            "timeZone": "America/New_York",
            "status": "pending",
            "statusDetail": "sync-disabled",
            "remedy": rooms.REMEDY["sync-disabled"],
            "warnings": [],
            "pendingChanges": 0,
            "subscriptionExpiresAt": None,
            "lastSyncedAt": None,
        }
        read = portal.call("GET", f"{ROOMS}/oak")
        assert (read.json, read.headers["ETag"]) == (answer.json, answer.headers["ETag"])

    def test_the_same_again(self, portal: House) -> None:
        """The same again changes nothing that anybody sees."""
        first = portal.call("PUT", f"{ROOMS}/oak", ROOM)
        _, cursor = portal.changes(NAME)

        again = portal.call("PUT", f"{ROOMS}/oak", ROOM)

        assert (again.status, again.json) == (200, first.json)
        assert "Location" not in again.headers
        assert portal.changes(NAME, cursor)[0] == []

    def test_changed(self, portal: House) -> None:
        """What is not named goes back to its default; the change is in the feed."""
        link(portal, timeZone="Europe/Berlin")

        changed = portal.call("PUT", f"{ROOMS}/oak", {"displayName": "Oak 2", "externalCalendar": "OAK2@Contoso.com"})

        assert changed.status == 200
        assert changed.json["displayName"] == "Oak 2"
        assert changed.json["externalCalendar"] == "oak2@contoso.com"
        assert (changed.json["active"], changed.json["timeZone"]) == (False, "America/New_York")
        changes, _ = portal.changes(NAME)
        assert [(one["entity"], one["id"], one["change"]) for one in changes] == [
            ("room", "oak", "created"),
            ("room", "oak", "updated"),
        ]

    def test_if_match(self, portal: House) -> None:
        """A stale ETag is refused, for a new room any."""
        for etag in ('"x"', "*"):
            assert portal.call("PUT", f"{ROOMS}/oak", ROOM, If_Match=etag).status == 412
        assert portal.get(ROOMS)["items"] == []
        etag = portal.call("PUT", f"{ROOMS}/oak", ROOM).headers["ETag"]

        changed = portal.call("PUT", f"{ROOMS}/oak", {**ROOM, "displayName": "A"}, If_Match=etag)
        stale = portal.call("PUT", f"{ROOMS}/oak", {**ROOM, "displayName": "B"}, If_Match=etag)

        assert (changed.status, stale.status) == (200, 412)
        assert portal.get(f"{ROOMS}/oak")["displayName"] == "A"
        assert portal.call("DELETE", f"{ROOMS}/oak", If_Match=etag).status == 412

    def test_what_happens_in_it(self, portal: House) -> None:
        """A reservation makes no other version of its room."""
        etag = portal.call("PUT", f"{ROOMS}/oak", ROOM).headers["ETag"]
        book(portal)

        assert portal.call("GET", f"{ROOMS}/oak").headers["ETag"] == etag
        assert portal.call("PUT", f"{ROOMS}/oak", {**ROOM, "displayName": "A"}, If_Match=etag).status == 200

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({}, ["/displayName", "/externalCalendar"]),
            ({**ROOM, "displayName": " "}, ["/displayName"]),
            ({**ROOM, "displayName": "x" * 256}, ["/displayName"]),
            ({**ROOM, "displayName": "a\nb"}, ["/displayName"]),
            ({**ROOM, "calendarType": "google"}, ["/calendarType"]),
            ({**ROOM, "externalCalendar": "oak"}, ["/externalCalendar"]),
            ({**ROOM, "externalCalendar": "oak/../x@contoso.com"}, ["/externalCalendar"]),
            ({**ROOM, "externalCalendar": "a@b@contoso.com"}, ["/externalCalendar"]),
            ({**ROOM, "externalCalendar": "a@" + "b." * 130 + "com"}, ["/externalCalendar"]),
            (
                {**ROOM, "active": "yes", "timeZone": "Mars/Base", "status": "active"},
                ["/active", "/status", "/timeZone"],
            ),
        ],
    )
    def test_bad_bodies(self, standing: House, body: dict[str, Any], expected: list[str]) -> None:
        """Every bad field is named, and nothing is stored."""
        assert pointers(standing.call("PUT", f"{ROOMS}/oak", body)) == expected
        assert standing.get(ROOMS)["items"] == []

    @pytest.mark.parametrize("room", ["a b", "a|b", "é", "..", "x" * 65, "a%20b"])
    def test_ids_that_no_room_can_have(self, standing: House, room: str) -> None:
        """An id of other characters is refused; nothing can be found under it either."""
        assert pointers(standing.call("PUT", f"{ROOMS}/{room}", ROOM)) == ["/room"]
        assert problem(standing.call("GET", f"{ROOMS}/{room}")) == (404, "room-not-found")

    @pytest.mark.parametrize("room", ["Room-1_a.b", "0", "x" * 64])
    def test_ids_that_a_room_can_have(self, portal: House, room: str) -> None:
        """Letters, digits and three marks, up to 64 of them."""
        assert portal.call("PUT", f"{ROOMS}/{room}", ROOM).status == 201
        assert [one["id"] for one in portal.get(ROOMS)["items"]] == [room]


class TestOneRoomForAMailbox:
    def test_the_same_room_at_once(self, portal: House) -> None:
        """Who stores the same room at the same moment stores it as well."""
        answers = together(*(lambda: portal.call("PUT", f"{ROOMS}/oak", ROOM) for _ in range(6)))

        assert sorted(answer.status for answer in answers) == [200, 200, 200, 200, 200, 201]

    def test_two_active_rooms(self, portal: House) -> None:
        """A second active room with the same calendar is refused, also in other letters; an inactive one may be."""
        link(portal, "oak", externalCalendar="oak@contoso.com")

        second = portal.call("PUT", f"{ROOMS}/elm", {**ROOM, "externalCalendar": "OAK@contoso.com"})

        assert problem(second) == (409, "duplicate-mailbox")
        assert portal.call("GET", f"{ROOMS}/elm").status == 404
        assert link(portal, "elm", externalCalendar="oak@contoso.com", active=False)["status"] == "inactive"
        assert portal.call("PUT", f"{ROOMS}/elm", ROOM).status == 409

    @pytest.mark.parametrize(
        "leave",
        [{"active": False}, {"externalCalendar": "elsewhere@contoso.com"}, None],
        ids=["off", "moved", "removed"],
    )
    def test_a_calendar_that_was_left(self, portal: House, leave: dict[str, Any] | None) -> None:
        """Once a room is off, elsewhere or removed, another one may have its calendar."""
        link(portal, "oak", externalCalendar="oak@contoso.com")
        if leave is None:
            assert portal.call("DELETE", f"{ROOMS}/oak").status == 204
        else:
            link(portal, "oak", **{"externalCalendar": "oak@contoso.com", **leave})

        assert link(portal, "elm", externalCalendar="oak@contoso.com")["active"] is True

    def test_two_at_once(self, portal: House) -> None:
        """Of two rooms that are linked to one calendar at the same moment, one is."""
        answers = together(*(lambda room=room: portal.call("PUT", f"{ROOMS}/{room}", ROOM) for room in ("oak", "elm")))

        assert sorted(answer.status for answer in answers) == [201, 409]
        assert len(portal.get(ROOMS)["items"]) == 1


class TestStatus:
    @pytest.mark.parametrize(
        ("state", "status", "detail"),
        [
            ({"status": "active", "detail": "webhook"}, "active", "webhook"),
            ({"status": "active", "detail": "polling-only"}, "active", "polling-only"),
            ({"status": "pending", "detail": ""}, "pending", None),
            *(
                ({"status": "error", "detail": code}, "error", code)
                for code in ("credential", "room-denied", "mailbox-not-found", "remote-empty", "unreachable")
            ),
        ],
    )
    def test_what_its_sync_came_to(
        self, enabled: House, state: dict[str, Any], status: str, detail: str | None
    ) -> None:
        """The state that the last run left is shown, with a remedy wherever something can be done."""
        link(enabled)
        put_state(enabled, "oak", **state)

        shown = enabled.get(f"{ROOMS}/oak")

        assert (shown["status"], shown["statusDetail"]) == (status, detail)
        assert bool(shown["remedy"]) == (detail not in (None, "webhook"))
        assert enabled.get(ROOMS)["items"] == [shown]

    def test_times_and_warnings(self, enabled: House) -> None:
        """When it was synced last, until when Microsoft tells of changes, and every warning once."""
        link(enabled)
        enable(enabled, createOnUserCalendar=True)
        subscription = Subscription("s", "d", START)
        warnings = ("user-mailbox-denied", "edits-only-in-outlook")
        put_state(enabled, "oak", synced_at=START, subscription=subscription, warnings=warnings)

        shown = enabled.get(f"{ROOMS}/oak")

        assert (shown["lastSyncedAt"], shown["subscriptionExpiresAt"]) == ("2027-03-01T14:00:00Z",) * 2
        assert shown["warnings"] == ["user-mailbox-denied", "edits-only-in-outlook"]

    @pytest.mark.parametrize("change", [{"externalCalendar": "elm@contoso.com"}, {"timeZone": "Asia/Tokyo"}, {}])
    def test_set_up_anew(self, enabled: House, change: dict[str, Any]) -> None:
        """A room that was switched off and on again, or whose settings changed, is pending until a run has looked."""
        link(enabled)
        put_state(enabled, "oak")
        assert link(enabled, active=False)["status"] == "inactive"
        shown = link(enabled, **change)

        assert (shown["status"], shown["statusDetail"], shown["remedy"]) == ("pending", None, None)
        put_state(enabled, "oak")
        assert enabled.get(f"{ROOMS}/oak")["status"] == "active"
        assert link(enabled, **change, displayName="New")["status"] == "active"

    def test_what_waits(self, enabled: House) -> None:
        """Changes that are not sent yet are counted by room."""
        link(enabled, "oak")
        link(enabled, "elm")
        waiting = [make_reservation(f"r{number}") for number in range(3)]
        enabled.app.tables.data.commit(NAME, store.writes_to_send(waiting))

        assert [one["pendingChanges"] for one in enabled.get(ROOMS)["items"]] == [0, 3]
        assert enabled.get(f"{ROOMS}/oak")["pendingChanges"] == 3


def test_lists(portal: House) -> None:
    """Rooms come in pages of any size, each once."""
    names = ["a", "b.b", "b_b", "c-c", "d"]
    for name in names:
        link(portal, name)

    for top in (1, 2, 5, 6):
        found, cursor = [], ""
        while cursor is not None:
            page = portal.get(f"{ROOMS}?top={top}" + (f"&cursor={cursor}" if cursor else ""))
            found += [one["id"] for one in page["items"]]
            cursor = page["next"]
        assert sorted(found) == names


class TestRuns:
    def test_a_run_starts(self, enabled: House) -> None:
        """Linking, changing and removing a room starts a run, or joins one; all of them are in one."""
        link(enabled)
        link(enabled, displayName="Two")
        enabled.call("DELETE", f"{ROOMS}/oak")

        runs = enabled.get(f"connections/{NAME}/runs?sync=calendars")["items"]
        assert [(run["trigger"], run["mode"], run["status"]) for run in runs] == [("manual", "delta", "queued")]

    def test_no_run_where_the_sync_is_off(self, portal: House) -> None:
        """Where the sync is off, everything waits for it."""
        link(portal)

        assert portal.get(f"connections/{NAME}/runs")["items"] == []


class TestRemoval:
    def test_all_of_it_goes(self, portal: House) -> None:
        """A removed room is gone with its reservations, each of them told of, and what waited to be sent."""
        link(portal, "oak")
        link(portal, "elm")
        many = [make_reservation(f"r{number}") for number in range(100)]
        for at in range(0, 100, 50):
            part = many[at : at + 50]
            writes = [Write("insert", store.reservation_key("oak", one.id), store.reservation_row(one)) for one in part]
            portal.app.tables.data.commit(NAME, [*writes, *store.writes_to_send(part[:10])])
        put_reservation(portal, make_reservation("r1000", status="cancelled", link=Link(state="gone")))
        put_reservation(portal, make_reservation(room="elm"))
        _, cursor = portal.changes(NAME)

        assert portal.call("DELETE", f"{ROOMS}/oak").status == 204

        for method, body in (("GET", None), ("DELETE", None)):
            assert problem(portal.call(method, f"{ROOMS}/oak", body)) == (404, "room-not-found")
        changes, _ = portal.changes(NAME, cursor)
        assert (changes[0]["entity"], changes[0]["change"]) == ("room", "deleted")
        assert {one["id"] for one in changes[1:]} == {one.id for one in many}
        left = [row["key"] for row in portal.app.tables.data.scan(NAME) if "oak" in row["key"]]
        assert left == [store.heard_key("oak")]
        assert len(store.load_reservations(portal.app.tables.data, NAME, "elm")) == 1

    def test_its_state_stays_for_the_next_run(self, portal: House) -> None:
        """A room that was synced leaves behind what the next run needs to remove its subscription."""
        link(portal)
        put_state(portal, "oak", subscription=Subscription("s", "d", START))

        portal.call("DELETE", f"{ROOMS}/oak")

        assert portal.app.tables.data.get(NAME, store.removed_key("oak")) is not None
        assert store.load_state(portal.app.tables.data, NAME, "oak")[0].subscription is not None

    def test_removed_and_linked_anew(self, portal: House) -> None:
        """The same id may be used at once; the room begins without reservations, and pending."""
        link(portal)
        put_state(portal, "oak")
        put_reservation(portal, make_reservation())
        portal.call("DELETE", f"{ROOMS}/oak")

        assert link(portal)["status"] == "pending"
        assert store.load_reservations(portal.app.tables.data, NAME, "oak") == []

    def test_killed_on_the_way(self, portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """A removal that died after its first transaction shows nothing, and ends when the id is used again."""
        link(portal)
        put_reservation(portal, make_reservation())
        monkeypatch.setattr(rooms, "finish_removal", lambda *_, **__: None)
        portal.call("DELETE", f"{ROOMS}/oak")
        monkeypatch.undo()
        assert len(store.load_reservations(portal.app.tables.data, NAME, "oak")) == 1
        assert portal.call("GET", f"{ROOMS}/oak").status == 404

        link(portal)

        assert store.load_reservations(portal.app.tables.data, NAME, "oak") == []
        assert portal.app.tables.data.get(NAME, store.removed_key("oak")) is None


class TestPlaces:
    @pytest.mark.parametrize("faults", [{}, {"placesWithoutNextLink": True}], ids=["links", "no-links"])
    def test_past_a_hundred(self, house: House, new_tenant: NewTenant, faults: dict[str, Any]) -> None:
        """All rooms of the tenant come in pages of any size, each once, with and without Graph's links."""
        tenant = new_tenant(rooms=205, roles=CALENDARS)
        tenant.control.post("faults", faults)
        house.connect(tenant, NAME)

        for top in (100, 150, 1000):
            found, cursor = [], ""
            while cursor is not None:
                page = house.get(f"connections/{NAME}/places?top={top}" + (f"&cursor={cursor}" if cursor else ""))
                found += [one["emailAddress"] for one in page["items"]]
                cursor = page["next"]
            assert sorted(found) == sorted(f"room{number}@{tenant.domain}" for number in range(1, 206))

    def test_every_field(self, house: House, new_tenant: NewTenant) -> None:
        """A room of the tenant says what Graph knows of it, and which room here has its calendar."""
        tenant = new_tenant(rooms=0, roles=CALENDARS)
        house.connect(tenant, NAME)
        place = {
            "emailAddress": f"Oak@{tenant.domain}",
            "displayName": "Oak",
            "capacity": 8,
            "building": "1",
            "floorNumber": 2,
        }
        tenant.control.post("rooms", place)
        link(house, "oak", externalCalendar=f"oak@{tenant.domain}")

        (found,) = house.get(f"connections/{NAME}/places")["items"]

        assert found == {
            **place,
            "id": found["id"],
            "floorLabel": "",
            "phone": "",
            "bookingType": "standard",
            "tags": [],
            "linkedRoom": "oak",
        }

    def test_a_page_that_comes_again(self, graph: GraphClient, wire: responses.RequestsMock) -> None:
        """Where Graph gives the same full page whatever is asked for, that is the end: no room is listed twice."""
        page = [{"id": str(number)} for number in range(PLACES_PAGE)]
        for _ in range(2):
            wire.get(f"{GRAPH}/v1.0/places/microsoft.graph.room", json={"value": page})

        assert list(_rooms(graph, 0)) == page
        assert len(wire.calls) == 2

    def test_without_the_right(self, house: House, new_tenant: NewTenant) -> None:
        """Where the app may not list rooms, the answer says what to grant."""
        house.connect(new_tenant(rooms=1, roles=["Calendars.ReadWrite"]), NAME)

        answer = house.call("GET", f"connections/{NAME}/places")

        assert problem(answer) == (409, "places-forbidden")
        assert "Place.Read.All" in answer.json["remedy"]

    def test_what_graph_might_say(self) -> None:
        """Nothing that Graph leaves out or says in another form breaks the list."""
        shown = rooms.parse_place({"capacity": "8", "tags": ["a", 1], "building": None, "emailAddress": 5}, {})

        assert (shown.capacity, shown.tags, shown.building, shown.email_address) == (None, ["a"], None, "")


def test_a_write_whose_answer_was_lost(portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the SDK sends a write again that had come through, the conflict is with itself, and no error."""
    data = portal.app.tables.data
    commit = data.commit
    lost: list[list[str]] = []

    def losing(partition: str, writes: Any) -> list[str]:
        if any(write.key == store.room_key("oak") for write in writes) and not lost:
            lost.append(commit(partition, writes))
        return commit(partition, writes)

    monkeypatch.setattr(data, "commit", losing)

    answer = portal.call("PUT", f"{ROOMS}/oak", ROOM)

    assert answer.status == 201
    assert len(lost) == 1
    assert len(portal.changes(NAME)[0]) == 1


def test_others_that_keep_writing(portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who cannot get a write through among others is told to try again, and nothing is half done."""
    monkeypatch.setattr(commits, "ATTEMPTS", 0)

    assert problem(portal.call("PUT", f"{ROOMS}/oak", ROOM)) == (409, "conflict")
    assert portal.get(ROOMS)["items"] == []
