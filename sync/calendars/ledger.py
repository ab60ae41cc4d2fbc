"""The reservations of one room as one visit of a run sees and changes them."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from storage.tables import Write
from sync.calendars.merge import Verdict
from sync.calendars.model import GONE_KEPT, Reservation
from sync.calendars.store import (
    load_reservations,
    reservation_key,
    reservation_row,
    send_key,
    touch_slots,
    writes_to_send,
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
    "user-mailbox-silent": "Nothing to do: the organizer's mailbox does not answer, and the next run tries again.",
    "recurring-not-sent": "Nothing to do: recurring reservations are sent by the ongoing sync.",
    "organizer-event-missing": "Cancel it in Outlook: the organizer's calendar has lost it, the room's has it.",
    "organizer-unreadable": "Look at it in its organizer's calendar: what that says makes no sense here.",
    "user-calendar-not-allowed": "Make it again: the settings do not allow reservations in users' calendars any more.",
    "owner-calendar-denied": "Let the app into the owner's mailbox, or leave it in the room's calendar.",
    "graph-refused": "Make it in Outlook, or try another time: Microsoft does not take it like this.",
    "crossing-boundary": "Ask the organizer: an occurrence cannot pass its neighbour.",
    "room-removed": "Cancel it in Outlook: its room was removed here before its calendar could be told.",
    "zone-unknown": "Nothing to do: its time zone is one that only Outlook knows, so the room's was taken.",
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

    def settle(self) -> None:
        """What need not be sent any more, or is not here any more, does not wait for that."""
        held = {one: self._held.get(one) for one in self._sends}
        self._sent |= {name for name, one in held.items() if one is None or one.link.state not in _TO_SEND}

    def waiting(self) -> set[str]:
        """The etags of the rows that say what is still to be sent."""
        return {etag for one, etag in self._sends.items() if one not in self._sent}

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
        """Write everything; `last`, the outcomes and the log go with the last transaction. Raises Conflict.

        Whatever is to be sent from now on, or need not be any more, is noted with it. A series comes after its occurrences:
        what has become of it tells where they belong.
        """
        self.settle()
        ids = sorted(self._changed.keys() | self._sent, key=lambda one: (self._is_series(one), one))
        parts = [ids[at : at + _ROWS] for at in range(0, len(ids), _ROWS)] or [[]]
        for number, part in enumerate(parts, start=1):
            end = number == len(parts)
            self._commit_part(part, now, last if end else (), end=end)

    def purge(self, now: datetime) -> None:
        """Forget what ended for good 30 days ago: until then its event may come back. Raises Conflict."""
        needed = {one.series for one in self if one.live}
        ended = [one for one in self if not one.live and one.link.state == "gone" and one.id not in needed]
        over = [one for one in ended if one.updated_at <= now - GONE_KEPT]
        for at in range(0, len(over), _ROWS):
            part = over[at : at + _ROWS]
            writes = [Write("delete", reservation_key(self.room, one.id), etag=self._etags[one.id]) for one in part]
            shown = [Change(ENTITY, one.id, "deleted") for one in part if one.status == "declined"]
            self._work.claim.commit(now, writes, changes=shown)
            for one in part:
                del self._held[one.id], self._etags[one.id]

    def _is_series(self, one: str) -> bool:
        held = self._held.get(one)
        return held is not None and held.kind == "series"

    def _commit_part(self, ids: Sequence[str], now: datetime, last: Sequence[Write], *, end: bool) -> None:
        rows = [one for one in ids if one in self._changed]
        asks = [one for one in rows if self._held[one].link.state in _TO_SEND and one not in self._sends]
        unsent = [Write("delete", send_key(self.room, one), etag=self._sends[one]) for one in ids if one in self._sent]
        slots = [touch_slots(self.room)] if rows else []
        told = writes_to_send(self._held[one] for one in asks)
        writes = [*(self._write(one) for one in rows), *told, *unsent, *slots, *last]
        changes = [Change(ENTITY, one, change) for one in rows if (change := self._changed[one])]
        if writes or (end and (self._outcomes or self._log)):
            etags = self._work.claim.commit(
                now,
                writes,
                changes=changes,
                log=self._log if end else (),
                outcomes=self._outcomes if end else None,
            )
            keys = [*(reservation_key(self.room, one) for one in rows), *(send_key(self.room, one) for one in asks)]
            known = dict(zip(keys, etags, strict=False)) if etags else self._reload(keys)
            self._etags.update({one: known[reservation_key(self.room, one)] for one in rows})
            self._sends.update({one: known[send_key(self.room, one)] for one in asks})
        self._forget(ids, end=end)

    def _reload(self, keys: Sequence[str]) -> dict[str, str]:
        """The etags of what was written, the answer to that being lost."""
        rows = {key: self._work.app.tables.data.get(self._work.connection, key) for key in keys}
        return {key: row["etag"] if row else "" for key, row in rows.items()}

    def _write(self, one: str) -> Write:
        row, etag = reservation_row(self._held[one]), self._etags.get(one)
        return Write("replace" if etag else "insert", reservation_key(self.room, one), row, etag)

    def _forget(self, ids: Sequence[str], *, end: bool) -> None:
        for one in ids:
            self._changed.pop(one, None)
            if one in self._sent:
                self._sent.discard(one)
                del self._sends[one]
        if end:
            self._outcomes, self._log = {}, []
