"""What Graph posts about rooms: none lost, none believed that is not its own, and a run for all of them."""

import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from secrets import token_urlsafe
from threading import Event
from typing import Any, cast

import pytest
from azure.core.exceptions import ServiceRequestError
from azure.data.tables import TableServiceClient
from azure.storage.queue import QueueServiceClient

from storage.meter import METER, Meter
from storage.queues import SCHEDULED, Queues
from storage.tables import Conflict, Tables, Write
from sync import jobs, notifications
from sync.calendars.store import WAITS, heard_key
from sync.errors import RequestError
from sync.notifications import _Ear
from sync.runs import Claim, Run, active_run
from sync.subscriptions import Sender, digest_of, find_sender, save_sender
from tests.cloud import NewTenant
from tests.house import House
from tests.notices import GRAPH, GUID, LIFECYCLE, NAME, connect, dropped, heard, portal, post, runs, subscribe

__all__ = ["portal"]


class TestNotifications:
    def test_one(self, portal: House) -> None:
        """A notification marks its room and wakes its connection, a few seconds later; the answer is a bare 202."""
        answer = post(portal, subscribe(portal, "room 1/é"))

        assert (answer.status, answer.content) == (202, b"")
        assert heard(portal) == {"room 1/é": set()}
        assert runs(portal) == [("calendars", "notification", "queued")]
        assert list(portal.messages()) == []
        assert portal.app.queues._clients[SCHEDULED].get_queue_properties().approximate_message_count == 1

    def test_of_several_rooms_and_connections(self, portal: House, new_tenant: NewTenant) -> None:
        """Each item of a request goes its own way: more than a transaction holds, to more than one tenant, beside bad ones."""
        connect(portal, new_tenant(), "other")
        rooms = [f"room-{number}" for number in range(150)]
        items = [subscribe(portal, room) for room in rooms]

        post(portal, None, *items, {"clientState": "wrong", "subscriptionId": GUID}, subscribe(portal, "hall", "other"))

        assert heard(portal) == {room: set() for room in rooms}
        assert heard(portal, "other") == {"hall": set()}
        assert runs(portal) == runs(portal, "other") == [("calendars", "notification", "queued")]

    def test_the_same_a_hundred_times(self, portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """A hundred copies in one request are one write; a hundred requests leave one row and one run, and cost two reads
        and a write each.
        """
        monkeypatch.setattr(notifications, "ENABLED_FOR", timedelta(hours=1))
        item = subscribe(portal, "room")
        meter = Meter()
        token = METER.set(meter)
        post(portal, *[item] * 100)
        first, meter.transactions = meter.transactions, 0
        for _ in range(100):
            post(portal, item)
        METER.reset(token)

        assert first == 7  # the sender, the connection, its settings, the room, and the run: watched, made, sent
        assert meter.transactions == 100 * 3
        assert heard(portal) == {"room": set()}
        assert runs(portal) == [("calendars", "notification", "queued")]

    @pytest.mark.parametrize(
        ("forgery", "reason"),
        [
            ({"clientState": token_urlsafe(32)}, "unknown-client-state:1"),
            ({"clientState": "x" * 5000}, "unreadable:1"),
            ({"subscriptionId": "somebody's"}, "other-subscription:1"),
            ({"tenantId": GUID}, "other-tenant:1"),
        ],
    )
    @pytest.mark.parametrize("path", [GRAPH, LIFECYCLE])
    def test_forged(
        self, portal: House, forgery: dict[str, str], reason: str, path: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What a subscription of ours has not sent does nothing, also after a true one; it is counted, and not logged."""
        caplog.set_level(logging.INFO)
        true = {**subscribe(portal, "room"), "lifecycleEvent": "missed"}
        false = {**true, **forgery}
        answers = [post(portal, false, path=path)]
        assert (heard(portal), runs(portal)) == ({}, [])
        post(portal, true, path=path)
        portal.app.tables.data.commit(NAME, [Write("delete", heard_key("room"))])
        answers.append(post(portal, false, path=path))

        assert [(answer.status, answer.content) for answer in answers] == [(202, b"")] * 2
        assert heard(portal) == {}
        assert dropped(caplog) == [reason] * 2
        assert true["clientState"] not in caplog.text
        assert false["clientState"] not in caplog.text

    def test_another_mailbox(self, portal: House) -> None:
        """Which mailbox a notification names makes no difference: its clientState says which room it is about."""
        other = {"resource": "users/ceo@contoso.com/messages/1", "resourceData": {"@odata.id": "https://evil.example/"}}
        post(portal, {**subscribe(portal, "room"), **other})

        assert heard(portal) == {"room": set()}

    def test_before_graph_has_said_the_subscriptions_id(self, portal: House) -> None:
        """The first notification may overtake the answer to the request that made the subscription."""
        item = subscribe(portal, "room", subscription="")
        post(portal, item)
        assert heard(portal) == {"room": set()}
        sender = Sender(NAME, "room", digest_of(item["clientState"]), "another", "")
        save_sender(portal.app.tables.subscriptions, sender)
        portal.app.tables.data.commit(NAME, [Write("delete", heard_key("room"))])

        post(portal, item)

        assert heard(portal) == {}

    def test_a_subscription_that_has_changed(self, portal: House) -> None:
        """What is remembered of a clientState is read again where it does not fit, and after a minute in any case."""
        item = subscribe(portal, "room")
        sender = Sender(NAME, "room", digest_of(item["clientState"]), GUID, "")
        post(portal, item)
        portal.app.tables.data.commit(NAME, [Write("delete", heard_key("room"))])
        save_sender(portal.app.tables.subscriptions, sender)
        post(portal, {**item, "subscriptionId": GUID.upper()})
        assert heard(portal) == {"room": set()}

        portal.app.tables.subscriptions.commit(sender.digest, [Write("delete", "subscription")])
        portal.app.tables.data.commit(NAME, [Write("delete", heard_key("room"))])
        portal.clock.ahead += timedelta(seconds=61)
        post(portal, {**item, "subscriptionId": GUID})

        assert heard(portal) == {}

    def test_what_is_remembered_is_bounded(self, portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """However many rooms or strangers there are, a process remembers the last clientStates alone."""
        monkeypatch.setattr(notifications, "SENDERS", 3)
        monkeypatch.setattr(notifications, "STRANGERS", 2)
        items = [subscribe(portal, f"room-{number}") for number in range(5)]
        false = [{**items[0], "clientState": token_urlsafe(32)} for _ in range(4)]
        for item in (*items, *false):
            post(portal, item)

        assert list(portal.app.inbox._senders) == [digest_of(item["clientState"]) for item in items[2:]]
        assert list(portal.app.inbox._strangers) == [digest_of(item["clientState"]) for item in false[2:]]

    @pytest.mark.parametrize("place", [0, 150, 300])
    def test_beside_strangers(
        self, portal: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: int
    ) -> None:
        """A true notification is heard beside hundreds of forged ones, wherever it stands. A stranger is looked up once."""
        caplog.set_level(logging.INFO, "sync.notifications")
        monkeypatch.setattr(notifications, "LOOKING_SECONDS", 60)
        true = subscribe(portal, "room")
        false = [{**true, "clientState": token_urlsafe(32)} for _ in range(300)]
        meter = Meter()
        answer = post(portal, *false[:place], true, *false[place:])
        token = METER.set(meter)
        again = post(portal, *false)
        METER.reset(token)

        assert (answer.status, again.status, heard(portal)) == (202, 202, {"room": set()})
        assert dropped(caplog) == ["unknown-client-state:300"] * 2
        assert meter.transactions == 0

    def test_more_than_there_is_time_for(self, portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the time is up before every sender was looked up, a request costs no further reads: what was found is
        heard, the answer is a 503, and each time that it is sent again it gets further, until all of it is a 202.
        """
        reads: list[str] = []

        def counted(table: Any, digest: str) -> Sender | None:
            reads.append(digest)
            return find_sender(table, digest)

        monkeypatch.setattr(notifications, "find_sender", counted)
        monkeypatch.setattr(notifications, "monotonic", lambda: len(reads) * 0.02)  # each read takes that long
        monkeypatch.setattr(notifications, "PATIENCE_SECONDS", 60)
        early, late = subscribe(portal, "early"), subscribe(portal, "late")
        items = [early, *[{**early, "clientState": token_urlsafe(32)} for _ in range(300)], late]
        answers: list[Any] = []
        rooms: list[set[str]] = []
        while not answers or answers[-1].status != 202:
            reads.clear()
            answers.append(post(portal, *items))
            rooms.append(set(heard(portal)))
            assert len(reads) <= 75 + notifications.LOOKUPS

        assert [answer.status for answer in answers] == [503] * (len(answers) - 1) + [202]
        assert (answers[0].json["code"], answers[0].headers["Retry-After"]) == ("storage-busy", "30")
        assert 3 <= len(answers) <= 5
        assert rooms == [{"early"}] * (len(answers) - 1) + [{"early", "late"}]

    def test_who_does_not_listen(self, portal: House, new_tenant: NewTenant, caplog: pytest.LogCaptureFixture) -> None:
        """Where the sync is off, or the connection is going or gone, a notification leaves no trace."""
        caplog.set_level(logging.INFO, "sync.notifications")
        connect(portal, new_tenant(), "off", enabled=False)
        items = [subscribe(portal, "room"), subscribe(portal, "room", "off")]
        portal.call("DELETE", f"connections/{NAME}")

        assert post(portal, *items).status == 202
        assert dropped(caplog) == ["connection-closed:2"]
        assert (heard(portal), heard(portal, "off"), runs(portal, "off")) == ({}, {}, [])
        portal.work()
        post(portal, items[0])
        assert list(portal.app.tables.data.scan(NAME, WAITS)) == []


class TestLifecycle:
    def test_what_is_asked_for_is_kept(self, portal: House) -> None:
        """What lifecycle events ask for stays asked for when notifications come after them; the run says what woke it."""
        rooms = {
            room: subscribe(portal, room) | {"lifecycleEvent": event}
            for room, event in {"a": "reauthorizationRequired", "b": "subscriptionRemoved", "c": "missed"}.items()
        }
        assert post(portal, *rooms.values(), path=LIFECYCLE).status == 202
        post(portal, *rooms.values())

        assert heard(portal) == {"a": {"renew"}, "b": {"recreate"}, "c": set()}
        assert runs(portal) == [("calendars", "lifecycle", "queued")]


class TestWakingUp:
    """A room that was heard is always looked at afterwards, and mostly at no further cost."""

    def take_run(self, house: House) -> Claim:
        """Hold the run that is active, as a worker does."""
        run, etag = cast("tuple[Run, str]", active_run(house.app.tables.data, NAME, "calendars"))
        return cast("Claim", Claim.take(house.app.tables.data, run, etag, now=house.clock()))

    def test_while_a_run_works(self, portal: House) -> None:
        """A run that has begun cannot take as dealt with what comes now: the room's row has another etag by then."""
        item = subscribe(portal, "room")
        post(portal, item)
        self.take_run(portal)
        seen = portal.app.tables.data.get(NAME, heard_key("room"))
        assert seen is not None
        post(portal, item)

        with pytest.raises(Conflict):
            portal.app.tables.data.commit(NAME, [Write("delete", heard_key("room"), etag=seen["etag"])])
        assert runs(portal) == [("calendars", "notification", "running")]

    def test_after_the_run(self, portal: House, build_house: Callable[..., House]) -> None:
        """What comes after a run has ended starts another, in the process that started the last one and in any other."""
        item = subscribe(portal, "room")
        for process in (portal, portal, House(build_house().app, portal.clock, portal.cloud)):
            post(process, item)
            post(process, item)
            claim = self.take_run(portal)
            claim.commit(portal.clock(), [Write("delete", claim.run.active_key)], status="succeeded", owner="")

        assert runs(portal) == [("calendars", "notification", "succeeded")] * 3

    @pytest.mark.parametrize(("faults", "status"), [(2, 202), (3, 503)])
    def test_a_run_that_ends_at_that_moment(
        self, portal: House, monkeypatch: pytest.MonkeyPatch, faults: int, status: int
    ) -> None:
        """Between a run and no run the start is tried again; where that does not help, Graph is to send it again."""
        start, tries = jobs.start, iter([True] * faults)

        def busy(*arguments: Any, **more: Any) -> Any:
            if next(tries, False):
                raise RequestError("", code="sync-busy", status=409)
            return start(*arguments, **more)

        monkeypatch.setattr(jobs, "start", busy)

        assert post(portal, subscribe(portal, "room")).status == status
        assert heard(portal) == {"room": set()}

    def test_many_at_once(self, portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """What comes in while one request writes waits together and is written at once; each is answered after its write.

        Of rounds in a row the last one sees to it that a run is on its way, whatever was so before.
        """
        served: list[set[str]] = []
        woken: list[int] = []
        writing, go_on = Event(), Event()
        write, wake = _Ear._write, _Ear._wake

        def slow(ear: _Ear, rooms: Any) -> None:
            writing.set()
            assert go_on.wait(60)
            served.append(set(rooms))
            write(ear, rooms)

        def counted(ear: _Ear, kind: Any) -> None:
            woken.append(len(served))
            wake(ear, kind)

        monkeypatch.setattr(notifications, "AWAKE_SECONDS", 3600)
        post(portal, subscribe(portal, "any"))
        claim = self.take_run(portal)
        claim.commit(portal.clock(), [Write("delete", claim.run.active_key)], status="succeeded", owner="")
        monkeypatch.setattr(_Ear, "_write", slow)
        monkeypatch.setattr(_Ear, "_wake", counted)
        monkeypatch.setattr(notifications, "PATIENCE_SECONDS", 30)
        items = {f"room-{number}": subscribe(portal, f"room-{number}") for number in range(20)}
        first, *others = items.values()
        with ThreadPoolExecutor(20) as pool:
            answers = [pool.submit(post, portal, first)]
            assert writing.wait(60)
            answers += [pool.submit(post, portal, item) for item in others]
            while len(portal.app.inbox._ear(NAME)._next.rooms) < len(others):
                assert not any(answer.done() for answer in answers)
            go_on.set()

        assert {answer.result().status for answer in answers} == {202}
        assert (served, woken) == ([{"room-0"}, set(items) - {"room-0"}], [2])
        assert set(heard(portal)) == {"any", *items}
        assert [status for *_, status in runs(portal)] == ["queued", "succeeded"]


def closed(storage: str) -> str:
    """A connection string of the same storage where nothing listens."""
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", storage)


class TestFaults:
    """What cannot be stored is to be sent again: Graph does that for 4 hours after a 503."""

    def test_tables_that_do_not_answer(self, portal: House, empty_storage: str) -> None:
        """Before and after its sender is known, a notification that cannot be kept is a 503; afterwards it is taken."""
        item, tables = subscribe(portal, "room"), portal.app.tables
        broken = Tables(TableServiceClient.from_connection_string(closed(empty_storage), retry_total=0))
        for _ in range(2):
            portal.app.tables = broken
            answer = post(portal, item)
            assert (answer.status, answer.json["code"]) == (503, "storage-unavailable")
            portal.app.tables = tables
            assert post(portal, item).status == 202

    def test_a_queue_that_does_not_answer(self, portal: House, empty_storage: str) -> None:
        """Where the message cannot be sent the room is heard, the request is a 503, and the timer sends the message."""
        item, queues = subscribe(portal, "room"), portal.app.queues
        portal.app.queues = Queues(QueueServiceClient.from_connection_string(closed(empty_storage), retry_total=0))
        assert post(portal, item).status == 503
        portal.app.queues = queues
        assert post(portal, item).status == 202
        assert list(portal.messages()) == []
        portal.clock.ahead += timedelta(minutes=6)

        jobs.tick(portal.app, "calendars")

        assert heard(portal) == {"room": set()}
        assert list(portal.messages()) != []

    def test_slow_storage(self, portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """Graph gets an answer in time even where storage takes longer."""
        go_on = Event()
        monkeypatch.setattr(notifications, "PATIENCE_SECONDS", 0.05)
        monkeypatch.setattr(_Ear, "_listens", lambda _: go_on.wait(60))
        item = subscribe(portal, "room")
        answer = post(portal, item)
        go_on.set()

        assert (answer.status, answer.json["code"]) == (503, "storage-busy")

    def test_all_who_wait_for_a_write_that_fails(self, portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """A write that fails fails for each request that waits for it, and for no later one."""
        first, *others = [subscribe(portal, f"room-{number}") for number in range(8)]
        for item in (first, *others):
            post(portal, item)
        serving, listens = iter(range(3)), _Ear._listens
        begun = Event()

        def failing(ear: _Ear) -> bool:
            number = next(serving)
            begun.set()
            while number == 0 and len(ear._next.rooms) < len(others):
                continue
            if number == 1:
                raise ServiceRequestError("reset")
            return listens(ear)

        monkeypatch.setattr(_Ear, "_listens", failing)
        monkeypatch.setattr(notifications, "PATIENCE_SECONDS", 30)
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(post, portal, first)]
            assert begun.wait(60)
            answers += [pool.submit(post, portal, item) for item in others]

        assert [answer.result().status for answer in answers] == [202] + [503] * 7
        assert post(portal, *others).status == 202
