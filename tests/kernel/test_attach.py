"""The main job: pods on a VLAN, from ADD to the last DEL."""

import pytest

from tests.lab.world import Host, Json, lasting, network

pytestmark = pytest.mark.kernel

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
LAN = network("lan", "eth0.10", "10.0.10.0/24", "2001:db8:10::/64")


@pytest.mark.parametrize("version", VERSIONS)
def test_add_check_delete_delete(host: Host, version: str) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    conf = {**LAN, "cniVersion": version}

    result = pod.attach(conf)

    assert pod.addresses() == ["10.0.10.2/24", "2001:db8:10::2/64"]
    assert result["cniVersion"] == version
    assert _addresses_of(result) == ["10.0.10.2/24", "2001:db8:10::2/64"]
    checked = pod.check(conf, result)
    if version < "0.4.0":
        assert (checked.code, "does not allow CHECK" in checked.msg) == (1, True)
    else:
        assert (checked.status, checked.stdout) == (0, "")
    pod.detach(conf)
    pod.detach(conf)
    assert set(host.links()) == {"lo", "eth0"}
    assert not pod.has_link("eth0")
    assert host.state() == []


def _addresses_of(result: Json) -> list[str]:
    if "ips" in result:
        return [ip["address"] for ip in result["ips"]]
    return [result[key]["ip"] for key in ("ip4", "ip6")]


@pytest.mark.parametrize("mode", ["bridge", "l2", "l3", "l3s"])
def test_two_pods_share_an_auto_created_vlan_until_the_last_leaves(host: Host, mode: str) -> None:
    host.uplink()
    first, second = host.pods("p1", "p2")
    conf = {**LAN, "mode": mode}

    first.attach(conf)
    second.attach(conf)

    vlan = host.links()["eth0.10"]
    assert vlan["linkinfo"]["info_data"]["id"] == 10
    assert vlan["link"] == "eth0"
    assert {"UP", "LOWER_UP"} <= set(vlan["flags"])
    assert first.link()["linkinfo"]["info_data"]["mode"] == mode
    assert first.reaches("10.0.10.3")
    assert second.reaches("2001:db8:10::2")
    first.detach(conf)
    assert "eth0.10" in host.links()
    second.detach(conf)
    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


def test_a_sub_interface_that_was_there_is_used_and_left_alone(host: Host) -> None:
    host.uplink()
    host.ip("link", "add", "link", "eth0", "name", "eth0.10", "type", "vlan", "id", "10")
    host.ip("link", "set", "eth0.10", "up")
    before = lasting(host.links()["eth0.10"])
    (pod,) = host.pods("p1")

    pod.attach(LAN)
    pod.detach(LAN)

    assert lasting(host.links()["eth0.10"]) == before


def test_a_vlan_reaches_the_router_and_what_is_behind_it(host: Host) -> None:
    router = host.uplink()
    router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    for vlan in (10, 20):
        router.ip("link", "add", "link", "trunk", "name", f"v{vlan}", "type", "vlan", "id", str(vlan))
        router.ip("address", "add", f"10.0.{vlan}.1/24", "dev", f"v{vlan}")
        router.ip("link", "set", f"v{vlan}", "up")
    one, other = host.pods("p1", "p2")

    one.attach(network("ten", "eth0.10", "10.0.10.0/24"))
    other.attach(network("twenty", "eth0.20", "10.0.20.0/24"))

    assert one.reaches("10.0.10.1")
    assert one.reaches("10.0.20.2")


