"""Agents of three hosts on one wire: they claim ahead, give back, and take over from the dead."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.conftest import launchers, one_shot
from tests.cluster.etcds import Etcds
from tests.cluster.members import Member, three
from tests.cluster.relay import Relay
from tests.lab import world
from tests.lab.waiting import wait_until
from tests.lab.world import network

__all__ = ["launchers", "one_shot"]


@pytest.fixture
def etcd() -> Iterator[Etcds]:
    with Etcds(3) as running:
        yield running


@pytest.fixture
def members(etcd: Etcds, launchers: Path, one_shot: Path) -> Iterator[list[Member]]:
    with three(etcd, launchers, one_shot) as made:
        yield made


def test_pods_of_three_hosts_reach_each_other(members: list[Member]) -> None:
    pods = [pod for member in members for pod in member.attach("a", "b")]
    found = [pod.addresses()[0].partition("/")[0] for pod in pods]

    assert len(set(found)) == len(pods)
    assert all(pod.reaches(address) for pod in pods for address in found)


def test_members_of_etcd_that_are_killed(etcd: Etcds, members: list[Member]) -> None:
    one, two, three = members
    one.attach("a")
    two.attach("a")
    etcd.kill(0)
    three.attach("a")  # two of three decide

    etcd.kill(1)
    one.attach("b")  # held blocks go on
    (pod,) = one.host.pods("c")
    late = network("other", "eth0", "10.1.0.0/24", announce=0)
    late["ipam"] |= {"cluster": one.conf["ipam"]["cluster"]}
    refused = pod.add(late)
    assert refused.code == 11, refused

    etcd.start(1)
    pod.attach(late)


def test_a_disk_of_etcd_that_is_full(launchers: Path, one_shot: Path) -> None:
    """Held blocks go on; the error names the alarm."""
    with Etcds(1, ["--quota-backend-bytes=16384"]) as etcd, world.host(launchers) as host:
        host.extra = {"CNI_VLAN_SOCKET": "/nowhere", "CNI_VLAN_BUNDLE": str(one_shot)}
        port = int(etcd.endpoints[0].rpartition(":")[2])
        keys = {"store": "etcd", "endpoints": list(etcd.endpoints), "node": "n1"}
        conf = network("lan", "eth0", "10.0.0.0/24", announce=0)
        conf["ipam"] |= {"cluster": keys}
        host.uplink()
        with Relay(host.holder, port):
            pods = host.pods(*(f"p{number}" for number in range(64)))
            refused = next(reply for pod in pods if (reply := pod.add(conf)).code)
        assert refused.code == 11
        assert "NOSPACE" in refused.msg


def test_an_agent_claims_a_block_before_the_last_one_is_full(members: list[Member]) -> None:
    one, _two, _three = members
    one.attach(*(f"p{n}" for n in range(13)))

    wait_until(lambda: len(one.blocks()) == 2)


def test_an_agent_claims_ahead_for_pods_of_one_shot_plugins(members: list[Member]) -> None:
    """It has not served the pool, and was there before the pool."""
    one, _two, _three = members
    one.host.extra["CNI_VLAN_SOCKET"] = "/nowhere"
    one.attach(*(f"p{n}" for n in range(13)))

    wait_until(lambda: len(one.blocks()) == 2)


def test_while_the_engine_is_away_pods_come_and_go(members: list[Member]) -> None:
    one, _two, _three = members
    (pod,) = one.attach("a")
    one.cut_off()

    one.attach("b")
    pod.detach(one.conf)


def test_a_starving_node_gets_the_idle_node_s_block(members: list[Member]) -> None:
    one, two, _three = members
    for member in members:
        member.conf["ipam"]["subnets"] = [{"subnet": "10.0.0.0/27"}]
    (pod,) = one.attach("a")
    two.attach(*(f"p{n}" for n in range(13)))
    pod.detach(one.conf)
    hungry = [*two.host.pods(*(f"q{n}" for n in range(6)))]

    def fed() -> bool:
        return all(pod.has_link("eth0") or pod.add(two.conf).status == 0 for pod in hungry)

    wait_until(fed)
    assert one.blocks() == []


def test_blocks_of_a_dead_node_are_taken_when_its_addresses_are_silent(
    members: list[Member],
) -> None:
    one, two, _three = members
    one.attach("a")
    two.attach("b")
    mine = one.blocks()
    one.stop()
    one.host.run("ip", "link", "set", "eth0", "down")

    two.tool("forget", "n1", "--yes")

    wait_until(lambda: "took lan." in two.log)
    shown = json.loads(two.tool("blocks", "--json"))
    assert mine[0] not in {row["address"].partition("/")[0] for row in shown}


def test_blocks_of_a_node_whose_pods_answer_are_never_taken(members: list[Member]) -> None:
    """It is cut off from the engine, and an operator has said that it is dead."""
    one, two, _three = members
    (pod,) = one.attach("a")
    two.attach("b")
    mine = one.blocks()
    one.cut_off()

    two.tool("forget", "n1", "--yes")

    address = pod.addresses()[0].partition("/")[0]
    wait_until(lambda: f"answers for {address}" in two.log)
    one.connect()
    wait_until(lambda: "n1" in {row["node"] for row in json.loads(two.tool("blocks", "--json"))})
    one.attach("c")
    assert one.blocks() == mine
