"""NCRONTAB by table, and timers that neither overlap nor forget."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from azure.storage.blob import BlobServiceClient

from local.timers import BadSchedule, Monitor, Schedule, Timer

START = "2026-11-22 06:30:15"  # a Sunday


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("* * * * * *", ["2026-11-22 06:30:16", "2026-11-22 06:30:17"]),
        ("*/15 * * * * *", ["2026-11-22 06:30:30", "2026-11-22 06:30:45", "2026-11-22 06:31:00"]),
        ("5/20 * * * * *", ["2026-11-22 06:30:25", "2026-11-22 06:30:45", "2026-11-22 06:31:05"]),
        ("0 */5 * * * *", ["2026-11-22 06:35:00", "2026-11-22 06:40:00"]),
        ("*/5 * * * *", ["2026-11-22 06:35:00", "2026-11-22 06:40:00"]),
        ("0 0 * * * *", ["2026-11-22 07:00:00", "2026-11-22 08:00:00"]),
        ("15 30 6 * * *", ["2026-11-23 06:30:15"]),
        ("0 0 9-11 * * *", ["2026-11-22 09:00:00", "2026-11-22 10:00:00", "2026-11-22 11:00:00", "2026-11-23 09:00:00"]),
        ("0 0 8-18/5 * * *", ["2026-11-22 08:00:00", "2026-11-22 13:00:00", "2026-11-22 18:00:00", "2026-11-23 08:00:00"]),
        ("0 0 11-9 * * *", ["2026-11-22 09:00:00", "2026-11-22 10:00:00", "2026-11-22 11:00:00"]),
        ("0 0,30 6,7 * * *", ["2026-11-22 07:00:00", "2026-11-22 07:30:00", "2026-11-23 06:00:00"]),
        ("0 0 0 1 * *", ["2026-12-01 00:00:00", "2027-01-01 00:00:00"]),
        ("0 0 0 31 * *", ["2026-12-31 00:00:00", "2027-01-31 00:00:00", "2027-03-31 00:00:00"]),
        ("0 0 0 29 2 *", ["2028-02-29 00:00:00", "2032-02-29 00:00:00"]),
        ("0 0 0 29 Feb Mon", ["2044-02-29 00:00:00"]),
        ("0 0 0 * Jan,Jul *", ["2027-01-01 00:00:00", "2027-01-02 00:00:00"]),
        ("0 0 0 1 january *", ["2027-01-01 00:00:00", "2028-01-01 00:00:00"]),
        ("0 0 0 * * 0", ["2026-11-29 00:00:00", "2026-12-06 00:00:00"]),
        ("0 0 0 * * sun", ["2026-11-29 00:00:00"]),
        ("0 0 9 * * Mon-Fri", ["2026-11-23 09:00:00", "2026-11-24 09:00:00"]),
        ("0 0 0 13 * FRI", ["2027-08-13 00:00:00"]),
        ("0 0 23 * * 6", ["2026-11-28 23:00:00"]),
    ],
)  # fmt: skip
def test_next_after(schedule, expected):
    parsed, now, found = Schedule.parse(schedule), at(START), []
    for _ in expected:
        now = parsed.next_after(now)
        found.append(now)

    assert found == [at(each) for each in expected]


def test_a_fraction_of_a_second_does_not_hide_an_occurrence():
    assert Schedule.parse("* * * * * *").next_after(at(START).replace(microsecond=999_999)) == at("2026-11-22 06:30:16")


@pytest.mark.parametrize(
    "schedule",
    [
        "",
        "* * * *",
        "* * * * * * *",
        "60 * * * * *",
        "* 60 * * * *",
        "* * 24 * * *",
        "* * * 0 * *",
        "* * * 32 * *",
        "* * * * 13 *",
        "* * * * 0 *",
        "* * * * * 7",
        "0 0 0 30 2 *",
        "0 0 0 L * *",
        "0 0 0 ? * *",
        "0 0 0 * * 5#3",
        "0 0 0 1W * *",
        "*/0 * * * * *",
        "*-5 * * * * *",
        "1,,2 * * * * *",
        "Mon * * * * *",
        "* * * * foo *",
        "-1 * * * * *",
        "00:05:00",
    ],
)
def test_what_is_not_ncrontab_is_refused(schedule):
    with pytest.raises(BadSchedule):
        Schedule.parse(schedule)


class Runs:
    """Collects what a timer hands over; waits for a number of runs."""

    def __init__(self) -> None:
        self.past_due: list[bool] = []
        self.changed = threading.Condition()

    def __call__(self, request) -> None:
        with self.changed:
            self.past_due.append(request.past_due)
            self.changed.notify_all()

    def wait_for(self, count: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: len(self.past_due) >= count, 60)


def now() -> datetime:
    return datetime.now(UTC)


def test_it_runs_when_due_and_no_more_once_stopped():
    runs = Runs()
    timer = Timer(Schedule.parse("* * * * * *"), None, runs, now)
    timer.start()
    assert runs.wait_for(2)
    timer.stop()
    timer.join(60)

    assert set(runs.past_due) == {False}


def test_an_occurrence_comes_once_though_the_wait_ends_early():
    """A wait is measured by another clock than the one that says what is due."""
    runs = Runs()
    early = at(START).replace(microsecond=990_000)
    timer = Timer(Schedule.parse("16 30 6 * * *"), None, runs, lambda: early)
    timer.start()
    assert runs.wait_for(1)
    threading.Event().wait(0.1)
    timer.stop()

    assert runs.past_due == [False]


def test_it_never_overlaps_itself_even_by_hand():
    inside, most, started = [], [], threading.Event()

    def run(_) -> None:
        inside.append(1)
        most.append(len(inside))
        started.set()
        threading.Event().wait(0.1)
        inside.pop()

    timer = Timer(Schedule.parse("0 0 0 1 1 *"), None, run, now)
    threads = [threading.Thread(target=timer.fire) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert started.wait(60)
    timer.join(60)
    for thread in threads:
        thread.join()

    assert most == [1, 1, 1]


def test_a_failing_run_does_not_end_the_timer():
    runs = Runs()

    def run(request) -> None:
        runs(request)
        raise RuntimeError("as asked")

    timer = Timer(Schedule.parse("* * * * * *"), None, run, now)
    timer.start()
    assert runs.wait_for(2)
    timer.stop()


def test_missed_occurrences_mean_one_run_past_due(azurite):
    monitor = Monitor(azurite, "missed")
    monitor.load()
    monitor.save(now() - timedelta(days=3))
    runs = Runs()
    timer = Timer(Schedule.parse("0 0 * * * *"), monitor, runs, now)
    timer.start()
    assert runs.wait_for(1)
    timer.stop()
    timer.join(60)

    assert runs.past_due == [True]


def test_a_first_start_and_a_quick_restart_are_not_past_due(azurite):
    runs = Runs()
    midnight = Schedule.parse("0 0 0 1 1 *")
    for _ in range(2):
        timer = Timer(midnight, Monitor(azurite, "fresh"), runs, now)
        timer.start()
        timer.stop()

    last = Monitor(azurite, "fresh").load()
    assert last is not None
    assert now() - last < timedelta(minutes=1)
    assert runs.past_due == []


def test_run_on_startup(azurite):
    runs = Runs()
    timer = Timer(Schedule.parse("0 0 0 1 1 *"), Monitor(azurite, "startup"), runs, now, run_on_startup=True)
    timer.start()
    assert runs.wait_for(1)
    timer.stop()

    assert runs.past_due == [False]


def test_a_run_that_cannot_be_noted_does_not_end_the_timer(empty_storage, caplog):
    runs = Runs()
    timer = Timer(Schedule.parse("* * * * * *"), Monitor(empty_storage, "tick"), runs, now)
    timer.start()
    with BlobServiceClient.from_connection_string(empty_storage) as blobs:
        blobs.delete_container("azure-webjobs-hosts")
    assert runs.wait_for(2)
    timer.stop()
    timer.join(60)

    assert "Cannot note the run of a timer" in caplog.text


def test_a_date_that_no_year_has_is_refused():
    with pytest.raises(BadSchedule, match="no day ever"):
        Schedule.parse("0 0 0 31 Feb,Apr,Jun,Sep,Nov *")
