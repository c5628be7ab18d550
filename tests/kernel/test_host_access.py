"""Pods and their own node reach each other: the shim, the routes, and what is left of them."""

from typing import NamedTuple

import pytest

from tests.lab.waiting import wait_until
from tests.lab.world import Host, Json, Pod, network

pytestmark = pytest.mark.kernel

NODE, NODE6 = "192.0.2.11", "2001:db8:99::11"
SUBNETS = ("10.50.0.0/24", "2001:db8:50::/64")
MODES = ["bridge", "l2", "l3", "l3s"]


def node(host: Host) -> Pod:
    """A node with an address on its uplink, and a router behind that."""
    router = host.uplink()
    for address in (f"{NODE}/24", f"{NODE6}/64"):
        host.ip("address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
    for address in ("192.0.2.1/24", "2001:db8:99::1/64"):
        router.ip("address", "add", address, "dev", "trunk", *(["nodad"] if ":" in address else []))
    host.ip("route", "add", "default", "via", "192.0.2.1")
    return router


def lan(mode: str, parent: str = "eth0.50", **keys: object) -> Json:
    subnets = SUBNETS if parent != "eth0" else ("192.0.2.128/25", "2001:db8:50::/64")
    return network("lan", parent, *subnets, mode=mode, hostAccess=True, **keys)


def reaches(host: Host, address: str) -> bool:
    return host.run("ping", "-n", "-c1", "-W2", address, check=False).returncode == 0


def set_filter(host: Host, value: int) -> None:
    for name in ("all", "default", "eth0"):
        host.run("sh", "-c", f"echo {value} > /proc/sys/net/ipv4/conf/{name}/rp_filter")


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_node_and_pods_reach_each_other_on_a_vlan(host: Host, mode: str, rp_filter: int) -> None:
    router = node(host)
    set_filter(host, rp_filter)
    one, two = host.pods("p1", "p2")
    results = [pod.attach(lan(mode)) for pod in (one, two)]

    for result in results:
        for ip in result["ips"]:
            assert reaches(host, ip["address"].partition("/")[0]), ip
    for pod in (one, two):
        assert pod.reaches(NODE)
        assert pod.reaches(NODE6)
    assert one.reaches(results[1]["ips"][0]["address"].partition("/")[0])
    assert reaches(host, "192.0.2.1")
    assert router.reaches(NODE)

    one.detach(lan(mode))
    assert "host-eth0.50" in host.links()
    assert two.reaches(NODE)
    two.detach(lan(mode))
    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


@pytest.mark.parametrize("mode", ["bridge", "l3s"])
def test_without_an_agent(cold_host: Host, mode: str) -> None:
    """The one-shot plugins make and remove the same, with a shim of each kind."""
    host = cold_host
    node(host)
    one, two = host.pods("p1", "p2")
    results = [pod.attach(lan(mode)) for pod in (one, two)]

    for pod, result in zip((one, two), results, strict=True):
        assert all(reaches(host, ip["address"].partition("/")[0]) for ip in result["ips"])
        assert pod.reaches(NODE)
        assert pod.reaches(NODE6)
        assert pod.check(lan(mode), result).status == 0

    one.detach(lan(mode))
    assert two.reaches(NODE)
    two.detach(lan(mode))
    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


@pytest.mark.parametrize("mode", ["bridge", "l2"])
def test_a_node_that_gets_another_address(host: Host, mode: str) -> None:
    """In L2 a pod from before reaches the new one by its gateway, and the next pod by itself."""
    router = node(host)
    set_filter(host, 2)
    plug_gateway(router)
    before, after = host.pods("p1", "p2")
    result = before.attach(lan(mode))
    assert hops(before, NODE) == [NODE]

    host.ip("address", "delete", f"{NODE}/24", "dev", "eth0")
    host.ip("address", "add", "192.0.2.12/24", "dev", "eth0")
    host.ip("route", "add", "default", "via", "192.0.2.1")
    after.attach(lan(mode))

    assert all(reaches(host, ip["address"].partition("/")[0]) for ip in result["ips"])
    assert before.check(lan(mode), result).status == 0
    assert hops(before, "192.0.2.12") == ["10.50.0.1", "192.0.2.12"]
    assert hops(after, "192.0.2.12") == ["192.0.2.12"]


def plug_gateway(router: Pod) -> None:
    """Have a router be the gateway of VLAN 50, too."""
    router.ip("link", "add", "link", "trunk", "name", "trunk.50", "type", "vlan", "id", "50")
    router.ip("address", "add", "10.50.0.1/24", "dev", "trunk.50")
    router.ip("link", "set", "trunk.50", "up")
    router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")


def hops(pod: Pod, address: str) -> list[str]:
    """Return the way to an address, once the pod reaches it."""
    assert pod.reaches(address)
    shown = pod.run("traceroute", "-n", "-q", "1", "-w", "10", "-I", address).stdout.splitlines()[1:]
    return [line.split()[1] for line in shown]


def test_source_validation_that_was_turned_on_later_is_made_loose_by_the_next_pod(host: Host) -> None:
    node(host)
    one, two = host.pods("p1", "p2")
    one.attach(lan("l2"))
    for name in ("all", "eth0/50"):
        host.run("sysctl", "-qw", f"net.ipv4.conf.{name}.rp_filter=1")

    two.attach(lan("l2"))

    assert one.reaches(NODE)
    assert two.reaches(NODE)


def test_a_damaged_record_of_a_pod_does_not_stop_the_next_one(host: Host) -> None:
    """The shim is made anew, with the routes of all pods that are recorded."""
    node(host)
    damaged, absurd, late = host.pods("p1", "p2", "p3")
    for pod in (damaged, absurd):
        pod.attach(lan("bridge"))
    users = "/var/lib/cni/cni-vlan/parents/eth0.50/users"
    host.run("sh", "-c", f"head -c 100000 /dev/zero | tr '\\0' '[' > {users}/p1:eth0")
    host.run("sed", "-i", "s/10.50.0.3/10.50.0.999/", f"{users}/p2:eth0")
    host.ip("link", "delete", "host-eth0.50")

    result = late.attach(lan("bridge"))

    assert reaches(host, result["ips"][0]["address"].partition("/")[0])
    for pod in (late, absurd, damaged):
        pod.detach(lan("bridge"))
    assert set(host.links()) == {"lo", "eth0"}


@pytest.mark.parametrize(
    ("mode", "rp_filter"),
    [
        pytest.param("bridge", 0, marks=pytest.mark.macvlan),
        pytest.param("bridge", 1, marks=pytest.mark.macvlan),
        *[("l2", 0), ("l2", 2), ("l3", 0), ("l3", 1), ("l3s", 1)],
    ],
)
def test_on_the_node_s_own_interface(host: Host, mode: str, rp_filter: int) -> None:
    router = node(host)
    set_filter(host, rp_filter)
    (pod,) = host.pods("p1")
    result = pod.attach(lan(mode, "eth0"))

    for ip in result["ips"]:
        assert reaches(host, ip["address"].partition("/")[0]), ip
    assert pod.reaches(NODE)
    assert pod.reaches(NODE6)
    assert reaches(host, "192.0.2.1"), "the node has lost its own network"
    assert router.reaches(NODE)
    pod.detach(lan(mode, "eth0"))
    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


@pytest.mark.macvlan
@pytest.mark.parametrize(
    ("parent", "rp_filter", "words"),
    [
        ("eth0", 1, "rp_filter has to be 2"),
        ("eth1", 2, "rp_filter has to be 0"),
        ("eth1", 1, "an address on it"),
    ],
)
def test_what_source_validation_forbids_is_refused(
    host: Host, parent: str, rp_filter: int, words: str
) -> None:
    node(host)
    host.uplink("eth1", "far")
    set_filter(host, rp_filter)
    (pod,) = host.pods("p1")

    refused = pod.add(lan("l2", parent))

    assert refused.code == 102
    assert words in refused.msg
    assert not pod.has_link("eth0")
    pod.detach(lan("l2", parent))
    assert host.state() == []
    assert set(host.links()) == {"lo", "eth0", "eth1"}


@pytest.mark.macvlan
@pytest.mark.parametrize(
    ("keys", "code", "words"),
    [
        ({"mode": "private"}, 2, "macvlan interfaces in mode private cannot reach"),
        ({"mode": "vepa"}, 2, "in mode vepa"),
        ({"mode": "passthru"}, 2, "in mode passthru"),
        ({"mode": "l2", "flag": "private"}, 2, "flag private"),
        ({"ipam": {}}, 7, "hostAccess: requires ipam"),
        ({"hostRoutes": ["10.96.0.1/12"]}, 7, "hostRoutes 10.96.0.1/12"),
        ({"hostRoutes": ["0.0.0.0/0"]}, 7, "must not be a default route"),
        ({"hostAccess": False, "hostRoutes": ["10.96.0.0/12"]}, 7, "only with hostAccess"),
        ({"hostRoutes": ["fd00:96::%eth0/112"]}, 7, "hostRoutes fd00:96::%eth0/112: has a zone"),
    ],
)
def test_what_cannot_be_is_refused(host: Host, keys: Json, code: int, words: str) -> None:
    host.uplink()
    (pod,) = host.pods("p1")

    refused = pod.add({**lan("bridge"), **keys})

    assert refused.code == code
    assert words in refused.msg
    assert set(host.links()) == {"lo", "eth0"}


def client_and_server(host: Host) -> list[Pod]:
    """Two pods of a node that forwards, with strict source validation."""
    node(host)
    set_filter(host, 1)
    host.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    return host.pods("p1", "p2")


class Family(NamedTuple):
    """What tells Services of IPv4 from those of IPv6."""

    iptables: str
    which: int  # of the addresses of a pod
    node: str
    services: str
    of_pod: str
    of_node: str


IPV4 = Family("iptables", 0, NODE, "10.96.0.0/16", "10.96.0.10", "10.96.0.11")
IPV6 = Family("ip6tables", 1, NODE6, "2001:db8:96::/112", "2001:db8:96::10", "2001:db8:96::11")


def translate(host: Host, family: Family, server: str) -> None:
    """Translate two Services, of a pod and of the node, as kube-proxy does with masqueradeAll."""
    nat = [family.iptables, "-w", "-t", "nat", "-A"]
    for chain in ("PREROUTING", "OUTPUT"):
        for service, target in ((family.of_pod, server), (family.of_node, family.node)):
            host.run(*nat, chain, "-d", service, "-p", "tcp", "-j", "DNAT", "--to-destination", target)
    host.run(*nat, "POSTROUTING", "-m", "conntrack", "--ctstate", "DNAT", "-j", "MASQUERADE")


@pytest.mark.parametrize(
    ("mode", "family"), [*((mode, IPV4) for mode in MODES), ("bridge", IPV6), ("l2", IPV6)]
)
def test_a_service_that_the_host_translates(host: Host, mode: str, family: Family) -> None:
    """As kube-proxy does: DNAT in PREROUTING and OUTPUT, masquerade on the way out."""
    client, server = client_and_server(host)
    conf = lan(mode, hostRoutes=[IPV4.services, IPV6.services])
    client.attach(conf)
    translate(host, family, server.attach(conf)["ips"][family.which]["address"].partition("/")[0])
    serve = ["busybox", "nc", "-ll", "-p", "8080", "-e", "/bin/echo"]
    servers = [
        host.popen(*serve, "node"),
        host.popen("ip", "netns", "exec", server.name, *serve, "pod"),
    ]
    try:
        assert asked(client, family.of_pod) == "pod"
        assert asked(client, family.of_node) == "node"
    finally:
        for process in servers:
            process.kill()
            process.wait()


@pytest.mark.parametrize("mode", MODES)
def test_a_host_port_by_portmap(host: Host, mode: str) -> None:
    """For another pod of the node; for clients outside the reference plugins of Debian 12 know no masqAll."""
    client, server = client_and_server(host)
    conf = {**lan(mode), "cniVersion": "1.0.0"}
    client.attach(conf)
    mapped = {"hostPort": 8081, "containerPort": 8080, "protocol": "tcp"}
    portmap = {"type": "portmap", "snat": True, "masqAll": True, "runtimeConfig": {"portMappings": [mapped]}}
    portmap |= {"cniVersion": "1.0.0", "name": "lan", "prevResult": server.attach(conf)}
    server.attach(portmap)
    serve = ["busybox", "nc", "-ll", "-p", "8080", "-e", "/bin/echo", "pod"]
    process = host.popen("ip", "netns", "exec", server.name, *serve)
    try:
        assert asked(client, NODE, 8081) == "pod"
    finally:
        process.kill()
        process.wait()
    server.delete(portmap)


def asked(pod: Pod, address: str, port: int = 8080) -> str:
    found = ""

    def answers() -> bool:
        nonlocal found
        found = pod.run("busybox", "nc", "-w", "3", address, str(port), check=False).stdout.strip()
        return bool(found)

    wait_until(answers)
    return found


def test_a_shim_that_was_removed_is_made_again_for_all(host: Host) -> None:
    node(host)
    first, second = host.pods("p1", "p2")
    conf = lan("bridge")
    addresses = [ip["address"].partition("/")[0] for ip in first.attach(conf)["ips"]]
    host.ip("link", "delete", "host-eth0.50")

    second.attach(conf)

    assert all(reaches(host, address) for address in addresses)
    assert first.reaches(NODE)
    host.ip("link", "set", "host-eth0.50", "down")  # with which the kernel forgets its routes
    second.detach(conf)
    second.attach(conf)
    assert all(reaches(host, address) for address in addresses)
    assert first.reaches(NODE)


def test_a_link_of_its_name_is_left_alone(host: Host) -> None:
    node(host)
    host.ip("link", "add", "host-eth0.50", "type", "dummy")
    (pod,) = host.pods("p1")

    refused = pod.add(lan("bridge"))

    assert refused.code == 102
    assert "a link of that name was not created by cni-vlan" in refused.msg
    pod.detach(lan("bridge"))
    assert set(host.links()) == {"lo", "eth0", "host-eth0.50"}
    assert host.state() == []


def test_the_host_forgets_a_pod_before_another_has_its_address(host: Host) -> None:
    node(host)
    one, two = host.pods("p1", "p2")
    small = {**lan("bridge"), "ipam": {"type": "cni-ipam", "subnets": [{"subnet": "10.50.0.0/30"}]}}
    one.attach(small)
    two.attach(
        {
            **lan("bridge"),
            "name": "other",
            "ipam": {"type": "cni-ipam", "subnets": [{"subnet": "10.51.0.0/24"}]},
        }
    )

    one.detach(small)
    assert [route["dst"] for route in host.ip("route", "show", "dev", "host-eth0.50")] == ["10.51.0.2"]
    assert [entry["dst"] for entry in host.ip("neigh", "show", "dev", "host-eth0.50")] == ["10.51.0.2"]
    one.attach(small)
    assert reaches(host, "10.50.0.2")


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        ("ip link delete host-eth0.50", "host-eth0.50 is missing"),
        ("ip link set host-eth0.50 down", "host-eth0.50 is down"),
        ("ip route delete 10.50.0.2", "the host has no route to 10.50.0.2"),
    ],
)
def test_check_looks_at_the_host_s_side(host: Host, break_it: str, words: str) -> None:
    node(host)
    (pod,) = host.pods("p1")
    result = pod.attach(lan("bridge"))
    assert pod.check(lan("bridge"), result).status == 0

    host.run("sh", "-c", break_it)

    reply = pod.check(lan("bridge"), result)
    assert reply.code == 120
    assert words in reply.msg


