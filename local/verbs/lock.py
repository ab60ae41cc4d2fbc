"""Pin every dependency anew: Python's with hashes for every platform, and Azurite's; no lock file names a host."""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from local import environment
from local.environment import LOCKS, VENV
from local.processes import ROOT

RUNTIME = ROOT / "requirements.txt"
DEVELOPMENT = ROOT / "requirements-dev.txt"
NODE = LOCKS / "node.txt"
COMPILE = [str(VENV / "bin/uv"), "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
COMPILE += ["--generate-hashes", "--no-header", "--no-annotate"]
# What npm notes about a package and `npm ci` does not read; parts of it are links.
REMARKS = ("deprecated", "funding", "license")


def main(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    """0 when every lock file is written; raises Failed with the tool's own output."""
    upgrade = ["--upgrade"] if options.upgrade else []
    project = str(ROOT / "pyproject.toml")
    _compile(RUNTIME, [project, *upgrade])
    _compile(DEVELOPMENT, [project, "--group", "dev", "--constraints", str(RUNTIME), *upgrade])
    _compile(NODE, [str(LOCKS / "node.in"), *upgrade])
    _lock_azurite()
    named = [
        path.name for path in (RUNTIME, DEVELOPMENT, NODE, LOCKS / "package-lock.json") if "://" in path.read_text()
    ]
    if named:
        print(f"These lock files name a host, which ties them to one machine: {', '.join(named)}", file=sys.stderr)
        return 1
    return 0


def _compile(target: Path, arguments: Sequence[str]) -> None:
    """Write `target`; what it holds already stays pinned where it still fits."""
    environment.run(f"Locking {target.relative_to(ROOT)}", [*COMPILE, *arguments, "--output-file", str(target)])


def _lock_azurite() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copy(LOCKS / "package.json", folder)
        shutil.copy(LOCKS / "package-lock.json", folder)
        environment.npm(
            "install",
            "--package-lock-only",
            "--omit-lockfile-registry-resolved",
            folder=folder,
            what="Locking Azurite",
        )
        lock = json.loads((folder / "package-lock.json").read_text())
    for package in lock["packages"].values():
        for remark in REMARKS:
            package.pop(remark, None)
    (LOCKS / "package-lock.json").write_text(json.dumps(lock, indent=2, ensure_ascii=False) + "\n")
