"""Which objects of dead nodes may be taken from them. Pure.

A node is dead only on proof: no authority knows it any more, or an operator has said so. A node that does not
answer may be alive, with pods on the wire. After the proof there is a grace, and a second look; then the
addresses have to be silent on the wire, as seen from another node. Any agent may take an object: comparing
and deleting it elects one.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cni_ipam.engine import NOBODY, Entry

GRACE_S = 600.0


class Proof(NamedTuple):
    """The proof that the node of an object is dead; `since` in seconds of this node's own clock."""

    reason: str
    since: float
    times: int = 1


def dead(
    objects: Sequence[Entry], nodes: Sequence[Entry], authority: Mapping[str, str] | None
) -> dict[str, str]:
    """Return the incarnations of dead nodes among the holders of blocks or pins, each with its proof.

    `nodes` are the objects by which nodes have joined the cluster. `authority` is the engine's list of
    machines with proofs of death, None without one; then only an operator removes a node.
    """
    joined: dict[str, list[str]] = {}  # a node that was renamed has two names for a moment
    for entry in nodes:
        joined.setdefault(entry.incarnation, []).append(str(entry.fields.get("node")))
    found = {}
    for entry in objects:
        incarnation = entry.incarnation
        if incarnation in {"", NOBODY}:
            continue  # damaged, or a declined address
        names = joined.get(incarnation, [])
        proofs = [_proof(name, authority) for name in names]
        if not names:
            found[incarnation] = f"node {entry.fields.get('node')} was removed from the cluster"
        elif all(proofs):
            found[incarnation] = proofs[0]
    return found


def _proof(name: str, authority: Mapping[str, str] | None) -> str:
    """Return the authority's proof that a node is dead, "" if there is none."""
    if authority is None:
        return ""
    if name not in authority:
        return f"node {name} does not exist"
    return f"node {name}: {authority[name]}" if authority[name] else ""


def observed(before: Mapping[str, Proof], found: Mapping[str, str], now: float) -> dict[str, Proof]:
    """Return the proofs after one more look; one that was interrupted begins anew."""
    proofs = {}
    for incarnation, reason in found.items():
        known = before.get(incarnation)
        if known is None:
            proofs[incarnation] = Proof(reason, now)
        else:
            proofs[incarnation] = Proof(reason, known.since, known.times + 1)
    return proofs


def due(proofs: Mapping[str, Proof], now: float, grace_s: float) -> dict[str, str]:
    """Return the incarnations whose grace is over, with their proofs."""
    return {
        incarnation: proof.reason
        for incarnation, proof in proofs.items()
        if proof.times > 1 and now - proof.since >= grace_s
    }
