"""Calls that cannot work: the right code, a message that says what is wrong, and nothing touched."""

import json

import pytest

from tests.lab.world import Host, Json, network

pytestmark = pytest.mark.kernel

GOOD = network("lan", "eth0.10", "10.0.10.0/24")
ENVIRONMENT = {"CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/p1", "CNI_IFNAME": "eth0"}


def changed(**keys: object) -> str:
    return json.dumps({key: value for key, value in {**GOOD, **keys}.items() if value != "absent"})


def ipam(**keys: object) -> str:
    return changed(ipam={"type": "cni-ipam", **keys})


Case = tuple[str, dict[str, str], str, int, str]
REFUSED_AT_ONCE: list[Case] = [
    ("no-ids", {"CNI_CONTAINERID": "", "CNI_IFNAME": ""}, "{}", 4, "[CNI_CONTAINERID,CNI_IFNAME] missing"),
    ("bad-id", {"CNI_CONTAINERID": "../etc"}, "{}", 4, "invalid characters in containerID"),
    ("long-ifname", {"CNI_IFNAME": "a" * 16}, "{}", 4, "too long"),
    ("slash-ifname", {"CNI_IFNAME": "a/b"}, "{}", 4, "contains / or : or whitespace"),
    ("pattern-ifname", {"CNI_IFNAME": "net%d"}, changed(), 4, "contains %"),
    ("bytes-ifname", {"CNI_IFNAME": "a\udcff"}, changed(), 4, "is not UTF-8"),
    ("dots-ifname", {"CNI_IFNAME": ".."}, "{}", 4, "is . or .."),
    ("unknown-verb", {"CNI_COMMAND": "FROB"}, "{}", 4, "unknown CNI_COMMAND: FROB"),
    ("bad-args", {"CNI_ARGS": "IP"}, changed(), 4, 'invalid pair "IP"'),
    ("unknown-args", {"CNI_ARGS": "FOO=1"}, changed(), 4, 'unknown args ["FOO=1"]'),
    ("no-json", {}, "{nonsense", 6, "decode network configuration"),
    ("no-object", {}, "[1]", 6, "not a JSON object"),
    ("no-name", {}, "{}", 7, "missing network name"),
    ("bad-name", {}, changed(name="a/b"), 7, "invalid characters found in network name"),
    ("bad-version", {}, changed(cniVersion="9.9.9"), 1, "incompatible CNI versions"),
    ("bad-mode", {}, changed(mode="fast"), 7, "mode fast: not a mode of macvlan: private, vepa, bridge"),
    ("bad-type", {}, changed(mtu="big"), 7, "mtu 'big'"),
    ("bad-vlan", {}, changed(parent="eth0.4095"), 7, "vlan 4095 on eth0: a VLAN id is 1 to 4094"),
    ("zero-vlan", {}, changed(parent="eth0", vlan=0), 7, "vlan 0 on eth0"),
    ("loopback", {}, changed(parent="lo"), 7, "parent lo: the loopback interface"),
    ("bad-mac", {}, changed(mac="nope"), 7, "mac nope: not a MAC address"),
    ("multicast-mac", {}, changed(mac="01:00:5e:00:00:01"), 7, "not a unicast address"),
    ("ipvlan-mac", {}, changed(mode="l2", mac="02:00:00:00:00:01"), 2, "mac 02:00:00:00:00:01"),
    ("many", {}, changed(mode="fast", mtu=-1, announce=9), 7, "mode fast"),
    ("nul", {}, changed(parent="eth0\0"), 103, "does not exist"),
    ("surrogate", {}, changed(parent="eth0\ud800"), 103, "does not exist"),
    ("digits", {}, changed(parent="eth0." + "9" * 4400), 7, "longer than 15 bytes"),
    ("missing-uplink", {}, changed(parent="nic7.10"), 103, "uplink nic7 does not exist"),
    ("missing-parent", {}, changed(parent="nic7"), 103, "parent nic7 does not exist"),
    ("no-netns", {"CNI_NETNS": "/run/netns/none"}, changed(), 8, "No such file or directory"),
    ("file-netns", {"CNI_NETNS": "/etc/passwd"}, changed(), 8, "not a network namespace"),
    ("own-netns", {"CNI_NETNS": "/proc/thread-self/ns/net"}, changed(), 8, "of the plugin itself"),
]
REFUSED_BY_IPAM: list[Case] = [  # by then there is a VLAN, which has to go again
    ("host-bits", {}, ipam(subnets=[{"subnet": "10.0.0.1/24"}]), 7, "the network address is 10.0.0.0"),
    ("no-subnet", {}, ipam(subnets=[{}]), 7, "ipam.subnets.0.subnet: field required"),
    ("range", {}, ipam(subnets=[{"subnet": "10.0.0.0/24", "ipRange": "10.1.0.0/25"}]), 7, "not in network"),
    (
        "priority",
        {},
        ipam(subnets=[{"subnet": "10.0.0.0/24"}], routes=[{"dst": "10.1.0.0/16", "priority": -1}]),
        7,
        "priority -1: must be 0 to 4294967295",
    ),
    (
        "scope",
        {},
        ipam(subnets=[{"subnet": "10.0.0.0/24"}], routes=[{"dst": "10.1.0.0/16", "scope": 999}]),
        7,
        "scope 999: must be 0 to 255",
    ),
    (
        "table",
        {},
        ipam(subnets=[{"subnet": "10.0.0.0/24"}], routes=[{"dst": "10.1.0.0/16", "table": 2**33}]),
        7,
        "table 8589934592: must be",
    ),
    ("dir-delegate", {}, changed(ipam={"type": "../x"}), 130, "a type is a file name"),
]
CASES = [
    *(pytest.param(*case[1:], id=case[0], marks=pytest.mark.macvlan) for case in REFUSED_AT_ONCE),
    *(pytest.param(*case[1:], id=case[0]) for case in REFUSED_BY_IPAM),
]


