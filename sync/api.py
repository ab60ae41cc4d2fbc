"""Every call of the contract: what it takes, what it answers, and the few lines that do it."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from storage.tables import PAGE_LIMIT, Row, decode_key, encode_key
from sync import checks, connections, devices, feed, jobs, openapi, own_contacts
from sync.connections import REMOVAL, SYNCS
from sync.contacts import CONTACT, GROUP, OWN
from sync.directory import DEVICE
from sync.errors import RequestError
from sync.http import Call, Operation, Reply, decode_cursor, encode_cursor, public_etag
from sync.models import (
    NAME_PATTERN,
    SETTINGS,
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
    Model,
    PlanEntry,
    ReadyChecks,
    ReadyOut,
    RunIn,
    RunOut,
    SyncOut,
    UserOut,
)
from sync.people import USER
from sync.photos import blob_name
from sync.runs import LOG, PLAN, RUN, STATE, Run, load_run, parse_run

VERSION = "0.1.0"
CONSOLE = Path(__file__).resolve().parent.parent / "console"
SEARCHED = 10_000  # rows that one search request looks through at most

Top = Annotated[int, Field(ge=1, le=1000)]


class ListQuery(Model):
    top: Top = 100
    cursor: Annotated[str, Field(max_length=2000)] | None = None


class UsersQuery(ListQuery):
    state: Literal["active", "deleted"] | None = None
    search: Annotated[str, Field(max_length=100)] | None = None


class ContactsQuery(ListQuery):
    azure_state: Literal["active", "deleted", "none"] | None = None
    search: Annotated[str, Field(max_length=100)] | None = None


class GroupsQuery(ListQuery):
    azure_state: Literal["active", "deleted"] | None = None
    search: Annotated[str, Field(max_length=100)] | None = None


class RunsQuery(ListQuery):
    sync: Annotated[str, Field(max_length=20)] | None = None
    status: Literal["queued", "running", "succeeded", "partial", "failed", "held", "cancelled"] | None = None


class LogQuery(ListQuery):
    level: Literal["info", "warning", "error"] | None = None


class ChangesQuery(Model):
    top: Top = 100
    after: Annotated[str, Field(max_length=200)] | None = None


def _list(items: Iterable[Any], following: str | None) -> dict[str, Any]:
    return {"items": list(items), "next": None if following is None else encode_cursor(following)}


def _missing(what: str) -> RequestError:
    return RequestError(
        f"There is no such {what}",
        code=f"{what}-not-found",
        status=404,
        remedy="Check the address; ids are case-sensitive.",
    )


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


def _load(call: Call) -> connections.Connection:
    return connections.load(call.app, call.path["name"])


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
    return Reply(200, _list((connections.render(one, today) for one in found if not one.deleting), following))


def get_connection(call: Call) -> Reply:
    return _connection(call, _load(call))


def edit_connection(call: Call) -> Reply:
    found = _load(call)
    call.match(found.etag)
    return _connection(call, connections.edit(call.app, found, call.body))


def rotate_credential(call: Call) -> Reply:
    found = _load(call)
    call.match(found.etag)
    return _connection(call, connections.rotate(call.app, found, call.body))


def delete_connection(call: Call) -> Reply:
    name = call.path["name"]
    found = connections.find(call.app.tables.connections, name)
    if found is not None:
        call.match(found.etag)
    return _accepted(connections.start_removal(call.app, name))


def check_connection(call: Call) -> Reply:
    return Reply(200, checks.check(call.app, _load(call)))


# --- syncs and runs --------------------------------------------------------------------------------------------------


def _sync(call: Call) -> str:
    """The sync in the path, of a connection that exists."""
    _load(call)
    if call.path["sync"] not in SETTINGS:
        raise _missing("sync")
    return call.path["sync"]


def list_syncs(call: Call) -> Reply:
    name = _load(call).name
    states = {row["key"][len(STATE) :]: row for row in call.app.tables.data.scan(name, STATE)}
    return Reply(200, _list((_sync_out(call, name, sync, states.get(sync, {})) for sync in SYNCS), None))


def _sync_out(call: Call, name: str, sync: Any, state: Row) -> SyncOut:
    settings, _ = jobs.load_settings(call.app, name, sync)
    last = load_run(call.app.tables.data, name, state["last_run"]) if state.get("last_run") else None
    return SyncOut(
        sync=sync, settings=settings.wire(), last_run=last and render_run(last[0]), next_run=jobs.next_run(state)
    )


def get_sync(call: Call) -> Reply:
    sync = _sync(call)
    settings, etag = jobs.load_settings(call.app, call.path["name"], sync)
    return Reply(200, settings, public_etag(etag or ""))


def put_sync(call: Call) -> Reply:
    sync = _sync(call)
    _, etag = jobs.load_settings(call.app, call.path["name"], sync)
    call.match(etag or "")
    if call.body.enabled and sync not in call.app.executors:
        raise RequestError(
            "This sync is not available in this version", code="sync-not-available", status=409, remedy="Leave it off."
        )
    return Reply(200, call.body, public_etag(jobs.save_settings(call.app, call.path["name"], sync, call.body, etag)))


def start_run(call: Call) -> Reply:
    sync = _sync(call)
    run, _ = jobs.start_now(call.app, call.path["name"], sync, call.body.mode, dry_run=call.body.dry_run)
    return _accepted(run)


def _accepted(run: Run) -> Reply:
    return Reply(202, render_run(run), headers={"Location": f"/api/connections/{run.connection}/runs/{run.id}"})


def render_run(run: Run) -> RunOut:
    """A run as the contract shows it."""
    return RunOut.model_validate(
        {
            "id": run.id,
            "sync": run.sync,
            "trigger": run.trigger,
            "mode": run.mode,
            "dryRun": run.dry_run,
            "status": run.status,
            "progress": {"done": run.done, "total": run.total, "unit": run.unit},
            "counts": run.counts,
            "graph": run.graph,
            "storage": {"transactions": run.transactions},
            "slices": run.slice,
            "queuedAt": run.queued_at,
            "startedAt": run.started_at,
            "finishedAt": run.finished_at,
            "error": run.error,
        }
    )


def list_runs(call: Call) -> Reply:
    name = _load(call).name
    after = decode_cursor(call.query.cursor, r"[0-9a-f-]{1,40}") if call.query.cursor else ""
    wanted = {"sync": call.query.sync, "status": call.query.status}
    given = {column: value for column, value in wanted.items() if value is not None}
    rows = call.app.tables.data.page(
        name,
        RUN,
        after=after and RUN + after,
        top=call.query.top,
        where=" and ".join(f"{column} eq @{column}" for column in given) or None,
        values=given,
    )
    found = [parse_run(name, row) for row in rows]
    following = found[-1].id if len(found) == call.query.top else None
    return Reply(200, _list(map(render_run, found), following))


def _run(call: Call) -> tuple[Run, str]:
    """The run in the path; that of a removal also when its connection is gone."""
    name = call.path["name"]
    found = load_run(call.app.tables.data, name, encode_key(call.path["id"]))
    if found is None or found[0].sync != REMOVAL:
        connections.load(call.app, name)
    if found is None:
        raise _missing("run")
    return found


def get_run(call: Call) -> Reply:
    run, etag = _run(call)
    return Reply(200, render_run(run), public_etag(etag))


def cancel_run(call: Call) -> Reply:
    run, etag = _run(call)
    call.match(etag)
    return Reply(202, render_run(jobs.cancel(call.app, run, etag)))


def _packed(call: Call, prefix: str, run: Run) -> Iterator[tuple[str, datetime, list[Any]]]:
    """The lines of a run's log or plan behind the cursor, each with its position and time."""
    after, skip = "", 0
    if call.query.cursor:
        after, _, seen = decode_cursor(call.query.cursor, r"\d{7,9}\|\d{4,9}#\d{1,4}").partition("#")
        skip = int(seen) + 1
    prefix = f"{prefix}{run.id}|"
    for row in call.app.tables.data.scan(run.connection, prefix, start=prefix + after):
        key = row["key"][len(prefix) :]
        for place, line in enumerate(row["j_lines"]):
            if key != after or place >= skip:
                yield f"{key}#{place}", row["at"], line


