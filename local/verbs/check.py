"""Format, lint and strict types."""

import argparse
import subprocess
import sys
from collections.abc import Sequence

from local.environment import VENV
from local.processes import ROOT

STEPS = {
    "format": ([str(VENV / "bin/ruff"), "format", "--check", "."], "Run .venv/bin/ruff format to mend it."),
    "lint": ([str(VENV / "bin/ruff"), "check", "."], "Run .venv/bin/ruff check --fix to mend what it can."),
    "types": ([str(VENV / "bin/mypy")], "Mend the types named above."),
}


def main(_options: argparse.Namespace, _rest: Sequence[str]) -> int:
    """0 when every step passed; all of them run."""
    results = [run(name, command, remedy) for name, (command, remedy) in STEPS.items()]
    return max(results)


def run(name: str, command: Sequence[str], remedy: str) -> int:
    """Run one step, with a line that names it and, where it fails, one that says what to do."""
    print(f"== {name}", file=sys.stderr, flush=True)
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code:
        print(f"The step {name} failed. {remedy}", file=sys.stderr)
    return code
