"""Reservations through the API: made, and never two at a time in a room."""

from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError

from sync.calendars import rooms
from tests.house import House
from tests.rooms import (
    ANN,
    BODY,
    ELM,
    NAME,
    OAK,
    ROOMS,
    START,
    WEEKLY,
    at,
    book,
    daily,
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
    together,
)

__all__ = ["portal", "standing"]


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
            (at("2027-03-14T01:59:59"), at("2027-03-14T03:00"), ("2027-03-14T01:59:59", "2027-03-14T03:00:00")),
            (at("2027-11-07T01:30"), at("2027-11-07T01:45"), ("2027-11-07T01:30:00", "2027-11-07T01:45:00")),
        ],
        ids=["fractions", "floating", "windows-names", "around-an-hour-that-is-skipped", "an-hour-that-comes-twice"],
    )
    def test_times(self, portal: House, start: Any, end: Any, shown: tuple[str, str]) -> None:
        """Times are wall clocks of any zone, Windows' names included; without one they are the room's."""
        made = book(portal, start=start, end=end)

        assert (made["start"], made["end"]) == tuple({"dateTime": one, "timeZone": "America/New_York"} for one in shown)

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"start": at("2027-03-14T02:30"), "end": at("2027-03-14T03:30")}, ["/start/dateTime"]),
            ({"start": at("2027-03-14T02:00"), "end": at("2027-03-14T02:59:59")}, ["/end/dateTime", "/start/dateTime"]),
            ({"start": at("2027-03-14T01:30"), "end": at("2027-03-14T02:30")}, ["/end/dateTime"]),
            ({"start": at("2027-03-14T02:30", None), "end": at("2027-03-14T04:00", None)}, ["/start/dateTime"]),
            (
                {"start": at("2027-03-28T02:30", "W. Europe Standard Time"), "end": at("2027-03-28T03:30", "UTC")},
                ["/start/dateTime"],
            ),
            (
                {"start": at("2027-03-28T00:30", "UTC"), "end": at("2027-03-28T02:30", "Europe/Berlin")},
                ["/end/dateTime"],
            ),
            ({"start": at("2027-03-14T02:30"), "end": at("2027-03-14T01:00")}, ["/end", "/start/dateTime"]),
            ({"start": at("2043-03-08T02:30"), "end": at("2043-03-08T04:00")}, ["/start", "/start/dateTime"]),
            (
                {"start": at("2027-03-14T02:30"), "end": at("2027-03-14T04:00"), "recurrence": WEEKLY},
                ["/recurrence/range/startDate", "/start/dateTime"],
            ),
        ],
    )
    def test_an_hour_that_is_skipped(self, standing: House, fields: dict[str, Any], expected: list[str]) -> None:
        """A time that the clocks do not show that day is named as such, with all else that is wrong."""
        answer = standing.call("POST", OAK, {**BODY, **fields})

        assert pointers(answer) == expected
        skipped = {one["detail"] for one in answer.json["errors"] if one["pointer"].endswith("/dateTime")}
        assert skipped == {"does not exist on that day: the clocks skip it"}

    def test_all_day_where_midnight_is_skipped(self, portal: House) -> None:
        """A day is there even where it begins at one o'clock."""
        link(portal, "elm", timeZone="Africa/Cairo")
        days = {"start": at("2027-04-30T00:00", None), "end": at("2027-05-01T00:00", None), "allDay": True}

        made = book(portal, "elm", **days)

        assert (made["start"]["dateTime"], made["allDay"]) == ("2027-04-30T00:00:00", True)

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
            ({"end": at("2027-03-01T09:00"), "recurrence": {**WEEKLY, "range": {"type": "noEnd", "startDate": "2027-03-02"}}}, ["/end", "/recurrence/range/startDate"]),
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

    @pytest.mark.parametrize("fields", [{}, {"recurrence": daily(3)}, {"recurrence": daily(200)}])
    def test_a_room_that_is_removed_meanwhile(
        self, portal: House, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
    ) -> None:
        """Nothing is made in a room that is removed before the reservation is stored."""
        removing(portal, "oak", monkeypatch)

        assert problem(portal.call("POST", OAK, {**BODY, **fields})) == (404, "room-not-found")
        assert rows_of(portal, "oak") == []

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

    def test_a_request_that_failed(self, portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same for one that was answered with a fault after its write, and at once."""

        def fail(*_: Any, **__: Any) -> None:
            raise ServiceRequestError("down")

        with monkeypatch.context() as patch:
            patch.setattr(rooms, "start_run", fail)
            failed = portal.call("POST", OAK, BODY, Idempotency_Key="k")
        (made,) = portal.get(f"{OAK}?from=2027-03-01&to=2027-03-02")["items"]

        again = portal.call("POST", OAK, BODY, Idempotency_Key="k")

        assert problem(failed) == (503, "storage-unavailable")
        assert (again.status, again.json) == (201, made)
        other = portal.call("POST", OAK, {**BODY, "title": "Other"}, Idempotency_Key="k")
        assert problem(other) == (422, "idempotency-key-reused")

    @pytest.mark.parametrize("taken", [False, True])
    def test_what_it_made_is_over(self, portal: House, monkeypatch: pytest.MonkeyPatch, taken: bool) -> None:
        """The same where that was cancelled meanwhile, and also where somebody else has the room by now."""

        def fail(*_: Any, **__: Any) -> None:
            raise ServiceRequestError("down")

        with monkeypatch.context() as patch:
            patch.setattr(rooms, "start_run", fail)
            portal.call("POST", OAK, BODY, Idempotency_Key="k")
        (made,) = portal.get(f"{OAK}?from=2027-03-01&to=2027-03-02")["items"]
        assert portal.call("DELETE", f"{OAK}/{made['id']}").status == 204
        if taken:
            book(portal)

        again = portal.call("POST", OAK, BODY, Idempotency_Key="k")

        assert (again.status, again.json["id"], again.json["status"]) == (201, made["id"], "cancelled")

    def test_a_refusal_does_not_use_up_its_key(self, portal: House) -> None:
        """A request that was refused may be repeated with the same key once the room is free."""
        made = book(portal)
        assert portal.call("POST", OAK, BODY, Idempotency_Key="k").status == 409
        portal.call("DELETE", f"{OAK}/{made['id']}")

        assert portal.call("POST", OAK, BODY, Idempotency_Key="k").status == 201
