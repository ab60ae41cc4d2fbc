"""Build the zip that is deployed, the same bytes for the same tree, and prove that it imports."""

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pathspec import GitIgnoreSpec

from local import environment
from local.environment import DEV
from local.processes import ROOT

TOP = {"function_app.py", "host.json", "requirements.txt", "sync", "storage", "console"}
IMPORT = (
    "import sys; sys.path.insert(0, sys.argv[1]); import function_app; print(len(function_app.app.get_functions()))"
)


def main(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    """0 when the zip is written and imports with the packages of requirements.txt alone."""
    files = sorted(deployed(ROOT))
    if strays := {path.parts[0] for path in files} - TOP:
        print(f"Not part of the app: {', '.join(sorted(strays))}. Name it in .funcignore, or move it.", file=sys.stderr)
        return 1
    out: Path = options.out
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, ROOT, files)
    if (functions := imported(out)) is None:
        out.unlink()
        return 1
    print(f"{out}: {len(files)} files, {out.stat().st_size} bytes, {functions} functions")
    return 0


def deployed(root: Path) -> Iterator[Path]:
    """What .funcignore leaves, relative to `root`."""
    ignored = GitIgnoreSpec.from_lines((root / ".funcignore").read_text().splitlines())
    for folder, folders, names in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if not ignored.match_file(f"{here / name}/")]
        yield from (here / name for name in names if not ignored.match_file(here / name))


def write(out: Path, root: Path, files: Sequence[Path]) -> None:
    """The zip of `files`, with neither the machine's times nor its permissions in it."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            entry = zipfile.ZipInfo(path.as_posix())
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, (root / path).read_bytes())


def imported(out: Path) -> int | None:
    """How many functions the unpacked zip has; None, after the error is shown, where it does not import."""
    python = environment.install_packages(DEV / "runtime", ROOT / "requirements.txt")
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(out) as archive:
        archive.extractall(folder)
        # -I: neither this folder nor the environment's paths may help.
        done = subprocess.run([python, "-I", "-c", IMPORT, folder], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print("The zip does not import with the packages of requirements.txt alone.", file=sys.stderr)
        return None
    return int(done.stdout)
