"""Modes, flags and link options: what the kernel shows, and who reaches whom."""

import pytest

from tests.lab.world import Host, Json, Pod, network

pytestmark = pytest.mark.kernel

SUBNET = "10.0.0.0/24"


def pair(host: Host, **keys: object) -> tuple[Pod, Pod, Pod]:
    """Two pods on one network, and the router at 10.0.0.1."""
    router = host.uplink()
    router.ip("address", "add", "10.0.0.1/24", "dev", "trunk")
    one, other = host.pods("p1", "p2")
    for pod in (one, other):
        pod.attach(network("lan", "eth0", SUBNET, **keys))
    return one, other, router


@pytest.mark.parametrize(
    ("keys", "between"),
    [
        pytest.param({"mode": "bridge"}, "reply", marks=pytest.mark.macvlan),
        pytest.param({"mode": "private"}, "silence", marks=pytest.mark.macvlan),
        pytest.param({"mode": "vepa"}, "silence", marks=pytest.mark.macvlan),
        pytest.param({"macvlan_mode": "private"}, "silence", marks=pytest.mark.macvlan),
        ({"mode": "l2"}, "reply"),
        ({"mode": "l2", "flag": "private"}, "silence"),
        ({"ipvlan_mode": "l2", "ipvlan_flag": "vepa"}, "silence"),
    ],
)
def test_who_reaches_whom(host: Host, keys: Json, between: str) -> None:
    one, other, _router = pair(host, **keys)

    assert one.ping("10.0.0.3") == between
    assert one.reaches("10.0.0.1")
    shown = other.run("ip", "-d", "link", "show", "eth0").stdout.split()
    mode = keys.get("mode") or keys.get("macvlan_mode") or keys.get("ipvlan_mode")
    assert other.link()["linkinfo"]["info_data"]["mode"] == mode
    assert (keys.get("flag") or keys.get("ipvlan_flag") or mode) in shown


@pytest.mark.macvlan
def test_passthru_has_the_parent_for_itself(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")

    pod.attach(network("lan", "eth0", SUBNET, mode="passthru"))

    assert pod.link()["linkinfo"]["info_data"]["mode"] == "passthru"
    assert pod.link()["address"] == host.links()["eth0"]["address"]


@pytest.mark.macvlan
def test_source_mode_lets_its_list_in(host: Host) -> None:
    router = host.uplink()
    router.ip("address", "add", "10.0.0.1/24", "dev", "trunk")
    mac = router.ip("link", "show", "trunk")[0]["address"]
    one, other = host.pods("p1", "p2")

    one.attach(network("lan", "eth0", SUBNET, mode="source", macAddresses=[mac, "02:00:00:00:00:01"]))
    other.attach(network("lan", "eth0", SUBNET, mode="source", macAddresses=["02:00:00:00:00:02"]))

    shown = one.run("ip", "-d", "link", "show", "eth0").stdout
    assert "mode source" in shown
    assert mac in shown
    assert one.reaches("10.0.0.1")
    assert other.ping("10.0.0.1") == "silence"


@pytest.mark.macvlan
def test_bcqueuelen(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")

    pod.attach(network("lan", "eth0", SUBNET, bcqueuelen=4242))

    assert pod.link()["linkinfo"]["info_data"]["bcqueuelen"] == 4242


@pytest.mark.macvlan
@pytest.mark.parametrize(
    ("keys", "environment", "mac"),
    [
        ({"mac": "02:00:00:00:00:01"}, {}, "02:00:00:00:00:01"),
        (
            {"mac": "02:00:00:00:00:01", "args": {"cni": {"mac": "02:00:00:00:00:02"}}},
            {},
            "02:00:00:00:00:02",
        ),
        (
            {"mac": "02:00:00:00:00:01", "args": {"cni": {"mac": "02:00:00:00:00:02"}}},
            {"CNI_ARGS": "IgnoreUnknown=1;MAC=02:00:00:00:00:03;OTHER=x"},
            "02:00:00:00:00:03",
        ),
        (
            {"args": {"cni": {"mac": "02:00:00:00:00:02"}}, "runtimeConfig": {"mac": "02-00-00-00-00-0A"}},
            {"CNI_ARGS": "MAC=02:00:00:00:00:03"},
            "02:00:00:00:00:0a",
        ),
    ],
    ids=["conf", "args", "CNI_ARGS", "runtimeConfig"],
)
def test_the_mac_address_has_four_sources(
    host: Host, keys: Json, environment: dict[str, str], mac: str
) -> None:
    host.uplink()
    (pod,) = host.pods("p1")

    result = pod.attach(network("lan", "eth0", SUBNET, **keys), **environment)

    assert pod.link()["address"] == mac
    assert result["interfaces"][0]["mac"] == mac


def test_layer_2_only(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    conf = network("lan", "eth0.10")

    result = pod.attach(conf)

    assert "UP" in pod.link()["flags"]
    assert pod.addresses() == []
    assert "ips" not in result
    assert pod.check(conf, result).status == 0
    pod.detach(conf)
    assert set(host.links()) == {"lo", "eth0"}


@pytest.mark.macvlan
def test_ipv6_settings(host: Host) -> None:
    host.uplink()
    v4, v6, ra = host.pods("v4", "v6", "ra")
    for pod in (v4, v6, ra):
        pod.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.lo.disable_ipv6=1")

    v4.attach(network("v4", "eth0", SUBNET))
    v6.attach(network("v6", "eth0", "2001:db8::/64"))
    ra.attach(network("ra", "eth0", SUBNET, acceptRA=True))

    settings = {
        pod.name: [pod.sysctl(f"ipv6/conf/eth0/{key}") for key in ("disable_ipv6", "accept_ra")]
        for pod in (v4, v6, ra)
    }
    assert settings == {"v4": ["1", "0"], "v6": ["0", "0"], "ra": ["0", "1"]}
    assert v6.sysctl("ipv6/conf/lo/disable_ipv6") == "0"
    assert v4.run("ip", "-6", "address", "show", "dev", "eth0").stdout == ""


@pytest.mark.macvlan
def test_an_ipv6_address_is_usable_at_once(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")

    pod.attach(network("lan", "eth0", "2001:db8::/64"))

    shown = pod.run("ip", "-6", "address", "show", "dev", "eth0", "scope", "global").stdout
    assert "2001:db8::2/64" in shown
    assert "tentative" not in shown


@pytest.mark.macvlan
def test_addresses_survive_a_flap(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    conf = network("lan", "eth0", SUBNET, "2001:db8::/64")
    result = pod.attach(conf)

    pod.ip("link", "set", "eth0", "down")
    pod.ip("link", "set", "eth0", "up")

    assert pod.addresses() == ["10.0.0.2/24", "2001:db8::2/64"]
    assert "route 0.0.0.0/0" in pod.check(conf, result).msg  # the kernel drops routes, and CHECK says so
