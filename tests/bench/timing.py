"""Running plugins as a runtime does, with a clock beside it."""

import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]


class Call(NamedTuple):
    """One execution of a plugin, ready to be started."""

    executable: str
    environ: Mapping[str, str]
    stdin: str  # a file

    def with_environ(self, more: Iterable[tuple[str, str]]) -> "Call":
        """Return the same call with more in its environment."""
        return self._replace(environ={**self.environ, **dict(more)})


class Burst(NamedTuple):
    """Many executions at once: milliseconds from the first start to the last end, and of each call."""

    wall: float
    each: list[float]

    def percentile(self, percent: int) -> float:
        """Return what so many percent of the calls did not exceed."""
        return self.each[max(0, len(self.each) * percent // 100 - 1)]


def call(
    executable: Path,
    verb: str,
    conf: Path,
    container: str,
    netns: str = "/run/netns/none",
    ifname: str = "eth0",
) -> Call:
    environ = {
        "PATH": os.environ["PATH"], "CNI_COMMAND": verb, "CNI_CONTAINERID": container, "CNI_NETNS": netns,
        "CNI_IFNAME": ifname, "CNI_PATH": f"{executable.parent}:/usr/lib/cni",
        **{name: value for name, value in os.environ.items() if name.startswith("CNI_VLAN_")},
    }  # fmt: skip
    return Call(str(executable), environ, str(conf))


def start(one: Call) -> tuple[int, int]:
    """Start a call; return its process id and the descriptor of what it prints."""
    reading, writing = os.pipe()
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, one.stdin, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, writing, 1),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    pid = os.posix_spawn(one.executable, [one.executable], one.environ, file_actions=actions)
    os.close(writing)
    return pid, reading


def finish(pid: int, reading: int) -> str:
    """Wait for a call; return what it printed, and raise if it failed."""
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _pid, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError(f"exit status {status}: {text}")
    return text


def timed(one: Call) -> float:
    """Return the milliseconds from starting a process to its end."""
    started = time.perf_counter()
    finish(*start(one))
    return (time.perf_counter() - started) * 1e3


def burst(calls: Sequence[Call]) -> Burst:
    """Start all calls as fast as one process can, and wait for all."""
    started: dict[int, tuple[float, int]] = {}
    first = time.perf_counter()
    for one in calls:
        at = time.perf_counter()
        pid, reading = start(one)
        started[pid] = (at, reading)
    each: list[float] = []
    while started:
        pid, status = os.waitpid(-1, 0)
        at, reading = started.pop(pid)
        each.append((time.perf_counter() - at) * 1e3)
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        if status:
            raise RuntimeError(f"exit status {status}: {text}")
    return Burst((time.perf_counter() - first) * 1e3, sorted(each))


def interleaved(cases: Mapping[str, Callable[[int], Iterable[float]]], rounds: int) -> dict[str, list[float]]:
    """Run every case once in each round; return the median of each of the figures that a case yields.

    The order is another one each time: the kernel still deletes while the next case runs.
    """
    seen: dict[str, list[list[float]]] = {name: [] for name in cases}
    dice = random.Random(0)  # noqa: S311 - no secret
    for number in range(rounds):
        for name in dice.sample(sorted(cases), len(cases)):
            seen[name].append(list(cases[name](number)))
    return {
        name: [statistics.median(figures) for figures in zip(*rows, strict=True)]
        for name, rows in seen.items()
    }


def write_conf(directory: str | Path, conf: Json) -> Path:
    """Write a configuration for a call to read."""
    descriptor, name = tempfile.mkstemp(suffix=".json", dir=directory)
    with os.fdopen(descriptor, "w") as file:
        json.dump(conf, file)
    return Path(name)