def _page_of(call: Call, entries: Iterable[tuple[str, Any]]) -> Reply:
    """The first `top` of `entries`, each with its position."""
    found = list(islice(entries, call.query.top))
    following = found[-1][0] if len(found) == call.query.top else None
    return Reply(200, _list((entry for _, entry in found), following))


def get_run_log(call: Call) -> Reply:
    run, _ = _run(call)
    level = call.query.level
    lines = ((place, at, line) for place, at, line in _packed(call, LOG, run) if level in (None, line[0]))
    return _page_of(call, ((place, _log_entry(at, line)) for place, at, line in lines))


def get_run_plan(call: Call) -> Reply:
    run, _ = _run(call)
    entries = ((place, PlanEntry(**dict(zip(_PLAN, line, strict=True)))) for place, _, line in _packed(call, PLAN, run))
    return _page_of(call, entries)


def approve_run(call: Call) -> Reply:
    run, etag = _run(call)
    call.match(etag)
    return _accepted(jobs.approve(call.app, run, etag))


def reject_run(call: Call) -> Reply:
    run, etag = _run(call)
    call.match(etag)
    return Reply(200, render_run(jobs.reject(call.app, run, etag)))


_PLAN = ("entity", "id", "action", "reason")


def _log_entry(at: datetime, line: list[Any]) -> LogEntry:
    level, entity, item, outcome, reason, remedy = line
    return LogEntry(at=at, level=level, entity=entity, id=item, outcome=outcome, reason=reason, remedy=remedy)


