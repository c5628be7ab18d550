"""The plan for a sandbox, made from values alone: (attachment, observed, IPAM result) -> operations."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from cni_core.cidr import Cidr
from cni_core.family import Family
from cni_core.result import Interface, IPConfig, Result, Route
from cni_net.observed import Link
from cni_net.operations import AddAddress, AddRoute, CreateChild, Operation, SetSysctl, SetUp
from cni_vlan.attachment import Attachment

_LINK_LOCAL = Cidr.parse("fe80::/10")
_DEVICE_SCOPES = (253, 254)  # link and host: such a route has no gateway


class Configured(NamedTuple):
    """The operations to request from the kernel, and the result that is true afterwards."""

    operations: tuple[Operation, ...]
    result: Result


def child(attachment: Attachment, parent: Link, temporary: str, sandbox_fd: int) -> CreateChild:
    """Return the operation that creates the child under a temporary name."""
    return CreateChild(
        name=temporary,
        parent=parent,
        driver=attachment.claim.driver,
        mode=attachment.claim.mode,
        flag=attachment.claim.flag,
        sandbox_fd=sandbox_fd,
        mtu=attachment.mtu,
        mac=attachment.mac,
        source_macs=attachment.source_macs,
        queue_length=attachment.queue_length,
    )


def _sysctls(attachment: Attachment, ifname: str, ips: Sequence[IPConfig]) -> list[SetSysctl]:
    """Return the IPv6 settings of the child, which have to be in place before it is up.

    Without IPAM, IPv6 stays as the sandbox has it: the addresses are up to the owner of the pod.
    """
    settings = [SetSysctl(ifname, "accept_ra", "1" if attachment.accept_ra else "0")]
    if any(ip.family is Family.IPV6 for ip in ips):
        settings.append(SetSysctl(ifname, "disable_ipv6", "0", needed=True))
        settings.append(SetSysctl(ifname, "keep_addr_on_down", "1"))
        settings.append(SetSysctl("lo", "disable_ipv6", "0"))
    elif attachment.accept_ra:
        settings.append(SetSysctl(ifname, "disable_ipv6", "0", needed=True))
    elif ips:
        settings.append(SetSysctl(ifname, "disable_ipv6", "1"))
    return settings


def yielding_families(attachment: Attachment, ipam: Result) -> frozenset[Family]:
    """Return the families whose default route yields to one that the sandbox has already."""
    implied = {route.family for route in ipam.routes if route.implied}
    by_device = {ip.family for ip in ipam.ips} if attachment.layer3 else set()
    return frozenset(implied | by_device)


def configure(attachment: Attachment, link: Link, ipam: Result, taken: Collection[Family]) -> Configured:
    """Return settings, addresses and routes for the child, and the result without its interfaces.

    `taken` are the families for which the sandbox has a default route.
    """
    keep_gateway = not attachment.layer3 and not attachment.isolated
    ips = [ip if keep_gateway else ip._replace(gateway="") for ip in ipam.ips]
    routes = list(_routes(attachment, ipam, taken))
    operations: list[Operation] = [*_sysctls(attachment, link.name, ips)]
    operations += [AddAddress(link.ifindex, link.name, ip.address) for ip in ips]
    operations.append(SetUp(link.ifindex, link.name))
    operations += [_add_route(attachment, link, ips, route) for route in routes]
    result = Result((), tuple(ips), tuple(routes), attachment.dns or ipam.dns)
    return Configured(tuple(operations), result)


def _routes(attachment: Attachment, ipam: Result, taken: Collection[Family]) -> Iterator[Route]:
    """Yield the routes to add: those asked for, then a default route for each family that lacks one.

    In L3 modes the default route is a device route: there is no neighbour to ask, so a gateway means nothing.
    An isolated network has no default route in L2 modes, so that a destination outside is "Network is
    unreachable".
    """
    asked = [route for route in ipam.routes if not route.implied]
    yield from ([route._replace(gw="") for route in asked] if attachment.layer3 else asked)
    explicit = {route.family for route in asked if route.is_default}
    for family in Family:
        if family in explicit or family in taken:
            continue
        if attachment.layer3:
            if any(ip.family is family for ip in ipam.ips):
                yield Route(family.default)
        elif not attachment.isolated:
            yield from [r for r in ipam.routes if r.implied and r.family is family][:1]


def _add_route(attachment: Attachment, link: Link, ips: Sequence[IPConfig], route: Route) -> AddRoute:
    gateway = "" if attachment.layer3 else _gateway(ips, route)
    return AddRoute(
        ifindex=link.ifindex,
        name=link.name,
        dst=route.dst,
        gateway=gateway,
        onlink=bool(gateway) and not _reachable(gateway, ips),
        mtu=route.mtu,
        advmss=route.advmss,
        priority=route.priority,
        table=route.table,
        scope=route.scope,
    )


def _gateway(ips: Sequence[IPConfig], route: Route) -> str:
    """Return a route's gateway: its own, else the first one of its family, as the reference plugins do."""
    if route.gw or route.scope in _DEVICE_SCOPES:
        return route.gw
    return next((ip.gateway for ip in ips if ip.gateway and ip.family is route.family), "")


def _reachable(gateway: str, ips: Sequence[IPConfig]) -> bool:
    """Return whether the kernel can reach a gateway through an address of the link."""
    address = Cidr.parse(gateway)
    return _LINK_LOCAL.covers(address) or any(Cidr.parse(ip.address).covers(address) for ip in ips)


def complete(
    attachment: Attachment, link: Link, sandbox: str, configured: Result, previous: Result | None
) -> Result:
    """Return the result of ADD: that of the previous plugin, then our interface and its addresses."""
    before = previous or Result()
    interface = Interface(link.name, link.mac, sandbox, link.mtu)
    index = len(before.interfaces)
    ips = tuple(ip._replace(interface=index) for ip in configured.ips)
    kept = () if attachment.ipam is None else before.ips
    kept_routes = () if attachment.ipam is None else before.routes
    return Result(
        (*before.interfaces, interface),
        (*kept, *ips),
        (*kept_routes, *configured.routes),
        configured.dns,
    )
