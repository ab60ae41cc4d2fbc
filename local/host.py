"""A local function host, for machines without Core Tools: `python -m local.host --app . --port 7071`.

It serves the HTTP, timer and queue functions of a folder as the Functions host 4 does, and nothing more.
"""

import argparse
import hmac
import json
import logging
import os
import re
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import parse_qsl

import azure.functions as func
from azure.core.exceptions import AzureError
from azure.storage.queue import QueueClient
from waitress import create_server
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser

from local.functions import HTTP, QUEUE, TIMER, Function, Refused, invocation, load
from local.queues import Listener, Options, check_queue_name, queue_message
from local.routes import BadTemplate, Template
from local.timers import BadSchedule, Monitor, Schedule, Timer

BODY_BYTES = 100 * 1024 * 1024
URL_BYTES = 8192
CONNECTIONS = 2000
GRACE_SECONDS = 5.0
DEFAULT_PORT = 7071
THREAD_COUNT = "PYTHON_THREADPOOL_THREAD_COUNT"
THREADS = 16
VERSION = "4.0-local"

Environ = Mapping[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]

logger = logging.getLogger("local.host")


@dataclass(frozen=True)
class Keys:
    function: str
    master: str

    @classmethod
    def load(cls, file: Path | None) -> "Keys":
        """Random ones; with `file` those that it keeps, made there where it is missing. A command line shows them to all."""
        if file is None:
            return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32))
        if not file.exists():
            made = cls.load(None)
            file.touch(mode=0o600)
            file.write_text(json.dumps({"key": made.function, "masterKey": made.master}))
        kept = json.loads(file.read_text())
        return cls(kept["key"], kept["masterKey"])

    def admit(self, level: str, environ: Environ) -> bool:
        """Whether the request carries a key of the level; a key in the header hides one in the query."""
        if level == "anonymous":
            return True
        query = dict(parse_qsl(environ["QUERY_STRING"]))
        sent = environ.get("HTTP_X_FUNCTIONS_KEY", query.get("code", "")).encode("latin-1", "replace")
        good = [self.master] if level == "admin" else [self.function, self.master]
        return sum(hmac.compare_digest(sent, key.encode()) for key in good) > 0


@dataclass(frozen=True)
class Route:
    function: Function
    template: Template
    methods: frozenset[str]

    @classmethod
    def of(cls, function: Function, prefix: str) -> "Route":
        text = function.trigger["route"]
        if text.startswith("/") and prefix:
            raise Refused(f"{function.name}: the route '{text}' begins with a slash")
        if text.strip("/").lower().startswith(("admin", "runtime")):
            raise Refused(f"{function.name}: the specified route conflicts with one or more built in routes")
        try:
            template = Template.compile("/".join(part for part in (prefix, text.strip("/")) if part))
        except BadTemplate as error:
            raise Refused(f"{function.name}: {error}") from error
        return cls(function, template, frozenset(function.trigger.get("methods") or ()))

    def clashes(self, other: "Route") -> bool:
        same = self.template.text.lower() == other.template.text.lower()
        return same and (not self.methods or not other.methods or bool(self.methods & other.methods))


