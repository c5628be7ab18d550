"""An attachment as its network configures it, in validated values. Pure."""

import hashlib
from typing import NamedTuple

from cni_core.call import AttachmentKey
from cni_core.ifname import IFNAME_BYTES
from cni_core.result import DNS
from cni_vlan.parents import ALIAS, Isolated, Parent

IPAM_TIMEOUT_S = 30.0
IPAM_TIMEOUT_MOST_S = 600.0
EXPORT_TABLE = 177
EXPORT_TABLES = range(1, 253)  # those above are the kernel's, and FRR reads none above 252
_ALIAS_BYTES = 254  # IFALIASZ is 256: rtnl_alias takes one that is shorter than 255


class Claim(NamedTuple):
    """The use of a parent: the settings that have to agree between its children."""

    driver: str
    mode: str
    flag: str

    def describe(self) -> str:
        """Return the claim in words, for a message."""
        flag = f" flag {self.flag}" if self.driver == "ipvlan" else ""
        return f"{self.driver} {self.mode}{flag}"


class Export(NamedTuple):
    """The routing table for the prefixes of a network; `each_pod`: a route to each pod instead."""

    table: int
    each_pod: bool = False


class Ipam(NamedTuple):
    """The IPAM plugin of a network, and its timeout."""

    type: str
    timeout_s: float


class Attachment(NamedTuple):
    """One interface of one pod. MTU in bytes, 0 for the parent's; no `ipam` means layer 2 only.

    `host_access`: the pod and its node reach each other; `host_routes` are subnets routed through the node.
    `export`: None if the fabric learns no route to the pod.
    """

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
    host_access: bool = False
    host_routes: tuple[str, ...] = ()
    export: Export | None = None

    @property
    def isolated(self) -> bool:
        """Whether the parent is a dummy, through which nothing outside can be reached."""
        return isinstance(self.parent, Isolated)

    @property
    def layer3(self) -> bool:
        """Whether the child routes instead of bridging: no ARP, no gateway."""
        return self.claim.mode in {"l3", "l3s"}


def temporary_name(key: AttachmentKey) -> str:
    """Return the name of a child until it gets its own, which the DEL of a killed ADD can compute too."""
    return "v" + hashlib.sha256(key.text.encode()).hexdigest()[: IFNAME_BYTES - 1]


def child_alias(network: str, container_id: str) -> str:
    """Return the alias that marks a child, which tells DEL whose link it is about to delete."""
    return f"{ALIAS} child: {container_id} {network}"[:_ALIAS_BYTES]
