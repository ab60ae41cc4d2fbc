"""Series through the API: made, with all of their occurrences or none, and as they arrive in Outlook."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from sync.calendars import store
from sync.calendars.recurrence import DAYS
from tests.calendars import CALENDARS
from tests.cloud import NewTenant, TestTenant
from tests.house import House
from tests.rooms import (
    BODY,
    NAME,
    OAK,
    ROOMS,
    SPRING,
    START,
    WEEKLY,
    at,
    book,
    daily,
    enable,
    listed,
    open_room,
    pointers,
    portal,
    problem,
    standing,
    starts,
    to_send,
    together,
)

__all__ = ["portal", "standing"]


class TestCreate:
    def test_every_field(self, portal: House) -> None:
        """A series answers as such, with its recurrence; its occurrences are listed, each a reservation of its own."""
        _, cursor = portal.changes(NAME)
        answer = portal.call("POST", OAK, {**BODY, "recurrence": WEEKLY, "notes": "Weekly"})

        series = answer.json
        assert answer.status == 201
        assert (series["type"], series["seriesId"], series["originalStart"]) == ("series", None, None)
        assert (series["recurrence"], series["blocking"]) == (WEEKLY, False)
        assert (series["start"], series["end"]) == (at("2027-03-01T09:00:00"), at("2027-03-01T10:00:00"))
        found = listed(portal)
        assert [one["start"] for one in found] == [at(f"2027-03-{day:02}T09:00:00") for day in (1, 8, 15, 22, 29)]
        first = found[0]
        assert first == {
            **series,
            "id": first["id"],
            "type": "occurrence",
            "seriesId": series["id"],
            "originalStart": "2027-03-01T14:00:00Z",
            "recurrence": None,
            "blocking": True,
        }
        assert portal.get(f"{OAK}/{series['id']}") == series
        assert portal.get(f"{OAK}/{first['id']}") == first
        assert to_send(portal, "oak") == [series["id"]]
        changes = [(one["entity"], one["id"], one["change"]) for one in portal.changes(NAME, cursor)[0]]
        assert sorted(changes) == sorted(("reservation", one["id"], "created") for one in (series, *found))

    def test_the_clocks_change(self, portal: House) -> None:
        """A series keeps its hour on the wall when the clocks change, in the zone that it was made in."""
        book(portal, recurrence=WEEKLY)

        assert [one["originalStart"][11:16] for one in listed(portal)] == ["14:00", "14:00", "13:00", "13:00", "13:00"]

    def test_as_a_list(self, portal: House) -> None:
        """Series are listed where they are asked for, as long as they go on."""
        series = book(portal, recurrence=WEEKLY)

        assert [one["id"] for one in listed(portal, "from=2027-03-20&to=2027-03-21&type=series")] == [series["id"]]
        assert listed(portal, "from=2027-03-30&to=2027-04-02&type=series") == []
        assert listed(portal, "from=2027-02-01&to=2027-03-01&type=series") == []
        assert len(listed(portal, f"{SPRING}&type=occurrence")) == 5
        assert listed(portal, f"{SPRING}&type=single") == []

    def test_without_an_end(self, portal: House) -> None:
        """A series without an end has the occurrences of the window."""
        enable(portal, window={"pastDays": 1, "futureDays": 1095})
        recurrence = {
            "pattern": {"type": "weekly", "daysOfWeek": ["monday"]},
            "range": {"type": "noEnd", "startDate": "2027-03-01"},
        }
        book(portal, recurrence=recurrence)

        found = listed(portal, "from=2027-03-01&to=2100-01-01")

        last = datetime.fromisoformat(found[-1]["originalStart"])
        assert found[0]["start"] == at("2027-03-01T09:00:00")
        assert timedelta(days=1089) < last - portal.app.clock() < timedelta(days=1097)
        assert len(found) == (last - datetime(2027, 3, 1, 14, tzinfo=UTC) + timedelta(hours=2)).days // 7 + 1

    @pytest.mark.parametrize(
        ("recurrence", "expected"),
        [
            ({}, ["/recurrence/pattern", "/recurrence/range"]),
            ([], ["/recurrence"]),
            ({**WEEKLY, "more": 1}, ["/recurrence/more"]),
            (
                {"pattern": {"type": "hourly", "interval": 0}, "range": {"type": "never", "startDate": 7}},
                ["/recurrence/pattern/interval", "/recurrence/pattern/type", "/recurrence/range/startDate", "/recurrence/range/type"],
            ),
            ({**WEEKLY, "pattern": {"type": "weekly", "daysOfWeek": ["Monday"]}}, ["/recurrence/pattern/daysOfWeek/0"]),
            ({**WEEKLY, "pattern": {"type": "weekly", "daysOfWeek": []}}, ["/recurrence/pattern/daysOfWeek"]),
            ({**WEEKLY, "pattern": {"type": "weekly", "daysOfWeek": ["friday"]}}, ["/recurrence/pattern/daysOfWeek"]),
            ({**WEEKLY, "pattern": {"type": "daily", "dayOfMonth": 3}}, ["/recurrence/pattern/dayOfMonth"]),
            ({**WEEKLY, "range": {"type": "endDate", "startDate": "2027-03-02", "endDate": "2027-02-01"}}, ["/recurrence/range/endDate", "/recurrence/range/startDate"]),
            ({**WEEKLY, "range": {"type": "numbered", "startDate": "2027-03-01", "numberOfOccurrences": 10**9}}, ["/recurrence/range/numberOfOccurrences"]),
            ({**WEEKLY, "range": {"type": "endDate", "startDate": "2027-03-01", "endDate": "soon"}}, ["/recurrence/range/endDate"]),
            (daily(2, daysOfWeek=[], month=0, index="first"), None),
        ],
    )  # fmt: skip
    def test_bad_recurrences(self, standing: House, recurrence: Any, expected: list[str] | None) -> None:
        """Every bad field of a recurrence is named; neutral values of Graph's own answers are not bad."""
        answer = standing.call("POST", OAK, {**BODY, "recurrence": recurrence})

        if expected is None:
            assert answer.status == 201
            standing.call("DELETE", f"{OAK}/{answer.json['id']}")
        else:
            assert pointers(answer) == expected
            assert listed(standing, f"{SPRING}&type=series") == []

    def test_occurrences_that_overlap_with_each_other(self, portal: House) -> None:
        """A reservation that is longer than its rhythm cannot be repeated."""
        answer = portal.call("POST", OAK, {**BODY, "end": at("2027-03-02T09:01"), "recurrence": daily(3)})

        assert pointers(answer) == ["/end"]


