"""Reservations through the API: made, read, changed, moved, cancelled, and never two at a time in a room."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sync.calendars import rooms
from sync.calendars.model import Link, Person, Times
from tests.cloud import Cloud, TestTenant
from tests.house import House
from tests.rooms import (
    BODY,
    NAME,
    ROOMS,
    START,
    at,
    book,
    connect,
    enable,
    link,
    make_reservation,
    pointers,
    problem,
    put_reservation,
    stored,
    to_send,
    together,
)

NewTenant = Callable[..., TestTenant]
OAK = f"{ROOMS}/oak/reservations"
ELM = f"{ROOMS}/elm/reservations"
ANN = {"name": "Ann Lee", "email": "ann@contoso.com"}
LATER = Times(START + timedelta(days=1), START + timedelta(days=1, hours=1), "UTC")
DAILY = {"pattern": {"type": "daily", "interval": 1}, "range": {"type": "noEnd", "startDate": "2027-03-01"}}


@pytest.fixture(scope="module")
def standing(shared_house: House, cloud: Cloud) -> Iterator[House]:
    """A portal for tests that leave nothing behind but reservations that nobody else looks at."""
    tenant = cloud.generate()
    connect(shared_house, tenant)
    link(shared_house, "oak")
    yield shared_house
    tenant.control.delete("")


@pytest.fixture
def portal(house: House, new_tenant: NewTenant) -> House:
    connect(house, new_tenant())
    link(house, "oak")
    link(house, "elm")
    return house


class TestCreate:
    def test_every_field(self, portal: House) -> None:
        """A reservation answers with its address and ETag, in every field of the contract, as it is read later."""
        asked = {
            **BODY,
            "owner": ANN,
            "attendees": [{"name": "Bob", "email": "Bob@Contoso.com"}, {"email": "c@contoso.com"}],
            "notes": "Bring\nthe plans 😀",
            "private": True,
            "organizer": "room",
        }

        answer = portal.call("POST", OAK, asked)

        made = answer.json
        assert answer.status == 201
        assert answer.headers["Location"] == f"/api/{OAK}/{made['id']}"
        assert made == {
            "id": made["id"],
            "room": "oak",
            "title": "Planning",
            "titleSource": "local",
            "owner": ANN,
            "start": {"dateTime": "2027-03-01T09:00:00", "timeZone": "America/New_York"},
            "end": {"dateTime": "2027-03-01T10:00:00", "timeZone": "America/New_York"},
            "allDay": False,
            "recurrence": None,
            "seriesId": None,
            "originalStart": None,
            "type": "single",
            "attendees": [{"name": "Bob", "email": "Bob@Contoso.com"}, {"name": "", "email": "c@contoso.com"}],
            "notes": "Bring\nthe plans 😀",
            "private": True,
            "organizer": "room",
            "syncState": "pending",
            "origin": "portal",
            "status": "confirmed",
            "blocking": True,
            "note": None,
            "createdAt": made["createdAt"],
            "updatedAt": made["createdAt"],
        }
        read = portal.call("GET", f"{OAK}/{made['id']}")
        assert (read.json, read.headers["ETag"]) == (made, answer.headers["ETag"])
        assert portal.get(f"{OAK}?from=2027-03-01&to=2027-03-02") == {"items": [made], "next": None}
        assert to_send(portal, "oak") == [made["id"]]
        assert [(one["entity"], one["id"], one["change"]) for one in portal.changes(NAME)[0]][-1] == (
            "reservation",
            made["id"],
            "created",
        )

    @pytest.mark.parametrize(
        ("start", "end", "shown"),
        [
            (at("2027-03-01T09:00:30.9999999"), at("2027-03-01T10:00"), ("2027-03-01T09:00:30", "2027-03-01T10:00:00")),
            (
                at("2027-03-01T09:00", None),
                at("2027-03-01T10:00", None),
                ("2027-03-01T09:00:00", "2027-03-01T10:00:00"),
            ),
            (
                at("2027-03-01T09:00", "Eastern Standard Time"),
                at("2027-03-01T16:00", "W. Europe Standard Time"),
                ("2027-03-01T09:00:00", "2027-03-01T10:00:00"),
            ),
            (at("2027-03-14T02:30"), at("2027-03-14T04:00"), ("2027-03-14T03:30:00", "2027-03-14T04:00:00")),
        ],
        ids=["fractions", "floating", "windows-names", "an-hour-that-is-skipped"],
    )
    def test_times(self, portal: House, start: Any, end: Any, shown: tuple[str, str]) -> None:
        """Times are wall clocks of any zone, Windows' names included; without one they are the room's."""
        made = book(portal, start=start, end=end)

        assert (made["start"], made["end"]) == tuple({"dateTime": one, "timeZone": "America/New_York"} for one in shown)

    def test_all_day(self, portal: House) -> None:
        """An all-day reservation is its dates, whatever zone it was asked in; it takes the days of the room."""
        link(portal, "elm", timeZone="Pacific/Auckland")
        days = {"start": at("2027-03-05T00:00"), "end": at("2027-03-07T00:00"), "allDay": True}

        made = book(portal, "elm", **days)

        assert made["allDay"] is True
        assert made["start"] == {"dateTime": "2027-03-05T00:00:00", "timeZone": "Pacific/Auckland"}
        assert made["end"] == {"dateTime": "2027-03-07T00:00:00", "timeZone": "Pacific/Auckland"}
        assert stored(portal, "elm", made["id"]).times.start.isoformat() == "2027-03-04T11:00:00+00:00"

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"title": None, "start": None}, ["/start", "/title"]),
            ({"title": "", "end": {}}, ["/end/dateTime", "/title"]),
            ({"title": "x" * 256, "more": 1}, ["/more", "/title"]),
            ({"title": "a\x00b", "notes": "a\x00b"}, ["/notes", "/title"]),
            ({"notes": "x" * 20_001, "private": "no"}, ["/notes", "/private"]),
            ({"start": at("2027-03-01T09:00Z"), "end": at("2027-03-01T10:00+01:00")}, ["/end/dateTime", "/start/dateTime"]),
            ({"start": at("2027-02-30T09:00"), "end": at("9999-12-31T23:59:59")}, ["/end/dateTime", "/start/dateTime"]),
            ({"start": at("0001-01-01T00:00"), "end": at("2027-3-1T9:00")}, ["/end/dateTime", "/start/dateTime"]),
            ({"start": at("2027-03-01T09:00", "Mars/Base"), "end": at("2027-03-01T10:00", "")}, ["/end/timeZone", "/start/timeZone"]),
            ({"start": at("2027-03-01T09:00", "localtime")}, ["/start/timeZone"]),
            ({"end": at("2027-03-01T09:00")}, ["/end"]),
            ({"end": at("2027-03-01T08:59")}, ["/end"]),
            ({"end": at("2028-03-03T09:00")}, ["/end"]),
            ({"start": at("2090-03-01T09:00"), "end": at("2090-03-01T10:00")}, ["/start"]),
            ({"allDay": True}, ["/end/dateTime", "/start/dateTime"]),
            ({"allDay": True, "start": at("2027-03-01T00:00"), "end": at("2027-03-01T00:00")}, ["/end"]),
            ({"owner": {"name": "Ann"}}, ["/owner/email"]),
            ({"owner": {"name": "x" * 256, "email": "ann"}}, ["/owner/email", "/owner/name"]),
            ({"attendees": [{"email": "a"}, {"name": 1}]}, ["/attendees/0/email", "/attendees/1/email", "/attendees/1/name"]),
            ({"attendees": [{"email": f"a{n}@contoso.com"} for n in range(101)]}, ["/attendees"]),
            ({"organizer": "external", "status": "confirmed", "id": "x"}, ["/id", "/organizer", "/status"]),
        ],
    )  # fmt: skip
    def test_what_is_refused(self, standing: House, fields: dict[str, Any], expected: list[str]) -> None:
        """Every bad field is named at once, no value is repeated, and nothing is stored."""
        _, cursor = standing.changes(NAME)

        assert pointers(standing.call("POST", OAK, {**BODY, **fields})) == expected
        assert standing.changes(NAME, cursor)[0] == []

    @pytest.mark.parametrize(
        "title", ["O'Brien & <b>Söhne</b>", 'a"b\\c', "評価会議 😀", "\u202eabc", "x" * 255, "' or 1 eq 1", " \u3000a "]
    )
    def test_titles(self, standing: House, title: str) -> None:
        """Any characters that a person might write come back as they were."""
        path = f"{OAK}/{book(standing, title=title)['id']}"

        assert standing.get(path)["title"] == title
        standing.call("DELETE", path)


class TestClashes:
    @pytest.mark.parametrize(
        ("start", "end", "busy"),
        [
            ("09:00", "10:00", True),
            ("08:00", "09:01", True),
            ("09:59", "11:00", True),
            ("08:00", "11:00", True),
            ("09:15", "09:45", True),
            ("08:00", "09:00", False),
            ("10:00", "11:00", False),
        ],
    )
    def test_overlaps(self, portal: House, start: str, end: str, busy: bool) -> None:
        """What overlaps is refused and told when the room is taken; what only touches is not. Rooms stand alone."""
        book(portal)
        body = {**BODY, "start": at(f"2027-03-01T{start}"), "end": at(f"2027-03-01T{end}")}

        answer = portal.call("POST", OAK, body)

        assert answer.status == (409 if busy else 201)
        if busy:
            assert answer.json["code"] == "room-busy"
            assert answer.json["busy"] == [{"start": "2027-03-01T14:00:00Z", "end": "2027-03-01T15:00:00Z"}]
            assert "Planning" not in answer.content.decode()
        assert portal.call("POST", ELM, body).status == 201

    def test_a_whole_day(self, portal: House) -> None:
        """An all-day reservation is in the way from midnight to midnight in the room."""
        book(portal, start=at("2027-03-01T00:00"), end=at("2027-03-02T00:00"), allDay=True)

        for start, end, status in (
            ("2027-03-01T23:00", "2027-03-02T01:00", 409),
            ("2027-03-02T00:00", "2027-03-02T01:00", 201),
        ):
            assert portal.call("POST", OAK, {**BODY, "start": at(start), "end": at(end)}).status == status

    @pytest.mark.parametrize(
        "changes",
        [
            {"status": "cancelled"},
            {"status": "declined"},
            {"blocking": False},
            {"kind": "series", "recurrence": None},
            {"kind": "occurrence", "series": "nowhere", "original_start": START},
        ],
        ids=lambda changes: str(next(iter(changes.values()))),
    )
    def test_what_is_not_in_the_way(self, portal: House, changes: dict[str, Any]) -> None:
        """What is over, declined, free, a series itself, or left of a series that never came to be takes no time."""
        put_reservation(portal, make_reservation(**changes))

        assert portal.call("POST", OAK, BODY).status == 201

    def test_what_microsoft_made_is(self, portal: House) -> None:
        """A meeting from Outlook is in the way like any other, an occurrence too."""
        put_reservation(
            portal, make_reservation(origin="microsoft", kind="occurrence", series="s", original_start=START)
        )

        assert problem(portal.call("POST", OAK, BODY)) == (409, "room-busy")

    def test_an_inactive_room(self, portal: House) -> None:
        """A room that is off takes no reservations; one that is pending does."""
        link(portal, active=False)

        assert problem(portal.call("POST", OAK, BODY)) == (409, "room-inactive")
        assert problem(portal.call("POST", f"{ROOMS}/ash/reservations", BODY)) == (404, "room-not-found")
        assert link(portal)["status"] == "pending"
        assert portal.call("POST", OAK, BODY).status == 201

    def test_two_at_once(self, portal: House) -> None:
        """Of several requests for one time at the same moment, one gets the room, whatever they are."""
        made = book(portal, start=at("2027-03-01T06:00"), end=at("2027-03-01T07:00"))
        other = book(portal, "elm")

        answers = together(
            *(lambda: portal.call("POST", OAK, BODY) for _ in range(3)),
            lambda: portal.call("PATCH", f"{OAK}/{made['id']}", {"start": BODY["start"], "end": BODY["end"]}),
            lambda: portal.call("PATCH", f"{ELM}/{other['id']}", {"room": "oak"}),
        )

        assert sum(answer.status in (200, 201) for answer in answers) == 1
        assert {problem(answer) for answer in answers if answer.status >= 400} == {(409, "room-busy")}
        found = portal.get(f"{OAK}?from=2027-03-01T14:00:00Z&to=2027-03-01T15:00:00Z")["items"]
        assert len(found) == 1
        assert (found[0]["id"] == other["id"]) != (portal.call("GET", f"{ELM}/{other['id']}").status == 200)


class TestRead:
    def test_lists(self, portal: House) -> None:
        """Reservations come in the order of their starts, in pages of any size, each once."""
        days = [5, 1, 9, 3, 7]
        made = {
            day: book(portal, start=at(f"2027-03-0{day}T09:00"), end=at(f"2027-03-0{day}T10:00"))["id"] for day in days
        }

        for top in (1, 2, 5, 6):
            found, cursor = [], ""
            while cursor is not None:
                page = portal.get(
                    f"{OAK}?from=2027-03-01&to=2027-04-01&top={top}" + (f"&cursor={cursor}" if cursor else "")
                )
                found += [one["id"] for one in page["items"]]
                cursor = page["next"]
            assert found == [made[day] for day in sorted(days)]

    @pytest.mark.parametrize(
        ("query", "shown"),
        [
            ("from=2027-03-01&to=2027-03-02", True),
            ("from=2027-03-01T14:59:59Z&to=2027-03-01T16:00:00Z", True),
            ("from=2027-03-01T15:00:00Z&to=2027-03-01T16:00:00Z", False),
            ("from=2027-03-01T12:00:00Z&to=2027-03-01T14:00:00Z", False),
            ("from=2027-03-01T13:00:00%2B00:00&to=2027-03-01T14:00:01+00:00", True),
            ("from=2027-02-01&to=2027-03-01", False),
            ("from=2027-03-02&to=2027-03-03", False),
            ("from=2027-03-01&to=2027-03-02&status=confirmed&type=single", True),
            ("from=2027-03-01&to=2027-03-02&status=tentative", False),
            ("from=2027-03-01&to=2027-03-02&type=series", False),
            ("from=1900-01-01&to=2199-12-31&status=any", True),
        ],
    )
    def test_ranges(self, portal: House, query: str, shown: bool) -> None:
        """What overlaps with the wished time is listed; days are those of the room."""
        made = book(portal)

        listed = portal.get(f"{OAK}?{query.replace('%2B', '+')}")["items"]

        assert [one["id"] for one in listed] == ([made["id"]] if shown else [])

    def test_by_default(self, portal: House) -> None:
        """Without a time, what begins within the window of the sync is listed, and what ended within a day."""
        now = portal.app.clock()
        ids = {}
        for name, hours in (
            ("long ago", -30),
            ("just now", -3),
            ("soon", 3),
            ("in a year", 24 * 364),
            ("later", 24 * 368),
        ):
            start = now + timedelta(hours=hours)
            times = Times(start, start + timedelta(hours=1), "UTC")
            ids[name] = put_reservation(portal, make_reservation(name.replace(" ", "-"), times=times)).id

        assert [one["id"] for one in portal.get(OAK)["items"]] == [
            ids[name] for name in ("just now", "soon", "in a year")
        ]

    def test_those_that_are_over(self, portal: House) -> None:
        """Cancelled ones are gone unless they are asked for; declined ones are shown as such."""
        put_reservation(portal, make_reservation("c", status="cancelled"))
        put_reservation(portal, make_reservation("d", status="declined", sync_state="rejected", note="room-busy"))
        week = f"{OAK}?from=2027-03-01&to=2027-03-02"

        assert [(one["id"], one["syncState"], one["note"]) for one in portal.get(week)["items"]] == [
            ("d", "rejected", "room-busy")
        ]
        assert [one["id"] for one in portal.get(f"{week}&status=cancelled")["items"]] == ["c"]
        assert [one["id"] for one in portal.get(f"{week}&status=any")["items"]] == ["c", "d"]
        assert problem(portal.call("GET", f"{OAK}/c")) == (404, "reservation-not-found")
        assert portal.get(f"{OAK}/c?status=any")["status"] == "cancelled"

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("from=yesterday&to=20270301", ["/from", "/to"]),
            ("from=2027-03-01T09:00:00", ["/from"]),
            ("from=2027-02-30", ["/from"]),
            ("from=2027-W09-1&to=2027-060", ["/from", "/to"]),
            ("from=1601-01-01&to=2500-01-01", ["/from", "/to"]),
            ("from=2027-03-02&to=2027-03-02", ["/to"]),
            ("from=2199-01-01", ["/to"]),
            ("status=gone&type=meeting&top=0&order=up", ["/order", "/status", "/top", "/type"]),
            ("cursor=abc", ["/cursor"]),
            ("cursor=MjAyNy0wMy0wMQ", ["/cursor"]),
        ],
    )
    def test_bad_queries(self, standing: House, query: str, expected: list[str]) -> None:
        """Every bad parameter is named."""
        assert pointers(standing.call("GET", f"{OAK}?{query}")) == expected

    def test_what_is_not_there(self, portal: House) -> None:
        """An id of another room, or of nothing, is a 404."""
        made = book(portal)

        for path in (f"{ELM}/{made['id']}", f"{OAK}/nothing", f"{OAK}/a|b", f"{OAK}/{'x' * 600}"):
            assert problem(portal.call("GET", path)) == (404, "reservation-not-found")
            assert problem(portal.call("PATCH", path, {"title": "A"})) == (404, "reservation-not-found")
            assert problem(portal.call("DELETE", path)) == (404, "reservation-not-found")
        assert problem(portal.call("GET", f"{ROOMS}/ash/reservations")) == (404, "room-not-found")


class TestEdit:
    def test_before_it_is_sent(self, portal: House) -> None:
        """What is named changes and the rest stays; nothing was sent yet, so it is still to be created."""
        made = portal.call("POST", OAK, BODY)
        path, etag = f"{OAK}/{made.json['id']}", made.headers["ETag"]

        changed = portal.call(
            "PATCH", path, {"title": "Review", "owner": ANN, "end": at("2027-03-01T11:00")}, If_Match=etag
        )

        assert changed.status == 200
        assert changed.json == {
            **made.json,
            "title": "Review",
            "owner": ANN,
            "end": at("2027-03-01T11:00:00"),
            "updatedAt": changed.json["updatedAt"],
        }
        assert changed.headers["ETag"] != etag
        assert portal.call("PATCH", path, {"title": "Lost"}, If_Match=etag).status == 412
        assert portal.call("DELETE", path, If_Match=etag).status == 412
        assert portal.get(path) == changed.json
        assert stored(portal, "oak", made.json["id"]).link.state == "creating"

    @pytest.mark.parametrize(
        ("patch", "sent"),
        [
            ({"title": "Review"}, True),
            ({"private": True}, True),
            ({"start": at("2027-03-01T09:30")}, True),
            ({"allDay": True, "start": at("2027-03-01T00:00"), "end": at("2027-03-02T00:00")}, True),
            ({"owner": ANN}, False),
            ({"notes": "Bring the plans"}, False),
            ({"attendees": [ANN]}, False),
            ({"start": at("2027-03-01T14:00", "UTC"), "end": at("2027-03-01T15:00", "UTC")}, True),
        ],
        ids=lambda value: "" if isinstance(value, bool) else next(iter(value)),
    )
    def test_what_microsoft_is_told(self, portal: House, patch: dict[str, Any], sent: bool) -> None:
        """A change of what the event holds waits to be sent; what the portal alone keeps does not. Both are told of."""
        one = put_reservation(portal, make_reservation())
        _, cursor = portal.changes(NAME)

        changed = portal.call("PATCH", f"{OAK}/{one.id}", patch)

        assert changed.status == 200, changed.content
        assert changed.json["syncState"] == ("pending" if sent else "synced")
        assert stored(portal, "oak", one.id).link.state == ("updating" if sent else "linked")
        assert to_send(portal, "oak") == ([one.id] if sent else [])
        assert [(each["id"], each["change"]) for each in portal.changes(NAME, cursor)[0]] == [(one.id, "updated")]

    @pytest.mark.parametrize(
        "patch",
        [
            {},
            {"title": "Planning"},
            {"start": BODY["start"], "end": BODY["end"], "allDay": False},
            {"room": "oak"},
            {"organizer": "room"},
        ],
        ids=lambda patch: next(iter(patch), "nothing"),
    )
    def test_nothing_new(self, portal: House, patch: dict[str, Any]) -> None:
        """What changes nothing writes nothing: the ETag stays."""
        one = put_reservation(portal, make_reservation())
        before = portal.call("GET", f"{OAK}/{one.id}")
        _, cursor = portal.changes(NAME)

        after = portal.call("PATCH", f"{OAK}/{one.id}", patch)

        assert (after.status, after.json, after.headers["ETag"]) == (200, before.json, before.headers["ETag"])
        assert portal.changes(NAME, cursor)[0] == []

    def test_the_owner_goes(self, portal: House) -> None:
        """Null takes the owner away."""
        made = book(portal, owner=ANN)

        assert portal.call("PATCH", f"{OAK}/{made['id']}", {"owner": None}).json["owner"] is None

    @pytest.mark.parametrize(
        ("patch", "expected"),
        [
            (
                {"title": None, "start": None, "private": None, "allDay": None},
                ["/allDay", "/private", "/start", "/title"],
            ),
            ({"end": at("2027-03-01T09:00")}, ["/end"]),
            ({"allDay": True}, ["/end/dateTime", "/start/dateTime"]),
            ({"recurrence": DAILY}, ["/recurrence"]),
            ({"organizer": "user"}, ["/organizer"]),
            ({"room": "ash"}, ["/room"]),
            ({"syncState": "synced", "seriesId": "x", "type": "series"}, ["/seriesId", "/syncState", "/type"]),
        ],
        ids=lambda value: next(iter(value)),
    )
    def test_what_is_refused(self, standing: House, patch: dict[str, Any], expected: list[str]) -> None:
        """Every bad field is named, and nothing changes."""
        made = book(standing)

        assert pointers(standing.call("PATCH", f"{OAK}/{made['id']}", patch)) == expected
        assert standing.get(f"{OAK}/{made['id']}") == made
        standing.call("DELETE", f"{OAK}/{made['id']}")

    def test_a_time_that_is_taken(self, portal: House) -> None:
        """A reservation cannot be moved onto another one; its own time is not in its way."""
        made = book(portal)
        book(portal, start=at("2027-03-01T10:00"), end=at("2027-03-01T11:00"))

        busy = portal.call("PATCH", f"{OAK}/{made['id']}", {"end": at("2027-03-01T10:01")})

        assert problem(busy) == (409, "room-busy")
        assert portal.get(f"{OAK}/{made['id']}") == made
        assert portal.call("PATCH", f"{OAK}/{made['id']}", {"start": at("2027-03-01T08:30")}).status == 200

    def test_a_declined_one(self, portal: House) -> None:
        """One that was rejected is tried anew with another time, as a new event; any other change changes it alone."""
        gone = make_reservation(
            status="declined", sync_state="rejected", note="room-busy", link=Link(state="gone", transaction="t")
        )
        put_reservation(portal, gone)

        renamed = portal.call("PATCH", f"{OAK}/r", {"title": "Review"}).json
        assert (renamed["title"], renamed["status"], renamed["syncState"], renamed["note"]) == (
            "Review",
            "declined",
            "rejected",
            "room-busy",
        )
        moved = portal.call("PATCH", f"{OAK}/r", {"start": at("2027-03-01T08:00"), "end": at("2027-03-01T09:00")}).json

        assert (moved["status"], moved["syncState"], moved["note"]) == ("confirmed", "pending", None)
        after = stored(portal, "oak", "r")
        assert (after.generation, after.link) == (1, Link(state="creating", organizer_address="oak@contoso.com"))

    def test_one_that_is_leaving(self, portal: House) -> None:
        """One that lost its room to another meeting takes its event along where it gets another time in time."""
        put_reservation(
            portal,
            make_reservation(status="declined", sync_state="rejected").linked(state="deleting", cause="lost-clash"),
        )

        moved = portal.call("PATCH", f"{OAK}/r", {"start": at("2027-03-01T08:00"), "end": at("2027-03-01T09:00")}).json

        assert (moved["status"], moved["syncState"]) == ("confirmed", "pending")
        after = stored(portal, "oak", "r").link
        assert (after.state, after.cause, after.room_event) == ("updating", "", "event of r")

    def test_the_feed_and_the_runs(self, portal: House) -> None:
        """Every change starts a run where the sync is on, or joins one."""
        enable(portal)
        made = book(portal)
        portal.call("PATCH", f"{OAK}/{made['id']}", {"title": "Review"})
        portal.call("DELETE", f"{OAK}/{made['id']}")

        runs = portal.get(f"connections/{NAME}/runs?sync=calendars")["items"]
        assert [run["trigger"] for run in runs] == ["manual"]


USER = Link(state="linked", organizer="user", organizer_address="ann@contoso.com", room_event="e", organizer_event="o")


class TestOrganizers:
    @pytest.mark.parametrize("organizer", ["user", "external"])
    @pytest.mark.parametrize(
        ("patch", "code"),
        [
            ({"title": "Review"}, "organizer-locked"),
            ({"start": at("2027-03-01T08:00")}, "organizer-locked"),
            ({"attendees": [ANN]}, "organizer-locked"),
            ({"room": "elm"}, "organizer-locked"),
            ({"owner": ANN}, "owner-is-organizer"),
            ({"owner": ANN, "title": "Review"}, "owner-is-organizer"),
            ({"notes": "Mine"}, None),
            (None, "organizer-locked"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_without_delegation(
        self, portal: House, organizer: Any, patch: dict[str, Any] | None, code: str | None
    ) -> None:
        """A meeting in its organizer's calendar is changed there; its owner is its organizer, whatever the settings."""
        one = put_reservation(portal, make_reservation(link=replace(USER, organizer=organizer)))

        answer = portal.call("DELETE" if patch is None else "PATCH", f"{OAK}/r", patch)

        assert (answer.status, answer.json.get("code")) == (409 if code else 200, code)
        assert stored(portal, "oak", "r").link == one.link
        assert portal.get(f"{OAK}/r")["organizer"] == "user"

    def test_what_is_sent_back_as_it_was_read(self, portal: House) -> None:
        """A client that sends all fields back changes nothing, also of a meeting that is locked."""
        people = (Person("Ann Lee", "Ann@Contoso.com"), Person("", "b@contoso.com"))
        put_reservation(portal, make_reservation(link=USER, owner=people[0], attendees=people))
        before = portal.call("GET", f"{OAK}/r")
        fields = (
            "title",
            "start",
            "end",
            "allDay",
            "owner",
            "attendees",
            "notes",
            "private",
            "recurrence",
            "organizer",
            "room",
        )

        after = portal.call(
            "PATCH", f"{OAK}/r", {name: before.json[name] for name in fields}, If_Match=before.headers["ETag"]
        )

        assert (after.status, after.json, after.headers["ETag"]) == (200, before.json, before.headers["ETag"])
        assert portal.call("PATCH", f"{OAK}/r", {"owner": {"name": "A. Lee", "email": "ann@contoso.com"}}).status == 200

    def test_with_delegation(self, portal: House) -> None:
        """With delegation a user's meeting is changed and cancelled from here, but for its owner; an outsider's is not."""
        enable(portal, delegation=True)
        put_reservation(portal, make_reservation(link=USER))
        put_reservation(portal, make_reservation("x", link=replace(USER, organizer="external"), times=LATER))

        assert portal.call("PATCH", f"{OAK}/r", {"title": "Review"}).json["syncState"] == "pending"
        assert problem(portal.call("PATCH", f"{OAK}/r", {"owner": ANN})) == (409, "owner-is-organizer")
        assert portal.call("DELETE", f"{OAK}/r").status == 204
        assert stored(portal, "oak", "r").link.state == "deleting"
        assert problem(portal.call("DELETE", f"{OAK}/x")) == (409, "organizer-locked")

    @pytest.mark.parametrize(
        ("settings", "fields", "organizer"),
        [
            ({}, {"owner": ANN}, "room"),
            ({}, {"owner": ANN, "organizer": "room"}, "room"),
            ({"createOnUserCalendar": True}, {"owner": ANN}, "user"),
            ({"createOnUserCalendar": True}, {"owner": ANN, "organizer": "user"}, "user"),
            ({"createOnUserCalendar": True}, {"owner": ANN, "organizer": "room"}, "room"),
            ({"createOnUserCalendar": True}, {}, "room"),
            ({"createOnUserCalendar": True, "strictMode": True}, {"owner": ANN}, "room"),
            ({"createOnUserCalendar": True, "strictMode": True, "delegation": True}, {"owner": ANN}, "user"),
        ],
    )
    def test_whose_calendar_a_new_one_is_in(
        self, portal: House, settings: dict[str, Any], fields: dict[str, Any], organizer: str
    ) -> None:
        """By the settings in its owner's or the room's; the request may choose the room's."""
        enable(portal, **settings)

        made = book(portal, **fields)

        assert made["organizer"] == organizer
        assert made["status"] == ("awaitingRoom" if organizer == "user" else "confirmed")
        address = stored(portal, "oak", made["id"]).link.organizer_address
        assert address == ("ann@contoso.com" if organizer == "user" else "oak@contoso.com")

    def test_a_choice_that_is_not_open(self, portal: House) -> None:
        """Nobody may ask for a user's calendar where the settings rule it out, or without saying whose."""
        answer = portal.call("POST", OAK, {**BODY, "owner": ANN, "organizer": "user"})
        enable(portal, createOnUserCalendar=True)

        assert problem(answer) == (409, "user-calendar-not-allowed")
        assert pointers(portal.call("POST", OAK, {**BODY, "organizer": "user"})) == ["/owner"]


