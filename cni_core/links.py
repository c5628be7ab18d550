"""What is read from the kernel and what is to be changed in it, as plain values.

Operations are decided by pure code and carried out by cni_core.netlink, which alone knows how. `describe`
gives the words for a failure message: what was tried, on what.
"""

from typing import NamedTuple

MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}
VLAN_PROTOCOLS = {"802.1q": 0x8100, "802.1ad": 0x88A8}


class Link(NamedTuple):
    """A network interface as the kernel shows it.

    `parent_index` is what the link is stacked on, 0 for none; `parent_elsewhere` says that this index
    belongs to another namespace. Fields that the kind does not have are empty. MTU in bytes.
    """

    ifindex: int
    name: str
    mac: str
    mtu: int
    up: bool
    carrier: bool
    loopback: bool
    kind: str = ""
    alias: str = ""
    parent_index: int = 0
    parent_elsewhere: bool = False
    vlan_id: int = 0
    vlan_protocol: str = ""
    mode: str = ""
    flag: str = ""


class RouteEntry(NamedTuple):
    """A route of the kernel. `dst` in CIDR form, `gateway` "" for a device route."""

    dst: str
    gateway: str
    oif: int
    table: int
    priority: int = 0
    scope: int = 0
    mtu: int = 0
    advmss: int = 0
    proto: int = 0


class CreateVlan(NamedTuple):
    """Create an 802.1q or 802.1ad sub-interface."""

    name: str
    uplink: Link
    vlan_id: int
    protocol: str

    def describe(self) -> str:
        """Say what is tried, on what."""
        return f"create vlan {self.name} on {self.uplink.name}"


class CreateDummy(NamedTuple):
    """Create a dummy interface. MTU in bytes, 0 for the kernel's default."""

    name: str
    mtu: int = 0

    def describe(self) -> str:
        """Say what is tried, on what."""
        return f"create dummy {self.name}"


class CreateChild(NamedTuple):
    """Create a macvlan or ipvlan in the namespace behind a descriptor.

    `flag` is for ipvlan; `mac`, `source_macs` and `queue_length` (packets, 0 for the kernel's default)
    are for macvlan. MTU in bytes, 0 for the parent's.
    """

    name: str
    parent: Link
    driver: str
    mode: str
    flag: str
    sandbox_fd: int
    mtu: int = 0
    mac: str = ""
    source_macs: tuple[str, ...] = ()
    queue_length: int = 0

    def describe(self) -> str:
        """Say what is tried, on what."""
        return f"create {self.driver} on {self.parent.name}"


class Rename(NamedTuple):
    """Give a link its final name and an alias that says whose it is."""

    ifindex: int
    name: str
    alias: str

    def describe(self) -> str:
        """Say what is tried, on what."""
        return f"name the new link {self.name}"


class SetAlias(NamedTuple):
    """Mark a link with a text."""

    ifindex: int
    name: str
    alias: str

    def describe(self) -> str:
        """Say what is tried, on what."""
        return f"set alias of {self.name}"


class SetUp(NamedTuple):
    """Bring a link up."""

    ifindex: int
    name: str

    def describe(self) -> str:
        """Say what is tried, on what."""
        return f"set {self.name} up"


class DeleteLink(NamedTuple):
    """Delete a link."""

    ifindex: int
    name: str

    def describe(self) -> str:
        """Say what is tried, on what."""
        return f"delete {self.name}"


class AddAddress(NamedTuple):
    """Add an address in CIDR form; for IPv6 without duplicate address detection."""

    ifindex: int
    name: str
    address: str

    def describe(self) -> str:
        """Say what is tried, on what."""
        return f"add address {self.address} to {self.name}"


class AddRoute(NamedTuple):
    """Add a route through a link; None means the kernel's default. MTU and MSS in bytes."""

    ifindex: int
    name: str
    dst: str
    gateway: str = ""
    onlink: bool = False
    mtu: int | None = None
    advmss: int | None = None
    priority: int | None = None
    table: int | None = None
    scope: int | None = None

    def describe(self) -> str:
        """Say what is tried, on what."""
        via = f" via {self.gateway}" if self.gateway else ""
        return f"add route {self.dst}{via} dev {self.name}"


Operation = (
    CreateVlan | CreateDummy | CreateChild | Rename | SetAlias | SetUp | DeleteLink | AddAddress | AddRoute
)
