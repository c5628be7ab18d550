"""Configurations to values, without a kernel: parents by name, and both schemas of cni-ipam."""

import ipaddress
from typing import Any

import pytest

from cni_core import netconf
from cni_core.call import Call
from cni_core.errors import InvalidConfig
from cni_ipam import config as ipam_config
from cni_vlan import config as vlan_config
from cni_vlan.attachment import Claim
from cni_vlan.parents import Existing, Vlan, isolated_parent, parse_parent, short_name

Json = dict[str, Any]


@pytest.fixture(autouse=True)
def _forgetful(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401 - pytest's own
    """Validate each configuration anew."""
    monkeypatch.setattr(netconf, "_CACHE", str(tmp_path / "validated"))


def call(conf: Json) -> Call:
    return Call("ADD", {"cniVersion": "1.1.0", "name": "lan", **conf}, "c1", "/n", "eth0")


def ignore(_warning: str) -> None:
    pass


@pytest.mark.parametrize(
    ("name", "uplink", "vlan_id"),
    [("eth0.50", "eth0", 50), ("bond0.100.200", "bond0.100", 200), ("eth0.007", "eth0", 7)],
)
def test_a_parent_is_split_at_its_last_dot(name: str, uplink: str, vlan_id: int) -> None:
    parent = parse_parent(name, "802.1q")

    assert isinstance(parent, Vlan)
    assert (parent.name, parent.uplink.name, parent.vlan_id) == (name, uplink, vlan_id)


@pytest.mark.parametrize("name", ["eth0", "foo", "br.lan", ".5", "eth0."])
def test_other_names_are_interfaces_as_they_are(name: str) -> None:
    assert parse_parent(name, "802.1q") == Existing(name)


def test_short_names_fit_and_differ() -> None:
    names = [short_name(f"averylonguplink.{number}") for number in range(100)]

    assert all(len(name) <= 15 for name in names)
    assert len(set(names)) == 100
    assert len(isolated_parent("a-network-with-a-long-name", "ipvlan").name) == 15


@pytest.mark.parametrize(
    ("conf", "claim"),
    [
        ({}, Claim("macvlan", "bridge", "")),
        ({"mode": "l3s"}, Claim("ipvlan", "l3s", "bridge")),
        ({"driver": "ipvlan"}, Claim("ipvlan", "l2", "bridge")),
        ({"ipvlan_flag": "vepa"}, Claim("ipvlan", "l2", "vepa")),
        ({"macvlan_mode": "source"}, Claim("macvlan", "source", "")),
    ],
)
def test_driver_mode_and_flag(conf: Json, claim: Claim) -> None:
    assert vlan_config.parse(call({"parent": "eth0", **conf}), ignore).claim == claim


def test_a_valid_configuration_is_remembered_with_its_warnings() -> None:
    heard: list[str] = []
    for _ in range(2):
        vlan_config.parse(call({"parent": "eth0", "mood": "l2"}), heard.append)

    assert heard == ["unknown key mood is ignored; did you mean mode?"] * 2


def ipam(**keys: object) -> ipam_config.AllocationRequest:
    return ipam_config.parse(call({"ipam": {"type": "cni-ipam", **keys}}), ignore)


def test_docker_subnets_give_one_set_for_each_family() -> None:
    request = ipam(subnets=[{"subnet": s} for s in ("10.0.0.0/24", "2001:db8::/64", "10.0.1.0/24")])

    sets = [[str(item.subnet) for item in range_set.ranges] for range_set in request.range_sets]
    assert sets == [["10.0.0.0/24", "10.0.1.0/24"], ["2001:db8::/64"]]
    assert request.implied_default


def test_host_local_ranges_give_one_set_each_after_those_of_the_runtime() -> None:
    conf = {"type": "cni-ipam", "subnet": "10.0.0.0/24", "ranges": [[{"subnet": "10.0.1.0/24"}]]}
    runtime = {"ipRanges": [[{"subnet": "10.0.2.0/24"}]]}

    request = ipam_config.parse(call({"ipam": conf, "runtimeConfig": runtime}), ignore)

    sets = [str(range_set.ranges[0].subnet) for range_set in request.range_sets]
    assert sets == ["10.0.2.0/24", "10.0.0.0/24", "10.0.1.0/24"]
    assert not request.implied_default


@pytest.mark.parametrize(
    ("item", "given"),
    [
        ({"subnet": "10.0.0.0/29"}, "2 3 4 5 6"),
        ({"subnet": "10.0.0.0/29", "gateway": "none"}, "1 2 3 4 5 6"),
        ({"subnet": "10.0.0.0/29", "gateway": "169.254.1.1"}, "1 2 3 4 5 6"),
        ({"subnet": "10.0.0.0/28", "ipRange": "10.0.0.8/30"}, "8 9 10 11"),
        ({"subnet": "10.0.0.0/28", "rangeStart": "10.0.0.5", "rangeEnd": "10.0.0.7"}, "5 6 7"),
        ({"subnet": "10.0.0.0/29", "exclude": ["10.0.0.3-10.0.0.5"]}, "2 6"),
        ({"subnet": "10.0.0.0/29", "auxAddresses": {"a": "10.0.0.2", "b": "10.0.0.4/31"}}, "3 6"),
        ({"subnet": "10.0.0.0/31"}, "0 1"),
    ],
)
def test_what_a_subnet_gives(item: Json, given: str) -> None:
    (range_set,) = ipam(subnets=[item]).range_sets

    base = int(ipaddress.ip_address("10.0.0.0"))
    found = [str(n - base) for first, last in range_set.intervals for n in range(first, last + 1)]
    assert " ".join(found) == given


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"subnets": [{"subnet": "10.0.0.0/24", "gateway": "x"}]},
            "gateway x: must be an IP address or 'none'",
        ),
        ({"subnets": [{"subnet": "2001:db8::/64", "gateway": "fe80::1%eth0"}]}, "must be an IP address"),
        ({"subnets": [{"subnet": "fe80::%eth0/64"}]}, "not a subnet in CIDR form"),
        ({"subnets": [{"subnet": "2001:db8::/64", "ipRange": "2001:db8::%1/80"}]}, "not an address, range"),
        ({"subnets": [{"subnet": "10.0.0.0/24", "gateway": "::1"}]}, "not of the address family"),
        ({"subnets": [{"subnet": "10.0.0.0/24", "exclude": ["10.1.0.1"]}]}, "not in network 10.0.0.0/24"),
        ({"subnets": [{"subnet": "10.0.0.0/30", "exclude": ["10.0.0.2"]}]}, "too small to allocate from"),
        ({"subnets": [{"subnet": "10.0.0.0/24"}, {"subnet": "10.0.0.0/25"}]}, "overlap"),
        ({"ranges": [[]]}, "ipam.ranges.0: empty range set"),
        ({"ranges": [[{"subnet": "10.0.0.0/24"}, {"subnet": "2001:db8::/64"}]]}, "mixed address families"),
        ({"subnets": [{"subnet": "10.0.0.0/24"}], "subnet": "10.1.0.0/24"}, "cannot be combined with ranges"),
        ({"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.5"}, "is after rangeEnd"),
        ({"subnet": "10.0.0.0/24", "pool": "../x"}, "not a name of letters, digits, and _ . -"),
        ({"subnet": "10.0.0.0/24", "dataDir": "x"}, "not an absolute path"),
        ({"subnet": "10.0.0.0/24", "routes": [{"dst": "x"}]}, "ipam.routes x"),
        ({"subnets": [{}]}, "ipam.subnets.0.subnet: field required"),
    ],
)
def test_what_is_wrong_is_said(keys: Json, words: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        ipam(**keys)

    assert words in caught.value.msg
