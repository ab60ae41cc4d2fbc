"""Graph's subscriptions to rooms: created, renewed, created anew, removed. (Learn: subscription resource type.)

A subscription's clientState proves that a notification is Graph's. It is kept nowhere but at Graph: table
`subscriptions` has, under its digest, whose it is.

PartitionKey sha256(clientState), RowKey "subscription"     connection, room, digest, tenant, subscription
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

from storage.tables import Table, Write

SYNC = "calendars"
CLIENT_STATE_LIMIT = 128
_ROW = "subscription"

Asked = Literal["", "renew", "recreate"]
"""What a lifecycle event asks for beside looking at the room."""


@dataclass(frozen=True)
class Sender:
    """Whom a clientState belongs to. `subscription` is empty until Graph has said its id, `tenant` where it is not known."""

    connection: str
    room: str
    digest: str
    subscription: str
    tenant: str


def digest_of(client_state: str) -> str:
    """What is stored of a clientState."""
    return hashlib.sha256(client_state.encode(errors="surrogatepass")).hexdigest()


def find_sender(table: Table, digest: str) -> Sender | None:
    """The owner of the clientState with this digest, or None."""
    row = table.get(digest, _ROW)
    return None if row is None else Sender(**{name: row[name] for name in Sender.__dataclass_fields__})


def save_sender(table: Table, sender: Sender) -> None:
    row = {name: getattr(sender, name) for name in Sender.__dataclass_fields__}
    table.commit(sender.digest, [Write("replace", _ROW, row)])
