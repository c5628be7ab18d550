"""STATUS, GC, and the leniency of DEL."""

import pytest

from tests.lab.waiting import wait_until, waiters
from tests.lab.world import Host, Json, Pod, network

pytestmark = pytest.mark.kernel

LAN = network("lan", "eth0.10", "10.0.0.0/29", "2001:db8::/64")
VALID = "cni.dev/valid-attachments"


def test_status_is_silent_when_an_add_would_work(host: Host) -> None:
    host.uplink()

    reply = host.plugin("STATUS", LAN)

    assert (reply.status, reply.stdout) == (0, "")
    assert set(host.links()) == {"lo", "eth0"}


@pytest.mark.macvlan
@pytest.mark.parametrize(
    ("arrange", "code", "words"),
    [
        ("ip link delete eth0", 51, "eth0 does not exist"),
        ("ip link set eth0 down", 51, "eth0 is down"),
        ("mount -o remount,ro /var/lib/cni", 50, "Read-only file system"),
    ],
)
def test_status_tells_what_is_wrong(host: Host, arrange: str, code: int, words: str) -> None:
    host.uplink()
    host.run("sh", "-c", arrange)

    reply = host.plugin("STATUS", LAN)

    assert (reply.status, reply.code) == (1, code)
    assert words in reply.msg


def test_status_only_warns_of_a_parent_that_an_add_brings_up(host: Host) -> None:
    host.uplink()
    first, second = host.pods("p1", "p2")
    vlan = {**LAN, "parent": "eth0.10"}
    first.attach(vlan)
    host.ip("link", "set", "eth0.10", "down")

    reply = host.plugin("STATUS", vlan)

    assert reply.status == 0
    assert "network lan: eth0.10 is down" in reply.stderr
    second.attach(vlan)


def test_status_only_warns_of_a_pool_that_is_locked(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    pod.attach(LAN)
    lock = "/var/lib/cni/cni-ipam/lan/lock"
    holder = host.popen("flock", "--close", lock, "sh", "-c", "echo held; exec cat", stdin=-1, stdout=-1)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"

    reply = host.plugin("STATUS", LAN)

    holder.kill()
    holder.communicate()
    assert reply.status == 0
    assert "held by another process" in reply.stderr


def test_status_only_warns_of_a_lost_carrier(host: Host) -> None:
    """An error would make the node not ready, and evict the pods of every network."""
    router = host.uplink()
    router.run("ip", "link", "set", "trunk", "down")

    reply = host.plugin("STATUS", LAN)

    assert reply.status == 0
    assert "network lan: eth0 has no carrier" in reply.stderr


def test_status_of_a_full_pool_fails_only_if_it_is_asked_to(host: Host) -> None:
    host.uplink()
    for pod in host.pods("p1", "p2", "p3", "p4", "p5"):
        pod.attach(LAN)
    (late,) = host.pods("p6")

    warned = host.plugin("STATUS", LAN)
    failed = host.plugin("STATUS", {**LAN, "ipam": {**LAN["ipam"], "statusWhenFull": "fail"}})
    refused = late.add(LAN)

    assert (warned.status, warned.stdout) == (0, "")
    assert "pool lan: all 5 are leased" in warned.stderr
    assert failed.code == 50
    assert "pool lan" in failed.msg
    assert refused.code == 110
    assert "pool lan" in refused.msg
    assert "no IP addresses available in range set: 10.0.0.1-10.0.0.6" in refused.msg
    assert not late.has_link("eth0")
    assert [name for name in host.state() if "p6" in name] == []


def collect(*pods: Pod) -> Json:
    valid = [{"containerID": pod.name, "ifname": "eth0"} for pod in pods]
    return {**LAN, VALID: valid}


def test_gc_removes_what_is_not_valid(host: Host) -> None:
    host.uplink()
    kept, lost = host.pods("kept", "lost")
    other = network("other", "eth0.10", "10.1.0.0/24")
    lost.attach(LAN)
    result = kept.attach(LAN)
    kept.attach(other, "eth1")
    host.run("ip", "netns", "delete", "lost")

    reply = host.plugin("GC", collect(kept))

    assert (reply.status, reply.stdout) == (0, "")
    assert "eth0.10" in host.links()
    assert [name for name in host.state() if "lost" in name] == []
    assert len([name for name in host.state() if "kept" in name]) == 6  # two networks, three files each
    assert kept.check(LAN, result).status == 0


@pytest.mark.parametrize(("given", "left"), [("null", 0), ("empty", 0), ("absent", 1)])
def test_gc_tells_null_and_empty_from_absent(host: Host, given: str, left: int) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    pod.attach(LAN)
    conf = {"null": {**LAN, VALID: None}, "empty": {**LAN, VALID: []}, "absent": LAN}[given]

    reply = host.plugin("GC", conf)

    assert reply.status == 0
    assert ("eth0.10" in host.links()) is bool(left)
    assert bool(host.state()) is bool(left)


def test_gc_is_forwarded_and_goes_on_after_a_failing_delegate(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    path = host.scratch / "bin" / "some-ipam"
    path.write_text(
        "#!/bin/sh\n[ $CNI_COMMAND = GC ] && { cat > $0.gc; exit 1; }\n"
        """echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.9/24"}]}'\n"""
    )
    path.chmod(0o755)
    conf = network("lan", "eth0.10", ipam={"type": "some-ipam"})
    pod.attach(conf)

    reply = host.plugin("GC", {**conf, VALID: []})

    assert reply.code == 130
    assert VALID in (host.scratch / "bin" / "some-ipam.gc").read_text()
    assert set(host.links()) == {"lo", "eth0"}


def test_a_late_delete_of_an_old_container_leaves_the_newer_one(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    pod.attach(LAN, CNI_CONTAINERID="old")
    pod.detach(LAN, CNI_CONTAINERID="old")
    result = pod.attach(LAN, CNI_CONTAINERID="new")

    pod.detach(LAN, CNI_CONTAINERID="old")

    assert pod.check(LAN, result, CNI_CONTAINERID="new").status == 0
    assert "eth0.10" in host.links()


def test_delete_with_the_parent_changed_in_the_configuration(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    pod.attach(LAN)

    pod.detach({**LAN, "parent": "eth0.99", "mode": "l2"})

    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


def test_a_lost_lock_holder_does_not_block(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    lock = "/var/lib/cni/cni-vlan/locks/eth0.10"
    host.run("mkdir", "-p", "/var/lib/cni/cni-vlan/locks")
    holder = host.popen("flock", "--no-fork", lock, "sleep", "600")
    while host.run("flock", "--nonblock", lock, "true", check=False).returncode == 0:
        assert holder.poll() is None
    adding = host.start("ADD", LAN, pod)
    wait_until(lambda: waiters(host.path(lock)))

    holder.kill()
    holder.wait()

    assert adding.wait(30) == 0
    assert pod.addresses() == ["10.0.0.2/29", "2001:db8::2/64"]