@pytest.mark.parametrize(("environment", "conf", "code", "words"), CASES)
def test_add(host: Host, environment: dict[str, str], conf: str, code: int, words: str) -> None:
    host.uplink()
    (pod,) = host.pods("p1")

    reply = host.plugin(
        environment.pop("CNI_COMMAND", "ADD"), conf, None, "eth0", **{**ENVIRONMENT, **environment}
    )

    assert (reply.status, reply.code) == (1, code)
    assert words in reply.msg
    assert set(host.links()) == {"lo", "eth0"}
    assert [link["ifname"] for link in pod.ip("link")] == ["lo"]
    assert host.state() == []


@pytest.mark.macvlan
def test_every_problem_of_a_configuration_is_told_at_once(host: Host) -> None:
    conf = changed(mode="fast", mtu=-1, mac="x", parent="eth0.0")

    reply = host.plugin("ADD", conf, None, "eth0", **ENVIRONMENT)

    for words in ("mode fast", "mtu -1", "mac x", "vlan 0 on eth0"):
        assert words in reply.msg


def test_an_unknown_key_is_warned_of_with_a_suggestion(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")

    reply = pod.add({**GOOD, "paernt": "eth1"})

    assert reply.status == 0
    assert "unknown key paernt is ignored; did you mean parent?" in reply.stderr


@pytest.mark.macvlan
def test_version_needs_no_environment_and_no_stdin(host: Host) -> None:
    reply = host.plugin("VERSION", "")

    assert reply.document["supportedVersions"] == [
        "0.1.0",
        "0.2.0",
        "0.3.0",
        "0.3.1",
        "0.4.0",
        "1.0.0",
        "1.1.0",
    ]


def test_delete_needs_no_valid_configuration(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    pod.attach(GOOD)
    broken: Json = {**GOOD, "mode": "fast", "mtu": "big", "parent": 7}
    broken["ipam"] = {"type": "cni-ipam", "subnets": "nonsense"}

    pod.detach(broken, CNI_ARGS="rubbish")

    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []
