"""`python -m local.cloud`: the simulated Microsoft cloud, until a signal or the end of its parent stops it.

Prints one line of JSON once everything answers:
{"entra","graph","vault","identity":{"endpoint","header"},"control","ca"}; with --only vault, entra, graph and control are
null.
"""

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
from pathlib import Path

from local.cloud.population import Population, generate
from local.cloud.server import Cloud
from local.cloud.tenants import Tenants, read_file


def main() -> None:
    arguments = _arguments()
    tenants = Tenants()
    for path in arguments.tenant:
        tenants.add(read_file(path))
    for population in arguments.generate:
        tenants.add(generate(population))
    gc.freeze()
    asyncio.run(_serve(Cloud(arguments.dir, tenants, only_vault=arguments.only == "vault"), arguments))


async def _serve(cloud: Cloud, arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if arguments.with_parent:
        loop.add_reader(sys.stdin, lambda: None if os.read(sys.stdin.fileno(), 1024) else stopped.set())
    try:
        print(json.dumps(await cloud.start(arguments.port)), flush=True)
        await stopped.wait()
    except OSError as error:
        sys.exit(f"The simulated cloud cannot listen: {error.strerror}.")
    finally:
        await cloud.stop()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.cloud", description="The simulated Microsoft cloud.")
    parser.add_argument("--dir", type=Path, required=True, help="where ca.pem and the vault's secrets are written")
    parser.add_argument("--tenant", type=Path, action="append", default=[], help="a tenant data file")
    parser.add_argument(
        "--generate",
        type=_population,
        action="append",
        default=[],
        help="a generated tenant, such as users=10000,seed=1,roles=User.Read.All+Organization.Read.All",
    )
    parser.add_argument("--port", type=int, default=0, help="the first of five ports; free ones without it")
    parser.add_argument("--only", choices=["vault"], help="start only the vault and the managed identity")
    parser.add_argument("--with-parent", action="store_true", help="stop when standard input ends")
    return parser.parse_args()


def _population(text: str) -> Population:
    pairs = [pair.partition("=") for pair in text.split(",")]
    values = {name: value.split("+") if name == "roles" else value for name, _, value in pairs}
    return Population.model_validate(values)


if __name__ == "__main__":
    main()
