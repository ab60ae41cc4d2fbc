"""The calendars sync: one run of a connection looks at every room that has a reason, one after the other.

What a run does next follows from what is stored alone, so a run that is killed or stopped is gone on with by any other.
A room is committed as a whole: first what its calendar showed, with the delta link that goes with it, then each thing
that was sent.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from storage.tables import Conflict, Row, Write
from sync.calendars import store
from sync.calendars.failing import refused, unanswered
from sync.calendars.leaving import follow_settings, leave, send_last
from sync.calendars.model import Room, RoomState
from sync.calendars.pacing import FULL_START, PAUSE, READ_START, SYNC
from sync.calendars.polling import NEVER, POLL_START, interval, poll_sooner
from sync.calendars.pull import pull
from sync.calendars.push import push, resend
from sync.calendars.reasons import ROUND, Reason, reasons, urgency
from sync.calendars.store import Todo, load_rooms, load_states, load_todos
from sync.calendars.terms import window_of
from sync.calendars.visit import LOOK_AGAIN, Denials, Visit
from sync.due import move_poll, next_poll
from sync.errors import Deferred, Forbidden, GraphError, NotFound, SignInError
from sync.jobs import Finish, Work
from sync.runs import STATE, LogLine
from sync.subscriptions import Subscriber, asked_of, decide
from sync.sync_settings import CalendarsSettings

if TYPE_CHECKING:
    from sync.wiring import App

log = logging.getLogger(__name__)

REREAD = timedelta(seconds=2)
ATTEMPTS = 3
QUIET_ROOMS = 40
STUCK = 1000
RECENT = timedelta(minutes=5)
SEEN = "seen_at"  # what was asked of the sync before this was seen by a run


@dataclass
class Board:
    """All rooms of a connection and what waits in them, as this slice knows it.

    `tried` are the etags of the rows of what was tried to be sent and still waits: not again in this slice. Those that
    are `stuck` need not be tried again at once, either. `held_up` are those that wait for a room to have been looked at.
    `row` is the state of the sync, as it was at `read_at`: what was asked for since is another run's.
    """

    work: Work
    settings: CalendarsSettings
    rooms: dict[str, Room]
    states: dict[str, RoomState]
    todos: dict[str, Todo]
    read_at: datetime
    row: Row
    denials: Denials
    done_before: int
    due: dict[str, frozenset[Reason]] = field(default_factory=dict)
    quiet: dict[str, RoomState] = field(default_factory=dict)
    looked: set[str] = field(default_factory=set)
    planned: set[str] = field(default_factory=set)
    tried: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    held_up: dict[str, set[str]] = field(default_factory=dict)
    doubted: bool = False

    @classmethod
    def read(cls, work: Work) -> "Board":
        """Four transactions for up to 1,000 rooms, and one for the state of the sync."""
        data, name = work.app.tables.data, work.connection
        settings = work.settings
        assert isinstance(settings, CalendarsSettings)
        begun, row, todos = work.now(), work.state(), load_todos(data, name)
        board = cls(
            work=work,
            settings=settings,
            rooms={room.id: room for room in load_rooms(data, name)},
            states=load_states(data, name),
            todos=todos,
            read_at=begun,
            row=row,
            denials=Denials(work),
            done_before=work.run.checkpoint.get("done", 0),
        )
        board.look_over(board.known())
        return board

    def next(self) -> tuple[str, frozenset[Reason]] | None:
        """The room to look at next, and why. What waits is read again every two seconds, and before the end."""
        now = self.work.now()
        if now - self.read_at >= REREAD:
            self.reread(now)
        if not self.due and now > self.read_at:
            self.reread(now)
        key = min(sorted(self.due), key=lambda each: urgency(self.due[each]), default=None)
        return None if key is None else (key, self.due[key])

    def look_over(self, keys: Iterable[str]) -> None:
        """Find out which of these rooms have a reason to be looked at."""
        now, known = self.work.now(), self.known() - self.planned
        for key in keys:
            self.due.pop(key, None)
            if key in known and (found := self._reasons(key, now)):
                self.due[key] = found

    def progress(self) -> dict[str, Any]:
        """How many rooms were looked at, of how many that have or had a reason, as a run shows it."""
        done = self.done_before + len(self.looked)
        total = done + len(self.due.keys() - self.looked)
        return {"unit": "rooms", "total": total, "checkpoint": {**self.work.run.checkpoint, "done": done}}

    def reread(self, now: datetime) -> None:
        """What waits, and then the rooms: one that is new or was changed is heard of in the transaction that did it."""
        data, name = self.work.app.tables.data, self.work.connection
        self.todos = {
            room: replace(todo, sends={one: etag for one, etag in todo.sends.items() if etag not in self.tried})
            for room, todo in load_todos(data, name).items()
        }
        if any(todo.heard for todo in self.todos.values()):
            self.rooms = {room.id: room for room in load_rooms(data, name)}
        self.row, self.read_at = self.work.state(), now
        self.look_over(self.known())

    def note_sent(self, visit: Visit) -> None:
        """What is left of what a visit has sent waits; what waited for that room need not any more."""
        left = visit.ledger.waiting()
        for room in visit.waits_for:
            self.held_up.setdefault(room, set()).update(left)
        let_go = self.held_up.pop(visit.room.id, set())
        self.tried = (self.tried | left) - let_go
        self.stuck = (self.stuck | (set() if visit.full else left)) - let_go

    def known(self) -> set[str]:
        """Every room that there is or was."""
        return {*self.rooms, *self.states, *self.todos}

    def _reasons(self, key: str, now: datetime) -> frozenset[Reason]:
        room, state, todo = self.rooms.get(key), self.state(key), self.todos.get(key, Todo())
        if not self.settings.enabled:  # as if every room were off; what waits stays
            return frozenset({"leave"}) if state.subscription else frozenset()
        if room is None:
            waits = state.status == "inactive" and state.retry_at is not None and state.retry_at > now
            return frozenset() if waits else frozenset({"leave"})
        return reasons(
            room,
            state,
            todo,
            now=now,
            window=window_of(self.settings, room.time_zone, now),
            full_start=self.row.get(FULL_START),
            asked_at=self._asked_at(),
            silent_before=self._silent_before(state),
            subscribes=self._subscribes(state, todo, now),
        )

    def _asked_at(self) -> datetime:
        """When a person last asked for every calendar to be read."""
        asked: datetime = self.row.get(READ_START, NEVER)
        return self.work.run.queued_at if self.work.run.dry_run else asked

    def _silent_before(self, state: RoomState) -> datetime:
        """Read since when a calendar is left alone although nothing was heard: since a person asked, else since the poll
        that is due found it silent for long. A run of the schedule asks all that were not read just before it.
        """
        run = self.work.run
        scheduled = NEVER if run.checkpoint.get("waiting") else run.queued_at - RECENT
        polled: datetime = self.row.get(POLL_START, NEVER) - interval(state)
        return max(self._asked_at(), scheduled, polled)

    def _subscribes(self, state: RoomState, todo: Todo, now: datetime) -> bool:
        reachable = self.work.app.settings.webhook_base_url is not None
        return reachable and decide(state, now, asked_of(todo.flags)) in ("create", "renew")

    def state(self, room: str) -> RoomState:
        return self.states.get(room, RoomState())

    def keep(self, room: str, state: RoomState, *, quiet: bool) -> list[Write]:
        """Note the state. That of a quiet room is stored together with others; the write of any other is returned."""
        self.states[room] = state
        if quiet:
            self.quiet[room] = state
            if len(self.quiet) >= QUIET_ROOMS:
                self.flush()
            return []
        self.quiet.pop(room, None)
        return [Write("replace", store.state_key(room), store.state_row(state))]

    def flush(self) -> None:
        """Store the states of quiet rooms."""
        if self.quiet:
            writes = [Write("replace", store.state_key(room), store.state_row(one)) for room, one in self.quiet.items()]
            self.work.claim.commit(self.work.now(), writes)
            self.quiet = {}


def run_calendars(work: Work) -> Finish | None:
    """One slice of the calendars sync."""
    board = Board.read(work)
    cost = work.claim.cost
    work.claim.cost = lambda: {**cost(), **board.progress()}
    try:
        while (found := board.next()) is not None:
            if work.time_is_up():
                board.flush()
                return None
            if not _look_at(board, *found):
                board.flush()
                return None
            board.look_over([found[0]])
    except SignInError:
        _lapse(board)
        raise
    except Deferred:
        board.flush()
        raise
    board.flush()
    if not board.settings.enabled:
        return Finish({})
    waits = [board.state(room.id).look_again for room in board.rooms.values() if room.active]
    again = min([at for at in waits if at], default=NEVER)
    polled = {} if work.run.dry_run else _poll_in_time(board)
    held = {room: sorted(etags & board.stuck)[:STUCK] for room, etags in board.held_up.items()}
    stuck = {"j_stuck": sorted(board.stuck)[:STUCK], "j_held": held}
    return Finish({"look_again": again, SEEN: board.read_at, **stuck, **polled})


def _poll_in_time(board: Board) -> Row:
    """What the state has to say for a room that is new here, or has just failed, to be polled when it is due."""
    rooms = [(room, board.state(room.id)) for room in board.rooms.values() if room.active]
    work = board.work
    sooner = poll_sooner(work.app, work.connection, rooms, next_poll(board.row))
    return {} if sooner is None else dict(move_poll(SYNC, sooner, {}).row)


def waiting(app: "App", connection: str) -> float | None:
    """Seconds until another run has to follow one that has ended; None where nothing waits for one."""
    data, now = app.tables.data, app.clock()
    waits: list[datetime] = []
    row: Row = data.get(connection, STATE + SYNC) or {}
    todos, full_start = load_todos(data, connection), row.get(FULL_START, NEVER)
    if todos or now - full_start < PAUSE:
        rooms, known = {room.id: room for room in load_rooms(data, connection)}, load_states(data, connection)
        active = {name for name, room in rooms.items() if room.active}
        states = {room: state for room, state in known.items() if room in active}
        stuck, held = set(row.get("j_stuck") or ()), _held(row, active)
        for room in todos.keys() & active:
            own = states.get(room, RoomState()).retry_at
            others = {held.get(etag, room) for etag in todos[room].sends.values()} - {None}
            if own or _is_new(todos[room], stuck):
                waits.append(own or now)
            else:
                waits += [(other and states.get(other, RoomState()).retry_at) or now + LOOK_AGAIN for other in others]
        removed = [known[room] for room in todos.keys() & known.keys() if room not in rooms]
        waits += [state.retry_at for state in removed if state.retry_at]
        # A full sync that was asked for while the last rooms of a run were looked at.
        waits += [now for state in states.values() if (state.full_at or NEVER) < full_start]
    if max(row.get(READ_START, NEVER), row.get(POLL_START, NEVER)) > row.get(SEEN, NEVER):
        waits.append(now)
    again = row.get("look_again", NEVER)
    if again > NEVER:
        waits.append(again)
    return max((min(waits) - now).total_seconds(), 0) if waits else None


def _held(row: Row, active: Collection[str]) -> dict[str, str | None]:
    """For which room what waits in another one waits, by etag; None for one that is off: whoever saves it starts a run."""
    held: Mapping[str, list[str]] = row.get("j_held") or {}
    return {etag: room if room in active else None for room, etags in held.items() for etag in etags}


def _is_new(todo: Todo, stuck: set[str]) -> bool:
    """Whether anything waits in a room that the last run has not tried."""
    return todo.heard is not None or not stuck.issuperset(todo.sends.values())


# --- one room --------------------------------------------------------------------------------------------------------


def _look_at(board: Board, key: str, why: frozenset[Reason]) -> bool:
    """Look at a room and store what it came to; False when the slice's time was up in the middle."""
    room = board.rooms.get(key)
    board.looked.add(key)
    if "leave" in why:
        _leave(board, key, removed=room is None and board.settings.enabled)
        return True
    assert room is not None
    try:
        return _try(board, room, why)
    except Forbidden:
        _doubt_token(board)
        _refuse(board, room, "room-denied")
    except NotFound:
        _refuse(board, room, "mailbox-not-found")
    except Deferred as error:
        if error.throttled or error.code == "storage-busy":
            raise
        _store_failure(board, room, unanswered(room, board.state(room.id), board.work.now()), error.code)
    except GraphError as error:
        _store_failure(board, room, unanswered(room, board.state(room.id), board.work.now()), error.code)
    return True


def _leave(board: Board, key: str, *, removed: bool) -> None:
    if board.work.run.dry_run:
        board.planned.add(key)
        return
    work, todo, state = board.work, board.todos.get(key, Todo()), board.state(key)
    try:
        last = send_last(work, key, state, board.settings, board.denials) if removed and todo.sends else None
    except Conflict:
        board.reread(work.now())
        return
    board.states.pop(key, None)
    if last is not None:
        board.states[key] = last
        return
    board.todos.pop(key, None)
    after = leave(work, key, state, todo, removed=removed)
    if after is not None:
        board.states[key] = after


def _try(board: Board, room: Room, why: frozenset[Reason]) -> bool:
    """The look, anew where the portal changed a reservation meanwhile. Raises Deferred where it keeps doing that."""
    for _ in range(ATTEMPTS):
        try:
            return _visit(board, room, why)
        except Conflict:
            board.reread(board.work.now())
    raise Deferred("A room's reservations keep changing", until=board.work.now() + REREAD, code="storage-busy")


def _visit(board: Board, room: Room, why: frozenset[Reason]) -> bool:
    work, todo = board.work, board.todos.get(room.id, Todo())
    visit = Visit(work, room, board.state(room.id), todo, board.settings, board.denials, full="full" in why)
    if work.run.dry_run:
        return _plan(board, visit, why)
    follow_settings(visit)
    if "subscribe" in why:
        subscriber = Subscriber(work.graph, work.app, work.connection)
        visit.state = subscriber.keep(room, visit.state, work.now(), asked_of(todo.flags))
        if not visit.opened:  # at once: a calendar that cannot be read keeps its subscription
            work.claim.commit(work.now(), board.keep(room.id, visit.state, quiet=False))
    if todo.sends and _is_unclear(visit):
        resend(visit)
        why |= {"again"}
    news = _read(visit, why)
    _commit(board, visit, quiet=not news and not todo.heard and "subscribe" not in why)
    _forget_heard(board, room, todo)
    if "window" in why:
        visit.ledger.purge(work.now())
    if not (news or todo.sends):
        return True
    done = push(visit, recurring=not visit.full)
    if visit.again:
        pull(visit, anew=False)
    _commit(board, visit, quiet=not visit.again)
    if done:
        board.note_sent(visit)
        board.todos[room.id] = replace(board.todos.get(room.id, Todo()), sends={})
    return done


