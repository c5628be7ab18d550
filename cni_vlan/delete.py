"""DEL and GC: lenient; they need no valid configuration and go on after every fault."""

from cni_core import delegate
from cni_core.failures import Failures
from cni_core.invocation import Invocation, section, valid_attachments
from cni_core.links import DeleteLink, Link
from cni_core.netlink import open_rtnl
from cni_core.netns import SandboxGone, open_sandbox
from cni_vlan import parent
from cni_vlan.attachment import child_alias, temporary_name
from cni_vlan.ledger import Ledger
from cni_vlan.parent import Host

_IPAM_TIMEOUT_S = 30.0


def delete(invocation: Invocation) -> None:
    """Detach: link, then lease, then parent; each whatever the one before did."""
    failures = Failures()
    with failures.gathered():
        _delete_child(invocation)
    invocation.record.ended("link")
    ipam_type = _ipam_type(invocation)
    if ipam_type:
        with failures.gathered():
            delegate.ipam_run(invocation, ipam_type, "DEL", _timeout_s(invocation))
    invocation.record.ended("lease")
    with failures.gathered(), open_rtnl() as rtnl:
        parent.release(Host(rtnl, Ledger()), invocation.network, invocation.key)
    invocation.record.ended("parent")
    failures.raise_first()


def _ipam_type(invocation: Invocation) -> str:
    ipam_type = section(invocation.conf, "ipam", "type")
    return ipam_type if isinstance(ipam_type, str) else ""


def _timeout_s(invocation: Invocation) -> float:
    """Return the deadline for IPAM without validating the configuration."""
    value = invocation.conf.get("ipamTimeout")
    return float(value) if isinstance(value, int | float) and value > 0 else _IPAM_TIMEOUT_S


def _delete_child(invocation: Invocation) -> None:
    """Delete the child if it is there and not another container's, who may have got the same sandbox path."""
    if not invocation.netns and invocation.netns_fd is None:
        return
    try:
        with open_sandbox(
            invocation.netns, invocation.netns_fd, own_allowed=invocation.netns_override
        ) as sandbox:
            with open_rtnl(sandbox) as inside:
                for name in (invocation.ifname, temporary_name(invocation.key)):
                    link = inside.find_link(name=name)
                    if link is not None and _is_ours(link, invocation):
                        inside.apply([DeleteLink(link.ifindex, link.name)])
    except SandboxGone:
        return


def _is_ours(link: Link, invocation: Invocation) -> bool:
    """Tell our child, or one without any mark such as the reference plugins make, from another's."""
    ours = child_alias(invocation.network, invocation.container_id)
    return link.kind in {"macvlan", "ipvlan"} and link.alias in {"", ours}


def gc(invocation: Invocation) -> None:
    """Release the attachments of this network that are not in the valid list; no list is no information."""
    valid = valid_attachments(invocation.conf)
    failures = Failures()
    if valid is not None:
        with open_rtnl() as rtnl:
            host = Host(rtnl, Ledger())
            for key in list(host.ledger.keys(invocation.network)):
                if key not in valid:
                    with failures.gathered():
                        parent.release(host, invocation.network, key)
    ipam_type = _ipam_type(invocation)
    if ipam_type:
        with failures.gathered():
            delegate.ipam_run(invocation, ipam_type, "GC", _timeout_s(invocation))
    failures.raise_first()
