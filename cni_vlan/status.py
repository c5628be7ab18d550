"""STATUS: would an ADD work now."""

from cni_core import delegate
from cni_core.call import Call
from cni_core.context import Context
from cni_core.errors import CniError, LimitedConnectivity, NotAvailable
from cni_net.rtnl import Rtnl, open_rtnl
from cni_vlan.attachment import Attachment
from cni_vlan.ledger import Ledger
from cni_vlan.parents import Isolated, is_auto, lowest


def status(call: Call, context: Context) -> None:
    """Raise NotAvailable or LimitedConnectivity if an ADD would not work."""
    from cni_vlan import config

    attachment = config.parse(call, context.warn)
    with open_rtnl() as rtnl:
        if not attachment.link_in_container:
            check_uplink(attachment, rtnl)
    try:
        Ledger().check_writable()
        if attachment.ipam is not None:
            delegate.ipam_run(call, context, attachment.ipam.type, "STATUS", attachment.ipam.timeout_s)
    except NotAvailable:
        raise
    except CniError as error:
        raise NotAvailable(error.msg, error.details) from error


def check_uplink(attachment: Attachment, rtnl: Rtnl) -> None:
    """Raise LimitedConnectivity if the parent, or what it stands on, is absent, down or without carrier."""
    name = lowest(attachment.parent).name
    if isinstance(attachment.parent, Isolated):
        return
    if is_auto(attachment.parent):
        if not rtnl.default_routes():
            raise LimitedConnectivity(f"network {attachment.network}: no default route for parent auto")
        return
    for wanted in dict.fromkeys((name, attachment.parent.name)):
        link = rtnl.find_link(name=wanted)
        if link is None and wanted == name:
            raise LimitedConnectivity(f"network {attachment.network}: {wanted} does not exist")
        if link is not None and not (link.up and link.carrier):
            state = "has no carrier" if link.up else "is down"
            raise LimitedConnectivity(f"network {attachment.network}: {wanted} {state}")
