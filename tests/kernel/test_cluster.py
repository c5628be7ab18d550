"""Three nodes lease from one subnet of one VLAN, with etcd on the first of them."""

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.kernel.conftest import ONE_SHOT
from tests.lab import world
from tests.lab.waiting import wait_until
from tests.lab.warm import Agents
from tests.lab.world import Host, Json, Pod, network

pytestmark = pytest.mark.kernel

ETCD = "http://192.0.2.1:2379"
TRY_AGAIN = 11


@pytest.fixture
def nodes(agents: Agents) -> Iterator[list[Host]]:
    """Nodes whose eth0 are plugged into one switch, with an address each."""
    with ExitStack() as stack:
        made = [stack.enter_context(world.host(ONE_SHOT / "launched", agents)) for _ in range(3)]
        switch = made[0]
        switch.ip("link", "add", "switch", "type", "bridge")
        switch.ip("link", "set", "switch", "up")
        for number, host in enumerate(made, 1):
            far = ["peer", "name", "eth0", "netns", str(host.holder)]
            switch.run("ip", "link", "add", f"port{number}", "master", "switch", "type", "veth", *far)
            switch.ip("link", "set", f"port{number}", "up")
            host.ip("address", "add", f"192.0.2.{number}/24", "dev", "eth0")
            host.ip("link", "set", "eth0", "up")
        etcd = switch.popen(
            "etcd", "--data-dir", str(switch.scratch / "etcd"), "--listen-client-urls", ETCD,
            "--advertise-client-urls", ETCD, "--log-level", "error", stderr=-3, stdout=-3,
        )  # fmt: skip
        stack.callback(etcd.wait)
        stack.callback(etcd.kill)
        wait_until(lambda: "true" in switch.run("curl", "-s", f"{ETCD}/health", check=False).stdout)
        yield made


def lan(number: int, **keys: object) -> Json:
    conf = network("lan", "eth0.50", "10.0.0.0/24", "2001:db8:50::/64", **keys)
    conf["ipam"] |= {"cluster": {"store": "etcd", "endpoints": [ETCD], "node": f"n{number}"}}
    return conf


def attach(pod: Pod, conf: Json) -> None:
    """Attach as a runtime does, which tries again if it is asked to: the engine may be slow for a while."""

    def is_done() -> bool:
        reply = pod.add(conf)
        assert reply.code in (0, TRY_AGAIN), reply
        return reply.code == 0

    wait_until(is_done)


@pytest.mark.parametrize("mode", ["bridge", "l2"])
def test_pods_of_three_nodes_on_one_vlan(nodes: list[Host], mode: str) -> None:
    pods = []
    for number, host in enumerate(nodes, 1):
        for pod in host.pods("a", "b"):
            attach(pod, lan(number, mode=mode))
            pods.append((number, pod))
    found = [address.partition("/")[0] for _number, pod in pods for address in pod.addresses()]

    assert len(set(found)) == 12  # two families of six pods
    for address in found[2:]:
        assert pods[0][1].reaches(address)

    for number, pod in pods:
        pod.detach(lan(number, mode=mode))
    assert all("eth0.50" not in host.links() for host in nodes)


def test_a_node_that_is_cut_off_goes_on_with_its_block(nodes: list[Host]) -> None:
    one, two, three = nodes
    first, second = two.pods("a", "b")
    (late,) = three.pods("c")
    first.attach(lan(2))
    for host in (two, three):
        host.run("nft", "add", "table", "inet", "cut")
        host.run("nft", "add", "chain", "inet", "cut", "out", "{ type filter hook output priority 0; }")
        host.run("nft", "add", "rule", "inet", "cut", "out", "tcp", "dport", "2379", "drop")

    second.attach(lan(2))
    first.detach(lan(2))
    refused = late.add(lan(3))

    assert refused.code == 11, refused
    assert "etcd" in refused.msg
    three.run("nft", "delete", "table", "inet", "cut")
    late.attach(lan(3))
    assert late.reaches(second.addresses()[0].partition("/")[0])
    (pod,) = one.pods("d")
    pod.attach(lan(1))


def test_a_node_s_blocks_are_the_routes_that_it_exports(nodes: list[Host]) -> None:
    one, two, _three = nodes
    for number, host in ((1, one), (2, two)):
        (pod,) = host.pods("a")
        conf = {**lan(number, mode="l3", export=True), "parent": "eth0"}
        pod.attach(conf)
        shown = host.ip("route", "show", "table", "177")
        assert [route["dst"].rpartition("/")[2] for route in shown] == ["28"]
        block = json.loads(host.run("cat", "/var/lib/cni/cni-ipam/lan/holdings").stdout)["blocks"][0]
        assert shown[0]["dst"] == f"{block['start']}/28"
        pod.detach(conf)