# --- what was synced -------------------------------------------------------------------------------------------------


def _copies(
    call: Call, prefixes: Mapping[str, str | None], render: Callable[[Row], Any], search: str | None, **values: str
) -> Reply:
    """A page of the rows under these prefixes, each with its filter, as the contract shows them."""
    name = _load(call).name
    wanted = (search or "").casefold()
    after = decode_cursor(call.query.cursor, _POSITION) if call.query.cursor else ""
    found: list[Any] = []
    looked = 0
    for prefix, where in prefixes.items():
        if after and after.partition("|")[0] + "|" > prefix:
            continue
        rows = call.app.tables.data.scan(
            name, prefix, after=after, where=where, values=values, size=_size(call, wanted)
        )
        for row in rows:
            looked += 1
            after = row["key"]
            item = render(row)
            if not wanted or any(wanted in text.casefold() for text in _texts(item)):
                found.append(item)
            if len(found) == call.query.top or looked == SEARCHED:
                return Reply(200, _list(found, after))
    return Reply(200, _list(found, None))


_POSITION = r"[a-z-]{1,20}\|[A-Za-z0-9.@_~-]{1,800}"


def _size(call: Call, wanted: str) -> int:
    """How many rows to read at a time: as many as are shown, or many where a search passes over most."""
    return PAGE_LIMIT if wanted else call.query.top


def _texts(item: Any) -> Iterator[str]:
    """What a search looks at."""
    names = ("display_name", "user_principal_name", "mail", "given_name", "surname", "device_id")
    return (text for text in (getattr(item, name, None) for name in names) if text)


def list_users(call: Call) -> Reply:
    return _copies(call, {USER: _where(call.query.state)}, render_user, call.query.search, **_state(call.query.state))


def _where(state: str | None) -> str:
    return "state eq @state" if state else "state ne 'purged'"


def _state(state: str | None) -> dict[str, str]:
    return {"state": state} if state else {}


def render_user(row: Row) -> UserOut:
    """A stored user as the contract shows it."""
    photo = row.get("j_photo")
    known = {name: value for name, value in row["j_fields"].items() if name in _USER_FIELDS and value is not None}
    return UserOut.model_validate(
        {
            **known,
            "more": {name: value for name, value in row["j_fields"].items() if name not in _USER_FIELDS},
            "id": decode_key(row["key"][len(USER) :]),
            "state": row["state"],
            "deletedAt": row["deleted_at"] or None,
            "photo": photo
            and {"etag": photo["hash"], "contentType": photo["contentType"], "updatedAt": photo["updatedAt"]},
        }
    )


_DEVICE_FIELDS = frozenset(field.alias for field in DeviceOut.model_fields.values())
_USER_FIELDS = frozenset(field.alias for field in UserOut.model_fields.values())


def _user(call: Call) -> Row:
    name = _load(call).name
    row = call.app.tables.data.get(name, USER + encode_key(call.path["id"]))
    if row is None or row["state"] == "purged":
        raise _missing("user")
    return row


def get_user(call: Call) -> Reply:
    row = _user(call)
    return Reply(200, render_user(row), public_etag(row["etag"]))


def get_photo(call: Call) -> Reply:
    row = _user(call)
    photo = row.get("j_photo")
    data = None
    if photo:
        etag = f'"{photo["hash"]}"'
        headers = {"Cache-Control": "private, no-cache", "Content-Disposition": "inline"}
        if etag in [tag.strip().removeprefix("W/") for tag in (call.if_none_match or "").split(",")]:
            return Reply(304, None, etag, headers, photo["contentType"])
        data = call.app.blobs.load(blob_name(call.path["name"], row["key"], photo["hash"]))
    if not photo or data is None:
        raise RequestError(
            "This user has no photo", code="no-photo", status=404, remedy="Nothing to do: show initials instead."
        )
    return Reply(200, data, etag, headers, photo["contentType"])