class Web:
    """The WSGI application: functions behind their routes, and the host's own admin paths."""

    def __init__(self, routes: Sequence[Route], keys: Keys, by_hand: Mapping[str, Callable[[str], object]]) -> None:
        self._routes = routes
        self._keys = keys
        self._by_hand = by_hand
        self._started = monotonic()

    def __call__(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        status, headers, body = self._answer(environ)
        start(f"{status} {_phrase(status)}", headers)
        return [body]

    def _answer(self, environ: Environ) -> tuple[int, list[tuple[str, str]], bytes]:
        path = environ["PATH_INFO"].encode("latin-1").decode(errors="replace")
        if len(environ["REQUEST_URI"]) > URL_BYTES:
            return _empty(HTTPStatus.REQUEST_URI_TOO_LONG)
        if path.startswith("/admin/"):
            return self._admin(path, environ)
        for route in self._routes:
            values = route.template.match(path)
            if values is not None and (not route.methods or environ["REQUEST_METHOD"] in route.methods):
                if not self._keys.admit(route.function.trigger["authLevel"].lower(), environ):
                    return _empty(HTTPStatus.UNAUTHORIZED)
                return _call(route.function, _request(environ, values))
        return _empty(HTTPStatus.NOT_FOUND)

    def _admin(self, path: str, environ: Environ) -> tuple[int, list[tuple[str, str]], bytes]:
        if not self._keys.admit("admin", environ):
            return _empty(HTTPStatus.UNAUTHORIZED)
        named = re.fullmatch(r"/admin/functions/([^/]+)", path)
        if named and environ["REQUEST_METHOD"] == "POST":
            return self._run_by_hand(named[1], _body(environ))
        if path == "/admin/host/status" and environ["REQUEST_METHOD"] == "GET":
            uptime = int((monotonic() - self._started) * 1000)
            return _json({"id": "local", "state": "Running", "version": VERSION, "processUptime": uptime})
        return _empty(HTTPStatus.NOT_FOUND)

    def _run_by_hand(self, name: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        run = self._by_hand.get(name.lower())
        if run is None:
            return _empty(HTTPStatus.NOT_FOUND)
        try:
            given = json.loads(body).get("input", "")
        except (ValueError, AttributeError):
            return _empty(HTTPStatus.BAD_REQUEST)
        text = given if isinstance(given, str) else json.dumps(given)
        threading.Thread(target=run, args=(text,), daemon=True).start()
        return _empty(HTTPStatus.ACCEPTED)


def _empty(status: int) -> tuple[int, list[tuple[str, str]], bytes]:
    return status, [], b""


def _json(value: object) -> tuple[int, list[tuple[str, str]], bytes]:
    return HTTPStatus.OK, [("Content-Type", "application/json; charset=utf-8")], json.dumps(value).encode()


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"


def _body(environ: Environ) -> bytes:
    """The body, where a Content-Length announced it: the host hands over no other."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        return b""
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return body


def _request(environ: Environ, values: Mapping[str, str]) -> func.HttpRequest:
    headers = {key[5:].replace("_", "-"): value for key, value in environ.items() if key.startswith("HTTP_")}
    for key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(key):
            headers[key.replace("_", "-")] = environ[key]
    params: dict[str, str] = {}
    for key, value in parse_qsl(environ["QUERY_STRING"]):
        params[key] = f"{params[key]},{value}" if key in params else value
    return func.HttpRequest(
        environ["REQUEST_METHOD"],
        f"{environ['wsgi.url_scheme']}://{environ.get('HTTP_HOST', '')}{environ['REQUEST_URI']}",
        headers=headers,
        params=params,
        route_params=values,
        body=_body(environ),
    )


def _call(function: Function, request: func.HttpRequest) -> tuple[int, list[tuple[str, str]], bytes]:
    try:
        response = function.invoke(request, request.headers)
    except Exception:  # noqa: BLE001 - the host answers whatever a function raises with an empty 500
        return _empty(HTTPStatus.INTERNAL_SERVER_ERROR)
    if not isinstance(response, func.HttpResponse):
        logger.error("%s returned a %s and not an HttpResponse", function.name, type(response).__name__)
        return _empty(HTTPStatus.INTERNAL_SERVER_ERROR)
    headers = list(response.headers.items())
    if "content-type" not in response.headers:
        kind = response.mimetype
        headers.append(("Content-Type", f"{kind}; charset={response.charset}" if kind.startswith("text/") else kind))
    return response.status_code, headers, response.get_body()


class _Parser(HTTPRequestParser):  # type: ignore[misc] # waitress has no types
    """Leaves a mark on chunked bodies, which waitress would present like any other."""

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        if self.chunked:
            self.headers["TRANSFER_ENCODING"] = "chunked"


class _Channel(HTTPChannel):  # type: ignore[misc] # waitress has no types
    parser_class = _Parser


class Host:
    """Everything of one app that runs. It answers from the moment `start` returns."""

    def __init__(self, folder: Path, listening: socket.socket, keys: Keys, *, threads: int, timers: bool) -> None:
        settings = _host_json(folder)
        extensions = settings.get("extensions", {})
        functions = load(folder)
        prefix = extensions.get("http", {}).get("routePrefix", "api").strip("/")
        routes = [Route.of(each, prefix) for each in functions if each.trigger["type"] == HTTP]
        _refuse_clashes(routes)
        self._timers = {each.name: _timer(each) for each in functions if each.trigger["type"] == TIMER}
        queues = [each for each in functions if each.trigger["type"] == QUEUE]
        try:
            options = Options.read(extensions.get("queues", {}))
        except ValueError as error:
            raise Refused(f"host.json: {error}") from error
        self._active: list[Timer | Listener] = [_listener(each, options) for each in queues]
        if timers:
            self._active += self._timers.values()
        by_hand = {name.lower(): _timer_run(timer) for name, timer in self._timers.items()}
        by_hand |= {each.name.lower(): _queue_run(each) for each in queues}
        self.api = f"http://127.0.0.1:{listening.getsockname()[1]}{'/' + prefix if prefix else ''}"
        self._server = create_server(
            Web(routes, keys, by_hand),
            sockets=[listening],
            threads=threads,
            ident="",
            connection_limit=CONNECTIONS,
            asyncore_use_poll=True,
            max_request_body_size=BODY_BYTES,
            clear_untrusted_proxy_headers=False,
        )
        self._server.channel_class = _Channel

    def start(self) -> None:
        for each in self._active:
            each.start()
        threading.Thread(target=self._server.run, daemon=True).start()

    def stop(self) -> None:
        """Take no more work, and let what runs finish for up to GRACE_SECONDS."""
        deadline = monotonic() + GRACE_SECONDS
        self._server.accepting = False
        for each in self._active:
            each.stop()
        self._server.task_dispatcher.shutdown(timeout=GRACE_SECONDS)
        for each in self._active:
            each.join(max(0, deadline - monotonic()))
        while monotonic() < deadline and any(each.total_outbufs_len for each in self._server.active_channels.values()):
            threading.Event().wait(0.01)


def _host_json(folder: Path) -> Mapping[str, Any]:
    try:
        settings: dict[str, Any] = json.loads((folder / "host.json").read_text())
    except (OSError, ValueError) as error:
        raise Refused(f"host.json cannot be read: {error}") from error
    return settings


def _refuse_clashes(routes: Sequence[Route]) -> None:
    for index, route in enumerate(routes):
        for other in routes[:index]:
            if route.clashes(other):
                names = f"{other.function.name} and {route.function.name}"
                raise Refused(f"{names} have the same route and method: '{route.template.text}'")


def _timer(function: Function) -> Timer:
    try:
        schedule = Schedule.parse(function.trigger["schedule"])
    except BadSchedule as error:
        raise Refused(f"{function.name}: {error}") from error
    connection = _connection(function, "AzureWebJobsStorage")
    # The host keeps no status for a timer that ticks faster than once a minute.
    monitored = function.trigger.get("useMonitor") is not False and schedule.interval() >= timedelta(minutes=1)
    monitor = Monitor(connection, function.name) if monitored else None
    at_start = bool(function.trigger.get("runOnStartup"))
    return Timer(schedule, monitor, function.invoke, lambda: datetime.now(UTC), run_on_startup=at_start)


def _listener(function: Function, options: Options) -> Listener:
    connection, name = _connection(function, function.trigger["connection"]), function.trigger["queueName"]
    try:
        check_queue_name(name)
    except ValueError as error:
        raise Refused(f"{function.name}: {error}") from error
    queue = QueueClient.from_connection_string(connection, name)
    poison = None
    if not name.endswith("-poison"):
        poison = QueueClient.from_connection_string(connection, f"{name}-poison")
    return Listener(queue, poison, function.invoke, options)


def _connection(function: Function, setting: str) -> str:
    connection = os.environ.get(setting)
    if not connection:
        raise Refused(f"{function.name}: the setting '{setting}' must hold a storage connection string")
    return connection


def _timer_run(timer: Timer) -> Callable[[str], object]:
    return lambda _: timer.fire()


def _queue_run(function: Function) -> Callable[[str], object]:
    return lambda text: function.invoke(queue_message(text.encode(), dequeue_count=1))


class OneLine(logging.Formatter):
    """One line a record, with the function and the invocation that wrote it."""

    def format(self, record: logging.LogRecord) -> str:
        name, ident = invocation.get()
        text = f"{record.levelname} {name} {ident} {record.name}: {super().format(record)}"
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return f"{at} " + re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda found: repr(found[0])[1:-1], text)


def _configure_logging() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("azure").setLevel(logging.WARNING)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)


def _load_settings(path: Path, *, required: bool) -> None:
    """The `Values` of local.settings.json into the environment; what is set there already stays, as with Core Tools."""
    if not required and not path.exists():
        return
    try:
        values = json.loads(path.read_text()).get("Values", {})
    except (OSError, ValueError) as error:
        raise Refused(f"{path.name} cannot be read: {error}") from error
    for name, value in values.items():
        os.environ.setdefault(name, str(value))


def _listen(port: int | None, inherited: int | None) -> socket.socket:
    """The inherited listening socket, or a new one: without a chosen port on the first free one from DEFAULT_PORT on."""
    if inherited is not None:
        return socket.socket(fileno=inherited)
    for candidate in (port,) if port is not None else range(DEFAULT_PORT, DEFAULT_PORT + 100):
        try:
            listening = socket.create_server(("127.0.0.1", candidate))
        except OSError:
            continue
        if port is None and candidate != DEFAULT_PORT:
            sys.stderr.write(f"Port {DEFAULT_PORT} is in use; listening on {candidate}.\n")
        return listening
    raise Refused(f"port {DEFAULT_PORT if port is None else port} is in use")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.host", description=__doc__)
    parser.add_argument("--app", type=Path, default=Path(), help="folder of function_app.py and host.json")
    parser.add_argument("--port", type=int, help=f"default {DEFAULT_PORT} or the next free one; 0 is any free one")
    parser.add_argument("--socket", type=int, metavar="FD", help="an inherited socket to listen on, in place of a port")
    parser.add_argument("--settings", type=Path, help="default local.settings.json of the folder")
    parser.add_argument("--keys", type=Path, metavar="FILE", help="keeps the keys between starts; default random ones")
    parser.add_argument("--threads", type=int, help=f"HTTP requests at a time; default {THREADS} or {THREAD_COUNT}")
    parser.add_argument("--no-timers", action="store_true", help="timers run by hand only")
    parser.add_argument("--with-parent", action="store_true", help="stop when standard input ends")
    return parser.parse_args(argv)


def _stop_at_end_of_input(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    answer_to, sys.stdout = sys.stdout, sys.stderr
    _configure_logging()
    keys = Keys.load(arguments.keys)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        folder = arguments.app.resolve()
        _load_settings(arguments.settings or folder / "local.settings.json", required=arguments.settings is not None)
        listening = _listen(arguments.port, arguments.socket)
        threads = arguments.threads or int(os.environ.get(THREAD_COUNT) or THREADS)
        host = Host(folder, listening, keys, threads=threads, timers=not arguments.no_timers)
        host.start()
    except (Refused, AzureError) as error:
        sys.stderr.write(f"The host cannot start: {error}\n")
        return 2
    if arguments.with_parent:
        threading.Thread(target=_stop_at_end_of_input, args=(stop,), daemon=True).start()
    print(json.dumps({"api": host.api, "key": keys.function, "masterKey": keys.master}), file=answer_to, flush=True)
    stop.wait()
    host.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
