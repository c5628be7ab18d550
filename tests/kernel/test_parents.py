"""Every kind of parent, who may share one, and whose it is to remove."""

import pytest

from conformance.world import Host, Json, Pod, lasting, network

pytestmark = pytest.mark.kernel

SUBNET = "10.0.0.0/24"
LONG = "uplink-of-long1"  # 15 bytes


def vlan(host: Host, name: str, uplink: str, vlan_id: int, *options: str) -> None:
    host.ip("link", "add", "link", uplink, "name", name, "type", "vlan", "id", str(vlan_id), *options)
    host.ip("link", "set", name, "up")


def info(host: Host, name: str) -> Json:
    data: Json = host.links()[name]["linkinfo"]["info_data"]
    return data


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


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({}, {"mode": "l2"}, "macvlan and ipvlan cannot share a parent"),
        ({"mode": "l2"}, {}, "macvlan and ipvlan cannot share a parent"),
        ({"mode": "l2"}, {"mode": "l3"}, "an ipvlan mode and flag hold for the whole parent"),
        ({"mode": "l2"}, {"mode": "l2", "flag": "private"}, "an ipvlan mode and flag hold"),
        ({"mode": "passthru"}, {}, "passthru takes the parent for itself"),
        ({}, {"mode": "passthru"}, "passthru takes the parent for itself"),
        ({"mode": "passthru"}, {"mode": "passthru"}, "passthru takes the parent for itself"),
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
    assert "the device serves another driver" in reply.msg
    assert host.state() == []


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
    assert "use MAC address 02:00:00:00:00:aa on eth0.10: p1:eth0 has it" in reply.msg
    assert not other.has_link("eth0")
    one.detach(conf)
    other.attach(conf)


def test_the_parents_own_mac_address_is_refused(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")

    reply = pod.add(network("lan", "eth0", SUBNET, mac=host.links()["eth0"]["address"]))

    assert reply.code == 102
    assert not pod.has_link("eth0")
    assert host.state() == []


def test_a_parent_is_made_again_after_it_was_lost(host: Host) -> None:
    host.uplink()
    one, other = host.pods("p1", "p2")
    conf = network("lan", "eth0.10", SUBNET)
    one.attach(conf)
    host.ip("link", "delete", "eth0.10")

    other.attach(conf)

    assert info(host, "eth0.10")["id"] == 10
    one.detach(conf)
    assert "eth0.10" in host.links()
    other.detach(conf)
    assert set(host.links()) == {"lo", "eth0"}


def test_a_vlan_that_someone_put_in_our_place_is_left(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    conf = network("lan", "eth0.10", SUBNET)
    pod.attach(conf)
    host.ip("link", "delete", "eth0.10")
    vlan(host, "eth0.10", "eth0", 10)

    pod.detach(conf)

    assert "eth0.10" in host.links()
    assert host.state() == []


def test_with_the_ledger_lost_a_parent_of_ours_is_used_but_not_removed(host: Host) -> None:
    host.uplink()
    one, other = host.pods("p1", "p2")
    conf = network("lan", "eth0.10", SUBNET)
    one.attach(conf)
    host.run("rm", "-r", "/var/lib/cni/cni-vlan")

    other.attach({**conf, "ipam": {**conf["ipam"], "pool": "other"}})
    other.detach({**conf, "ipam": {**conf["ipam"], "pool": "other"}})

    assert "eth0.10" in host.links()  # pods that the ledger does not know may be on it
    assert one.has_link("eth0")


def test_state_of_an_earlier_boot_is_void(host: Host) -> None:
    host.uplink()
    one, other = host.pods("p1", "p2")
    conf = network("lan", "eth0.10", SUBNET)
    one.attach(conf)
    host.run("ip", "netns", "delete", "p1")
    host.ip("link", "delete", "eth0.10")
    _age(host)
    again = Pod(host, "p1")
    host.namespace("p1")

    again.attach(conf)
    other.attach({**conf, "mode": "bridge"})

    assert again.addresses() == ["10.0.0.3/24"]  # the cursor goes on, the lease is void
    again.detach(conf)
    other.detach(conf)
    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


def _age(host: Host) -> None:
    """Make all state look as if written in an earlier boot."""
    host.run(
        "sh", "-c",
        "boot=$(cat /proc/sys/kernel/random/boot_id); cd /var/lib/cni;"
        "grep -rl $boot . | xargs -r sed -i s/$boot/00000000-0000-4000-8000-000000000000/;"
        'for d in cni-ipam/*/$boot; do mv $d "$(dirname $d)/00000000-0000-4000-8000-000000000000"; done',
    )  # fmt: skip


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
