"""The occurrences of a series of the portal's own are written with it: in its transaction where they fit, else new ones
before it, which do not count until it is there, and the rest after it.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from storage.tables import TRANSACTION_LIMIT, Conflict, Write
from sync.calendars import store
from sync.calendars.commits import Step
from sync.calendars.desk import Desk
from sync.calendars.model import Reservation
from sync.feed import Change

_ROWS = 90  # in one transaction, beside what goes with them
_SIZE = 3_000_000  # bytes in one: it has 4 MiB (Learn: Performing entity group transactions)

Stored = Mapping[str, tuple[Reservation, str]]
Plan = Callable[[Sequence[Reservation]], list[Reservation]]
"""What is to be written, given the occurrences that are stored."""


def load_parts(desk: Desk, series_id: str) -> Stored:
    """The occurrences of a series with their etags, by id; also those that do not count."""
    rows = desk.app.tables.data.scan(
        desk.name, store.reservation_key(desk.room.id, ""), where="series eq @series", values={"series": series_id}
    )
    found = ((store.parse_reservation(row), row["etag"]) for row in rows)
    return {one.id: (one, etag) for one, etag in found}


def insert(one: Reservation) -> Write:
    return Write("insert", store.reservation_key(one.room, one.id), store.reservation_row(one))


def write(one: Reservation, etag: str | None = None) -> Write:
    """Over the version with `etag`; over whatever is there without."""
    return Write("replace", store.reservation_key(one.room, one.id), store.reservation_row(one), etag)


def told(one: Reservation, before: Reservation | None) -> Change:
    """The change as the portal sees it."""
    if before is None or not before.live:
        return Change("reservation", one.id, "created" if before is None else "restored")
    return Change("reservation", one.id, "updated" if one.live else "deleted")


@dataclass
class Batch:
    """The occurrences that go with a series. `plan` is what is left to be done after its transaction, if anything."""

    desk: Desk
    plan: Plan | None = None
    _ahead: list[Reservation] = field(default_factory=list)

    def step(self, parts: Sequence[Reservation], there: Stored, plan: Plan) -> tuple[list[Write], list[Change]]:
        """What of `parts` goes into the transaction of the series; new ones that do not fit into it are written now."""
        if len(list(_split(parts))) <= 1:
            self.plan = None
            return _writes(parts, there)
        self.plan = plan
        self._ahead = [one for one in parts if one.id not in there]
        for part in _split(self._ahead):
            self.desk.app.tables.data.commit(self.desk.name, [write(one) for one in part])
        return [], [told(one, None) for one in self._ahead]

    def take_back(self) -> None:
        """Delete what was written ahead of a series that is not to be."""
        take_away(self.desk, {one.id for one in self._ahead})


def _writes(parts: Sequence[Reservation], there: Stored) -> tuple[list[Write], list[Change]]:
    """What stores these and tells of them, each over the version that is there."""
    befores = [there.get(one.id, (None, None)) for one in parts]
    writes = [write(one, etag) for one, (_, etag) in zip(parts, befores, strict=True)]
    return writes, [told(one, before) for one, (before, _) in zip(parts, befores, strict=True)]


def take_away(desk: Desk, ids: Collection[str]) -> None:
    """Delete occurrences that do not count; others may be doing the same."""
    names = sorted(ids)
    for at in range(0, len(names), TRANSACTION_LIMIT):
        writes = [
            Write("delete", store.reservation_key(desk.room.id, name)) for name in names[at : at + TRANSACTION_LIMIT]
        ]
        try:
            desk.app.tables.data.commit(desk.name, writes)
        except Conflict:
            for write_ in writes:
                desk.app.tables.data.commit(desk.name, [write_])


def finish(desk: Desk, series_id: str, plan: Plan) -> None:
    """Write what `plan` still finds to be done after the transaction of the series. Raises Conflict, RequestError `room-not-found`."""

    def decide() -> Step[bool]:
        stored = load_parts(desk, series_id)
        part = next(_split(plan([one for one, _ in stored.values()])), [])
        return Step(bool(part), *_writes(part, stored))

    while desk.transact(decide)[0]:
        continue


def _split(parts: Sequence[Reservation]) -> Iterator[list[Reservation]]:
    """The rows in parts that a transaction takes. All occurrences of a series are about as large as the first."""
    if parts:
        document = store.reservation_row(parts[0])["j_reservation"]
        size = 1000 + len(json.dumps(json.dumps(document, ensure_ascii=False)))  # as the SDK sends it
        step = max(1, min(_ROWS, _SIZE // size))
        yield from (list(parts[at : at + step]) for at in range(0, len(parts), step))
