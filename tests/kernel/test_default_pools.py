"""Networks that name no subnet, and networks that share a pool."""

import ipaddress

import pytest

from tests.lab.world import Host, Json, network

pytestmark = pytest.mark.kernel


def unnamed(name: str, **keys: object) -> Json:
    return network(name, "", driver="macvlan", ipam={"type": "cni-ipam", **keys})


def test_the_lowest_default_pool_that_overlaps_nothing_is_taken_and_kept(host: Host) -> None:
    host.uplink()
    host.ip("address", "add", "172.17.5.1/24", "dev", "eth0")
    one, other, late = host.pods("p1", "p2", "p3")

    first = one.attach(unnamed("first"))["ips"][0]["address"]
    second = other.attach(unnamed("second"))["ips"][0]["address"]
    one.detach(unnamed("first"))
    host.ip("address", "flush", "dev", "eth0")
    again = late.attach(unnamed("first"))["ips"][0]["address"]

    assert (first, second, again) == ("172.18.0.2/16", "172.19.0.2/16", "172.18.0.3/16")


def test_a_default_pool_may_have_ipv6(host: Host) -> None:
    one, other = host.pods("p1", "p2")

    given = [pod.attach(unnamed("lan", ipv6=True))["ips"] for pod in (one, other)]

    v6 = [ipaddress.ip_interface(ips[1]["address"]) for ips in given]
    assert v6[0].network == v6[1].network
    assert v6[0].network.prefixlen == 64
    assert v6[0].ip in ipaddress.ip_network("fd00::/8")
    assert one.reaches(str(v6[1].ip))


def test_status_of_a_default_pool(host: Host) -> None:
    assert host.plugin("STATUS", unnamed("lan")).status == 0
