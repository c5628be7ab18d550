"""`python -m tests.bench.exclusions`: an ADD with many excluded addresses beside one with none.

Run as root on the machine; each network has a host in namespaces of its own with an agent, and the real
launcher (`make dist/launcher`). Writes nothing.
"""

import ipaddress
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from cni_core.plugin import ProcessIO, run
from cni_ipam import commands
from tests.lab import stage, world
from tests.lab.warm import Agents
from tests.lab.world import Host, Json, Pod, network
from tests.store.ipam import Ipam

ROOT = Path(__file__).parents[2]
FIRST = int(ipaddress.ip_address("10.0.0.8"))
SIZES = (0, 4_000, 75_000)
ROUNDS = 41


class Row(NamedTuple):
    """Milliseconds with so many exclusions: the first ADD of a process, and the median of later ones."""

    exclusions: int
    first: float
    warm: float


def scattered(many: int) -> list[str]:
    """Return every fourth address, so that no two are neighbours."""
    return [str(ipaddress.ip_address(FIRST + 4 * number)) for number in range(many)]


def subnet(many: int) -> Json:
    return {"subnet": "10.0.0.0/8", "exclude": scattered(many)}


class Process:
    """cni-ipam in a process that goes on, as in the agent, without the launcher and the link."""

    def __init__(self, many: int, directory: Path) -> None:
        self._ipam = Ipam(Path("/nowhere/cni-ipam"), directory / str(many), subnet(many))
        self._ipam.conf["name"] = self._ipam.conf["ipam"]["pool"] = f"lan{many}"
        self._body = json.dumps(self._ipam.conf).encode()

    def call(self, verb: str, number: int) -> float:
        io = ProcessIO(
            self._ipam.environment(verb, f"c{number}"), lambda: self._body, lambda *_answer: None, print
        )
        started = time.perf_counter()
        status = run("cni-ipam", lambda: commands, io, {})
        assert status == 0
        return (time.perf_counter() - started) * 1e3


class Node:
    """cni-vlan on a macvlan, by the launcher and an agent: all that a runtime waits for."""

    def __init__(self, many: int, host: Host) -> None:
        self._host = host
        host.uplink()
        self._pod: Pod = host.namespace("p1")
        conf = network("lan", "eth0", subnet(many), announce=0)
        self._given = host.scratch / "given.json"
        self._given.write_text(json.dumps(conf))

    def call(self, verb: str, number: int) -> float:
        variables = {
            **self._host.variables, "CNI_COMMAND": verb, "CNI_PATH": self._host.cni_path,
            "CNI_NETNS": f"/proc/{self._host.holder}/root{self._pod.netns}", "CNI_IFNAME": "eth0",
            "CNI_CONTAINERID": f"c{number}",
        }  # fmt: skip
        with self._given.open() as given:
            started = time.perf_counter()
            done = subprocess.run(
                [self._host.find("cni-vlan")], stdin=given, env=variables, capture_output=True, check=False
            )
            took = (time.perf_counter() - started) * 1e3
        assert done.returncode == 0, done.stdout
        return took


def measured(sides: dict[int, "Process"] | dict[int, "Node"]) -> list[Row]:
    """Return a row for each side; they take turns, so that a busy machine is busy for all."""
    firsts: dict[int, float] = {}
    seen: dict[int, list[float]] = {many: [] for many in sides}
    for number in range(ROUNDS):
        for many, side in sides.items():
            took = side.call("ADD", number)
            firsts.setdefault(many, took)
            if number > 1:  # the second one reads once what the first wrote about the pool
                seen[many].append(took)
            side.call("DEL", number)
    return [Row(many, firsts[many], statistics.median(seen[many])) for many in sides]


def table(title: str, rows: list[Row]) -> str:
    base = rows[0].warm
    lines = [f"{title}, ms", "| exclusions | first ADD | warm ADD, median | : none |", "|---|---|---|---|"]
    lines += [
        f"| {row.exclusions:,} | {row.first:.1f} | {row.warm:.2f} | {row.warm / base:.2f} |" for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    sizes = [int(text) for text in sys.argv[1:]] or list(SIZES)
    with ExitStack() as opened:
        directory = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=Path.home())))
        warm = measured({many: Process(many, directory) for many in sizes})
        print(table("cni-ipam in a process", warm), flush=True)
        launchers = directory / "launchers"
        launchers.mkdir()
        for name in ("cni-vlan", "cni-ipam"):
            os.link(ROOT / "dist" / "launcher", launchers / name)
        os.environ["CNI_VLAN_BUNDLE"] = "/nowhere"  # no falling back in silence
        stage.interpreter()
        agents = Agents()
        opened.callback(agents.end)
        nodes = {many: Node(many, opened.enter_context(world.host(launchers, agents))) for many in sizes}
        print(table("cni-vlan by launcher and agent, a pod on macvlan", measured(nodes)), flush=True)


if __name__ == "__main__":
    main()
