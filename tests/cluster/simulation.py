"""Many nodes on one machine lease from one pool, while nodes and members of etcd are killed.

`python -m tests.cluster.simulation --nodes 50 --operations 100000` prints what happened, and fails if an
address was leased twice or lost. The real code runs in a process for each node, with a real etcd of three
members; the histories come from the nodes' journals.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.cluster.etcds import Etcds
from tests.cluster.nodes import Node

POOL = "10.64.0.0/20"
_LOOK_S = 0.05


class Event(NamedTuple):
    time: int
    node: str
    verb: str
    pod: str
    at: str
    code: int
    address: str
    seconds: float


class Tally(NamedTuple):
    operations: int
    nodes_killed: int
    members_killed: int
    errors: dict[int, int]
    seconds: float
    add_ms: tuple[float, float]  # median, 99th percentile


class Simulation:
    def __init__(self, nodes: int, operations: int, seed: str, *, kills: bool = True) -> None:
        self.count = nodes
        self.each = operations // nodes
        self.dice = random.Random(seed)  # noqa: S311 - a test's dice
        self.seed = seed
        self.kills = kills
        self.killed = self.members_killed = 0

    def run(self, executable: Path) -> Tally:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch, Etcds(3) as etcd:
            self.nodes = [
                Node(executable, Path(scratch), etcd.conf(), f"n{n}", POOL) for n in range(self.count)
            ]
            started = time.monotonic()
            self._live(etcd)
            seconds = time.monotonic() - started
            events = sorted(event for node in self.nodes for event in journal(node))
            self._check(events)
            self._check_nothing_is_left(etcd)
        adds = sorted(e.seconds * 1e3 for e in events if e.verb == "ADD" and e.at == "end" and e.code == 0)
        errors: dict[int, int] = {}
        for event in events:
            if event.at == "end" and event.code:
                errors[event.code] = errors.get(event.code, 0) + 1
        done = sum(event.at == "end" for event in events)
        where = (adds[len(adds) // 2], adds[len(adds) * 99 // 100])
        return Tally(done, self.killed, self.members_killed, errors, seconds, where)

    def _live(self, etcd: Etcds) -> None:
        for node in self.nodes:
            node.data_dir.mkdir(parents=True, exist_ok=True)
        running = {node.name: self._start(node) for node in self.nodes}
        member = None
        while running:
            time.sleep(_LOOK_S)  # the pace of the kills, not a wait for anything
            self._follow(running)
            if self.kills and running and self.dice.random() < 0.5:
                running[self.dice.choice(sorted(running))].kill()
                self.killed += 1
            if self.kills and self.dice.random() < 0.02:
                member = self._strike(etcd, member)
        if member is not None:
            etcd.start(member)

    def _follow(self, running: dict[str, subprocess.Popen[bytes]]) -> None:
        """Start the nodes that were killed again; forget those that have done their part."""
        by_name = {node.name: node for node in self.nodes}
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                assert process.returncode in {0, -9}, self._complaints(by_name[name])
                if process.returncode:
                    running[name] = self._start(by_name[name])

    def _strike(self, etcd: Etcds, member: int | None) -> int | None:
        if member is not None:
            etcd.start(member)
            return None
        member = self.dice.randrange(3)
        etcd.kill(member)
        self.members_killed += 1
        return member

    def _start(self, node: Node) -> subprocess.Popen[bytes]:
        words = [node.name, str(self.each), self.seed, str(node.data_dir), json.dumps(node.conf)]
        with (node.data_dir / "complaints").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", "tests.cluster.sim_node", *words], stderr=log)

    @staticmethod
    def _complaints(node: Node) -> str:
        return (node.data_dir / "complaints").read_text()[-2000:]

    @staticmethod
    def _check(events: Sequence[Event]) -> None:
        """An address belongs to its pod from the end of the ADD to the beginning of the DEL."""
        holder: dict[str, tuple[str, str]] = {}
        address_of: dict[tuple[str, str], str] = {}
        for event in events:
            key = (event.node, event.pod)
            if (event.verb, event.at, event.code) == ("ADD", "end", 0):
                other = holder.get(event.address)
                assert other is None, f"{event.address} leased to {key} while {other} has it"
                holder[event.address] = key
                address_of[key] = event.address
            elif (event.verb, event.at) == ("DEL", "begin"):
                holder.pop(address_of.pop(key, ""), None)
        assert holder == {}, holder

    def _check_nothing_is_left(self, etcd: Etcds) -> None:
        """When every pod is gone and every node drained, every address is free again."""
        for node in self.nodes:
            done = node.tool("drain", "--data-dir", str(node.data_dir))
            assert done.returncode == 0, done.stderr
        left = etcd.keys("/cni-vlan/")
        assert left == ["/cni-vlan/v1/pool/lan/lan"], left


def journal(node: Node) -> Iterator[Event]:
    for line in (node.data_dir / "journal").read_text().splitlines():
        found = json.loads(line)
        yield Event(
            found["time"], found["node"], found["verb"], found["pod"], found["at"],
            found.get("code", -1), found.get("address", ""), found.get("seconds", 0.0),
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--seed", default=str(random.randrange(1_000_000)))  # noqa: S311
    parser.add_argument("--no-kills", action="store_true")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    executable = Path(sys.executable).with_name("cni-ipam")
    tally = Simulation(given.nodes, given.operations, given.seed, kills=not given.no_kills).run(executable)
    print(json.dumps(tally._asdict()))


if __name__ == "__main__":
    main()
