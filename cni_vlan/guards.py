"""What may share a parent, and what a parent's name has to stand for. Pure: decides on observed values.

The kernel's own answers to these are a bare EBUSY or EINVAL, or none at all: an ipvlan with another mode
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
        return "an ipvlan mode and flag hold for the whole parent"
    if "passthru" in (wanted.mode, present.mode):
        return "passthru takes the parent for itself"
    return ""


def check_no_loopback(link: Link) -> None:
    """Raise ParentConflict for the loopback interface, which carries no macvlan and no ipvlan."""
    if link.loopback:
        raise ParentConflict(f"use parent {link.name}: it is a loopback interface")


def check_is_isolated(parent: Isolated, link: Link) -> None:
    """Raise ParentConflict unless a link is the dummy of an isolated network."""
    if link.kind != "dummy" or link.alias != parent.alias:
        what = f"use {link.name} for isolated network {parent.network}"
        raise ParentConflict(f"{what}: {describe_link(link)} of that name is not ours")


def check_is_vlan(parent: Vlan, link: Link, uplink: Link | None) -> None:
    """Raise ParentConflict unless a link is the VLAN that its name has to stand for."""
    right_protocol = parent.any_protocol or link.vlan_protocol == parent.protocol
    if not (right_protocol and link.vlan_id == parent.vlan_id and _is_vlan_on(uplink, link)):
        wanted = f"vlan {parent.vlan_id} {parent.protocol} on {parent.uplink.name}"
        raise ParentConflict(f"use parent {link.name} as {wanted}: {describe_link(link)} has that name")


def is_same_vlan(vlan: CreateVlan, link: Link) -> bool:
    """Return whether a link is the VLAN that was to be created, under whatever name."""
    same = (link.vlan_id, link.vlan_protocol) == (vlan.vlan_id, vlan.protocol)
    return same and _is_vlan_on(vlan.uplink, link)


def _is_vlan_on(uplink: Link | None, link: Link) -> bool:
    """Return whether a link is a VLAN on another; an index of another namespace says nothing."""
    on_it = uplink is not None and not link.parent_elsewhere and link.parent_index == uplink.ifindex
    return link.kind == "vlan" and on_it


def describe_link(link: Link) -> str:
    """Return words for what was found."""
    if link.kind == "vlan":
        return f"vlan {link.vlan_id} {link.vlan_protocol} on interface number {link.parent_index}"
    return f"a {link.kind or 'physical'} interface"


def check_up(link: Link, network: str) -> None:
    """Raise UplinkDown for a link that is not ours to bring up."""
    if not link.up:
        raise UplinkDown(
            f"attach to network {network}: interface {link.name} is down",
            f"bring it up with: ip link set {link.name} up",
        )


def check_mtu(attachment: Attachment, base: Link) -> None:
    """Raise InvalidConfig for an MTU over that of the interface below; the kernel lets ipvlan pass."""
    if attachment.mtu > base.mtu:
        raise InvalidConfig(
            f"mtu {attachment.mtu} of network {attachment.network}: must be at most {base.mtu},"
            f" the MTU of {base.name}"
        )
