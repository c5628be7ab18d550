"""Where the cluster is: its two nodes on a trunk, and what is behind their router.

    client ── router ── trunk ┬─ node 1   10.0.0.1, pods on VLAN 50
                              └─ node 2   10.0.0.2, pods on VLAN 50

The router is on node 1, in a namespace of its own. Beside the trunk each node has a management network, by
which it and the API server reach each other.
"""

from collections.abc import Callable
from typing import NamedTuple

API_SERVER = "10.0.2.100"  # as nodes and pods see it, in the management network
ROUTER = "10.0.0.254"
SERVICES = "10.96.0.0/16"
NEAR, FAR = "203.0.113.9", "203.0.113.200"  # two addresses of the client
NEAR_CLIENTS = "203.0.113.0/25"  # to which pods answer through their node
_ROUTER = (
    "link add trunk type bridge",
    "link set node master trunk",
    "link set wire master trunk",
    "link set node up",
    "link set wire up",
    "link set trunk up",
    f"address add {ROUTER}/24 dev trunk",
    "link add trunk.50 link trunk type vlan id 50",
    "address add 192.168.50.1/24 dev trunk.50",
    "link set trunk.50 up",
    "link add outside type veth peer name eth0 netns client",
    "address add 203.0.113.1/24 dev outside",
    "link set outside up",
)
_CLIENT = (
    f"address add {NEAR}/24 dev eth0",
    f"address add {FAR}/24 dev eth0",
    "link set eth0 up",
    "route add default via 203.0.113.1",
)


class Place(NamedTuple):
    """A node's place in it: 1 or 2."""

    number: int

    @property
    def name(self) -> str:
        """The node's: this machine's address whose ports lead to it, which nobody has to look up."""
        return f"127.0.0.{self.number}"

    @property
    def address(self) -> str:
        return f"10.0.0.{self.number}"

    @property
    def management(self) -> str:
        return f"10.0.2.1{self.number}"


def plug_in(place: Place, run: Callable[..., object]) -> None:
    """Give a node its addresses; on the first one, put the router and the client behind it."""
    run("ip", "link", "set", "eth0", "name", "management")
    if place.number == 1:
        run("ip", "link", "set", "eth1", "name", "wire")
        _put_router(run)
    else:
        run("ip", "link", "set", "eth1", "name", "eth0")
    for link, address in (("management", place.management), ("eth0", place.address)):
        run("ip", "address", "add", f"{address}/24", "dev", link)
        run("ip", "link", "set", link, "up")
    run("ip", "route", "add", "default", "via", ROUTER)
    run("sysctl", "-qw", "net.ipv4.ip_forward=1")


def _put_router(run: Callable[..., object]) -> None:
    for name in ("router", "client"):
        run("ip", "netns", "add", name)
    run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "node", "netns", "router")
    run("ip", "link", "set", "wire", "netns", "router")
    for name, commands in (("router", _ROUTER), ("client", _CLIENT)):
        for command in commands:
            run("ip", "-n", name, *command.split())
    run("ip", "netns", "exec", "router", "sysctl", "-qw", "net.ipv4.ip_forward=1")
