"""Changes of the kernel's state as plain values: decided by pure code, carried out by cni_net.rtnl."""

from typing import NamedTuple, overload

from cni_core.family import Family
from cni_net.observed import Link

MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}
# Of exported routes (rtnetlink(7), rtm_protocol): no daemon passes it over, as each does with its own.
EXPORT_PROTOCOL = 177
VLAN_PROTOCOLS = {"802.1q": 0x8100, "802.1ad": 0x88A8}


class CreateVlan(NamedTuple):
    """Create an 802.1q or 802.1ad sub-interface."""

    name: str
    uplink: Link
    vlan_id: int
    protocol: str


class CreateDummy(NamedTuple):
    """Create a dummy interface. MTU in bytes, 0 for the kernel's default."""

    name: str
    mtu: int = 0


class CreateChild(NamedTuple):
    """Create a macvlan or ipvlan, in the namespace behind a descriptor if there is one.

    `flag` is for ipvlan; `mac`, `source_macs` and `queue_length` (packets, 0 for the kernel's default)
    are for macvlan. MTU in bytes, 0 for the parent's.
    """

    name: str
    parent: Link
    driver: str
    mode: str
    flag: str
    sandbox_fd: int | None = None
    mtu: int = 0
    mac: str = ""
    source_macs: tuple[str, ...] = ()
    queue_length: int = 0


class Rename(NamedTuple):
    """Give a link its final name, and an alias that marks its owner."""

    ifindex: int
    name: str
    alias: str


class SetAlias(NamedTuple):
    """Give a link an alias, which marks its owner."""

    ifindex: int
    name: str
    alias: str


class SetUp(NamedTuple):
    """Bring a link up; without `arp` it neither asks for neighbours nor answers (IFF_NOARP)."""

    ifindex: int
    name: str
    arp: bool = True


class DeleteLink(NamedTuple):
    """Delete a link."""

    ifindex: int
    name: str


class AddAddress(NamedTuple):
    """Add an address in CIDR form; for IPv6 without duplicate address detection.

    `scope` as in rtnetlink(7), 0 for global; `bare`: no route to its subnet.
    """

    ifindex: int
    name: str
    address: str
    scope: int = 0
    bare: bool = False


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


class AddNeighbour(NamedTuple):
    """Bind an address, without prefix length, to a MAC address for good; replaces an existing binding."""

    ifindex: int
    name: str
    address: str
    mac: str


class DeleteNeighbour(NamedTuple):
    """Delete the neighbour of an address."""

    ifindex: int
    name: str
    address: str


class DeleteAddress(NamedTuple):
    """Delete an address in CIDR form."""

    ifindex: int
    name: str
    address: str


class DeleteRoute(NamedTuple):
    """Delete a route through a link; None means the kernel's default."""

    ifindex: int
    name: str
    dst: str
    gateway: str = ""
    priority: int | None = None
    table: int | None = None


class AddBlackhole(NamedTuple):
    """Add a route of type blackhole, of EXPORT_PROTOCOL, to a table."""

    prefix: str
    table: int


class DeleteBlackhole(NamedTuple):
    """Delete a route of type blackhole, of EXPORT_PROTOCOL, from a table."""

    prefix: str
    table: int


class AddRule(NamedTuple):
    """Look up packets that arrive on a link in a table, before rules with a higher priority number."""

    family: Family
    parent: str
    table: int
    priority: int


class DeleteRule(NamedTuple):
    """Delete such a rule."""

    family: Family
    parent: str
    table: int
    priority: int


class SetSysctl(NamedTuple):
    """Set net.<family>.conf.<interface>.<key>; `needed` if a kernel without the key is an error.

    A renamed interface keeps its values (ipv6, addrconf_sysctl_register). They have to be in place before it
    is up: that is when the kernel gives it a link-local address.
    """

    interface: str
    key: str
    value: str
    needed: bool = False
    family: Family = Family.IPV6


Create = CreateVlan | CreateDummy | CreateChild
Operation = (
    Create
    | Rename
    | SetAlias
    | SetUp
    | DeleteLink
    | AddAddress
    | DeleteAddress
    | AddRoute
    | DeleteRoute
    | AddNeighbour
    | DeleteNeighbour
    | AddBlackhole
    | DeleteBlackhole
    | AddRule
    | DeleteRule
    | SetSysctl
)


def describe(operation: Operation) -> str:  # noqa: C901, PLR0911, PLR0912 - a line for each
    """Return the words for a failure message: the change and its object."""
    match operation:
        case CreateVlan(name, uplink):
            return f"create vlan {name} on {uplink.name}"
        case CreateDummy(name):
            return f"create dummy {name}"
        case CreateChild(parent=parent, driver=driver):
            return f"create {driver} on {parent.name}"
        case Rename(_, name):
            return f"name the new link {name}"
        case SetAlias(_, name):
            return f"set alias of {name}"
        case SetUp(_, name):
            return f"set {name} up"
        case DeleteLink(_, name):
            return f"delete {name}"
        case AddAddress(_, name, address):
            return f"add address {address} to {name}"
        case DeleteAddress(_, name, address):
            return f"delete address {address} from {name}"
        case AddNeighbour(_, name, address):
            return f"add neighbour {address} to {name}"
        case DeleteNeighbour(_, name, address):
            return f"delete neighbour {address} from {name}"
        case AddRoute(_, name, dst, gateway):
            return f"add route {_route(name, dst, gateway)}"
        case DeleteRoute(_, name, dst, gateway):
            return f"delete route {_route(name, dst, gateway)}"
        case AddBlackhole(prefix, table):
            return f"add blackhole {prefix} to table {table}"
        case DeleteBlackhole(prefix, table):
            return f"delete blackhole {prefix} from table {table}"
        case AddRule(family, parent, table):
            return f"add rule for IPv{family.value} from {parent} to table {table}"
        case DeleteRule(family, parent, table):
            return f"delete rule for IPv{family.value} from {parent} to table {table}"
        case SetSysctl(interface, key, value):
            return f"set net.ipv{operation.family.value}.conf.{interface}.{key} to {value}"


def _route(name: str, dst: str, gateway: str) -> str:
    return f"{dst} via {gateway} dev {name}" if gateway else f"{dst} dev {name}"


@overload
def inverse(operation: AddAddress) -> DeleteAddress: ...
@overload
def inverse(operation: AddRoute) -> DeleteRoute: ...
@overload
def inverse(operation: AddNeighbour) -> DeleteNeighbour: ...
def inverse(
    operation: AddAddress | AddRoute | AddNeighbour,
) -> DeleteAddress | DeleteRoute | DeleteNeighbour:
    """Return the operation that undoes another. Deleting a link undoes all operations on it."""
    match operation:
        case AddAddress(index, name, address):
            return DeleteAddress(index, name, address)
        case AddNeighbour(index, name, address):
            return DeleteNeighbour(index, name, address)
        case AddRoute(index, name, dst, gateway, priority=priority, table=table):
            return DeleteRoute(index, name, dst, gateway, priority, table)
