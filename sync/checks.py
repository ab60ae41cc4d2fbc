"""Check connection: the findings an admin can act on, always in the same order.

    secret, token, tenant, permissions, call, places, calendar, scope, expiry

Nothing after `token` is tried once sign-in fails.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal

from storage.tables import Conflict
from sync import connections
from sync.calendars import checking
from sync.connections import Connection
from sync.errors import Deferred, Forbidden, GraphError, SignInError, TenantsyncError
from sync.graph.signin import roles, tenant_id
from sync.models import CheckOut, FindingOut, PermissionsOut, TenantOut
from sync.permissions import Verdict, judge
from sync.runs import SETTINGS

if TYPE_CHECKING:
    from sync.graph.client import GraphClient
    from sync.wiring import App

WARN_DAYS = 30
APPLICATIONS = "Application.Read.All"
_DIRECTORY = frozenset({"Directory.Read.All", "Directory.ReadWrite.All"})
_READERS = {
    "users": _DIRECTORY | {"User.Read.All", "User.ReadWrite.All"},
    "devices": frozenset({"Device.Read.All", "Device.ReadWrite.All"}),
}


@dataclass
class _Report:
    """What a check has found so far."""

    findings: list[FindingOut] = field(default_factory=list)
    tenant: TenantOut | None = None
    verdict: Verdict = field(default_factory=lambda: judge(frozenset(), ()))
    failed: Literal["failed", "expired"] | None = None
    expires_on: str | None = None

    def add(
        self, finding: str, level: Literal["ok", "warning", "error"], code: str, detail: str, remedy: str = ""
    ) -> None:
        self.findings.append(FindingOut(id=finding, level=level, code=code, detail=detail, remedy=remedy))


def check(app: "App", connection: Connection, outside: str | None = None) -> CheckOut:
    """Prove a connection with a fresh token and small live calls, store the result and return it.

    `outside` is a mailbox that is no room, where somebody wants to see it refused. Raises RequestError where it is one.
    """
    now = app.clock()
    enabled = _enabled(app, connection.name)
    report = _Report()
    token = _token(app, connection, report)
    if token is not None:
        graph = app.graph_with(connection, token)
        _tenant(graph, connection, token, report)
        wanted = "calendars" in enabled or outside is not None
        looked = checking.probe(app, connection.name, graph, roles(token), outside) if wanted else checking.Probe([])
        _permissions(token, enabled, report, scoped=looked.scoped)
        _call(graph, report)
        report.findings += looked.findings
        _expiry(graph, connection, token, now.date(), report)
    result = CheckOut(
        status=_status(report),
        checked_at=now,
        tenant=report.tenant,
        findings=report.findings,
        permissions=PermissionsOut(
            granted=list(report.verdict.granted),
            missing=dict(report.verdict.missing),
            unneeded=list(report.verdict.unneeded),
        ),
    )
    _store(app, connection, result, report.expires_on)
    return result


def _enabled(app: "App", name: str) -> dict[str, Mapping[str, Any]]:
    """The settings of the enabled syncs, by name."""
    rows = app.tables.data.scan(name, SETTINGS)
    return {row["key"][len(SETTINGS) :]: row["j_settings"] for row in rows if row["j_settings"]["enabled"]}


def _status(report: _Report) -> Literal["confirmed", "limited", "failed", "expired"]:
    if report.failed:
        return report.failed
    bad = any(finding.level == "error" for finding in report.findings)
    return "limited" if bad else "confirmed"


def _token(app: "App", connection: Connection, report: _Report) -> str | None:
    """A fresh token, through a new sign-in: a cached one would hide a revoked secret."""
    try:
        credential = app.credential(connection)
    except Deferred as error:
        report.failed = "failed"
        report.add("secret", "error", error.code, error.detail, "Try again in some minutes.")
        return None
    except TenantsyncError as error:
        report.failed = "failed"
        report.add("secret", "error", error.code, error.detail, error.remedy)
        return None
    report.add("secret", "ok", "secret-found", "The credential can be read from the vault.")
    try:
        token = app.sign_in(connection, credential).token(fresh=True)
    except SignInError as error:
        report.failed = "expired" if error.expired or connection.status == "expired" else "failed"
        report.add("token", "error", error.code, error.detail, error.remedy)
        return None
    except Deferred as error:
        report.failed = "failed"
        report.add("token", "error", "entra-unreachable", error.detail, "Try again in some minutes.")
        return None
    report.add("token", "ok", "signed-in", "Entra accepts the credential.")
    app.forget_sign_in(connection.name)  # what was granted since the last run counts from its next one on
    return token


def _tenant(graph: "GraphClient", connection: Connection, token: str, report: _Report) -> None:
    """Which tenant this is. Its name needs a right of its own (Learn: List organization), its id does not."""
    claimed = tenant_id(token)
    try:
        organization = next(
            iter(graph.page("/organization", params={"$select": "id,displayName,verifiedDomains"}).items), {}
        )
    except (GraphError, Deferred, SignInError):
        organization = {}
    domains = [domain for domain in organization.get("verifiedDomains") or () if isinstance(domain, Mapping)]
    default = next((domain.get("name") for domain in domains if domain.get("isDefault")), None)
    found = organization.get("id") or claimed or None
    report.tenant = TenantOut(id=found, display_name=organization.get("displayName"), default_domain=default)
    names = {str(domain.get("name", "")).lower() for domain in domains}
    wanted = connection.tenant_id
    by_domain, by_id = not names or wanted in names, found is None or found.lower() == wanted
    fits = by_domain if "." in wanted else by_id
    if fits:
        report.add("tenant", "ok", "tenant-confirmed", "The app signed in to the tenant that the connection names.")
    else:
        remedy = "Check the directory (tenant) ID on the app's overview page."
        report.add("tenant", "error", "tenant-mismatch", "The app signed in to another tenant.", remedy)


def _permissions(token: str, enabled: Mapping[str, Mapping[str, Any]], report: _Report, *, scoped: bool) -> None:
    """`scoped`: rooms are reached by a role in Exchange, which takes the place of the permission for calendars."""
    grouped = bool(enabled.get("users", {}).get("memberOf"))
    report.verdict = judge(roles(token), enabled, grouped=grouped)
    if scoped:
        lacking = {
            sync: [one for one in names if one != checking.CALENDARS] for sync, names in report.verdict.missing.items()
        }
        report.verdict = replace(report.verdict, missing={sync: names for sync, names in lacking.items() if names})
    missing = sorted({role for names in report.verdict.missing.values() for role in names})
    consent = "Add it under API permissions as an application permission, then grant admin consent."
    if not report.verdict.granted:
        report.add(
            "permissions",
            "error" if enabled else "warning",
            "no-permissions",
            "No application permission has consent.",
            consent,
        )
    elif missing:
        report.add("permissions", "error", "permissions-missing", f"Missing: {', '.join(missing)}.", consent)
    elif report.verdict.unneeded:
        detail = f"More than needed: {', '.join(report.verdict.unneeded)}."
        report.add("permissions", "warning", "permissions-unneeded", detail, "Remove what no sync needs.")
    else:
        report.add("permissions", "ok", "permissions-complete", "Every enabled sync has the permissions it needs.")


def _call(graph: "GraphClient", report: _Report) -> None:
    """One small live call, with a right that was granted: a token alone does not prove that Graph lets the app in."""
    collection = next((name for name, readers in _READERS.items() if readers & set(report.verdict.granted)), None)
    if collection is None:
        return
    try:
        graph.page(f"/{collection}", params={"$select": "id", "$top": "1"})
    except Forbidden as error:
        detail = f"Graph refuses to list {collection} although the token has the right."
        remedy = "A new grant may take up to an hour to work; then check again."
        report.add("call", "error", error.code, detail, remedy)
    except Deferred as error:
        report.add("call", "warning", error.code, "Graph did not answer in time.", "Check again in some minutes.")
    except (GraphError, SignInError) as error:
        report.add("call", "error", error.code, error.detail, error.remedy or "Check again in some minutes.")
    else:
        report.add("call", "ok", "graph-answers", "Graph answers.")


def _expiry(graph: "GraphClient", connection: Connection, token: str, today: date, report: _Report) -> None:
    """When the credential ends: from the directory where the app may read that, else from the connection."""
    if connection.credential["type"] == "managedIdentity":
        report.add("expiry", "ok", "no-expiry", "A managed identity has no secret that could expire.")
        return
    found = _directory_expiry(graph, connection) if APPLICATIONS in roles(token) else None
    text = found or connection.credential.get("expiresOn")
    if text is None:
        detail = "The credential's last day is not known."
        report.add("expiry", "warning", "expiry-unknown", detail, "Enter the expiry date with the credential.")
        return
    report.expires_on = text
    days = (date.fromisoformat(text) - today).days
    source = "the directory" if found else "the connection"
    if days > WARN_DAYS:
        report.add("expiry", "ok", "expiry-far", f"The credential works until {text}, says {source}.")
    else:
        detail = f"The credential ends on {text} ({days} days), says {source}."
        remedy = "Make a new one in Entra under Certificates & secrets and enter it here before that day."
        report.add("expiry", "warning", "expiry-near" if days >= 0 else "expiry-past", detail, remedy)


def _directory_expiry(graph: "GraphClient", connection: Connection) -> str | None:
    """The last day of this connection's own credential, from the app's registration (Learn: Get application)."""
    try:
        application = graph.get(
            f"/applications(appId='{connection.client_id}')", params={"$select": "passwordCredentials,keyCredentials"}
        )
    except (GraphError, Deferred, SignInError):
        return None
    wanted = connection.credential.get("secretId")
    kind = "passwordCredentials" if connection.credential["type"] == "clientSecret" else "keyCredentials"
    candidates: list[Mapping[str, Any]] = application.get(kind) or []
    mine = [one for one in candidates if one.get("keyId") == wanted] or (candidates if len(candidates) == 1 else [])
    end = mine[0].get("endDateTime") if mine else None
    return datetime.fromisoformat(end).date().isoformat() if isinstance(end, str) else None


def _store(app: "App", connection: Connection, result: CheckOut, expires_on: str | None) -> None:
    """Keep the result with the connection; one that was changed meanwhile keeps its own."""
    credential = {**connection.credential, **({"expiresOn": expires_on} if expires_on else {})}
    checked = replace(connection, status=result.status, last_check=result.wire(), credential=credential)
    if credential != connection.credential:
        connections.watch_end(app, checked)
    try:
        connections.save(app, checked)
    except Conflict:
        return
