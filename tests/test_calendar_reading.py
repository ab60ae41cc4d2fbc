"""Reservations through the API: one of them, and those of a time."""

from datetime import UTC, datetime, timedelta

import pytest

from sync.calendars.model import Times
from tests.house import House
from tests.rooms import (
    ELM,
    OAK,
    ROOMS,
    at,
    book,
    make_reservation,
    pointers,
    portal,
    problem,
    put_reservation,
    standing,
)

__all__ = ["portal", "standing"]


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

    @pytest.mark.parametrize(
        ("query", "shown"),
        [
            ("", ["a", "b", "c"]),
            ("from=2027-03-01", ["b", "c"]),
            ("to=2027-03-02", ["a", "b"]),
            ("from=2199-12-31", []),
            ("to=1900-01-02", []),
            ("from=0001-01-01T00:00:00Z&to=9999-12-31T23:59:59Z", ["a", "b", "c"]),
            ("from=9999-12-31", []),
        ],
    )
    def test_without_an_end(self, portal: House, query: str, shown: list[str]) -> None:
        """An end that is not told, or is beyond all reservations, leaves none out."""
        for name, year in (("a", 2001), ("b", 2027), ("c", 2190)):
            start = datetime(year, 3, 1, 14, tzinfo=UTC)
            put_reservation(portal, make_reservation(name, times=Times(start, start + timedelta(hours=1), "UTC")))

        assert [one["id"] for one in portal.get(f"{OAK}?{query}")["items"]] == shown

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
            ("from=9999-12-31&to=0001-01-01", ["/to"]),
            ("from=9999-12-31T24:00:00Z", ["/from"]),
            ("from=2027-03-02&to=2027-03-02", ["/to"]),
            ("from=2027-03-02&to=2027-03-01", ["/to"]),
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
