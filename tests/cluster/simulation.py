"""Many nodes on one machine lease from one pool, while nodes and members of etcd are killed.

`python -m tests.cluster.simulation --nodes 50 --operations 100000` prints what happened, and fails if an
address was leased twice or lost. The real code runs in a process for each node, with a real etcd of three
members; the histories come from the nodes' journals.

Some nodes die for good, with their pods: an operator forgets them, and others take their blocks. In the midst
etcd is restored from a snapshot that is older than some of the claims.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.cluster.etcds import Etcds
from tests.cluster.nodes import Node

POOL = "10.64.0.0/20"
_LOOK_S = 0.05
_OPERATION_BYTES = 260  # of a journal, about


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
    nodes_dead: int
    members_killed: int
    restores: int
    errors: dict[int, int]
    seconds: float
    add_ms: tuple[float, float]  # median, 99th percentile


class Simulation:
    def __init__(self, nodes: int, operations: int, seed: str, *, kills: bool = True) -> None:
        self.count = nodes
        self.dice = random.Random(seed)  # noqa: S311 - a seed, no secret - a test's dice
        self.seed = seed
        self.kills = kills
        self.killed = self.members_killed = 0
        self.dead: dict[str, int] = {}  # the nodes that died for good, with the time at which it was said
        self.begun: dict[str, int] = {}  # the operations of a node at its last start
        self.deaths = nodes // 10 if kills else 0
        self.each = operations // (nodes - self.deaths) + 1  # the others do the part of the dead
        self.restores = 0
        self.snapshot: Path | None = None

    def run(self, executable: Path) -> Tally:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch, Etcds(3) as etcd:
            self.nodes = [
                Node(executable, Path(scratch), etcd.conf(), f"n{n}", POOL) for n in range(self.count)
            ]
            started = time.monotonic()
            self._live(etcd)
            seconds = time.monotonic() - started
            events = sorted(event for node in self.nodes for event in journal(node))
            self._check(events, self.dead)
            self._check_nothing_is_left(etcd)
        adds = sorted(e.seconds * 1e3 for e in events if e.verb == "ADD" and e.at == "end" and e.code == 0)
        errors: dict[int, int] = {}
        for event in events:
            if event.at == "end" and event.code:
                errors[event.code] = errors.get(event.code, 0) + 1
        done = sum(event.at == "end" for event in events)
        where = (adds[len(adds) // 2], adds[len(adds) * 99 // 100])
        counts = self.killed, len(self.dead), self.members_killed, self.restores
        return Tally(done, *counts, errors, seconds, where)

    def _live(self, etcd: Etcds) -> None:
        for node in self.nodes:
            node.data_dir.mkdir(parents=True, exist_ok=True)
        running = {node.name: self._start(node) for node in self.nodes}
        member = None
        while running:
            time.sleep(_LOOK_S)  # the pace of the kills, not a wait for anything
            self._follow(running)
            at_work = sorted(name for name in running if self._is_at_work(name))
            if at_work and self.kills:
                running[self.dice.choice(at_work)].kill()
                self.killed += 1
            if self.kills and self.dice.random() < 0.02:
                member = self._strike(etcd, member)
            if self.kills and member is None:
                self._end_some(etcd, running)
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

    def _end_some(self, etcd: Etcds, running: dict[str, subprocess.Popen[bytes]]) -> None:
        """Save a snapshot early, restore it in the midst, and let nodes die before and after."""
        share = sum(self._done(node) for node in self.nodes) / (self.each * self.count)
        if len(self.dead) < self.deaths * share and len(running) > 2:
            self._bury(running, self.dice.choice(sorted(running)))
        if self.snapshot is None and share > 0.3:
            self.snapshot = etcd.snapshot()
        if self.snapshot is not None and not self.restores and share > 0.5:
            etcd.restore(self.snapshot)
            self.restores += 1
            for name in self.dead:  # a backup has them
                self._forget(running, name)

    def _is_at_work(self, name: str) -> bool:
        """Return whether a node has done something since its start: else the last ones would never end."""
        (node,) = (node for node in self.nodes if node.name == name)
        return self._done(node) > self.begun[name]

    def _done(self, node: Node) -> int:
        """Return the operations that a node has done, by the length of its journal."""
        journal = node.data_dir / "journal"
        return journal.stat().st_size // _OPERATION_BYTES if journal.exists() else 0

    def _bury(self, running: dict[str, subprocess.Popen[bytes]], name: str) -> None:
        process = running.pop(name)
        process.kill()
        process.wait()
        self.dead[name] = time.monotonic_ns()
        self._forget(running, name)

    def _forget(self, running: dict[str, subprocess.Popen[bytes]], name: str) -> None:
        """Say on any node that knows the cluster that another is switched off for good."""
        said = ""
        for node in self.nodes:
            if node.name in running:
                done = node.tool("forget", name, "--now", "--yes", "--data-dir", str(node.data_dir))
                said = done.stderr
                if done.returncode == 0 or "is not a node of the cluster" in said:
                    return
        raise AssertionError(said)

    def _strike(self, etcd: Etcds, member: int | None) -> int | None:
        if member is not None:
            etcd.start(member)
            return None
        member = self.dice.randrange(3)
        etcd.kill(member)
        self.members_killed += 1
        return member

    def _start(self, node: Node) -> subprocess.Popen[bytes]:
        self.begun[node.name] = self._done(node)
        words = [node.name, str(self.each), self.seed, str(node.data_dir), json.dumps(node.conf)]
        with (node.data_dir / "complaints").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", "tests.cluster.sim_node", *words], stderr=log)

    @staticmethod
    def _complaints(node: Node) -> str:
        return (node.data_dir / "complaints").read_text()[-2000:]

    @staticmethod
    def _check(events: Sequence[Event], dead: Mapping[str, int]) -> None:
        """An address belongs to its pod from the end of the ADD to the beginning of the DEL.

        To that of a dead node it belongs until somebody said so.
        """
        holder: dict[str, tuple[str, str]] = {}
        address_of: dict[tuple[str, str], str] = {}
        ends = [Event(at, node, "DEATH", "", "", 0, "", 0.0) for node, at in dead.items()]
        for event in sorted([*events, *ends]):
            key = (event.node, event.pod)
            if event.verb == "DEATH":
                holder = {address: key for address, key in holder.items() if key[0] != event.node}
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
        alive = [node for node in self.nodes if node.name not in self.dead]
        for node in alive:
            done = node.tool("drain", "--data-dir", str(node.data_dir))
            assert done.returncode == 0, done.stderr
        left = etcd.keys("/cni-vlan/")
        assert left == ["/cni-vlan/v1/pool/lan/lan"], left


def journal(node: Node) -> Iterator[Event]:
    path = node.data_dir / "journal"
    for line in path.read_text().splitlines() if path.exists() else []:  # dead before its first pod
        found = json.loads(line)
        yield Event(
            found["time"], found["node"], found["verb"], found["pod"], found["at"],
            found.get("code", -1), found.get("address", ""), found.get("seconds", 0.0),
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--seed", default=str(random.randrange(1_000_000)))  # noqa: S311 - a seed, no secret
    parser.add_argument("--no-kills", action="store_true")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    executable = Path(sys.executable).with_name("cni-ipam")
    tally = Simulation(given.nodes, given.operations, given.seed, kills=not given.no_kills).run(executable)
    print(json.dumps(tally._asdict()))


if __name__ == "__main__":
    main()
