"""Start every part, hand it to local/demo.py or local/bench.py, and stop it."""

import argparse
import importlib
from collections.abc import Sequence

from local.stack import LOGS, Stack


def main(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """What `main(stack, rest)` of the module named like the verb answers."""
    play = importlib.import_module(f"local.{options.verb}")
    stack = Stack(logs=LOGS / options.verb)  # the bench reads its log: no dev.py up may write there
    if {"-h", "--help"} & set(rest):
        return int(play.main(stack, rest))  # help ends the program before the stack is used
    with stack:
        return int(play.main(stack, rest))
