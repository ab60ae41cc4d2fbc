"""One room as one run looks at it: what it may do there, and who cannot be read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from storage.tables import Write, decode_key, encode_key
from sync.calendars.ledger import Ledger
from sync.calendars.mailboxes import ATTEMPTS, Denied
from sync.calendars.model import Policy, Room, RoomState
from sync.calendars.store import Todo
from sync.calendars.terms import policy_of
from sync.errors import Deferred
from sync.sync_settings import CalendarsSettings

if TYPE_CHECKING:
    from sync.graph.client import GraphClient
    from sync.jobs import Work

DENIAL = "denied|"
LOOK_AGAIN = timedelta(seconds=60)
DENIAL_KEPT = timedelta(hours=24)
SILENCE_KEPT = timedelta(minutes=5)
_SILENT = "silent"


class OutOfReach(Exception):
    """A user's mailbox does not answer for now: what is for it waits, and everything else goes on."""


class Denials:
    """The users' mailboxes that refused the app in the last 24 hours, or did not answer in the last five minutes, so that
    nobody asks again for each meeting.
    """

    def __init__(self, work: "Work") -> None:
        self._work = work
        rows = work.app.tables.data.scan(work.connection, DENIAL)
        self._known = {decode_key(row["key"][len(DENIAL) :]): (row["reason"], row["until"]) for row in rows}

    def get(self, mailbox: str, now: datetime) -> Denied | None:
        """Why a mailbox is closed; None where it is not."""
        reason = self._reason(mailbox, now)
        return Denied(reason) if reason and reason != _SILENT else None

    def is_silent(self, mailbox: str, now: datetime) -> bool:
        return bool(self._reason(mailbox, now) == _SILENT)

    def add(self, mailbox: str, denied: Denied, now: datetime) -> None:
        if denied.reason == "unanswered":
            self.add_silent(mailbox, now)
        else:
            self._keep(mailbox, denied.reason, now + DENIAL_KEPT)

    def add_silent(self, mailbox: str, now: datetime) -> None:
        self._keep(mailbox, _SILENT, now + SILENCE_KEPT)

    def any_denied(self, now: datetime) -> bool:
        """Whether a mailbox of the tenant itself is closed to the app."""
        return any(reason not in ("external", _SILENT) and until > now for reason, until in self._known.values())

    def _reason(self, mailbox: str, now: datetime) -> Any:
        found = self._known.get(mailbox.lower())
        return found[0] if found and found[1] > now else None

    def _keep(self, mailbox: str, reason: str, until: datetime) -> None:
        self._known[mailbox.lower()] = (reason, until)
        write = Write("replace", DENIAL + encode_key(mailbox.lower()), {"reason": reason, "until": until})
        if not self._work.run.dry_run:
            self._work.app.tables.data.commit(self._work.connection, [write])


@dataclass
class Visit:
    """What one look at a room needs. `full` is a full round that an admin asked for; `again` asks for another round at
    the end; `waits_for` are rooms to which reservations of this one are on their way, `left` the reservations that wait for
    a user's mailbox to answer, `moved` those that are looked for in a calendar that is new to the room.
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
    left: set[str] = field(default_factory=set, init=False)
    moved: set[str] = field(default_factory=set, init=False)
    _ledger: Ledger | None = field(default=None, init=False)

    @property
    def graph(self) -> "GraphClient":
        return self.work.graph

    @property
    def users_graph(self) -> "GraphClient":
        """For users' mailboxes, whose troubles are not the room's: nothing of theirs is waited for long."""
        return self.work.graph.brief(ATTEMPTS)

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

    @contextmanager
    def asking(self, mailbox: str) -> Iterator[None]:
        """Around what is asked of a mailbox. Raises OutOfReach where that is another one than the room's and does not
        answer; a pause that Graph asks for concerns everybody.
        """
        if self.denials.is_silent(mailbox, self.work.now()):
            raise OutOfReach
        try:
            yield
        except Deferred as error:
            if mailbox == self.mailbox or error.throttled or error.code != Deferred.code:
                raise
            self.denials.add_silent(mailbox, self.work.now())
            raise OutOfReach from error

    def await_answer(self) -> None:
        """Have the room's answer looked for in a minute, should nobody tell of it: a room that declines is silent."""
        self.set(awaiting=True, look_again=self.work.now() + LOOK_AGAIN)

    def set(self, **changes: object) -> None:
        """Change the room's state, which is stored at the end of the visit."""
        self.state = replace(self.state, **changes)  # type: ignore[arg-type] # fields by name
