"""Table Storage: rows as plain dictionaries, ranges of keys, and transactions that happen whole or not at all.

A row is a dict of properties. A property whose name begins with `j_` holds any JSON value; one too wide for a
single property is split over several. Keys made of outside strings go through `encode_key`.

Limits from Learn, "Understanding the Table service data model" and "Scalability and performance targets for
Table storage": 100 operations a transaction in one partition, 1 KiB (UTF-16) a key, 64 KiB a string property, 1,000
rows an answer.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.data.tables import TableClient, TableServiceClient, TableTransactionError, UpdateMode

TRANSACTION_LIMIT = 100
PAGE_LIMIT = 1000
KEY_LIMIT = 512
READERS = 8
_PIECE = 16_000  # characters; at two UTF-16 units each they stay under 64 KiB

Row = dict[str, Any]


class Conflict(Exception):
    """A condition of a write did not hold: somebody else wrote first, or the row is gone or already there.

    `place` is that of the write in its transaction.
    """

    def __init__(self, code: str = "", place: int = 0) -> None:
        super().__init__(code)
        self.place = place


@dataclass(frozen=True)
class Write:
    """One step of a transaction.

    `insert` fails where the row exists, `replace` and `delete` where it does not carry `etag` (None: any),
    `merge` keeps the properties that are not named and creates the row where it is missing unless it has an etag;
    `update` does the same to a row that must be there.
    A `delete` of a row that is not there is fine when it stands alone; in a transaction it is a conflict.
    """

    kind: Literal["insert", "merge", "update", "replace", "delete"]
    key: str
    row: Mapping[str, Any] = field(default_factory=dict)
    etag: str | None = None


def encode_key(text: str) -> str:
    """`text` as part of a key: every character but letters, digits and `.@_-` becomes its bytes as ~xx."""
    return re.sub(r"[^A-Za-z0-9.@_-]", lambda hit: "".join(f"~{byte:02x}" for byte in hit.group().encode()), text)


def decode_key(key: str) -> str:
    """The text that `encode_key` made `key` from."""
    return re.sub(r"(?:~[0-9a-f]{2})+", lambda hit: bytes.fromhex(hit.group().replace("~", "")).decode(), key)


class Table:
    """One table. Every call is one storage transaction, `scan` one for each page of rows."""

    def __init__(self, client: TableClient) -> None:
        self._client = client

    def get(self, partition: str, key: str) -> Row | None:
        """The row with its `etag`, or None."""
        if len(key) > KEY_LIMIT:
            return None
        try:
            return _decode(self._client.get_entity(partition, key))
        except ResourceNotFoundError:
            return None

    def get_many(self, partition: str, keys: Iterable[str]) -> dict[str, Row]:
        """Those of these rows that are there, by key: a transaction each, several at a time."""
        wanted = list(dict.fromkeys(keys))
        contexts = [copy_context() for _ in wanted]  # what counts the transactions of a run is in them
        with ThreadPoolExecutor(READERS) as pool:
            rows = pool.map(lambda key, context: context.run(self.get, partition, key), wanted, contexts)
            return {key: row for key, row in zip(wanted, rows, strict=True) if row is not None}

    def commit(self, partition: str, writes: Sequence[Write]) -> list[str]:
        """Do all of `writes` (at most 100, one per key) or none; return their new etags. Raises Conflict."""
        if len(writes) == 1:
            return [self._single(partition, writes[0])]
        operations = [_operation(partition, write) for write in writes]
        try:
            answers = self._client.submit_transaction(operations)
        except TableTransactionError as error:
            raise _conflict_or(error) from error
        return [str(answer.get("etag", "")) for answer in answers]

    def commit_in_parts(self, partition: str, writes: Sequence[Write]) -> None:
        """Do all of `writes`, each hundred whole or not at all. Raises Conflict."""
        for start in range(0, len(writes), TRANSACTION_LIMIT):
            self.commit(partition, writes[start : start + TRANSACTION_LIMIT])

    def _single(self, partition: str, write: Write) -> str:
        entity = _encode(partition, write.key, write.row)
        condition = _condition(write.etag)
        try:
            if write.kind == "insert":
                return str(self._client.create_entity(entity)["etag"])
            if write.kind == "delete":
                self._client.delete_entity(partition, write.key, **condition)
                return ""
            mode = UpdateMode.REPLACE if write.kind == "replace" else UpdateMode.MERGE
            if write.etag is None and write.kind != "update":
                return str(self._client.upsert_entity(entity, mode=mode)["etag"])
            return str(self._client.update_entity(entity, mode=mode, **condition)["etag"])
        except HttpResponseError as error:
            raise _conflict_or(error) from error

    def page(self, partition: str, prefix: str, *, top: int = PAGE_LIMIT, **options: Any) -> list[Row]:
        """Up to `top` rows of what `scan` gives with the same options. Fewer than `top` mean the end of the range."""
        return list(islice(self.scan(partition, prefix, size=min(top, PAGE_LIMIT), **options), top))

    def scan(
        self,
        partition: str,
        prefix: str = "",
        *,
        after: str = "",
        start: str = "",
        until: str | None = None,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        values: Mapping[str, Any] | None = None,
        size: int = PAGE_LIMIT,
    ) -> Iterator[Row]:
        """The rows of the partition whose keys begin with `prefix`, in the order of their keys, read `size` at a time.

        The range begins behind the key `after` or at `start`, and ends before `until`. `columns` limits what is
        read, `where` is an OData filter with @names that are bound by `values`.
        """
        clauses = ["PartitionKey eq @partition"]
        parameters: dict[str, Any] = {"partition": partition, **(values or {})}
        bounds = {
            "RowKey gt @after": after,
            "RowKey ge @low": max(prefix, start),
            "RowKey lt @high": until or (_next(prefix) if prefix else ""),
        }
        for clause, bound in bounds.items():
            if bound:
                clauses.append(clause)
                parameters[clause.partition("@")[2]] = bound
        if where:
            clauses.append(f"( {where} )")  # the SDK finds parameters between spaces
        select = None if columns is None else ["PartitionKey", "RowKey", *columns]
        entities = self._client.query_entities(
            " and ".join(clauses), parameters=parameters, select=select, results_per_page=size
        )
        return map(_decode, entities)


class Tables:
    """The tables of the product. `connections` and `due` have few partitions; `data` one per connection, `subscriptions`
    one per row.
    """

    def __init__(self, service: TableServiceClient, prefix: str = "") -> None:
        self._service = service
        self._names = {name: f"{prefix}{name}" for name in ("connections", "data", "due", "budgets", "subscriptions")}
        self.connections = Table(service.get_table_client(self._names["connections"]))
        self.data = Table(service.get_table_client(self._names["data"]))
        self.due = Table(service.get_table_client(self._names["due"]))
        self.budgets = Table(service.get_table_client(self._names["budgets"]))
        self.subscriptions = Table(service.get_table_client(self._names["subscriptions"]))

    def create(self) -> None:
        """Make the tables that are missing."""
        for name in self._names.values():
            self._service.create_table_if_not_exists(name)

    def ping(self) -> None:
        """One small read; raises the SDK's error where storage does not answer."""
        self.connections.get("ping", "ping")


