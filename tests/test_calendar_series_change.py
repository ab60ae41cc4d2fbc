"""Series through the API: changed and cancelled as a whole, and occurrence by occurrence."""

from dataclasses import replace
from typing import Any

import pytest

from storage.tables import Write
from sync.calendars import store
from sync.calendars.model import Link
from tests.house import House
from tests.rooms import (
    BODY,
    NAME,
    OAK,
    SPRING,
    WEEKLY,
    at,
    book,
    daily,
    listed,
    pointers,
    portal,
    problem,
    put_reservation,
    standing,
    starts,
    stored,
    to_send,
)

__all__ = ["portal", "standing"]


class TestChangeAll:
    def test_texts_and_people(self, portal: House) -> None:
        """A title goes to every occurrence, but not to one that has its own; the series waits to be sent, once."""
        series = book(portal, recurrence=WEEKLY)
        own = listed(portal)[1]
        portal.call("PATCH", f"{OAK}/{own['id']}", {"title": "Special"})
        _, cursor = portal.changes(NAME)

        changed = portal.call("PATCH", f"{OAK}/{series['id']}", {"title": "Review", "notes": "All", "private": True})

        assert changed.status == 200
        assert [one["title"] for one in listed(portal)] == ["Review", "Special", "Review", "Review", "Review"]
        assert [one["notes"] for one in listed(portal)] == ["All", "", "All", "All", "All"]
        changes = portal.changes(NAME, cursor)[0]
        assert len(changes) == 5
        assert {one["change"] for one in changes} == {"updated"}

    def test_another_hour(self, portal: House) -> None:
        """Another hour moves every occurrence; the recurrence begins on the day of the new start."""
        series = book(portal, recurrence=daily(3))

        changed = portal.call(
            "PATCH", f"{OAK}/{series['id']}", {"start": at("2027-03-02T15:00"), "end": at("2027-03-02T16:00")}
        )

        assert changed.json["recurrence"]["range"]["startDate"] == "2027-03-02"
        assert starts(portal) == ["03-02T15:00", "03-03T15:00", "03-04T15:00"]
        book(portal)

    def test_another_hour_beyond_the_window(self, portal: House) -> None:
        """The first occurrence of a series that begins after the window moves with it, and holds its place."""
        yearly = {
            "pattern": {"type": "absoluteYearly", "dayOfMonth": 1, "month": 3},
            "range": {"type": "noEnd", "startDate": "2031-03-01"},
        }
        series = book(portal, start=at("2031-03-01T09:00"), end=at("2031-03-01T10:00"), recurrence=yearly)
        moved = {"start": at("2031-03-01T15:00"), "end": at("2031-03-01T16:00")}

        portal.call("PATCH", f"{OAK}/{series['id']}", moved)

        assert starts(portal, "from=2031-01-01&to=2032-01-01") == ["03-01T15:00"]
        assert problem(portal.call("POST", OAK, {**BODY, **moved})) == (409, "room-busy")

    def test_another_zone(self, portal: House) -> None:
        """The same hour by the clocks of another zone is another series: they change on other days."""
        series = book(portal, recurrence=WEEKLY)
        berlin = {"start": at("2027-03-01T15:00", "Europe/Berlin"), "end": at("2027-03-01T16:00", "Europe/Berlin")}

        changed = portal.call("PATCH", f"{OAK}/{series['id']}", berlin)

        assert changed.json["syncState"] == "pending"
        assert [one["originalStart"][5:16] for one in listed(portal)] == [
            "03-01T14:00",
            "03-08T14:00",
            "03-15T14:00",
            "03-22T14:00",
            "03-29T13:00",
        ]

    def test_another_length_keeps_the_occurrences(self, portal: House) -> None:
        """Another end is no other occurrence."""
        series = book(portal, recurrence=daily(3))
        before = listed(portal)

        portal.call("PATCH", f"{OAK}/{series['id']}", {"end": at("2027-03-01T09:30")})

        assert [one["id"] for one in listed(portal)] == [one["id"] for one in before]
        assert [one["end"]["dateTime"][11:16] for one in listed(portal)] == ["09:30"] * 3

    def test_another_recurrence(self, portal: House) -> None:
        """Occurrences that the new recurrence has stay; others go, and come back with it."""
        series = book(portal, recurrence=daily(4))
        path, before = f"{OAK}/{series['id']}", [one["id"] for one in listed(portal)]

        assert portal.call("PATCH", path, {"recurrence": daily(2, interval=2)}).status == 200
        assert [one["id"] for one in listed(portal)] == [before[0], before[2]]
        assert [one["change"] for one in portal.changes(NAME)[0]][-3:] == ["updated", "deleted", "deleted"]
        book(portal, start=at("2027-03-04T09:00"), end=at("2027-03-04T10:00"))
        assert problem(portal.call("PATCH", path, {"recurrence": daily(4)})) == (409, "room-busy")
        assert [one["id"] for one in listed(portal)][:2] == [before[0], before[2]]
        assert portal.call("PATCH", path, {"recurrence": daily(3)}).status == 200
        assert [one["id"] for one in listed(portal)][:3] == before[:3]

    def test_what_was_done_to_one_stays(self, portal: House) -> None:
        """An occurrence that was cancelled or moved by itself is not touched by another title, length or recurrence."""
        series = book(portal, recurrence=daily(4))
        first, second, *_ = listed(portal)
        portal.call("DELETE", f"{OAK}/{first['id']}")
        portal.call("PATCH", f"{OAK}/{second['id']}", {"start": at("2027-03-02T12:00"), "end": at("2027-03-02T13:00")})

        portal.call(
            "PATCH", f"{OAK}/{series['id']}", {"title": "Review", "end": at("2027-03-01T09:30"), "recurrence": daily(3)}
        )

        found = listed(portal)
        assert [(one["start"]["dateTime"][5:16], one["title"], one["type"]) for one in found] == [
            ("03-02T12:00", "Planning", "exception"),
            ("03-03T09:00", "Review", "occurrence"),
        ]

    def test_nothing_new(self, portal: House) -> None:
        """What changes nothing writes nothing."""
        made = portal.call("POST", OAK, {**BODY, "recurrence": WEEKLY})

        same = portal.call("PATCH", f"{OAK}/{made.json['id']}", {"recurrence": WEEKLY, "title": "Planning"})

        assert (same.json, same.headers["ETag"]) == (made.json, made.headers["ETag"])

    @pytest.mark.parametrize(
        ("patch", "expected"),
        [
            ({"recurrence": None}, ["/recurrence"]),
            ({"start": at("2027-03-02T09:00"), "end": at("2027-03-02T10:00")}, ["/recurrence/pattern/daysOfWeek"]),
            ({"end": at("2027-03-09T09:01")}, ["/end"]),
        ],
        ids=["to-a-single-one", "another-day", "too-long"],
    )
    def test_what_is_refused(self, standing: House, patch: dict[str, Any], expected: list[str]) -> None:
        """What does not fit together is named, and nothing changes."""
        series = book(standing, recurrence=WEEKLY)
        before = listed(standing)

        assert pointers(standing.call("PATCH", f"{OAK}/{series['id']}", patch)) == expected
        assert listed(standing) == before
        standing.call("DELETE", f"{OAK}/{series['id']}")

    def test_a_series_of_outlook_that_nobody_understands(self, portal: House) -> None:
        """The hour of a series whose recurrence is of an unknown kind is changed in Outlook; its title may be here."""
        series = book(portal, recurrence=daily(2))
        known = stored(portal, "oak", series["id"])
        put_reservation(
            portal, replace(known, origin="microsoft", recurrence=None, link=Link(state="linked", room_event="e"))
        )

        assert problem(portal.call("PATCH", f"{OAK}/{series['id']}", {"end": at("2027-03-01T09:30")})) == (
            409,
            "series-unknown",
        )
        assert portal.call("PATCH", f"{OAK}/{series['id']}", {"title": "Review"}).status == 200

    def test_a_declined_series(self, portal: House) -> None:
        """A series that was rejected as a whole is tried anew with another time, with all of its occurrences."""
        series = book(portal, recurrence=daily(3))
        for one, _ in store.load_reservations(portal.app.tables.data, NAME, "oak"):
            put_reservation(
                portal,
                replace(one, status="declined", sync_state="rejected", note="room-busy").linked(
                    state="gone", cause="lost-clash"
                ),
            )

        moved = portal.call(
            "PATCH", f"{OAK}/{series['id']}", {"start": at("2027-03-01T11:00"), "end": at("2027-03-01T12:00")}
        ).json

        assert (moved["status"], moved["syncState"]) == ("confirmed", "pending")
        assert [one["start"]["dateTime"][5:16] for one in listed(portal) if one["status"] == "confirmed"] == [
            "03-01T11:00",
            "03-02T11:00",
            "03-03T11:00",
        ]


