"""What is attached on this node: parents, the networks on them, their pods."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cni_vlan.ledger import OURS, Ledger, ParentState, User


class Lease(NamedTuple):
    """What IPAM says of an attachment, by its key; `void` if it is of an earlier boot."""

    network: str
    key: str
    addresses: tuple[str, ...]
    pod: str = ""


class Pod(NamedTuple):
    """One interface of one pod."""

    container_id: str
    ifname: str
    pod: str
    addresses: tuple[str, ...]


class ParentUse(NamedTuple):
    """A parent and, by network, the pods on it."""

    name: str
    uplink: str
    created: bool
    use: str
    networks: Mapping[str, Sequence[Pod]]


def attached(ledger: Ledger, leases: Sequence[Lease]) -> list[ParentUse]:
    """Return every parent that the ledger of this boot knows."""
    addresses = {(lease.network, lease.key): lease.addresses for lease in leases}
    found = []
    for parent, _users in sorted(ledger.parents()):
        state = ledger.state(parent) or ParentState("")
        networks: dict[str, list[Pod]] = {}
        for key, user in sorted(ledger.users(parent), key=_by_name):
            container_id, _colon, ifname = key.partition(":")
            given = addresses.get((user.network, key), ())
            pods = networks.setdefault(user.network, [])
            pods.append(Pod(container_id, ifname, user.pod.partition(" ")[0], given))
        use = state.claim.describe() if state.claim else ""
        found.append(ParentUse(parent, state.uplink, state.link == OURS, use, networks))
    return found


def _by_name(entry: tuple[str, User]) -> tuple[str, str]:
    key, user = entry
    return user.pod, key


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
    created = "created, removed with its last pod" if parent.created else "found, left alone"
    return f"{parent.name} ({', '.join(filter(None, (parent.use, created)))})"


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