class TestClashes:
    def test_one_occurrence_is_enough(self, portal: House) -> None:
        """Where one occurrence does not fit, nothing of the series is there, and its times are named."""
        book(portal, start=at("2027-03-15T09:30"), end=at("2027-03-15T09:45"))

        answer = portal.call("POST", OAK, {**BODY, "recurrence": WEEKLY})

        assert problem(answer) == (409, "room-busy")
        assert answer.json["busy"] == [{"start": "2027-03-15T13:30:00Z", "end": "2027-03-15T13:45:00Z"}]
        assert len(store.load_reservations(portal.app.tables.data, NAME, "oak")) == 1

    def test_series_against_series(self, portal: House) -> None:
        """Two series that never meet share a room; two that meet once do not."""
        book(portal, recurrence=WEEKLY)
        late = {**BODY, "start": at("2027-03-01T10:00"), "end": at("2027-03-01T11:00"), "recurrence": WEEKLY}
        monthly = {
            "pattern": {"type": "absoluteMonthly", "dayOfMonth": 8},
            "range": {"type": "noEnd", "startDate": "2027-02-08"},
        }
        early = {**BODY, "start": at("2027-02-08T09:00"), "end": at("2027-02-08T10:00"), "recurrence": monthly}

        assert portal.call("POST", OAK, late).status == 201
        assert problem(portal.call("POST", OAK, early)) == (409, "room-busy")

    def test_a_single_one_into_a_series(self, portal: House) -> None:
        """Every occurrence is in the way; the hour before is not, nor the same hour on another day."""
        book(portal, recurrence=WEEKLY)
        tuesday = {**BODY, "start": at("2027-03-09T09:00"), "end": at("2027-03-09T10:00")}
        monday = {**BODY, "start": at("2027-03-22T09:59"), "end": at("2027-03-22T11:00")}

        assert portal.call("POST", OAK, tuesday).status == 201
        assert problem(portal.call("POST", OAK, monday)) == (409, "room-busy")

    @pytest.mark.parametrize("count", [5, 120])
    def test_two_at_once(self, portal: House, count: int) -> None:
        """Of two series and a reservation that meet, made at the same moment, one side gets the room whole."""
        single = {**BODY, "start": at("2027-03-04T09:00"), "end": at("2027-03-04T10:00")}
        answers = together(
            lambda: portal.call("POST", OAK, {**BODY, "recurrence": daily(count)}),
            lambda: portal.call("POST", OAK, {**BODY, "recurrence": daily(count)}),
            lambda: portal.call("POST", OAK, single),
        )

        assert sorted(answer.status for answer in answers) == [201, 409, 409]
        won = next(answer.json for answer in answers if answer.status == 201)
        shown = listed(portal, "from=2027-03-01&to=2028-03-01")
        assert len(shown) == (count if won["type"] == "series" else 1)
        assert len({one["start"]["dateTime"] for one in shown}) == len(shown)
        assert {one["seriesId"] for one in shown} == {won["id"] if won["type"] == "series" else None}


