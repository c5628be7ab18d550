"""Parents, ledgers and boots that were lost: what is ours to remove, and what is left alone."""

import pytest

from tests.kernel.conftest import info, vlan
from tests.lab.world import Host, Pod, network

pytestmark = pytest.mark.kernel

SUBNET = "10.0.0.0/24"
LONG = "uplink-of-long1"  # 15 bytes


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
