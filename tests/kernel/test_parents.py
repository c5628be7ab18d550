"""Every kind of parent, who may share one, and whose it is to remove."""

import pytest

from tests.kernel.conftest import info
from tests.lab.world import Host, Json, network

pytestmark = pytest.mark.kernel

SUBNET = "10.0.0.0/24"
LONG = "uplink-of-long1"  # 15 bytes


@pytest.mark.parametrize(
    ("conf", "name", "vlan_id", "protocol"),
    [
        ({"parent": "eth0.50"}, "eth0.50", 50, "802.1Q"),
        ({"parent": "eth0", "vlan": 50}, "eth0.50", 50, "802.1Q"),
        ({"master": "eth0", "vlanId": 50}, "eth0.50", 50, "802.1Q"),
        ({"parent": "eth0", "vlan": 4094, "vlanProtocol": "802.1ad"}, "eth0.4094", 4094, "802.1ad"),
        ({"parent": "auto", "vlan": 7}, "eth0.7", 7, "802.1Q"),
    ],
    ids=["name", "key", "reference-keys", "802.1ad", "auto"],
)
def test_a_vlan_is_created_and_removed(
    host: Host, conf: Json, name: str, vlan_id: int, protocol: str
) -> None:
    host.uplink()
    host.ip("address", "add", "172.30.0.1/24", "dev", "eth0")
    host.run("ip", "route", "add", "default", "via", "172.30.0.254")
    (pod,) = host.pods("p1")
    whole = {**network("lan", "", SUBNET), **conf}

    result = pod.attach(whole)

    assert (info(host, name)["id"], info(host, name)["protocol"]) == (vlan_id, protocol)
    assert host.links()[name]["link"] == "eth0"
    assert pod.check(whole, result).status == 0
    pod.detach(whole)
    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


def test_the_host_takes_no_address_from_a_router_of_the_vlan(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")

    pod.attach(network("lan", "eth0.10", SUBNET))

    assert host.run("cat", "/proc/sys/net/ipv6/conf/eth0.10/accept_ra").stdout == "0\n"
    assert host.run("cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra").stdout == "1\n"


@pytest.mark.macvlan
def test_auto_takes_the_best_default_route(host: Host) -> None:
    host.uplink("eth0", "trunk0")
    host.uplink("eth1", "trunk1")
    for device, metric in (("eth0", "100"), ("eth1", "50")):
        host.run("ip", "route", "add", "default", "dev", device, "metric", metric)
    (pod,) = host.pods("p1")

    pod.attach(network("lan", "auto", SUBNET))

    assert pod.link()["link_index"] == host.links()["eth1"]["ifindex"]


def test_a_nested_vlan_keeps_the_vlan_below_it(host: Host) -> None:
    host.uplink("bond0")
    inner, outer = host.pods("inner", "outer")
    deep = network("deep", "bond0.100.200", SUBNET)
    shallow = network("shallow", "bond0.100", "10.1.0.0/24")

    inner.attach(deep)
    outer.attach(shallow)

    assert (info(host, "bond0.100")["id"], info(host, "bond0.100.200")["id"]) == (100, 200)
    assert host.links()["bond0.100.200"]["link"] == "bond0.100"
    outer.detach(shallow)
    assert {"bond0.100", "bond0.100.200"} <= set(host.links())
    inner.detach(deep)
    assert set(host.links()) == {"lo", "bond0"}
    assert host.state() == []


def test_a_bond_is_a_parent(host: Host) -> None:
    host.uplink()
    host.ip("link", "add", "bond7", "type", "bond")
    host.ip("link", "set", "eth0", "down")
    host.ip("link", "set", "eth0", "master", "bond7")
    host.ip("link", "set", "bond7", "up")
    one, other = host.pods("p1", "p2")
    conf = network("lan", "bond7.9", SUBNET)

    one.attach(conf)
    other.attach(conf)

    assert one.reaches("10.0.0.3")
    one.detach(conf)
    other.detach(conf)
    assert "bond7.9" not in host.links()


def test_a_name_that_is_too_long_is_cut_and_explained(host: Host) -> None:
    host.uplink(LONG)
    (pod,) = host.pods("p1")
    conf = network("lan", f"{LONG}.100", SUBNET)

    result = pod.attach(conf)

    (name,) = set(host.links()) - {"lo", LONG}
    assert name.startswith("v-")
    assert host.links()[name]["ifalias"] == f"cni-vlan parent: vlan 100 802.1q on {LONG}"
    assert pod.check(conf, result).status == 0
    pod.detach(conf)
    assert set(host.links()) == {"lo", LONG}


@pytest.mark.parametrize(
    ("arrange", "found"),
    [
        (["link", "add", "eth0.10", "type", "dummy"], "a dummy interface"),
        (["link", "add", "link", "eth0", "name", "eth0.10", "type", "vlan", "id", "11"], "vlan 11 802.1q"),
        (["link", "add", "link", "eth1", "name", "eth0.10", "type", "vlan", "id", "10"], "vlan 10 802.1q"),
        (
            [
                "link",
                "add",
                "link",
                "eth0",
                "name",
                "eth0.10",
                "type",
                "vlan",
                "proto",
                "802.1ad",
                "id",
                "10",
            ],
            "vlan 10 802.1ad",
        ),
    ],
    ids=["dummy", "other-id", "other-uplink", "other-protocol"],
)
def test_a_foreign_link_of_our_name_is_a_conflict(host: Host, arrange: list[str], found: str) -> None:
    host.uplink("eth0", "trunk0")
    host.uplink("eth1", "trunk1")
    host.ip(*arrange)
    host.ip("link", "set", "eth0.10", "up")
    before = set(host.links())
    (pod,) = host.pods("p1")

    reply = pod.add(network("lan", "eth0.10", SUBNET))

    assert reply.code == 102
    assert "use parent eth0.10 as vlan 10 802.1q on eth0" in reply.msg
    assert found in reply.msg
    assert set(host.links()) == before
    assert host.state() == []


@pytest.mark.macvlan
def test_link_in_container(host: Host) -> None:
    (pod,) = host.pods("p1")
    pod.ip("link", "add", "up0", "type", "veth", "peer", "name", "far0")
    for name in ("up0", "far0"):
        pod.ip("link", "set", name, "up")
    conf = network("lan", "up0", SUBNET, linkInContainer=True)

    result = pod.attach(conf, "net1")

    assert pod.link("net1")["link"] == "up0"
    assert pod.check(conf, result, "net1").status == 0
    pod.detach(conf, "net1")
    assert not pod.has_link("net1")
    missing = pod.add({**conf, "parent": "nic7"}, "net1")
    assert missing.code == 103
    assert "parent nic7 is not in the sandbox" in missing.msg
