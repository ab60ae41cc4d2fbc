"""Run the app on this machine until Ctrl-C, and print where it answers."""

import argparse
import json
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from local.processes import ROOT
from local.stack import Outside, Stack

LOOK_SECONDS = 0.5


def main(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    """Runs until KeyboardInterrupt or the parent's end; Failed when a part ends by itself."""
    ended = threading.Event()
    if options.with_parent:
        threading.Thread(target=await_parent, args=(ended,), daemon=True).start()
    stack = Stack(
        port=options.port,
        data=options.data,
        outside=outside(options),
        ca_bundle=options.ca_bundle,
        host=not options.core_tools,
    )
    with stack:
        if options.core_tools:
            write_settings(ROOT / "local.settings.json", stack.app_settings)
            print(
                "local.settings.json is ready. In another terminal: func start\nCtrl-C ends everything.",
                file=sys.stderr,
            )
        else:
            announce(stack)
        while not ended.wait(LOOK_SECONDS):
            stack.check()
    return 0


def await_parent(ended: threading.Event) -> None:
    """Stdin is a pipe from the parent: it closes when the parent ends."""
    sys.stdin.read()
    ended.set()


def outside(options: argparse.Namespace) -> Outside | None:
    """The cloud that the options name; None for the simulated one."""
    if options.cloud == "real" or options.entra_endpoint or options.graph_endpoint:
        return Outside(options.entra_endpoint, options.graph_endpoint)
    return None


def announce(stack: Stack) -> None:
    """One line of JSON on stdout for programs, and the same on stderr for people."""
    print(
        json.dumps(
            {
                "api": stack.api,
                "key": stack.key,
                "masterKey": stack.master_key,
                "console": stack.console,
                "control": stack.control,
            }
        ),
        flush=True,
    )
    print(
        f"\nThe portal page: {stack.console}\nThe API:         {stack.api}\n"
        f"The key:         {stack.key} (header x-functions-key)\nCtrl-C ends everything.",
        file=sys.stderr,
    )


def write_settings(file: Path, app_settings: Mapping[str, str]) -> None:
    """Point the local.settings.json at `file` at a stack; what else it says stays. New, it begins as the example."""
    source = file if file.exists() else ROOT / "local.settings.json.example"
    content = json.loads(source.read_text())
    content["Values"].update(app_settings)
    file.touch(mode=0o600)
    file.write_text(json.dumps(content, indent=2) + "\n")