def _next(prefix: str) -> str:
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _condition(etag: str | None) -> dict[str, Any]:
    return {} if etag is None else {"etag": etag, "match_condition": MatchConditions.IfNotModified}


def _operation(partition: str, write: Write) -> Any:
    entity = _encode(partition, write.key, write.row)
    condition = _condition(write.etag)
    match write.kind:
        case "insert":
            return ("create", entity)
        case "delete":
            return ("delete", entity, condition)
        case "merge" if write.etag is None:
            return ("upsert", entity, {"mode": UpdateMode.MERGE})
        case "merge" | "update":
            return ("update", entity, {"mode": UpdateMode.MERGE, **condition})
        case _ if write.etag is None:
            return ("upsert", entity, {"mode": UpdateMode.REPLACE})
        case _:
            return ("update", entity, {"mode": UpdateMode.REPLACE, **condition})


def _conflict_or(error: HttpResponseError) -> Exception:
    """Conflict for the answers that mean a condition failed, else the SDK's own error."""
    lost = isinstance(error, ResourceExistsError | ResourceNotFoundError) or error.status_code in (404, 409, 412)
    place = error.index if isinstance(error, TableTransactionError) else 0
    return Conflict(str(getattr(error, "error_code", "")), place) if lost else error


def _encode(partition: str, key: str, row: Mapping[str, Any]) -> dict[str, Any]:
    entity: dict[str, Any] = {"PartitionKey": partition, "RowKey": key}
    for name, value in row.items():
        if name.startswith("j_"):
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
            entity[name] = pieces[0]
            entity.update({f"{name}__{number}": piece for number, piece in enumerate(pieces[1:], start=1)})
            entity[f"{name}__parts"] = len(pieces)
        elif name not in ("etag", "key"):
            entity[name] = value
    return entity


def _decode(entity: Mapping[str, Any]) -> Row:
    row: Row = {"key": entity.get("RowKey"), "etag": entity.metadata["etag"]}  # type: ignore[attr-defined] # TableEntity
    for name, value in entity.items():
        if name in ("PartitionKey", "RowKey") or "__" in name:
            continue
        if name.startswith("j_"):
            more = range(1, entity.get(f"{name}__parts", 1))
            row[name] = json.loads(value + "".join(entity[f"{name}__{number}"] for number in more))
        else:
            row[name] = value
    return row
