"""Host access: the path between pods and their own node, which the kernel keeps apart on a parent. Pure.

The host's end is the shim: one link for each parent in the host's namespace, a macvlan or ipvlan beside the
pods' own. It has the same link-local addresses on every node and asks for no neighbour, so almost none of its
traffic reaches the wire. The host has a route to each pod through the shim. In L2 modes the pod has routes
through the shim too: to the node's addresses, and to the addresses that the host translates (Services).
"""

import hashlib
from collections.abc import Collection, Sequence
from enum import Enum
from ipaddress import ip_interface, ip_network

from cni_core.errors import ParentConflict
from cni_core.family import Family
from cni_net.observed import HostAddress, Link, RouteEntry
from cni_net.operations import (
    AddAddress,
    AddNeighbour,
    AddRoute,
    CreateChild,
    DeleteAddress,
    DeleteNeighbour,
    DeleteRoute,
    Operation,
    SetAlias,
    SetSysctl,
    SetUp,
)
from cni_vlan.attachment import Attachment, Claim
from cni_vlan.parents import ALIAS, shim_name

GATEWAY = {Family.IPV4: "169.254.84.1", Family.IPV6: "fe80::84:1"}
_SCOPE_LINK, _SCOPE_HOST = 253, 254
_PREFIX = {Family.IPV4: 32, Family.IPV6: 128}
_LOOSE = 2  # of rp_filter (ip-sysctl.rst)
_SILENT = (("accept_ra", "0"), ("addr_gen_mode", "1"))
_PARENT_ADDRESS = "169.254.84.2/32"


def impossible(claim: Claim) -> str:
    """Return the reason why children of this mode cannot reach their host, "" if they can."""
    if claim.driver == "macvlan":
        if claim.mode == "bridge":
            return ""
        return f"macvlan interfaces in mode {claim.mode} cannot reach others on their parent: use mode bridge"
    if claim.flag == "bridge":
        return ""
    return f"ipvlan interfaces with flag {claim.flag} cannot reach others on their parent: use flag bridge"


def shim_alias(parent: str) -> str:
    """Return the alias that marks the shim on a parent as ours."""
    return f"{ALIAS} shim: host access on {parent}"


def is_shim(link: Link) -> bool:
    """Return whether a link has the mark of a shim."""
    return link.alias.startswith(f"{ALIAS} shim:")


class Action(Enum):
    """The action for the shim of a parent."""

    USE = "use our link, as it is"
    CREATE = "create the link and mark it"
    REPLACE = "delete what is ours and not whole, and create it anew"


def decide(link: Link | None, parent: Link, claim: Claim, *, half_made: bool) -> Action:
    """Return the action for the shim of a parent; raises ParentConflict if a foreign link has its name.

    `half_made`: a killed ADD may have created the link without its mark or its routes. A link that was set
    down has lost its routes and neighbours.
    """
    if link is None:
        return Action.CREATE
    if link.alias == shim_alias(parent.name):
        kind = (link.kind, link.mode, link.parent_index)
        fits = kind == (claim.driver, claim.mode, parent.ifindex)
        return Action.USE if fits and link.up and not half_made else Action.REPLACE
    if half_made and not link.alias and (link.kind, link.parent_index) == (claim.driver, parent.ifindex):
        return Action.REPLACE
    raise ParentConflict(
        f"use {link.name} for host access on {parent.name}: a link of that name was not created by cni-vlan"
    )


def create(parent: Link, claim: Claim) -> CreateChild:
    """Return the operation that creates the shim.

    A macvlan's MAC address is derived from its parent's: when a shim that was removed by hand is created
    again, the pods find it.
    """
    digits = hashlib.sha256(f"{parent.mac} {parent.name}".encode()).hexdigest()[:10]
    mac = ":".join(["0a", *(digits[at : at + 2] for at in range(0, 10, 2))])
    is_macvlan = claim.driver == "macvlan"
    return CreateChild(
        shim_name(parent.name), parent, claim.driver, claim.mode, claim.flag, mac=mac if is_macvlan else ""
    )


