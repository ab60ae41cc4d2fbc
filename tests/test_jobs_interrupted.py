"""Runs whose message or worker is lost, that two workers have, or that somebody cancels."""

from datetime import timedelta
from threading import Event, Thread
from typing import Any

import pytest

from storage.queues import MANUAL, SCHEDULED
from storage.tables import Write
from sync.errors import LeaseLost, TenantsyncError
from sync.feed import Change
from sync.jobs import WATCH, Finish, Work, poisoned, tick, work
from sync.runs import LEASE, RUN, STATE, Run, load_run, run_row
from tests.house import House
from tests.runs import NAME, do, dues, fault, message, portal, queued, run_of

__all__ = ["portal"]

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
