"""Blobs and queues on the real protocols."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueServiceClient

from storage.blobs import Blobs
from storage.queues import MANUAL, MAX_DELAY_SECONDS, SCHEDULED, Queues
from storage.tables import encode_key

NOWHERE = (
    "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;"
    "BlobEndpoint=http://127.0.0.1:9/a;QueueEndpoint=http://127.0.0.1:9/a;"
)


@pytest.fixture(scope="module")
def service(azurite: str) -> BlobServiceClient:
    return BlobServiceClient.from_connection_string(azurite)


@pytest.fixture(scope="module")
def blobs(service: BlobServiceClient) -> Blobs:
    made = Blobs(service, "storage-tests")
    made.create()
    return made


class TestBlobs:
    @pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", bytes(range(256)) * 20_000], ids=["empty", "small", "5 MB"])
    def test_bytes_come_back(self, blobs: Blobs, data: bytes) -> None:
        """What was saved is loaded, byte for byte."""
        blobs.save("bytes/one", data, "image/jpeg")

        assert blobs.load("bytes/one") == data

    def test_saving_again(self, blobs: Blobs, service: BlobServiceClient) -> None:
        """A second save takes the place of the first, its content type too."""
        blobs.save("again/one", b"jpeg", "image/jpeg")
        blobs.save("again/one", b"png", "image/png")

        properties = service.get_blob_client("storage-tests", "again/one").get_blob_properties()
        assert (blobs.load("again/one"), properties.content_settings.content_type) == (b"png", "image/png")

    def test_what_is_not_there(self, blobs: Blobs) -> None:
        """A missing blob loads as None, and deleting it is fine."""
        blobs.save("gone/one", b"x", "image/png")
        blobs.delete("gone/one")
        blobs.delete("gone/one")

        assert blobs.load("gone/one") is None

    def test_everything_under_a_prefix(self, blobs: Blobs) -> None:
        """`delete_all` takes what begins with the prefix, and neither a neighbour nor a longer name."""
        for name in ("all/1", "all/2/3", "all-other/1", "al"):
            blobs.save(name, b"x", "image/png")

        assert blobs.delete_all("all/") == 2
        assert [blobs.load(name) for name in ("all/1", "all/2/3", "all-other/1", "al")] == [None, None, b"x", b"x"]
        assert blobs.delete_all("all/") == 0

    @pytest.mark.parametrize("text", ["../up", "a b?c#d%", "é😀", "x" * 200, "a.b", "~"])
    def test_any_text_names_a_blob(self, blobs: Blobs, text: str) -> None:
        """An encoded text is a name of its own, also one that a URL would take apart."""
        name = f"names/{encode_key(text)}/end"
        blobs.save(name, text.encode(), "image/png")

        assert blobs.load(name) == text.encode()

    def test_the_container(self, blobs: Blobs, service: BlobServiceClient) -> None:
        """Making it again keeps what is in it; a ping is answered whether it is there or not."""
        blobs.save("kept/one", b"x", "image/png")
        blobs.create()
        blobs.ping()
        Blobs(service, "never-made").ping()

        assert blobs.load("kept/one") == b"x"

    def test_storage_that_does_not_answer(self) -> None:
        """The ping of an account that cannot be reached raises the SDK's error."""
        with pytest.raises(AzureError):
            Blobs(BlobServiceClient.from_connection_string(NOWHERE, retry_total=0), "photos").ping()


@pytest.fixture
def account(empty_storage: str) -> QueueServiceClient:
    return QueueServiceClient.from_connection_string(empty_storage)


@pytest.fixture
def queues(account: QueueServiceClient) -> Queues:
    made = Queues(account)
    made.create()
    return made


@pytest.fixture
def received(account: QueueServiceClient) -> Callable[[str], list[Any]]:
    """The messages that can be seen, as the Functions host reads them."""
    return lambda name: [
        json.loads(base64.b64decode(message.content))
        for message in account.get_queue_client(name).receive_messages(max_messages=32)
    ]


class TestQueues:
    def test_messages_arrive(self, queues: Queues, received: Callable[[str], list[Any]]) -> None:
        """A message is on the queue it was sent to and on no other, in base64 as host.json tells the host."""
        queues.send(MANUAL, {"connection": "a", "run": "1"})
        queues.send(SCHEDULED, {"connection": "é😀", "run": "2"})

        assert received(MANUAL) == [{"connection": "a", "run": "1"}]
        assert received(SCHEDULED) == [{"connection": "é😀", "run": "2"}]

    def test_a_delayed_message(self, queues: Queues, received: Callable[[str], list[Any]]) -> None:
        """A message with a delay is not seen before it has passed, and is seen then."""
        queues.send(MANUAL, {"run": "later"}, delay_seconds=2)
        queues.send(MANUAL, {"run": "now"})
        assert received(MANUAL) == [{"run": "now"}]

        until = time.monotonic() + 30
        while not (seen := received(MANUAL)) and time.monotonic() < until:
            time.sleep(0.1)

        assert seen == [{"run": "later"}]

    @pytest.mark.parametrize(("delay", "seen"), [(-5, 1), (0, 1), (0.4, 1), (10**9, 0), (MAX_DELAY_SECONDS, 0)])
    def test_delays_that_a_queue_does_not_know(
        self, queues: Queues, received: Callable[[str], list[Any]], delay: float, seen: int
    ) -> None:
        """A delay below zero is none, one beyond a message's life is cut to it; neither is an error."""
        queues.send(SCHEDULED, {"run": "1"}, delay_seconds=delay)

        assert len(received(SCHEDULED)) == seen

    def test_making_the_queues(self, account: QueueServiceClient, received: Callable[[str], list[Any]]) -> None:
        """Making them again keeps their messages; a ping is answered before and after."""
        queues = Queues(account)
        queues.ping()
        queues.create()
        queues.send(MANUAL, {"run": "1"})
        queues.create()
        queues.ping()

        assert received(MANUAL) == [{"run": "1"}]

    def test_a_queue_that_was_never_made(self, account: QueueServiceClient) -> None:
        """Sending to a queue that does not exist is an error, not a lost message."""
        with pytest.raises(ResourceNotFoundError):
            Queues(account, prefix="other-").send(MANUAL, {})

    def test_storage_that_does_not_answer(self) -> None:
        """The ping of an account that cannot be reached raises the SDK's error."""
        with pytest.raises(AzureError):
            Queues(QueueServiceClient.from_connection_string(NOWHERE, retry_total=0)).ping()