class TestCancel:
    def test_before_it_was_sent(self, portal: House) -> None:
        """What Microsoft never heard of is over at once, and its time is free."""
        made = book(portal)
        _, cursor = portal.changes(NAME)

        assert portal.call("DELETE", f"{OAK}/{made['id']}").status == 204

        assert problem(portal.call("GET", f"{OAK}/{made['id']}")) == (404, "reservation-not-found")
        assert problem(portal.call("DELETE", f"{OAK}/{made['id']}")) == (404, "reservation-not-found")
        after = stored(portal, "oak", made["id"])
        assert (after.status, after.link.state, after.link.cause, after.sync_state) == (
            "cancelled",
            "gone",
            "local",
            "synced",
        )
        assert [(each["id"], each["change"]) for each in portal.changes(NAME, cursor)[0]] == [(made["id"], "deleted")]
        book(portal)

    @pytest.mark.parametrize("link_", [{}, {"state": "updating"}, {"state": "creating", "transaction": "t"}])
    def test_after_it_was_sent(self, portal: House, link_: dict[str, Any]) -> None:
        """What Microsoft has, or may have, waits to be deleted there; its time is free here."""
        one = make_reservation()
        put_reservation(portal, one.linked(**link_))

        assert portal.call("DELETE", f"{OAK}/r").status == 204

        after = stored(portal, "oak", "r")
        assert (after.status, after.link.state, after.link.cause, after.sync_state) == (
            "cancelled",
            "deleting",
            "local",
            "pending",
        )
        assert to_send(portal, "oak") == ["r"]
        book(portal)


