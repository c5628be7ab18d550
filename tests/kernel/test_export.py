"""Prefixes of L3 networks that the fabric learns: the table, the rules, and packets that find their way."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kernel.conftest import needs
from tests.lab.waiting import wait_until
from tests.lab.world import Host, Json, Pod, network

pytestmark = pytest.mark.kernel

NODE, NODE6 = "192.0.2.11", "2001:db8:99::11"
ROUTER, ROUTER6 = "192.0.2.1", "2001:db8:99::1"
SUBNET, SUBNET6 = "10.50.0.0/24", "2001:db8:50::/64"
BIRD = Path(__file__).parents[2] / "manifests" / "bgp" / "bird.conf"


def routed(mode: str = "l3", **keys: object) -> Json:
    return network("routed", "eth0", SUBNET, SUBNET6, mode=mode, export=True, **keys)


def plug_in(host: Host) -> Pod:
    """Give the node an address on its uplink, and a router behind that as the default route."""
    router = host.uplink()
    for address in (f"{NODE}/24", f"{NODE6}/64"):
        host.ip("address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
    for address in (f"{ROUTER}/24", f"{ROUTER6}/64"):
        router.ip("address", "add", address, "dev", "trunk", *(["nodad"] if ":" in address else []))
    host.ip("route", "add", "default", "via", ROUTER)
    host.ip("-6", "route", "add", "default", "via", ROUTER6)
    for side in (host, router):
        side.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    return router


def table(host: Host, number: int = 177) -> set[str]:
    """The blackhole routes of protocol 177, in CIDR form."""
    found = set()
    for family, bits in (("-4", 32), ("-6", 128)):
        shown = host.run("ip", "-j", family, "route", "show", "table", str(number), check=False)
        if shown.returncode:  # the table does not exist in this family
            continue
        for route in json.loads(shown.stdout or "[]"):
            if route.get("type") == "blackhole" and str(route.get("protocol")) == "177":
                found.add(route["dst"] if "/" in route["dst"] else f"{route['dst']}/{bits}")
    return found


def rules(host: Host) -> list[tuple[str, str]]:
    """Family and link of each rule to table 177."""
    return [
        (family, rule["iif"])
        for family in ("-4", "-6")
        for rule in host.ip(family, "rule", "show")
        if str(rule.get("table")) == "177"
    ]


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_the_routes_are_there_with_the_first_pod_and_go_with_the_last(host: Host, mode: str) -> None:
    plug_in(host)
    one, two = host.pods("p1", "p2")
    one.attach(routed(mode))
    assert table(host) == {SUBNET, SUBNET6}
    assert rules(host) == [("-4", "eth0"), ("-6", "eth0")]

    two.attach(routed(mode))
    one.detach(routed(mode))
    assert table(host) == {SUBNET, SUBNET6}

    two.detach(routed(mode))
    assert table(host) == set()
    assert rules(host) == []
    assert host.state() == []


def test_a_range_is_exported_alone(host: Host) -> None:
    plug_in(host)
    (pod,) = host.pods("p1")
    part = {"subnet": SUBNET, "ipRange": "10.50.0.64/26"}
    conf = network("routed", "eth0", part, mode="l3", export=True, exportTable=50)
    pod.attach(conf)

    assert table(host, 50) == {"10.50.0.64/26"}
    pod.detach(conf)
    assert table(host, 50) == set()


def test_each_pod_alone(host: Host) -> None:
    plug_in(host)
    one, two = host.pods("p1", "p2")
    found = [
        f"{ip['address'].partition('/')[0]}/{128 if ':' in ip['address'] else 32}"
        for pod in (one, two)
        for ip in pod.attach({**routed(), "export": "host"})["ips"]
    ]

    assert table(host) == set(found)
    one.detach({**routed(), "export": "host"})
    assert table(host) == set(found[2:])


def test_a_pod_whose_add_fails_leaves_no_route(host: Host) -> None:
    plug_in(host)
    one, two = host.pods("p1", "p2")
    conf = routed()
    conf["ipam"] = {"type": "cni-ipam", "subnets": [{"subnet": "10.50.0.0/30"}]}
    one.attach(conf)
    assert two.add(conf).code == 110
    one.detach(conf)

    assert table(host) == set()


def test_a_gc_withdraws(host: Host) -> None:
    plug_in(host)
    (pod,) = host.pods("p1")
    pod.attach(routed())

    collected = host.plugin("GC", {**routed(), "cni.dev/valid-attachments": []})

    assert collected.status == 0, collected
    assert table(host) == set()


def test_a_network_that_is_edited_under_its_pod_leaves_no_route(host: Host) -> None:
    plug_in(host)
    (pod,) = host.pods("p1")
    pod.attach(routed())
    edited = routed()
    del edited["export"]

    pod.detach(edited)

    assert table(host) == set()


def test_somebody_else_s_route_is_left_alone_and_told(host: Host) -> None:
    plug_in(host)
    (pod,) = host.pods("p1")
    host.ip("route", "add", "blackhole", "10.99.0.0/24", "table", "177", "proto", "static")
    pod.attach(routed())
    found = host.run(host.find("cni-vlan"), "doctor", check=False).stdout
    pod.detach(routed())

    assert "table 177: 10.99.0.0/24 was not added by cni-vlan" in found
    assert host.ip("route", "show", "table", "177")[0]["dst"] == "10.99.0.0/24"


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_the_fabric_reaches_the_pods(host: Host, mode: str) -> None:
    """The router has the routes that a daemon would have told it."""
    router = plug_in(host)
    (pod,) = host.pods("p1")
    result = pod.attach(routed(mode))
    router.ip("route", "add", SUBNET, "via", NODE)
    router.ip("-6", "route", "add", SUBNET6, "via", NODE6)

    for ip in result["ips"]:
        assert router.reaches(ip["address"].partition("/")[0])
    assert pod.reaches(ROUTER)
    assert pod.reaches(ROUTER6)


def test_the_next_hop_may_be_another_link_s_address_with_host_access(host: Host) -> None:
    """The host then routes to its pods by the parent's shim; their answers leave by the parent."""
    router = plug_in(host)
    (pod,) = host.pods("p1")
    other = ["type", "veth", "peer", "name", "trunk1", "netns", router.name]
    host.ip("link", "add", "eth1", *other)
    host.ip("link", "set", "eth1", "up")
    router.ip("link", "set", "trunk1", "up")
    host.ip("address", "add", "203.0.113.11/24", "dev", "eth1")
    router.ip("address", "add", "203.0.113.1/24", "dev", "trunk1")
    router.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.trunk.rp_filter=0")
    router.ip("route", "add", SUBNET, "via", "203.0.113.11")
    address = pod.attach(routed())["ips"][0]["address"].partition("/")[0]
    assert router.ping(address) == "silence"
    pod.detach(routed())

    again = pod.attach(routed(hostAccess=True))["ips"][0]["address"].partition("/")[0]

    assert router.reaches(again)


