"""The doctor: examines a node, and gives advice on each problem. Changes nothing."""

import os
import socket
from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import combinations
from typing import NamedTuple

from cni_core import libcni
from cni_core.call import AttachmentKey
from cni_net.rtnl import Rtnl
from cni_vlan import daemons, fabric, guards
from cni_vlan.attachment import Attachment
from cni_vlan.host_access import is_shim
from cni_vlan.netdir import NetworkFile
from cni_vlan.node import NodeState
from cni_vlan.parent_decision import is_ours
from cni_vlan.parents import Isolated, Vlan
from cni_vlan.records import OURS
from cni_vlan.status import uplink_trouble

_UNIT, _UNIT_PLACES = "cni-agent.socket", ("/etc/systemd/system", "/lib/systemd/system")
_KINDS = {"macvlan": "macvlan", "ipvlan": "ipvlan", "vlan": "8021q", "dummy": "dummy"}  # and their modules


class Verdict(Enum):
    """The severity of a finding."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """The outcome of one check, with advice for the operator."""

    verdict: Verdict
    subject: str
    text: str
    advice: str = ""


class Subject(NamedTuple):
    """The node under examination."""

    rtnl: Rtnl
    node: NodeState
    files: Sequence[NetworkFile]
    agent: str

    @property
    def wanted(self) -> list[Attachment]:
        """The attachments that the valid files describe."""
        return [attachment for file in self.files for attachment in file.attachments]


def examine(subject: Subject) -> list[Finding]:
    """Return the findings, causes before their consequences."""
    checks = (kernel, configurations, uplinks, sharing, parents, pools, exports, sandboxes, agent)
    return [finding for check in checks for finding in check(subject)]


def kernel(subject: Subject) -> Iterator[Finding]:
    """Check that the kernel supports each link kind; a kind that no network needs is only a warning."""
    needed = {kind for attachment in subject.wanted for kind in _kinds(attachment)}
    missing = [kind for kind in _KINDS if not subject.rtnl.supports(kind)]
    there = [kind for kind in _KINDS if kind not in missing]
    if there:
        yield Finding(Verdict.OK, "kernel", f"supports {', '.join(there)}")
    for kind in missing:
        verdict = Verdict.FAIL if kind in needed else Verdict.WARN
        advice = f"modprobe {_KINDS[kind]}, or use a kernel that has this module"
        yield Finding(verdict, "kernel", f"does not support links of kind {kind}", advice)


def _kinds(attachment: Attachment) -> Iterator[str]:
    yield attachment.claim.driver
    if isinstance(attachment.parent, Vlan):
        yield "vlan"
    if isinstance(attachment.parent, Isolated):
        yield "dummy"


def configurations(subject: Subject) -> Iterator[Finding]:
    """Find the problems of each configuration file."""
    if not subject.files:
        yield Finding(
            Verdict.WARN,
            "networks",
            "none is configured",
            "write a configuration: docs/quickstart.md has examples",
        )
    for file in subject.files:
        name = os.path.basename(file.path)
        yield from (Finding(Verdict.FAIL, name, text, "correct the file") for text in file.problems)
        yield from (Finding(Verdict.WARN, name, text, "correct the file") for text in file.warnings)
        if not file.problems:
            networks = ", ".join(attachment.network for attachment in file.attachments)
            yield Finding(Verdict.OK, name, f"configures {networks}")


def uplinks(subject: Subject) -> Iterator[Finding]:
    """Check that pods can be attached now."""
    for attachment in subject.wanted:
        trouble = uplink_trouble(attachment, subject.rtnl)
        if trouble is None:
            if not attachment.link_in_container:
                yield Finding(Verdict.OK, attachment.network, f"parent {attachment.parent.name} is ready")
        elif trouble.fatal:
            advice = "no pod can be attached: bring the interface up, or correct the key parent"
            yield Finding(Verdict.FAIL, attachment.network, trouble.text, advice)
        else:
            advice = "its pods can reach only each other: check the cable and the switch port"
            yield Finding(Verdict.WARN, attachment.network, trouble.text, advice)


def _shims(node: NodeState, parent: str) -> Iterator[Finding]:
    name = node.shim(parent)
    if name and name not in node.links:
        pods = sum(bool(record.shim) for record in node.on(parent))
        text = f"is missing: the host cannot reach {_interfaces(pods)}"
        advice = "the next pod on this parent recreates it for all of them; or recreate these pods"
        yield Finding(Verdict.FAIL, name, text, advice)
    elif name and not node.links[name].up:
        advice = f"ip link delete {name}; the next pod on this parent recreates it with its routes"
        yield Finding(Verdict.FAIL, name, "is down: the host cannot reach its pods", advice)


def _interfaces(count: int) -> str:
    return f"{count} pod interface" + "s" * (count != 1)


def pools(subject: Subject) -> Iterator[Finding]:
    """Find subnets without a free address, and faults of pools that nodes share."""
    for pool in subject.node.pools:
        if pool.size and not pool.free:
            text = f"no address of {pool.subnet} is free ({pool.size} leased)"
            advice = (
                "new pods wait for an address: enlarge the range, or list the holders with cni-ipam leases"
            )
            yield Finding(Verdict.WARN, f"pool {pool.name}", text, advice)
    for fault in subject.node.faults:
        verdict = Verdict.FAIL if fault.fatal else Verdict.WARN
        yield Finding(verdict, f"pool {fault.pool}", fault.text, fault.advice)


def exports(subject: Subject) -> Iterator[Finding]:
    """Check that the fabric can learn of the exported prefixes, and can reach them."""
    routes = fabric.exported(subject.rtnl, subject.node)
    for route in routes:
        where = f"route {route.prefix}"
        if not route.is_there:
            advice = "a running agent adds it within a minute: check the agent"
            yield Finding(Verdict.FAIL, where, f"is not in table {route.table}", advice)
        if not route.next_hops and not route.by_host:
            text = f"{route.parent} has no address of this family, so routers have no next hop"
            yield Finding(
                Verdict.WARN, where, text, "give it an address in the router's subnet, or set hostAccess"
            )
        if not route.daemons:
            known = daemons.present()
            text = f"{' and '.join(known)} have not learned it" if known else "no BIRD or FRR is installed"
            yield Finding(Verdict.WARN, where, text, "see docs/bgp.md")
    for other in fabric.foreign(subject.rtnl, routes):
        advice = "it is announced as well: remove it, or use another exportTable"
        yield Finding(
            Verdict.WARN, f"table {other.table}", f"{other.prefix} was not added by cni-vlan", advice
        )


def sharing(subject: Subject) -> Iterator[Finding]:
    """Find networks that cannot share a parent, judged by their files or by the running pods."""
    advice = "use the same mode, or another VLAN"
    for one, other in combinations(subject.wanted, 2):
        reason = guards.sharing_conflict(one.claim, other.claim)
        if reason and one.parent.name == other.parent.name:
            text = f"{one.network} is {one.claim.describe()}, {other.network}"
            text += f" {other.claim.describe()}: {reason}"
            yield Finding(Verdict.FAIL, one.parent.name, text, advice)
    for attachment in subject.wanted:
        parent = attachment.parent.name
        record = subject.node.parents.get(parent)
        if record is None or record.claim is None or not subject.node.on(parent):
            continue
        reason = guards.sharing_conflict(attachment.claim, record.claim)
        passthru = record.claim.mode == "passthru" == attachment.claim.mode  # that one pod may be ours
        if reason and not passthru:
            text = f"pods use it as {record.claim.describe()}, {attachment.network} asks for"
            text += f" {attachment.claim.describe()}: {reason}"
            yield Finding(Verdict.FAIL, parent, text, f"new pods are refused until those are gone: {advice}")


def parents(subject: Subject) -> Iterator[Finding]:
    """Find parents without links, and links without records."""
    node = subject.node
    for name, record in sorted(node.parents.items()):
        users = len(node.on(name))
        if name not in node.links and users:
            advice = "recreate these pods; the first of them recreates the parent"
            yield Finding(Verdict.FAIL, name, f"is missing, with {_interfaces(users)} on it", advice)
        elif name in node.links and not (users or node.carries_vlans(name)) and record.link == OURS:
            advice = f"it is removed after its next pod; or run: ip link delete {name}"
            yield Finding(Verdict.WARN, name, "is left over: it carries no pod", advice)
        elif users:
            yield Finding(Verdict.OK, name, f"carries {_interfaces(users)}")
        yield from _shims(node, name)
    for name, link in sorted(node.links.items()):
        if is_ours(link) and name not in node.parents:
            advice = f"if no pod is on it, run: ip link delete {name}"
            yield Finding(Verdict.WARN, name, "was created for pods, but has no record of its users", advice)
        elif is_shim(link) and name not in {record.shim for record in node.attachments}:
            advice = f"the next pod on its parent uses it; or run: ip link delete {name}"
            yield Finding(Verdict.WARN, name, "is left over: no pod needs it", advice)


def sandboxes(subject: Subject) -> Iterator[Finding]:
    """Find the leftovers of containers whose network namespace is gone: the runtime called no DEL."""
    node = subject.node
    sandbox_paths = {(record.network, record.key): record.sandbox for record in node.attachments}
    held = {
        (record.network, record.key): (f"on {record.parent}", *node.addresses(record))
        for record in node.attachments
    }
    for where, addresses in node.leases.items():
        held.setdefault(where, addresses)
    gone = [where for where in held if _is_gone(*where, sandbox_paths.get(where, ""))]
    for network, key in sorted(gone):
        advice = f"have the runtime remove the pod; if it does not know it: {_releasing(node, network, key)}"
        text = f"container {key.text} is gone, but still holds {', '.join(held[network, key])}"
        yield Finding(Verdict.WARN, network, text, advice)
    if held and not gone:
        yield Finding(Verdict.OK, "leftovers", f"none among {len(held)} attachments")


def _releasing(node: NodeState, network: str, key: AttachmentKey) -> str:
    """Return the command that releases a container's attachment or lease."""
    if any((record.network, record.key) == (network, key) for record in node.attachments):
        return f"cni-vlan release {key.container_id} {key.ifname}"
    return f"cni-ipam release {node.leases[network, key][0].partition('/')[0]}"


def _is_gone(network: str, key: AttachmentKey, sandbox: str) -> bool:
    """Return whether a recorded namespace is gone; a record of version 1 has none, so libcni's counts."""
    path = sandbox or libcni.sandbox_of(network, key.container_id, key.ifname)
    return bool(path) and not os.path.exists(str(path))


def agent(subject: Subject) -> Iterator[Finding]:
    """Check that the agent accepts connections."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        try:
            connection.connect(subject.agent)
        except OSError as error:
            text = f"{subject.agent}: {error.strerror or error}: pods are attached without it, more slowly"
            yield Finding(Verdict.WARN, "agent", text, _starting_the_agent())
        else:
            yield Finding(Verdict.OK, "agent", f"listens on {subject.agent}")


def _starting_the_agent() -> str:
    """Return the advice for a node without an agent, which depends on the installation."""
    if any(os.path.exists(f"{place}/{_UNIT}") for place in _UNIT_PLACES):
        return f"systemctl enable --now {_UNIT}"
    return "check the pod of its DaemonSet, or install the package: docs/quickstart.md"
