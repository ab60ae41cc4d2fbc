"""Starting, carrying and ending runs: on real queues and tables, with syncs that do what a test says."""

import base64
import json
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Any

import pytest

from storage.meter import METER, Meter, MeteredTransport
from storage.queues import MANUAL, SCHEDULED
from storage.tables import Table, Write
from sync import jobs
from sync.due import put_due
from sync.errors import CursorExpired, Deferred, LeaseLost, RequestError, SignInError, TenantsyncError
from sync.feed import Change
from sync.jobs import (
    MAX_ATTEMPTS,
    WATCH,
    Executor,
    Finish,
    Work,
    load_settings,
    poisoned,
    save_settings,
    start,
    tick,
    work,
)
from sync.runs import ACTIVE, LEASE, RUN, STATE, Run, active_run, load_run, run_row
from sync.sync_settings import UsersSettings
from tests.cloud import NewTenant
from tests.house import House

NAME = "primary"


@pytest.fixture
def portal(house: House, new_tenant: NewTenant) -> House:
    """A house with one connection whose users and photos are synced on demand, and do nothing."""
    house.connect(new_tenant(users=0), NAME, users={}, photos={})
    do(house, lambda _: Finish({}))
    return house


def do(house: House, executor: Executor) -> None:
    """From now on, this is what a users or photos sync does."""
    house.app.executors = {"users": executor, "photos": executor}


def run_of(house: House, run: str) -> Run:
    found = load_run(house.app.tables.data, NAME, run)
    assert found is not None
    return found[0]


def message(run: str) -> dict[str, str]:
    return {"connection": NAME, "run": run}


def queued(house: House) -> dict[str, list[dict[str, Any]]]:
    """The messages that can be seen, by queue; all of them are taken away."""
    found: dict[str, list[dict[str, Any]]] = {}
    for queue, client in house.app.queues._clients.items():
        found[queue] = [json.loads(base64.b64decode(each.content)) for each in client.peek_messages(32)]
        client.clear_messages()
    return found


def dues(house: House, family: str = "directory") -> list[tuple[str, datetime]]:
    return [(row["sync"], datetime.fromisoformat(row["due"])) for row in house.app.tables.due.scan(family)]


def schedule(house: House, sync: str = "users", **schedule: str) -> datetime | None:
    """Give a sync this schedule; when it is due next."""
    house.enable(NAME, sync, schedule=schedule)
    return next_run(house, sync)


def next_run(house: House, sync: str = "users") -> datetime | None:
    shown = next(each for each in house.get(f"connections/{NAME}/syncs")["items"] if each["sync"] == sync)
    return datetime.fromisoformat(shown["nextRun"]) if shown["nextRun"] else None


def runs(house: House, sync: str = "users") -> list[dict[str, Any]]:
    """All runs of a sync, oldest first."""
    return list(reversed(house.get(f"connections/{NAME}/runs?sync={sync}")["items"]))


# --- starting --------------------------------------------------------------------------------------------------------


def test_manual_run(portal: House) -> None:
    """A manual run goes through its own queue and ends in success, with its times in order."""
    run = portal.start(NAME, "users", mode="full")
    assert run_of(portal, run).status == "queued"
    assert queued(portal) == {MANUAL: [message(run)], SCHEDULED: []}

    work(portal.app, message(run))

    ended = run_of(portal, run)
    assert (ended.status, ended.trigger, ended.mode, ended.slice) == ("succeeded", "manual", "full", 1)
    assert ended.started_at and ended.finished_at
    assert ended.queued_at <= ended.started_at <= ended.finished_at
    assert (ended.owner, ended.lease_until) == ("", None)


def test_two_requests_become_one_run(portal: House) -> None:
    """While a run is active, another request for the sync gives that run; other syncs have their own."""
    run = portal.start(NAME, "users")
    assert portal.start(NAME, "users") == run
    assert portal.start(NAME, "photos") != run
    portal.work()
    assert portal.start(NAME, "users") != run


