"""`python3 -m tests.chaos [--seconds 60] [--seed N]`, on a lab node: chaos, and what it found.

The seed decides calls, faults and moments of each step; the machine, how far a call is at that moment.
"""

import argparse
import os
import random
import secrets
import time
from collections import Counter
from pathlib import Path

from tests.chaos.field import EMPTY, UNKNOWN, Field, Weight
from tests.chaos.invariants import broken_promises
from tests.chaos.steps import CALL_S, start, step, sweep
from tests.lab import world
from tests.lab.warm import Agents

STATE_SIZE = "8m"
CALM_EVERY = 5
SHOWN = 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.chaos")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    arguments = parser.parse_args()
    print(f"chaos: seed {arguments.seed}, {arguments.seconds:.0f} s", flush=True)
    one_shot = Path(os.environ["LAB_CNI_BIN"])
    agents = Agents()
    with world.host(one_shot / "launched") as host:
        host.run("mount", "-o", f"remount,size={STATE_SIZE}", "/var/lib/cni")
        field = Field(host, agents, one_shot, agents.start(host.holder, host.socket))
        before = set(host.links())
        steps, wrong = _run(field, arguments.seed, arguments.seconds)
        weight = field.weight()
        wrong += _end(field)
        left = [*sorted(set(host.links()) - before), *host.state()]
        wrong += [f"left at the end: {left}"] if left else []
        field.kill_agent()
    agents.end()
    _report(field, steps, weight, wrong)
    return bool(wrong)


def _run(field: Field, seed: int, seconds: float) -> tuple[int, list[str]]:
    """Run steps for so long, or until something is not as promised."""
    until = time.monotonic() + seconds
    steps, told = 0, time.monotonic()
    while time.monotonic() < until:
        dice = random.Random(f"{seed}/{steps}")  # noqa: S311 - a test's dice
        calm = steps % CALM_EVERY == CALM_EVERY - 1
        wrong = list(sweep(field, dice)) if calm else []
        wrong += step(field, dice, calm=calm)
        wrong += list(broken_promises(field))
        steps += 1
        if wrong:
            return steps, [f"step {steps}: {text}" for text in wrong]
        if time.monotonic() > told + 10:
            told = time.monotonic()
            print(f"chaos: {steps} steps, {sum(field.operations.values())} calls", flush=True)
    return steps, []


def _end(field: Field) -> list[str]:
    """Detach all; each DEL has to succeed."""
    wrong = []
    for slot in field.slots:
        if slot.state != EMPTY:
            outcome = start(field, slot, "DEL").end(time.monotonic() + CALL_S)
            wrong += [f"last DEL {slot.label}: {outcome.text}"] if outcome.code else []
            slot.state = UNKNOWN if outcome.code else EMPTY
    return wrong


def _report(field: Field, steps: int, weight: Weight, wrong: list[str]) -> None:
    print(f"chaos: {steps} steps; calls: {_counted(field.operations)}")
    print(f"chaos: faults: {_counted(field.faults)}")
    print(f"chaos: codes: {_counted(field.codes)}")
    print(f"chaos: the agent at last: {weight.descriptors} descriptors, {weight.threads} threads,", end=" ")
    print(f"{weight.resident_mib:.1f} MiB")
    for text in wrong[:SHOWN]:
        print(f"chaos: VIOLATION: {text}")
    print(f"chaos: {len(wrong)} violations", flush=True)


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common() if count)


raise SystemExit(main())
