"""The state of a node as one value: links, records and leases; and the views of it for operators."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cni_core.call import AttachmentKey
from cni_net.observed import Link
from cni_net.rtnl import Rtnl
from cni_vlan.ledger import Ledger
from cni_vlan.records import OURS, AttachmentRecord, ParentRecord

# The addresses that IPAM holds for an attachment, in CIDR form, by network and key.
Leases = Mapping[tuple[str, AttachmentKey], tuple[str, ...]]
_NONE: Leases = {}


class PoolUse(NamedTuple):
    """The use of a subnet of a pool, counted in addresses that may be leased."""

    name: str
    subnet: str
    size: int
    free: int


class PoolFault(NamedTuple):
    """A fault of a pool that nodes share, with advice; `fatal` if pods may get no address."""

    pool: str
    text: str
    advice: str
    fatal: bool


class NodeState(NamedTuple):
    """The links that exist, and the records and leases of this boot."""

    links: Mapping[str, Link]
    parents: Mapping[str, ParentRecord]
    attachments: tuple[AttachmentRecord, ...]
    leases: Leases = _NONE
    pools: tuple[PoolUse, ...] = ()
    faults: tuple[PoolFault, ...] = ()

    def on(self, parent: str) -> list[AttachmentRecord]:
        """Return the attachments on a parent, sorted by pod and key."""
        found = [record for record in self.attachments if record.parent == parent]
        return sorted(found, key=lambda record: (record.pod, record.key))

    def carries_vlans(self, parent: str) -> bool:
        """Return whether another recorded parent is stacked on this one."""
        return any(record.uplink == parent for record in self.parents.values())

    def shim(self, parent: str) -> str:
        """Return the name of the shim by which the host reaches pods on a parent, "" if it reaches none."""
        return next((record.shim for record in self.on(parent) if record.shim), "")

    def addresses(self, record: AttachmentRecord) -> tuple[str, ...]:
        """Return the addresses of an attachment: the leased ones, else the recorded ones."""
        return self.leases.get((record.network, record.key), record.addresses)


def read_node(
    rtnl: Rtnl,
    ledger: Ledger,
    leases: Leases = _NONE,
    pools: tuple[PoolUse, ...] = (),
    faults: tuple[PoolFault, ...] = (),
) -> NodeState:
    """Read the state of this node, without locks: a call may be half-way through its changes."""
    parents = [record for name in ledger.parents() if (record := ledger.parent(name)) is not None]
    return NodeState(
        {link.name: link for link in rtnl.links()},
        {record.name: record for record in parents},
        tuple(user for record in parents for user in ledger.attachments(record.name)),
        leases,
        pools,
        faults,
    )


class Pod(NamedTuple):
    """One interface of one pod, as operators see it."""

    container_id: str
    ifname: str
    pod: str
    addresses: tuple[str, ...]


class ParentUse(NamedTuple):
    """A parent with its pods by network, as operators see it; `shim` is "" without host access."""

    name: str
    uplink: str
    created: bool
    use: str
    shim: str
    networks: Mapping[str, Sequence[Pod]]


def parents_in_use(node: NodeState) -> list[ParentUse]:
    """Return every parent with its pods."""
    return [_parent_use(node, record) for _name, record in sorted(node.parents.items())]


def _parent_use(node: NodeState, record: ParentRecord) -> ParentUse:
    networks: dict[str, list[Pod]] = {}
    for user in node.on(record.name):
        pod = Pod(user.key.container_id, user.key.ifname, user.pod.label, node.addresses(user))
        networks.setdefault(user.network, []).append(pod)
    use = record.claim.describe() if record.claim else ""
    return ParentUse(record.name, record.uplink, record.link == OURS, use, node.shim(record.name), networks)


def tree(parents: Sequence[ParentUse], idle: Sequence[str]) -> list[str]:
    """Return the lines that show parents below their uplinks, and networks and pods below them."""
    above = {parent.name for parent in parents if parent.uplink}
    roots = sorted({parent.uplink or parent.name for parent in parents} - above)
    lines = []
    for root in roots:
        lines += _branch(root, [p for p in parents if p.name == root], parents)
    lines += [f"{network}: no pods on this node" for network in idle]
    return lines or ["no networks"]


def _branch(name: str, own: Sequence[ParentUse], parents: Sequence[ParentUse]) -> list[str]:
    lines = [_title(own[0]) if own else name]
    children = [_branch(p.name, [p], parents) for p in parents if p.uplink == name]
    if own:
        children += [_network(network, pods) for network, pods in own[0].networks.items()]
    return lines + _indented(children)


def _title(parent: ParentUse) -> str:
    created = "created, removed with its last pod" if parent.created else "existing, never changed"
    access = f"host access by {parent.shim}" if parent.shim else ""
    return f"{parent.name} ({', '.join(filter(None, (parent.use, created, access)))})"


def _network(network: str, pods: Sequence[Pod]) -> list[str]:
    count = f"{len(pods)} pod" + ("s" if len(pods) != 1 else "")
    shown = [[" ".join([p.pod or p.container_id[:13], p.ifname, *p.addresses])] for p in pods]
    return [f"network {network}, {count}", *_indented(shown)]


def _indented(children: Sequence[Sequence[str]]) -> list[str]:
    lines = []
    for at, child in enumerate(children):
        last = at == len(children) - 1
        lines.append(("└─ " if last else "├─ ") + child[0])
        lines += [("   " if last else "│  ") + line for line in child[1:]]
    return lines
