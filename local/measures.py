"""What the benches measure a run by from outside, and the bounds that they hold it against."""

import re
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

from local.portal import Json
from local.processes import Failed

_SLICE = re.compile(r" run_(?:manual|scheduled)_sync \S+ local\.functions: \w+ after (\d+) ms$")


@dataclass(frozen=True)
class Verdict:
    """A bound, the figure that it is for, and what both are about."""

    text: str
    value: float
    bound: float

    @property
    def met(self) -> bool:
        return self.value <= self.bound

    def __str__(self) -> str:
        return (
            f"{'met' if self.met else 'NOT MET':<8} {self.text:<55} {self.value:>8,.0f} of at most {self.bound:>6,.0f}"
        )


class Slices:
    """The log of the host, which says how long each slice took."""

    def __init__(self, logs: Path) -> None:
        self._log = (logs / "host.log").open()

    def forget(self) -> None:
        """Those up to now are of no interest."""
        self._log.read()

    def read(self, count: int) -> list[float]:
        """Seconds of each of so many slices: the line of one comes a moment after the run's end."""
        found: list[float] = []
        last = time.monotonic() + 30
        while len(found) < count and time.monotonic() < last:
            lines = self._log.read().splitlines()
            found += [int(hit[1]) / 1000 for hit in map(_SLICE.search, lines) if hit]
            time.sleep(0.05)
        if len(found) < count:
            raise Failed(f"The host's log has {len(found)} slices, the run {count}: is another dev.py running here?")
        return found


class Memory:
    """The peak resident memory of a process: the kernel's own mark on Linux, elsewhere the highest value looked at."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._proc = Path(f"/proc/{pid}")
        self._highest = 0

    def reset(self) -> None:
        """Begin anew with what is resident now."""
        self._highest = 0
        if (self._proc / "clear_refs").exists():
            (self._proc / "clear_refs").write_text("5")  # proc(5): resets the peak resident set size

    def look(self, _run: Json) -> None:
        self._highest = max(self._highest, self._process.memory_info().rss)

    def peak(self) -> float:
        """Megabytes since `reset`."""
        self.look({})
        if (self._proc / "status").exists():
            hit = re.search(r"^VmHWM:\s+(\d+) kB$", (self._proc / "status").read_text(), re.MULTILINE)
            return int(hit[1]) / 1024 if hit else 0.0
        return self._highest / 1024**2


def seconds(run: Json) -> float:
    started, finished = (datetime.fromisoformat(run[name]) for name in ("startedAt", "finishedAt"))
    return (finished - started).total_seconds()
