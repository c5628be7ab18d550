"""Routes: explicit and implied, on-link gateways, and the fields of CNI 1.1."""

import pytest

from tests.lab.world import Host, Json, network

pytestmark = pytest.mark.kernel


def conf_with(routes: list[Json], *subnets: Json, **keys: object) -> Json:
    conf = network("lan", "eth0", *(subnets or ({"subnet": "10.0.0.0/24"},)), **keys)
    conf["ipam"]["routes"] = routes
    return conf


@pytest.mark.macvlan
def test_every_field_of_a_route_is_applied_and_checked(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    route = {"dst": "10.9.0.0/16", "gw": "10.0.0.9", "table": 300, "scope": 0}
    route |= {"mtu": 1300, "advmss": 1200, "priority": 7}
    conf = conf_with([route, {"dst": "10.8.0.0/16", "scope": 253, "table": 5}])

    result = pod.attach(conf)

    shown = pod.ip("-4", "route", "show", "table", "300")[0]
    assert (shown["dst"], shown["gateway"], shown["metric"]) == ("10.9.0.0/16", "10.0.0.9", 7)
    assert shown["metrics"] == [{"mtu": 1300, "advmss": 1200}]
    link_route = pod.ip("-4", "route", "show", "table", "5")[0]
    assert (link_route["dst"], link_route["scope"], link_route.get("gateway")) == (
        "10.8.0.0/16",
        "link",
        None,
    )
    assert pod.check(conf, result).status == 0
    pod.run("ip", "route", "del", "10.9.0.0/16", "table", "300")
    assert "route 10.9.0.0/16 via 10.0.0.9 is missing" in pod.check(conf, result).msg


@pytest.mark.macvlan
def test_a_gateway_outside_the_subnet_is_on_link(host: Host) -> None:
    router = host.uplink()
    router.ip("address", "add", "169.254.1.1/32", "dev", "trunk")
    router.run("ip", "route", "add", "10.0.0.0/24", "dev", "trunk")
    (pod,) = host.pods("p1")
    items = (
        {"subnet": "10.0.0.7/32", "gateway": "169.254.1.1"},
        {"subnet": "2001:db8::/64", "gateway": "fe80::1"},
    )
    conf = network("lan", "eth0", *items)

    result = pod.attach(conf)

    assert pod.addresses() == ["10.0.0.7/32", "2001:db8::1/64"]
    assert pod.reaches("169.254.1.1")
    assert (pod.default_route(6) or {})["gateway"] == "fe80::1"
    assert pod.check(conf, result).status == 0  # a /32 has no connected route, and needs none


@pytest.mark.macvlan
def test_an_explicit_default_route_replaces_the_implied_one(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")

    result = pod.attach(conf_with([{"dst": "0.0.0.0/0", "gw": "10.0.0.5", "priority": 50}]))

    assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.0.0.5", "priority": 50}]
    defaults = [(r["gateway"], r["metric"]) for r in pod.ip("-4", "route", "show", "default")]
    assert defaults == [("10.0.0.5", 50)]


@pytest.mark.macvlan
def test_the_host_local_schema_implies_no_default_route(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    conf = network("lan", "eth0", ipam={"type": "cni-ipam", "subnet": "10.0.0.0/24"})

    result = pod.attach(conf)

    assert pod.default_route() is None
    assert "routes" not in result
    assert result["ips"][0]["gateway"] == "10.0.0.1"


def test_the_first_network_of_a_pod_keeps_the_default_route_of_its_family(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    first = network("first", "eth0.10", "10.0.0.0/24")
    second = network("second", "eth0.20", "10.1.0.0/24", "2001:db8::/64")

    pod.attach(first)
    result = pod.attach(second, "eth1")

    assert [(r["gateway"], r["dev"]) for r in pod.ip("-4", "route", "show", "default")] == [
        ("10.0.0.1", "eth0")
    ]
    assert (pod.default_route(6) or {})["dev"] == "eth1"
    assert result["routes"] == [{"dst": "::/0", "gw": "2001:db8::1"}]
    assert pod.check(second, result, "eth1").status == 0


@pytest.mark.macvlan
@pytest.mark.parametrize("route", [{"dst": "10.9.0.0/16", "gw": "2001:db8::1"}, {"dst": "nonsense"}])
def test_a_route_that_cannot_be_leaves_nothing(host: Host, route: Json) -> None:
    host.uplink()
    (pod,) = host.pods("p1")

    reply = pod.add(conf_with([route]))

    assert reply.status == 1
    assert route["dst"] in reply.msg
    assert [link["ifname"] for link in pod.ip("link")] == ["lo"]
    assert host.state() == []
