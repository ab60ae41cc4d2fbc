"""Hosts as processes for tests, and the text of apps that they load."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import requests

from tests.cloud import ROOT

SAMPLE = ROOT / "tests/samples/host_app"
# A random key begins with a dash once in a while.
KEY, MASTER = "-key-of-functions", "--key-of-the-master"
NEVER = "0 0 0 1 1 *"
SECONDS = 60


class Running:
    """One host process, started as people start it."""

    def __init__(self, folder: Path, storage: str, *options: str, app: Path = SAMPLE, schedule: str = NEVER) -> None:
        self.journal_file = folder / "journal"
        self.log_file = folder / "log"
        self.queue = f"host-{uuid4()}"
        environ = {
            **os.environ,
            "AzureWebJobsStorage": storage,
            "SAMPLE_JOURNAL": str(self.journal_file),
            "SAMPLE_SCHEDULE": schedule,
            "SAMPLE_QUEUE": self.queue,
        }
        with self.log_file.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "local.host", "--app", str(app), *options],
                cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()

    @property
    def told(self) -> dict[str, str]:
        told: dict[str, str] = json.loads(self.line)
        return told

    def log(self) -> str:
        return self.log_file.read_text()

    def journal(self, function: str):
        text = self.journal_file.read_text() if self.journal_file.exists() else ""
        return [row for row in map(json.loads, text.splitlines()) if row["function"] == function]

    def call(self, path: str, method: str = "GET", *, key: str | None = KEY, headers=None, **keywords):
        headers = {**({"x-functions-key": key} if key else {}), **(headers or {})}
        return requests.request(method, self.told["api"] + path, headers=headers, timeout=SECONDS, **keywords)

    def admin(self, path: str, method: str = "POST", *, key: str | None = MASTER, **keywords):
        url = self.told["api"].removesuffix("/api") + "/admin" + path
        return requests.request(
            method, url, headers={"x-functions-key": key} if key else {}, timeout=SECONDS, **keywords
        )

    def end(self) -> int:
        """Stop it the way `kill` does; its exit code."""
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        code = self.process.wait(SECONDS)
        self.process.stdin.close()
        self.process.stdout.close()
        return code


@contextmanager
def running(folder: Path, storage: str, *options: str, **keywords) -> Iterator[Running]:
    keys = folder / "keys.json"
    keys.write_text(json.dumps({"key": KEY, "masterKey": MASTER}))
    made = Running(folder, storage, "--keys", str(keys), *options, **keywords)
    try:
        yield made
    finally:
        if made.process.returncode is None:
            made.end()


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


HEAD = "import azure.functions as func\nfrom typing import *\napp = func.FunctionApp()\n"
GET = '@app.route(route="{}", methods=["GET"])\ndef {}(req: func.HttpRequest): ...\n'
QUEUE = '@app.queue_trigger(arg_name="msg", queue_name="{}", connection="{}")\n{}\n'