def test_networks_beside_it_do_without(host: Host) -> None:
    """The shim goes with the last pod that needs it, though others stay on the parent."""
    node(host)
    near, far = host.pods("p1", "p2")
    plain = network("plain", "eth0.50", "10.52.0.0/24")
    result = far.attach(plain)
    near.attach(lan("bridge"))

    near.detach(lan("bridge"))

    assert set(host.links()) == {"lo", "eth0", "eth0.50"}
    assert far.check({**plain, "hostAccess": True}, result).status == 0  # it was attached before
    far.detach({**plain, "hostAccess": True})
    assert host.state() == []


@pytest.mark.parametrize("verb", ["DEL", "GC"])
def test_without_its_configuration_all_is_removed(host: Host, verb: str) -> None:
    node(host)
    (pod,) = host.pods("p1")
    pod.attach(lan("l2"))
    edited = {key: value for key, value in lan("l2").items() if key != "hostAccess"}
    host.run("ip", "netns", "delete", pod.name)

    if verb == "DEL":
        pod.detach(edited)
    else:
        assert host.plugin("GC", {**edited, "cni.dev/valid-attachments": []}).status == 0

    assert set(host.links()) == {"lo", "eth0"}
    assert host.ip("route", "show", "10.50.0.0/24") == []
    assert host.state() == []


