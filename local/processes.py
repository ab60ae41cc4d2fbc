"""Child processes that never outlive their parent.

A child holds the reading end of a pipe as its stdin and watches it: when this process ends, however it ends, the
pipe closes and the child stops by itself.
"""

import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

Ready = TypeVar("Ready")

ROOT = Path(__file__).resolve().parents[1]
# Where these are reached something hangs: a machine that is merely busy takes far less.
START_SECONDS = 180
STOP_SECONDS = 30


def unmeasured() -> dict[str, str]:
    """The environment for what is no part of the product: it is slower where it measures its own coverage."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


class Failed(Exception):
    """Something that a person must mend; the text says what failed, shows its own words and says what to do next."""


class Child(Generic[Ready]):
    """A started process.

    `parse` is given each line of its stdout until it understands one (answers not None): the child is ready then.
    That line may hold keys and stays in memory; everything else that the child writes goes to the file `log`.
    It runs in the folder of dev.py and inherits `pass_fds`.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        log: Path,
        parse: Callable[[str], Ready | None],
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._name = name
        self._log = log
        self._parse = parse
        self._ready: queue.SimpleQueue[Ready | None] = queue.SimpleQueue()
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)  # another run may still write to the file that had this name
        with log.open("w") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                start_new_session=True,
                pass_fds=pass_fds,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> Ready:
        """What `parse` answered; Failed where it has not after START_SECONDS or the child ended."""
        try:
            ready = self._ready.get(timeout=START_SECONDS)
        except queue.Empty:
            raise Failed(self._report(f"was not ready after {START_SECONDS} seconds")) from None
        if ready is None:
            self._process.wait()
            self.check()
        assert ready is not None
        return ready

    def check(self) -> None:
        """Raise Failed if it has ended."""
        if (code := self._process.poll()) is not None:
            raise Failed(self._report(f"ended with exit code {code}"))

    def stop(self) -> None:
        """Close its stdin, by which it ends, and kill it after STOP_SECONDS; no child is left either way."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join(STOP_SECONDS)

    def _read(self) -> None:
        assert self._process.stdout is not None
        ready = False
        with self._process.stdout as lines, self._log.open("a", buffering=1) as output:
            for line in lines:
                if not ready and (value := self._parse(line)) is not None:
                    ready = True
                    self._ready.put(value)
                else:
                    output.write(line)
        self._ready.put(None)

    def _report(self, what: str) -> str:
        tail = self._log.read_text(errors="replace").splitlines()[-20:]
        return "\n".join([f"{self._name} {what}. Its log is {self._log}:", *(f"  {line}" for line in tail)])