def _is_unclear(visit: Visit) -> bool:
    """Whether a create was frozen and nobody knows what became of it: the calendar tells."""
    return any(one.link.payload and one.link.state in ("creating", "deleting") for one in visit.ledger)


def _read(visit: Visit, why: frozenset[Reason]) -> bool:
    """Read the room's calendar where there is a reason to; whether it showed anything."""
    if not why & ROUND:
        return False
    begun = visit.work.now()
    news = pull(visit, anew=bool(why & {"first", "full", "window"}))
    early = "heard" in why and not news
    visit.set(**_good(visit, begun), look_again=begun + LOOK_AGAIN if early else None)
    return news


def _commit(board: Board, visit: Visit, *, quiet: bool) -> None:
    """Store the room's state with what has changed in it; that of a quiet room later, with others."""
    writes = board.keep(visit.room.id, visit.state, quiet=quiet and not visit.opened)
    if visit.opened:
        visit.ledger.commit(board.work.now(), writes)
    elif writes:
        board.work.claim.commit(board.work.now(), writes)


def _good(visit: Visit, begun: datetime) -> dict[str, Any]:
    """The state of a room whose calendar was read to its end."""
    state, held = visit.state, visit.state.suspected_at is not None
    denied = visit.policy.read_user and visit.denials.any_denied(begun)
    return {
        "status": "error" if held else "active",
        "detail": "remote-empty" if held else "webhook" if state.subscription else "polling-only",
        "warnings": ("user-mailbox-denied",) if denied else (),
        "mailbox": visit.mailbox,
        "since": visit.room.since,
        "full_at": begun if visit.full else state.full_at,
        "silent_since": begun,
        "synced_at": begun,
        "failing_since": None,
        "failed_at": None,
        "failures": 0,
        "retry_at": state.retry_at if held else None,
    }