@pytest.mark.macvlan
def test_a_damaged_record_leaves_no_shim(host: Host) -> None:
    node(host)
    (pod,) = host.pods("p1")
    pod.attach(lan("bridge", "eth0"))
    host.run("sh", "-c", "echo x > /var/lib/cni/cni-vlan/parents/eth0/users/p1:eth0")

    pod.detach(lan("bridge", "eth0"))

    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


def test_a_del_that_is_called_again_leaves_the_next_pod_alone(host: Host) -> None:
    """Its address was released before it failed."""
    node(host)
    one, two, three = host.pods("p1", "p2", "p3")
    small = network("small", "eth0.50", "10.50.0.0/30", hostAccess=True)
    one.attach(small)
    three.attach(lan("bridge"))
    marker = "/var/lib/cni/cni-vlan/parents/eth0.50/shim:p1:eth0"
    host.run("sh", "-c", f"rm {marker} && mkdir {marker}")  # which no file's removal removes

    assert one.delete(small).status == 1
    host.run("rmdir", marker)
    two.attach(small)
    one.detach(small)

    assert reaches(host, "10.50.0.2")
    assert two.reaches(NODE)


def test_an_address_that_moves_away_is_carried_no_more(host: Host) -> None:
    """Such as a virtual IP: in L3 the shim has the node's addresses too."""
    node(host)
    host.ip("address", "add", "192.0.2.99/32", "dev", "eth0")
    one, two = host.pods("p1", "p2")
    one.attach(lan("l3"))
    assert "192.0.2.99" in carried(host)

    host.ip("address", "delete", "192.0.2.99/32", "dev", "eth0")
    two.attach(lan("l3"))

    assert "192.0.2.99" not in carried(host)
    assert one.reaches(NODE)


def carried(host: Host) -> set[str]:
    (shim,) = host.ip("address", "show", "host-eth0.50")
    return {address["local"] for address in shim["addr_info"]}


def test_second_addresses_of_a_node(host: Host) -> None:
    node(host)
    host.ip("address", "add", "192.0.2.12/24", "dev", "eth0")
    (pod,) = host.pods("p1")

    pod.attach(lan("l2"))

    assert pod.reaches(NODE)
    assert pod.reaches("192.0.2.12")


def test_the_way_to_the_node_stays_the_first_interface_s(host: Host) -> None:
    node(host)
    host.uplink("eth1", "far")
    (pod,) = host.pods("p1")
    pod.attach(network("first", "eth1.60", "10.60.0.0/24"))

    result = pod.attach(lan("bridge", hostRoutes=["10.96.0.0/12"]), "net1")

    there = {route["dst"] for route in pod.routes() if route["dev"] == "net1"}
    assert "10.96.0.0/12" in there
    assert NODE not in there
    assert reaches(host, result["ips"][0]["address"].partition("/")[0])
    refused = pod.add({**lan("bridge"), "name": "third"}, "net2")
    assert refused.code == 102
    assert "already has it" in refused.msg


def test_status_knows_what_source_validation_forbids(host: Host) -> None:
    node(host)
    set_filter(host, 1)

    assert host.plugin("STATUS", lan("l2", "eth0")).code == 51
    assert host.plugin("STATUS", lan("l2")).status == 0
