"""What one network asks for, as values that cannot be wrong; the names of the links that carry it.

Pure: nothing here looks at the kernel or the disk.
"""

import hashlib
import re
from typing import NamedTuple

from cni_core.ifname import IFNAME_BYTES
from cni_core.result import DNS

VLAN_IDS = range(1, 4095)
ALIAS = "cni-vlan"
AUTO = "auto"
# Longer ones are no VLAN id, and Python reads no number of 4,301 digits.
_VLAN_NUMBER = re.compile(r"[0-9]{1,9}")
_ALIAS_BYTES = 254  # IFALIASZ is 256: rtnl_alias takes one that is shorter than 255


class Parent(NamedTuple):
    """What the child is stacked on.

    A VLAN has an uplink, which itself may be one; an isolated network has a dummy, named by its network.
    `auto` stands for the uplink until the best default route is known.
    """

    name: str
    uplink: "Parent | None" = None
    vlan_id: int = 0
    protocol: str = "802.1q"
    isolated_network: str = ""

    @property
    def alias(self) -> str:
        """The text that marks the link as created by us."""
        if self.uplink is not None:
            return f"{ALIAS} parent: vlan {self.vlan_id} {self.protocol} on {self.uplink.name}"
        return f"{ALIAS} parent: isolated network {self.isolated_network}"


class Claim(NamedTuple):
    """How a parent is used: what has to agree between the children of one parent."""

    driver: str
    mode: str
    flag: str

    def describe(self) -> str:
        """Return the words for a message."""
        flag = f" flag {self.flag}" if self.driver == "ipvlan" else ""
        return f"{self.driver} {self.mode}{flag}"


class Ipam(NamedTuple):
    """The IPAM plugin of a network, and how long it may take."""

    type: str
    timeout_s: float


class Attachment(NamedTuple):
    """One interface of one pod. MTU in bytes, 0 for the parent's; no `ipam` means layer 2 only."""

    network: str
    parent: Parent
    claim: Claim
    mtu: int = 0
    mac: str = ""
    source_macs: tuple[str, ...] = ()
    queue_length: int = 0
    link_in_container: bool = False
    announce: int = 3
    accept_ra: bool = False
    ipam: Ipam | None = None
    dns: DNS | None = None

    @property
    def layer3(self) -> bool:
        """Whether the child routes instead of bridging: no ARP, no gateway."""
        return self.claim.mode in {"l3", "l3s"}


def parse_parent(name: str, protocol: str) -> Parent:
    """Return the parent of a name: `<uplink>.<vid>`, split at the last dot, or an interface as it is."""
    uplink, dot, number = name.rpartition(".")
    if dot and uplink and _VLAN_NUMBER.fullmatch(number):
        return vlan_parent(parse_parent(uplink, protocol), int(number), protocol, name)
    return Parent(name)


def vlan_parent(uplink: Parent, vlan_id: int, protocol: str, name: str = "") -> Parent:
    """Return the VLAN parent on an uplink, under the given name or `<uplink>.<vid>`, cut to what fits."""
    return Parent(short_name(name or f"{uplink.name}.{vlan_id}"), uplink, vlan_id, protocol)


def isolated_parent(network: str, driver: str) -> Parent:
    """Return the dummy of an isolated network; `dm-` and `di-` are Docker's prefixes for them."""
    prefix = "di-" if driver == "ipvlan" else "dm-"
    return Parent(short_name(prefix + network, prefix), isolated_network=network)


def resolve_auto(parent: Parent, default: str) -> Parent:
    """Put the interface of the default route in the place of `auto`."""
    if parent.uplink is None:
        return Parent(default) if parent.name == AUTO else parent
    return vlan_parent(resolve_auto(parent.uplink, default), parent.vlan_id, parent.protocol)


def is_auto(parent: Parent) -> bool:
    """Tell whether the parent stands on the interface of the default route."""
    return parent.name == AUTO if parent.uplink is None else is_auto(parent.uplink)


def short_name(name: str, prefix: str = "v-") -> str:
    """Return a name that fits an interface: itself, or a prefix and 12 digits of its hash."""
    if len(name.encode()) <= IFNAME_BYTES:
        return name
    return prefix + hashlib.sha256(name.encode()).hexdigest()[: IFNAME_BYTES - len(prefix)]


def temporary_name(key: str) -> str:
    """Return the name that a child has until it has its own, known to the DEL of a killed ADD."""
    return "v" + hashlib.sha256(key.encode()).hexdigest()[: IFNAME_BYTES - 1]


def child_alias(network: str, container_id: str) -> str:
    """Return the text that marks a child, by which DEL knows whose link it is about to delete."""
    return f"{ALIAS} child: {container_id} {network}"[:_ALIAS_BYTES]