class TestMove:
    def test_before_it_was_sent(self, portal: House) -> None:
        """A reservation keeps its id in its new room; nothing of it is left in the old one."""
        made = portal.call("POST", OAK, {**BODY, "owner": ANN})
        path = f"{OAK}/{made.json['id']}"

        moved = portal.call("PATCH", path, {"room": "elm", "title": "Review"}, If_Match=made.headers["ETag"])

        assert moved.json == {**made.json, "room": "elm", "title": "Review", "updatedAt": moved.json["updatedAt"]}
        there = portal.call("GET", f"{ELM}/{made.json['id']}")
        assert (there.json, there.headers["ETag"]) == (moved.json, moved.headers["ETag"])
        assert portal.call("GET", f"{path}?status=any").status == 404
        assert to_send(portal, "elm") == [made.json["id"]]
        book(portal)
        assert portal.call("POST", ELM, BODY).status == 409

    def test_after_it_was_sent(self, portal: House) -> None:
        """The old event is deleted by and by; in the new room a new one is made."""
        put_reservation(portal, make_reservation(generation=2))

        assert portal.call("PATCH", f"{OAK}/r", {"room": "elm"}).json["syncState"] == "pending"

        left, here = stored(portal, "oak", "r"), stored(portal, "elm", "r")
        assert (left.status, left.link.state, left.link.cause) == ("cancelled", "deleting", "moved:elm")
        assert left.link.room_event == "event of r"
        assert (here.status, here.generation, here.link.state, here.link.room_event) == ("confirmed", 3, "creating", "")
        assert here.link.organizer_address == "elm@contoso.com"
        assert (to_send(portal, "oak"), to_send(portal, "elm")) == (["r"], ["r"])
        book(portal)

    def test_and_back(self, portal: House) -> None:
        """Back in its first room before the event there was deleted, it takes that one up again."""
        put_reservation(portal, make_reservation())
        portal.call("PATCH", f"{OAK}/r", {"room": "elm"})

        back = portal.call("PATCH", f"{ELM}/r", {"room": "oak"})

        assert back.status == 200
        here = stored(portal, "oak", "r")
        assert (here.live, here.link.state, here.link.room_event, here.link.cause) == (
            True,
            "updating",
            "event of r",
            "",
        )
        assert portal.call("GET", f"{ELM}/r").status == 404

    def test_where_it_cannot_go(self, portal: House) -> None:
        """Not to a room that is off, or taken, and not without the rest of its series."""
        made = book(portal)
        link(portal, "ash", active=False)
        book(portal, "elm")
        put_reservation(portal, make_reservation("p", kind="occurrence", origin="microsoft", series="s", times=LATER))
        path = f"{OAK}/{made['id']}"

        assert problem(portal.call("PATCH", path, {"room": "ash"})) == (409, "room-inactive")
        assert problem(portal.call("PATCH", path, {"room": "elm"})) == (409, "room-busy")
        assert problem(portal.call("PATCH", f"{OAK}/p", {"room": "elm"})) == (409, "series-stays")
        assert portal.call("PATCH", path, {"room": "elm"}, If_Match='"x"').status == 412
        assert portal.get(path) == made

    def test_all_day(self, portal: House) -> None:
        """An all-day reservation takes the same dates in its new room, midnight there."""
        link(portal, "elm", timeZone="Asia/Tokyo")
        made = book(portal, start=at("2027-03-05T00:00"), end=at("2027-03-06T00:00"), allDay=True)

        moved = portal.call("PATCH", f"{OAK}/{made['id']}", {"room": "elm"}).json

        assert moved["start"] == {"dateTime": "2027-03-05T00:00:00", "timeZone": "Asia/Tokyo"}