def loosen(parent: Link, claim: Claim) -> list[Operation]:
    """Return the operations that let pods' packets to the node pass source validation on a parent of ours."""
    if not _comes_by_the_parent(claim):
        return []
    loose = SetSysctl(parent.name, "rp_filter", str(_LOOSE), needed=True, family=Family.IPV4)
    return [loose, AddAddress(parent.ifindex, parent.name, _PARENT_ADDRESS, _SCOPE_LINK, bare=True)]


def prepare(shim: Link, parent: str) -> list[Operation]:
    """Return the operations that turn a new link into the shim."""
    # It generates no link-local address (addr_gen_mode 1), which would cause traffic on the wire.
    found: list[Operation] = [SetSysctl(shim.name, key, value) for key, value in _SILENT]
    # ARP is turned off once the link is up, since ipvlan_open turns it on in L2.
    found += [SetUp(shim.ifindex, shim.name), SetUp(shim.ifindex, shim.name, arp=False)]
    found.append(AddAddress(shim.ifindex, shim.name, f"{GATEWAY[Family.IPV4]}/32", _SCOPE_LINK, bare=True))
    # The mark comes last: a link without it is incomplete. A link with it may still lack its routes.
    found.append(SetAlias(shim.ifindex, shim.name, shim_alias(parent)))
    return found


def _comes_by_the_parent(claim: Claim) -> bool:
    """Return whether a pod's packets to its node enter the host through the parent.

    An ipvlan in L2 hands a packet to the parent if no child has its destination address. Source validation
    there sees that the way back is through the shim. Loose validation lets the packet pass, but only on an
    interface that has an address (__fib_validate_source, net/ipv4/fib_frontend.c).
    """
    return (claim.driver, claim.mode) == ("ipvlan", "l2")


def own_ipv6(shim: Link) -> list[Operation]:
    """Return the operations for the shim's IPv6 address, which a host without IPv6 refuses."""
    address = AddAddress(shim.ifindex, shim.name, f"{GATEWAY[Family.IPV6]}/128", _SCOPE_LINK, bare=True)
    return [SetSysctl(shim.name, "disable_ipv6", "0"), address]


def filtered(claim: Claim, parent: str, filters: Collection[str], *, has_address: bool) -> str:
    """Return the reason why source validation on a parent that is not ours forbids host access, else "".

    `filters` are the values of rp_filter for all interfaces and for the parent; the kernel takes the higher.
    `has_address`: the parent has an IPv4 address.
    """
    value = max((int(text) for text in filters if text.isdecimal()), default=0)
    if not _comes_by_the_parent(claim) or value == 0 or (value == _LOOSE and has_address):
        return ""
    advice = "2" if has_address else "0 for it and for all, or an address on it"
    return (
        f"hostAccess with ipvlan l2 on {parent}: source validation drops packets from pods to their node:"
        f" net.ipv4.conf.{parent}.rp_filter has to be {advice}; or use macvlan, or mode l3"
    )


def node_addresses(addresses: Sequence[HostAddress], links: Sequence[Link]) -> tuple[HostAddress, ...]:
    """Return the addresses by which a node is reached.

    Addresses of dummies are left out, since they stand for destinations elsewhere: kube-proxy's IPVS mode
    puts each Service there.
    """
    dummies = {link.ifindex for link in links if link.kind == "dummy"}
    return tuple(a for a in addresses if a.scope == 0 and not a.fleeting and a.ifindex not in dummies)


def carried(
    shim: Link, claim: Claim, node: Sequence[HostAddress], addresses: Sequence[HostAddress]
) -> list[AddAddress]:
    """Return the additions to the shim of the node's IPv4 addresses; `addresses` are all of the host's.

    An ipvlan in L3 looks for the destination among the children of the parent, then routes the packet out of
    the parent, never to the host. The parent's own addresses work without this. Adding them would break the
    node's own network, since packets to them would then go to the shim.
    """
    if claim.mode not in {"l3", "l3s"}:
        return []
    there = {a.ip for a in addresses if a.ifindex == shim.ifindex}
    wanted = dict.fromkeys(a.ip for a in node if _is_carried(a, shim) and a.ip not in there)
    return [AddAddress(shim.ifindex, shim.name, f"{ip}/32", _SCOPE_HOST, bare=True) for ip in wanted]


