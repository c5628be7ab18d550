"""STATUS: whether an ADD of this network can succeed on this node, or an operator has to act first.

containerd asks every few seconds and passes an error on to kubelet: the node is then not ready, and after
five minutes all its pods are evicted, healthy pods of other networks too. So a fault that may clear by itself
is only a warning.
"""

from typing import NamedTuple

from cni_core import delegate
from cni_core.call import Call
from cni_core.context import Context
from cni_core.errors import CniError, LimitedConnectivity, NotAvailable, TryAgainLater
from cni_net.rtnl import Rtnl, open_rtnl
from cni_vlan import shim
from cni_vlan.attachment import Attachment
from cni_vlan.ledger import Ledger
from cni_vlan.parent_decision import is_ours
from cni_vlan.parents import Isolated, is_auto, lowest


class Trouble(NamedTuple):
    """A fault of a parent; `fatal` if no pod can be attached to it."""

    text: str
    fatal: bool = True


def status(call: Call, context: Context) -> None:
    """Raise NotAvailable or LimitedConnectivity if no ADD can succeed; warn of faults that may clear."""
    from cni_vlan import config

    attachment = config.parse(call, context.warn)
    with open_rtnl() as rtnl:
        trouble = uplink_trouble(attachment, rtnl)
    if trouble is not None:
        text = f"network {attachment.network}: {trouble.text}"
        if trouble.fatal:
            raise LimitedConnectivity(text)
        context.warn(text)
    try:
        Ledger().check_writable()
        if attachment.ipam is not None:
            delegate.ipam_run(call, context, attachment.ipam.type, "STATUS", attachment.ipam.timeout_s)
    except NotAvailable:
        raise
    except TryAgainLater as error:
        context.warn(f"network {attachment.network}: {error.msg}")
    except CniError as error:
        raise NotAvailable(error.msg, error.details) from error


def uplink_trouble(attachment: Attachment, rtnl: Rtnl) -> Trouble | None:
    """Return the fault of the parent or of its lowest uplink, None if both are good."""
    if attachment.link_in_container or isinstance(attachment.parent, Isolated):
        return None
    if is_auto(attachment.parent):
        return None if rtnl.default_routes() else Trouble("no default route for parent auto")
    name = lowest(attachment.parent).name
    quiet = None
    for wanted in dict.fromkeys((name, attachment.parent.name)):
        link = rtnl.find_link(name=wanted)
        if link is None and wanted == name:
            return Trouble(f"{wanted} does not exist")
        if link is not None and not link.up:
            return Trouble(f"{wanted} is down", fatal=not is_ours(link))  # an ADD brings up a link of ours
        if link is not None and not link.carrier:
            quiet = quiet or Trouble(f"{wanted} has no carrier", fatal=False)
    return _filter_trouble(attachment, rtnl) or quiet


def _filter_trouble(attachment: Attachment, rtnl: Rtnl) -> Trouble | None:
    link = rtnl.find_link(name=attachment.parent.name) if attachment.host_access else None
    reason = shim.filtered(rtnl, attachment, link) if link is not None and not is_ours(link) else ""
    return Trouble(reason) if reason else None
