"""Every error the product raises on purpose.

Callers branch on the class or on `code`, never on the text. `detail` says what happened, `remedy` what a
person can do about it; neither ever holds a secret, a name or a value that came from outside.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime


class TenantsyncError(Exception):
    """Base of the tree: a stable `code`, the HTTP `status` it becomes, and whether a retry can help."""

    code = "internal-error"
    status = 500
    permanent = True

    def __init__(self, detail: str, *, remedy: str = "", code: str | None = None, status: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.remedy = remedy
        self.code = code or self.code
        self.status = status or self.status


class RequestError(TenantsyncError):
    """The caller's request cannot be served: a 4xx. `fields` names every bad field as (JSON pointer, why)."""

    code = "invalid-request"
    status = 422

    def __init__(
        self,
        detail: str,
        *,
        remedy: str = "",
        code: str | None = None,
        status: int | None = None,
        fields: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail, remedy=remedy, code=code, status=status)
        self.fields = tuple(fields)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


class SignInError(TenantsyncError):
    """Entra refused the credential. `aadsts` is its number, such as 7000222, or None where it sent none."""

    code = "sign-in-failed"
    status = 502

    def __init__(self, detail: str, *, remedy: str, code: str, aadsts: int | None, expired: bool = False) -> None:
        super().__init__(detail, remedy=remedy, code=code)
        self.aadsts = aadsts
        self.expired = expired


class GraphError(TenantsyncError):
    """Graph refused a request for good. `http` is its status, `graph_code` its `error.code`, if any."""

    code = "graph-error"
    status = 502

    def __init__(self, detail: str, *, http: int, graph_code: str, remedy: str = "", code: str | None = None) -> None:
        super().__init__(detail, remedy=remedy, code=code)
        self.http = http
        self.graph_code = graph_code


class NotFound(GraphError):
    """Graph answered 404: the object is not there."""

    code = "graph-not-found"


class GroupNotFound(NotFound):
    """The group that the settings of a sync name is not there."""

    code = "group-not-found"

    def __init__(self, cause: GraphError) -> None:
        super().__init__(
            "The group that the settings name is not there",
            http=cause.http,
            graph_code=cause.graph_code,
            remedy="Copy the group's object id from its overview page in the Entra admin center into the settings.",
        )


class Forbidden(GraphError):
    """Graph answered 403: a permission is missing, or the object is outside the app's scope."""

    code = "graph-forbidden"


class Changed(GraphError):
    """Graph answered 412, or 409 ErrorIrresolvableConflict: the object is not the version that the request names any more."""

    code = "graph-changed"


class CursorExpired(GraphError):
    """A delta link or page link no longer works: start a full read."""

    code = "graph-cursor-expired"


class Deferred(TenantsyncError):
    """Not now: Graph, Entra or the vault asks for a pause that is longer than a worker may sleep.

    `until` is when to try again (UTC). `throttled` tells a wait that was asked for from a fault.
    """

    code = "deferred"
    status = 503
    permanent = False

    def __init__(self, detail: str, *, until: datetime, code: str | None = None, throttled: bool = False) -> None:
        super().__init__(detail, code=code, remedy="Nothing to do: it is tried again by itself.")
        self.until = until
        self.throttled = throttled


class LeaseLost(TenantsyncError):
    """Another worker holds the run now: stop without a trace."""

    code = "lease-lost"
    permanent = False


class Cancelled(TenantsyncError):
    """Somebody asked for the run to be stopped."""

    code = "cancelled"
