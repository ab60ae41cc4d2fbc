"""Starting runs, carrying them through slices, and what becomes of their faults."""

from datetime import timedelta
from typing import Any

import pytest

from storage.meter import MeteredTransport
from storage.queues import MANUAL, SCHEDULED
from storage.tables import Table, Write
from sync.errors import CursorExpired, Deferred, RequestError, SignInError, TenantsyncError
from sync.jobs import MAX_ATTEMPTS, Executor, Finish, Work, poisoned, start, tick, work
from sync.runs import ACTIVE, STATE
from tests.house import House
from tests.runs import NAME, do, fault, message, portal, queued, run_of, runs, schedule

__all__ = ["portal"]

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
