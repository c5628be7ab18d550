"""The example topologies of Docker's macvlan and ipvlan documentation, T1 to T21, with CNI configurations.

R is a router on the far end of the uplink. A ping that must fail says how: `unreachable` is no route,
`silence` is a route that leads nowhere.
"""

from itertools import permutations

import pytest

from tests.lab.world import Host, Json, Pod, network

pytestmark = pytest.mark.kernel


def on_vlan(router: Pod, vlan: int, *addresses: str) -> None:
    """Give R an interface on a VLAN."""
    name = f"trunk.{vlan}"
    router.ip("link", "add", "link", "trunk", "name", name, "type", "vlan", "id", str(vlan))
    give(router, name, *addresses)
    router.ip("link", "set", name, "up")


def give(namespace: Pod, device: str, *addresses: str) -> None:
    for address in addresses:
        namespace.ip("address", "add", address, "dev", device, *(["nodad"] if ":" in address else []))


def forwarding(router: Pod) -> None:
    """Let R forward; without ICMP redirects, which ping takes for errors."""
    router.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    router.run("sh", "-c", "for f in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 >$f; done")


def subnet(cidr: str, gateway: str = "", **keys: object) -> Json:
    return {"subnet": cidr, **({"gateway": gateway} if gateway else {}), **keys}


def asking(conf: Json, *addresses: str) -> Json:
    return {**conf, "runtimeConfig": {"ips": list(addresses)}}


def host_pings(host: Host, address: str) -> str:
    finished = host.run("ping", "-n", "-c1", "-W1", address, check=False)
    return "reply" if finished.returncode == 0 else "silence"


@pytest.mark.macvlan
def test_t1_macvlan_bridge_on_a_physical_parent(host: Host) -> None:
    router = host.uplink()
    give(router, "trunk", "172.16.86.1/24")
    host.ip("address", "add", "172.16.86.250/24", "dev", "eth0")
    c1, c2 = host.pods("c1", "c2")
    conf = network("pub", "eth0", subnet("172.16.86.0/24", "172.16.86.1"))

    c1.attach(asking(conf, "172.16.86.10"))
    c2.attach(conf)

    assert c2.addresses() == ["172.16.86.2/24"]
    assert c2.reaches("172.16.86.10")
    assert c2.reaches("172.16.86.1")
    assert router.reaches("172.16.86.2")
    shown = {(r["dst"], r.get("gateway"), r.get("prefsrc")) for r in c2.ip("-4", "route")}
    assert shown == {("default", "172.16.86.1", None), ("172.16.86.0/24", None, "172.16.86.2")}
    assert c2.ping("172.16.86.250") == "silence"
    assert host_pings(host, "172.16.86.10") == "silence"


@pytest.mark.macvlan
def test_t2_an_aux_address_is_never_given(host: Host) -> None:
    host.uplink()
    pods = host.pods("c1", "c2", "c3")
    item = subnet("172.16.86.248/29", "172.16.86.249", auxAddresses={"exclude_host": "172.16.86.250"})
    conf = network("pub", "eth0", item)

    refused = pods[0].add(asking(conf, "172.16.86.250"))
    given = [pod.attach(conf)["ips"][0]["address"] for pod in pods]

    assert refused.code == 111
    assert "172.16.86.250 is excluded" in refused.msg
    assert given == ["172.16.86.251/29", "172.16.86.252/29", "172.16.86.253/29"]


@pytest.mark.macvlan
def test_t3_an_ip_range_starts_with_its_first_address(host: Host) -> None:
    host.uplink()
    c1, c2 = host.pods("c1", "c2")
    item = subnet("192.168.32.0/24", "192.168.32.254", ipRange="192.168.32.128/25")
    conf = network("range", "eth0", item)

    c1.attach(conf)
    c2.attach(conf)

    assert (c1.addresses(), c2.addresses()) == (["192.168.32.128/24"], ["192.168.32.129/24"])
    assert (c1.default_route() or {})["gateway"] == "192.168.32.254"


def test_t4_ipvlan_l2_on_a_physical_parent(host: Host) -> None:
    router = host.uplink()
    give(router, "trunk", "192.168.1.1/24")
    host.ip("address", "add", "192.168.1.250/24", "dev", "eth0")
    c1, c2 = host.pods("c1", "c2")
    conf = network("db", "eth0", subnet("192.168.1.0/24", "192.168.1.1"), ipvlan_mode="l2")

    c1.attach(conf)
    c2.attach(conf)

    assert (c1.addresses(), c2.addresses()) == (["192.168.1.2/24"], ["192.168.1.3/24"])
    assert c1.link()["address"] == c2.link()["address"] == host.links()["eth0"]["address"]
    assert c2.reaches("192.168.1.2")
    assert c2.reaches("192.168.1.1")
    assert router.reaches("192.168.1.2")
    assert c1.ping("192.168.1.250") == "silence"
    assert host_pings(host, "192.168.1.2") == "silence"


def test_t5_the_gateway_is_the_first_usable_address_unless_there_is_none(host: Host) -> None:
    host.uplink()
    c1, c2 = host.pods("c1", "c2")

    c1.attach(network("inferred", "eth0", "192.168.1.0/24", mode="l2"))
    c2.attach(network("without", "eth0", subnet("192.168.2.0/24", "none"), mode="l2"))

    assert c1.addresses() == ["192.168.1.2/24"]
    assert (c1.default_route() or {})["gateway"] == "192.168.1.1"
    assert c2.addresses() == ["192.168.2.1/24"]
    assert c2.default_route() is None


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_t6_isolated_networks(host: Host, driver: str) -> None:
    host.uplink()
    names = ("isolated1", "isolated2", "isolated3")
    confs = [
        network(names[0], "", "192.168.10.0/24", driver=driver),
        network(names[1], "eth0", "192.168.11.0/24", driver=driver, internal=True),
        network(names[2], driver=driver, ipam={"type": "cni-ipam"}),
    ]
    for conf in confs:
        one, other = host.pods(f"{conf['name']}-a", f"{conf['name']}-b")
        one.attach(conf)
        address = other.attach(conf)["ips"][0]["address"].partition("/")[0]

        assert one.reaches(address)
        assert one.ping("203.0.113.9") == "unreachable"
        if conf["name"] == "isolated3":
            assert address == "172.17.0.3"
    prefix = {"macvlan": "dm-", "ipvlan": "di-"}[driver]
    assert [name for name in host.links() if name.startswith(prefix)] == [prefix + name for name in names]
    for conf in confs:
        for suffix in "ab":
            Pod(host, f"{conf['name']}-{suffix}").detach(conf)
    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


def test_t7_macvlan_on_two_vlans(host: Host) -> None:
    host.uplink()
    confs = {
        v: network(f"macvlan{v}", f"eth0.{v}", f"192.168.{v}.0/24", macvlan_mode="bridge") for v in (50, 60)
    }
    test5, test6, test7, test8 = host.pods("test5", "test6", "test7", "test8")

    for pod, vlan in ((test5, 50), (test6, 50), (test7, 60), (test8, 60)):
        pod.attach(confs[vlan])

    ids = {n: link["linkinfo"]["info_data"]["id"] for n, link in host.links().items() if "." in n}
    assert ids == {"eth0.50": 50, "eth0.60": 60}
    assert test5.reaches("192.168.50.3")
    assert test7.reaches("192.168.60.3")
    assert test5.ping("192.168.60.2") == "silence"
    assert test7.ping("192.168.50.2") == "silence"
    for pod, vlan in ((test5, 50), (test6, 50), (test7, 60), (test8, 60)):
        pod.detach(confs[vlan])
    assert set(host.links()) == {"lo", "eth0"}


def test_t8_two_subnets_of_an_isolated_ipvlan_l2_are_apart(host: Host) -> None:
    gateways = {n: f"192.168.{n}.254" for n in (210, 212)}
    conf = network(
        "multi", "", *(subnet(f"192.168.{n}.0/24", g) for n, g in gateways.items()), driver="ipvlan"
    )
    addresses = ("192.168.210.10", "192.168.210.9", "192.168.212.10", "192.168.212.9")
    pods = host.pods("c1", "c2", "c3", "c4")

    for pod, address in zip(pods, addresses, strict=True):
        pod.attach(asking(conf, address))

    assert pods[0].reaches("192.168.210.9")
    assert pods[2].reaches("192.168.212.9")
    assert pods[0].ping("192.168.212.9") == "unreachable"