@contextmanager
def capture(router: Pod, target: str) -> Iterator[Path]:
    """Count the packets to an address on the wire, by the router's side."""
    path = router.host.scratch / "packets"
    with path.open("w") as output:
        command = [
            "ip",
            "netns",
            "exec",
            router.name,
            "tcpdump",
            "-i",
            "trunk",
            "-l",
            "-n",
            "dst",
            "host",
            target,
        ]
        running = router.host.popen(*command, stdout=output, stderr=-1)
        assert running.stderr is not None
        while "listening" not in running.stderr.readline():
            assert running.poll() is None
        yield path
        running.terminate()
        running.communicate()


@pytest.mark.parametrize("target", ["10.50.0.99", "2001:db8:50::99"])
@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_a_packet_to_an_address_that_no_pod_has_is_not_sent_back(host: Host, mode: str, target: str) -> None:
    router = plug_in(host)
    (pod,) = host.pods("p1")
    pod.attach(routed(mode))
    router.ip("route", "add", SUBNET, "via", NODE)
    router.ip("-6", "route", "add", SUBNET6, "via", NODE6)
    assert router.reaches(pod.addresses()[0].partition("/")[0])

    with capture(router, target) as seen:
        assert router.ping(target) != "reply"
        assert router.reaches(pod.addresses()[0].partition("/")[0])  # what was sent before is seen by now
        wait_until(lambda: "echo request" in seen.read_text())
    assert seen.read_text().count("echo request") == 1


