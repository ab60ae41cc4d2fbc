"""The poll: what no notification tells of is found, whatever the schedule is, and it costs next to nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError

from storage.meter import METER, Meter
from storage.tables import Write
from sync import jobs
from sync.calendars.model import Room, RoomState, Subscription
from sync.calendars.polling import EVERY, SILENCE, plan
from sync.due import next_poll, put_poll
from sync.runs import STATE
from tests.house import House
from tests.office import DAY, DELTA, HOUR, MINUTE, NAME, Count, Office, make_office, office, span
from tests.webhooks import listening, webhooks

__all__ = ["listening", "make_office", "office", "webhooks"]

NOW = datetime(2026, 4, 15, 9, tzinfo=UTC)
SCHEDULES = [{"mode": "manual"}, {"mode": "interval", "every": "PT4H"}, {"mode": "daily", "at": "01:00"}]
ROOM = Room("oak", "Oak", "office365", "oak@contoso.com", active=True, time_zone="UTC", since=NOW - DAY)
HEARD = RoomState(
    "active", since=ROOM.since, silent_since=NOW, subscription=Subscription("S", "digest", NOW + DAY, NOW)
)
DEAF = replace(HEARD, subscription=None)


def tick(office: Office, minutes: float = 5) -> None:
    """So much later the timer looks, and what it has started is done."""
    office.advance(minutes * MINUTE)
    jobs.tick(office.house.app, "calendars")
    office.house.work()


def runs(office: Office) -> list[Any]:
    found: list[Any] = office.house.get(f"connections/{NAME}/runs?sync=calendars")["items"]
    return found


@contextmanager
def metered() -> Iterator[Meter]:
    meter = Meter()
    token = METER.set(meter)
    yield meter
    METER.reset(token)


def reads(count: Count) -> int:
    return count.by_template[DELTA]


@pytest.fixture
def quiet(listening: House, make_office: Callable[..., Office]) -> Office:
    """Three rooms that Microsoft announces changes of, only that none of them arrives; the schedule is manual."""
    office = make_office(house=listening, rooms=3)
    office.tenant.control.post("notifications", {"mode": "collect"})
    for number, room in enumerate(("oak", "elm", "ash")):
        office.link(room, number)
    tick(office, 0)
    return office


class TestPlan:
    """Whether a room is due, and when to look the next time."""

    @pytest.mark.parametrize(
        ("state", "due", "following"),
        [
            pytest.param(HEARD, False, SILENCE, id="just read"),
            pytest.param(replace(HEARD, silent_since=NOW - 9 * MINUTE), False, SILENCE - 9 * MINUTE, id="not yet"),
            pytest.param(replace(HEARD, silent_since=NOW - 15 * MINUTE), True, SILENCE, id="silent for long"),
            pytest.param(replace(HEARD, silent_since=None), True, SILENCE, id="never read"),
            pytest.param(DEAF, False, EVERY, id="nothing is announced of it"),
            pytest.param(replace(DEAF, silent_since=NOW - 5 * MINUTE), True, EVERY, id="the same, some minutes later"),
            pytest.param(RoomState(since=ROOM.since), True, EVERY, id="pending"),
            pytest.param(RoomState(), True, EVERY, id="never looked at"),
            pytest.param(replace(HEARD, since=NOW), True, SILENCE, id="set up anew"),
            pytest.param(replace(HEARD, retry_at=NOW + 3 * MINUTE), False, 3 * MINUTE, id="waits for its next try"),
            pytest.param(replace(HEARD, status="error", retry_at=NOW - MINUTE), True, SILENCE, id="a try is due"),
            pytest.param(replace(DEAF, status="error", retry_at=NOW + HOUR), False, SILENCE, id="a late try"),
            pytest.param(replace(DEAF, status="error", detail="credential"), True, SILENCE, id="no credential"),
        ],
    )
    def test_one_room(self, state: RoomState, due: bool, following: timedelta) -> None:
        assert plan([(ROOM, state)], NOW) == (due, NOW + following)

    def test_several_rooms(self) -> None:
        """One that is due is enough, and the next look is for the first of all."""
        early = replace(HEARD, silent_since=NOW - 12 * MINUTE)
        late = replace(HEARD, silent_since=NOW - 20 * MINUTE)

        assert plan([(ROOM, HEARD), (ROOM, late), (ROOM, early)], NOW) == (True, NOW + 2 * MINUTE)
        assert plan([], NOW) == (False, NOW + SILENCE)


class TestReading:
    @pytest.mark.parametrize("schedule", SCHEDULES)
    def test_a_lost_notification(self, quiet: Office, schedule: dict[str, str]) -> None:
        """A meeting whose notification was lost is there within 20 minutes, whatever the schedule is."""
        quiet.settings(schedule=schedule)
        tick(quiet, 1)
        quiet.meet(0, subject="Unheard")
        for _ in range(4):
            tick(quiet)

        assert [one["title"] for one in quiet.reservations()] == ["Unheard"]

    @pytest.mark.parametrize("schedule", SCHEDULES)
    def test_nothing_is_announced(self, office: Office, schedule: dict[str, str]) -> None:
        """A room that Microsoft announces nothing of is read every five minutes."""
        office.settings(schedule=schedule)
        for number in range(3):
            office.meet(0, start=office.noon + number * 2 * HOUR)
            tick(office)
            assert len(office.reservations()) == number + 1

    def test_an_hour_without_news(self, quiet: Office) -> None:
        """Costs one request for a room and quarter of an hour, and no more."""
        with quiet.counting() as count:
            for _ in range(12):
                tick(quiet)

        assert 3 * 3 <= reads(count) <= 4 * 3
        assert count.requests == reads(count)
        assert {run["trigger"] for run in runs(quiet)[:3]} == {"timer"}

    def test_only_what_was_silent(self, quiet: Office) -> None:
        """A room that was read meanwhile has its own quarter of an hour."""
        quiet.advance(12 * MINUTE)
        quiet.meet(0)
        quiet.hear("oak")
        with quiet.counting() as count:
            tick(quiet, 3)

        assert reads(count) == 2
        assert quiet.state("oak").silent_since < quiet.now() - 2 * MINUTE  # type: ignore[operator] # it was read

    def test_a_schedule_beside(self, quiet: Office) -> None:
        """A schedule that reads every room in time leaves nothing to the poll."""
        quiet.settings(schedule={"mode": "interval", "every": "PT15M"})
        tick(quiet, 1)
        with quiet.counting() as count:
            for _ in range(12):
                tick(quiet)

        assert reads(count) <= 4 * 3

    def test_while_a_run_is_active(self, quiet: Office, monkeypatch: pytest.MonkeyPatch) -> None:
        """A poll that comes while a run is at work is that run's, or that of the one which follows it."""
        quiet.advance(16 * MINUTE)
        executor = quiet.house.app.executors["calendars"]

        def late(work: jobs.Work) -> jobs.Finish | None:
            finish = executor(work)
            if work.run.trigger == "notification" and not ticked:
                ticked.append(work.run.id)
                jobs.tick(quiet.house.app, "calendars")
            return finish

        ticked: list[str] = []
        monkeypatch.setattr(quiet.house.app, "executors", {**quiet.house.app.executors, "calendars": late})
        with quiet.counting() as count:
            quiet.hear("oak")

        assert ticked
        assert reads(count) == 1 + 2


