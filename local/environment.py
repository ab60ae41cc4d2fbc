"""The environment that the verbs need: packages in .venv, Node.js and Azurite in .dev.

Standard library only: dev.py runs this with whatever Python the machine has. Each part is made once and made again
when its lock file changes.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from local import azurite
from local.processes import ROOT, Failed

DEV = ROOT / ".dev"
VENV = ROOT / ".venv"
LOCKS = ROOT / "local/azurite"
OLDEST_NODE = 18


def prepare(*, azurite: bool) -> Path:
    """The Python that has every package of requirements-dev.txt; with `azurite`, Node.js and Azurite are there too."""
    DEV.mkdir(exist_ok=True)
    with _only_one():
        python = install_packages(VENV, ROOT / "requirements-dev.txt")
        if azurite:
            _install_node(python)
            _install_azurite()
    return python


def install_packages(venv: Path, requirements: Path) -> Path:
    """The Python of `venv`, which is made first where it is missing and holds at least `requirements`."""
    python = venv / "bin/python"
    if is_current(venv, requirements):
        return python
    if not (venv / "bin/pip").exists() or not python.exists():
        _require_venv()
        run(f"Making {_name(venv)}, a virtual environment", [sys.executable, "-m", "venv", "--clear", str(venv)])
    _pip(python, requirements)
    mark_current(venv, requirements)
    return python


def npm(*arguments: str, folder: Path, what: str) -> None:
    """Run npm in `folder` with the Node.js that Azurite uses."""
    node = azurite.node()
    script = azurite.NODE_WHEEL / "lib/node_modules/npm/bin/npm-cli.js"
    command = [str(node), str(script)] if script.exists() else [shutil.which("npm") or "npm"]
    path = os.pathsep.join([str(node.parent), os.environ.get("PATH", "")])
    run(what, [*command, *arguments, "--no-audit", "--no-fund"], folder=folder, environ={"PATH": path})


def _install_node(python: Path) -> None:
    if azurite.node() != azurite.NODE_WHEEL / "bin/node" and machine_has_node():
        return
    requirements = LOCKS / "node.txt"
    target = azurite.NODE_WHEEL.parent
    if not is_current(target, requirements):
        shutil.rmtree(target, ignore_errors=True)
        _pip(python, requirements, "--target", str(target))
        mark_current(target, requirements)


def machine_has_node() -> bool:
    """Whether Node.js, new enough, and npm are on the PATH (some systems package them apart)."""
    node = shutil.which("node")
    if not node or not shutil.which("npm"):
        return False
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    major = re.match(r"v(\d+)\.", answer)
    return major is not None and int(major[1]) >= OLDEST_NODE


def _install_azurite() -> None:
    lock = LOCKS / "package-lock.json"
    if is_current(azurite.INSTALLED, lock):
        return
    azurite.INSTALLED.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(LOCKS / name, azurite.INSTALLED)
    npm("ci", "--ignore-scripts", folder=azurite.INSTALLED, what="Installing Azurite, the storage emulator")
    mark_current(azurite.INSTALLED, lock)


def _pip(python: Path, requirements: Path, *options: str) -> None:
    count = len(re.findall(r"^\S+==", requirements.read_text(), re.MULTILINE))
    run(
        f"Installing {_name(requirements)} (packages: {count})",
        [str(python), "-m", "pip", "install", "--require-hashes", "--no-compile", *options, "-r", str(requirements)],
        environ={"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )


def _require_venv() -> None:
    try:
        import ensurepip  # noqa: F401, PLC0415 - Debian packages it apart: asking for it is the test
    except ImportError:
        version = "{}.{}".format(*sys.version_info)
        raise Failed(
            f"This Python has no venv module.\nInstall it, then run the same command again:\n"
            f"  sudo apt-get install -y python{version}-venv"
        ) from None


def run(what: str, command: Sequence[str], *, folder: Path = ROOT, environ: Mapping[str, str] | None = None) -> None:
    """Run one step with a line of progress; Failed with its output where it fails."""
    print(f"{what} ...", end="", file=sys.stderr, flush=True)
    started = time.monotonic()
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        print(" failed", file=sys.stderr)
        raise Failed(
            f"{done.stdout.rstrip()}\n\nThe command above failed with exit code {done.returncode}:\n"
            f"  {' '.join(command)}\n"
            "Mend what it says (network, disk, proxy), then run dev.py again: it goes on where it stopped."
        )
    print(f" {time.monotonic() - started:.0f} s", file=sys.stderr)


def is_current(folder: Path, lock: Path) -> bool:
    stamp = folder / ".lock-hash"
    return stamp.exists() and stamp.read_text() == _digest(lock)


def mark_current(folder: Path, lock: Path) -> None:
    (folder / ".lock-hash").write_text(_digest(lock))


def _digest(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@contextmanager
def _only_one() -> Iterator[None]:
    """Two dev.py at once: the second waits until the first has installed everything."""
    with (DEV / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
