"""ADD: what the result says is what is there (spec 1.1.0, sections 2 and 5)."""

import ipaddress
from concurrent.futures import ThreadPoolExecutor

import pytest

from conformance.spec import judge
from conformance.spec.conftest import NUMBERS
from tests.lab.world import Host, Json, Pod


def test_the_result_is_what_is_there(version: str, conf: Json, pod: Pod) -> None:
    result = judge.accepted(pod.add({**conf, "cniVersion": version}))

    (own,) = [entry for entry in result["interfaces"] if entry.get("sandbox")]
    link = pod.link("eth0")
    assert own["sandbox"] == pod.netns
    assert (own["name"], own["mac"]) == ("eth0", link["address"])
    assert "UP" in link["flags"]
    assert [ip["address"] for ip in result["ips"]] == pod.addresses()
    assert pod.default_route()


def test_addresses_are_told_as_the_version_tells_them(version: str, conf: Json, pod: Pod) -> None:
    result = judge.accepted(pod.add({**conf, "cniVersion": version}))

    (ip,) = result["ips"]
    assert ipaddress.ip_interface(ip["address"]).version == 4
    assert ip.get("version") == ("4" if version < "1.0.0" else None)
    assert result["interfaces"][ip["interface"]]["name"] == "eth0"


@pytest.mark.parametrize("name", ["eth0", "net1", "a", "x" * 15, "eth0.7", "_-@"])
def test_any_name_that_linux_allows(name: str, conf: Json, pod: Pod) -> None:
    result = judge.accepted(pod.add({**conf, "cniVersion": "1.0.0"}, name))

    assert pod.has_link(name)
    assert name in [entry["name"] for entry in result["interfaces"]]


def test_a_name_that_is_taken_is_refused(version: str, conf: Json, pod: Pod) -> None:
    pod.run("ip", "link", "add", "eth0", "type", "bridge")
    before = pod.link("eth0")

    judge.refused(pod.add({**conf, "cniVersion": version}))

    assert pod.link("eth0")["linkinfo"] == before["linkinfo"]
    assert len(pod.ip("link")) == 2, "left in the sandbox"


def test_a_second_add_is_refused_and_harms_nothing(version: str, conf: Json, pod: Pod) -> None:
    network = {**conf, "cniVersion": version}
    judge.accepted(pod.add(network))
    before = pod.addresses()

    judge.refused(pod.add(network))

    assert pod.addresses() == before
    assert len(pod.ip("link")) == 2, "left in the sandbox"


def test_two_interfaces_in_one_pod(version: str, conf: Json, pod: Pod) -> None:
    network = {**conf, "cniVersion": version}
    judge.accepted(pod.add(network, "net1"))
    judge.accepted(pod.add(network, "net2"))

    assert pod.addresses("net1") != pod.addresses("net2")
    judge.silent(pod.delete(network, "net1"))
    assert not pod.has_link("net1")
    assert pod.has_link("net2")


def test_a_route_that_cannot_be_set_leaves_nothing(version: str, conf: Json, pod: Pod) -> None:
    routes = [{"dst": "10.99.0.0/16", "gw": "2001:db8::1"}]

    judge.refused(pod.add({**conf, "cniVersion": version, "ipam": {**conf["ipam"], "routes": routes}}))

    judge.untouched(pod)


def test_a_refused_add_keeps_no_address(version: str, host: Host, conf: Json, pod: Pod) -> None:
    """Of a subnet with few addresses, refused calls use none up."""
    ipam = {**conf["ipam"], "subnet": "10.2.0.0/29"}
    network = {**conf, "cniVersion": version, "ipam": ipam}
    broken = {**network, "ipam": {**ipam, "routes": [{"dst": "10.99.0.0/16", "gw": "2001:db8::1"}]}}
    for _ in range(8):
        judge.refused(pod.add(broken))
        for link in pod.ip("link")[1:]:
            pod.run("ip", "link", "delete", link["ifname"])

    judge.accepted(host.namespace(f"pod{next(NUMBERS)}").add(network))


def test_ten_at_once(version: str, host: Host, conf: Json) -> None:
    network = {**conf, "cniVersion": version}
    pods = [host.namespace(f"pod{next(NUMBERS)}") for _ in range(10)]

    with ThreadPoolExecutor(len(pods)) as pool:
        replies = list(pool.map(lambda pod: pod.add(network), pods))

    given = {judge.accepted(reply)["ips"][0]["address"] for reply in replies}
    assert len(given) == len(pods)
