"""What the tests of the simulated Exchange share: events, rounds of delta, and a receiver of notifications."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.cloud import TestTenant

Json = dict[str, Any]
CALENDARS = ["Calendars.ReadWrite", "Place.Read.All"]
IMMUTABLE = {"Prefer": 'IdType="ImmutableId"'}
ONE_NOTICE = {"notificationCopies": [1, 1]}


def day(offset: int) -> str:
    """The date so many days after the Monday of the week after next."""
    today = datetime.now(UTC).date()
    return (today + timedelta(days=14 - today.weekday() + offset)).isoformat()


def at(on: int, hour: int, minute: int = 0, zone: str = "UTC") -> Json:
    return {"dateTime": f"{day(on)}T{hour:02}:{minute:02}:00", "timeZone": zone}


def event(subject: str = "Planning", on: int = 0, hour: int = 9, zone: str = "UTC", **more: Any) -> Json:
    """The body of an event of one hour."""
    return {"subject": subject, "start": at(on, hour, zone=zone), "end": at(on, hour + 1, zone=zone), **more}


def inviting(*rooms: Json) -> Json:
    return {"attendees": [{"type": "resource", "emailAddress": {"address": each["emailAddress"]}} for each in rooms]}


def weekly(on: int = 0, count: int = 4, days: tuple[str, ...] = ("monday",)) -> Json:
    pattern = {"type": "weekly", "interval": 1, "daysOfWeek": list(days)}
    return {"pattern": pattern, "range": {"type": "numbered", "startDate": day(on), "numberOfOccurrences": count}}


def window(since: int = -30, until: int = 200) -> str:
    return f"startDateTime={day(since)}T00:00:00Z&endDateTime={day(until)}T00:00:00Z"


def view_delta(room: Json, since: int = -30, until: int = 200) -> str:
    return f"/users/{room['emailAddress']}/calendarView/delta?{window(since, until)}"


def round_of(graph: Any, url: str, **headers: str) -> tuple[list[Json], str]:
    """All rows of a delta round, and its delta link."""
    rows: list[Json] = []
    while True:
        answer = graph.get(url, headers=IMMUTABLE | headers)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        rows += page["value"]
        if "@odata.deltaLink" in page:
            return rows, page["@odata.deltaLink"]
        url = page["@odata.nextLink"]


def instances(graph: Any, room: Json, master_id: str, **options: str) -> list[Json]:
    more = "".join(f"&${name}={value}" for name, value in options.items())
    url = f"/users/{room['id']}/events/{master_id}/instances?{window()}&$top=1000{more}"
    found: list[Json] = graph.get(url, headers=IMMUTABLE).json()["value"]
    return found


def rooms_of(tenant: TestTenant) -> list[Json]:
    found: list[Json] = tenant.control.get("rooms")
    return found


def people_of(tenant: TestTenant) -> list[Json]:
    found: list[Json] = tenant.control.get("users")
    return found


def starts(events: list[Json]) -> list[str]:
    return [each["start"]["dateTime"][:16] for each in events]


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@dataclass
class Receiver:
    """A webhook on this machine. `echo` False: it does not answer the handshake as it should; `statuses` are answered
    in turn, then 202; `pause`: seconds before each answer."""

    url: str = ""
    handshakes: list[Json] = field(default_factory=list)
    posts: list[Json] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    echo: Callable[[str], tuple[int, str, str]] = lambda token: (200, "text/plain", token)
    pause: float = 0

    @property
    def items(self) -> list[Json]:
        return [item for post in self.posts for item in post["value"]]

    def wait_for(self, count: int, seconds: float = 60) -> list[Json]:
        """The items received, once there are so many."""
        end = time.monotonic() + seconds
        while len(self.items) < count:
            assert time.monotonic() < end, f"{len(self.items)} of {count} notifications came"
            time.sleep(0.01)
        return self.items


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A running receiver."""
    told = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = parse_qs(urlsplit(self.path).query)
            time.sleep(told.pause)
            if "validationToken" in query:
                token = query["validationToken"][0]
                told.handshakes.append({"path": self.path, "token": token, "type": self.headers["Content-Type"]})
                self._send(*told.echo(token))
            else:
                told.posts.append(json.loads(content) | {"path": self.path})
                self._send(told.statuses.pop(0) if told.statuses else 202, "text/plain", "")

        def _send(self, status: int, content_type: str, text: str) -> None:
            with suppress(ConnectionError):  # the sender has given up waiting
                self._write(status, content_type, text)

        def _write(self, status: int, content_type: str, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}/notify?code=abc"
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def subscribe(graph: Any, mailbox: str, url: str, **more: Any) -> Any:
    """POST /subscriptions for the events of a mailbox; None takes a property away."""
    expires = (datetime.now(UTC) + timedelta(days=2)).isoformat().replace("+00:00", "Z")
    body = {
        "changeType": "created,updated,deleted",
        "notificationUrl": url,
        "lifecycleNotificationUrl": url.replace("/notify", "/lifecycle"),
        "resource": f"users/{mailbox}/events",
        "expirationDateTime": expires,
        "clientState": "between us",
    } | more
    wanted = {name: value for name, value in body.items() if value is not None}
    return graph.post("/subscriptions", json=wanted, headers=IMMUTABLE)
