"""Reservations through the API: made, read, changed, moved, cancelled, and never two at a time in a room."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.cloud import TestTenant
from tests.house import House
from tests.rooms import NAME, ROOMS, at, connect, link, pointers, stored, to_send

NewTenant = Callable[..., TestTenant]
OAK = f"{ROOMS}/oak/reservations"
ELM = f"{ROOMS}/elm/reservations"
ANN = {"name": "Ann Lee", "email": "ann@contoso.com"}
BODY = {"title": "Planning", "start": at("2027-03-01T09:00"), "end": at("2027-03-01T10:00")}


@pytest.fixture
def portal(house: House, new_tenant: NewTenant) -> House:
    connect(house, new_tenant())
    link(house, "oak")
    link(house, "elm")
    return house


def book(house: House, path: str = OAK, **fields: Any) -> dict[str, Any]:
    answer = house.call("POST", path, {**BODY, **fields})
    assert answer.status == 201, answer.content
    made: dict[str, Any] = answer.json
    return made


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
            "attendees": [{"name": "Bob", "email": "bob@contoso.com"}, {"name": "", "email": "c@contoso.com"}],
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

        made = book(portal, ELM, **days)

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
    def test_what_is_refused(self, portal: House, fields: dict[str, Any], expected: list[str]) -> None:
        """Every bad field is named at once, no value is repeated, and nothing is stored."""
        _, cursor = portal.changes(NAME)

        assert pointers(portal.call("POST", OAK, {**BODY, **fields})) == expected
        assert portal.changes(NAME, cursor)[0] == []
        assert to_send(portal, "oak") == []

    @pytest.mark.parametrize(
        "title", ["O'Brien & <b>Söhne</b>", 'a"b\\c', "評価会議 😀", "\u202eabc", "x" * 255, "' or 1 eq 1", " \u3000a "]
    )
    def test_titles(self, portal: House, title: str) -> None:
        """Any characters that a person might write come back as they were."""
        assert portal.get(f"{OAK}/{book(portal, title=title)['id']}")["title"] == title
