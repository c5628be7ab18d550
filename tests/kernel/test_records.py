"""A record outlives the configuration, the default route, and the release that wrote it."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.kernel.conftest import info, vlan
from tests.lab.waiting import suspend, wait_until, waiters
from tests.lab.world import Host, Json, Pod, network

pytestmark = pytest.mark.kernel

FIRST_RELEASE = Path(__file__).with_name("state-1.tar")
BOOT = Path("/proc/sys/kernel/random/boot_id")


def as_the_first_release_left_it(host: Host) -> None:
    """Put the state that it wrote in the place of ours, as if it had been written in this boot."""
    host.run("rm", "-r", "/var/lib/cni/cni-vlan", "/var/lib/cni/cni-ipam")
    host.run("tar", "-C", "/var/lib/cni", "-x", "-f", str(FIRST_RELEASE))
    (record,) = host.path("/var/lib/cni/cni-vlan/parents/eth0.10/users").iterdir()
    then, now = json.loads(record.read_text())["boot"].encode(), BOOT.read_text().strip().encode()
    for directory, names, files in os.walk(host.path("/var/lib/cni"), topdown=False):
        for path in (Path(directory, name) for name in files):
            if path.is_file() and not path.is_symlink():
                with path.open("r+b") as file:  # in place: a lease is a hard link
                    text = file.read()
                    file.seek(0)
                    file.write(text.replace(then, now))
        for name in names:
            if name == then.decode():
                Path(directory, name).rename(Path(directory, now.decode()))


NETWORKS = {
    ("p1", "eth0"): network("plain", "eth0", "10.0.0.0/24", "2001:db8::/64"),
    ("p1", "net1"): network("mac", "eth0", "10.1.0.0/24", mac="02:00:00:00:00:77"),
    ("p2", "eth0"): network("vlan", "eth0.10", "10.2.0.0/24"),
    ("p2", "net1"): network("nested", "eth0.20.200", "10.3.0.0/24"),
    ("p3", "eth0"): network("iso", "", "10.4.0.0/24"),
    ("p4", "eth0"): network("l3", "eth0.30", "10.5.0.0/24", driver="ipvlan", mode="l3"),
}


@pytest.fixture
def upgraded(host: Host) -> dict[tuple[str, str], tuple[Pod, Json]]:
    """Pods of every kind, which an agent of the first release attached; each with its result."""
    host.uplink()
    pods = {pod.name: pod for pod in host.pods("p1", "p2", "p3", "p4")}
    made = {(p, ifname): (pods[p], pods[p].attach(conf, ifname)) for (p, ifname), conf in NETWORKS.items()}
    as_the_first_release_left_it(host)
    return made


def test_pods_of_the_first_release_are_checked_and_detached(
    host: Host, upgraded: dict[tuple[str, str], tuple[Pod, Json]]
) -> None:
    for (name, ifname), (pod, result) in upgraded.items():
        reply = pod.check(NETWORKS[name, ifname], result, ifname)
        assert reply.status == 0, reply
    shown = host.run(host.find("cni-vlan"), "networks", "--json")
    again = upgraded["p1", "eth0"][0].add(NETWORKS["p1", "eth0"], "eth0")
    for (name, ifname), (pod, _result) in upgraded.items():
        pod.detach(NETWORKS[name, ifname], ifname)

    assert "default/web" in shown.stdout
    assert again.code == 101
    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


def test_pods_of_the_first_release_are_collected(
    host: Host, upgraded: dict[tuple[str, str], tuple[Pod, Json]]
) -> None:
    del upgraded
    for conf in NETWORKS.values():
        reply = host.plugin("GC", {**conf, "cni.dev/valid-attachments": []})
        assert reply.status == 0, reply

    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


LAN = network("lan", "eth0.10", "10.0.0.0/24")
EDITS: dict[str, Json] = {
    "pool": {"ipam": {**LAN["ipam"], "pool": "other"}},
    "data directory": {"ipam": {**LAN["ipam"], "dataDir": "/var/lib/cni/cni-ipam/elsewhere"}},
    "no ipam": {"ipam": {}},
    "another plugin": {"ipam": {"type": "static", "addresses": [{"address": "10.0.0.9/24"}]}},
    "parent": {"parent": "eth0.20"},
    "not valid any more": {"mode": "no such mode"},
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_del_goes_by_what_add_recorded(host: Host, edit: str) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    pod.attach(LAN)

    pod.detach({**LAN, **EDITS[edit]})

    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


RENAMED = {**LAN, "name": "renamed"}


def test_a_del_after_the_network_was_renamed(host: Host) -> None:
    """The runtime reads its configuration anew, and knows nothing of the old name."""
    host.uplink()
    (pod,) = host.pods("p1")
    pod.attach(LAN)
    host.configure(RENAMED)
    host.run("mkfifo", "/etc/cni/net.d/a.conf")  # nobody writes to it

    pod.detach(RENAMED)

    assert not pod.has_link("eth0")
    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


@pytest.mark.parametrize("known", [[LAN, RENAMED], [LAN], []])
def test_a_del_after_a_refused_add_leaves_the_other_network_alone(host: Host, known: list[Json]) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    pod.attach(LAN)
    before = host.state()
    host.configure(*known)

    assert pod.add(RENAMED).code == 101
    pod.detach(RENAMED)

    assert pod.has_link("eth0")
    assert host.state() == before


@pytest.mark.parametrize("edit", sorted(EDITS.keys() - {"another plugin"}))  # this one knows no GC
def test_gc_goes_by_what_add_recorded(host: Host, edit: str) -> None:
    host.uplink()
    gone, stays = host.pods("p1", "p2")
    gone.attach(LAN)
    kept = stays.attach(LAN)["ips"][0]["address"]
    valid = [{"containerID": "p2", "ifname": "eth0"}]

    reply = host.plugin("GC", {**LAN, **EDITS[edit], "cni.dev/valid-attachments": valid})

    assert reply.status == 0, reply
    assert kept.partition("/")[0] in "\n".join(host.state())
    assert "p1" not in "\n".join(host.state())
    stays.detach(LAN)
    assert host.state() == []


def test_check_of_a_chained_attachment(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    before: Json = {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0"}]}
    before["ips"] = [{"address": "10.9.0.2/24", "interface": 0}]
    conf = {**network("chain", "", "10.0.0.0/24"), "driver": "ipvlan", "prevResult": before}
    result = pod.attach(conf)

    reply = pod.check({key: value for key, value in conf.items() if key != "prevResult"}, result)

    assert reply.status == 0, reply
    pod.detach(conf)


@pytest.mark.parametrize("route", [["replace", "default", "dev", "eth1"], ["delete", "default"]])
def test_check_of_auto_after_the_default_route_has_moved(host: Host, route: list[str]) -> None:
    host.uplink()
    host.uplink("eth1", "far1")
    host.ip("route", "add", "default", "dev", "eth0")
    (pod,) = host.pods("p1")
    conf = network("lan", "auto", "10.0.0.0/24", vlan=10)
    result = pod.attach(conf)
    host.ip("route", *route)

    reply = pod.check(conf, result)

    assert reply.status == 0, reply
    pod.detach(conf)
    assert "eth0.10" not in host.links()


# Levels of nested VLANs.


def test_a_level_that_pods_share_stays_until_the_last_has_gone(host: Host) -> None:
    """The service tag is 802.1ad, the customer's 802.1q: both networks use the first level."""
    host.uplink()
    outer, inner = host.pods("p1", "p2")
    service = network("service", "eth0.77", "10.0.0.0/24", vlanProtocol="802.1ad")
    customer = network("customer", "eth0.77.5", "10.1.0.0/24")
    outer.attach(service)
    inner.attach(customer)

    outer.detach(service)

    assert inner.has_link("eth0")
    assert info(host, "eth0.77")["protocol"] == "802.1ad"
    inner.detach(customer)
    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


