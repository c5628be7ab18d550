"""Gratuitous ARP and unsolicited neighbour advertisements, as a neighbour sees them."""

import re

import pytest

from tests.lab.waiting import wait_until
from tests.lab.world import Host, Pod, network

pytestmark = pytest.mark.kernel


class Capture:
    """What tcpdump sees on the far end of the uplink."""

    def __init__(self, host: Host, router: Pod, expression: str) -> None:
        self.path = host.scratch / "capture"
        self.process = host.popen(
            "ip", "netns", "exec", router.name, "sh", "-c",
            f"exec tcpdump -nel -i trunk '{expression}' > {self.path} 2>&1",
        )  # fmt: skip
        self.wait_for("listening on", 1)

    def wait_for(self, pattern: str, count: int) -> list[str]:
        """Wait until so many lines match, and return all that do."""
        wait_until(lambda: len(self.lines(pattern)) >= count)
        return self.lines(pattern)

    def lines(self, pattern: str) -> list[str]:
        text = self.path.read_text() if self.path.exists() else ""
        return [line for line in text.splitlines() if re.search(pattern, line)]

    def stop(self) -> str:
        self.process.terminate()
        self.process.wait()
        return self.path.read_text()


@pytest.mark.parametrize("mode", ["bridge", "l2"])
def test_each_address_is_announced_three_times(host: Host, mode: str) -> None:
    router = host.uplink()
    (pod,) = host.pods("p1")
    capture = Capture(host, router, "vlan and (arp or icmp6)")

    pod.attach(network("lan", "eth0.10", "10.0.0.0/24", "2001:db8::/64", mode=mode))

    mac = pod.link()["address"]
    arp = capture.wait_for(r"Request who-has 10\.0\.0\.2 tell 10\.0\.0\.2", 3)
    advertisements = capture.wait_for(r"2001:db8::2 > ff02::1: ICMP6, neighbor advertisement", 3)
    capture.stop()
    assert len(arp) == len(advertisements) == 3
    assert all(f"{mac} > ff:ff:ff:ff:ff:ff" in line and "vlan 10" in line for line in arp)
    assert all(f"{mac} > 33:33:00:00:00:01" in line for line in advertisements)


@pytest.mark.macvlan
def test_a_neighbour_learns_the_new_owner_of_an_address(host: Host) -> None:
    router = host.uplink()
    router.ip("address", "add", "10.0.0.1/24", "dev", "trunk")
    router.ip("address", "add", "2001:db8::1/64", "dev", "trunk", "nodad")
    one, other = host.pods("p1", "p2")
    conf = network("lan", "eth0", "10.0.0.0/24", "2001:db8::/64")
    asked = {**conf, "runtimeConfig": {"ips": ["10.0.0.9", "2001:db8::9"]}}
    one.attach(asked)
    assert router.reaches("10.0.0.9")
    assert router.reaches("2001:db8::9")
    one.detach(asked)

    other.attach(asked)

    mac = other.link()["address"]
    wait_until(lambda: known(router, "10.0.0.9") == known(router, "2001:db8::9") == mac)  # it asked nobody
    assert router.ping("10.0.0.9") == router.ping("2001:db8::9") == "reply"


def known(router: Pod, address: str) -> str:
    """Return the MAC address that the router would send to."""
    entries = router.ip("neigh", "show", "to", address, "dev", "trunk")
    return "".join(entry.get("lladdr", "") for entry in entries)


@pytest.mark.parametrize(("announce", "mode"), [(0, "bridge"), (3, "l3")])
def test_nothing_is_announced_when_not_asked_or_routed(host: Host, announce: int, mode: str) -> None:
    router = host.uplink()
    (pod,) = host.pods("p1")
    capture = Capture(host, router, "arp or icmp6")

    pod.attach(network("lan", "eth0", "10.0.0.0/24", announce=announce, mode=mode))

    router.ip("neigh", "add", "10.0.0.9", "lladdr", "02:00:00:00:00:09", "dev", "trunk")
    router.run(
        "ping", "-c1", "-W1", "-I", "trunk", "10.0.0.8", check=False
    )  # its ARP is the last frame we wait for
    capture.wait_for("who-has 10.0.0.8", 1)
    assert "tell 10.0.0.2" not in capture.stop()
