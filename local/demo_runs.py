"""How the demo follows a run: live while it works, with its outcome when it has ended."""

import sys
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from local.portal import ENDED, Json, Portal
from local.printed import WIDTH, say
from local.processes import Failed

BAR = 30
RUN_SECONDS = 200
SHOWN = ("created", "updated", "unchanged", "deleted", "restored", "skipped", "failed")


@dataclass(frozen=True)
class Done:
    """A finished run, with the name of the round that it was part of."""

    round: str
    run: Json

    @property
    def seconds(self) -> float:
        started, finished = (datetime.fromisoformat(self.run[name]) for name in ("startedAt", "finishedAt"))
        return (finished - started).total_seconds()

    def row(self) -> list[str]:
        """Its line in the summary."""
        counts, graph = self.run["counts"], self.run["graph"]
        written = sum(counts[name] for name in ("created", "updated", "deleted", "restored"))
        figures = [sum(counts.values()), written, graph["requests"], graph["batched"]]
        return [
            f"{self.round} {self.run['sync']}",
            *map(str, [*figures, self.run["storage"]["transactions"]]),
            f"{self.seconds:.2f}",
        ]


def follow(
    portal: Portal, name: str, sync: str, round_: str, *, ends: str = "succeeded", explain: bool = True, **body: Any
) -> Done:
    """Sync now, with live progress and, to `explain`, why something was skipped. Failed where the run ends otherwise."""
    run = portal.start(name, sync, **body)
    return watch(portal, name, run, round_, ends=ends, explain=explain)


def watch(portal: Portal, name: str, run: Json, round_: str, *, ends: str = "succeeded", explain: bool = True) -> Done:
    """The same for a run that somebody has set going."""
    progress = _Progress(run["sync"])
    done = Done(round_, portal.wait(name, run, seconds=RUN_SECONDS, watch=progress.show))
    progress.end(done)
    if done.run["status"] != ends:
        raise Failed(f"The {run['sync']} sync ended as {done.run['status']}: {done.run['error']}")
    lines = portal.items(f"connections/{name}/runs/{done.run['id']}/log") if explain else ()
    for remedy in sorted({line["remedy"] for line in lines if line["outcome"] == "skipped"}):
        say(f"         skipped: {remedy}")
    return done


class _Progress:
    """How far a run is: on a terminal one line that is drawn anew, elsewhere a line for every change."""

    def __init__(self, sync: str) -> None:
        self._sync = sync
        self._live = sys.stdout.isatty()
        self._last = ""

    def show(self, run: Json) -> None:
        """Draw the run as it is now."""
        if run["status"] in ENDED:
            return
        done, total = run["progress"]["done"], run["progress"]["total"]
        bar = f"[{'#' * (BAR * done // total if total else 0):<{BAR}}] " if self._live else ""
        far = f", {done}{f' of {total}' if total else ''} done" if run["status"] == "running" else ""
        self._draw(f"{self._sync:<8} {bar}{run['status']}{far}")

    def end(self, done: Done) -> None:
        """Draw what became of it."""
        counts, requests = done.run["counts"], done.run["graph"]["requests"]
        outcome = ", ".join(f"{counts[name]} {name}" for name in SHOWN if counts[name]) or "nothing to do"
        cost = f"{requests} Graph request{'' if requests == 1 else 's'}, {done.seconds:.2f} s"
        what = "dry run" if done.run["dryRun"] else done.run["status"]
        self._draw(f"{self._sync:<8} {what}: {outcome}; {cost}")
        if self._live:
            print()

    def _draw(self, text: str) -> None:
        if self._live:
            print(f"\r   {text:<{WIDTH - 4}}", end="", flush=True)
        elif text != self._last:
            print(f"   {text}")
        self._last = text