def test_ipam_failure_leaves_no_link(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    conf = {**LAN, "ipam": {"type": "no-such-plugin"}}

    reply = pod.add(conf)

    assert (reply.status, reply.code) == (1, 130)
    assert "no-such-plugin" in reply.msg
    assert set(host.links()) == {"lo", "eth0"}
    assert [link["ifname"] for link in pod.ip("link")] == ["lo"]
    assert host.state() == []


def test_delete_succeeds_when_the_sandbox_is_gone(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    pod.attach(LAN)
    host.run("ip", "netns", "delete", "p1")

    pod.detach(LAN)

    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


def test_delete_succeeds_with_an_empty_netns(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    pod.attach(LAN)
    host.run("ip", "netns", "delete", "p1")

    pod.detach(LAN, CNI_NETNS="")

    assert host.state() == []


def test_delete_succeeds_when_the_uplink_is_gone(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    pod.attach(LAN)
    host.ip("link", "delete", "eth0")

    pod.detach(LAN)

    assert host.state() == []


def test_add_fails_when_the_interface_name_is_taken(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    pod.ip("link", "add", "eth0", "type", "dummy")
    before = pod.ip("link")

    reply = pod.add(LAN)

    assert (reply.status, reply.code) == (1, 101)
    assert "eth0" in reply.msg
    assert pod.ip("link") == before
    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


def test_a_second_add_of_the_same_attachment_changes_nothing(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    result = pod.attach(LAN)

    reply = pod.add(LAN)

    assert reply.code == 101
    assert pod.check(LAN, result).status == 0
    assert "eth0.10" in host.links()


def test_the_requested_address_is_given(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")

    pod.attach({**LAN, "runtimeConfig": {"ips": ["10.0.10.77/24"]}})

    assert pod.addresses() == ["10.0.10.77/24", "2001:db8:10::2/64"]


def test_result_tells_what_the_kernel_shows(host: Host) -> None:
    host.uplink()
    host.ip("link", "set", "eth0", "mtu", "1400")
    (pod,) = host.pods("p1")

    result = pod.attach(LAN)

    link = pod.link()
    assert result["interfaces"] == [
        {"name": "eth0", "mac": link["address"], "mtu": 1400, "sandbox": pod.netns}
    ]
    assert link["mtu"] == 1400
    assert [ip["interface"] for ip in result["ips"]] == [0, 0]
    assert result["routes"] == [
        {"dst": "0.0.0.0/0", "gw": "10.0.10.1"},
        {"dst": "::/0", "gw": "2001:db8:10::1"},
    ]
    assert [r["gateway"] for r in map(pod.default_route, (4, 6)) if r] == ["10.0.10.1", "2001:db8:10::1"]


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (["addr", "del", "10.0.10.2/24", "dev", "eth0"], "address 10.0.10.2/24 is missing"),
        (["route", "del", "default"], "route 0.0.0.0/0 via 10.0.10.1 is missing"),
        (["link", "set", "eth0", "down"], "'down', not 'up'"),
        (["link", "set", "eth0", "mtu", "1300"], "MTU 1300, not 1500"),
        (["link", "set", "eth0", "address", "02:00:00:00:00:01"], "MAC address '02:00:00:00:00:01'"),
        (["link", "del", "eth0"], "eth0 is missing"),
    ],
)
def test_check_names_the_difference(host: Host, break_it: list[str], words: str) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    result = pod.attach(LAN)
    host.cache(pod, LAN)

    pod.ip(*break_it)

    reply = pod.check(LAN, result)
    assert reply.code == 120
    assert words in reply.msg


@pytest.mark.parametrize("known", [True, False])
def test_check_allows_what_a_chained_plugin_may_have_set(host: Host, *, known: bool) -> None:
    """Tuning tells no MTU in its result, and CRI-O runs CHECK after each ADD."""
    host.uplink()
    (pod,) = host.pods("p1")
    result = pod.attach(LAN)
    if known:
        host.cache(pod, LAN, {"type": "tuning", "mtu": 1400})
        pod.ip("link", "set", "eth0", "address", "02:00:00:00:00:01")

    pod.ip("link", "set", "eth0", "mtu", "1400")

    assert pod.check(LAN, result).status == 0
    pod.ip("link", "set", "eth0", "down")
    assert "'down', not 'up'" in pod.check(LAN, result).msg


def test_check_names_a_lost_lease(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    result = pod.attach(LAN)

    host.run("rm", "-r", "/var/lib/cni/cni-ipam/lan")

    reply = pod.check(LAN, result)
    assert reply.code == 120
    assert "holds no address" in reply.msg


@pytest.mark.macvlan
def test_names_that_are_long_are_cut_in_the_alias_alone(host: Host) -> None:
    """The kernel takes 254 bytes of it."""
    host.uplink()
    (pod,) = host.pods("p1")
    conf = {
        **network("n" * 190, "eth0", "10.0.0.0/24"),
        "ipam": {"type": "cni-ipam", "subnet": "10.0.0.0/24"},
    }

    pod.attach(conf, CNI_CONTAINERID="c" * 64)
    alias = pod.link()["ifalias"]
    pod.detach(conf, CNI_CONTAINERID="c" * 64)

    assert alias.startswith(f"cni-vlan child: {'c' * 64} nnn")
    assert not pod.has_link("eth0")
    assert host.state() == []


@pytest.mark.macvlan
def test_what_was_attached_to_the_plugin_s_own_namespace_is_detached_from_it(host: Host) -> None:
    host.uplink()
    conf = network("lan", "eth0", "10.0.0.0/24", announce=0)
    own = {
        "CNI_CONTAINERID": "c1", "CNI_NETNS": f"/proc/{host.holder}/ns/net", "CNI_NETNS_OVERRIDE": "1",
        "CNI_IFNAME": "mv0",
    }  # fmt: skip

    added = host.plugin("ADD", conf, None, "mv0", **own)
    attached = set(host.links())
    deleted = host.plugin("DEL", conf, None, "mv0", **own)

    assert (added.status, deleted.status) == (0, 0)
    assert attached == {"lo", "eth0", "mv0"}
    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []
