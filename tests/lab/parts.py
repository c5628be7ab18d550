"""A run of pytest in two parts, where the machine's kernel has macvlan but not every link kind.

Tests marked `macvlan` run in namespaces of this machine, in a tenth of the time, and then all others on a
virtual machine. A mark that promises too much makes its test fail here; one that is missing costs time alone.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import native, node, stage

MARK = "macvlan"


def run(project: Path, command: list[str], *, side_by_side: bool) -> int:
    """Run both parts, the second one if the first has passed; return the exit status of the last."""
    here, there = _parts(command)
    natively, on_a_node = counts(project, command)
    print(
        f"lab: this machine has {MARK}, but not every link kind;"
        f" {natively} tests use throw-away namespaces, {on_a_node} a virtual machine",
        file=sys.stderr,
        flush=True,
    )
    status = native.run(project, here) if natively or not on_a_node else int(pytest.ExitCode.OK)
    if status == pytest.ExitCode.OK and on_a_node:
        status = node.run(project, there, side_by_side=side_by_side)
    return status


def counts(project: Path, command: list[str]) -> tuple[int, int]:
    """Return how many tests each part has; end the program if they are not together those of the command."""
    here, there = (_collected(project, part) for part in _parts(command))
    if sorted(here + there) != sorted(_collected(project, command)):
        raise SystemExit("lab: some tests would run never or twice: the command may have no -m of its own")
    return len(here), len(there)


def _parts(command: list[str]) -> tuple[list[str], list[str]]:
    return [*command, "-m", MARK], [*command, "-m", f"not {MARK}"]


def _collected(project: Path, command: list[str]) -> list[str]:
    """Return the ids of the tests that a command would run."""
    environment = {
        **os.environ,
        "PATH": f"{stage.interpreter().parent}:{os.environ['PATH']}",
        "LAB_CNI_BIN": "/nowhere",
    }
    listing = subprocess.run(
        [*command, "--collect-only", "--verbosity=-1"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise SystemExit(listing.stdout + listing.stderr)
    return [line for line in listing.stdout.splitlines() if "::" in line]
