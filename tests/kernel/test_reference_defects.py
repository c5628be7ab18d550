"""What the reference plugins get wrong, each shown not to happen here."""

import os
import signal
from pathlib import Path

import pytest

from tests.lab.world import Host, Json, network

pytestmark = pytest.mark.kernel

LAN = network("lan", "eth0.10", "10.0.0.0/24")


def test_a_vlan_serves_more_than_one_pod(host: Host) -> None:
    host.uplink()
    pods = host.pods("p1", "p2", "p3")

    given = {pod.attach(LAN)["ips"][0]["address"] for pod in pods}

    assert len(given) == 3


def test_a_second_ipvlan_mode_does_not_flip_the_pods_that_are_there(host: Host) -> None:
    host.uplink()
    one, other = host.pods("p1", "p2")
    one.attach(network("two", "eth0", "10.0.0.0/24", mode="l2"))

    refused = other.add(network("three", "eth0", "10.1.0.0/24", mode="l3"))

    assert refused.code == 102
    assert one.link()["linkinfo"]["info_data"]["mode"] == "l2"
    assert "NOARP" not in one.link()["flags"]


@pytest.mark.parametrize("mode", [pytest.param("bridge", marks=pytest.mark.macvlan), "l2"])
def test_a_route_that_fails_leaves_neither_link_nor_lease(host: Host, mode: str) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    conf = network("lan", "eth0", "10.0.0.0/24", mode=mode)
    conf["ipam"]["routes"] = [{"dst": "10.9.0.0/16", "gw": "10.0.0.1", "scope": 253}]

    reply = pod.add(conf)

    assert reply.code == 100
    assert "add route 10.9.0.0/16 via 10.0.0.1 dev eth0" in reply.msg
    assert [link["ifname"] for link in pod.ip("link")] == ["lo"]
    assert host.state() == []


@pytest.mark.parametrize("mode", ["bridge", "l2"])
def test_a_taken_name_leaves_no_temporary_link(host: Host, mode: str) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    pod.ip("link", "add", "eth0", "type", "dummy")

    assert pod.add(network("lan", "eth0", "10.0.0.0/24", mode=mode)).code == 101
    assert {link["ifname"] for link in pod.ip("link")} == {"lo", "eth0"}


def test_delete_needs_neither_master_nor_default_route(host: Host) -> None:
    host.uplink()
    host.run("ip", "route", "add", "default", "dev", "eth0")
    (pod,) = host.pods("p1")
    conf = network("lan", "auto", "10.0.0.0/24", mode="l2")
    pod.attach(conf)
    host.run("ip", "route", "del", "default")
    host.ip("link", "delete", "eth0")

    pod.detach(conf)

    assert host.state() == []


def test_check_works_with_a_parent_that_was_found(host: Host) -> None:
    host.uplink()
    host.run("ip", "route", "add", "default", "dev", "eth0")
    (pod,) = host.pods("p1")
    conf = network("lan", "auto", "10.0.0.0/24", mode="l2")

    assert pod.check(conf, pod.attach(conf)).status == 0


