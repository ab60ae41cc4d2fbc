"""Every call of the contract: what it takes, what it answers, and who does it."""

import re
from pathlib import Path

from sync import api_copies, api_runs, checks, connections, notifications, openapi
from sync.calendars import api as api_calendars
from sync.calendars.models import CheckIn
from sync.errors import RequestError
from sync.http import Call, ListQuery, Operation, Reply, connection_of, decode_cursor, listing, public_etag
from sync.models import (
    NAME_PATTERN,
    ChangeOut,
    CheckOut,
    ConnectionIn,
    ConnectionOut,
    ConnectionPatch,
    ContactGroupOut,
    ContactIn,
    ContactOut,
    ContactPatch,
    CredentialIn,
    DeviceOut,
    HealthOut,
    LogEntry,
    PlanEntry,
    ReadyChecks,
    ReadyOut,
    RunIn,
    RunOut,
    SyncOut,
    UserOut,
)
from sync.sync_settings import SETTINGS

VERSION = "0.1.0"
CONSOLE = Path(__file__).resolve().parent.parent / "console"


# --- service ---------------------------------------------------------------------------------------------------------


def get_health(_call: Call) -> Reply:
    return Reply(200, HealthOut(status="ok", version=VERSION))


def get_ready(call: Call) -> Reply:
    checks_ = ReadyChecks.model_validate(call.app.ready())
    ready = all(value == "ok" for value in checks_.model_dump().values())
    return Reply(200 if ready else 503, ReadyOut(status="ready" if ready else "unavailable", checks=checks_))


def get_openapi(_call: Call) -> Reply:
    return Reply(200, openapi.document(OPERATIONS.values(), VERSION))


def get_console(_call: Call) -> Reply:
    page = (CONSOLE / "index.html").read_bytes()
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src blob:"
        "; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"  # default-src does not cover these
    )
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"}
    return Reply(200, page, headers=headers, content_type="text/html")


# --- connections -----------------------------------------------------------------------------------------------------


def _connection(call: Call, connection: connections.Connection, status: int = 200, **headers: str) -> Reply:
    body = connections.render(connection, call.app.clock().date())
    return Reply(status, body, public_etag(connection.etag), headers)


def create_connection(call: Call) -> Reply:
    made = connections.create(call.app, call.body)
    return _connection(call, made, 201, Location=f"/api/connections/{made.name}")


def list_connections(call: Call) -> Reply:
    after = decode_cursor(call.query.cursor, NAME_PATTERN) if call.query.cursor else ""
    found = connections.page(call.app, after, call.query.top)
    today = call.app.clock().date()
    following = found[-1].name if len(found) == call.query.top else None
    return Reply(200, listing((connections.render(one, today) for one in found if not one.deleting), following))


def get_connection(call: Call) -> Reply:
    return _connection(call, connection_of(call))


def edit_connection(call: Call) -> Reply:
    found = connection_of(call)
    call.match(found.etag)
    return _connection(call, connections.edit(call.app, found, call.body))


def rotate_credential(call: Call) -> Reply:
    found = connection_of(call)
    call.match(found.etag)
    return _connection(call, connections.rotate(call.app, found, call.body))


def delete_connection(call: Call) -> Reply:
    name = call.path["name"]
    found = connections.find(call.app.tables.connections, name)
    if found is not None:
        call.match(found.etag)
    return api_runs.accepted(connections.start_removal(call.app, name))


def check_connection(call: Call) -> Reply:
    return Reply(200, checks.check(call.app, connection_of(call), call.body.outside_mailbox))


# --- the contract ----------------------------------------------------------------------------------------------------

_C = "connections/{name}"
_S = _C + "/syncs/{sync}"
_R = _C + "/runs/{id}"

OPERATIONS = {
    one.id: one
    for one in (
        Operation("get_health", "GET", "health", "Is the app alive", get_health, {200: HealthOut}, anonymous=True),
        Operation("get_ready", "GET", "ready", "Do its stores answer", get_ready, {200: ReadyOut, 503: ReadyOut}),
        Operation("get_openapi", "GET", "openapi.json", "This document", get_openapi, {200: None}),
        Operation("get_console", "GET", "console", "The portal page", get_console, {200: "text/html"}, anonymous=True),
        Operation(
            "create_connection",
            "POST",
            "connections",
            "Connect a tenant",
            create_connection,
            {201: ConnectionOut},
            body=ConnectionIn,
            errors=(409,),
        ),
        Operation(
            "list_connections",
            "GET",
            "connections",
            "All connections",
            list_connections,
            {200: list[ConnectionOut]},
            query=ListQuery,
        ),
        Operation("get_connection", "GET", _C, "One connection", get_connection, {200: ConnectionOut}),
        Operation(
            "edit_connection",
            "PATCH",
            _C,
            "Change time zone or labels",
            edit_connection,
            {200: ConnectionOut},
            body=ConnectionPatch,
            errors=(412,),
        ),
        Operation(
            "rotate_credential",
            "PUT",
            _C + "/credential",
            "Try a new credential and put it in place",
            rotate_credential,
            {200: ConnectionOut},
            body=CredentialIn,
            errors=(412, 503),
        ),
        Operation(
            "delete_connection",
            "DELETE",
            _C,
            "Remove a connection and all its data",
            delete_connection,
            {202: RunOut},
            errors=(412,),
        ),
        Operation(
            "check_connection",
            "POST",
            _C + "/check",
            "Check a connection now",
            check_connection,
            {200: CheckOut},
            body=CheckIn,
            optional_body=True,
        ),
        Operation("list_syncs", "GET", _C + "/syncs", "All six syncs", api_runs.list_syncs, {200: list[SyncOut]}),
        Operation("get_sync", "GET", _S, "Settings of a sync", api_runs.get_sync, {200: SETTINGS}),
        Operation(
            "put_sync", "PUT", _S, "Set a sync", api_runs.put_sync, {200: SETTINGS}, body=SETTINGS, errors=(409, 412)
        ),
        Operation(
            "start_run",
            "POST",
            _S + "/runs",
            "Sync now",
            api_runs.start_run,
            {202: RunOut},
            body=RunIn,
            optional_body=True,
            errors=(409, 429),
        ),
        Operation(
            "list_runs",
            "GET",
            _C + "/runs",
            "Runs, newest first",
            api_runs.list_runs,
            {200: list[RunOut]},
            query=api_runs.RunsQuery,
        ),
        Operation("get_run", "GET", _R, "One run", api_runs.get_run, {200: RunOut}),
        Operation(
            "cancel_run", "POST", _R + "/cancel", "Stop a run", api_runs.cancel_run, {202: RunOut}, errors=(409, 412)
        ),
        Operation(
            "get_run_log",
            "GET",
            _R + "/log",
            "Items that were not plain success",
            api_runs.get_run_log,
            {200: list[LogEntry]},
            query=api_runs.LogQuery,
        ),
        Operation(
            "get_run_plan",
            "GET",
            _R + "/plan",
            "What a dry or held run would do",
            api_runs.get_run_plan,
            {200: list[PlanEntry]},
            query=ListQuery,
        ),
        Operation(
            "approve_run",
            "POST",
            _R + "/approve",
            "Delete what a held run shows",
            api_runs.approve_run,
            {202: RunOut},
            errors=(409, 412),
        ),
        Operation(
            "reject_run",
            "POST",
            _R + "/reject",
            "Drop what a held run shows",
            api_runs.reject_run,
            {200: RunOut},
            errors=(409, 412),
        ),
        Operation(
            "list_users",
            "GET",
            _C + "/users",
            "Users",
            api_copies.list_users,
            {200: list[UserOut]},
            query=api_copies.UsersQuery,
        ),
        Operation("get_user", "GET", _C + "/users/{id}", "One user", api_copies.get_user, {200: UserOut}),
        Operation(
            "get_photo",
            "GET",
            _C + "/users/{id}/photo",
            "A user's photo",
            api_copies.get_photo,
            {200: "image/*", 304: None},
        ),
        Operation(
            "list_devices",
            "GET",
            _C + "/devices",
            "Devices",
            api_copies.list_devices,
            {200: list[DeviceOut]},
            query=api_copies.UsersQuery,
        ),
        Operation("get_device", "GET", _C + "/devices/{id}", "One device", api_copies.get_device, {200: DeviceOut}),
        Operation(
            "list_contacts",
            "GET",
            _C + "/contacts",
            "Contacts",
            api_copies.list_contacts,
            {200: list[ContactOut]},
            query=api_copies.ContactsQuery,
        ),
        Operation(
            "get_contact", "GET", _C + "/contacts/{id}", "One contact", api_copies.get_contact, {200: ContactOut}
        ),
        Operation(
            "create_contact",
            "POST",
            _C + "/contacts",
            "Add a contact of the portal's own",
            api_copies.create_contact,
            {201: ContactOut},
            body=ContactIn,
        ),
        Operation(
            "edit_contact",
            "PATCH",
            _C + "/contacts/{id}",
            "Change a contact of the portal's own",
            api_copies.edit_contact,
            {200: ContactOut},
            body=ContactPatch,
            errors=(409, 412),
        ),
        Operation(
            "delete_contact",
            "DELETE",
            _C + "/contacts/{id}",
            "Remove a contact of the portal's own",
            api_copies.delete_contact,
            {204: None},
            errors=(409, 412),
        ),
        Operation(
            "list_contact_groups",
            "GET",
            _C + "/contact-groups",
            "Groups of contacts",
            api_copies.list_contact_groups,
            {200: list[ContactGroupOut]},
            query=api_copies.GroupsQuery,
        ),
        Operation(
            "list_changes",
            "GET",
            _C + "/changes",
            "What has changed since a cursor",
            api_copies.list_changes,
            {200: list[ChangeOut]},
            query=api_copies.ChangesQuery,
        ),
        *api_calendars.OPERATIONS,
        *notifications.OPERATIONS,
    )
}


def no_such_route(call: Call) -> Reply:
    """For every path and method that is not in the contract: 404, or 405 with Allow."""
    shapes = [(one.method, re.sub(r"\{\w+\}", "[^/]+", one.path)) for one in OPERATIONS.values()]
    allowed = sorted(method for method, shape in shapes if re.fullmatch(shape, call.path.get("path", "")))
    if not allowed or call.method in allowed:
        raise RequestError("There is nothing here", code="route-not-found", status=404, remedy="See /api/openapi.json.")
    raise RequestError(
        "This address does not take that method",
        code="method-not-allowed",
        status=405,
        remedy=f"Use {' or '.join(allowed)}.",
        headers={"Allow": ", ".join(allowed)},
    )


NO_SUCH_ROUTE = Operation("no_such_route", "*", "{*path}", "Anything else", no_such_route, {})