class TestChangeOne:
    def test_moved(self, portal: House) -> None:
        """An occurrence that is moved becomes an exception; the others stay, and its place is free."""
        book(portal, recurrence=daily(3))
        one = listed(portal)[1]

        moved = portal.call(
            "PATCH", f"{OAK}/{one['id']}", {"start": at("2027-03-02T15:00"), "end": at("2027-03-02T16:00")}
        )

        assert moved.json == {
            **one,
            "type": "exception",
            "start": at("2027-03-02T15:00:00"),
            "end": at("2027-03-02T16:00:00"),
            "updatedAt": moved.json["updatedAt"],
        }
        assert starts(portal) == ["03-01T09:00", "03-02T15:00", "03-03T09:00"]
        assert one["id"] in to_send(portal, "oak")
        book(portal, start=at("2027-03-02T09:00"), end=at("2027-03-02T10:00"))

    def test_onto_its_neighbour(self, portal: House) -> None:
        """Another occurrence of its own series is in the way as anything else is."""
        book(portal, recurrence=daily(3))
        one = listed(portal)[1]

        busy = portal.call(
            "PATCH", f"{OAK}/{one['id']}", {"start": at("2027-03-03T09:30"), "end": at("2027-03-03T10:30")}
        )

        assert problem(busy) == (409, "room-busy")

    def test_cancelled(self, portal: House) -> None:
        """One occurrence is cancelled by itself; Microsoft is told when it knows the series."""
        series = book(portal, recurrence=daily(3))
        one = listed(portal)[1]

        assert portal.call("DELETE", f"{OAK}/{one['id']}").status == 204

        assert starts(portal) == ["03-01T09:00", "03-03T09:00"]
        assert stored(portal, "oak", one["id"]).link.state == "deleting"
        assert sorted(to_send(portal, "oak")) == sorted([series["id"], one["id"]])
        book(portal, start=at("2027-03-02T09:00"), end=at("2027-03-02T10:00"))


class TestCancelAll:
    def test_before_it_was_sent(self, portal: House) -> None:
        """A series that Microsoft never heard of is over at once, with all of its occurrences."""
        made = portal.call("POST", OAK, {**BODY, "recurrence": WEEKLY})
        path = f"{OAK}/{made.json['id']}"
        one = listed(portal)[0]

        assert portal.call("DELETE", path, If_Match='"x"').status == 412
        assert portal.call("DELETE", path, If_Match=made.headers["ETag"]).status == 204

        assert listed(portal) == []
        for each in (made.json["id"], one["id"]):
            assert problem(portal.call("GET", f"{OAK}/{each}")) == (404, "reservation-not-found")
        assert stored(portal, "oak", made.json["id"]).link.state == "gone"
        assert len(listed(portal, f"{SPRING}&status=cancelled")) == 5
        book(portal, recurrence=WEEKLY)

    def test_after_it_was_sent(self, portal: House) -> None:
        """A series that Microsoft has is deleted there as a whole: one thing waits to be sent."""
        series = book(portal, recurrence=WEEKLY)
        known = stored(portal, "oak", series["id"])
        put_reservation(portal, known.linked(state="linked", room_event="e"))
        portal.app.tables.data.commit(NAME, [Write("delete", store.send_key("oak", series["id"]))])

        portal.call("DELETE", f"{OAK}/{series['id']}")

        assert stored(portal, "oak", series["id"]).link.state == "deleting"
        assert to_send(portal, "oak") == [series["id"]]
        assert listed(portal) == []
