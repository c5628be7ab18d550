"""A real snapshot of etcd, restored under nodes that go on."""

import ipaddress
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from cni_agent.claimer import Claimer
from tests.cluster.etcds import Etcds
from tests.cluster.nodes import Node
from tests.lab.waiting import wait_until


@pytest.fixture
def etcd() -> Iterator[Etcds]:
    with Etcds() as running:
        yield running


class Member:
    """A node with the task of its agent, which looks when it is told to."""

    def __init__(self, etcd: Etcds, executable: Path, directory: Path, name: str) -> None:
        self.node = Node(executable, directory, etcd.conf(), name, "10.0.0.0/26", pinned=["10.0.0.48/28"])
        self.said: list[str] = []
        self.claimer = Claimer(self.said.append, str(self.node.data_dir), contact_s=0, empty_s=0)
        self.pods: dict[str, str] = {}

    def looked(self) -> Self:
        """Have the agent look once, as it does at least every 30 s."""
        self.claimer.look_after()
        return self

    def add(self, pod: str, **extra: object) -> str:
        reply = self.node.call("ADD", pod, extra=dict(extra))
        assert reply.status == 0, (reply, self.said)
        self.pods[pod] = reply.addresses[0]
        return reply.addresses[0]

    def pin(self, pod: str, address: str) -> None:
        self.add(pod, runtimeConfig={"ips": [address]})

    def delete(self, pod: str) -> None:
        self.node.delete(pod)
        del self.pods[pod]

    def has_all(self) -> bool:
        return all(self.node.check(pod, [address]).status == 0 for pod, address in self.pods.items())

    def holds(self) -> set[str]:
        return {*self.node.blocks(), *self.node.blocks("draining")}


@pytest.fixture
def members(etcd: Etcds, executable: Path, tmp_path: Path) -> list[Member]:
    return [Member(etcd, executable, tmp_path, name) for name in ("n1", "n2", "n3")]


def in_store(member: Member) -> dict[str, str]:
    done = member.node.tool("blocks", "--json", "--data-dir", str(member.node.data_dir))
    assert done.returncode == 0, done.stderr
    return {row["address"]: row["node"] for row in json.loads(done.stdout)}


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_a_snapshot_of_before_the_blocks_changed_hands(
    etcd: Etcds, members: list[Member], order: tuple[int, ...]
) -> None:
    """What a node gave back since is given back again, to who has it with pods; nobody else gets it."""
    one, two, three = members
    three.add("z")
    one.add("a0")
    (moved,) = one.node.blocks()
    while len(one.node.blocks()) < 2:
        one.add(f"a{len(one.pods)}")
    one.pin("p", "10.0.0.50")
    snapshot = etcd.snapshot()
    for pod in [pod for pod, address in one.pods.items() if is_in(address, moved)]:
        one.delete(pod)
    one.delete("p")
    wait_until(lambda: moved not in one.looked().holds())
    two.add("x")
    assert moved in two.holds()  # no other is left
    two.pin("q", "10.0.0.50")

    etcd.restore(snapshot)
    before = {address for member in members for address in member.pods.values()}
    for turn in (*order, *order, *order):
        members[turn].looked()

    assert two.has_all()
    assert three.has_all()
    assert moved in two.holds()
    assert moved not in one.holds() | three.holds()
    shown = in_store(two)
    assert shown[f"{moved}/28"] == "n2"
    assert shown["10.0.0.50"] == "n2"
    fresh = {one.add(f"n{n}") for n in range(5)}
    assert not fresh & before


def test_a_snapshot_of_before_a_node_joined(etcd: Etcds, members: list[Member]) -> None:
    """Its blocks and pins are made again before another node claims them."""
    one, two, _three = members
    one.add("a")
    snapshot = etcd.snapshot()
    two.add("x")
    two.pin("q", "10.0.0.60")

    etcd.restore(snapshot)
    for member in (one, two):
        member.looked()

    assert one.has_all()
    assert two.has_all()
    assert in_store(one)[f"{two.node.blocks()[0]}/28"] == "n2"
    assert in_store(one)["10.0.0.60"] == "n2"


def is_in(address: str, block: str) -> bool:
    return ipaddress.ip_interface(address).ip in ipaddress.ip_network(f"{block}/28")


def test_a_node_that_joins_after_the_restore_waits_too(etcd: Etcds, members: list[Member]) -> None:
    """The nodes of which it does not know have to claim their blocks again first."""
    one, two, three = members
    one.add("a")
    snapshot = etcd.snapshot()
    two.add("x")
    etcd.restore(snapshot)

    refused = three.node.call("ADD", "z")
    assert refused.code == 11
    assert "the store was restored from a backup" in refused.document["msg"]
    assert three.node.blocks() == []

    two.looked()
    path = three.node.data_dir / "lan" / "holdings"
    path.write_text(json.dumps({**three.node.holdings(), "claimAfter": 1e-9}))  # the time is over
    three.add("z")
    late = Member(etcd, three.node.executable, three.node.data_dir.parent, "n4")
    late.pin("p", "10.0.0.51")
    assert late.node.holdings()["claimAfter"] == 0
