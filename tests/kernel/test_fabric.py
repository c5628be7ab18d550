"""Two nodes and the router at the top of their rack: BIRD on all three, on the nodes that of manifests/bgp.

Each node has a link of its own to the router, so what one node sends to the other is routed there.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.kernel.conftest import ONE_SHOT, needs, vlan
from tests.kernel.test_export import BIRD, rules, table
from tests.lab import world
from tests.lab.waiting import wait_until
from tests.lab.warm import Agents
from tests.lab.world import Host, Json, Pod, network

pytestmark = [pytest.mark.kernel, needs("bird")]
LINK = {1: ("192.0.2.{}", "2001:db8:99::{}"), 2: ("198.51.100.{}", "2001:db8:98::{}")}
ROUTER = "router id 192.0.2.1; protocol device {}\n" + "".join(
    f"protocol kernel k{v} {{ ipv{v} {{ import none; export all; }}; }}\n" for v in (4, 6)
)


_LATER = 5
_SESSIONS = 2  # IPv4 and IPv6


class Answer(NamedTuple):
    """Of ping: when it came, in seconds, and the number of its request."""

    at: float
    number: int


class Daemon:
    """A BIRD of a host."""

    def __init__(self, host: Host, conf: str) -> None:
        self.host = host
        self.conf = host.scratch / "bird.conf"
        self.control = host.scratch / "bird.ctl"
        self.conf.write_text(conf.replace("log syslog all;", "log stderr { error, bug, fatal };"))
        self.running: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> None:
        self.control.unlink(missing_ok=True)
        command = ["bird", "-f", *options, "-c", str(self.conf), "-s", str(self.control)]
        self.running = self.host.popen(*command)
        wait_until(self.control.exists)

    def end(self, number: int) -> None:
        if self.running is not None:
            self.running.send_signal(number)
            self.running.communicate()
            self.running = None

    def ask(self, *command: str) -> str:
        return self.host.run("birdc", "-s", str(self.control), *command).stdout

    def is_connected(self) -> bool:
        """Tell whether both sessions to the router are established."""
        return self.ask("show", "protocols", '"router_*"').count("Established") == _SESSIONS


class Node:
    """A host with an agent and a BIRD, and the router as its default route."""

    def __init__(self, number: int, host: Host, agents: Agents) -> None:
        self.number = number
        self.host = host
        self.agents = agents
        self.agent = 0
        self.start_agent()
        conf = BIRD.read_text()
        for one, here in zip(LINK[1], LINK[number], strict=True):
            conf = conf.replace(one.format(""), here.format(""))
        self.bird = Daemon(host, conf)

    @property
    def port(self) -> str:
        """The link of the router to this node."""
        return f"port{self.number}"

    def plug_into(self, router: Host) -> None:
        far = ["type", "veth", "peer", "name", "eth0", "netns", str(self.host.holder)]
        router.run("ip", "link", "add", self.port, *far)
        for side, link, end in ((router, self.port, 1), (self.host, "eth0", 11)):
            side.ip("link", "set", link, "up")
            self.address(side, link, end)
            side.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")

    def address(self, side: Host, link: str, end: int) -> None:
        v4, v6 = (text.format(end) for text in LINK[self.number])
        side.ip("address", "add", f"{v4}/24", "dev", link)
        side.ip("address", "add", f"{v6}/64", "dev", link, "nodad")

    def point_to(self, link: str = "eth0") -> None:
        """Route everything to the router by a link."""
        v4, v6 = (text.format(1) for text in LINK[self.number])
        self.host.ip("route", "add", "default", "via", v4, "dev", link)
        self.host.ip("-6", "route", "add", "default", "via", v6, "dev", link)

    def start_agent(self) -> None:
        self.agent = self.agents.start(self.host.holder, self.host.socket)

    def end_agent(self) -> None:
        if self.agent:
            os.kill(self.agent, signal.SIGKILL)
            self.host.socket.unlink()
            self.agent = 0

    def subnets(self) -> tuple[str, str]:
        return f"10.50.{self.number}.0/24", f"2001:db8:50:{self.number}::/64"

    def routed(self, parent: str = "eth0", mode: str = "l3") -> Json:
        return network("routed", parent, *self.subnets(), mode=mode, export=True)

    def know_neighbours(self, router: Host) -> None:
        """Settle ARP and ND for good: an emulator that is short of time can lose an entry, and pings too."""
        for side, link, other, far, end in (
            (router, self.port, self.host, "eth0", 11),
            (self.host, "eth0", router, self.port, 1),
        ):
            entry = ["lladdr", other.links()[far]["address"], "dev", link, "nud", "permanent"]
            for text in LINK[self.number]:
                side.run("ip", "neighbour", "replace", text.format(end), *entry)

    def end(self) -> None:
        self.bird.end(signal.SIGKILL)
        self.end_agent()


class Rack:
    def __init__(self, router: Host, one: Node, two: Node) -> None:
        self.router = router
        self.one = one
        self.two = two
        sessions = "".join(
            f"protocol bgp n{number}_{family} {{"
            f" local {text.format(1)} as 64500; neighbor {text.format(11)} as 64512;"
            # Two connections at once, and BIRD would give up the routes that it keeps for its neighbour.
            f" passive on; ipv{family} {{ import all; export none; }}; }}\n"
            for number, texts in LINK.items()
            for family, text in zip((4, 6), texts, strict=True)
        )
        self.bird = Daemon(router, ROUTER + sessions)

    def known(self) -> set[str]:
        """The prefixes that the router's kernel has of BIRD."""
        found = [self.router.ip(family, "route", "show", "proto", "bird") for family in ("-4", "-6")]
        return {route["dst"] for routes in found for route in routes}


@pytest.fixture
def rack(agents: Agents) -> Iterator[Rack]:
    with ExitStack() as stack:
        router, *hosts = (stack.enter_context(world.host(ONE_SHOT / "launched")) for _ in range(3))
        nodes = []
        for number, host in enumerate(hosts, 1):
            nodes.append(Node(number, host, agents))
            stack.callback(nodes[-1].end)
        made = Rack(router, *nodes)
        stack.callback(made.bird.end, signal.SIGKILL)
        yield made


@pytest.fixture
def cabled(rack: Rack) -> Rack:
    """Both nodes have their addresses on eth0."""
    for node in (rack.one, rack.two):
        node.plug_into(rack.router)
        node.point_to()
    return rack


def ends(pod: Pod) -> list[str]:
    return [address.partition("/")[0] for address in pod.addresses()]


@contextmanager
def pinged(host: Host, address: str) -> Iterator[list[int]]:
    """Ping all the time; once the block has ended, the list holds the numbers of the lost requests."""
    lost: list[int] = []
    running = host.popen("ping", "-n", "-D", "-i", "0.1", address, stdout=subprocess.PIPE)
    answers = _answers(running)
    try:
        seen = [next(answers)]
        yield lost
        ended = time.time()
        # The answers to some requests that were sent afterwards: what is missing before them is lost.
        while sum(answer.at > ended for answer in seen) < _LATER:
            seen.append(next(answers))
    finally:
        running.terminate()
        running.communicate()
    numbers = {answer.number for answer in seen}
    last = next(answer.number for answer in seen if answer.at > ended)
    lost += sorted(set(range(min(numbers), last)) - numbers)


def _answers(running: subprocess.Popen[str]) -> Iterator[Answer]:
    assert running.stdout is not None
    for line in running.stdout:
        found = re.match(r"\[([\d.]+)\] .*icmp_seq=(\d+) ttl=", line)
        if found:
            yield Answer(float(found[1]), int(found[2]))


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_pods_of_two_nodes_reach_each_other_through_the_router(cabled: Rack, mode: str) -> None:
    rack = cabled
    pods = []
    for node in (rack.one, rack.two):
        node.bird.start()
    rack.bird.start()
    for node in (rack.one, rack.two):
        (pod,) = node.host.pods("a")
        pod.attach(node.routed(mode=mode))
        pods.append(pod)
    wait_until(lambda: rack.known() == {*rack.one.subnets(), *rack.two.subnets()})

    for pod, other in (pods, pods[::-1]):
        for address in ends(other):
            assert pod.reaches(address), address
            assert rack.router.run("ping", "-n", "-c1", "-W5", address).returncode == 0

    pods[0].detach(rack.one.routed(mode=mode))
    wait_until(lambda: rack.known() == set(rack.two.subnets()))
    assert table(rack.one.host) == set()


def test_no_ping_is_lost_when_the_agent_or_bird_starts_again(cabled: Rack) -> None:
    """The kernel keeps the routes while the agent is away, the router those of a BIRD that is killed."""
    rack = cabled
    node = rack.one
    node.know_neighbours(rack.router)
    node.bird.start()
    rack.bird.start()
    (pod,) = node.host.pods("a")
    pod.attach(node.routed())
    wait_until(lambda: rack.known() == set(node.subnets()))
    v4, v6 = ends(pod)

    with pinged(rack.router, v4) as lost4, pinged(rack.router, v6) as lost6:
        node.end_agent()
        node.start_agent()
        node.bird.ask("configure")
        wait_until(node.bird.is_connected)
        node.bird.end(signal.SIGKILL)
        node.bird.start("-R")
        wait_until(node.bird.is_connected)
        assert rack.known() == set(node.subnets())
    assert lost4 == []
    assert lost6 == []

    node.bird.end(signal.SIGTERM)
    wait_until(lambda: rack.known() == set())
    node.bird.start()
    wait_until(lambda: rack.known() == set(node.subnets()))
    assert rack.router.run("ping", "-n", "-c1", "-W5", v4).returncode == 0


def test_a_route_and_a_rule_that_somebody_deletes_are_back(cabled: Rack) -> None:
    """The agent looks at its start, and every minute."""
    node = cabled.one
    (pod,) = node.host.pods("a")
    pod.attach(node.routed())

    def delete() -> None:
        node.host.ip("route", "delete", "blackhole", node.subnets()[0], "table", "177")
        node.host.ip("rule", "delete", "iif", "eth0", "table", "177")

    def is_whole() -> bool:
        return table(node.host) == set(node.subnets()) and rules(node.host) == [
            ("-4", "eth0"),
            ("-6", "eth0"),
        ]

    delete()
    assert not is_whole()
    wait_until(is_whole)
    node.end_agent()
    delete()
    node.start_agent()
    wait_until(is_whole)


def test_uninstall_withdraws(cabled: Rack, tmp_path: Path) -> None:
    node = cabled.one
    (pod,) = node.host.pods("a")
    pod.attach(node.routed())
    node.end_agent()

    program = str(ONE_SHOT / "cni-agent")
    node.host.run(program, "uninstall", "--from", str(tmp_path), "--prefix", str(tmp_path))

    assert table(node.host) == set()
    assert rules(node.host) == []
    assert pod.has_link("eth0")


def sub_interfaces(rack: Rack, node: Node) -> None:
    """Cable eth1: VLAN 20 for routed networks, and VLAN 30 for switched ones, which the router switches."""
    port = node.port
    far = ["type", "veth", "peer", "name", "eth1", "netns", str(node.host.holder)]
    rack.router.run("ip", "link", "add", port, *far)
    for side, link, end in ((rack.router, port, 1), (node.host, "eth1", 11)):
        side.ip("link", "set", link, "up")
        for number in (20, 30):
            vlan(side, f"{link}.{number}", link, number)
        node.address(side, f"{link}.20", end)
        side.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    rack.router.ip("link", "set", f"{port}.30", "master", "vlan30")
    node.point_to("eth1.20")


def test_t21_with_bgp(rack: Rack) -> None:
    """The network of the gopher-net plugin: sub-interfaces made beforehand, and nobody types a route."""
    pods: list[tuple[Pod, Pod]] = []
    rack.router.ip("link", "add", "vlan30", "type", "bridge")
    rack.router.ip("link", "set", "vlan30", "up")
    rack.bird.start()
    for node in (rack.one, rack.two):
        sub_interfaces(rack, node)
        node.bird.start()
        routed, switched = node.host.pods("routed", "switched")
        routed.attach(node.routed("eth1.20"))
        part = {"subnet": "192.168.30.0/24", "ipRange": f"192.168.30.{node.number * 64}/26"}
        switched.attach(network("switched", "eth1.30", part, mode="l2"))
        pods.append((routed, switched))
    wait_until(lambda: rack.known() == {*rack.one.subnets(), *rack.two.subnets()})

    for one, other in zip(*pods, strict=True):
        assert all(one.reaches(address) for address in ends(other))
        assert all(other.reaches(address) for address in ends(one))
    routed = pods[0][0]
    for address in ends(routed):  # a node and its own pods, by way of the router
        assert routed.host.run("ping", "-n", "-c1", "-W5", address).returncode == 0
    routed.detach(rack.one.routed("eth1.20"))
    assert "eth1.20" in routed.host.links()
