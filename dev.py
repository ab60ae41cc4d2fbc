#!/usr/bin/env python3
"""The one entry point for people: makes the environment by itself, then demo, up, test, check, bench, lock, package.

Needs Python 3.11 to 3.13 and nothing else. What it installs lives in .venv and .dev, beside this file.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
PYTHONS = ("3.13", "3.12", "3.11")
VERBS = {
    "demo": "show the main job, end to end, against a simulated Microsoft cloud",
    "up": "run the app on this machine until Ctrl-C, and print where it answers",
    "test": "everything that must hold before a change lands: check, then the tests with their coverage",
    "check": "format, lint and strict types",
    "bench": "measure requests, seconds and memory at size",
    "lock": "pin every dependency anew, with hashes",
    "package": "build the zip that is deployed",
}
# These take their options, and their help, from local/demo.py and local/bench.py.
PLAYS = {"demo": "play", "bench": "play"}
NEED_AZURITE = {"demo", "up", "test", "bench", "lock"}


def main() -> int:
    use_supported_python()
    options, rest = parser().parse_known_args()
    if rest and options.verb not in PLAYS:
        parser().error(f"unknown argument: {rest[0]}")
    if options.verb == "up":
        refuse_contradictions(options)
    signal.signal(signal.SIGTERM, end)
    call_this_machine_directly()
    from local import environment, processes  # noqa: PLC0415 - older Pythons cannot import it; they went elsewhere above

    try:
        python = environment.prepare(azurite=options.verb in NEED_AZURITE)
        if Path(sys.prefix) != environment.VENV:
            os.execv(python, [str(python), str(ROOT / "dev.py"), *sys.argv[1:]])
        verb = importlib.import_module(f"local.verbs.{PLAYS.get(options.verb, options.verb)}")
        return int(verb.main(options, rest))
    except processes.Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="dev.py", description=__doc__.splitlines()[0])
    verbs = result.add_subparsers(dest="verb", required=True, metavar="VERB")
    made = {
        verb: verbs.add_parser(verb, help=text, description=text, add_help=verb not in PLAYS)
        for verb, text in VERBS.items()
    }
    up = made["up"]
    up.add_argument("--port", type=int, default=7071, help="the function host's port (default 7071)")
    up.add_argument("--data", type=absolute, metavar="DIR", help="keep storage, vault and keys in DIR between starts")
    up.add_argument("--entra-endpoint", metavar="URL", help="sign in there instead of at the simulated cloud")
    up.add_argument("--graph-endpoint", metavar="URL", help="call Graph there; goes with --entra-endpoint")
    up.add_argument("--ca-bundle", type=absolute, metavar="FILE", help="certificate authorities (PEM) to trust as well")
    up.add_argument("--cloud", choices=["simulated", "real"], default="simulated", help="real: Microsoft's own hosts")
    up.add_argument("--core-tools", action="store_true", help="leave the host to `func start`: write its settings")
    up.add_argument("--with-parent", action="store_true", help="end when stdin is closed")
    made["lock"].add_argument(
        "--upgrade", action="store_true", help="take the newest versions that pyproject.toml allows"
    )
    made["package"].add_argument("--out", type=absolute, default=ROOT / "dist/tenantsync.zip", metavar="FILE")
    return result


def absolute(path: str) -> Path:
    return Path(path).resolve()


def refuse_contradictions(options: argparse.Namespace) -> None:
    endpoints = (options.entra_endpoint, options.graph_endpoint)
    if any(endpoints) and not all(endpoints):
        parser().error("--entra-endpoint and --graph-endpoint go together")
    if any(endpoints) and options.cloud == "real":
        parser().error("--cloud real has endpoints of its own")


def call_this_machine_directly() -> None:
    """A proxy of the person's, for every child as well, is not for what listens here."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "localhost,127.0.0.1"]))


def use_supported_python() -> None:
    """Start again with a Python that the locked packages support, where this one is not."""
    if os.name == "nt":
        sys.exit("On Windows, run dev.py in WSL: what it starts needs Linux or macOS.")
    if "{}.{}".format(*sys.version_info) in PYTHONS:
        return
    for version in PYTHONS:
        if other := shutil.which(f"python{version}"):
            os.execv(other, [other, *sys.argv])
    sys.exit(f"dev.py needs Python 3.11, 3.12 or 3.13; this is {sys.version.split()[0]}, and no other is on the PATH.")


def end(_signal: int, _frame: object) -> NoReturn:
    """SIGTERM ends like Ctrl-C: every `with` and `finally` runs, so every child is stopped."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
