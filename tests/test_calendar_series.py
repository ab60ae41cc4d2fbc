"""Series through the API: made, shown, changed and cancelled as a whole, and occurrence by occurrence."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from storage.tables import Write
from sync.calendars import parts, rooms, store
from sync.calendars.model import Link
from tests.calendars import CALENDARS
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
    pointers,
    problem,
    put_reservation,
    stored,
    to_send,
    together,
)

NewTenant = Callable[..., TestTenant]
OAK = f"{ROOMS}/oak/reservations"
SPRING = "from=2027-03-01&to=2027-05-01"


def daily(count: int, **pattern: Any) -> dict[str, Any]:
    return {
        "pattern": {"type": "daily", "interval": 1, **pattern},
        "range": {"type": "numbered", "startDate": "2027-03-01", "numberOfOccurrences": count},
    }


WEEKLY = {
    "pattern": {"type": "weekly", "interval": 1, "daysOfWeek": ["monday"], "firstDayOfWeek": "sunday"},
    "range": {"type": "endDate", "startDate": "2027-03-01", "endDate": "2027-03-29"},
}


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
    return house


def listed(house: House, query: str = SPRING) -> list[dict[str, Any]]:
    """The reservations of a time, all pages."""
    found, cursor = [], ""
    while True:
        page = house.get(f"{OAK}?{query}&top=1000{cursor}")
        found += page["items"]
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"


def starts(house: House, query: str = SPRING) -> list[str]:
    return [one["start"]["dateTime"][5:16] for one in listed(house, query)]


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


class TestLong:
    """Series that do not fit into one transaction."""

    def test_made_and_cancelled(self, portal: House) -> None:
        """A long series is there whole, and gone whole."""
        series = book(portal, recurrence=daily(250))
        assert len(listed(portal, "from=2027-01-01&to=2029-01-01")) == 250

        assert portal.call("DELETE", f"{OAK}/{series['id']}").status == 204

        assert listed(portal, "from=2027-01-01&to=2029-01-01") == []
        assert {one.link.state for one, _ in store.load_reservations(portal.app.tables.data, NAME, "oak")} == {"gone"}
        changes = [one["change"] for one in portal.changes(NAME)[0]]
        assert (changes.count("created"), changes.count("deleted")) == (252, 251)
        book(portal)

    def test_large_rows(self, portal: House) -> None:
        """Occurrences with long texts and many people are written in as many transactions as they need."""
        people = [{"name": "😀" * 127, "email": f"a{n}@contoso.com"} for n in range(100)]

        book(portal, recurrence=daily(20), notes="é" * 20_000, attendees=people)

        found = listed(portal)
        assert len(found) == 20
        assert all(len(one["attendees"]) == 100 for one in found)

    def test_a_clash_leaves_nothing_behind(self, portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the room is taken after the occurrences were written ahead, they are taken back."""
        write, other = parts.Batch.step, {**BODY, "start": at("2027-04-01T09:00"), "end": at("2027-04-01T10:00")}

        def overtaken(self: parts.Batch, *arguments: Any) -> Any:
            result = write(self, *arguments)
            monkeypatch.undo()
            assert portal.call("POST", OAK, other).status == 201
            return result

        monkeypatch.setattr(parts.Batch, "step", overtaken)

        assert problem(portal.call("POST", OAK, {**BODY, "recurrence": daily(150)})) == (409, "room-busy")
        assert len(store.load_reservations(portal.app.tables.data, NAME, "oak")) == 1

    def test_killed_on_the_way(self, portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """A request that died between its transactions shows nothing and keeps nobody out; repeated under its key it
        makes the series once.
        """
        data = portal.app.tables.data
        commit = data.commit

        def die(partition: str, writes: Any) -> list[str]:
            if any(write.key.startswith(store.WAITS) for write in writes):
                raise KeyboardInterrupt
            return commit(partition, writes)

        monkeypatch.setattr(data, "commit", die)
        with pytest.raises(KeyboardInterrupt):
            portal.call("POST", OAK, {**BODY, "recurrence": daily(150)}, Idempotency_Key="k")
        monkeypatch.undo()
        orphans = store.load_reservations(data, NAME, "oak")

        assert len(orphans) == 150
        assert listed(portal, "from=2027-03-01&to=2028-01-01&status=any") == []
        assert portal.call("GET", f"{OAK}/{orphans[0][0].id}").status == 404
        assert portal.call("DELETE", f"{OAK}/{orphans[0][0].id}").status == 404
        single = book(portal)
        assert portal.call("DELETE", f"{OAK}/{single['id']}").status == 204
        portal.clock.ahead += timedelta(minutes=2)
        again = portal.call("POST", OAK, {**BODY, "recurrence": daily(150)}, Idempotency_Key="k")
        assert again.status == 201
        assert {one["id"] for one in listed(portal, "from=2027-03-01&to=2028-01-01")} == {one.id for one, _ in orphans}
        assert portal.call("POST", OAK, {**BODY, "recurrence": daily(150)}, Idempotency_Key="k").json == again.json

    def test_killed_after_its_last_write(self, portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """A request that died when all was done is answered with what it made."""

        def die(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(rooms, "start_run", die)
        with pytest.raises(KeyboardInterrupt):
            portal.call("POST", OAK, {**BODY, "recurrence": daily(150)}, Idempotency_Key="k")
        monkeypatch.undo()
        (series,) = listed(portal, f"{SPRING}&type=series")
        portal.clock.ahead += timedelta(minutes=2)

        assert portal.call("POST", OAK, {**BODY, "recurrence": daily(150)}, Idempotency_Key="k").json == series

    def test_changed(self, portal: House) -> None:
        """A long series gets another title, another hour and another length; each time all of it does."""
        series = book(portal, recurrence=daily(150))
        path, year = f"{OAK}/{series['id']}", "from=2027-03-01&to=2028-03-01"

        portal.call("PATCH", path, {"title": "Review"})
        assert {one["title"] for one in listed(portal, year)} == {"Review"}
        portal.call("PATCH", path, {"start": at("2027-03-01T11:00"), "end": at("2027-03-01T11:30")})
        moved = listed(portal, year)
        assert [one["start"]["dateTime"][11:] for one in moved] == ["11:00:00"] * 150
        assert portal.call("PATCH", path, {"recurrence": daily(100)}).status == 200
        assert {one["id"] for one in listed(portal, year)} == {one["id"] for one in moved[:100]}
        book(portal)

    def test_a_change_that_died(self, portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """A change of hour that died before its series was written shows nothing of it; the next one does away with it."""
        series = book(portal, recurrence=daily(150))
        path, year = f"{OAK}/{series['id']}", "from=2027-03-01&to=2028-03-01"
        before = listed(portal, year)
        data = portal.app.tables.data
        commit = data.commit

        def die(partition: str, writes: Any) -> list[str]:
            if any(write.key.startswith(store.WAITS) for write in writes):
                raise KeyboardInterrupt
            return commit(partition, writes)

        monkeypatch.setattr(data, "commit", die)
        with pytest.raises(KeyboardInterrupt):
            portal.call("PATCH", path, {"start": at("2027-03-01T11:00"), "end": at("2027-03-01T12:00")})
        monkeypatch.undo()

        assert len(store.load_reservations(data, NAME, "oak")) == 301
        assert listed(portal, year) == before
        assert (
            portal.call("POST", OAK, {**BODY, "start": at("2027-03-03T11:00"), "end": at("2027-03-03T12:00")}).status
            == 201
        )
        assert portal.call("PATCH", path, {"title": "Review"}).status == 200
        after = [one for one in listed(portal, year) if one["seriesId"]]
        assert [(one["id"], one["title"]) for one in after] == [(one["id"], "Review") for one in before]
        assert len(store.load_reservations(data, NAME, "oak")) == 152


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


class TestSent:
    """What becomes of it in the room's calendar."""

    @pytest.fixture
    def tenant(self, new_tenant: NewTenant) -> TestTenant:
        return new_tenant(rooms=1, roles=CALENDARS)

    @pytest.fixture
    def active(self, house: House, tenant: TestTenant) -> House:
        house.connect(tenant, NAME, calendars={})
        link(house, "oak", externalCalendar=f"room1@{tenant.domain}")
        house.work()
        return house

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
