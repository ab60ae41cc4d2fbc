"""Everything that must hold before a change lands."""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from local.environment import VENV
from local.processes import ROOT
from local.verbs import check

OVERALL = 95
# Other apps' function_app.py, which tests of the host write and run, are measured too and do not count.
PRODUCT = (f"{ROOT}/function_app.py", "sync/*", "storage/*")
# The pure files decide on data alone, so every branch of them can be reached and is.
PURE = (
    "sync/calendars/clashes.py",
    "sync/calendars/details.py",
    "sync/calendars/event.py",
    "sync/calendars/failing.py",
    "sync/calendars/merge.py",
    "sync/calendars/model.py",
    "sync/calendars/pairing.py",
    "sync/calendars/patterns.py",
    "sync/calendars/reasons.py",
    "sync/calendars/recurrence.py",
    "sync/calendars/reservations.py",
    "sync/calendars/rules.py",
    "sync/calendars/series.py",
    "sync/calendars/terms.py",
    "sync/calendars/zones.py",
    "sync/contacts/tree.py",
    "sync/devices.py",
    "sync/graph/aadsts.py",
    "sync/graph/protocol.py",
    "sync/images.py",
    "sync/permissions.py",
    "sync/plan.py",
    "sync/schedule.py",
)
# One more than there are cores: tests also wait for Azurite, the cloud and the host.
PROCESSES = (os.cpu_count() or 1) + 1
PYTHON = str(VENV / "bin/python")


def main(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """0 when the checks and the tests passed and the coverage is at least OVERALL, and 100 in PURE."""
    if code := check.main(options, rest):
        return code
    return tests() or coverage()


def tests() -> int:
    """Run pytest on PROCESSES processes and measure them, and every Python process they start."""
    for old in ROOT.glob(".coverage*"):
        old.unlink()
    # Every Python of the venv starts to measure itself where these two are set (coverage.py: Subprocesses).
    measured = {"COVERAGE_PROCESS_START": str(ROOT / "pyproject.toml"), "COVERAGE_FILE": str(ROOT / ".coverage")}
    # Where SIGINT is ignored, as behind a shell's &, every child ignores it too, and tests of Ctrl-C would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print("== tests", file=sys.stderr, flush=True)
    command = [PYTHON, "-m", "pytest", "-q", "-n", str(PROCESSES), "--dist", "worksteal"]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **measured}, check=False).returncode


def coverage() -> int:
    """Print the coverage of every file that is not at 100, and judge both gates."""
    subprocess.run([PYTHON, "-m", "coverage", "combine", "-q"], cwd=ROOT, check=True)
    report = [PYTHON, "-m", "coverage", "report"]
    pure = check.run(
        "coverage of pure files",
        [*report, "--fail-under=100", f"--include={','.join(PURE)}"],
        "Test the branches named above: pure files stay at 100.",
    )
    overall = check.run(
        "coverage",
        [*report, f"--fail-under={OVERALL}", f"--include={','.join(PRODUCT)}"],
        f"Test the lines named above: {OVERALL} is the least.",
    )
    return pure or overall
