"""Parents, the links that pods are stacked on, as values; and the names of these links. Pure."""

import hashlib
from typing import NamedTuple

from cni_core.ifname import IFNAME_BYTES

VLAN_IDS = range(1, 4095)
ALIAS = "cni-vlan"
PARENT_ALIAS = f"{ALIAS} parent:"
AUTO = "auto"
DEFAULT_PROTOCOL = "802.1q"
# A longer number is not a VLAN id, and Python refuses one of 4,301 digits.
_DIGITS_MOST = 9  # of a VLAN's number, however wrong


class Existing(NamedTuple):
    """An existing interface, used unchanged; `auto` stands for the one of the best default route."""

    name: str

    @property
    def full_name(self) -> str:
        """The name as the user writes it."""
        return self.name


class Vlan(NamedTuple):
    """A VLAN on another parent, created if it is absent.

    `full_name` is `<uplink>.<id>`, of any length; `name` is the name of its link. `any_protocol`: an existing
    link is accepted with any protocol.
    """

    full_name: str
    uplink: "Parent"
    vlan_id: int
    protocol: str = DEFAULT_PROTOCOL
    any_protocol: bool = False

    @property
    def name(self) -> str:
        """The name of the link, at most 15 bytes."""
        return short_name(self.full_name)

    @property
    def alias(self) -> str:
        """The text that marks the link as created by us."""
        return f"{PARENT_ALIAS} vlan {self.vlan_id} {self.protocol} on {self.uplink.name}"


class Isolated(NamedTuple):
    """The dummy of an isolated network."""

    name: str
    network: str

    @property
    def full_name(self) -> str:
        """The name of the link."""
        return self.name

    @property
    def alias(self) -> str:
        """The text that marks the link as created by us."""
        return f"{PARENT_ALIAS} isolated network {self.network}"


Parent = Existing | Vlan | Isolated


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS_MOST


def parse_parent(name: str, protocol: str, uplink_protocol: str = "") -> Parent:
    """Return the parent that a name denotes: `<uplink>.<vid>`, split at the last dot, or an interface.

    `protocol` is that of the last level, `uplink_protocol` that of the levels below it, "" for any.
    """
    uplink, dot, number = name.rpartition(".")
    if not (dot and uplink and _is_number(number)):
        return Existing(name)
    below = parse_parent(uplink, uplink_protocol or DEFAULT_PROTOCOL, uplink_protocol)
    return Vlan(name, _below(below, uplink_protocol), int(number), protocol)


def _below(uplink: Parent, protocol: str) -> Parent:
    """Return the uplink of a VLAN; its protocol counts only if the user names one."""
    if isinstance(uplink, Vlan):
        return uplink._replace(any_protocol=not protocol)
    return uplink


def vlan_on(uplink: Parent, vlan_id: int, protocol: str, uplink_protocol: str = "") -> Vlan:
    """Return the VLAN parent with an id on an uplink."""
    return Vlan(f"{uplink.full_name}.{vlan_id}", _below(uplink, uplink_protocol), vlan_id, protocol)


def isolated_parent(network: str, driver: str) -> Isolated:
    """Return the dummy of an isolated network; `dm-` and `di-` are Docker's prefixes for them."""
    prefix = "di-" if driver == "ipvlan" else "dm-"
    return Isolated(short_name(prefix + network, prefix), network)


def resolve_auto(parent: Parent, default: str) -> Parent:
    """Replace `auto` with the interface of the default route."""
    match parent:
        case Existing(name) if name == AUTO:
            return Existing(default)
        case Vlan(uplink=uplink):
            found = resolve_auto(uplink, default)
            full_name = f"{found.full_name}.{parent.vlan_id}" if found != uplink else parent.full_name
            return parent._replace(full_name=full_name, uplink=found)
        case _:
            return parent


def is_auto(parent: Parent) -> bool:
    """Return whether the parent stands on the interface of the default route."""
    return lowest(parent).name == AUTO


def lowest(parent: Parent) -> Parent:
    """Return the lowest level of a parent."""
    return lowest(parent.uplink) if isinstance(parent, Vlan) else parent


def levels(parent: Parent) -> tuple[Parent, ...]:
    """Return the levels of a parent, the lowest first."""
    return (*levels(parent.uplink), parent) if isinstance(parent, Vlan) else (parent,)


def shim_name(parent: str) -> str:
    """Return the name of a parent's shim, the host's own link beside the pods' (cni_vlan.host_access)."""
    return short_name(f"host-{parent}", "host-")


def short_name(name: str, prefix: str = "v-") -> str:
    """Return a name that fits an interface: the name itself, or a prefix and digits of its hash."""
    if len(name.encode()) <= IFNAME_BYTES:
        return name
    return prefix + hashlib.sha256(name.encode()).hexdigest()[: IFNAME_BYTES - len(prefix)]
