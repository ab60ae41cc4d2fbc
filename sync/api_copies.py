"""The calls about what was synced: users, photos, devices, contacts and their groups, and the change feed."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from storage.tables import PAGE_LIMIT, Row, decode_key, encode_key
from sync import devices, feed
from sync.albums import blob_name
from sync.contacts import own
from sync.contacts.run import CONTACT, GROUP, OWN
from sync.directory import DEVICE
from sync.errors import RequestError
from sync.http import (
    Call,
    ListQuery,
    Reply,
    Top,
    connection_of,
    decode_cursor,
    encode_cursor,
    listing,
    missing,
    public_etag,
)
from sync.models import ChangeOut, ContactGroupOut, ContactOut, DeviceOut, Model, UserOut
from sync.people import USER

SEARCHED = 10_000  # rows that one search request looks through at most


class UsersQuery(ListQuery):
    state: Literal["active", "deleted"] | None = None
    search: Annotated[str, Field(max_length=100)] | None = None


class ContactsQuery(ListQuery):
    azure_state: Literal["active", "deleted", "none"] | None = None
    search: Annotated[str, Field(max_length=100)] | None = None


class GroupsQuery(ListQuery):
    azure_state: Literal["active", "deleted"] | None = None
    search: Annotated[str, Field(max_length=100)] | None = None


class ChangesQuery(Model):
    top: Top = 100
    after: Annotated[str, Field(max_length=200)] | None = None


# --- what was synced -------------------------------------------------------------------------------------------------


def _copies(
    call: Call, prefixes: Mapping[str, str | None], render: Callable[[Row], Any], search: str | None, **values: str
) -> Reply:
    """A page of the rows under these prefixes, each with its filter, as the contract shows them."""
    name = connection_of(call).name
    wanted = (search or "").casefold()
    after = decode_cursor(call.query.cursor, _position(prefixes)) if call.query.cursor else ""
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
                return Reply(200, listing(found, after))
    return Reply(200, listing(found, None))


def _position(prefixes: Iterable[str]) -> str:
    """The keys that a list of these prefixes gives out."""
    return f"(?:{'|'.join(map(re.escape, prefixes))})[A-Za-z0-9.@_~-]{{1,800}}"


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
    name = connection_of(call).name
    row = call.app.tables.data.get(name, USER + encode_key(call.path["id"]))
    if row is None or row["state"] == "purged":
        raise missing("user")
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
    name = connection_of(call).name
    row = call.app.tables.data.get(name, DEVICE + encode_key(call.path["id"]))
    if row is None:
        raise missing("device")
    return Reply(200, _device_renderer(call)(row), public_etag(row["etag"]))


def _device_renderer(call: Call) -> Callable[[Row], DeviceOut]:
    now = call.app.clock()

    def render(row: Row) -> DeviceOut:
        fields = row["j_fields"]
        known = {name: value for name, value in fields.items() if name in _DEVICE_FIELDS and value is not None}
        return DeviceOut.model_validate(
            {
                **known,
                "more": {name: value for name, value in fields.items() if name not in _DEVICE_FIELDS},
                "id": decode_key(row["key"][len(DEVICE) :]),
                "stale": devices.stale(fields, now),
                "duplicates": row.get("j_duplicates", []),
                "state": row["state"],
                "deletedAt": row["deleted_at"] or None,
            }
        )

    return render


def list_contacts(call: Call) -> Reply:
    state = call.query.azure_state
    imported = {} if state == "none" else {CONTACT: _where(state)}
    portals: dict[str, str | None] = {} if state in ("active", "deleted") else {OWN: None}
    return _copies(
        call, {**imported, **portals}, _contact_renderer(call), call.query.search, **_state(state if imported else None)
    )


def get_contact(call: Call) -> Reply:
    name, key = connection_of(call).name, encode_key(call.path["id"])
    row = call.app.tables.data.get(name, CONTACT + key) or call.app.tables.data.get(name, OWN + key)
    if row is None:
        raise missing("contact")
    return _contact(call, row)


def _contact(call: Call, row: Row, status: int = 200, **headers: str) -> Reply:
    return Reply(status, _contact_renderer(call)(row), public_etag(row["etag"]), headers)


def _contact_renderer(call: Call) -> Callable[[Row], ContactOut]:
    """How to show a contact, given the names of the groups."""
    rows = call.app.tables.data.scan(call.path["name"], GROUP)
    names = {decode_key(row["key"][len(GROUP) :]): row["j_fields"]["displayName"] for row in rows}

    def render(row: Row) -> ContactOut:
        prefix, _, key = row["key"].partition("|")
        imported = prefix + "|" == CONTACT
        fields = row["j_fields"]
        groups = [{"id": group, "displayName": names.get(group)} for group in fields.get("groups", ())]
        return ContactOut.model_validate(
            {
                **{name: fields.get(name) for name in ("displayName", "givenName", "surname", "mobilePhone", "mail")},
                "id": decode_key(key),
                "azureId": decode_key(key) if imported else None,
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
    name = connection_of(call).name
    row = own.create(call.app, name, call.body, call.token)
    address = f"/api/connections/{name}/contacts/{row['key'][len(OWN) :]}"
    return _contact(call, row, 201, Location=address)


def edit_contact(call: Call) -> Reply:
    name = connection_of(call).name
    row = own.load(call.app, name, call.path["id"])
    call.match(row["etag"])
    return _contact(call, own.edit(call.app, name, row, call.body))


def delete_contact(call: Call) -> Reply:
    name = connection_of(call).name
    row = own.load(call.app, name, call.path["id"])
    call.match(row["etag"])
    own.delete(call.app, name, row)
    return Reply(204)


def list_changes(call: Call) -> Reply:
    name = connection_of(call).name
    start = decode_cursor(call.query.after, r"\d{1,12}:\d{1,4}", "/after") if call.query.after else "0:0"
    number, _, place = start.partition(":")
    found = feed.read(call.app.tables.data, name, (int(number), int(place)), call.query.top)
    items = [ChangeOut(cursor=encode_cursor(f"{at}:{index}"), **change) for (at, index), change in found]
    return Reply(200, {"items": items, "next": items[-1].cursor if items else encode_cursor(start)})
