"""Host access as tables: what is done for a shim, which addresses count, what goes where."""

from typing import Any, NamedTuple

import pytest

from cni_core.errors import ParentConflict
from cni_core.family import Family
from cni_net.observed import HostAddress, Link, RouteEntry
from cni_net.operations import (
    AddAddress,
    AddNeighbour,
    AddRoute,
    DeleteAddress,
    DeleteNeighbour,
    DeleteRoute,
)
from cni_vlan import host_access
from cni_vlan.attachment import Attachment, Claim
from cni_vlan.host_access import Action
from cni_vlan.parents import parse_parent, shim_name

BRIDGE, L2, L3 = (
    Claim("macvlan", "bridge", ""),
    Claim("ipvlan", "l2", "bridge"),
    Claim("ipvlan", "l3", "bridge"),
)
NIC = Link(2, "eth0", "02:00:00:00:00:02", 1500, up=True, carrier=True, loopback=False)
PARENT = NIC._replace(ifindex=3, name="eth0.50", kind="vlan")
SHIM = NIC._replace(
    ifindex=4, name="host-eth0.50", mac="0a:00:00:00:00:04", kind="macvlan", mode="bridge", parent_index=3,
    alias="cni-vlan shim: host access on eth0.50",
)  # fmt: skip
CHILD = NIC._replace(ifindex=7, mac="02:00:00:00:00:07", kind="macvlan")
NODE = HostAddress("192.0.2.11/24", 2)
NODE6 = HostAddress("2001:db8::11/64", 2)


class Case(NamedTuple):
    link: Link | None
    action: Action | None
    half_made: bool = False


DECISIONS = {
    "none": Case(None, Action.CREATE),
    "none, half made": Case(None, Action.CREATE, half_made=True),
    "ours": Case(SHIM, Action.USE),
    "ours, down, so without its routes": Case(SHIM._replace(up=False), Action.REPLACE),
    "ours, marked but without its routes": Case(SHIM, Action.REPLACE, half_made=True),
    "ours, of another mode": Case(SHIM._replace(mode="private"), Action.REPLACE),
    "ours, of another driver": Case(SHIM._replace(kind="ipvlan"), Action.REPLACE),
    "ours, on a parent that is gone": Case(SHIM._replace(parent_index=9), Action.REPLACE),
    "unmarked": Case(SHIM._replace(alias=""), None),
    "unmarked, half made": Case(SHIM._replace(alias=""), Action.REPLACE, half_made=True),
    "foreign, half made": Case(SHIM._replace(alias="mine"), None, half_made=True),
    "a dummy, half made": Case(SHIM._replace(alias="", kind="dummy"), None, half_made=True),
    "the shim of another parent": Case(SHIM._replace(alias="cni-vlan shim: host access on eth0.5"), None),
}


@pytest.mark.parametrize("name", DECISIONS)
def test_what_is_done_for_the_shim(name: str) -> None:
    case = DECISIONS[name]
    if case.action is None:
        with pytest.raises(ParentConflict, match="a link of that name was not created by cni-vlan"):
            host_access.decide(case.link, PARENT, BRIDGE, half_made=case.half_made)
    else:
        assert host_access.decide(case.link, PARENT, BRIDGE, half_made=case.half_made) is case.action


@pytest.mark.parametrize(
    ("claim", "possible"),
    [
        (BRIDGE, True), (L2, True), (L3, True), (Claim("ipvlan", "l3s", "bridge"), True),
        (Claim("macvlan", "private", ""), False), (Claim("macvlan", "vepa", ""), False),
        (Claim("macvlan", "passthru", ""), False), (Claim("macvlan", "source", ""), False),
        (Claim("ipvlan", "l2", "vepa"), False), (Claim("ipvlan", "l3", "private"), False),
    ],
)  # fmt: skip
def test_modes_that_can(claim: Claim, *, possible: bool) -> None:
    assert (host_access.impossible(claim) == "") is possible


@pytest.mark.parametrize(
    ("claim", "filters", "has_address", "fine"),
    [
        (L2, ("0", "0"), False, True), (L2, ("0", "2"), True, True), (L2, ("2", "0"), False, False),
        (L2, ("1", "0"), True, False), (L2, ("1", "2"), True, True), (L2, ("", ""), False, True),
        (L3, ("1", "1"), False, True), (BRIDGE, ("1", "1"), False, True),
    ],
)  # fmt: skip
def test_source_validation(claim: Claim, filters: tuple[str, str], *, has_address: bool, fine: bool) -> None:
    assert (host_access.filtered(claim, "eth0", filters, has_address=has_address) == "") is fine


def test_addresses_of_a_node() -> None:
    dummy = NIC._replace(ifindex=5, name="kube-ipvs0", kind="dummy")
    others = [
        HostAddress("127.0.0.1/8", 1, 254),
        HostAddress("fe80::1/64", 2, 253),
        HostAddress("10.96.0.1/32", 5),
        HostAddress("2001:db8::99/64", 2, fleeting=True),
    ]

    assert host_access.node_addresses([NODE, *others, NODE6], [NIC, dummy]) == (NODE, NODE6)


