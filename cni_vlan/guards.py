"""The rules for sharing a parent, and for the link that has its name. Pure: decides on observed values.

The kernel itself answers a breach with a bare EBUSY or EINVAL, or not at all: an ipvlan with another mode
changes every ipvlan on that parent (ipvlan_set_port_mode, drivers/net/ipvlan).
"""

from cni_core.errors import InvalidConfig, ParentConflict, UplinkDown
from cni_net.observed import Link
from cni_net.operations import CreateVlan
from cni_vlan.attachment import Attachment, Claim
from cni_vlan.parents import Isolated, Vlan


def sharing_conflict(wanted: Claim, present: Claim) -> str:
    """Return the reason why two claims cannot share a parent, "" if they can."""
    if wanted.driver != present.driver:
        return "macvlan and ipvlan cannot share a parent"
    if wanted.driver == "ipvlan" and wanted != present:
        return "all ipvlan interfaces on a parent have one mode and flag"
    if "passthru" in (wanted.mode, present.mode):
        return "a passthru interface must be alone on its parent"
    return ""


def check_no_loopback(link: Link) -> None:
    """Raise ParentConflict for the loopback interface, which carries no macvlan and no ipvlan."""
    if link.loopback:
        raise ParentConflict(f"use parent {link.name}: it is a loopback interface")


def check_is_isolated(parent: Isolated, link: Link) -> None:
    """Raise ParentConflict unless a link is the dummy of an isolated network."""
    if link.kind != "dummy" or link.alias != parent.alias:
        what = f"use {link.name} for isolated network {parent.network}"
        raise ParentConflict(f"{what}: {describe_link(link)} of that name was not created by cni-vlan")


def check_is_vlan(parent: Vlan, link: Link, uplink: Link | None) -> None:
    """Raise ParentConflict unless a link is the VLAN that is wanted under its name."""
    right_protocol = parent.any_protocol or link.vlan_protocol == parent.protocol
    if not (right_protocol and link.vlan_id == parent.vlan_id and _is_vlan_on(uplink, link)):
        wanted = f"vlan {parent.vlan_id} {parent.protocol} on {parent.uplink.name}"
        raise ParentConflict(f"use parent {link.name} as {wanted}: {describe_link(link)} has that name")


def is_same_vlan(vlan: CreateVlan, link: Link) -> bool:
    """Return whether a link is the VLAN that was to be created, under any name."""
    same = (link.vlan_id, link.vlan_protocol) == (vlan.vlan_id, vlan.protocol)
    return same and _is_vlan_on(vlan.uplink, link)


def _is_vlan_on(uplink: Link | None, link: Link) -> bool:
    """Return whether a link is a VLAN on the uplink; an index from another namespace proves nothing."""
    on_it = uplink is not None and not link.parent_elsewhere and link.parent_index == uplink.ifindex
    return link.kind == "vlan" and on_it


def describe_link(link: Link) -> str:
    """Return a link in words, for a message."""
    if link.kind == "vlan":
        return f"vlan {link.vlan_id} {link.vlan_protocol} on interface number {link.parent_index}"
    return f"a {link.kind or 'physical'} interface"


def check_up(link: Link, network: str) -> None:
    """Raise UplinkDown if a link is down that is not ours to bring up."""
    if not link.up:
        raise UplinkDown(
            f"attach to network {network}: interface {link.name} is down",
            f"bring it up with: ip link set {link.name} up",
        )


def check_mtu(attachment: Attachment, base: Link) -> None:
    """Raise InvalidConfig for an MTU above that of the interface below; the kernel accepts it for ipvlan."""
    if attachment.mtu > base.mtu:
        raise InvalidConfig(
            f"mtu {attachment.mtu} of network {attachment.network}: must be at most {base.mtu},"
            f" the MTU of {base.name}"
        )