def _is_carried(address: HostAddress, shim: Link) -> bool:
    return Family.of(address.ip) is Family.IPV4 and address.ifindex not in {shim.parent_index, shim.ifindex}


def outdated(
    shim: Link, node: Sequence[HostAddress], addresses: Sequence[HostAddress]
) -> list[DeleteAddress]:
    """Return the removal of addresses that the node no longer has: another node may have them by now."""
    kept = {a.ip for a in node if _is_carried(a, shim)}
    return [
        DeleteAddress(shim.ifindex, shim.name, a.address)
        for a in addresses
        if a.ifindex == shim.ifindex and a.scope == _SCOPE_HOST and a.ip not in kept
    ]


def is_second(child: Link, routes: Sequence[RouteEntry]) -> bool:
    """Return whether a pod reaches its node through another interface, the one with its default route.

    Then only `hostRoutes` go through this one. Otherwise the pod would answer through this interface what the
    node sends to the first, and the answers would be dropped, or bypass the first network's rules.
    """
    return any(route.oif != child.ifindex and ip_network(route.dst).prefixlen == 0 for route in routes)


def taken_by(child: Link, routes: Sequence[RouteEntry]) -> int:
    """Return the index of another interface of the pod that has host access, 0 if there is none."""
    gateway = f"{GATEWAY[Family.IPV4]}/32"
    return next((route.oif for route in routes if route.dst == gateway and route.oif != child.ifindex), 0)


def in_pod(
    attachment: Attachment, child: Link, shim: Link, families: Collection[Family], node: Sequence[HostAddress]
) -> list[Operation]:
    """Return the pod's neighbours and routes to its node and `hostRoutes`; in L3 the device route does."""
    if attachment.layer3:
        return []
    found: list[Operation] = []
    for family in families:
        gateway = GATEWAY[family]
        found.append(AddNeighbour(child.ifindex, child.name, gateway, shim.mac))
        if family is Family.IPV4:
            found.append(AddRoute(child.ifindex, child.name, f"{gateway}/32"))
        targets = [f"{a.ip}/{_PREFIX[family]}" for a in node if Family.of(a.ip) is family]
        targets += [route for route in attachment.host_routes if Family.of(route) is family]
        found += [
            AddRoute(child.ifindex, child.name, dst, gateway, onlink=True) for dst in dict.fromkeys(targets)
        ]
    return found


def in_host(attachment: Attachment, mac: str, shim: Link, addresses: Sequence[str]) -> list[Operation]:
    """Return the host's neighbour and route for each address of a pod; in L3 there are no neighbours."""
    found: list[Operation] = []
    for address in addresses:
        own = ip_interface(address).ip
        if not attachment.layer3:
            found.append(AddNeighbour(shim.ifindex, shim.name, str(own), mac))
        found.append(AddRoute(shim.ifindex, shim.name, str(ip_network(own))))
    return found


def out_of_host(shim: Link, addresses: Sequence[str]) -> list[DeleteRoute | DeleteNeighbour]:
    """Return the removal of the host's routes and neighbours for the addresses of a pod."""
    found: list[DeleteRoute | DeleteNeighbour] = []
    for address in addresses:
        own = ip_interface(address).ip
        found.append(DeleteRoute(shim.ifindex, shim.name, str(ip_network(own))))
        found.append(DeleteNeighbour(shim.ifindex, shim.name, str(own)))
    return found


def mismatches(
    name: str, shim: Link | None, addresses: Sequence[str], routes: Sequence[RouteEntry]
) -> list[str]:
    """Return the faults of the host's path to a pod; `name` is the shim's."""
    if shim is None:
        return [f"{name} is missing: the host cannot reach the pod"]
    found = [] if shim.up else [f"{name} is down: the host cannot reach the pod"]
    there = {route.dst for route in routes if route.oif == shim.ifindex}
    ips = [ip_interface(address).ip for address in addresses]
    return found + [f"the host has no route to {ip}" for ip in ips if str(ip_network(ip)) not in there]