def test_an_unreadable_lease_of_an_earlier_boot_blocks_nothing(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    old = "/var/lib/cni/cni-ipam/lan/11111111-2222-3333-4444-555555555555/leases/10.0.0.0"
    host.run("mkdir", "-p", old)
    host.run("sh", "-c", f": > {old}/10.0.0.2; head -c 100 /dev/urandom > {old}/10.0.0.3")

    pod.attach(LAN)

    assert pod.addresses() == ["10.0.0.2/24"]
    pod.detach(LAN)
    assert host.state() == []  # and what was left of it is swept away


@pytest.mark.macvlan
def test_ipv6_does_not_wait_for_duplicate_address_detection(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    pod.attach(network("lan", "eth0", "2001:db8::/64"))

    shown = pod.run("ip", "-6", "address", "show", "dev", "eth0", "tentative").stdout

    assert "2001:db8::2" not in shown
    assert "fe80" in shown  # detection of the link-local address still runs, and nobody waited for it


@pytest.mark.macvlan
def test_dns_of_ipam_is_kept(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    resolv_conf = Path(host.scratch) / "resolv.conf"
    resolv_conf.write_text("nameserver 10.0.0.53\nsearch a.example b.example\noptions ndots:2\n")
    conf = network("lan", "eth0", "10.0.0.0/24")
    conf["ipam"]["resolvConf"] = str(resolv_conf)

    dns = pod.attach(conf)["dns"]

    assert dns == {
        "nameservers": ["10.0.0.53"], "search": ["a.example", "b.example"], "options": ["ndots:2"],
    }  # fmt: skip


@pytest.mark.macvlan
def test_vid_0_is_no_vlan(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    conf: Json = {**LAN, "parent": "eth0", "vlanId": 0}

    assert pod.add(conf).code == 7
    assert set(host.links()) == {"lo", "eth0"}


@pytest.mark.macvlan
def test_an_old_version_without_addresses_is_refused_before_anything_is_made(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")

    reply = pod.add(network("lan", "eth0", cniVersion="0.2.0"))

    assert reply.code == 7
    assert "before cniVersion 0.3.0" in reply.msg
    assert not pod.has_link("eth0")


@pytest.mark.macvlan
def test_excluded_addresses_are_never_given(host: Host) -> None:
    host.uplink()
    pods = host.pods("p1", "p2")
    item = {"subnet": "10.0.0.0/28", "exclude": ["10.0.0.2-10.0.0.5", "10.0.0.8/30", "10.0.0.7"]}
    conf = network("lan", "eth0", item)

    assert [pod.attach(conf)["ips"][0]["address"] for pod in pods] == ["10.0.0.6/28", "10.0.0.12/28"]


@pytest.mark.macvlan
def test_a_static_address_outside_the_range_is_fine(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    ranges = [[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.100", "rangeEnd": "10.0.0.200"}]]
    conf = network("lan", "eth0", ipam={"type": "cni-ipam", "ranges": ranges})

    pod.attach({**conf, "args": {"cni": {"ips": ["10.0.0.7"]}}})

    assert pod.addresses() == ["10.0.0.7/24"]


def test_networks_whose_subnets_overlap_are_told(host: Host) -> None:
    host.uplink()
    one, other = host.pods("p1", "p2")
    one.attach(network("first", "eth0.10", "10.0.0.0/16"))

    reply = other.add(network("second", "eth0.20", "10.0.7.0/24"))

    assert reply.status == 0
    assert "subnet 10.0.7.0/24 of pool second overlaps 10.0.0.0/16 of pool first" in reply.stderr


def test_a_killed_add_is_undone_by_delete(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    path = host.scratch / "bin" / "stuck"
    path.write_text(
        "#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\necho $$ > $0.tmp\nmv $0.tmp $0.pid\nexec sleep 600\n"
    )
    path.chmod(0o755)
    conf = network("lan", "eth0.10", ipam={"type": "stuck"})
    adding = host.start("ADD", conf, pod)
    ready = host.scratch / "bin" / "stuck.pid"
    while not ready.exists():
        assert adding.poll() is None
    adding.kill()
    adding.wait()
    os.kill(int(ready.read_text()), signal.SIGKILL)
    assert "eth0.10" in host.links()

    pod.detach(conf)

    assert set(host.links()) == {"lo", "eth0"}
    assert not pod.has_link("eth0")
    assert host.state() == []


@pytest.mark.macvlan
def test_an_add_killed_before_the_link_has_its_name_is_undone_by_delete(cold_host: Host) -> None:
    cold_host.uplink()
    (pod,) = cold_host.pods("p1")
    conf = network("lan", "eth0", "10.0.0.0/24")
    # At its fifth message to the kernel (names, parent, creation, the new link) the rename is due.
    kill = "-qq -o /dev/null -e trace=sendto -e inject=sendto:signal=KILL:when=5"
    script = f"exec strace {kill} {cold_host.find('cni-vlan')}"
    (cold_host.scratch / "bin" / "killed-vlan").write_text(f"#!/bin/sh\n{script}\n")
    (cold_host.scratch / "bin" / "killed-vlan").chmod(0o755)
    cold_host.plugin("ADD", {**conf, "type": "killed-vlan"}, pod)
    assert len(pod.ip("link")) == 2
    assert not pod.has_link("eth0")

    pod.detach(conf)

    assert [link["ifname"] for link in pod.ip("link")] == ["lo"]
    assert cold_host.state() == []
