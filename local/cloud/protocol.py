"""One call to Graph, alone or inside a batch, its answer, and the table of routes that the subjects fill."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, unquote
from uuid import uuid4

from local.cloud.tenants import Tenant

VERSION = "v1.0"
READ_DIRECTORY = frozenset({"Directory.Read.All", "Directory.ReadWrite.All"})


@dataclass
class Call:
    """`path` is decoded and starts after the version; query names keep their `$`; header names are lower case.

    `mailboxes` holds the mailboxes that this HTTP request keeps busy until it is answered; `mailbox` is the one that
    this call is about: its address, or how the call names it where there is none. `lost`: the client will not see the
    answer, because its connection is cut.
    """

    method: str
    url: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes
    host: str
    tenant: Tenant
    app_id: str
    roles: frozenset[str]
    now: datetime
    request_id: str = field(default_factory=lambda: str(uuid4()))
    retried: bool = False
    in_batch: bool = False
    lost: bool = False
    mailbox: str | None = None
    mailboxes: list[str] = field(default_factory=list)

    @property
    def base(self) -> str:
        """The version root as the client addressed it."""
        return f"https://{self.host}/{VERSION}"

    @property
    def advanced(self) -> bool:
        """Whether the client asked for eventual consistency (Learn: Advanced query capabilities)."""
        return self.headers.get("consistencylevel", "").lower() == "eventual"


@dataclass
class Answer:
    """`body` is JSON data, or bytes or text for `content_type`."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = (
        "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8"
    )


class Refused(Exception):
    """Graph's answer to a call that it does not serve."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, dict(headers or {})

    def answer(self, headers: Mapping[str, str], request_id: str, now: datetime) -> Answer:
        """`headers` are those of the refused request."""
        inner = {"date": now.strftime("%Y-%m-%dT%H:%M:%S"), "request-id": request_id}
        inner["client-request-id"] = headers.get("client-request-id", request_id)
        error = {"code": self.code, "message": self.message, "innerError": inner}
        return Answer(self.status, {"error": error}, self.headers)


Handler = Callable[..., Answer | Awaitable[Answer]]


@dataclass(frozen=True)
class Route:
    """`roles`: any one of them suffices, none needed if empty. `units`: the cost before query options change it.
    `mailbox` marks calls that Outlook serves, with its own limits and its own refusal. `quota`: of the calls that share
    this name, an app has so many in so many seconds."""

    method: str
    template: str
    handler: Handler
    roles: frozenset[str] = frozenset()
    units: int = 1
    mailbox: bool = False
    quota: tuple[str, int, float] | None = None

    @property
    def name(self) -> str:
        return f"{self.method} /{self.template}"

    def admit(self, call: Call) -> None:
        if not self.roles or self.roles & call.roles:
            return
        if self.mailbox:
            raise Refused(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
        raise Refused(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")

    def cost(self, call: Call) -> int:
        """Resource units (Learn: Identity and access service limits); a batch costs what its items do."""
        if not self.units:
            return 0
        top = call.query.get("$top", "")
        cost = self.units - ("$select" in call.query) + ("$expand" in call.query)
        return max(1, cost - (top.isdecimal() and int(top) < 20))


class Routes:
    """Finds the route of a call; where templates overlap, the first one wins."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = [(re.compile(_pattern(route.template)), route) for route in routes]

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route and its parameters, or Refused where Graph has no such path or method."""
        known = False
        for pattern, route in self._routes:
            if match := pattern.fullmatch(path):
                known = True
                if route.method == method:
                    return route, match.groupdict()
        if known:
            raise Refused(405, "Request_BadRequest", "Specified HTTP method is not allowed for the request target.")
        raise Refused(400, "BadRequest", f"Resource not found for the segment '{path.split('/', maxsplit=1)[0]}'.")


def _pattern(template: str) -> str:
    parts = re.split(r"\{(\w+)\}", template)
    return "".join(f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part) for index, part in enumerate(parts))


def split_url(url: str) -> tuple[str, dict[str, str]]:
    """Decoded path without its first slash, and query options.

    `$` may be left out of Graph's own option names, and a function may be written as a call, as in users/delta().
    """
    path, _, query = url.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    return unquote(path).strip("/").removesuffix("()"), {
        name if name.startswith("$") else f"${name}": each for name, each in options.items()
    }
