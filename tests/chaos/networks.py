"""Eleven networks: every driver and mode; on interfaces, VLANs, nested ones, isolated; both families."""

import ipaddress
from typing import NamedTuple

from tests.lab.world import Json, network

UPLINKS = ("eth0", "eth1")


class Net(NamedTuple):
    """A network, the interfaces below its pods from the uplink upwards, and how many pods it has room for."""

    conf: Json
    chain: tuple[str, ...]
    room: int = 100

    @property
    def name(self) -> str:
        return str(self.conf["name"])

    @property
    def made(self) -> tuple[str, ...]:
        """The interfaces that the plugin makes."""
        parents = self.chain[1:] if self.chain[0] in UPLINKS else self.chain
        return (*parents, f"host-{self.chain[-1]}") if self.host_access else parents

    def has(self, address: str) -> bool:
        """Whether an address is of one of its subnets."""
        subnets = [ipaddress.ip_network(each["subnet"]) for each in self.conf["ipam"]["subnets"]]
        return any(ipaddress.ip_address(address) in subnet for subnet in subnets)

    @property
    def host_access(self) -> bool:
        return bool(self.conf.get("hostAccess"))

    @property
    def is_way_to_node(self) -> bool:
        """Whether the pod has a route of its own to its node."""
        return self.host_access and self.conf.get("mode") not in {"l3", "l3s"}


def _net(number: int, parent: str, *, room: int = 100, **keys: object) -> Net:
    subnets = [f"10.{number}.0.0/29" if room < 6 else f"10.{number}.0.0/24"]
    if number % 2:
        subnets.append(f"fd00:{number}::/64")
    name = f"net{number}"
    conf = network(name, parent, *subnets, announce=number % 3, **keys)
    parts = parent.split(".")
    prefix = "di-" if keys.get("driver") == "ipvlan" else "dm-"
    chain = tuple(".".join(parts[: at + 1]) for at in range(len(parts))) if parent else (prefix + name,)
    return Net(conf, chain, room)


NETS = (
    _net(1, "eth0"),
    _net(2, "eth0.10", mode="private"),
    _net(3, "eth0.10", mode="bridge", hostAccess=True),
    _net(4, "eth0.20", mode="passthru", room=1),
    _net(5, "eth1.30", driver="ipvlan", mode="l2", hostAccess=True, hostRoutes=["10.96.0.0/12"]),
    _net(6, "eth1.40", driver="ipvlan", mode="l3", room=5, hostAccess=True),
    _net(7, "eth1.50", driver="ipvlan", mode="l3s", flag="private"),
    _net(8, "eth1.60.600", mode="vepa", room=5),
    _net(9, "eth1.60.601", driver="ipvlan", mode="l2", flag="vepa"),
    _net(10, ""),
    _net(11, "", driver="ipvlan", mode="l3"),
)