def list_devices(call: Call) -> Reply:
    render = _device_renderer(call)
    return _copies(call, {DEVICE: _where(call.query.state)}, render, call.query.search, **_state(call.query.state))


def get_device(call: Call) -> Reply:
    name = _load(call).name
    row = call.app.tables.data.get(name, DEVICE + encode_key(call.path["id"]))
    if row is None:
        raise _missing("device")
    return Reply(200, _device_renderer(call)(row), public_etag(row["etag"]))


def _device_renderer(call: Call) -> Callable[[Row], DeviceOut]:
    """How to show a device, given all active ones: a duplicate shows only beside the others."""
    rows = call.app.tables.data.scan(call.path["name"], DEVICE, where="state eq 'active'")
    active = {decode_key(row["key"][len(DEVICE) :]): row["j_fields"] for row in rows}
    others = devices.duplicates(active)
    now = call.app.clock()

    def render(row: Row) -> DeviceOut:
        device_id = decode_key(row["key"][len(DEVICE) :])
        fields = row["j_fields"]
        known = {name: value for name, value in fields.items() if name in _DEVICE_FIELDS and value is not None}
        return DeviceOut.model_validate(
            {
                **known,
                "more": {name: value for name, value in fields.items() if name not in _DEVICE_FIELDS},
                "id": device_id,
                "stale": devices.stale(row["j_fields"], now),
                "duplicates": others.get(device_id, []),
                "state": row["state"],
                "deletedAt": row["deleted_at"] or None,
            }
        )

    return render


def list_contacts(call: Call) -> Reply:
    state = call.query.azure_state
    imported = {} if state == "none" else {CONTACT: _where(state)}
    own: dict[str, str | None] = {} if state in ("active", "deleted") else {OWN: None}
    return _copies(
        call, {**imported, **own}, _contact_renderer(call), call.query.search, **_state(state if imported else None)
    )


def get_contact(call: Call) -> Reply:
    name, key = _load(call).name, encode_key(call.path["id"])
    row = call.app.tables.data.get(name, CONTACT + key) or call.app.tables.data.get(name, OWN + key)
    if row is None:
        raise _missing("contact")
    return _contact(call, row)


def _contact(call: Call, row: Row, status: int = 200, **headers: str) -> Reply:
    return Reply(status, _contact_renderer(call)(row), public_etag(row["etag"]), headers)


def _contact_renderer(call: Call) -> Callable[[Row], ContactOut]:
    """How to show a contact, given the names of the groups."""
    rows = call.app.tables.data.scan(call.path["name"], GROUP)
    names = {decode_key(row["key"][len(GROUP) :]): row["j_fields"]["displayName"] for row in rows}

    def render(row: Row) -> ContactOut:
        prefix, _, key = row["key"].partition("|")
        own = prefix + "|" == OWN
        fields = row["j_fields"]
        groups = [{"id": group, "displayName": names.get(group)} for group in fields.get("groups", ())]
        return ContactOut.model_validate(
            {
                **{name: fields.get(name) for name in ("displayName", "givenName", "surname", "mobilePhone", "mail")},
                "id": decode_key(key),
                "azureId": None if own else decode_key(key),
                "azureState": row["state"],
                "groups": groups,
            }
        )

    return render


def list_contact_groups(call: Call) -> Reply:
    def render(row: Row) -> ContactGroupOut:
        group = decode_key(row["key"][len(GROUP) :])
        return ContactGroupOut(
            id=group, azure_id=group, azure_state=row["state"], display_name=row["j_fields"]["displayName"]
        )

    state = call.query.azure_state
    return _copies(call, {GROUP: _where(state)}, render, call.query.search, **_state(state))


def create_contact(call: Call) -> Reply:
    name = _load(call).name
    row = own_contacts.create(call.app, name, call.body)
    address = f"/api/connections/{name}/contacts/{row['key'][len(OWN) :]}"
    return _contact(call, row, 201, Location=address)


def edit_contact(call: Call) -> Reply:
    name = _load(call).name
    row = own_contacts.load(call.app, name, call.path["id"])
    call.match(row["etag"])
    return _contact(call, own_contacts.edit(call.app, name, row, call.body))


def delete_contact(call: Call) -> Reply:
    name = _load(call).name
    row = own_contacts.load(call.app, name, call.path["id"])
    call.match(row["etag"])
    own_contacts.delete(call.app, name, row)
    return Reply(204)