def test_t9_ipvlan_l2_on_two_vlans_with_and_without_a_router(host: Host) -> None:
    router = host.uplink()
    confs = {v: network(f"ipvlan{v}", f"eth0.{v}", f"192.168.{v}.0/24", mode="l2") for v in (20, 30)}
    test1, test2, test3, test4 = host.pods("test1", "test2", "test3", "test4")
    for pod, vlan in ((test1, 20), (test2, 20), (test3, 30), (test4, 30)):
        pod.attach(confs[vlan])

    assert test1.reaches("192.168.20.3")
    assert test3.reaches("192.168.30.3")
    shown = {(r["dst"], r.get("gateway"), r.get("prefsrc")) for r in test3.ip("-4", "route")}
    assert shown == {("default", "192.168.30.1", None), ("192.168.30.0/24", None, "192.168.30.2")}
    assert test1.ping("192.168.30.2") == "silence"
    on_vlan(router, 20, "192.168.20.1/24")
    on_vlan(router, 30, "192.168.30.1/24")
    forwarding(router)
    assert test1.reaches("192.168.30.2")
    assert test4.reaches("192.168.20.3")


def test_t10_two_subnets_on_one_vlan_need_a_router(host: Host) -> None:
    router = host.uplink()
    items = [subnet(f"192.168.{n}.0/24", f"192.168.{n}.254") for n in (114, 116)]
    conf = network("ipvlan114", "eth0.114", *items, mode="l2")
    c1, c2, c3 = host.pods("c1", "c2", "c3")
    for pod, address in ((c1, "192.168.114.10"), (c2, "192.168.114.11"), (c3, "192.168.116.10")):
        pod.attach(asking(conf, address))

    assert c1.reaches("192.168.114.11")
    assert c1.ping("192.168.116.10") == "silence"
    on_vlan(router, 114, "192.168.114.254/24", "192.168.116.254/24")
    forwarding(router)
    assert c1.reaches("192.168.116.10")


def test_t11_the_network_operators_map(host: Host) -> None:
    host.uplink()
    pods = host.pods("c10", "c20", "c30", "bad")
    nets = {10: "172.16.80.0/24", 20: "172.16.48.0/22", 30: "10.1.0.0/16"}
    gateways = {10: "172.16.80.1", 20: "172.16.50.1", 30: "10.1.100.1"}

    for pod, vlan in zip(pods, nets, strict=False):
        pod.attach(network(f"net{vlan}", f"eth0.{vlan}", subnet(nets[vlan], gateways[vlan])))

    assert [(pod.default_route() or {})["gateway"] for pod in pods[:3]] == list(gateways.values())
    for wrong, right in (("172.16.50.0/22", "172.16.48.0"), ("10.1.100.0/16", "10.1.0.0")):
        refused = pods[3].add(network("bad", "eth0.40", wrong))
        assert refused.code == 7
        assert f"the network address is {right}" in refused.msg


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_t12_subnets_of_an_isolated_l3_network_reach_each_other(host: Host, mode: str) -> None:
    conf = network("ipnet210", "", "192.168.214.0/24", "10.1.214.0/24", mode=mode)
    addresses = ("192.168.214.10", "192.168.214.9", "10.1.214.10", "10.1.214.9")
    pods = host.pods("c1", "c2", "c3", "c4")

    for pod, address in zip(pods, addresses, strict=True):
        pod.attach(asking(conf, address))

    for one, other in permutations(range(4), 2):
        assert pods[one].reaches(addresses[other]), (one, other)
    assert "NOARP" in pods[0].link()["flags"]
    route = pods[0].default_route() or {}
    assert (route["dev"], route.get("gateway")) == ("eth0", None)
    assert pods[0].ping("203.0.113.9") == "silence"
    assert host_pings(host, "192.168.214.10") == "silence"


