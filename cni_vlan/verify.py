"""CHECK as a pure comparison: the promises of prevResult and configuration against the kernel's state."""

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from cni_core.errors import CniError, DelegateError
from cni_core.result import Interface, IPConfig, Result, Route
from cni_net.observed import Link, RouteEntry
from cni_vlan.attachment import Attachment
from cni_vlan.parents import Parent, Vlan


class Observed(NamedTuple):
    """The kernel's state of an attachment; None for a missing link.

    `uplink` is the link that a VLAN parent should be on. Addresses are in CIDR form.
    """

    link: Link | None
    parent: Link | None
    uplink: Link | None
    addresses: tuple[str, ...]
    routes: tuple[RouteEntry, ...]


def mismatches(
    attachment: Attachment, expected: Result, index: int, observed: Observed, *, last: bool | None
) -> list[str]:
    """Return every difference, in words; `index` is our interface in the expected result.

    `last`: whether our plugin is the last of its list, None if unknown. A later plugin, such as tuning, may
    change the MAC address, and the MTU too without reporting it in its result.
    """
    interface = expected.interfaces[index]
    found = _parent_mismatches(attachment.parent, observed)
    link = observed.link
    if link is None:
        return [f"interface {interface.name} is missing in the sandbox", *found]
    found += _link_mismatches(attachment, interface, link, observed.parent)
    found += _settings_mismatches(attachment, interface, link, last=last)
    found += _address_mismatches(expected.ips, index, observed.addresses)
    for route in expected.routes:
        if not any(_matches(route, entry, link.ifindex) for entry in observed.routes):
            via = f" via {route.gw}" if route.gw else ""
            found.append(f"route {route.dst}{via} is missing")
    return found


def _parent_mismatches(parent: Parent, observed: Observed) -> list[str]:
    link = observed.parent
    if link is None:
        return [f"parent {parent.name} is missing"]
    found = [] if link.up else [f"parent {link.name} is down"]
    if isinstance(parent, Vlan):
        found += _vlan_mismatches(parent, link, observed.uplink)
    return found


def _vlan_mismatches(parent: Vlan, link: Link, uplink: Link | None) -> list[str]:
    found = []
    if (link.kind, link.vlan_id) != ("vlan", parent.vlan_id):
        shown = f"vlan {link.vlan_id}" if link.kind == "vlan" else f"a {link.kind} link"
        found.append(f"parent {link.name} is {shown}, not vlan {parent.vlan_id}")
    if link.vlan_protocol != parent.protocol and not parent.any_protocol:
        found.append(f"parent {link.name} has protocol {link.vlan_protocol}, not {parent.protocol}")
    if uplink is None or link.parent_index != uplink.ifindex:
        found.append(f"parent {link.name} is not on {parent.uplink.name}")
    return found


def _link_mismatches(
    attachment: Attachment, interface: Interface, link: Link, parent: Link | None
) -> list[str]:
    claim = attachment.claim
    flag = claim.flag if claim.driver == "ipvlan" else ""
    pairs: Sequence[tuple[str, object, object]] = (
        ("kind", link.kind, claim.driver),
        ("mode", link.mode, claim.mode),
        ("flag", link.flag, flag),
        ("state", "up" if link.up else "down", "up"),
    )
    found = _differences(interface, pairs)
    if parent is not None and link.parent_index != parent.ifindex:
        found.append(f"{interface.name} is on interface number {link.parent_index}, not on {parent.name}")
    return found


def _settings_mismatches(
    attachment: Attachment, interface: Interface, link: Link, *, last: bool | None
) -> list[str]:
    mtu = interface.mtu or attachment.mtu or link.mtu
    found = [] if last is False else [("MAC address", link.mac, interface.mac.lower() or link.mac)]
    return _differences(interface, [*found, *([("MTU", link.mtu, mtu)] if last else [])])


def _differences(interface: Interface, pairs: Sequence[tuple[str, object, object]]) -> list[str]:
    return [f"{interface.name} has {what} {is_!r}, not {was!r}" for what, is_, was in pairs if is_ != was]


def _address_mismatches(ips: Sequence[IPConfig], index: int, addresses: Sequence[str]) -> list[str]:
    present = {ipaddress.ip_interface(address) for address in addresses}
    return [
        f"address {ip.address} is missing"
        for ip in ips
        if ip.interface in (None, index) and ipaddress.ip_interface(ip.address) not in present
    ]


def _matches(route: Route, entry: RouteEntry, oif: int) -> bool:
    """Return whether an entry is the route; a field that the result leaves open matches anything.

    This includes the table: sbr, chained after us, moves routes to tables of its own and does not change the
    result.
    """
    if ipaddress.ip_network(route.dst, strict=False) != ipaddress.ip_network(entry.dst):
        return False
    if route.gw and (not entry.gateway or not _same_address(route.gw, entry.gateway)):
        return False
    wanted = (
        (route.table, entry.table),
        (route.priority, entry.priority),
        (route.mtu, entry.mtu),
        (route.advmss, entry.advmss),
        (oif, entry.oif),
    )
    return all(was is None or was == is_ for was, is_ in wanted)


def _same_address(one: str, other: str) -> bool:
    return ipaddress.ip_address(one) == ipaddress.ip_address(other)


def lease_mismatch(error: CniError) -> str:
    """Return the message for an error of the IPAM plugin's CHECK."""
    code = error.own_code if isinstance(error, DelegateError) else error.code
    return f"IPAM: {error.msg}" + (f" ({error.details})" if error.details else "") + f" [{code}]"
