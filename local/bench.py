"""What syncs cost at size: requests, storage transactions, seconds, slices and memory, against the bounds set for them."""

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from local.bench_rooms import judge_rooms, measure_rooms
from local.bench_webhooks import PATIENCE_SECONDS, Burst, burst
from local.measures import Memory, Slices, Verdict, seconds
from local.portal import Control, Json, Portal, Tenant
from local.processes import ROOT, Failed
from local.stack import Stack
from sync.settings import Settings

SIZES = (1_000, 10_000)
LARGE = 100_000
LARGE_LATENCY_MS = 20
PICTURE = ROOT / "docs/cost.svg"
RUN_SECONDS = 3 * 3600
MEMORY_MB = 250
DELTA_PAGE = 200
NOTIFICATIONS = 10_000
ROOMS = 100
SHARES = (0.001, 0.01, 0.1)  # of the users or their photos, changed before a run
SYNCS = ("users", "photos", "devices", "contacts")
# What is changed before a run of each. The contacts, half of the users, change with these.
KINDS = {"users": "patch", "photos": "photo", "devices": "patchDevice"}
ROLES = ("User.Read.All", "Device.Read.All", "GroupMember.Read.All")
PER_GROUP = 100  # contacts in each group


def main(stack: Stack, argv: Sequence[str]) -> int:
    """0 when every bound was met."""
    parser = argparse.ArgumentParser(prog="dev.py bench", description="Measure what syncs cost at size.")
    parser.add_argument("--users", type=sizes, default=SIZES, metavar="N,...", help="sizes of the tenants; 0 for none")
    parser.add_argument(
        "--full", action="store_true", help=f"also {LARGE:,} users, with {LARGE_LATENCY_MS} ms of latency"
    )
    parser.add_argument(
        "--notifications", type=int, default=NOTIFICATIONS, metavar="N", help="a burst of so many; 0 for none"
    )
    parser.add_argument("--rooms", type=int, default=ROOMS, metavar="N", help="calendars of so many; 0 for none")
    parser.add_argument("--picture", type=Path, default=PICTURE, metavar="FILE", help="where the SVG is drawn")
    options = parser.parse_args(argv)
    bench = Bench(stack)
    wanted = [(users, 0) for users in options.users] + [(LARGE, LARGE_LATENCY_MS)] * options.full
    if wanted:
        print(HEADER, flush=True)
    for number, (users, latency) in enumerate(wanted, start=1):
        bench.size(users, latency, seed=number, changes=users == max(options.users))
    verdicts = list(judge(bench.measured, bench.slice_seconds))
    if options.notifications:
        told = burst(stack, options.notifications)
        print(f"\n{told}", flush=True)
        verdicts += judge_burst(told)
    if options.rooms:
        verdicts += judge_rooms(measure_rooms(stack, options.rooms))
    print("\nBounds", *verdicts, sep="\n  ")
    if wanted:
        draw(bench.measured, options.picture)
        print(f"\nThe picture is {options.picture}")
    return 0 if all(verdict.met for verdict in verdicts) else 1


def sizes(text: str) -> tuple[int, ...]:
    return tuple(users for part in text.split(",") if (users := int(part)))


@dataclass(frozen=True)
class Figures:
    """What one run cost. `changed` users or photos since the run before; None is the first run."""

    sync: str
    users: int
    changed: int | None
    requests: int
    posts: int
    items: int
    tokens: int
    transactions: int
    seconds: float
    slices: int
    longest: float
    megabytes: float

    @property
    def scenario(self) -> str:
        if self.changed is None:
            return f"first {self.sync} sync"
        return f"{self.changed:,} changed, {self.sync}" if self.changed else f"nothing changed, {self.sync}"

    def row(self) -> str:
        return ROW.format(
            users=f"{self.users:,}",
            scenario=self.scenario,
            requests=f"{self.requests:,}",
            posts=f"{self.posts:,}",
            items=f"{self.items:,}",
            tokens=self.tokens,
            transactions=f"{self.transactions:,}",
            seconds=f"{self.seconds:,.1f}",
            slices=self.slices,
            longest=f"{self.longest:,.1f}",
            megabytes=f"{self.megabytes:.0f}",
        )


ROW = (
    "{users:>8}  {scenario:<25} {requests:>9} {posts:>7} {items:>9} {tokens:>7} {transactions:>8} {seconds:>9} "
    "{slices:>7} {longest:>9} {megabytes:>8}"
)
HEADER = "\n".join(
    (
        ROW.format(
            users="", scenario="", requests="Graph", posts="batch", items="requests", tokens="token", transactions="storage",
            seconds="", slices="", longest="longest", megabytes="peak",
        ),
        ROW.format(
            users="users", scenario="run", requests="requests", posts="POSTs", items="in them", tokens="requests",
            transactions="trans.", seconds="seconds", slices="slices", longest="slice, s", megabytes="mem., MB",
        ),
    )
)  # fmt: skip


class Bench:
    """Runs the scenarios and measures them from outside: the API, the cloud's counters, the host's log and memory."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._portal = Portal.of(stack)
        self._control = Control.of(stack)
        self._slices = Slices(stack.logs)
        self._memory = Memory(stack.pids["host"])
        self.slice_seconds = Settings.read(stack.app_settings).slice_seconds
        self.measured: list[Figures] = []

    def size(self, users: int, latency: int, *, seed: int, changes: bool) -> None:
        """All scenarios in a tenant of this size, where everybody counts, 6 in 10 have a photo, there are as many devices,
        and half of the users are contacts, in groups of PER_GROUP.
        """
        contacts = users // 2
        tenant = self._control.generate(
            users=users,
            seed=seed,
            guestShare=0,
            devices=users,
            contactGroups=ceil(contacts / PER_GROUP),
            contactMembers=contacts,
            roles=ROLES,
        )
        top = tenant.call("GET", "")["groups"][0]["id"]
        tenant.call("POST", "faults", {"latencyMs": latency})
        name = f"bench-{users}"
        self._portal.post("connections", tenant.connection(name))
        for sync in SYNCS:
            own = {"groupId": top} if sync == "contacts" else {}
            self._portal.enable(name, sync, schedule={"mode": "manual"}, **own)
        for changed in (None, 0, *(ceil(users * share) for share in (SHARES if changes else [0.01]))):
            self._all(name, tenant, users, changed)

    def _all(self, name: str, tenant: Tenant, users: int, changed: int | None) -> None:
        for sync in SYNCS:
            if changed and sync in KINDS:
                tenant.call("POST", "mutate", {"count": changed, "seed": changed, "kinds": [KINDS[sync]]})
            figures = self._measure(name, tenant, sync, users, changed)
            self.measured.append(figures)
            print(figures.row(), flush=True)

    def _measure(self, name: str, tenant: Tenant, sync: str, users: int, changed: int | None) -> Figures:
        tenant.call("POST", "counters")
        self._slices.forget()
        self._memory.reset()
        run = self._portal.start(name, sync)
        run = self._portal.wait(name, run, seconds=RUN_SECONDS, watch=self._memory.look, pause=0.5)
        if run["status"] != "succeeded":
            raise Failed(f"The {sync} sync of {users:,} users ended as {run['status']}: {run['error']}")
        served = tenant.call("GET", "counters")
        self._agree(run, served["graph"])
        return Figures(
            sync=sync,
            users=users,
            changed=changed,
            requests=served["graph"]["requests"],
            posts=served["graph"]["batchPosts"],
            items=served["graph"]["batchItems"],
            tokens=served["tokens"],
            transactions=run["storage"]["transactions"],
            seconds=seconds(run),
            slices=run["slices"],
            longest=max(self._slices.read(run["slices"])),
            megabytes=self._memory.peak(),
        )

    def _agree(self, run: Json, served: Json) -> None:
        """Failed where the run says of itself what the simulated cloud did not see."""
        own = (run["graph"]["requests"], run["graph"]["batched"])
        if own != (served["requests"], served["batchItems"]):
            raise Failed(f"The run counted {own} Graph requests and items, the cloud {served}.")


# --- bounds ----------------------------------------------------------------------------------------------------------


BATCH = 20
PAGE = 1000


def judge(measured: Sequence[Figures], slice_seconds: int) -> Iterator[Verdict]:
    """Every bound for what was measured: requests run by run, memory and slices by the worst of a size."""
    for each in measured:
        what = "batch POSTs" if each.sync == "photos" else "Graph requests"
        yield Verdict(f"{each.users:,} users, {each.scenario}: {what}", each.requests, most_requests(each))
    for users in dict.fromkeys(each.users for each in measured):
        same = [each for each in measured if each.users == users]
        yield Verdict(f"{users:,} users: peak memory in MB", max(each.megabytes for each in same), MEMORY_MB)
        yield Verdict(f"{users:,} users: longest slice in seconds", max(each.longest for each in same), slice_seconds)


def judge_burst(told: Burst) -> Iterator[Verdict]:
    """Graph takes a later answer for a slow one; what is not taken or not looked at would be lost."""
    what = f"{len(told.answers):,} notifications"
    yield Verdict(f"{what}: slowest answer in ms", told.slowest, 1000 * PATIENCE_SECONDS)
    yield Verdict(f"{what}: not answered with 202", told.refused, 0)
    yield Verdict(f"{what}: rooms that no run looked at afterwards", told.forgotten, 0)


def most_requests(figures: Figures) -> int:
    """How many Graph requests a run may cost: for 10,000 users or devices 15, then 2, and 510, then 505, batches; for the
    5,000 contacts of 50 groups 52, one for each page of a group and one for the group itself, then 2.

    A hundredth more for a hundredth changed: a request for each page of 200 changed users after the first, a batch for
    each 20 changed photos, and for the owners of each 20 changed devices. Contacts are read anew when one has changed.
    """
    changed = figures.changed or 0
    pages = max(0, ceil(changed / DELTA_PAGE) - 1)
    match figures.sync, figures.changed:
        case "contacts", 0:
            return 2
        case "contacts", _:
            return ceil(figures.users / 2 / PER_GROUP) + 2 + (2 if changed else 0)
        case "users" | "devices", None:
            return ceil(figures.users / PAGE) + 5
        case "users", _:
            return 2 + pages
        case "devices", _:
            return 2 + pages + ceil(changed / BATCH)
    batches = ceil(figures.users / BATCH)
    if figures.changed is None:
        return batches + max(10, batches // 50)
    return batches + max(5, batches // 100) + ceil(changed / BATCH)


# --- picture ---------------------------------------------------------------------------------------------------------

COLOURS = {"users": "#0b6e99", "photos": "#c2571a", "devices": "#5b8c2a", "contacts": "#7a4fa3"}
COSTS: dict[str, Callable[[Figures], int]] = {
    "Graph requests": lambda figures: figures.requests,
    "storage transactions": lambda figures: figures.transactions,
}
LINES: dict[str, tuple[str, Callable[[Figures], bool]]] = {
    "first sync": ("o-", lambda figures: figures.changed is None),
    "1% changed": ("^:", lambda figures: figures.changed == ceil(figures.users / 100)),
    "nothing changed": ("s--", lambda figures: figures.changed == 0),
}


def draw(measured: Sequence[Figures], file: Path) -> None:
    """Cost against the number of users and against the number of changes, as an SVG that is equal for equal figures."""
    with rc_context({"svg.hashsalt": "tenantsync", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(10, 7.5), layout="constrained")
        rows = figure.subplots(2, 2)
        for (left, right), (cost, value) in zip(rows, COSTS.items(), strict=True):
            _draw_sizes(left, measured, value)
            _draw_changes(right, measured, value)
            for axes in (left, right):
                axes.set(yscale="log", ylabel=cost)
                axes.yaxis.set_major_formatter("{x:,.0f}")
                axes.grid(visible=True, alpha=0.3)
        figure.legend(*rows[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(LINES))
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, format="svg", metadata={"Date": None})


def _draw_sizes(axes: Any, measured: Sequence[Figures], cost: Callable[[Figures], int]) -> None:
    for sync, colour in COLOURS.items():
        for name, (style, fits) in LINES.items():
            points = [(each.users, cost(each)) for each in measured if each.sync == sync and fits(each)]
            axes.plot(*zip(*points, strict=True), style, color=colour, label=f"{sync}, {name}")
    axes.set(xscale="log", xlabel="users in the tenant")
    _name_ticks(axes, {each.users for each in measured})


def _draw_changes(axes: Any, measured: Sequence[Figures], cost: Callable[[Figures], int]) -> None:
    users = Counter(each.users for each in measured).most_common(1)[0][0]  # the size that has more numbers of changes
    later = [each for each in measured if each.users == users and each.changed is not None]
    for sync, colour in COLOURS.items():
        points = sorted((each.changed, cost(each)) for each in later if each.sync == sync)
        axes.plot(*zip(*points, strict=True), "o-", color=colour)
    axes.set(xscale="symlog", xlabel=f"changes since the run before, of {users:,} users, photos or devices")
    _name_ticks(axes, {each.changed or 0 for each in later})


def _name_ticks(axes: Any, values: Iterable[int]) -> None:
    """Ticks where something was measured, and nowhere else."""
    ticks = sorted(values)
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
