"""Looking a node over: what works, what does not, and what to do about it. Changes nothing."""

import os
import socket
from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import combinations
from typing import NamedTuple

from cni_core import libcni
from cni_core.errors import CniError
from cni_net.rtnl import Rtnl
from cni_vlan import guards
from cni_vlan.attachment import ALIAS, Attachment
from cni_vlan.inventory import Lease
from cni_vlan.ledger import OURS, Ledger
from cni_vlan.netdir import NetworkFile
from cni_vlan.status import check_uplink

_KINDS = {"macvlan": "macvlan", "ipvlan": "ipvlan", "vlan": "8021q", "dummy": "dummy"}  # and their modules


class Verdict(Enum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """One thing that was looked at; `advice` is what to do."""

    verdict: Verdict
    subject: str
    text: str
    advice: str = ""


class Node(NamedTuple):
    """What is looked at."""

    rtnl: Rtnl
    ledger: Ledger
    files: Sequence[NetworkFile]
    leases: Sequence[Lease]
    agent: str

    @property
    def attachments(self) -> list[Attachment]:
        """What the valid files ask for."""
        return [attachment for file in self.files for attachment in file.attachments]


def examine(node: Node) -> list[Finding]:
    """Return what was found, in the order in which things depend on each other."""
    checks = (kernel, configurations, uplinks, sharing, parents, sandboxes, agent)
    return [finding for check in checks for finding in check(node)]


def kernel(node: Node) -> Iterator[Finding]:
    """Look whether the kernel has each link kind; one that no network needs is only worth a warning."""
    needed = {kind for attachment in node.attachments for kind in _kinds(attachment)}
    missing = [kind for kind in _KINDS if not node.rtnl.supports(kind)]
    there = [kind for kind in _KINDS if kind not in missing]
    if there:
        yield Finding(Verdict.OK, "kernel", f"has {', '.join(there)}")
    for kind in missing:
        verdict = Verdict.FAIL if kind in needed else Verdict.WARN
        advice = f"modprobe {_KINDS[kind]}, or a kernel that has it"
        yield Finding(verdict, "kernel", f"cannot make links of kind {kind}", advice)


def _kinds(attachment: Attachment) -> Iterator[str]:
    yield attachment.claim.driver
    if attachment.parent.uplink is not None:
        yield "vlan"
    if attachment.parent.isolated_network:
        yield "dummy"


def configurations(node: Node) -> Iterator[Finding]:
    """Tell what is wrong with each file."""
    if not node.files:
        yield Finding(Verdict.WARN, "networks", "no file configures one", "see manifests/networks")
    for file in node.files:
        name = os.path.basename(file.path)
        yield from (Finding(Verdict.FAIL, name, text, "correct the file") for text in file.problems)
        yield from (Finding(Verdict.WARN, name, text, "correct the file") for text in file.warnings)
        if not file.problems:
            networks = ", ".join(attachment.network for attachment in file.attachments)
            yield Finding(Verdict.OK, name, f"configures {networks}")


def uplinks(node: Node) -> Iterator[Finding]:
    """Look whether pods could be attached now."""
    for attachment in node.attachments:
        if attachment.link_in_container:
            continue
        try:
            check_uplink(attachment, node.rtnl)
        except CniError as error:
            advice = "no pod can be attached to it: plug it in, bring it up, or correct parent"
            yield Finding(Verdict.FAIL, attachment.network, error.msg.partition(": ")[2], advice)
        else:
            yield Finding(Verdict.OK, attachment.network, f"parent {attachment.parent.name} can be used")


def sharing(node: Node) -> Iterator[Finding]:
    """Find networks that cannot have pods on one parent at once, by their files or by the pods that run."""
    advice = "use the same mode, or another VLAN"
    for one, other in combinations(node.attachments, 2):
        reason = guards.sharing_conflict(one.claim, other.claim)
        if reason and one.parent.name == other.parent.name:
            text = f"{one.network} is {one.claim.describe()}, {other.network}"
            text += f" {other.claim.describe()}: {reason}"
            yield Finding(Verdict.FAIL, one.parent.name, text, advice)
    for attachment in node.attachments:
        parent = attachment.parent.name
        state = node.ledger.state(parent)
        if state is None or state.claim is None or not node.ledger.has_users(parent):
            continue
        reason = guards.sharing_conflict(attachment.claim, state.claim)
        passthru = state.claim.mode == "passthru" == attachment.claim.mode  # its one pod may be ours
        if reason and not passthru:
            text = f"pods use it as {state.claim.describe()}, {attachment.network} asks for"
            text += f" {attachment.claim.describe()}: {reason}"
            yield Finding(Verdict.FAIL, parent, text, f"new pods wait until those have gone; or {advice}")


def parents(node: Node) -> Iterator[Finding]:
    """Find parents without links, and links without records."""
    known = dict(node.ledger.parents())
    links = {link.name: link for link in node.rtnl.links()}
    for parent, users in sorted(known.items()):
        state = node.ledger.state(parent)
        if state is None:
            continue  # of an earlier boot: void, and removed when met
        if parent not in links and users:
            advice = "recreate these pods; the next one makes the parent again"
            yield Finding(Verdict.FAIL, parent, f"is gone, and cuts {users} pods off", advice)
        elif parent in links and not (users or node.ledger.has_vlans(parent)) and state.link == OURS:
            advice = f"the next pod on it takes it along; or: ip link delete {parent}"
            yield Finding(Verdict.WARN, parent, "is a leftover without pods", advice)
        elif users:
            yield Finding(Verdict.OK, parent, f"carries {users} pod interface" + "s" * (users != 1))
    for name, link in sorted(links.items()):
        if link.alias.startswith(f"{ALIAS} parent:") and name not in known:
            advice = f"if no pod is on it: ip link delete {name}"
            yield Finding(Verdict.WARN, name, "was created for pods, and no record says for which", advice)


def sandboxes(node: Node) -> Iterator[Finding]:
    """Find what containers hold whose network namespace is gone: the runtime called no DEL."""
    held: dict[tuple[str, str], str] = {
        (user.network, key): f"on {parent}"
        for parent, _users in node.ledger.parents()
        for key, user in node.ledger.users(parent)
    }
    for lease in node.leases:
        where = held.get((lease.network, lease.key), "")
        held[lease.network, lease.key] = ", ".join(filter(None, [where, *lease.addresses]))
    gone = [(network, key, what) for (network, key), what in held.items() if _is_gone(network, key)]
    for network, key, what in sorted(gone):
        address = next((part.partition("/")[0] for part in what.split(", ") if "/" in part), "")
        advice = "have the runtime remove the pod (it calls DEL)" + (
            f"; only the lease: cni-ipam release {address}" if address else ""
        )
        yield Finding(Verdict.WARN, network, f"container {key} is gone, and holds {what}", advice)
    if held and not gone:
        yield Finding(Verdict.OK, "leftovers", f"none among {len(held)} attachments")


def _is_gone(network: str, key: str) -> bool:
    """Tell whether libcni recorded a namespace that is not there any more."""
    container_id, _colon, ifname = key.partition(":")
    sandbox = libcni.sandbox_of(network, container_id, ifname)
    return bool(sandbox) and not os.path.exists(str(sandbox))


def agent(node: Node) -> Iterator[Finding]:
    """Look whether the agent answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        try:
            connection.connect(node.agent)
        except OSError as error:
            text = f"{node.agent}: {error.strerror or error}: the one-shot plugin attaches pods, slower"
            yield Finding(Verdict.WARN, "agent", text, "systemctl enable --now cni-agent.socket")
        else:
            yield Finding(Verdict.OK, "agent", f"listens on {node.agent}")
