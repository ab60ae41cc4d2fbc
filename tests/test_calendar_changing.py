"""Reservations through the API: changed, cancelled and moved to another room, by whoever may."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sync.calendars.model import Link, Person, Times
from tests.house import House
from tests.rooms import (
    ANN,
    BODY,
    ELM,
    NAME,
    OAK,
    START,
    at,
    book,
    daily,
    enable,
    link,
    make_reservation,
    pointers,
    portal,
    problem,
    put_reservation,
    removing,
    rows_of,
    standing,
    stored,
    to_send,
)

__all__ = ["portal", "standing"]

LATER = Times(START + timedelta(days=1), START + timedelta(days=1, hours=1), "UTC")


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
            ({"notes": "Bring the plans"}, True),
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
            ({"start": at("2027-03-14T02:30"), "end": at("2027-03-14T03:30")}, ["/start/dateTime"]),
            ({"end": at("2027-03-14T02:30")}, ["/end/dateTime"]),
            (
                {"start": at("2027-03-14T02:30"), "recurrence": None, "organizer": "user", "title": None},
                ["/end", "/organizer", "/start/dateTime", "/title"],
            ),
            (
                {"end": at("2027-03-01T09:00"), "recurrence": daily(3)},
                ["/end", "/recurrence"],
            ),
            ({"allDay": True}, ["/end/dateTime", "/start/dateTime"]),
            ({"recurrence": daily(3)}, ["/recurrence"]),
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

    def test_a_start_that_is_skipped_and_not_named(self, portal: House) -> None:
        """Only what the request says has to be shown by the clocks: a day that begins at one o'clock gets an end."""
        link(portal, "elm", timeZone="Africa/Cairo")
        days = {"start": at("2027-04-30T00:00", None), "end": at("2027-05-01T00:00", None), "allDay": True}
        made = book(portal, "elm", **days)

        path, patch = f"{ELM}/{made['id']}", {"allDay": False, "end": at("2027-04-30T09:00", None)}
        answer = portal.call("PATCH", path, patch)

        assert (answer.json["start"]["dateTime"], answer.json["end"]["dateTime"]) == (
            "2027-04-30T01:00:00",
            "2027-04-30T09:00:00",
        )
        assert pointers(portal.call("PATCH", path, {**patch, "end": at("2027-04-30T01:00", None)})) == ["/end"]

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
            (None, "organizer-locked"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_without_delegation(self, portal: House, organizer: Any, patch: dict[str, Any] | None, code: str) -> None:
        """A meeting in its organizer's calendar is changed there; its owner is its organizer, whatever the settings."""
        one = put_reservation(portal, make_reservation(link=replace(USER, organizer=organizer)))

        answer = portal.call("DELETE" if patch is None else "PATCH", f"{OAK}/r", patch)

        assert problem(answer) == (409, code)
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
        """A reservation keeps its id in its new room; in the old one it is over, and takes no time."""
        made = portal.call("POST", OAK, {**BODY, "owner": ANN})
        path = f"{OAK}/{made.json['id']}"

        moved = portal.call("PATCH", path, {"room": "elm", "title": "Review"}, If_Match=made.headers["ETag"])

        assert moved.json == {**made.json, "room": "elm", "title": "Review", "updatedAt": moved.json["updatedAt"]}
        there = portal.call("GET", f"{ELM}/{made.json['id']}")
        assert (there.json, there.headers["ETag"]) == (moved.json, moved.headers["ETag"])
        assert portal.call("GET", path).status == 404
        assert portal.get(f"{path}?status=any")["status"] == "cancelled"
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

    @pytest.mark.parametrize("room", ["oak", "elm"])
    def test_a_room_that_is_removed_meanwhile(self, portal: House, monkeypatch: pytest.MonkeyPatch, room: str) -> None:
        """Where either room is removed before the move is stored, nothing is left in that one, and nothing has moved."""
        made = book(portal)
        removing(portal, room, monkeypatch)

        assert problem(portal.call("PATCH", f"{OAK}/{made['id']}", {"room": "elm"})) == (404, "room-not-found")
        assert rows_of(portal, room) == []
        other, there = ("oak", [made["id"]]) if room == "elm" else ("elm", [])
        assert to_send(portal, other) == there

    def test_all_day(self, portal: House) -> None:
        """An all-day reservation takes the same dates in its new room, midnight there."""
        link(portal, "elm", timeZone="Asia/Tokyo")
        made = book(portal, start=at("2027-03-05T00:00"), end=at("2027-03-06T00:00"), allDay=True)

        moved = portal.call("PATCH", f"{OAK}/{made['id']}", {"room": "elm"}).json

        assert moved["start"] == {"dateTime": "2027-03-05T00:00:00", "timeZone": "Asia/Tokyo"}
