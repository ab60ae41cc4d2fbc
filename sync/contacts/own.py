"""The portal's own contacts: kept beside the imported ones, never touched by a sync."""

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from storage.tables import Conflict, Row, Write, encode_key
from sync.contacts.run import CONTACT, OWN
from sync.contacts.tree import fold
from sync.errors import RequestError
from sync.models import ContactIn, ContactPatch

if TYPE_CHECKING:
    from sync.wiring import App

_IDS = UUID("8e0a4f5e-64d0-4c0e-8b7c-5d8a1f0f3c42")


def create(app: "App", connection: str, wanted: ContactIn, token: str) -> Row:
    """A new contact, as its row; `token` names the request: repeated, it makes no second one. Raises Conflict."""
    key = OWN + uuid5(_IDS, f"{connection}\n{token}").hex
    row = _row(wanted.model_dump(by_alias=True))
    try:
        etag = app.tables.data.commit(connection, [Write("insert", key, row)])[0]
    except Conflict:
        made = app.tables.data.get(connection, key)
        if made is None:
            raise
        return made
    return {**row, "key": key, "etag": etag}


def load(app: "App", connection: str, contact_id: str) -> Row:
    """The row of one of the portal's own. Raises RequestError `contact-not-found`, `contact-is-synced`."""
    key = encode_key(contact_id)
    row = app.tables.data.get(connection, OWN + key)
    if row is not None:
        return row
    if app.tables.data.get(connection, CONTACT + key) is None:
        raise RequestError("There is no such contact", code="contact-not-found", status=404, remedy="Check the id.")
    raise RequestError(
        "This contact comes from Microsoft", code="contact-is-synced", status=409, remedy="Change it in the directory."
    )


def edit(app: "App", connection: str, row: Row, patch: ContactPatch) -> Row:
    """The row with what the patch names. Raises RequestError where the name would be emptied, Conflict."""
    given = patch.model_dump(by_alias=True, exclude_unset=True)
    if given.get("displayName", "") is None:
        raise RequestError("The contact needs a name", fields=[("/displayName", "must not be null")])
    changed = _row({**row["j_fields"], **given})
    etag = app.tables.data.commit(connection, [Write("replace", row["key"], changed, row["etag"])])[0]
    return {**changed, "key": row["key"], "etag": etag}


def delete(app: "App", connection: str, row: Row) -> None:
    """Remove it. Raises Conflict."""
    app.tables.data.commit(connection, [Write("delete", row["key"], etag=row["etag"])])


def _row(fields: dict[str, Any]) -> Row:
    name, mail = fold(fields["displayName"]), fold(fields["mail"] or "")
    return {"j_fields": fields, "folded": name, "mail": mail, "state": "none"}
