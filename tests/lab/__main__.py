"""The command line of the lab."""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from tests.lab import fitness, image, native, node, parts


def main() -> int:
    signal.signal(signal.SIGTERM, _end)
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description="Run a command on a lab node.")
    parser.add_argument(
        "--mode",
        choices=("auto", "native", "node"),
        default=os.environ.get("LAB_MODE", "auto"),
        help="native: namespaces of this machine; node: a virtual machine; auto: native where it can be",
    )
    parser.add_argument(
        "--side-by-side",
        action="store_true",
        help="two processors, for a command that does several things at once",
    )
    parser.add_argument(
        "--by-mark",
        action="store_true",
        help="for pytest: auto decides by the mark of each test, where the kernel has macvlan but not all",
    )
    parser.add_argument("command", nargs="+", help="what to run, after --")
    arguments = parser.parse_args()
    project = Path(__file__).resolve().parents[2]
    if os.geteuid() != 0:
        fitness.require(image.cache_directory())
    missing = native.missing_kinds()
    if arguments.mode == "native" and missing:
        print(f"lab: this machine's kernel cannot make {', '.join(missing)}", file=sys.stderr)
        return 1
    if arguments.mode == "native" or (arguments.mode == "auto" and not missing):
        print("lab: this machine has every link kind; using throw-away namespaces", file=sys.stderr)
        return native.run(project, arguments.command)
    if arguments.by_mark and arguments.mode == "auto" and parts.MARK not in missing:
        return parts.run(project, arguments.command, side_by_side=arguments.side_by_side)
    if missing:
        print(f"lab: this machine lacks {', '.join(missing)}; using a virtual machine", file=sys.stderr)
    return node.run(project, arguments.command, side_by_side=arguments.side_by_side)


def _end(_signal: int, _frame: object) -> NoReturn:
    """End as by an exception, so that nodes and namespaces go too."""
    raise SystemExit(128 + signal.SIGTERM)


try:
    status = main()
except KeyboardInterrupt:
    status = 128 + signal.SIGINT
raise SystemExit(status)
