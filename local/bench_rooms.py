"""What rooms cost at size: a full sync of all calendars, then idle runs, a meeting, a change in the portal and its echo."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import requests
from azure.data.tables import TableServiceClient

from local.measures import Memory, Slices, Verdict
from local.portal import ENDED, Control, Json, Portal, Tenant
from local.processes import Failed
from local.stack import Stack
from storage.tables import Tables, Write
from sync.calendars import store
from sync.calendars.pacing import READ_START, SYNC
from sync.calendars.polling import POLL_START
from sync.runs import STATE
from sync.settings import Settings

EVENTS = 50  # in each room, every tenth a weekly series
PEOPLE = 200  # who organize half of the single ones
LATENCY_MS = 20
ROLES = ("User.Read.All", "Calendars.ReadWrite", "Place.Read.All")
CONNECTION = "bench-calendars"
FULL, POLL, IDLE = "first sync of all", "nothing changed, all read", "nothing due"
MEETING, EDIT = "one meeting in Outlook", "one title in the portal"
RUN_SECONDS = 3600
QUIET_SECONDS = 1.0
SILENT = timedelta(minutes=10)  # long enough for a run of the schedule to read a room, too short for the poll
MEMORY_MB = 250
FULL_REQUESTS = 6  # for a room: its subscription, a round of changes, and the meetings of others by four at most
Runs = list[Json]


@dataclass(frozen=True)
class Cost:
    """What one scenario cost; `writes` are those to calendars at Graph, `refused` 429 of any kind and retries too early."""

    rooms: int
    scenario: str
    requests: int
    posts: int
    items: int
    writes: int
    refused: int
    transactions: int
    seconds: float
    slices: int
    longest: float
    megabytes: float

    def row(self) -> str:
        return ROW.format(
            rooms=f"{self.rooms:,}",
            scenario=self.scenario,
            requests=f"{self.requests:,}",
            posts=f"{self.posts:,}",
            items=f"{self.items:,}",
            writes=self.writes,
            transactions=f"{self.transactions:,}",
            seconds=f"{self.seconds:,.1f}",
            slices=self.slices,
            longest=f"{self.longest:,.1f}",
            megabytes=f"{self.megabytes:.0f}",
        )


@dataclass(frozen=True)
class Measured:
    """All scenarios, and how many writes the reservation that was changed in the portal saw after it had been sent."""

    costs: Sequence[Cost]
    echoes: int
    slice_seconds: int


ROW = (
    "{rooms:>8}  {scenario:<25} {requests:>8} {posts:>6} {items:>8} {writes:>6} {transactions:>8} {seconds:>8} "
    "{slices:>6} {longest:>8} {megabytes:>7}"
)
HEADER = "\n".join(
    (
        ROW.format(
            rooms="", scenario="", requests="Graph", posts="batch", items="requests", writes="event",
            transactions="storage", seconds="", slices="", longest="longest", megabytes="peak",
        ),
        ROW.format(
            rooms="rooms", scenario="run", requests="requests", posts="POSTs", items="in them", writes="writes",
            transactions="trans.", seconds="seconds", slices="slices", longest="slice, s", megabytes="mem, MB",
        ),
    )
)  # fmt: skip


def measure_rooms(stack: Stack, rooms: int) -> Measured:
    """Link so many rooms and take them through every scenario; each is printed as it ends."""
    print(f"\n{HEADER}", flush=True)
    bench = _Bench(stack, rooms)
    bench.link()
    bench.measure(FULL, bench.sync_all)
    bench.measure(POLL, bench.read_all)
    bench.measure(IDLE, bench.tick)
    bench.age()
    bench.measure(MEETING, bench.meet)
    echoes = bench.edit()
    return Measured(bench.costs, echoes, Settings.read(stack.app_settings).slice_seconds)


def judge_rooms(measured: Measured) -> Iterator[Verdict]:
    """A request for a room is its poll; what has no reason costs nothing; an echo changes no reservation."""
    costs = {cost.scenario: cost for cost in measured.costs}
    rooms = costs[FULL].rooms
    for scenario, most in ((FULL, FULL_REQUESTS * rooms), (POLL, rooms), (IDLE, 0), (MEETING, 3), (EDIT, 3)):
        yield Verdict(f"{rooms:,} rooms, {scenario}: Graph requests", costs[scenario].requests, most)
    for scenario, most in ((FULL, 0), (MEETING, 0), (EDIT, 1)):
        yield Verdict(f"{rooms:,} rooms, {scenario}: event writes", costs[scenario].writes, most)
    yield Verdict(f"{rooms:,} rooms, its echo: reservation writes", measured.echoes, 0)
    every = measured.costs
    yield Verdict(f"{rooms:,} rooms: refused or too early requests", sum(cost.refused for cost in every), 0)
    yield Verdict(f"{rooms:,} rooms: peak memory in MB", max(cost.megabytes for cost in every), MEMORY_MB)
    longest = max(cost.longest for cost in every)
    yield Verdict(f"{rooms:,} rooms: longest slice in seconds", longest, measured.slice_seconds)


class _Bench:
    def __init__(self, stack: Stack, rooms: int) -> None:
        self._stack = stack
        self._rooms = rooms
        self._portal = Portal.of(stack)
        self._slices = Slices(stack.logs)
        self._memory = Memory(stack.pids["host"])
        population = {"users": PEOPLE, "guestShare": 0, "photoShare": 0, "rooms": rooms, "eventsPerRoom": EVENTS}
        self._tenant: Tenant = Control.of(stack).generate(seed=4, roles=list(ROLES), **population)
        self._tenant.call("POST", "faults", {"latencyMs": LATENCY_MS})
        self.costs: list[Cost] = []

    # --- scenarios ---------------------------------------------------------------------------------------------------

    def link(self) -> None:
        """A room for each mailbox, while the sync is still off."""
        self._portal.post("connections", self._tenant.connection(CONNECTION))
        for room in self._tenant.call("GET", "rooms"):
            address = room["emailAddress"]
            link = {"calendarType": "office365", "active": True, "externalCalendar": address}
            path = f"{self._path}/rooms/{address.partition('@')[0]}"
            self._portal.put(path, {"displayName": room["displayName"], "timeZone": room["timeZone"], **link})

    def sync_all(self) -> None:
        """The sync is enabled, and "Sync all calendars" pressed. Failed unless every room is active by webhook."""
        self._portal.enable(CONNECTION, "calendars", schedule={"mode": "manual"})
        self._portal.sync(CONNECTION, "calendars", mode="full", seconds=RUN_SECONDS)
        shown = list(self._portal.items(f"{self._path}/rooms"))
        wrong = [room["id"] for room in shown if (room["status"], room["statusDetail"]) != ("active", "webhook")]
        if wrong or len(shown) != self._rooms:
            raise Failed(f"{len(wrong)} of {len(shown)} rooms are not active by webhook: {wrong[:5]}")

    def read_all(self) -> None:
        """A poll: every calendar is asked for its changes."""
        self._portal.sync(CONNECTION, "calendars", seconds=RUN_SECONDS)

    def tick(self) -> None:
        """The timer, minutes after everything was read: a schedule that has just been set is due at once."""
        self._portal.enable(CONNECTION, "calendars", schedule={"mode": "interval", "every": "PT15M"})
        before = self._newest()
        host = self._stack.api.removesuffix("/api")
        key = {"x-functions-key": self._stack.master_key}
        answer = requests.post(f"{host}/admin/functions/poll_calendars", json={}, headers=key, timeout=60)
        answer.raise_for_status()
        self._until("The timer has started no run", lambda: self._newest() != before)

    def age(self) -> None:
        """Every room has been silent for ten minutes: whatever reads those for one meeting shows in its cost."""
        data = Tables(TableServiceClient.from_connection_string(self._stack.storage)).data
        for room, state in store.load_states(data, CONNECTION).items():
            assert state.silent_since is not None
            silent = replace(state, silent_since=state.silent_since - SILENT)
            data.commit(CONNECTION, [Write("replace", store.state_key(room), store.state_row(silent))])
        asked = data.get(CONNECTION, STATE + SYNC) or {}
        earlier = {name: asked[name] - SILENT for name in (READ_START, POLL_START)}
        data.commit(CONNECTION, [Write("merge", STATE + SYNC, earlier)])

    def meet(self) -> None:
        """On the next Sunday but one, when the generated rooms are free."""
        organizer = next(iter(self._tenant.people().values()))["mail"]
        room = self._portal.get(f"{self._path}/rooms/room1")["externalCalendar"]
        attendee = {"type": "resource", "emailAddress": {"address": room, "name": "Room 1"}}
        body = {"subject": "Bench", "attendees": [attendee], **_sunday()}
        self._tenant.call("POST", f"mailboxes/{organizer}/events", body)
        day = _sunday()["start"]["dateTime"][:10]
        listed = f"{self._path}/rooms/room1/reservations?from={day}T12:00:00Z&to={day}T13:00:00Z"
        self._until("The meeting has not arrived", lambda: bool(self._portal.get(listed)["items"]))

    def edit(self) -> int:
        """A title that is changed in the portal; how many writes its reservation sees once it was sent."""
        room = f"{self._path}/rooms/room{min(2, self._rooms)}/reservations"
        every = self._portal.items(f"{room}?type=single")
        path = f"{room}/{next(one['id'] for one in every if one['organizer'] == 'room')}"
        sent = ""

        def change() -> None:
            nonlocal sent
            self._portal.call("PATCH", path, {"title": "Changed in the portal"})
            self._until("The title was not sent", lambda: self._portal.get(path)["syncState"] == "synced")
            sent = self._etag(path)

        self.measure(EDIT, change)
        return int(self._etag(path) != sent)

    # --- measuring ---------------------------------------------------------------------------------------------------

    def measure(self, scenario: str, act: Callable[[], None]) -> None:
        """What `act` costs, with everything that follows from it."""
        before = self._newest()
        self._tenant.call("POST", "counters")
        self._tenant.call("DELETE", "calendar-writes")
        self._slices.forget()
        self._memory.reset()
        act()
        runs = self._settled(before)
        graph = self._tenant.call("GET", "counters")["graph"]
        slices = sum(run["slices"] for run in runs)
        cost = Cost(
            rooms=self._rooms,
            scenario=scenario,
            requests=graph["requests"],
            posts=graph["batchPosts"],
            items=graph["batchItems"],
            writes=len(self._tenant.call("GET", "calendar-writes")),
            refused=graph["throttled"] + graph["retryViolations"],
            transactions=sum(run["storage"]["transactions"] for run in runs),
            seconds=_seconds(runs),
            slices=slices,
            longest=max(self._slices.read(slices)),
            megabytes=self._memory.peak(),
        )
        self.costs.append(cost)
        print(cost.row(), flush=True)

    def _settled(self, before: str) -> Runs:
        """The runs since then, once all are over and no notification is under way. Failed where one was no success."""
        quiet_since = time.monotonic()
        last = quiet_since + RUN_SECONDS
        while time.monotonic() - quiet_since < QUIET_SECONDS:
            runs = list(takewhile(lambda run: run["id"] != before, self._runs()))
            busy = any(run["status"] not in ENDED for run in runs)
            if busy or self._tenant.call("GET", "notifications/counts")["waiting"]:
                quiet_since = time.monotonic()
            if quiet_since > last:
                raise Failed(f"The calendars sync does not come to rest: {runs[0]}")
            self._memory.look({})
            time.sleep(0.1)
        for run in runs:
            if run["status"] != "succeeded":
                raise Failed(f"The calendars sync ended as {run['status']}: {run['error']}")
        return runs

    def _until(self, else_: str, holds: Callable[[], bool]) -> None:
        last = time.monotonic() + 120
        while not holds():
            if time.monotonic() > last:
                raise Failed(f"{else_} after 120 seconds.")
            time.sleep(0.1)

    # --- what is there -----------------------------------------------------------------------------------------------

    @property
    def _path(self) -> str:
        return f"connections/{CONNECTION}"

    def _runs(self) -> Runs:
        """The last runs, the newest first."""
        runs: Runs = self._portal.get(f"{self._path}/runs?sync=calendars&top=20")["items"]
        return runs

    def _newest(self) -> str:
        """The newest run's id, "" where there is none."""
        runs = self._runs()
        return str(runs[0]["id"]) if runs else ""

    def _etag(self, path: str) -> str:
        """It changes with every write of the reservation."""
        return self._portal.send("GET", path).headers["ETag"]


def _seconds(runs: Runs) -> float:
    """From the first start to the last end."""
    started = min(datetime.fromisoformat(run["startedAt"]) for run in runs)
    return (max(datetime.fromisoformat(run["finishedAt"]) for run in runs) - started).total_seconds()


def _sunday() -> Json:
    """An hour of the next Sunday but one, as Graph writes it."""
    now = datetime.now(UTC)
    day = (now + timedelta(days=13 - now.weekday())).date()
    return {
        name: {"dateTime": f"{day}T{hour}:00:00", "timeZone": "UTC"} for name, hour in (("start", "12"), ("end", "13"))
    }
