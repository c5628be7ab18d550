"""The kernel's state of a namespace, as plain values."""

from typing import NamedTuple

from cni_core.family import Family


class Link(NamedTuple):
    """A network interface as the kernel shows it.

    `parent_index` is the index of the link below, 0 for none; `parent_elsewhere` says that this index
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
    protocol: int = 0


class TableRoute(NamedTuple):
    """A route of any type in a routing table."""

    prefix: str
    table: int
    protocol: int
    is_blackhole: bool


class TableRule(NamedTuple):
    """A rule that looks packets that arrive on a link up in a routing table; `parent` is "" for any link."""

    family: Family
    parent: str
    table: int
    priority: int
    protocol: int


class HostAddress(NamedTuple):
    """An address in CIDR form and the link that has it; a `fleeting` one is not a lasting destination."""

    address: str
    ifindex: int
    scope: int = 0
    fleeting: bool = False

    @property
    def ip(self) -> str:
        """The address without its prefix length."""
        return self.address.partition("/")[0]
