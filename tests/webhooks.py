"""Graph's way to the webhooks of the app in this process: an HTTP server that hands on what is posted."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.house import House


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
