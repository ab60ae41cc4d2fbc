"""The change feed that the portal reads.

Changes are committed in the same transaction as the rows they tell of, packed into one feed row whose number is
taken from the head row in that very transaction. So numbers rise in the order of commits, and a reader that polls
with its last cursor sees every change, even while several runs write.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from storage.tables import Row, Table, Write

HEAD = "head"
PREFIX = "feed|"
ChangeKind = Literal["created", "updated", "deleted", "restored", "invited", "expiring"]


@dataclass(frozen=True)
class Change:
    """One change of one object, as the portal sees it."""

    entity: str
    id: str
    change: ChangeKind


class Head:
    """The number of the newest feed row of one connection, as last seen."""

    def __init__(self, data: Table, connection: str) -> None:
        self._data = data
        self._connection = connection
        self._row: Row | None = None
        self._loaded = False

    def append(self, changes: Sequence[Change], run: str, at: datetime) -> list[Write]:
        """The two writes that add `changes`; commit them with what they tell of, then call `advance`."""
        if not self._loaded:
            self._row = self._data.get(self._connection, HEAD)
            self._loaded = True
        number = 1 if self._row is None else self._row["number"] + 1
        packed = [[change.entity, change.id, change.change] for change in changes]
        head = {"number": number}
        return [
            Write("insert", f"{PREFIX}{number:012d}", {"j_changes": packed, "run": run, "at": at}),
            Write("insert", HEAD, head) if self._row is None else Write("replace", HEAD, head, self._row["etag"]),
        ]

    def advance(self, etag: str) -> None:
        """Note that the last `append` was committed and the head row now has `etag`."""
        number = 1 if self._row is None else self._row["number"] + 1
        self._row = {"number": number, "etag": etag}

    def forget(self) -> None:
        """Read the head row again next time: somebody else has written."""
        self._loaded = False


def read(
    data: Table, connection: str, after: tuple[int, int], top: int
) -> list[tuple[tuple[int, int], dict[str, Any]]]:
    """Up to `top` changes that come after the position `after` (row number, index in it), each with its position."""
    number, index = after
    found: list[tuple[tuple[int, int], dict[str, Any]]] = []
    start = f"{PREFIX}{number:012d}"
    for row in data.scan(connection, PREFIX, start=start):
        at = int(row["key"][len(PREFIX) :])
        for place, (entity, item, change) in enumerate(row["j_changes"]):
            if (at, place) > (number, index):
                found.append(
                    ((at, place), {"at": row["at"], "entity": entity, "id": item, "change": change, "run": row["run"]})
                )
            if len(found) == top:
                return found
    return found
