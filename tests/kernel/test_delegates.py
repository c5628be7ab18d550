"""Other programs around us: IPAM plugins good and bad, the reference plugins, and chains."""

import json
from pathlib import Path

import pytest

from tests.kernel.conftest import ONE_SHOT
from tests.lab.world import Host, Json, Pod, lasting, network

pytestmark = pytest.mark.kernel

HOST_LOCAL: Json = {"type": "host-local", "dataDir": "/var/lib/cni/networks"}
RANGES = [[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.20", "gateway": "10.0.0.1"}]]
ROUTES = [{"dst": "0.0.0.0/0"}]
REFERENCE = Path("/usr/lib/cni")


def script(host: Host, name: str, body: str) -> None:
    """Put a program of that name into CNI_PATH; it appends its verb to a log."""
    path = host.scratch / "bin" / name
    path.write_text(f"#!/bin/sh\necho $CNI_COMMAND >> {host.scratch}/log\n{body}\n")
    path.chmod(0o755)


def verbs(host: Host) -> list[str]:
    return (host.scratch / "log").read_text().split()


ANSWER = json.dumps({"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.9/24"}]})
BAD = {
    "error": (
        """echo '{"code": 77, "msg": "no lease today", "details": "try later"}'; exit 1""",
        77,
        "no lease today",
    ),
    "crash": ("kill -SEGV $$", 130, "killed by signal 11"),
    "silent-failure": ("echo out of cheese >&2; exit 3", 130, "exit status 3"),
    "rubbish": ("echo this is no JSON", 130, "its output is not JSON"),
    "rubbish-result": ("""echo '{"ips": [7]}'""", 6, "parse result"),
    "no-address": ("""echo '{"cniVersion": "1.1.0"}'""", 7, "returned no address"),
    "hang": ("exec sleep 600", 130, "no answer in 2 s, killed"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_delegate_that_fails_in_add_leaves_nothing(host: Host, fault: str) -> None:
    body, code, words = BAD[fault]
    host.uplink()
    (pod,) = host.pods("p1")
    script(host, "bad-ipam", f"[ $CNI_COMMAND = ADD ] || exit 0\n{body}")

    reply = pod.add(network("lan", "eth0.10", ipam={"type": "bad-ipam"}, ipamTimeout=2))

    assert (reply.status, reply.code) == (1, code)
    assert words in reply.msg
    assert verbs(host) == ["ADD", "DEL"]
    assert [link["ifname"] for link in pod.ip("link")] == ["lo"]
    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


@pytest.mark.parametrize("fault", ["error", "crash", "hang"])
@pytest.mark.parametrize("verb", ["DEL", "CHECK"])
def test_a_delegate_that_fails_later_is_told(host: Host, verb: str, fault: str) -> None:
    body, code, words = BAD[fault]
    host.uplink()
    (pod,) = host.pods("p1")
    script(host, "bad-ipam", f"[ $CNI_COMMAND = {verb} ] || {{ echo '{ANSWER}'; exit 0; }}\n{body}")
    conf = network("lan", "eth0.10", ipam={"type": "bad-ipam"}, ipamTimeout=2)
    result = pod.attach(conf)

    if verb == "CHECK":
        reply = pod.check(conf, result)
        assert (reply.code, f"[{code}]" in reply.msg) == (120, True)
    else:
        reply = pod.delete(conf)
        assert reply.code == code
        assert set(host.links()) == {"lo", "eth0"}  # link and parent go whatever IPAM does
        assert not pod.has_link("eth0")
        assert host.state() == []
    assert words in reply.msg


def test_host_local_as_delegate(host: Host) -> None:
    host.uplink()
    one, other = host.pods("p1", "p2")
    conf = network("lan", "eth0.10", cniVersion="1.0.0")
    conf["ipam"] = {**HOST_LOCAL, "ranges": RANGES, "routes": ROUTES}

    result = one.attach(conf)
    other.attach(conf)

    assert one.addresses() == ["10.0.0.20/24"]
    assert one.check(conf, result).status == 0
    assert one.reaches("10.0.0.21")
    one.detach(conf)
    other.detach(conf)
    assert [name for name in host.state() if "10.0.0" in name] == []


def test_static_as_delegate_keeps_its_dns(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    conf = network("lan", "eth0.10", cniVersion="1.0.0")
    dns = {"nameservers": ["10.0.0.53"], "search": ["example.org"]}
    conf["ipam"] = {
        "type": "static",
        "addresses": [{"address": "10.0.0.7/24", "gateway": "10.0.0.1"}],
        "dns": dns,
    }

    result = pod.attach(conf)

    assert pod.addresses() == ["10.0.0.7/24"]
    assert result["dns"] == dns
    pod.detach(conf)
    assert pod.attach({**conf, "dns": {"nameservers": ["10.9.9.9"]}})["dns"] == {"nameservers": ["10.9.9.9"]}


MACVLAN_KEYS: list[Json] = [
    {},
    {"mode": "private", "mtu": 1300},
    {"runtimeConfig": {"mac": "02:00:00:00:00:01"}},
    {"ipam": {}},
]


@pytest.mark.parametrize(
    ("plugin", "keys"),
    [
        *(
            pytest.param("macvlan", {"master": "eth0", **keys}, marks=pytest.mark.macvlan)
            for keys in MACVLAN_KEYS
        ),
        ("ipvlan", {"master": "eth0"}),
        ("ipvlan", {"master": "eth0", "mode": "l3", "mtu": 1400}),
    ],
)
def test_a_reference_configuration_does_the_same_with_its_type_changed(
    host: Host, plugin: str, keys: Json
) -> None:
    host.uplink()
    theirs, ours = host.pods("p1", "p2")
    ipam = {**HOST_LOCAL, "ranges": RANGES, "routes": [{"dst": "10.9.0.0/16", "gw": "10.0.0.1"}, *ROUTES]}
    conf = {"cniVersion": "1.0.0", "name": "lan", "type": plugin, "ipam": ipam, **keys}
    mode = keys.get("mode") or ("l2" if plugin == "ipvlan" else "bridge")
    renamed = {**conf, "type": "cni-vlan", "mode": mode}

    expected = theirs.attach(conf)
    seen = _seen(theirs)
    theirs.detach(conf)
    result = ours.attach(renamed)

    assert _comparable(result, mode) == _comparable(expected, mode)
    if mode == "l3":  # gateways are ignored there: the device is the way out
        seen["routes"] = [(dst, None, dev) for dst, _via, dev in seen["routes"]]
    assert _seen(ours) == seen
    assert ours.check(renamed, result).status == 0
    ours.detach(renamed)


def _comparable(result: Json, mode: str) -> Json:
    """A result without what differs from pod to pod, and for L3 without the gateways."""
    ips = [ip["address"].partition("/")[2] for ip in result.get("ips", [])]
    routes = [route["dst"] for route in result.get("routes", [])]
    gateways = [ip.get("gateway") for ip in result.get("ips", [])] if mode != "l3" else []
    names = [interface["name"] for interface in result["interfaces"]]
    return {"prefixes": ips, "routes": routes, "gateways": gateways, "interfaces": names}


def _seen(pod: Pod) -> Json:
    """What the kernel shows of an attachment."""
    link = lasting(pod.link())
    routes = [
        (r["dst"], r.get("gateway"), r["dev"]) for r in pod.ip("-4", "route") if r.get("protocol") != "kernel"
    ]
    flags = sorted(set(link["flags"]))
    return {"kind": link["linkinfo"], "mtu": link["mtu"], "routes": sorted(routes), "flags": flags}


def test_a_reference_vlan_configuration_serves_two_pods(host: Host) -> None:
    host.uplink()
    one, other = host.pods("p1", "p2")
    conf = {"cniVersion": "1.0.0", "name": "lan", "type": "cni-vlan", "master": "eth0", "vlanId": 10}
    conf["ipam"] = {**HOST_LOCAL, "type": "cni-ipam", "ranges": RANGES, "routes": ROUTES}

    one.attach(conf)
    other.attach(conf)

    assert (one.addresses(), other.addresses()) == (["10.0.0.20/24"], ["10.0.0.21/24"])
    assert one.reaches("10.0.0.21")


@pytest.mark.parametrize("mode", [pytest.param("bridge", marks=pytest.mark.macvlan), "l2"])
def test_chained_after_a_result_that_names_parent_and_addresses(host: Host, mode: str) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    previous = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0"}],
        "ips": [{"address": "10.0.0.5/24", "gateway": "10.0.0.1", "interface": 0}],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    conf = {**network("lan", cniVersion="1.0.0", mode=mode), "prevResult": previous}

    result = pod.attach(conf)

    assert pod.addresses() == ["10.0.0.5/24"]
    assert (pod.default_route() or {})["gateway"] == "10.0.0.1"
    assert pod.link()["link_index"] == host.links()["eth0"]["ifindex"]
    assert [i["name"] for i in result["interfaces"]] == ["eth0", "eth0"]
    assert result["ips"][0]["interface"] == 1


def test_tuning_and_sbr_work_after_us_and_check_allows_it(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    conf = network("lan", "eth0.10", {"subnet": "10.0.0.0/24"}, cniVersion="1.0.0")
    result = pod.attach(conf)
    chain: Json = {"cniVersion": "1.0.0", "name": "lan", "prevResult": result}

    tuned = pod.attach({**chain, "type": "tuning", "mac": "02:00:00:00:00:07", "sysctl": {}})
    routed = pod.attach({**chain, "type": "sbr", "prevResult": tuned})

    assert pod.link()["address"] == "02:00:00:00:00:07"
    assert pod.check(conf, routed).status == 0
    pod.delete({**chain, "type": "sbr", "prevResult": routed})
    pod.detach(conf)
    assert host.state() == []


def test_bandwidth_refuses_us_and_nothing_is_left_after_delete(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    conf = network("lan", "eth0.10", {"subnet": "10.0.0.0/24"}, cniVersion="1.0.0")
    result = pod.attach(conf)
    limit = {"ingressRate": 1000, "ingressBurst": 1000}

    reply = pod.add(
        {"cniVersion": "1.0.0", "name": "lan", "type": "bandwidth", "prevResult": result, **limit}
    )

    assert reply.status == 1
    pod.detach(conf)
    assert host.state() == []
    assert set(host.links()) == {"lo", "eth0"}


@pytest.mark.parametrize(
    "plugin",
    [*(pytest.param(kind, marks=pytest.mark.macvlan) for kind in ("macvlan", "ptp", "bridge")), "ipvlan"],
)
@pytest.mark.parametrize("name", ["cni-ipam", "host-local"])
def test_cni_ipam_serves_the_reference_plugins(host: Host, plugin: str, name: str) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    if name == "host-local":
        (host.scratch / "bin" / name).symlink_to(ONE_SHOT / "cni-ipam")
    keys = {"master": "eth0"} if plugin.endswith("vlan") else {"bridge": "br7"} if plugin == "bridge" else {}
    ipam = {"type": name, "ranges": RANGES, "routes": ROUTES, "dataDir": "/var/lib/cni/cni-ipam"}
    conf = {"cniVersion": "1.0.0", "name": "lan", "type": plugin, "ipam": ipam, **keys}

    result = pod.attach(conf)

    assert pod.addresses() == ["10.0.0.20/24"]
    assert pod.check(conf, result).status == 0
    pod.detach(conf)
    assert host.state() == []
