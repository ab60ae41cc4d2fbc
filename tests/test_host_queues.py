"""The local host's queue trigger on real storage queues."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue import QueueClient, TextBase64EncodePolicy

from local.queues import Listener, Options, check_queue_name
from tests.hosts import SECONDS, eventually


class Jobs:
    """A queue of its own, its poison queue, and a function that does what its messages say.

    A job that says `held` goes on when the test releases one.
    """

    def __init__(self, connection: str) -> None:
        name = f"jobs-{uuid4()}"
        self.queue = QueueClient.from_connection_string(connection, name)
        self.poison = QueueClient.from_connection_string(connection, f"{name}-poison")
        self.seen: list[tuple[str, int]] = []
        self.now, self.most = 0, 0
        self.changed = threading.Condition()
        self.released = threading.Semaphore(0)

    def send(self, **job: object) -> None:
        self.queue.send_message(TextBase64EncodePolicy().encode(json.dumps(job)))

    def run(self, message) -> None:
        job = message.get_json()
        with self.changed:
            self.seen.append((job["name"], message.dequeue_count))
            self.now += 1
            self.most = max(self.most, self.now)
            self.changed.notify_all()
        if job.get("held"):
            assert self.released.acquire(timeout=SECONDS)
        with self.changed:
            self.now -= 1
            self.changed.notify_all()
        if message.dequeue_count <= job.get("failures", 0):
            raise RuntimeError("as asked")

    def wait_for(self, holds: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(holds, SECONDS)

    def attempts(self, name: str) -> list[int]:
        return [attempt for each, attempt in self.seen if each == name]

    @contextmanager
    def served(self, options: Options, *, poison: bool = True, hidden_seconds: int = 600) -> Iterator[Listener]:
        listener = Listener(self.queue, self.poison if poison else None, self.run, options, hidden_seconds)
        listener.start()
        try:
            yield listener
        finally:
            listener.stop()
            listener.join(SECONDS)


@pytest.fixture
def jobs(azurite) -> Iterator[Jobs]:
    made = Jobs(azurite)
    with made.queue, made.poison:
        made.queue.create_queue()
        yield made


def options(**section: object) -> Options:
    return Options.read({"batchSize": 4, "newBatchThreshold": 0, "maxDequeueCount": 3, **section})


def left(queue: QueueClient) -> int:
    return queue.get_queue_properties().approximate_message_count or 0


def test_success_deletes_the_message(jobs):
    jobs.send(name="a")
    with jobs.served(options()):
        jobs.wait_for(lambda: jobs.attempts("a") == [1])
        eventually(lambda: left(jobs.queue) == 0)


def test_a_missing_queue_is_created(azurite):
    jobs = Jobs(azurite)
    with jobs.queue, jobs.poison, jobs.served(options()):
        jobs.send(name="a")
        jobs.wait_for(lambda: jobs.attempts("a") == [1])


def test_a_failure_comes_back_and_may_succeed_later(jobs):
    jobs.send(name="a", failures=2)
    with jobs.served(options()):
        jobs.wait_for(lambda: jobs.attempts("a") == [1, 2, 3])
        eventually(lambda: left(jobs.queue) == 0)
    with pytest.raises(ResourceNotFoundError):
        jobs.poison.get_queue_properties()


def test_the_last_allowed_failure_goes_to_the_poison_queue_unchanged(jobs):
    jobs.send(name="bad", failures=99)
    raw = jobs.queue.peek_messages()[0].content
    with jobs.served(options()):
        jobs.wait_for(lambda: jobs.attempts("bad") == [1, 2, 3])
        eventually(lambda: left(jobs.queue) == 0)

    assert [each.content for each in jobs.poison.peek_messages(max_messages=5)] == [raw]
    assert jobs.attempts("bad") == [1, 2, 3]


def test_a_failed_message_waits_for_the_visibility_timeout(jobs):
    jobs.send(name="a", failures=1)
    with jobs.served(options(visibilityTimeout="00:00:02")):
        jobs.wait_for(lambda: jobs.attempts("a") == [1])
        failed = time.monotonic()
        jobs.wait_for(lambda: jobs.attempts("a") == [1, 2])

    assert time.monotonic() - failed > 1


def test_a_message_that_crashed_the_host_too_often_is_not_tried_again(jobs):
    """Nothing ended those attempts, so nothing moved it to the poison queue."""
    jobs.send(name="killer")
    for _ in range(3):
        taken = jobs.queue.receive_message()
        jobs.queue.update_message(taken, visibility_timeout=0)
    with jobs.served(options()):
        eventually(lambda: left(jobs.queue) == 0)

    assert jobs.seen == []
    assert left(jobs.poison) == 1


def test_what_is_not_base64_goes_to_the_poison_queue_at_once(jobs):
    jobs.queue.send_message("{not base64}")
    with jobs.served(options()):
        eventually(lambda: left(jobs.queue) == 0)

    assert jobs.seen == []
    assert jobs.poison.peek_messages()[0].content == "{not base64}"


def test_messages_may_travel_unencoded(jobs):
    jobs.queue.send_message('{"name": "plain"}')
    with jobs.served(options(messageEncoding="none")):
        jobs.wait_for(lambda: jobs.attempts("plain") == [1])


def test_without_a_poison_queue_a_failure_stays_hidden(jobs):
    jobs.send(name="a", failures=99)
    with jobs.served(options(), poison=False):
        jobs.wait_for(lambda: jobs.attempts("a") == [1])

    assert jobs.queue.peek_messages() == []
    assert left(jobs.queue) == 1


def test_a_long_run_keeps_its_message_hidden(jobs, monkeypatch):
    """Hidden for 3 seconds at a time: at its third renewal it would have come back, were it not for the first two."""
    renewals = threading.Semaphore(0)
    plain = jobs.queue.update_message

    def update(*args, **options):
        done = plain(*args, **options)
        renewals.release()
        return done

    monkeypatch.setattr(jobs.queue, "update_message", update)
    jobs.send(name="long", held=True)
    with jobs.served(options(newBatchThreshold=2), hidden_seconds=3):
        for _ in range(3):
            assert renewals.acquire(timeout=SECONDS)
        jobs.released.release()
        eventually(lambda: left(jobs.queue) == 0)

    assert jobs.attempts("long") == [1]


@pytest.mark.parametrize(
    ("size", "threshold", "most"),
    [(1, 0, [(0, 1), (1, 1)]), (4, 0, [(0, 4), (4, 4)]), (4, 2, [(0, 4), (1, 3), (1, 6)])],
)
def test_as_many_at_once_as_batch_size_and_threshold_allow(jobs, size, threshold, most):
    """`most`: when so many have ended, so many run."""
    for number in range(12):
        jobs.send(name=str(number), held=True)
    with jobs.served(options(batchSize=size, newBatchThreshold=threshold)):
        for ended, running in most:
            for _ in range(ended):
                jobs.released.release()
            jobs.wait_for(lambda running=running: jobs.now == running)
        jobs.released.release(12)
        eventually(lambda: left(jobs.queue) == 0)

    assert len(jobs.seen) == 12
    assert jobs.most == max(running for _, running in most)


def test_stopping_lets_the_run_finish_and_takes_no_more(jobs):
    jobs.send(name="first", held=True)
    with jobs.served(options(batchSize=1)) as listener:
        jobs.wait_for(lambda: len(jobs.seen) == 1)
        jobs.send(name="second")
        listener.stop()
        jobs.released.release()
        listener.join(SECONDS)

        assert jobs.now == 0
    assert [name for name, _ in jobs.seen] == ["first"]
    assert left(jobs.queue) == 1


def test_stopping_frees_the_message_of_a_run_that_takes_too_long(jobs):
    jobs.send(name="long", held=True)
    with jobs.served(options()) as listener:
        jobs.wait_for(lambda: len(jobs.seen) == 1)
        assert jobs.queue.peek_messages() == []
        listener.stop()
        listener.join(0.1)

        assert len(jobs.queue.peek_messages()) == 1
        jobs.released.release()


def test_a_queue_that_went_away_is_served_again_once_it_is_back(jobs, caplog):
    with jobs.served(options()):
        jobs.queue.delete_queue()
        eventually(lambda: f"Cannot read the queue {jobs.queue.queue_name}" in caplog.text)
        jobs.queue.create_queue()
        jobs.send(name="a")
        jobs.wait_for(lambda: jobs.attempts("a") == [1])


def test_a_message_that_went_away_while_it_ran_hurts_nobody(jobs, caplog):
    jobs.send(name="gone", held=True)
    with jobs.served(options(), hidden_seconds=1):
        jobs.wait_for(lambda: len(jobs.seen) == 1)
        jobs.queue.clear_messages()
        eventually(lambda: f"Cannot hide a message of {jobs.queue.queue_name}" in caplog.text)
        jobs.released.release()
        eventually(lambda: f"Cannot end a message of {jobs.queue.queue_name}" in caplog.text)
        jobs.send(name="next")
        jobs.wait_for(lambda: jobs.attempts("next") == [1])


def test_options_of_host_json():
    assert Options.read({}) == Options(16, 8, 5, 0, encoded=True)
    assert Options.read({"batchSize": 4, "visibilityTimeout": "00:01:30"}) == Options(4, 2, 5, 90, encoded=True)
    assert Options.read({"visibilityTimeout": "1.00:00:00", "messageEncoding": "none"}).retry_seconds == 86_400


@pytest.mark.parametrize("section", [{"batchSize": 0}, {"batchSize": 33}, {"visibilityTimeout": "30"}])
def test_options_that_the_host_refuses(section):
    with pytest.raises(ValueError, match=r"batchSize|time span"):
        Options.read(section)


@pytest.mark.parametrize("name", ["ab", "Jobs", "a--b", "-ab", "ab-", "a_b", "x" * 64])
def test_queue_names_that_storage_refuses(name):
    check_queue_name("sync-jobs2")
    with pytest.raises(ValueError, match="not a valid queue name"):
        check_queue_name(name)
