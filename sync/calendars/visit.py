"""One room as one run looks at it: what it may do there, and who cannot be read."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from storage.tables import Write, decode_key, encode_key
from sync.calendars.ledger import Ledger
from sync.calendars.mailboxes import Denied
from sync.calendars.model import Policy, Room, RoomState
from sync.calendars.store import Todo
from sync.calendars.terms import policy_of
from sync.sync_settings import CalendarsSettings

if TYPE_CHECKING:
    from sync.graph.client import GraphClient
    from sync.jobs import Work

DENIAL = "denied|"
DENIAL_KEPT = timedelta(hours=24)


class Denials:
    """The users' mailboxes that refused the app in the last 24 hours, so that nobody asks again for each meeting."""

    def __init__(self, work: "Work") -> None:
        self._work = work
        rows = work.app.tables.data.scan(work.connection, DENIAL)
        self._known = {decode_key(row["key"][len(DENIAL) :]): (row["reason"], row["until"]) for row in rows}

    def get(self, mailbox: str, now: datetime) -> Denied | None:
        found = self._known.get(mailbox.lower())
        return Denied(found[0]) if found and found[1] > now else None

    def add(self, mailbox: str, denied: Denied, now: datetime) -> None:
        until = now + DENIAL_KEPT
        self._known[mailbox.lower()] = (denied.reason, until)
        write = Write("replace", DENIAL + encode_key(mailbox.lower()), {"reason": denied.reason, "until": until})
        if not self._work.run.dry_run:
            self._work.app.tables.data.commit(self._work.connection, [write])

    def any_denied(self, now: datetime) -> bool:
        """Whether a mailbox of the tenant itself is closed to the app."""
        return any(reason != "external" and until > now for reason, until in self._known.values())


@dataclass
class Visit:
    """What one look at a room needs. `full` is a full round that an admin asked for; `again` asks for another round at
    the end; `waits_for` are rooms to which reservations of this one are on their way.
    """

    work: "Work"
    room: Room
    state: RoomState
    todo: Todo
    settings: CalendarsSettings
    denials: Denials
    full: bool = False
    again: bool = field(default=False, init=False)
    waits_for: set[str] = field(default_factory=set, init=False)
    _ledger: Ledger | None = field(default=None, init=False)

    @property
    def graph(self) -> "GraphClient":
        return self.work.graph

    @property
    def mailbox(self) -> str:
        return self.room.external_calendar

    @property
    def policy(self) -> Policy:
        return policy_of(self.settings)

    @property
    def ledger(self) -> Ledger:
        """The room's reservations, read on first use."""
        if self._ledger is None:
            self._ledger = Ledger(self.work, self.room.id, self.todo.sends)
        return self._ledger

    @property
    def opened(self) -> bool:
        """Whether anybody has looked at the reservations."""
        return self._ledger is not None

    def close(self) -> None:
        """Read the reservations anew next time."""
        self._ledger = None

    @property
    def window(self) -> tuple[datetime, datetime]:
        """The window that the state's delta link was made for."""
        assert self.state.window_start is not None
        assert self.state.window_end is not None
        return self.state.window_start, self.state.window_end

    def set(self, **changes: object) -> None:
        """Change the room's state, which is stored at the end of the visit."""
        self.state = replace(self.state, **changes)  # type: ignore[arg-type] # fields by name
