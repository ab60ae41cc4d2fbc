"""The reservations of one room as one visit of a run sees and changes them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from storage.tables import Write
from sync.calendars.merge import Verdict
from sync.calendars.model import Reservation
from sync.calendars.store import (
    load_reservation,
    load_reservations,
    reservation_key,
    reservation_row,
    send_key,
    touch_slots,
)
from sync.feed import Change, ChangeKind
from sync.runs import Action, LogLine, Outcome, PlanLine

if TYPE_CHECKING:
    from sync.jobs import Work

ENTITY = "reservation"
_ROWS = 45  # of a transaction of 100: each with the row that says it is to be sent, and a change

_TO_SEND = frozenset({"creating", "updating", "deleting"})
_ACTIONS: Mapping[ChangeKind, Action] = {
    "created": "create",
    "restored": "create",
    "updated": "update",
    "deleted": "delete",
    "invited": "update",
}
_REMEDIES = {
    "room-busy": "Choose another time: the room was taken meanwhile.",
    "outlook-won": "Nothing to do: the same was changed in Outlook, which counts.",
    "room-declined": "Choose another time or room: the room declined it.",
    "organizer-locked": "Ask the organizer to change it in Outlook, or enable user calendar delegation.",
    "user-mailbox-denied": "Let the app into the organizer's mailbox, or leave such meetings to Outlook.",
    "recurring-not-sent": "Nothing to do: recurring reservations are sent by the ongoing sync.",
}


class Ledger:
    """Reads all reservations of the room once; `put` changes one, `commit` writes what was changed.

    A reservation that the portal changed in between makes `commit` raise Conflict: look again, then decide again.
    """

    def __init__(self, work: "Work", room: str, sends: Mapping[str, str]) -> None:
        self._work = work
        self._sends = dict(sends)
        self.room = room
        loaded = load_reservations(work.app.tables.data, work.connection, room)
        self._held = {reservation.id: reservation for reservation, _ in loaded}
        self._etags = {reservation.id: etag for reservation, etag in loaded}
        self._changed: dict[str, ChangeKind | None] = {}
        self._sent: set[str] = set()
        self._outcomes: dict[str, int] = {}
        self._log: list[LogLine] = []

    def __iter__(self) -> Iterator[Reservation]:
        return iter(list(self._held.values()))

    def get(self, reservation_id: str) -> Reservation | None:
        return self._held.get(reservation_id)

    def put(self, reservation: Reservation, change: ChangeKind | None = None) -> None:
        """Store `reservation`; `change` is what the portal is told, None where it cannot see a difference."""
        told = self._changed.get(reservation.id)
        self._held[reservation.id] = reservation
        self._changed[reservation.id] = change or told

    def apply(self, known: Reservation | None, verdict: Verdict) -> set[str]:
        """Count a verdict about `known` and store what it changes; the ids of the reservations that it is about."""
        self.count(verdict.outcome)
        after = verdict.reservation
        if after is not None:
            self.put(after, verdict.change)
            if verdict.lost:
                self.note(after.id, verdict.outcome, "outlook-won")
        about = after or known
        return {about.id} if about else set()

    def sent(self, reservation_id: str) -> None:
        """Nothing of it waits to be sent any more."""
        if reservation_id in self._sends:
            self._sent.add(reservation_id)

    def count(self, outcome: Outcome) -> None:
        self._outcomes[outcome] = self._outcomes.get(outcome, 0) + 1

    def note(self, item: str, outcome: Outcome, reason: str, *, entity: str = ENTITY, level: str = "warning") -> None:
        """A line of the run log; the item is counted apart."""
        remedy = _REMEDIES.get(reason, "")
        self._log.append(LogLine("error" if level == "error" else "warning", entity, item, outcome, reason, remedy))

    def outcomes(self) -> dict[str, int]:
        """How the items of this visit have counted so far."""
        return dict(self._outcomes)

    def plan(self) -> list[PlanLine]:
        """What `commit` would write, and what would be sent then."""
        lines = [PlanLine(ENTITY, one, _ACTIONS[change], "outlook") for one, change in self._changed.items() if change]
        return lines + [PlanLine(ENTITY, one.id, "send", one.link.state) for one in self if one.link.state in _TO_SEND]

    def commit(self, now: datetime, last: Sequence[Write] = ()) -> None:
        """Write everything; `last`, the outcomes and the log go with the last transaction. Raises Conflict."""
        ids = sorted(self._changed.keys() | self._sent)
        parts = [ids[at : at + _ROWS] for at in range(0, len(ids), _ROWS)] or [[]]
        for number, part in enumerate(parts, start=1):
            end = number == len(parts)
            self._commit_part(part, now, last if end else (), end=end)

    def _commit_part(self, ids: Sequence[str], now: datetime, last: Sequence[Write], *, end: bool) -> None:
        rows = [one for one in ids if one in self._changed]
        writes = [*self._writes(rows), *self._unsent(one for one in ids if one in self._sent), *last]
        changes = [Change(ENTITY, one, change) for one in rows if (change := self._changed[one])]
        if writes or (end and (self._outcomes or self._log)):
            etags = self._work.claim.commit(
                now,
                writes,
                changes=changes,
                log=self._log if end else (),
                outcomes=self._outcomes if end else None,
            )
            self._note_etags(rows, etags)
        self._forget(ids, end=end)

    def _note_etags(self, rows: Sequence[str], etags: Sequence[str]) -> None:
        if etags:
            self._etags.update(zip(rows, etags, strict=False))
            return
        for one in rows:  # the answer to the write was lost
            found = load_reservation(self._work.app.tables.data, self._work.connection, self.room, one)
            if found:
                self._etags[one] = found[1]

    def _writes(self, rows: Sequence[str]) -> list[Write]:
        writes = [self._write(one, self._etags.get(one)) for one in rows]
        return [*writes, touch_slots(self.room)] if writes else []

    def _write(self, one: str, etag: str | None) -> Write:
        row = reservation_row(self._held[one])
        return Write("replace" if etag else "insert", reservation_key(self.room, one), row, etag)

    def _unsent(self, ids: Iterable[str]) -> list[Write]:
        """Under the etag that was seen: a later change of the portal wants to be sent, too."""
        return [Write("delete", send_key(self.room, one), etag=self._sends[one]) for one in ids]

    def _forget(self, ids: Sequence[str], *, end: bool) -> None:
        for one in ids:
            self._changed.pop(one, None)
            if one in self._sent:
                self._sent.discard(one)
                del self._sends[one]
        if end:
            self._outcomes, self._log = {}, []