def test_sync_that_is_off_is_not_started(portal: House) -> None:
    """A sync that is not enabled cannot be started."""
    portal.enable(NAME, "users", enabled=False)
    answer = portal.call("POST", f"connections/{NAME}/syncs/users/runs", {})
    assert (answer.status, answer.json["code"]) == (409, "sync-disabled")
    assert queued(portal) == {MANUAL: [], SCHEDULED: []}


def test_manual_runs_are_served_first(portal: House) -> None:
    """A manual run overtakes a scheduled one that was queued before it."""
    done: list[str] = []
    do(portal, lambda job: done.append(job.run.sync) or Finish({}))  # type: ignore[func-returns-value] # append gives None
    schedule(portal, "users", mode="interval", every="PT4H")
    tick(portal.app, "directory")
    portal.start(NAME, "photos")
    portal.work()
    assert done == ["photos", "users"]


def test_request_makes_a_scheduled_run_urgent(portal: House) -> None:
    """Asking for a run that waits in the scheduled queue puts it into the manual one as well, and it runs once."""
    schedule(portal, mode="interval", every="PT4H")
    tick(portal.app, "directory")
    run = portal.start(NAME, "users")
    assert [each["id"] for each in runs(portal)] == [run]
    assert queued(portal) == {MANUAL: [message(run)], SCHEDULED: [message(run)]}

    work(portal.app, message(run))
    work(portal.app, message(run))
    assert run_of(portal, run).slice == 1


def test_waiting_request_sends_no_second_message(portal: House) -> None:
    """Asking again for a manual run that waits for its turn changes nothing; a lost message is sent after a minute."""
    run = portal.start(NAME, "users")
    portal.start(NAME, "users")
    assert queued(portal)[MANUAL] == [message(run)]
    portal.clock.ahead += timedelta(seconds=61)
    portal.start(NAME, "users")
    assert queued(portal)[MANUAL] == [message(run)]


