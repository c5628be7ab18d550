"""Where the cluster is: its two nodes on a trunk, and what is behind their router.

    client ── router ── trunk ┬─ node 1   10.0.0.1
                              └─ node 2   10.0.0.2

The tests, the control plane and the router are in one network namespace, the client in another. The pods are
on the trunk too, in a subnet of their own.
"""

import subprocess
from typing import NamedTuple

ROUTER = "10.0.0.254"  # and the API server
SERVICES = "10.96.0.0/16"
NEAR, FAR = "203.0.113.9", "203.0.113.200"  # two addresses of the client
NEAR_CLIENTS = "203.0.113.0/25"  # to which pods answer through their node
_ROUTER = (
    "ip link set lo up",
    "ip link add trunk type bridge",
    f"ip address add {ROUTER}/24 dev trunk",
    "ip address add 192.168.50.1/24 dev trunk",
    "ip link set trunk up",
    "ip netns add client",
    "ip link add outside type veth peer name eth0 netns client",
    "ip address add 203.0.113.1/24 dev outside",
    "ip link set outside up",
    f"ip -n client address add {NEAR}/24 dev eth0",
    f"ip -n client address add {FAR}/24 dev eth0",
    "ip -n client link set eth0 up",
    "ip -n client route add default via 203.0.113.1",
    "sysctl -qw net.ipv4.ip_forward=1",
)


class Place(NamedTuple):
    """A node's place in it: 1 or 2."""

    number: int

    @property
    def name(self) -> str:
        return f"node{self.number}"

    @property
    def address(self) -> str:
        return f"10.0.0.{self.number}"


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def put_router() -> None:
    """Make what is not a node of the namespace that this process is in."""
    for command in _ROUTER:
        run(*command.split())


def connect(place: Place, process: int) -> None:
    """Put a node, of which one process is known, on the trunk."""
    port = f"port{place.number}"
    inside = f"nsenter --target={process} --net"
    subprocess.run(["ip", "link", "delete", port], capture_output=True, check=False)  # of an earlier start
    for command in (
        f"ip link add {port} type veth peer name eth0 netns {process}",
        f"ip link set {port} master trunk up",
        f"{inside} ip link set lo up",
        f"{inside} ip address add {place.address}/24 dev eth0",
        f"{inside} ip link set eth0 up",
        f"{inside} ip route add default via {ROUTER}",
        f"{inside} sysctl -qw net.ipv4.ip_forward=1",
    ):
        run(*command.split())


def on_client(script: str) -> str:
    """Run a script on the client; return what it prints."""
    command = ["ip", "netns", "exec", "client", "sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
