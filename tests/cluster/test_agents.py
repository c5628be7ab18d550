"""Agents of two hosts on one wire: they claim ahead, give back, and take over from the dead."""

import ipaddress
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.agent.conftest import RunningAgent, launchers, one_shot
from tests.cluster.etcds import Etcds
from tests.cluster.relay import Relay
from tests.lab import world
from tests.lab.waiting import wait_until
from tests.lab.world import Host, Json, Pod, network

__all__ = ["launchers", "one_shot"]
GRACE_S = "1"


class Member:
    """A host of the cluster with its agent."""

    def __init__(self, host: Host, relays: list[Relay], one_shot: Path, conf: Json) -> None:
        self.host, self.relays, self.conf = host, relays, conf
        self._executable = one_shot / "cni-agent"
        self.agent: RunningAgent | None = None

    def start(self) -> None:
        self.agent = RunningAgent(self.host, self._executable, options=("--contact", "1", "--grace", GRACE_S))

    def stop(self) -> None:
        if self.agent is not None:
            self.agent.stop()
            self.agent = None

    def cut_off(self) -> None:
        """Part this host from the engine, and from it alone."""
        for relay in self.relays:
            relay.cut()

    def connect(self) -> None:
        for relay in self.relays:
            relay.mend()

    @property
    def log(self) -> str:
        return (self.host.scratch / "agent.log").read_text()

    def blocks(self, state: str = "held") -> list[str]:
        text = self.host.run("cat", "/var/lib/cni/cni-ipam/lan/holdings", check=False).stdout or "{}"
        return [block["start"] for block in json.loads(text).get("blocks", []) if block["state"] == state]

    def attach(self, *names: str) -> list[Pod]:
        pods = self.host.pods(*names)
        for pod in pods:
            pod.attach(self.conf)
        return pods

    def tool(self, *arguments: str) -> str:
        executable = str(self._executable.with_name("cni-ipam"))
        return self.host.run(executable, *arguments).stdout


@pytest.fixture
def etcd() -> Iterator[Etcds]:
    with Etcds(3) as running:
        yield running


@pytest.fixture
def members(etcd: Etcds, launchers: Path, one_shot: Path) -> Iterator[list[Member]]:
    """Three hosts whose eth0 are plugged into one switch."""
    ports = [int(endpoint.rpartition(":")[2]) for endpoint in etcd.endpoints]
    with ExitStack() as stack:
        made = []
        for name in ("n1", "n2", "n3"):
            host = stack.enter_context(world.host(launchers))
            host.extra = {
                "CNI_VLAN_SOCKET": str(host.scratch / "agent" / "agent.sock"),
                "CNI_VLAN_BUNDLE": str(one_shot),
            }
            keys = {"store": "etcd", "endpoints": list(etcd.endpoints), "node": name}
            conf = network("lan", "eth0", "10.0.0.0/24", announce=0)
            conf["ipam"] |= {"cluster": keys}
            relays = [stack.enter_context(Relay(host.holder, port)) for port in ports]
            made.append(Member(host, relays, one_shot, conf))
        plug_in(made)
        for member in made:
            member.start()
            stack.callback(member.stop)
        yield made


def plug_in(members: list[Member]) -> None:
    """Plug the eth0 of each host into a switch on the first one."""
    switch = members[0].host
    switch.run("ip", "link", "add", "switch", "type", "bridge")
    switch.run("ip", "link", "set", "switch", "up")
    for number, member in enumerate(members):
        port = f"port{number}"
        far = ["peer", "name", "eth0", "netns", str(member.host.holder)]
        switch.run("ip", "link", "add", port, "master", "switch", "type", "veth", *far)
        switch.run("ip", "link", "set", port, "up")
        member.host.run("ip", "link", "set", "eth0", "up")


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

    wait_until(lambda: len(one.blocks()) == 2, 30)


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

    wait_until(fed, 60)
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

    wait_until(lambda: "took lan." in two.log, 60)
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
    wait_until(lambda: f"answers for {address}" in two.log, 60)
    one.connect()
    wait_until(lambda: "n1" in {row["node"] for row in json.loads(two.tool("blocks", "--json"))}, 60)
    one.attach("c")
    assert one.blocks() == mine


def test_an_address_that_somebody_answers_for_is_declined_until_it_is_silent(members: list[Member]) -> None:
    one, two, _three = members
    one.attach("a")
    taken = str(ipaddress.ip_address(one.blocks()[0]) + 7)
    one.host.run("ip", "address", "add", f"{taken}/32", "dev", "switch")  # a host that nobody has asked

    def declined() -> dict[str, str]:
        rows = json.loads(two.tool("blocks", "--json"))
        return {row["address"]: row["owner"] for row in rows if row["kind"] == "declined"}

    two.attach("b")
    wait_until(lambda: taken in declined(), 30)
    mac = one.host.links()["switch"]["address"]
    assert declined() == {taken: f"{mac} on the wire"}
    pods = one.attach(*(f"p{n}" for n in range(15)))
    assert taken not in {pod.addresses()[0].partition("/")[0] for pod in pods}
    (pod,) = two.host.pods("x")
    asking = {**two.conf, "runtimeConfig": {"ips": [f"{taken}/24"]}}
    assert f"{mac} on the wire answers for it" in pod.add(asking).msg

    one.host.run("ip", "address", "del", f"{taken}/32", "dev", "switch")
    wait_until(lambda: declined() == {}, 30)
    assert "dead node" not in one.log + two.log
    (late,) = one.host.pods("late")
    late.attach({**one.conf, "runtimeConfig": {"ips": [f"{taken}/24"]}})


def test_an_address_of_the_node_itself_is_declined(members: list[Member]) -> None:
    """It does not answer its own node, and would get none of the pod's packets to it."""
    one, _two, _three = members
    one.attach("a")
    own = str(ipaddress.ip_address(one.blocks()[0]) + 9)
    one.host.run("sysctl", "-w", "net.ipv4.conf.switch.arp_ignore=1")  # the other end is in this namespace
    one.host.run("ip", "address", "add", f"{own}/24", "dev", "eth0")

    wait_until(lambda: f"answers for {own}, which is declined" in one.log, 30)
    pods = one.attach(*(f"p{n}" for n in range(15)))
    assert own not in {pod.addresses()[0].partition("/")[0] for pod in pods}


def test_a_router_that_answers_for_every_address_has_nothing_declined(members: list[Member]) -> None:
    one, _two, _three = members
    one.attach("a")
    one.host.run("ip", "route", "add", "local", f"{one.blocks()[0]}/28", "dev", "switch")

    wait_until(lambda: "answers for most free addresses" in one.log, 30)
    assert "declined" not in one.tool("blocks")
