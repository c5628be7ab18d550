"""What to do in the sandbox, decided from values alone: (attachment, observed, IPAM result) -> operations."""

import ipaddress
from collections.abc import Collection, Sequence
from typing import NamedTuple

from cni_core.links import AddAddress, AddRoute, CreateChild, Link, Operation, SetUp
from cni_core.result import Interface, IPConfig, Result, Route, is_ipv6
from cni_core.sysctl import Sysctl
from cni_vlan.attachment import Attachment

_DEFAULTS = {False: "0.0.0.0/0", True: "::/0"}  # by "is IPv6"
_DEVICE_SCOPES = (253, 254)  # link and host: such a route has no gateway


class Configured(NamedTuple):
    """What the kernel is to be asked for, and the result that then is true."""

    operations: tuple[Operation, ...]
    result: Result


def child(attachment: Attachment, parent: Link, temporary: str, sandbox_fd: int) -> CreateChild:
    """Return the creation of the child under a temporary name."""
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


def sysctls(attachment: Attachment, ifname: str, ips: Sequence[IPConfig]) -> list[Sysctl]:
    """Return the IPv6 settings of the child, which have to be in place before it is up.

    Without IPAM, IPv6 is left as the sandbox has it: whoever runs the pod gives the addresses.
    """
    settings = [Sysctl(ifname, "accept_ra", "1" if attachment.accept_ra else "0")]
    has_ipv6 = any(is_ipv6(ip.address) for ip in ips)
    if has_ipv6:
        settings.append(Sysctl(ifname, "disable_ipv6", "0", needed=True))
        settings.append(Sysctl(ifname, "keep_addr_on_down", "1"))
        settings.append(Sysctl("lo", "disable_ipv6", "0"))
    elif attachment.accept_ra:
        settings.append(Sysctl(ifname, "disable_ipv6", "0", needed=True))
    elif ips:
        settings.append(Sysctl(ifname, "disable_ipv6", "1"))
    return settings


def default_families(attachment: Attachment, ips: Sequence[IPConfig]) -> frozenset[bool]:
    """Return the families, by "is IPv6", whose default route gives way to one that the sandbox has."""
    implied = attachment.ipam is not None and attachment.ipam.default_implied
    return frozenset(is_ipv6(ip.address) for ip in ips) if implied or attachment.layer3 else frozenset()


def configure(
    attachment: Attachment, link: Link, ipam: Result, default_families: Collection[bool]
) -> Configured:
    """Return addresses and routes for the child, and the result without its interfaces.

    `default_families` holds, by "is IPv6", the families for which the sandbox has a default route already.
    """
    keep_gateway = not attachment.layer3 and not attachment.parent.isolated_network
    ips = [ip if keep_gateway else ip._replace(gateway="") for ip in ipam.ips]
    routes = _routes(attachment, ips, ipam.routes, default_families)
    operations: list[Operation] = [AddAddress(link.ifindex, link.name, ip.address) for ip in ips]
    operations.append(SetUp(link.ifindex, link.name))
    operations += [_add_route(attachment, link, ips, route) for route in routes]
    result = Result((), tuple(ips), tuple(routes), attachment.dns or ipam.dns)
    return Configured(tuple(operations), result)


def _routes(
    attachment: Attachment,
    ips: Sequence[IPConfig],
    asked: Sequence[Route],
    default_families: Collection[bool],
) -> list[Route]:
    """Return the routes to add: those asked for, with defaults that are implied, given way or dropped."""
    implied = attachment.ipam is not None and attachment.ipam.default_implied
    routes = [route for route in asked if not (implied and _is_default(route))]
    if attachment.layer3:
        routes = [route._replace(gw="") for route in routes]
    for six in (False, True):
        if six in default_families or any(_is_default(r) and is_ipv6(r.dst) is six for r in routes):
            continue
        family = [ip for ip in ips if is_ipv6(ip.address) is six]
        if attachment.layer3 and family:
            routes.append(Route(_DEFAULTS[six]))
        elif implied and not attachment.parent.isolated_network:
            gateways = [ip.gateway for ip in family if ip.gateway]
            routes += [Route(_DEFAULTS[six], gateway) for gateway in gateways[:1]]
    return routes


def _is_default(route: Route) -> bool:
    return route.dst.endswith("/0")


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
    """Return a route's gateway: its own, else the first of its family, as the reference plugins do."""
    if route.gw or route.scope in _DEVICE_SCOPES:
        return route.gw
    return next((ip.gateway for ip in ips if ip.gateway and _same_family(ip, route)), "")


def _same_family(ip: IPConfig, route: Route) -> bool:
    return is_ipv6(ip.address) is is_ipv6(route.dst)


def _reachable(gateway: str, ips: Sequence[IPConfig]) -> bool:
    """Tell whether the kernel finds a gateway through an address of the link."""
    address = ipaddress.ip_address(gateway)
    if address.version == 6 and address.is_link_local:  # noqa: PLR2004 - the IP version
        return True
    return any(address in ipaddress.ip_interface(ip.address).network for ip in ips)


def complete(
    attachment: Attachment, link: Link, sandbox: str, configured: Result, previous: Result | None
) -> Result:
    """Return the result of ADD: what a plugin before us reported, then our interface and its addresses."""
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
