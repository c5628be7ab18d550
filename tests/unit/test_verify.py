"""CHECK as a table: one difference each, and the words for it."""

from typing import Any

import pytest

from cni_core.errors import DelegateError, PoolExhausted
from cni_core.result import Interface, IPConfig, Result, Route
from cni_net.observed import Link, RouteEntry
from cni_vlan import verify
from cni_vlan.attachment import Attachment, Claim
from cni_vlan.parents import parse_parent
from cni_vlan.verify import Observed

UPLINK = Link(2, "eth0", "02:00:00:00:00:02", 1500, up=True, carrier=True, loopback=False)
PARENT = UPLINK._replace(
    ifindex=3, name="eth0.10", kind="vlan", parent_index=2, vlan_id=10, vlan_protocol="802.1q"
)
CHILD = Link(
    7, "eth0", "02:00:00:00:00:07", 1500, up=True, carrier=True, loopback=False,
    kind="macvlan", parent_index=3, mode="bridge",
)  # fmt: skip
ROUTE = RouteEntry("0.0.0.0/0", "10.0.0.1", 7, 254, 0, 0, 1400, 1360, 4)
OBSERVED = Observed(CHILD, PARENT, UPLINK, ("10.0.0.2/24", "2001:db8::2/64"), (ROUTE,))
ATTACHMENT = Attachment("lan", parse_parent("eth0.10", "802.1q"), Claim("macvlan", "bridge", ""))
EXPECTED = Result(
    (Interface("eth0", CHILD.mac, "/n", 1500),),
    (IPConfig("10.0.0.2/24", "10.0.0.1", 0), IPConfig("2001:0db8::2/64", "", 0)),
    (Route("0.0.0.0/0", "10.0.0.1"),),
)


def found(observed: Observed = OBSERVED, expected: Result = EXPECTED, **attachment: Any) -> list[str]:  # noqa: ANN401 - fields
    return verify.mismatches(ATTACHMENT._replace(**attachment), expected, 0, observed, last=True)


def test_nothing_differs() -> None:
    assert found() == []


CHILDREN: dict[str, dict[str, Any]] = {
    "eth0 has kind 'ipvlan', not 'macvlan'": {"kind": "ipvlan"},
    "eth0 has mode 'vepa', not 'bridge'": {"mode": "vepa"},
    "eth0 has MAC address '02:00:00:00:00:08', not '02:00:00:00:00:07'": {"mac": "02:00:00:00:00:08"},
    "eth0 has MTU 1400, not 1500": {"mtu": 1400},
    "eth0 has state 'down', not 'up'": {"up": False},
    "eth0 is on interface number 9, not on eth0.10": {"parent_index": 9},
}


@pytest.mark.parametrize("words", CHILDREN)
def test_the_pod_s_link(words: str) -> None:
    assert found(OBSERVED._replace(link=CHILD._replace(**CHILDREN[words]))) == [words]


def test_what_a_later_plugin_may_set_counts_for_the_last_of_a_list_alone() -> None:
    tuned = OBSERVED._replace(link=CHILD._replace(mtu=1400, mac="02:00:00:00:00:08", up=False))

    down = "eth0 has state 'down', not 'up'"
    mac = "eth0 has MAC address '02:00:00:00:00:08', not '02:00:00:00:00:07'"
    mtu = "eth0 has MTU 1400, not 1500"
    assert verify.mismatches(ATTACHMENT, EXPECTED, 0, tuned, last=True) == [down, mac, mtu]
    assert verify.mismatches(ATTACHMENT, EXPECTED, 0, tuned, last=None) == [down, mac]
    assert verify.mismatches(ATTACHMENT, EXPECTED, 0, tuned, last=False) == [
        "eth0 has state 'down', not 'up'"
    ]