def test_start_whose_answer_is_lost(portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that arrived although its answer did not is this start, and its message is sent."""
    plain = Table.commit

    def twice(table: Table, partition: str, writes: list[Write]) -> list[str]:
        if any(write.key == ACTIVE + "users" and write.kind == "insert" for write in writes):
            plain(table, partition, writes)
        return plain(table, partition, writes)

    monkeypatch.setattr(Table, "commit", twice)
    run, new = start(portal.app, NAME, "users", trigger="manual")
    assert new
    assert queued(portal)[MANUAL] == [message(run.id)]


def test_start_between_two_writes_of_another(portal: House) -> None:
    """Where the active run cannot be found although there is one, the caller is asked to try again."""
    portal.app.tables.data.commit(NAME, [Write("insert", ACTIVE + "users", {"run": "gone"})])
    answer = portal.call("POST", f"connections/{NAME}/syncs/users/runs", {})
    assert (answer.status, answer.json["code"]) == (409, "sync-busy")


# --- schedules -------------------------------------------------------------------------------------------------------


def test_idle_tick_is_one_read(portal: House) -> None:
    """A tick with nothing due costs one storage transaction, however many syncs wait."""
    for sync in ("users", "photos"):
        schedule(portal, sync, mode="daily", at="01:00")
    for family in ("photos", "directory"):
        meter = Meter()
        token = METER.set(meter)
        tick(portal.app, family)
        METER.reset(token)
        assert meter.transactions == 1
    assert runs(portal) == runs(portal, "photos") == []


def test_interval_keeps_its_rhythm(portal: House) -> None:
    """An interval sync begins at once and goes on in its rhythm; after an outage it catches up once."""
    first = schedule(portal, mode="interval", every="PT4H")
    assert first
    for ahead, count in [(0, 1), (3.9, 1), (0.2, 2), (4, 3), (21, 4), (0, 4)]:
        portal.clock.ahead += timedelta(hours=ahead)
        tick(portal.app, "directory")
        portal.work()
        assert len(runs(portal)) == count
    assert next_run(portal) == first + timedelta(hours=32)
    assert {run["trigger"] for run in runs(portal)} == {"timer"}
    portal.clock.ahead += WATCH
    tick(portal.app, "directory")
    assert dues(portal) == [("users", first + timedelta(hours=32))]


def autumn_of(year: int) -> datetime:
    """00:00 in New York of the day in November on which the clocks go back: the first Sunday."""
    first = datetime(year, 11, 1, 4, tzinfo=UTC)
    return first + timedelta(days=6 - first.weekday())


def test_daily_across_the_autumn_change(portal: House) -> None:
    """Ticking through the night with two 01:00s and the days around it, a daily sync runs once a day."""
    change = autumn_of(portal.clock().year + 1)
    assert change.weekday() == 6
    move_to(portal, change - timedelta(hours=1))
    due = schedule(portal, "photos", mode="daily", at="01:00", timeZone="America/New_York")
    assert due == change + timedelta(hours=1)

    started: list[datetime] = []
    do(portal, lambda job: started.append(job.now()) or Finish({}))  # type: ignore[func-returns-value] # append gives None
    while portal.clock() < change + timedelta(hours=28):
        tick(portal.app, "photos")
        portal.work()
        portal.clock.ahead += timedelta(minutes=15)

    wanted = [change + timedelta(hours=1), change + timedelta(hours=26)]  # 01:00 EDT, then 01:00 EST
    assert [at - wish < timedelta(minutes=16) for at, wish in zip(started, wanted, strict=True)] == [True, True]


def move_to(house: House, at: datetime) -> None:
    house.clock.ahead += at - house.clock()


def test_manual_run_absorbs_an_overdue_one(portal: House) -> None:
    """A manual run in the place of a scheduled one that is overdue moves the schedule on: no second run at the tick."""
    due = schedule(portal, mode="interval", every="PT4H")
    assert due
    portal.clock.ahead += timedelta(minutes=1)
    portal.run(NAME, "users")
    assert next_run(portal) == due + timedelta(hours=4)
    tick(portal.app, "directory")
    assert [run["trigger"] for run in runs(portal)] == ["manual"]


def test_manual_run_before_its_time_moves_nothing(portal: House) -> None:
    """A manual run before the scheduled one is due leaves the schedule as it is."""
    due = schedule(portal, mode="daily", at="01:00")
    portal.run(NAME, "users")
    assert next_run(portal) == due


def test_due_while_active(portal: House) -> None:
    """A sync that is due while a run of it goes on becomes that run; its schedule moves on."""
    due = schedule(portal, mode="interval", every="PT4H")
    assert due
    tick(portal.app, "directory")
    portal.clock.ahead += timedelta(hours=4)
    tick(portal.app, "directory")
    assert len(runs(portal)) == 1
    assert next_run(portal) == due + timedelta(hours=8)


@pytest.mark.parametrize("off", [{"enabled": False}, {"schedule": {"mode": "manual"}}], ids=["disabled", "manual only"])
def test_stale_due_row(portal: House, off: dict[str, Any]) -> None:
    """What was due is not started once the sync is off or manual only; its row goes."""
    schedule(portal, mode="interval", every="PT4H")
    portal.enable(NAME, "users", **off)
    assert next_run(portal) is None
    tick(portal.app, "directory")
    assert (runs(portal), dues(portal)) == ([], [])


def test_rescheduled(portal: House) -> None:
    """A new schedule counts from now; the old due time leads to nothing."""
    schedule(portal, mode="daily", at="01:00")
    due = schedule(portal, mode="interval", every="PT1H")
    assert due
    assert timedelta(0) <= portal.clock() - due < timedelta(minutes=1)
    tick(portal.app, "directory")
    portal.work()
    portal.clock.ahead += timedelta(days=1)
    assert len(runs(portal)) == 1


def test_other_settings_keep_the_schedule(portal: House) -> None:
    """A setting that has nothing to do with the schedule leaves when the sync is due."""
    due = schedule(portal, mode="daily", at="01:00")
    assert due
    portal.enable(NAME, "users", schedule={"mode": "daily", "at": "01:00"}, includeGuests=True)
    assert next_run(portal) == due
    move_to(portal, due + timedelta(minutes=1))
    tick(portal.app, "directory")
    assert len(runs(portal)) == 1


def test_due_of_a_connection_that_is_gone(portal: House) -> None:
    """A due row without a state leads to nothing and goes."""
    row = {"connection": "gone", "sync": "users", "due": portal.clock().isoformat()}
    portal.app.tables.due.commit("directory", [Write("insert", f"{row['due']}|gone|users", row)])
    portal.clock.ahead += timedelta(seconds=1)
    tick(portal.app, "directory")
    assert dues(portal) == []


def test_tick_meets_a_run_that_ends(portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the state changes under a tick, the due row stays for the next one: no schedule is ever lost."""
    schedule(portal, mode="interval", every="PT4H")
    tick(portal.app, "directory")
    portal.clock.ahead += timedelta(hours=4, minutes=1)
    plain = active_run
    with monkeypatch.context() as patch:

        def ends(data: Table, connection: str, sync: str, **dry: bool) -> Any:
            found = plain(data, connection, sync, **dry)
            data.commit(connection, [Write("merge", STATE + sync, {"last_run": "x"})])
            return found

        patch.setattr("sync.jobs.active_run", ends)
        tick(portal.app, "directory")
    portal.work()

    tick(portal.app, "directory")
    portal.work()
    assert len(runs(portal)) == 2


def test_settings_meet_a_tick(portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that are saved while the state changes are saved, with the due time of that moment."""
    due = schedule(portal, mode="interval", every="PT4H")
    assert due
    settings, etag = load_settings(portal.app, NAME, "users")
    plain = put_due

    def meanwhile(*args: Any) -> None:
        monkeypatch.setattr("sync.jobs.put_due", plain)
        tick(portal.app, "directory")
        plain(*args)

    monkeypatch.setattr("sync.jobs.put_due", meanwhile)
    save_settings(portal.app, NAME, "users", settings.model_copy(update={"include_guests": True}), etag)

    changed, _ = load_settings(portal.app, NAME, "users")
    assert isinstance(changed, UsersSettings)
    assert (changed.include_guests, next_run(portal)) == (True, due + timedelta(hours=4))


def test_two_writers_of_settings(portal: House) -> None:
    """Of two people who change the same settings, the second hears of it."""
    settings, etag = load_settings(portal.app, NAME, "users")
    save_settings(portal.app, NAME, "users", settings, etag)
    with pytest.raises(Exception, match="UpdateConditionNotSatisfied"):
        save_settings(portal.app, NAME, "users", settings, etag)


def test_tick_passes_over_a_fault(portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sync that cannot be started now does not keep the others; it is started at the next tick."""
    schedule(portal, mode="interval", every="PT4H")
    portal.connect(portal.tenants[NAME], "zz", users={"schedule": {"mode": "interval", "every": "PT4H"}})
    plain = jobs.start

    def busy(app: Any, connection: str, *args: Any, **options: Any) -> Any:
        if connection == NAME:
            raise RequestError("busy", code="sync-busy")
        return plain(app, connection, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "start", busy)
        tick(portal.app, "directory")
    assert runs(portal) == []
    assert len(portal.get("connections/zz/runs")["items"]) == 1

    tick(portal.app, "directory")
    assert len(runs(portal)) == 1


# --- lost messages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sync", ["users", "photos"])
def test_watch_sends_a_lost_message(portal: House, sync: str) -> None:
    """A run whose message got lost is sent on its way by the timer, in both families."""
    run = portal.start(NAME, sync)
    queued(portal)
    family = "photos" if sync == "photos" else "directory"
    tick(portal.app, family)
    assert queued(portal) == {MANUAL: [], SCHEDULED: []}

    portal.clock.ahead += WATCH + timedelta(seconds=1)
    tick(portal.app, family)
    assert portal.work() == 1
    assert run_of(portal, run).status == "succeeded"
    portal.clock.ahead += WATCH + timedelta(seconds=1)
    tick(portal.app, family)
    assert (queued(portal), dues(portal, family)) == ({MANUAL: [], SCHEDULED: []}, [])


def test_watch_leaves_a_working_run(portal: House) -> None:
    """A run that a worker holds gets no message, and stays watched."""

    def look(job: Work) -> Finish:
        queued(portal)
        portal.clock.ahead += WATCH + timedelta(seconds=1)
        job.claim.commit(job.now())
        tick(portal.app, "directory")
        assert queued(portal) == {MANUAL: [], SCHEDULED: []}
        assert len(dues(portal)) == 1
        return Finish({})

    do(portal, look)
    assert portal.run(NAME, "users")["status"] == "succeeded"


def test_dead_worker_is_replaced(portal: House) -> None:
    """A run whose worker died is taken up by the next message, once the lease has ended."""
    run = portal.start(NAME, "users")

    def die(_: Work) -> Finish:
        raise KeyboardInterrupt

    do(portal, die)
    with pytest.raises(KeyboardInterrupt):
        portal.work()
    assert run_of(portal, run).status == "running"
    do(portal, lambda _: Finish({}))

    work(portal.app, message(run))
    assert (run_of(portal, run).status, run_of(portal, run).slice) == ("running", 1)
    waiting = portal.app.queues._clients[MANUAL].get_queue_properties()
    assert waiting.approximate_message_count == 1
    assert portal.work() == 0  # it comes back when the lease has ended, not before

    portal.clock.ahead += LEASE
    work(portal.app, message(run))
    assert (run_of(portal, run).status, run_of(portal, run).slice) == ("succeeded", 2)


@pytest.mark.parametrize("status", ["succeeded", "partial", "failed", "cancelled", "held"])
def test_message_of_a_run_that_is_over(portal: House, status: str) -> None:
    """A message that comes late or twice does nothing."""
    row = run_row(Run("1", NAME, "users", "manual", "delta", dry_run=False, queued_at=portal.clock(), status=status))
    etag = portal.app.tables.data.commit(NAME, [Write("insert", RUN + "1", row)])[0]
    do(portal, lambda _: pytest.fail("must not run"))
    work(portal.app, message("1"))
    found = load_run(portal.app.tables.data, NAME, "1")
    assert found
    assert found[1] == etag


def test_message_of_an_unknown_run(portal: House) -> None:
    """A message for a run that does not exist, or whose connection is gone, does nothing."""
    work(portal.app, message("0"))
    poisoned(portal.app, message("0"))
    work(portal.app, {"connection": "gone", "run": "0"})


# --- slices ----------------------------------------------------------------------------------------------------------


def test_slices(portal: House) -> None:
    """A sync that is not done goes on from its checkpoint, in another slice, until it is."""

    def count(job: Work) -> Finish | None:
        at = job.run.checkpoint.get("at", 0)
        job.claim.commit(job.now(), checkpoint={"at": at + 1}, outcomes={"created": 1})
        return Finish({"seen": at + 1}) if at == 2 else None

    do(portal, count)
    run = portal.run(NAME, "users")

    assert (run["status"], run["slices"], run["counts"]["created"]) == ("succeeded", 3, 3)
    state = portal.app.tables.data.get(NAME, STATE + "users")
    assert state
    assert (state["seen"], state["last_run"]) == (3, run["id"])


def test_cost_adds_up_over_slices(portal: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run says what it has cost in all its slices: every storage transaction but the messages that carry it on."""
    sent: list[str] = []
    plain = MeteredTransport.send

    def send(transport: MeteredTransport, request: Any, **options: Any) -> Any:
        sent.append(request.url)
        return plain(transport, request, **options)

    def cost(job: Work) -> Finish | None:
        for _ in range(job.run.slice):
            job.claim.commit(job.now())
        return Finish({}) if job.run.slice == 3 else None

    do(portal, cost)
    run = portal.start(NAME, "users")
    monkeypatch.setattr(MeteredTransport, "send", send)
    portal.work()
    counted = len([url for url in sent if "/messages" not in url])

    assert (run_of(portal, run).slice, run_of(portal, run).transactions) == (3, counted)


def test_partial(portal: House) -> None:
    """A run in which single items failed is partial."""

    def fail_one(job: Work) -> Finish:
        job.claim.commit(job.now(), outcomes={"created": 2, "failed": 1})
        return Finish({})

    do(portal, fail_one)
    assert portal.run(NAME, "users")["status"] == "partial"


# --- faults ----------------------------------------------------------------------------------------------------------


def raising(error: BaseException) -> Executor:
    def executor(_: Work) -> Finish:
        raise error

    return executor


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TenantsyncError("x", code="some-code", remedy="y"), "some-code"),
        (CursorExpired("x", http=410, graph_code="y"), "graph-cursor-expired"),
        (RequestError("x", code="connection-not-found"), "connection-not-found"),
    ],
)
def test_error_ends_the_run(portal: House, error: TenantsyncError, code: str) -> None:
    """An error that a retry does not help ends the run, with what is stored left as it is."""
    do(portal, raising(error))
    run = portal.run(NAME, "users")
    assert (run["status"], run["error"]["code"], run["error"]["detail"]) == ("failed", code, "x")
    assert portal.start(NAME, "users") != run["id"]


@pytest.mark.parametrize(("expired", "status"), [(True, "expired"), (False, "failed")])
def test_refused_credential_shows_on_the_connection(portal: House, expired: bool, status: str) -> None:
    """A credential that Entra refuses ends the run and marks the connection."""
    do(portal, raising(SignInError("x", remedy="y", code="aadsts-7000222", aadsts=7000222, expired=expired)))
    run = portal.run(NAME, "users")
    assert (run["status"], run["error"]["code"]) == ("failed", "aadsts-7000222")
    assert portal.get(f"connections/{NAME}")["status"] == status


def test_crash_gives_the_message_back(portal: House) -> None:
    """An unexpected fault reaches the queue, which tries again at once: the lease does not stand in the way."""
    do(portal, raising(ZeroDivisionError()))
    run = portal.start(NAME, "users")
    with pytest.raises(ZeroDivisionError):
        portal.work()
    do(portal, lambda _: Finish({}))
    work(portal.app, message(run))
    assert (run_of(portal, run).status, run_of(portal, run).slice) == ("succeeded", 2)


def test_poison(portal: House) -> None:
    """A run that the queue gave up on is failed for the portal to see, and the sync can be started again."""
    run = portal.start(NAME, "users")
    queued(portal)
    poisoned(portal.app, message(run))
    shown = portal.get(f"connections/{NAME}/runs/{run}")
    assert (shown["status"], shown["error"]["code"]) == ("failed", "run-crashed")
    poisoned(portal.app, message(run))
    assert portal.run(NAME, "users")["status"] == "succeeded"


def test_throttled_run_waits_as_long_as_it_takes(portal: House) -> None:
    """A wait that Graph asks for is kept, early messages are put off, and no number of them ends the run."""
    waits = MAX_ATTEMPTS + 3

    def throttled(job: Work) -> Finish:
        if job.run.slice <= waits:
            raise Deferred("x", until=job.now() + timedelta(seconds=100), throttled=True)
        return Finish({})

    do(portal, throttled)
    run = portal.start(NAME, "users")
    portal.work()
    for number in range(1, waits + 1):
        assert (run_of(portal, run).status, run_of(portal, run).slice) == ("running", number)
        work(portal.app, message(run))
        assert run_of(portal, run).slice == number
        portal.clock.ahead += timedelta(seconds=101)
        work(portal.app, message(run))

    assert (run_of(portal, run).status, run_of(portal, run).attempt) == ("succeeded", 0)
    assert portal.work() == 0


def fault(job: Work) -> Finish:
    raise Deferred("Graph is unwell", until=job.now(), code="graph-unwell")


def test_faults_in_a_row_end_the_run(portal: House) -> None:
    """Faults that lead nowhere are tried again after longer and longer waits, and end the run after the eighth."""
    do(portal, fault)
    run = portal.start(NAME, "users")
    portal.work()
    waits = []
    while run_of(portal, run).status == "running":
        not_before = run_of(portal, run).not_before
        assert not_before
        waits.append(round((not_before - portal.clock()).total_seconds()))
        portal.clock.ahead += timedelta(seconds=waits[-1] + 1)
        work(portal.app, message(run))

    assert waits == [2, 4, 8, 16, 32, 64, 128, 256]
    shown = portal.get(f"connections/{NAME}/runs/{run}")
    assert (shown["status"], shown["error"]["code"]) == ("failed", "graph-unwell")


def test_progress_forgives_faults(portal: House) -> None:
    """Faults between which there is progress never end a run."""

    def stumble(job: Work) -> Finish:
        if job.run.slice > 2 * MAX_ATTEMPTS:
            return Finish({})
        job.claim.commit(job.now(), outcomes={"created": 1})
        return fault(job)

    do(portal, stumble)
    run = portal.start(NAME, "users")
    while run_of(portal, run).status != "succeeded":
        portal.clock.ahead += timedelta(minutes=10)
        work(portal.app, message(run))
    assert run_of(portal, run).counts == {"created": 2 * MAX_ATTEMPTS}


# --- two workers -----------------------------------------------------------------------------------------------------


def test_second_worker_loses(portal: House) -> None:
    """While one worker is at a run, another one that gets its message leaves it alone."""
    entered, leave = Event(), Event()

    def slow(_: Work) -> Finish:
        entered.set()
        assert leave.wait(60)
        return Finish({})

    do(portal, slow)
    run = portal.start(NAME, "users")
    worker = Thread(target=portal.work)
    worker.start()
    assert entered.wait(60)
    do(portal, lambda _: pytest.fail("two workers at once"))
    work(portal.app, message(run))
    leave.set()
    worker.join(60)

    assert (run_of(portal, run).status, run_of(portal, run).slice) == ("succeeded", 1)


@pytest.mark.parametrize("then", ["commit", "finish", "fail", "defer", "go on", "crash"])
def test_stale_worker_leaves_no_trace(portal: House, then: str) -> None:
    """A worker whose lease ended, and whose run another one took, can write nothing, whatever it does next."""

    def stale(job: Work) -> Finish | None:
        portal.clock.ahead += LEASE + timedelta(seconds=1)
        do(portal, other)
        work(portal.app, message(job.run.id))
        match then:
            case "commit":
                job.claim.commit(job.now(), [Write("merge", "user|stale", {})], outcomes={"created": 9})
            case "fail":
                raise TenantsyncError("x")
            case "defer":
                fault(job)
            case "crash":
                raise ZeroDivisionError
            case "go on":
                return None
        return Finish({"stale": True})

    def other(job: Work) -> Finish:
        job.claim.commit(job.now(), outcomes={"created": 1})
        return Finish({"fresh": True})

    do(portal, stale)
    run = portal.start(NAME, "users")
    if then == "crash":
        with pytest.raises(ZeroDivisionError):
            portal.work()
    else:
        portal.work()

    ended = run_of(portal, run)
    assert (ended.status, ended.slice, ended.counts, ended.error) == ("succeeded", 2, {"created": 1}, None)
    state = portal.app.tables.data.get(NAME, STATE + "users")
    assert state
    assert (state.get("fresh"), state.get("stale")) == (True, None)
    assert portal.app.tables.data.get(NAME, "user|stale") is None


def test_stale_worker_of_an_unfinished_run(portal: House) -> None:
    """The second worker goes on while the first, awake again, is refused its next write."""
    refused: list[type[BaseException]] = []

    def first(job: Work) -> Finish | None:
        portal.clock.ahead += LEASE + timedelta(seconds=1)
        do(portal, second)
        work(portal.app, message(job.run.id))
        try:
            job.claim.commit(job.now(), changes=[Change("user", "stale", "created")])
        except LeaseLost as error:
            refused.append(type(error))
            raise
        return None

    def second(job: Work) -> Finish | None:
        job.claim.commit(job.now(), checkpoint={"at": job.run.checkpoint.get("at", 0) + 1})
        return Finish({}) if job.run.checkpoint["at"] == 3 else None

    do(portal, first)
    run = portal.run(NAME, "users")
    assert (run["status"], refused) == ("succeeded", [LeaseLost])
    assert portal.changes(NAME)[0] == []


# --- cancelling ------------------------------------------------------------------------------------------------------


def cancel(house: House, run: str) -> Any:
    return house.call("POST", f"connections/{NAME}/runs/{run}/cancel")


def test_cancel_a_queued_run(portal: House) -> None:
    """A run that nobody works at is cancelled at once, and its message does nothing."""
    run = portal.start(NAME, "users")
    answer = cancel(portal, run)
    assert (answer.status, answer.json["status"]) == (202, "cancelled")
    do(portal, lambda _: pytest.fail("must not run"))
    portal.work()
    assert run_of(portal, run).status == "cancelled"
    do(portal, lambda _: Finish({}))
    assert portal.run(NAME, "users")["status"] == "succeeded"


@pytest.mark.parametrize("then", ["commit", "finish", "fail", "defer", "go on"])
def test_cancel_a_running_run(portal: House, then: str) -> None:
    """A run that is worked at is cancelled at the worker's next write, which is not done."""

    def cancelled(job: Work) -> Finish | None:
        job.claim.commit(job.now(), outcomes={"created": 1})
        assert cancel(portal, job.run.id).json["status"] == "running"
        match then:
            case "commit":
                job.claim.commit(job.now(), [Write("merge", "user|late", {})], outcomes={"created": 9})
            case "fail":
                raise TenantsyncError("x")
            case "defer":
                fault(job)
            case "go on":
                return None
        return Finish({"late": True})

    do(portal, cancelled)
    run = portal.run(NAME, "users")

    assert (run["status"], run["counts"]["created"], run["error"]) == ("cancelled", 1, None)
    state = portal.app.tables.data.get(NAME, STATE + "users")
    assert state
    assert "late" not in state
    assert portal.app.tables.data.get(NAME, "user|late") is None
    do(portal, lambda _: Finish({}))
    assert portal.run(NAME, "users")["status"] == "succeeded"


def test_cancel_a_run_whose_worker_died(portal: House) -> None:
    """A run that was asked to stop and whose worker died before it noticed is cancelled by the next worker."""
    run = portal.start(NAME, "users")

    def die(_: Work) -> Finish:
        cancel(portal, run)
        raise KeyboardInterrupt

    do(portal, die)
    with pytest.raises(KeyboardInterrupt):
        portal.work()
    portal.clock.ahead += LEASE
    do(portal, lambda _: pytest.fail("must not run"))
    work(portal.app, message(run))
    assert run_of(portal, run).status == "cancelled"


def test_cancel_a_finished_run(portal: House) -> None:
    """A run that is over cannot be cancelled."""
    run = portal.run(NAME, "users")["id"]
    answer = cancel(portal, run)
    assert (answer.status, answer.json["code"]) == (409, "run-finished")
    assert run_of(portal, run).status == "succeeded"