@pytest.mark.parametrize(
    ("claim", "node", "there", "wanted"),
    [
        (BRIDGE, [NODE], [], []),
        (L2, [NODE], [], []),
        (L3, [NODE, NODE6], [], ["192.0.2.11/32"]),
        (L3, [NODE], [HostAddress("192.0.2.11/32", 4, 254)], []),
        (L3, [NODE, HostAddress("10.50.0.9/24", 3)], [], ["192.0.2.11/32"]),
        (L3, [NODE, HostAddress("2001:db8:50::9/64", 3)], [], ["192.0.2.11/32"]),
    ],
)
def test_addresses_that_the_shim_carries(
    claim: Claim, node: list[HostAddress], there: list[HostAddress], wanted: list[str]
) -> None:
    found = host_access.carried(SHIM, claim, node, [*node, *there])

    assert found == [AddAddress(4, "host-eth0.50", address, 254, bare=True) for address in wanted]


def test_addresses_that_the_node_has_no_more() -> None:
    carried = HostAddress("192.0.2.99/32", 4, 254)
    gateway = HostAddress("169.254.84.1/32", 4, 253)

    assert host_access.outdated(SHIM, [NODE], [NODE, gateway]) == []
    assert host_access.outdated(SHIM, [NODE], [NODE, gateway, carried]) == [
        DeleteAddress(4, "host-eth0.50", "192.0.2.99/32")
    ]


@pytest.mark.parametrize(
    ("routes", "second", "other"),
    [
        ([], False, 0),
        ([RouteEntry("0.0.0.0/0", "10.50.0.1", 7, 254)], False, 0),
        ([RouteEntry("0.0.0.0/0", "10.244.0.1", 3, 254)], True, 0),
        ([RouteEntry("::/0", "fd00::1", 3, 254)], True, 0),
        ([RouteEntry("169.254.84.1/32", "", 7, 254)], False, 0),
        ([RouteEntry("169.254.84.1/32", "", 3, 254)], False, 3),
    ],
)
def test_a_pod_with_another_interface(routes: list[RouteEntry], *, second: bool, other: int) -> None:
    assert host_access.is_second(CHILD, routes) is second
    assert host_access.taken_by(CHILD, routes) == other


def attachment(claim: Claim, *host_routes: str) -> Attachment:
    parent = parse_parent("eth0.50", "802.1q")
    return Attachment("lan", parent, claim, host_access=True, host_routes=host_routes)


def in_pod(claim: Claim, families: list[Family], *host_routes: str) -> list[Any]:
    found: list[Any] = host_access.in_pod(
        attachment(claim, *host_routes), CHILD, SHIM, families, [NODE, NODE6]
    )
    return found


def test_what_a_pod_gets() -> None:
    gateway, gateway6 = "169.254.84.1", "fe80::84:1"

    assert in_pod(L3, list(Family), "10.96.0.0/12") == []
    assert in_pod(BRIDGE, [Family.IPV4], "10.96.0.0/12", "fd00::/108", "192.0.2.11/32") == [
        AddNeighbour(7, "eth0", gateway, SHIM.mac),
        AddRoute(7, "eth0", "169.254.84.1/32"),
        AddRoute(7, "eth0", "192.0.2.11/32", gateway, onlink=True),
        AddRoute(7, "eth0", "10.96.0.0/12", gateway, onlink=True),
    ]
    assert in_pod(L2, [Family.IPV6], "10.96.0.0/12", "fd00::/108") == [
        AddNeighbour(7, "eth0", gateway6, SHIM.mac),
        AddRoute(7, "eth0", "2001:db8::11/128", gateway6, onlink=True),
        AddRoute(7, "eth0", "fd00::/108", gateway6, onlink=True),
    ]


def test_what_the_host_gets_and_loses() -> None:
    addresses = ["10.50.0.2/24", "2001:db8:50::2/64"]

    assert host_access.in_host(attachment(BRIDGE), CHILD.mac, SHIM, addresses) == [
        AddNeighbour(4, "host-eth0.50", "10.50.0.2", CHILD.mac),
        AddRoute(4, "host-eth0.50", "10.50.0.2/32"),
        AddNeighbour(4, "host-eth0.50", "2001:db8:50::2", CHILD.mac),
        AddRoute(4, "host-eth0.50", "2001:db8:50::2/128"),
    ]
    assert host_access.in_host(attachment(L3), CHILD.mac, SHIM, addresses[:1]) == [
        AddRoute(4, "host-eth0.50", "10.50.0.2/32")
    ]
    assert host_access.out_of_host(SHIM, addresses[:1]) == [
        DeleteRoute(4, "host-eth0.50", "10.50.0.2/32"),
        DeleteNeighbour(4, "host-eth0.50", "10.50.0.2"),
    ]


def test_names_and_addresses_last() -> None:
    """A shim that is made again is found by the neighbours that pods have of it."""
    one, again, other = (
        host_access.create(parent, BRIDGE)
        for parent in (PARENT, PARENT, PARENT._replace(mac="02:00:00:00:00:03"))
    )

    assert one.mac == again.mac != other.mac
    assert int(one.mac[:2], 16) & 3 == 2  # locally administered, not multicast
    assert shim_name("eth0.50") == "host-eth0.50"
    assert len(shim_name("enp130s0f1.4094")) == 15


def test_differences() -> None:
    routes = [RouteEntry("10.50.0.2/32", "", 4, 254), RouteEntry("10.50.0.3/32", "", 9, 254)]
    name = SHIM.name

    assert host_access.mismatches(name, SHIM, ["10.50.0.2/24"], routes) == []
    assert host_access.mismatches(name, SHIM, ["10.50.0.3/24"], routes) == [
        "the host has no route to 10.50.0.3"
    ]
    assert host_access.mismatches(name, None, ["10.50.0.2/24"], routes) == [
        "host-eth0.50 is missing: the host cannot reach the pod"
    ]
    assert "is down" in host_access.mismatches(name, SHIM._replace(up=False), ["10.50.0.2/24"], routes)[0]