class TestKeys:
    def test_the_same_request_twice(self, portal: House) -> None:
        """The same Idempotency-Key makes one reservation; the same body without one is refused as a clash."""
        first = portal.call("POST", OAK, BODY, Idempotency_Key="k")
        second = portal.call("POST", OAK, BODY, Idempotency_Key="k")

        assert (second.status, second.json, second.headers["ETag"]) == (201, first.json, first.headers["ETag"])
        assert second.headers["Location"] == first.headers["Location"]
        assert problem(portal.call("POST", OAK, BODY)) == (409, "room-busy")

    def test_a_request_that_died(self, portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """A request that died after its write is answered with what it made when it is repeated under its key."""

        def die(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(rooms, "start_run", die)
        with pytest.raises(KeyboardInterrupt):
            portal.call("POST", OAK, BODY, Idempotency_Key="k")
        monkeypatch.undo()
        (made,) = portal.get(f"{OAK}?from=2027-03-01&to=2027-03-02")["items"]
        portal.clock.ahead += timedelta(minutes=2)

        again = portal.call("POST", OAK, BODY, Idempotency_Key="k")

        assert (again.status, again.json) == (201, made)

    def test_a_refusal_does_not_use_up_its_key(self, portal: House) -> None:
        """A request that was refused may be repeated with the same key once the room is free."""
        made = book(portal)
        assert portal.call("POST", OAK, BODY, Idempotency_Key="k").status == 409
        portal.call("DELETE", f"{OAK}/{made['id']}")

        assert portal.call("POST", OAK, BODY, Idempotency_Key="k").status == 201