def test_t13_the_routes_of_l3(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("c1")

    result = pod.attach(network("l3", "eth0", subnet("192.168.120.0/24", "192.168.120.254"), mode="l3"))

    shown = {(r["dst"], r.get("gateway"), r["dev"]) for r in pod.ip("-4", "route")}
    assert shown == {("default", None, "eth0"), ("192.168.120.0/24", None, "eth0")}
    assert result["routes"] == [{"dst": "0.0.0.0/0"}]
    assert "gateway" not in result["ips"][0]


def test_t14_dual_stack_macvlan_with_two_ipv4_subnets(host: Host) -> None:
    router = host.uplink()
    items = [
        subnet("192.168.216.0/24", "192.168.216.1"),
        subnet("192.168.218.0/24", "192.168.218.1"),
        subnet("2001:db8:abc8::/64", "2001:db8:abc8::10"),
    ]
    conf = network("macvlan216", "eth0.218", *items)
    addresses = ("192.168.216.10", "192.168.216.11", "192.168.218.10", "192.168.218.11")
    pods = host.pods("c1", "c2", "c3", "c4")

    for pod, address in zip(pods, addresses, strict=True):
        pod.attach(asking(conf, address))

    assert [pod.addresses()[1] for pod in pods] == [f"2001:db8:abc8::{n}/64" for n in (1, 2, 3, 4)]
    v6 = pods[0].default_route(6) or {}
    assert (v6["gateway"], v6["metric"]) == ("2001:db8:abc8::10", 1024)
    assert "nodad" in str(pods[0].run("ip", "-6", "address", "show", "dev", "eth0").stdout)
    assert pods[1].reaches("192.168.216.10")
    assert pods[3].reaches("192.168.218.10")
    assert pods[0].reaches("2001:db8:abc8::4")
    assert pods[0].ping("192.168.218.10") == "silence"
    on_vlan(router, 218, "192.168.216.1/24", "192.168.218.1/24")
    forwarding(router)
    assert pods[0].reaches("192.168.218.10")


def test_t15_ipv6_on_ipvlan_l2(host: Host) -> None:
    router = host.uplink()
    on_vlan(router, 139, "2001:db8:abc2::22/64")
    conf = network("v6ipvlan139", "eth0.139", subnet("2001:db8:abc2::/64", "2001:db8:abc2::22"), mode="l2")
    c1, c2 = host.pods("c1", "c2")

    c1.attach(conf)
    c2.attach(conf)

    assert (c1.addresses(), c2.addresses()) == (["2001:db8:abc2::1/64"], ["2001:db8:abc2::2/64"])
    assert c2.reaches("2001:db8:abc2::1")
    assert c2.reaches("2001:db8:abc2::22")
    assert (c2.default_route(6) or {})["gateway"] == "2001:db8:abc2::22"
    assert c2.ping("203.0.113.9") == "unreachable"


def test_t16_dual_stack_ipvlan_l2_with_two_ipv4_subnets(host: Host) -> None:
    host.uplink()
    items = [subnet(f"192.168.{n}.0/24", f"192.168.{n}.1") for n in (140, 142)]
    items.append(subnet("2001:db8:abc9::/64", "2001:db8:abc9::22"))
    conf = network("ipvlan140", "eth0.140", *items, mode="l2")
    c1, c2, c3 = host.pods("c1", "c2", "c3")

    c1.attach(conf)
    c2.attach(asking(conf, "192.168.140.10"))
    c3.attach(asking(conf, "192.168.142.10"))

    assert c1.addresses() == ["192.168.140.2/24", "2001:db8:abc9::1/64"]
    assert c2.reaches("192.168.140.2")
    assert c2.ping("192.168.142.10") == "silence"
    assert c2.reaches("2001:db8:abc9::1")
    gateways = [(c2.default_route(family) or {})["gateway"] for family in (4, 6)]
    assert gateways == ["192.168.140.1", "2001:db8:abc9::22"]


def test_t17_dual_stack_ipvlan_l3(host: Host) -> None:
    router = host.uplink()
    give(router, "trunk", "192.168.1.1/24")
    host.ip("address", "add", "192.168.1.250/24", "dev", "eth0")
    host.run("ip", "route", "add", "default", "via", "192.168.1.1")
    conf = network(
        "ipnet110", "eth0", "192.168.110.0/24", "192.168.112.0/24", "2001:db8:abc6::/64", mode="l3"
    )
    asked: list[tuple[str, ...]] = [
        (), ("2001:db8:abc6::10",), ("192.168.112.50",), ("192.168.112.51", "2001:db8:abc6::50"),
    ]  # fmt: skip
    pods = host.pods("c1", "c2", "c3", "c4")

    for pod, addresses in zip(pods, asked, strict=True):
        pod.attach(asking(conf, *addresses) if addresses else conf)

    found = [[a.partition("/")[0] for a in pod.addresses()] for pod in pods]
    assert found[2][0] == "192.168.112.50"
    assert found[3] == ["192.168.112.51", "2001:db8:abc6::50"]
    for one, other in permutations(range(4), 2):
        assert all(pods[one].reaches(a) for a in found[other]), (one, other)
    v6 = pods[0].default_route(6) or {}
    assert (v6["dev"], v6.get("gateway"), v6["metric"]) == ("eth0", None, 1024)
    assert router.ping(found[0][0]) == "unreachable"
    router.run("ip", "route", "add", "192.168.110.0/24", "via", "192.168.1.250")
    assert router.reaches(found[0][0])
    taken = host.namespace("c5").add(asking(conf, "192.168.112.50"))
    assert taken.code == 111  # the examples reuse this address, which cannot be


@pytest.mark.parametrize("name", ["eth0.40", "foo"], ids=["t18", "t19"])
def test_t18_t19_a_premade_vlan_of_any_name_is_left(host: Host, name: str) -> None:
    host.uplink()
    host.ip("link", "add", "link", "eth0", "name", name, "type", "vlan", "id", "40")
    host.ip("link", "set", name, "up")
    conf = network("pre", name, "192.168.40.0/24", mode="l2")
    c1, c2 = host.pods("c1", "c2")

    c1.attach(conf)
    c2.attach(conf)
    assert c1.reaches("192.168.40.3")
    c1.detach(conf)
    c2.detach(conf)

    assert name in host.links()
    if name == "foo":
        refused = c1.add(network("other", "eth0.40", "192.168.41.0/24"))
        assert refused.code == 102
        assert "VLAN 40 already exists, as foo" in refused.msg
        assert set(host.links()) == {"lo", "eth0", "foo"}
        assert host.state() == []


def test_t20_a_pod_on_two_vlans(host: Host) -> None:
    router = host.uplink()
    confs = {}
    for vlan in (10, 20):
        v4, v6 = f"10.0.{vlan}", f"2001:db8:babe:{vlan}"
        on_vlan(router, vlan, f"{v4}.1/24", f"{v6}::1/64")
        items = [subnet(f"{v4}.0/24", f"{v4}.1"), subnet(f"{v6}::/64", f"{v6}::1")]
        confs[vlan] = network(f"macvlan{vlan}", f"eth0.{vlan}", *items)
    forwarding(router)
    container0, container1, container2 = host.pods("container0", "container1", "container2")

    container0.attach(confs[10])
    container1.attach(confs[10])
    container1.attach(asking(confs[20], "10.0.20.3", "2001:db8:babe:20::3"), "eth1")
    container2.attach(asking(confs[20], "10.0.20.4", "2001:db8:babe:20::4"))

    for address in ("10.0.10.2", "10.0.20.4", "10.0.10.1", "10.0.20.1", "2001:db8:babe:20::4"):
        assert container1.reaches(address), address
    shown = {(r["dst"], r.get("gateway"), r["dev"]) for r in container1.ip("-4", "route")}
    assert shown == {
        ("default", "10.0.10.1", "eth0"), ("10.0.10.0/24", None, "eth0"), ("10.0.20.0/24", None, "eth1"),
    }  # fmt: skip
    assert [(r["gateway"], r["dev"]) for r in container1.ip("-6", "route", "show", "default")] == [
        ("2001:db8:babe:10::1", "eth0")
    ]
    hops = container0.run("traceroute", "-n", "-q1", "-w10", "10.0.20.4").stdout.splitlines()[1:]
    assert [hop.split()[1] for hop in hops] == ["10.0.10.1", "10.0.20.4"]
    direct = container0.run("traceroute", "-n", "-q1", "-w10", "10.0.10.3").stdout.splitlines()[1:]
    assert len(direct) == 1
    router.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    assert container0.ping("10.0.20.4") == "silence"


def test_t21_the_first_plugin_of_all(host: Host) -> None:
    router = host.uplink()
    give(router, "trunk", "192.168.1.1/24")
    host.ip("address", "add", "192.168.1.250/24", "dev", "eth0")
    host.ip("link", "add", "link", "eth0", "name", "eth0.20", "type", "vlan", "id", "20")
    host.ip("link", "set", "eth0.20", "up")
    c1, c2 = host.pods("c1", "c2")

    c1.attach(network("n1", "eth0", "192.168.1.0/24", mode="l2"))
    c2.attach(network("n20", "eth0.20", "192.168.20.0/24", mode="l2"))

    assert c1.reaches("192.168.1.1")
    assert c1.ping("192.168.1.250") == "silence"  # the default namespace
    assert c1.ping("192.168.20.2") == "silence"