def list_changes(call: Call) -> Reply:
    name = _load(call).name
    start = decode_cursor(call.query.after, r"\d{1,12}:\d{1,4}", "/after") if call.query.after else "0:0"
    number, _, place = start.partition(":")
    found = feed.read(call.app.tables.data, name, (int(number), int(place)), call.query.top)
    items = [ChangeOut(cursor=encode_cursor(f"{at}:{index}"), **change) for (at, index), change in found]
    return Reply(200, {"items": items, "next": items[-1].cursor if items else encode_cursor(start)})


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
            "check_connection", "POST", _C + "/check", "Check a connection now", check_connection, {200: CheckOut}
        ),
        Operation("list_syncs", "GET", _C + "/syncs", "All six syncs", list_syncs, {200: list[SyncOut]}),
        Operation("get_sync", "GET", _S, "Settings of a sync", get_sync, {200: SETTINGS}),
        Operation("put_sync", "PUT", _S, "Set a sync", put_sync, {200: SETTINGS}, body=SETTINGS, errors=(409, 412)),
        Operation(
            "start_run",
            "POST",
            _S + "/runs",
            "Sync now",
            start_run,
            {202: RunOut},
            body=RunIn,
            optional_body=True,
            errors=(409, 429),
        ),
        Operation(
            "list_runs", "GET", _C + "/runs", "Runs, newest first", list_runs, {200: list[RunOut]}, query=RunsQuery
        ),
        Operation("get_run", "GET", _R, "One run", get_run, {200: RunOut}),
        Operation("cancel_run", "POST", _R + "/cancel", "Stop a run", cancel_run, {202: RunOut}, errors=(409, 412)),
        Operation(
            "get_run_log",
            "GET",
            _R + "/log",
            "Items that were not plain success",
            get_run_log,
            {200: list[LogEntry]},
            query=LogQuery,
        ),
        Operation(
            "get_run_plan",
            "GET",
            _R + "/plan",
            "What a dry or held run would do",
            get_run_plan,
            {200: list[PlanEntry]},
            query=ListQuery,
        ),
        Operation(
            "approve_run",
            "POST",
            _R + "/approve",
            "Delete what a held run shows",
            approve_run,
            {202: RunOut},
            errors=(409, 412),
        ),
        Operation(
            "reject_run",
            "POST",
            _R + "/reject",
            "Drop what a held run shows",
            reject_run,
            {200: RunOut},
            errors=(409, 412),
        ),
        Operation("list_users", "GET", _C + "/users", "Users", list_users, {200: list[UserOut]}, query=UsersQuery),
        Operation("get_user", "GET", _C + "/users/{id}", "One user", get_user, {200: UserOut}),
        Operation(
            "get_photo", "GET", _C + "/users/{id}/photo", "A user's photo", get_photo, {200: "image/*", 304: None}
        ),
        Operation(
            "list_devices", "GET", _C + "/devices", "Devices", list_devices, {200: list[DeviceOut]}, query=UsersQuery
        ),
        Operation("get_device", "GET", _C + "/devices/{id}", "One device", get_device, {200: DeviceOut}),
        Operation(
            "list_contacts",
            "GET",
            _C + "/contacts",
            "Contacts",
            list_contacts,
            {200: list[ContactOut]},
            query=ContactsQuery,
        ),
        Operation("get_contact", "GET", _C + "/contacts/{id}", "One contact", get_contact, {200: ContactOut}),
        Operation(
            "create_contact",
            "POST",
            _C + "/contacts",
            "Add a contact of the portal's own",
            create_contact,
            {201: ContactOut},
            body=ContactIn,
        ),
        Operation(
            "edit_contact",
            "PATCH",
            _C + "/contacts/{id}",
            "Change a contact of the portal's own",
            edit_contact,
            {200: ContactOut},
            body=ContactPatch,
            errors=(409, 412),
        ),
        Operation(
            "delete_contact",
            "DELETE",
            _C + "/contacts/{id}",
            "Remove a contact of the portal's own",
            delete_contact,
            {204: None},
            errors=(409, 412),
        ),
        Operation(
            "list_contact_groups",
            "GET",
            _C + "/contact-groups",
            "Groups of contacts",
            list_contact_groups,
            {200: list[ContactGroupOut]},
            query=GroupsQuery,
        ),
        Operation(
            "list_changes",
            "GET",
            _C + "/changes",
            "What has changed since a cursor",
            list_changes,
            {200: list[ChangeOut]},
            query=ChangesQuery,
        ),
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
