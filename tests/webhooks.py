"""Rooms with subscriptions for tests, and Graph's way to the webhooks of the app in this process."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from sync import jobs
from sync.calendars import store
from sync.calendars.model import Room, RoomState
from sync.subscriptions import Subscriber
from sync.sync_settings import CalendarsSettings
from tests.cloud import NewTenant, TestTenant
from tests.contents import contents
from tests.house import House

NAME = "primary"
CALENDARS = ["Calendars.ReadWrite", "Place.Read.All"]
SINCE = datetime(2026, 11, 26, 12, tzinfo=UTC)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        path, query = urlsplit(self.path).path, dict(parse_qsl(urlsplit(self.path).query))
        asked = "".join(f"?{name}={value}" for name, value in query.items())
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server = self.server
        assert isinstance(server, Server)
        server.posts += 1
        answer = server.house.call("POST", path.removeprefix("/api/") + asked, raw)
        self.send_response(answer.status)
        self.send_header("Content-Type", f"{answer.headers['Content-Type']}; charset=utf-8")
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *_: object) -> None:
        """Nothing: a test's output is its own."""


class Server(ThreadingHTTPServer):
    """`house` is who answers; `posts` counts what came."""

    house: House
    posts = 0
    daemon_threads = True

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api"


@pytest.fixture
def webhooks() -> Iterator[Server]:
    """A server that listens already; it answers once it has a house."""
    with Server(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def listening(build_house: Callable[..., House], webhooks: Server) -> House:
    """A house that Graph can reach."""
    webhooks.house = build_house(webhook_base_url=webhooks.base_url)
    return webhooks.house


@pytest.fixture
def reachable(listening: House, new_tenant: NewTenant) -> House:
    """A house that Graph can reach, with a connection to a tenant of three rooms whose calendars are synced."""
    connect(listening, new_tenant(rooms=3, eventsPerRoom=1, roles=CALENDARS), NAME)
    return listening


def connect(house: House, tenant: TestTenant, name: str) -> None:
    house.connect(tenant, name)
    settings = CalendarsSettings.model_validate({"enabled": True, "schedule": {"mode": "manual"}})
    jobs.save_settings(house.app, name, "calendars", settings, None)


def room(house: House, number: int = 0, name: str = NAME) -> Room:
    """One of the tenant's rooms as an admin links it."""
    mailbox = house.tenants[name].control.get("rooms")[number]["emailAddress"]
    return Room(f"room {number}", "Oak", "office365", mailbox.lower(), active=True, time_zone="UTC", since=SINCE)


def subscriber(house: House, name: str = NAME) -> Subscriber:
    graph = house.app.graph(name, deadline=house.clock() + timedelta(minutes=5))
    graph._sleep = lambda _: None
    return Subscriber(graph, house.app, name)


def subscribed(house: House, number: int = 0, name: str = NAME) -> RoomState:
    """The state of a room whose subscription was just made."""
    return subscriber(house, name).keep(room(house, number, name), RoomState(), house.clock())


def at_graph(house: House, name: str = NAME) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = house.tenants[name].control.get("subscriptions")
    return found


def senders(house: House) -> list[dict[str, Any]]:
    return list(contents(house).rows["subscriptions"])


def index(house: House, name: str = NAME) -> list[str]:
    return [row["digest"] for row in house.app.tables.data.scan(name, "subscription|")]


def requests(house: House) -> int:
    """Graph requests since the counters were last set to nothing."""
    return int(house.tenants[NAME].control.get("counters")["graph"]["requests"])


def heard(house: House, name: str = NAME) -> dict[str, set[str]]:
    rows = house.app.tables.data.scan(name, store.WAITS)
    return {row["key"].split("|")[1]: {flag for flag in ("renew", "recreate") if row.get(flag)} for row in rows}


def subscribed_of(house: House, here: Room, before: RoomState) -> RoomState:
    return subscriber(house).keep(here, before, house.clock())