def test_each_level_has_its_own_protocol(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    conf = network("lan", "eth0.77", "10.1.0.0/24", vlan=5, uplinkVlanProtocol="802.1ad")

    result = pod.attach(conf)

    assert info(host, "eth0.77")["protocol"] == "802.1ad"
    assert info(host, "eth0.77.5")["protocol"] == "802.1Q"
    assert pod.check(conf, result).status == 0
    pod.detach(conf)
    assert set(host.links()) == {"lo", "eth0"}


def test_a_protocol_that_is_asked_for_is_not_another_one(host: Host) -> None:
    host.uplink()
    vlan(host, "eth0.77", "eth0", 77)
    (pod,) = host.pods("p1")

    reply = pod.add(network("lan", "eth0.77.5", "10.1.0.0/24", uplinkVlanProtocol="802.1ad"))

    assert (reply.code, "802.1ad" in reply.msg) == (102, True)
    assert set(host.links()) == {"lo", "eth0", "eth0.77"}
    assert host.state() == []


@pytest.mark.parametrize(
    "command",
    ["add eth0.100 type dummy", "add link eth0 name eth0.100 type vlan id 99"],
)
def test_the_middle_of_a_nested_vlan_is_verified(host: Host, command: str) -> None:
    host.uplink()
    host.ip("link", *command.split())
    host.ip("link", "set", "eth0.100", "up")
    (pod,) = host.pods("p1")

    reply = pod.add(network("lan", "eth0.100.200", "10.0.0.0/24"))

    assert (reply.code, "eth0.100" in reply.msg) == (102, True)
    assert set(host.links()) == {"lo", "eth0", "eth0.100"}
    assert host.state() == []


def test_two_ways_to_write_a_long_vlan_name_the_same_link(host: Host) -> None:
    host.uplink("enp129s0f0np0")
    one, other = host.pods("p1", "p2")
    written = network("one", "enp129s0f0np0.100.200", "10.0.0.0/24")
    keyed = network("two", "enp129s0f0np0.100", "10.1.0.0/24", vlan=200)

    one.attach(written)
    other.attach(keyed)

    assert len(host.links()) == 4  # lo, the uplink and one link for each level
    one.detach(written)
    other.detach(keyed)
    assert set(host.links()) == {"lo", "enp129s0f0np0"}


def waited_for(host: Host, lock: str) -> bool:
    return waiters(host.path(f"/var/lib/cni/cni-vlan/locks/{lock}")) > 0


def test_the_last_del_and_the_first_add_of_a_nested_vlan(cold_host: Host) -> None:
    """The DEL has done with the VLAN, waits for its uplink, and is overtaken by the ADD if that can be."""
    host = cold_host
    host.uplink()
    first, second = host.pods("p1", "p2")
    conf = network("lan", "eth0.100.200", "10.0.0.0/24", announce=0)
    first.attach(conf)
    with host.holding("/var/lib/cni/cni-vlan/locks/eth0.100"):
        deleting = host.start("DEL", conf, first)
        wait_until(lambda: waited_for(host, "eth0.100"))
        suspend(deleting)
    adding = host.start("ADD", conf, second)
    wait_until(lambda: adding.poll() is not None or waited_for(host, "eth0.100.200"))
    deleting.send_signal(signal.SIGCONT)

    assert (deleting.wait(60), adding.wait(60)) == (0, 0)
    assert second.has_link("eth0")
    assert {"eth0.100", "eth0.100.200"} <= set(host.links())
    second.detach(conf)
    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


def test_a_release_that_was_killed_half_way_is_done_again(cold_host: Host) -> None:
    """The VLAN is gone, and its uplink waits for a lock."""
    host = cold_host
    host.uplink()
    (pod,) = host.pods("p1")
    conf = network("lan", "eth0.100.200", "10.0.0.0/24", announce=0)
    pod.attach(conf)
    with host.holding("/var/lib/cni/cni-vlan/locks/eth0.100"):
        deleting = host.start("DEL", conf, pod)
        wait_until(lambda: waited_for(host, "eth0.100"))
        deleting.kill()
        deleting.wait()

    pod.detach(conf)

    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []
