"""DEL and GC: lenient; they need no valid configuration and go on after every fault."""

from cni_core import delegate
from cni_core.call import Call, section, valid_attachments
from cni_core.context import Context
from cni_core.events import stage_ended
from cni_core.failures import Failures
from cni_net.netns import SandboxGone, open_sandbox
from cni_net.observed import Link
from cni_net.operations import DeleteLink
from cni_net.rtnl import open_rtnl
from cni_vlan import parent
from cni_vlan.attachment import child_alias, temporary_name
from cni_vlan.events import Detached
from cni_vlan.ledger import Ledger
from cni_vlan.parent import Host

_IPAM_TIMEOUT_S = 30.0


def delete(call: Call, context: Context) -> None:
    """Detach: link, then lease, then parent; each whatever the one before did."""
    failures = Failures()
    with failures.gathered():
        _delete_child(call, context)
    context.emit(stage_ended("link"))
    ipam_type = _ipam_type(call)
    if ipam_type:
        with failures.gathered():
            delegate.ipam_run(call, context, ipam_type, "DEL", _timeout_s(call))
    context.emit(stage_ended("lease"))
    with failures.gathered(), open_rtnl() as rtnl:
        parent.release(Host(rtnl, Ledger()), call.network, call.key.text)
    context.emit(stage_ended("parent"))
    failures.raise_first()
    context.emit(Detached(call.key, call.network))


def _ipam_type(call: Call) -> str:
    ipam_type = section(call.conf, "ipam", "type")
    return ipam_type if isinstance(ipam_type, str) else ""


def _timeout_s(call: Call) -> float:
    """Return the deadline for IPAM without validating the configuration."""
    value = call.conf.get("ipamTimeout")
    return float(value) if isinstance(value, int | float) and value > 0 else _IPAM_TIMEOUT_S


def _delete_child(call: Call, context: Context) -> None:
    """Delete the child if it is there and not another container's, who may have got the same sandbox path."""
    if not call.netns and context.sandbox_fd is None:
        return
    try:
        with open_sandbox(call.netns, context.sandbox_fd, own_allowed=call.sandbox_may_be_own) as sandbox:
            with open_rtnl(sandbox) as inside:
                for name in (call.ifname, temporary_name(call.key.text)):
                    link = inside.find_link(name=name)
                    if link is not None and _is_ours(link, call):
                        inside.apply([DeleteLink(link.ifindex, link.name)])
    except SandboxGone:
        return


def _is_ours(link: Link, call: Call) -> bool:
    """Tell our child, or one without any mark such as the reference plugins make, from another's."""
    ours = child_alias(call.network, call.container_id)
    return link.kind in {"macvlan", "ipvlan"} and link.alias in {"", ours}


def gc(call: Call, context: Context) -> None:
    """Release the attachments of this network that are not in the valid list; no list is no information."""
    keys = valid_attachments(call.conf)
    valid = None if keys is None else {key.text for key in keys}
    failures = Failures()
    if valid is not None:
        with open_rtnl() as rtnl:
            host = Host(rtnl, Ledger())
            for key in list(host.ledger.keys(call.network)):
                if key not in valid:
                    with failures.gathered():
                        parent.release(host, call.network, key)
    ipam_type = _ipam_type(call)
    if ipam_type:
        with failures.gathered():
            delegate.ipam_run(call, context, ipam_type, "GC", _timeout_s(call))
    failures.raise_first()