@pytest.mark.macvlan
def test_what_cannot_be_exported_is_refused(host: Host) -> None:
    plug_in(host)
    (pod,) = host.pods("p1")
    for conf, words in (
        (routed("bridge"), "pods in mode bridge are reached on layer 2"),
        (routed(exportTable=254), "must be 1 to 252"),
        ({**routed(), "export": "all"}, "export 'all'"),
        ({**network("x", "eth0", SUBNET, mode="l3"), "exportTable": 5}, "only with export"),
        ({**routed(), "internal": True}, "isolated"),
    ):
        refused = pod.add(conf)
        assert refused.code == 7
        assert words in refused.msg


# BIRD, with the configuration of manifests/bgp.


@contextmanager
def bird(host: Host, name: str, conf: str, *inside: str) -> Iterator[None]:
    """Run BIRD on the host, or in a namespace of it, until the end of the block."""
    path = host.scratch / f"{name}.conf"
    path.write_text(conf.replace("log syslog all;", "log stderr all;"))
    control = host.scratch / f"{name}.ctl"
    with (host.scratch / f"{name}.log").open("w") as log:
        running = host.popen(*inside, "bird", "-f", "-c", str(path), "-s", str(control), stderr=log)
        wait_until(control.exists)
        try:
            yield
        finally:
            running.kill()
            running.communicate()


FABRIC = f"""
router id {ROUTER};
protocol device {{}}
protocol kernel k4 {{ ipv4 {{ import none; export all; }}; }}
protocol kernel k6 {{ ipv6 {{ import none; export all; }}; }}
protocol bgp n4 {{
  local {ROUTER} as 64500; neighbor {NODE} as 64512; ipv4 {{ import all; export none; }};
}}
protocol bgp n6 {{
  local {ROUTER6} as 64500; neighbor {NODE6} as 64512; ipv6 {{ import all; export none; }};
}}
"""


@needs("bird")
def test_bird_tells_the_router(host: Host) -> None:
    """The first ADD's prefix is in the router's kernel, and gone after the last DEL."""
    router = plug_in(host)
    (pod,) = host.pods("p1")
    far = ["ip", "netns", "exec", router.name]

    def known() -> set[str]:
        return {
            route["dst"]
            for family in ("-4", "-6")
            for route in router.ip(family, "route", "show", "proto", "bird")
        }

    with bird(host, "node", BIRD.read_text()), bird(host, "router", FABRIC, *far):
        pod.attach(routed())
        wait_until(lambda: known() == {SUBNET, SUBNET6})
        for address in pod.addresses():
            assert router.reaches(address.partition("/")[0])
        shown = json.loads(host.run(host.find("cni-vlan"), "routes", "--json").stdout)
        assert [(route["prefix"], route["pods"], route["is_there"]) for route in shown] == [
            (SUBNET, 1, True),
            (SUBNET6, 1, True),
        ]
        pod.detach(routed())
        wait_until(lambda: known() == set())


@needs("birdc")
def test_a_daemon_that_hangs_is_asked_once(host: Host) -> None:
    plug_in(host)
    conf = {**routed(), "export": "host"}
    for pod in host.pods("p1", "p2"):
        pod.attach(conf)
    calls = host.scratch / "calls"
    (host.scratch / "birdc").write_text(f"#!/bin/sh\necho called >>{calls}\nexec sleep 60\n")
    (host.scratch / "birdc").chmod(0o755)
    (there,) = host.run("sh", "-c", "command -v birdc").stdout.split()
    host.run("mount", "--bind", str(host.scratch / "birdc"), there)

    shown = json.loads(host.run(host.find("cni-vlan"), "routes", "--json").stdout)

    assert len(shown) == 4  # two families of two pods
    assert calls.read_text().split() == ["called"]
