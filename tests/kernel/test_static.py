"""Addresses that are written down, by the reference plugin `static`: for the network, or for one pod."""

import pytest

from tests.lab.world import Host, Json, network

pytestmark = pytest.mark.kernel

DNS = {"nameservers": ["10.0.0.53"], "domain": "example.org", "search": ["example.org"]}


def static(**ipam: object) -> Json:
    keys = {"capabilities": {"ips": True}, "ipam": {"type": "static", **ipam}}
    return network("lan", "eth0.10", cniVersion="1.0.0", **keys)


@pytest.mark.parametrize("mode", ["bridge", "l2"])
def test_addresses_routes_and_dns_of_the_configuration(host: Host, mode: str) -> None:
    router = host.uplink()
    (pod,) = host.pods("p1")
    router.ip("link", "add", "link", "trunk", "name", "trunk.10", "type", "vlan", "id", "10")
    router.ip("address", "add", "10.0.0.1/24", "dev", "trunk.10")
    router.ip("link", "set", "trunk.10", "up")
    conf = static(
        addresses=[{"address": "10.0.0.7/24", "gateway": "10.0.0.1"}, {"address": "2001:db8::7/64"}],
        routes=[{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.0.0.2"}],
        dns=DNS,
    )
    conf["mode"] = mode

    result = pod.attach(conf)

    assert pod.addresses() == ["10.0.0.7/24", "2001:db8::7/64"]
    routes = {r["dst"]: r.get("gateway") for r in pod.ip("-4", "route")}
    assert routes == {"default": "10.0.0.1", "10.9.0.0/16": "10.0.0.2", "10.0.0.0/24": None}
    assert result["dns"] == DNS
    assert pod.reaches("10.0.0.1")
    assert pod.check(conf, result).status == 0
    pod.ip("route", "delete", "10.9.0.0/16")
    assert "10.9.0.0/16" in pod.check(conf, result).msg
    pod.detach(conf)
    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


def test_addresses_and_gateway_of_cni_args(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    conf = static(routes=[{"dst": "0.0.0.0/0"}])
    given = {"CNI_ARGS": "IP=10.0.0.8/24,2001:db8::8/64;GATEWAY=10.0.0.1"}

    result = pod.attach(conf, **given)

    assert pod.addresses() == ["10.0.0.8/24", "2001:db8::8/64"]
    assert (pod.default_route() or {})["gateway"] == "10.0.0.1"
    assert pod.check(conf, result, **given).status == 0
    pod.detach(conf, **given)
    assert host.state() == []


def test_addresses_of_the_runtime_replace_those_of_the_configuration(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    conf = static(addresses=[{"address": "10.0.0.7/24"}])
    conf["runtimeConfig"] = {"ips": ["10.0.0.9/24", "2001:db8::9/64"]}

    result = pod.attach(conf)

    assert pod.addresses() == ["10.0.0.9/24", "2001:db8::9/64"]
    assert pod.check(conf, result).status == 0
    pod.detach(conf)
    assert host.state() == []


@pytest.mark.parametrize(
    ("args", "words"),
    [("IP=10.0.0.8", "10.0.0.8"), ("", "returned no address")],
)
def test_an_address_that_is_wrong_or_missing_is_told_and_leaves_nothing(
    host: Host, args: str, words: str
) -> None:
    host.uplink()
    (pod,) = host.pods("p1")

    reply = pod.add(static(), CNI_ARGS=args)

    assert (reply.status, words in reply.msg) == (1, True)
    assert [link["ifname"] for link in pod.ip("link")] == ["lo"]
    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []
