"""Everything that the product keeps of its own: for tests that look for what must be there, or must not be."""

from dataclasses import dataclass
from typing import Any

from storage.queues import MANUAL, SCHEDULED
from tests.house import House


@dataclass
class Contents:
    """Rows by table, blobs by name, queue messages as they travel, and the names of secrets, deleted ones too."""

    rows: dict[str, list[dict[str, Any]]]
    blobs: dict[str, bytes]
    messages: list[str]
    secrets: set[str]

    def naming(self, *words: str) -> list[tuple[str, str]]:
        """Where any of `words` stands in a row, a blob's name or a message: (place, key)."""
        places = [(table, row["RowKey"], repr(row)) for table, rows in self.rows.items() for row in rows]
        places += [("blobs", name, name) for name in self.blobs]
        places += [("queue", "", message) for message in self.messages]
        return [(place, key) for place, key, text in places if any(word in text for word in words)]


def contents(house: House) -> Contents:
    """What storage and vault hold now; messages are looked at, not taken."""
    tables, container = house.app.tables._service, house.app.blobs._container
    queues, vault = house.app.queues._clients, house.app.secrets._client
    return Contents(
        rows={
            table.name: [dict(row) for row in tables.get_table_client(table.name).list_entities()]
            for table in tables.list_tables()
        },
        blobs={name: container.download_blob(name).readall() for name in container.list_blob_names()},
        messages=[
            message.content for name in (MANUAL, SCHEDULED) for message in queues[name].peek_messages(max_messages=32)
        ],
        secrets={str(secret.name) for secret in vault.list_properties_of_secrets()}
        | {str(secret.name) for secret in vault.list_deleted_secrets()},
    )