class TestFromLongAgo:
    """Series that began long before the window: what is in it counts, however many there were before."""

    @pytest.mark.parametrize(
        ("start", "pattern", "span"),
        [
            (date(2001, 1, 1), {"type": "daily"}, {"type": "noEnd"}),
            (date(2020, 12, 7), {"type": "weekly", "daysOfWeek": list(DAYS)}, {"type": "noEnd"}),
            (date(2023, 6, 1), {"type": "daily"}, {"type": "noEnd"}),
            (None, {"type": "daily", "interval": 2}, {"type": "numbered", "numberOfOccurrences": 900}),
            (None, {"type": "daily", "interval": 2}, {"type": "endDate"}),
        ],
    )
    def test_there_at_once(
        self, portal: House, start: date | None, pattern: dict[str, Any], span: dict[str, Any]
    ) -> None:
        """A reservation in the way of one occurrence keeps the series out; without that, its occurrences of the window are
        there at once and keep others out, and those before it are not stored.
        """
        today = portal.app.clock().date()
        first = start or today - timedelta(days=1000)
        recurrence: dict[str, Any] = {"pattern": pattern, "range": {**span, "startDate": first.isoformat()}}
        if span["type"] == "endDate":
            recurrence["range"]["endDate"] = (today + timedelta(days=400)).isoformat()
        body: dict[str, Any] = {
            **BODY,
            "start": at(f"{first}T09:00", "UTC"),
            "end": at(f"{first}T10:00", "UTC"),
            "recurrence": recurrence,
        }
        step = pattern.get("interval", 1)
        there = today + timedelta(days=200 + (200 + (today - first).days) % step)
        single: dict[str, Any] = {**BODY, "start": at(f"{there}T09:30", "UTC"), "end": at(f"{there}T09:45", "UTC")}

        in_the_way = book(portal, **single)
        assert problem(portal.call("POST", OAK, body)) == (409, "room-busy")
        portal.call("DELETE", f"{OAK}/{in_the_way['id']}")
        book(portal, **body)

        found = listed(portal, f"from={today.isoformat()}&to={(today + timedelta(days=361)).isoformat()}")
        assert len(found) in (361 // step, 361 // step + 1)
        assert problem(portal.call("POST", OAK, single)) == (409, "room-busy")
        stored = [
            one for one, _ in store.load_reservations(portal.app.tables.data, NAME, "oak") if one.kind == "occurrence"
        ]
        assert len(stored) in range(365 // step, 368 // step + 1)

    def test_one_that_is_over(self, portal: House) -> None:
        """What took place before the window is in nobody's way."""
        before: dict[str, Any] = {"start": at("2020-12-07T09:00"), "end": at("2020-12-07T10:00")}
        book(portal, **before)
        recurrence = {**daily(5), "range": {"type": "numbered", "startDate": "2020-12-07", "numberOfOccurrences": 5}}

        series = book(portal, **before, recurrence=recurrence)

        assert listed(portal, "from=2020-12-01&to=2027-01-01&type=occurrence") == []
        assert portal.get(f"{OAK}/{series['id']}")["status"] == "confirmed"


class TestSent:
    """What becomes of it in the room's calendar."""

    @pytest.fixture
    def tenant(self, new_tenant: NewTenant) -> TestTenant:
        return new_tenant(rooms=1, roles=CALENDARS)

    @pytest.fixture
    def active(self, house: House, tenant: TestTenant) -> House:
        return open_room(house, tenant)

    def in_outlook(self, tenant: TestTenant) -> list[tuple[str, str]]:
        """The starts and subjects of what the room's calendar has."""
        view = f"start={START.isoformat()}&end={(START + timedelta(days=30)).isoformat()}"
        found = []
        for event in tenant.control.get(f"mailboxes/room1@{tenant.domain}/events?{view.replace('+', '%2B')}"):
            found += [(one["start"]["dateTime"][:16], one["subject"]) for one in event.get("instances") or [event]]
        return sorted(found)

    def test_changed_before_it_was_sent(self, active: House, tenant: TestTenant) -> None:
        """What was changed and cancelled of a series before Microsoft knew it arrives there with it."""
        book(active, recurrence=daily(3))
        _, second, third = listed(active)
        active.call(
            "PATCH",
            f"{OAK}/{second['id']}",
            {"start": at("2027-03-02T12:00"), "end": at("2027-03-02T13:00"), "title": "Special"},
        )
        active.call("DELETE", f"{OAK}/{third['id']}")

        for _ in range(2):
            active.run(NAME, "calendars")

            assert self.in_outlook(tenant) == [("2027-03-01T14:00", "Planning"), ("2027-03-02T17:00", "Special")]
            assert [
                (one["start"]["dateTime"][5:16], one["title"], one["type"], one["syncState"]) for one in listed(active)
            ] == [
                ("03-01T09:00", "Planning", "occurrence", "synced"),
                ("03-02T12:00", "Special", "exception", "synced"),
            ]
            assert active.get(f"{OAK}/{third['id']}?status=any")["syncState"] == "synced"

    def test_changed_and_cancelled_after_it_was_sent(self, active: House, tenant: TestTenant) -> None:
        """Another hour is one change in Outlook, a cancelled series is gone there."""
        series = book(active, recurrence=daily(3))
        active.work()
        active.call("PATCH", f"{OAK}/{series['id']}", {"start": at("2027-03-01T15:00"), "end": at("2027-03-01T16:00")})
        active.work()

        assert self.in_outlook(tenant) == [(f"2027-03-0{day}T20:00", "Planning") for day in (1, 2, 3)]
        assert starts(active) == ["03-01T15:00", "03-02T15:00", "03-03T15:00"]
        assert {one["syncState"] for one in listed(active)} == {"synced"}
        active.call("DELETE", f"{OAK}/{series['id']}")
        active.work()
        assert self.in_outlook(tenant) == []
        assert active.get(f"{ROOMS}/oak")["pendingChanges"] == 0
