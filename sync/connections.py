"""Connections: one customer tenant's credential and settings, from the first form to the last trace removed."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from cryptography import x509
from pydantic import SecretStr

from storage.secrets import secret_name
from storage.tables import Conflict, Row, Table, Write
from sync import decisions, jobs
from sync.due import due_key, forget_due
from sync.errors import Deferred, RequestError, SignInError, TenantsyncError
from sync.feed import Change, Head
from sync.jobs import Finish, Work
from sync.models import (
    CertificateIn,
    ClientSecretIn,
    ConnectionIn,
    ConnectionOut,
    ConnectionPatch,
    CredentialIn,
    SyncName,
)
from sync.runs import ACTIVE, RUN, Run, active_run

if TYPE_CHECKING:
    from sync.wiring import App

log = logging.getLogger(__name__)

PARTITION = "connection"
REMOVAL = "connection"  # what a run that removes a connection has in place of a sync's name
SYNCS: tuple[SyncName, ...] = SyncName.__args__  # type: ignore[attr-defined] # a Literal's own list
_DELETES = 100
IDEMPOTENCY = "idempotency|"
_REMOVAL_PAUSE = timedelta(seconds=5)
LADDER = (30, 7, 1, 0)  # days before the end
ENDS = "credentials"  # the part of the due index that says when to warn
WARNED = "warned|"
_WARN_ATTEMPTS = 10


@dataclass(frozen=True)
class Connection:
    """A stored connection. `credential` holds type, ids, dates and the vault's version: never a secret."""

    name: str
    tenant_id: str
    client_id: str
    cloud: str
    credential: Mapping[str, Any]
    time_zone: str
    labels: Mapping[str, str]
    created_at: str
    updated_at: str
    status: str = "unchecked"
    last_check: Mapping[str, Any] | None = None
    deleting: bool = False
    etag: str = ""


def _row(connection: Connection) -> Row:
    names = [name for name in Connection.__dataclass_fields__ if name not in ("name", "etag")]
    return {"j_connection": {name: getattr(connection, name) for name in names}}


def _parse(row: Row) -> Connection:
    return Connection(name=row["key"], etag=row["etag"], **row["j_connection"])


def find(table: Table, name: str) -> Connection | None:
    """The connection, also one that is being removed, or None."""
    row = table.get(PARTITION, name)
    return None if row is None else _parse(row)


def load(app: "App", name: str) -> Connection:
    """The connection. Raises RequestError `connection-not-found`, also while it is being removed."""
    found = find(app.tables.connections, name)
    if found is None or found.deleting:
        raise not_found()
    return found


def not_found() -> RequestError:
    return RequestError(
        "There is no such connection", code="connection-not-found", status=404, remedy="Check the name in the path."
    )


def page(app: "App", after: str, top: int) -> list[Connection]:
    """Up to `top` connections whose names come after `after`, also those that are being removed."""
    return [_parse(row) for row in app.tables.connections.page(PARTITION, "", after=after, top=top)]


def save(app: "App", connection: Connection) -> Connection:
    """Write a changed connection over the one it was loaded as. Raises Conflict."""
    return _write(app, "replace", replace(connection, updated_at=app.clock().isoformat()))


def _write(app: "App", kind: Literal["insert", "replace"], connection: Connection) -> Connection:
    """Raises Conflict, but not where the row is this very write: its answer was lost and the SDK sent it again."""
    row = _row(connection)
    try:
        etag = app.tables.connections.commit(PARTITION, [Write(kind, connection.name, row, connection.etag or None)])[0]
    except Conflict:
        found = find(app.tables.connections, connection.name)
        if found is None or _row(found) != row:
            raise
        etag = found.etag
    return replace(connection, etag=etag)


def render(connection: Connection, today: date) -> ConnectionOut:
    """The connection as the contract shows it."""
    credential = {name: value for name, value in connection.credential.items() if name != "version"}
    expires = credential.get("expiresOn")
    if expires:
        credential["daysLeft"] = (date.fromisoformat(expires) - today).days
    return ConnectionOut.model_validate(
        {
            "name": connection.name,
            "tenantId": connection.tenant_id,
            "clientId": connection.client_id,
            "cloud": connection.cloud,
            "credential": credential,
            "timeZone": connection.time_zone,
            "labels": connection.labels,
            "status": connection.status,
            "lastCheck": connection.last_check,
            "createdAt": connection.created_at,
            "updatedAt": connection.updated_at,
        }
    )


# --- create, edit, rotate --------------------------------------------------------------------------------------------


def create(app: "App", wanted: ConnectionIn) -> Connection:
    """Store the secret, then the connection. Raises RequestError `connection-exists`.

    A death in between leaves a secret that nothing names; the next try overwrites it.
    """
    if find(app.tables.connections, wanted.name) is not None:
        raise _exists()
    _sweep(app, wanted.name, keep=(IDEMPOTENCY,))
    now = app.clock().isoformat()
    connection = Connection(
        name=wanted.name,
        tenant_id=wanted.tenant_id,
        client_id=wanted.client_id,
        cloud=wanted.cloud,
        credential=_keep(app, wanted.name, wanted.credential),
        time_zone=wanted.time_zone,
        labels=wanted.labels,
        created_at=now,
        updated_at=now,
    )
    watch_end(app, connection)
    try:
        made = _write(app, "insert", connection)
    except Conflict:
        raise _exists() from None
    log.info("connection created connection=%s", connection.name)
    return made


def _exists() -> RequestError:
    return RequestError(
        "There is a connection of that name", code="connection-exists", status=409, remedy="Choose another name."
    )


def edit(app: "App", connection: Connection, patch: ConnectionPatch) -> Connection:
    """Apply what the patch names. Raises Conflict."""
    return save(
        app,
        replace(
            connection,
            time_zone=patch.time_zone or connection.time_zone,
            labels=connection.labels if patch.labels is None else patch.labels,
        ),
    )


def rotate(app: "App", connection: Connection, wanted: CredentialIn) -> Connection:
    """Try the new credential against Entra, and only then put it in the old one's place.

    Raises RequestError `credential-rejected` with the findings (the old one stays), Deferred where Entra cannot be
    asked, Conflict.
    """
    try:
        app.sign_in(connection, app.credential_of(wanted, connection)).token(fresh=True)
    except Deferred:
        raise
    except TenantsyncError as error:
        step = "token" if isinstance(error, SignInError) else "secret"
        finding = {"id": step, "level": "error", "code": error.code, "detail": error.detail, "remedy": error.remedy}
        raise RequestError(
            "The new credential does not work; the old one stays in place",
            code="credential-rejected",
            remedy=error.remedy,
            extra={"findings": [finding]},
        ) from None
    old = connection.credential.get("version")
    healed = "unchecked" if connection.status in ("failed", "expired") else connection.status
    renewed = replace(connection, credential=_keep(app, connection.name, wanted), status=healed)
    watch_end(app, renewed)
    changed = save(app, renewed)
    if old:
        app.secrets.disable(secret_name(connection.name), old)
    if connection.status == "expired":
        jobs.wake(app, connection.name)
    log.info("credential rotated connection=%s", connection.name)
    return changed


def _keep(app: "App", name: str, wanted: CredentialIn) -> dict[str, Any]:
    """Put the secret part of a credential into the vault; returns what the connection's row may hold of it."""
    kept = wanted.model_dump(mode="json", by_alias=True, exclude={"secret_value", "pem"}, exclude_none=True)
    match wanted:
        case ClientSecretIn(secret_value=value):
            text, expires = value.get_secret_value(), wanted.expires_on
        case CertificateIn(pem=SecretStr() as pem):
            text = pem.get_secret_value()
            expires = wanted.expires_on or x509.load_pem_x509_certificate(text.encode()).not_valid_after_utc.date()
        case _:
            return kept
    expires_on = datetime.combine(expires, time(), UTC) if expires else None
    version = app.secrets.save(secret_name(name), text, tags={"connection": name}, expires_on=expires_on)
    return {**kept, **({"expiresOn": str(expires)} if expires else {}), "version": version}


# --- the end of a credential -----------------------------------------------------------------------------------------


def warnings(ends: date, now: datetime) -> list[datetime]:
    """When to warn that a credential ends on that day: the steps that are ahead, and the last of those that have passed."""
    steps = [datetime.combine(ends - timedelta(days=days), time(), UTC) for days in LADDER]
    passed = [step for step in steps if step <= now]
    return [*passed[-1:], *(step for step in steps if step > now)]


def watch_end(app: "App", connection: Connection) -> None:
    """Have a timer warn in time. Written before the connection: what does not fit to it is ignored then."""
    ends: str = connection.credential.get("expiresOn", "")
    for due in warnings(date.fromisoformat(ends), app.clock()) if ends else ():
        row = {"connection": connection.name, "ends": ends, "due": due.isoformat()}
        app.tables.due.commit(ENDS, [Write("replace", due_key(due, connection.name, ends), row)])


def warn_of_ends(app: "App") -> None:
    """Tell of each credential that has come to a step of the ladder, once for each step. One read when idle."""
    now = app.clock()
    for row in app.tables.due.scan(ENDS, until=due_key(now, "~", "~")):
        found = find(app.tables.connections, row["connection"])
        if found is not None and not found.deleting and found.credential.get("expiresOn") == row["ends"]:
            _warn(app, found.name, row)
        app.tables.due.commit(ENDS, [Write("delete", row["key"])])


def _warn(app: "App", name: str, row: Row) -> None:
    """In the change feed, for the portal, and in the log, for an alert rule."""
    told = f"{WARNED}{row['ends']}|{row['due']}"
    head, now = Head(app.tables.data, name), app.clock()
    for _ in range(_WARN_ATTEMPTS):
        if app.tables.data.get(name, told) is not None:
            return
        steps = head.append([Change("credential", name, "expiring")], "", now)
        try:
            app.tables.data.commit(name, [Write("insert", told), *steps])
        except Conflict:
            head.forget()
            continue
        days = (date.fromisoformat(row["ends"]) - now.date()).days
        log.warning("credential ends connection=%s days=%d", name, days)
        return
    raise Deferred("A transaction kept meeting others", until=now, code="storage-busy")


# --- remove ----------------------------------------------------------------------------------------------------------


def start_removal(app: "App", name: str) -> Run:
    """Hide the connection at once and start the run that removes all of it. Raises connection-not-found, Conflict."""
    found = find(app.tables.connections, name)
    if found is None:
        raise not_found()
    if not found.deleting:
        save(app, replace(found, deleting=True))
    return jobs.start(app, name, REMOVAL, trigger="manual")[0]


def remove(work: Work) -> Finish | None:
    """One slice of a removal: other runs are stopped, then what is left at Microsoft, secret, blobs, rows and the
    connection itself go.

    Every step may be repeated. The run's own row stays, so that its address can be asked for the end.
    """
    app, name = work.app, work.connection
    if not _stop_runs(app, name):
        raise Deferred("Runs of this connection are still stopping", until=work.now() + _REMOVAL_PAUSE, throttled=True)
    found = find(app.tables.connections, name)
    if found is not None:
        for take_back in app.farewells:
            take_back(app, found)
    app.secrets.delete(secret_name(name))
    app.blobs.delete_all(f"{name}/")
    forget_due(app, name)
    _sweep(app, name, keep=(RUN + work.run.id, ACTIVE + REMOVAL))
    if found is not None:
        app.tables.budgets.commit(found.tenant_id, [Write("delete", found.client_id)])
        app.tables.connections.commit(PARTITION, [Write("delete", name)])
    log.info("connection removed connection=%s", name)
    return Finish({})


def _stop_runs(app: "App", name: str) -> bool:
    """Cancel what is active; False while a worker has not noticed yet."""
    quiet = True
    for sync, dry in product(SYNCS, (False, True)):
        found = active_run(app.tables.data, name, sync, dry=dry)
        if found is not None:
            decisions.cancel(app, *found)
            quiet = quiet and not found[0].held_by_other(app.clock())
    return quiet


def _sweep(app: "App", name: str, keep: tuple[str, ...]) -> None:
    """Delete every row of the connection's data but those whose keys begin with one of `keep`."""
    batch: list[Write] = []
    for row in app.tables.data.scan(name, columns=()):
        if not row["key"].startswith(keep):
            batch.append(Write("delete", row["key"]))
        if len(batch) == _DELETES:
            app.tables.data.commit(name, batch)
            batch = []
    if batch:
        app.tables.data.commit(name, batch)