def _forget_heard(board: Board, room: Room, todo: Todo) -> None:
    """Unless it was heard of once more since."""
    if todo.heard is not None:
        with suppress(Conflict):
            write = Write("delete", store.heard_key(room.id), etag=todo.heard)
            board.work.app.tables.data.commit(board.work.connection, [write])
        board.todos[room.id] = replace(todo, heard=None, flags=frozenset())


def _plan(board: Board, visit: Visit, why: frozenset[Reason]) -> bool:
    """A dry run: what the look would change, here and at Graph."""
    if why & ROUND:
        pull(visit, anew=bool(why & {"first", "full", "window"}) or visit.state.mailbox != visit.mailbox)
    lines = visit.ledger.plan()
    visit.work.claim.commit(visit.work.now(), plan=lines, outcomes=visit.ledger.outcomes())
    board.planned.add(visit.room.id)
    return True


# --- what goes wrong -------------------------------------------------------------------------------------------------


def _doubt_token(board: Board) -> None:
    """Have the next run sign in afresh, once for all rooms that are closed: a permission may have been granted meanwhile."""
    if not board.doubted:
        board.doubted = True
        board.work.app.forget_sign_in(board.work.connection)


def _refuse(board: Board, room: Room, detail: str) -> None:
    _store_failure(board, room, refused(room, board.state(room.id), board.work.now(), detail), detail)


def _store_failure(board: Board, room: Room, state: RoomState, reason: str) -> None:
    work = board.work
    if work.run.dry_run:
        board.planned.add(room.id)
    writes = board.keep(room.id, state, quiet=False)
    line = LogLine("error", "room", room.id, "failed", reason, "Look at the room's status for what to do.")
    work.claim.commit(work.now(), () if work.run.dry_run else writes, log=[line], outcomes={"failed": 1})
    log.info("room failed connection=%s room=%s code=%s", work.connection, room.id, reason)


def _lapse(board: Board) -> None:
    """The credential does not work: every room says so, and nothing is deleted."""
    if board.work.run.dry_run:
        return
    for room in board.rooms.values():
        state = board.state(room.id)
        if room.active and (state.detail, state.since) != ("credential", room.since):
            lapsed = replace(state, status="error", detail="credential", since=room.since)
            board.keep(room.id, lapsed, quiet=True)
    board.flush()