PARENTS: dict[str, dict[str, Any]] = {
    "parent eth0.10 is down": {"up": False},
    "parent eth0.10 is vlan 11, not vlan 10": {"vlan_id": 11},
    "parent eth0.10 has protocol 802.1ad, not 802.1q": {"vlan_protocol": "802.1ad"},
    "parent eth0.10 is not on eth0": {"parent_index": 9},
}


@pytest.mark.parametrize("words", PARENTS)
def test_the_parent(words: str) -> None:
    assert found(OBSERVED._replace(parent=PARENT._replace(**PARENTS[words]))) == [words]


def test_what_is_missing() -> None:
    assert found(OBSERVED._replace(link=None)) == ["interface eth0 is missing in the sandbox"]
    assert found(OBSERVED._replace(parent=None)) == ["parent eth0.10 is missing"]
    assert found(OBSERVED._replace(uplink=None)) == ["parent eth0.10 is not on eth0"]
    assert found(OBSERVED._replace(addresses=("10.0.0.2/24",))) == ["address 2001:0db8::2/64 is missing"]
    assert found(OBSERVED._replace(addresses=("10.0.0.2/25", "2001:db8::2/64"))) == [
        "address 10.0.0.2/24 is missing"
    ]
    assert found(OBSERVED._replace(routes=())) == ["route 0.0.0.0/0 via 10.0.0.1 is missing"]


def test_an_address_of_another_interface_is_none_of_ours() -> None:
    other = IPConfig("192.0.2.9/24", "", 1)

    assert found(expected=EXPECTED._replace(ips=(*EXPECTED.ips, other))) == []


@pytest.mark.parametrize(
    ("route", "there"),
    [
        (Route("0.0.0.0/0"), True),
        (Route("0.0.0.0/0", mtu=1400, advmss=1360, table=254, priority=0), True),
        (Route("0.0.0.0/0", "10.0.0.9"), False),
        (Route("0.0.0.0/0", mtu=1500), False),
        (Route("0.0.0.0/0", table=100), False),
        (Route("0.0.0.0/0", priority=5), False),
        (Route("10.0.0.0/8"), False),
    ],
)
def test_a_route_matches_in_what_the_result_says(route: Route, *, there: bool) -> None:
    assert (found(expected=EXPECTED._replace(routes=(route,))) == []) is there


def test_a_route_through_another_interface_is_another_one() -> None:
    elsewhere = OBSERVED._replace(routes=(ROUTE._replace(oif=8),))

    assert found(elsewhere) == ["route 0.0.0.0/0 via 10.0.0.1 is missing"]


def test_an_mtu_that_no_result_tells_is_that_of_the_configuration() -> None:
    silent = EXPECTED._replace(interfaces=(Interface("eth0", CHILD.mac, "/n"),))

    assert found(expected=silent, mtu=1400) == ["eth0 has MTU 1500, not 1400"]
    assert found(expected=silent) == []


def test_a_flag_counts_for_an_ipvlan() -> None:
    link = CHILD._replace(kind="ipvlan", mode="l2", flag="private")

    differs = found(OBSERVED._replace(link=link), claim=Claim("ipvlan", "l2", "bridge"))

    assert differs == ["eth0 has flag 'private', not 'bridge'"]


def test_an_outer_protocol_that_nobody_asked_for_is_no_difference() -> None:
    parent = parse_parent("eth0.10.20", "802.1q")
    middle = PARENT._replace(vlan_protocol="802.1ad")
    inner = PARENT._replace(ifindex=4, name="eth0.10.20", vlan_id=20, parent_index=3)
    link = CHILD._replace(parent_index=4)

    assert found(OBSERVED._replace(link=link, parent=inner, uplink=middle), parent=parent) == []


def test_what_ipam_found_keeps_its_code() -> None:
    assert verify.lease_mismatch(PoolExhausted("full", "of pods")) == "IPAM: full (of pods) [110]"
    assert verify.lease_mismatch(DelegateError(7, "bad", "")) == "IPAM: bad [7]"
