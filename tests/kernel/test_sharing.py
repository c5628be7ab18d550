"""Who may be on a parent, and what has to be right with it: modes, MTU, MAC addresses, carrier."""

import pytest

from tests.lab.world import Host, Json, lasting, network

pytestmark = pytest.mark.kernel

SUBNET = "10.0.0.0/24"
LONG = "uplink-of-long1"  # 15 bytes


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({}, {"mode": "l2"}, "macvlan and ipvlan cannot share a parent"),
        ({"mode": "l2"}, {}, "macvlan and ipvlan cannot share a parent"),
        ({"mode": "l2"}, {"mode": "l3"}, "all ipvlan interfaces on a parent have one mode and flag"),
        ({"mode": "l2"}, {"mode": "l2", "flag": "private"}, "have one mode and flag"),
        ({"mode": "passthru"}, {}, "a passthru interface must be alone on its parent"),
        ({}, {"mode": "passthru"}, "a passthru interface must be alone on its parent"),
        ({"mode": "passthru"}, {"mode": "passthru"}, "a passthru interface must be alone on its parent"),
    ],
)
def test_what_cannot_share_a_parent_is_refused(host: Host, first: Json, second: Json, words: str) -> None:
    host.uplink()
    one, other = host.pods("p1", "p2")
    one.attach(network("first", "eth0.10", SUBNET, **first))
    before = lasting(one.link()), host.links()["eth0.10"]["ifindex"], host.state()

    reply = other.add(network("second", "eth0.10", "10.1.0.0/24", **second))

    assert reply.code == 102
    assert "network second" in reply.msg
    assert "network first uses it as" in reply.msg
    assert words in reply.msg
    assert (lasting(one.link()), host.links()["eth0.10"]["ifindex"], host.state()) == before
    one.detach(network("first", "eth0.10", SUBNET, **first))
    other.attach(network("second", "eth0.10", "10.1.0.0/24", **second))


def test_networks_of_one_mode_share_a_parent(host: Host) -> None:
    host.uplink()
    one, other = host.pods("p1", "p2")
    first, second = (network(name, "eth0.10", SUBNET, mode="bridge") for name in ("first", "second"))
    for conf in (first, second):
        conf["ipam"]["pool"] = "shared"

    one.attach(first)
    other.attach(second)

    assert (one.addresses(), other.addresses()) == (["10.0.0.2/24"], ["10.0.0.3/24"])
    assert one.reaches("10.0.0.3")
    one.detach(first)
    assert "eth0.10" in host.links()
    other.detach(second)
    assert "eth0.10" not in host.links()


@pytest.mark.parametrize("mode", ["bridge", "l2"])
def test_another_program_on_the_parent_is_told(host: Host, mode: str) -> None:
    host.uplink()
    kind = ["type", "ipvlan", "mode", "l2"] if mode == "bridge" else ["type", "macvlan"]
    host.ip("link", "add", "link", "eth0", "name", "foreign", *kind)
    (pod,) = host.pods("p1")

    reply = pod.add(network("lan", "eth0", SUBNET, mode=mode))

    assert reply.code == 102
    assert "is in use by another driver" in reply.msg
    assert host.state() == []


@pytest.mark.macvlan
@pytest.mark.parametrize("parent", ["eth0", "eth0.10"])
@pytest.mark.parametrize("mode", ["bridge", "l2"])
def test_an_uplink_that_is_down_is_told_and_not_raised(host: Host, parent: str, mode: str) -> None:
    host.uplink()
    host.ip("link", "set", "eth0", "down")
    (pod,) = host.pods("p1")

    reply = pod.add(network("lan", parent, SUBNET, mode=mode))

    assert reply.code == 104
    assert "interface eth0 is down" in reply.msg
    assert set(host.links()) == {"lo", "eth0"}
    assert "UP" not in host.links()["eth0"]["flags"]
    assert host.state() == []


@pytest.mark.parametrize("mode", ["bridge", "l2"])
@pytest.mark.parametrize("parent", ["eth0", "eth0.10"])
def test_an_mtu_over_the_parents_is_refused(host: Host, mode: str, parent: str) -> None:
    host.uplink()
    (pod,) = host.pods("p1")

    reply = pod.add(network("lan", parent, SUBNET, mode=mode, mtu=1501))

    assert reply.code == 7
    assert "mtu 1501 of network lan: must be at most 1500, the MTU of eth0" in reply.msg
    assert host.state() == []
    pod.attach(network("lan", parent, SUBNET, mode=mode, mtu=1400))
    assert pod.link()["mtu"] == 1400


def test_a_mac_address_is_given_once_on_a_parent(host: Host) -> None:
    host.uplink()
    one, other = host.pods("p1", "p2")
    conf = network("lan", "eth0.10", SUBNET, mac="02:00:00:00:00:aa")
    one.attach(conf)

    reply = other.add(conf)

    assert reply.code == 102
    assert "use MAC address 02:00:00:00:00:aa on eth0.10: it is in use by p1:eth0" in reply.msg
    assert not other.has_link("eth0")
    one.detach(conf)
    other.attach(conf)


@pytest.mark.macvlan
def test_the_parents_own_mac_address_is_refused(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")

    reply = pod.add(network("lan", "eth0", SUBNET, mac=host.links()["eth0"]["address"]))

    assert reply.code == 102
    assert not pod.has_link("eth0")
    assert host.state() == []