class TestErrors:
    def test_a_room_that_is_refused(self, office: Office) -> None:
        """Is tried again when that is due, without a schedule."""
        office.deny("oak")
        office.sync()
        office.deny("oak", denied=False)
        assert office.status() == ("error", "room-denied")
        for _ in range(2):
            tick(office)

        assert office.status() == ("active", "polling-only")

    def test_a_lapsed_credential(self, office: Office) -> None:
        """Nothing is tried until there is a new one, and then the rooms go on by themselves."""
        app, key = f"apps/{office.tenant.client_id}", office.tenant.app["secrets"][0]["keyId"]
        office.tenant.control.patch(f"{app}/secrets/{key}", {"endDateTime": "2020-01-01T00:00:00Z"})
        office.house.app.forget_sign_in(NAME)
        tick(office)
        tried = len(runs(office))
        for _ in range(4):
            tick(office)
        assert office.status() == ("error", "credential")
        assert len(runs(office)) == tried

        made = office.tenant.control.post(f"{app}/secrets")
        credential = {"type": "clientSecret", "secretValue": made["value"]}
        assert office.portal("PUT", "credential", credential).status == 200
        tick(office)

        assert office.status() == ("active", "polling-only")


class TestEnabling:
    @pytest.mark.parametrize("schedule", SCHEDULES)
    def test_rooms_that_were_linked_before(self, make_office: Callable[..., Office], schedule: dict[str, str]) -> None:
        """Enabling the sync starts a run for them."""
        office = make_office()
        office.settings(enabled=False)
        office.link()
        assert (office.status(), runs(office)) == (("pending", "sync-disabled"), [])

        office.settings(schedule=schedule)
        office.house.work()

        assert office.status() == ("active", "polling-only")

    def test_no_room(self, make_office: Callable[..., Office]) -> None:
        """Without a room there is nothing to do, ever."""
        office = make_office()
        for _ in range(6):
            tick(office)

        assert runs(office) == []

    def test_a_queue_that_does_not_answer(
        self, make_office: Callable[..., Office], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The settings are stored, and the timer does what they ask for."""
        office = make_office()
        office.settings(enabled=False)
        office.link()

        def down(*_: Any) -> None:
            raise ServiceRequestError("down")

        with monkeypatch.context() as patch:
            patch.setattr(office.house.app.queues, "send", down)
            office.settings()
        tick(office, 6)

        assert office.status() == ("active", "polling-only")

    def test_disabled(self, office: Office) -> None:
        """A sync that is off polls nothing, and one that is on again polls once."""
        office.settings(enabled=False)
        known = len(runs(office))
        for _ in range(4):
            tick(office)
        assert len(runs(office)) == known

        office.settings()
        office.house.work()
        with office.counting() as count:
            tick(office)

        assert reads(count) == 1

    def test_disabled_while_a_run_ends(self, office: Office) -> None:
        """A time to poll that a run sets although the sync was switched off beside it comes to nothing, once."""
        office.settings(enabled=False)
        polled = office.now() + MINUTE
        put_poll(office.house.app, "calendars", NAME, polled)
        data = office.house.app.tables.data
        data.commit(NAME, [Write("update", STATE + "calendars", {"j_poll": polled.isoformat()})])
        known = len(runs(office))
        for _ in range(4):
            tick(office)

        assert len(runs(office)) == known
        assert next_poll(data.get(NAME, STATE + "calendars") or {}) is None
        assert list(office.house.app.tables.due.scan("calendars")) == []


class TestCost:
    def test_nothing_due(self, quiet: Office) -> None:
        """Until a room is due the timer reads the index once, for all connections."""
        tick(quiet, 1)
        with metered() as meter:
            jobs.tick(quiet.house.app, "calendars")

        assert meter.transactions == 1

    def test_nothing_silent(self, quiet: Office) -> None:
        """Rooms that were read meanwhile cost some reads to see that, and nothing at Microsoft."""
        tick(quiet, 13)
        quiet.sync()
        quiet.advance(2 * MINUTE)
        with quiet.counting() as count, metered() as meter:
            jobs.tick(quiet.house.app, "calendars")
        quiet.house.work()

        assert count.requests == 0
        assert meter.transactions == 9

    def test_one_notification(self, listening: House, make_office: Callable[..., Office]) -> None:
        """In a tenant of six rooms that were silent for long it costs at most three requests, and one room is read."""
        office = make_office(house=listening, rooms=6)
        office.tenant.control.post("notifications", {"mode": "collect"})
        for number in range(6):
            office.link(f"room{number}", number)
        office.advance(25 * MINUTE)
        with office.counting() as count:
            office.outlook("POST", "room3", "", {"subject": "News", **span(office.noon)})
            assert set(office.tenant.control.post("notifications/deliver")["statuses"]) == {202}
            jobs.work(office.house.app, {"connection": NAME, "run": runs(office)[0]["id"]})

        assert [one["title"] for one in office.reservations("room3")] == ["News"]
        assert (reads(count), runs(office)[0]["progress"]["total"]) == (1, 1)
        assert count.requests <= 3
