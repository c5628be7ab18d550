"""Taking and releasing the shim of a parent, and its routes; cni_vlan.host_access decides."""

import contextlib
from collections.abc import Sequence

from cni_core.errors import CniError, ParentConflict, UplinkMissing
from cni_core.family import Family
from cni_core.result import Result
from cni_core.undo import Undo
from cni_net.observed import Link
from cni_net.operations import DeleteLink
from cni_net.rtnl import MAIN_TABLE, NameTaken, Rtnl
from cni_net.sysctl import read_sysctl
from cni_vlan import host_access
from cni_vlan.attachment import Attachment
from cni_vlan.host_access import Action
from cni_vlan.ledger import Ledger
from cni_vlan.parent_decision import is_ours
from cni_vlan.parents import shim_name
from cni_vlan.records import AttachmentRecord


def take(rtnl: Rtnl, ledger: Ledger, attachment: Attachment, parent: Link) -> None:
    """Ensure that a parent has its shim, under the parent's lock.

    Raises ParentConflict for a foreign link with its name, and if source validation forbids host access.
    """
    if not is_ours(parent):  # judged by its mark, since a record may be damaged
        reason = filtered(rtnl, attachment, parent)
        if reason:
            raise ParentConflict(reason)
    link = rtnl.find_link(name=shim_name(parent.name))
    half_made = ledger.is_shim_begun(parent.name)
    match host_access.decide(link, parent, attachment.claim, half_made=half_made), link:
        case Action.REPLACE, Link() as old:
            rtnl.apply([DeleteLink(old.ifindex, old.name)])
            _create(rtnl, ledger, attachment, parent)
        case Action.CREATE, None:
            _create(rtnl, ledger, attachment, parent)
        case _:
            _loosen(rtnl, attachment, parent)  # somebody may have set it since


def _loosen(rtnl: Rtnl, attachment: Attachment, parent: Link) -> None:
    """Let a parent of ours accept the packets of its pods to the node."""
    if is_ours(parent):
        with contextlib.suppress(NameTaken):  # the address is there already
            rtnl.apply(host_access.loosen(parent, attachment.claim))


def filtered(rtnl: Rtnl, attachment: Attachment, parent: Link) -> str:
    """Return the reason why source validation forbids host access on an interface that is not ours."""
    filters = [read_sysctl(Family.IPV4, name, "rp_filter") for name in ("all", parent.name)]
    has_address = any("." in address for address in rtnl.addresses(parent.ifindex))
    return host_access.filtered(attachment.claim, parent.name, filters, has_address=has_address)


def _create(rtnl: Rtnl, ledger: Ledger, attachment: Attachment, parent: Link) -> None:
    ledger.begin_shim(parent.name)
    rtnl.apply([host_access.create(parent, attachment.claim)])
    link = _find(rtnl, parent.name)
    _loosen(rtnl, attachment, parent)
    rtnl.apply(host_access.prepare(link, parent.name))
    with contextlib.suppress(CniError):  # no IPv6 on this host: the ADD of a pod that needs it will fail
        rtnl.apply(host_access.own_ipv6(link))
    for other in ledger.attachments(parent.name):  # the shim before was removed under them
        if other.shim and other.addresses:
            # A fault of theirs must not fail this ADD; CHECK reports it. ValueError: a damaged record.
            with contextlib.suppress(CniError, ValueError):
                _join(rtnl, attachment, other.child_mac, link, other.addresses)
    ledger.finish_shim(parent.name)


def _find(rtnl: Rtnl, parent: str) -> Link:
    link = rtnl.find_link(name=shim_name(parent))
    if link is None:
        raise UplinkMissing(f"reach pods on {parent}: {shim_name(parent)} is gone")
    return link


def open_pod(rtnl: Rtnl, inside: Rtnl, attachment: Attachment, child: Link, result: Result) -> None:
    """Add a pod's routes to the node, and the addresses that they need on the shim."""
    shim = _find(rtnl, attachment.parent.name)
    addresses = rtnl.host_addresses()
    node = host_access.node_addresses(addresses, rtnl.links())
    rtnl.remove(host_access.outdated(shim, node, addresses))
    with contextlib.suppress(NameTaken):  # added by another pod's ADD
        rtnl.apply(host_access.carried(shim, attachment.claim, node, addresses))
    families = list(dict.fromkeys(ip.family for ip in result.ips))
    routes = inside.routes(table=MAIN_TABLE)
    other = 0 if attachment.layer3 else host_access.taken_by(child, routes)
    if other:
        raise ParentConflict(
            f"hostAccess of network {attachment.network}: interface {other} of the pod already has it"
        )
    near = () if host_access.is_second(child, routes) else node
    inside.apply(host_access.in_pod(attachment, child, shim, families, near))


def open_host(rtnl: Rtnl, attachment: Attachment, child: Link, result: Result, undo: Undo) -> None:
    """Add the host's routes to a pod."""
    shim = _find(rtnl, attachment.parent.name)
    addresses = [ip.address for ip in result.ips]
    undo.push(lambda: rtnl.remove(host_access.out_of_host(shim, addresses)))
    _join(rtnl, attachment, child.mac, shim, addresses)


def _join(rtnl: Rtnl, attachment: Attachment, mac: str, shim: Link, addresses: Sequence[str]) -> None:
    with contextlib.suppress(NameTaken):  # a killed DEL left a route; the kernel carries out the rest
        rtnl.apply(host_access.in_host(attachment, mac, shim, addresses))


def close_host(rtnl: Rtnl, ledger: Ledger, record: AttachmentRecord) -> None:
    """Remove the host's routes to a pod, before its addresses are released and the next pod may get them.

    This happens once: a repeated DEL finds no address in the record, and leaves the next pod's routes alone.
    """
    with ledger.locks() as held:
        held.hold(record.parent)
        current = ledger.attachment(record.parent, record.key)
        if current is None or not current.result:
            return
        shim = rtnl.find_link(name=current.shim)
        if shim is not None and host_access.is_shim(shim):
            rtnl.remove(host_access.out_of_host(shim, current.addresses))
        ledger.complete(current._replace(result={}))


def release(rtnl: Rtnl, ledger: Ledger, parent: str) -> None:
    """Remove a parent's shim once no pod needs it, under the parent's lock."""
    if ledger.needs_shim(parent):
        return
    link = rtnl.find_link(name=shim_name(parent))
    if link is not None and (host_access.is_shim(link) or (ledger.is_shim_begun(parent) and not link.alias)):
        rtnl.remove([DeleteLink(link.ifindex, link.name)])
    ledger.finish_shim(parent)


def mismatches(rtnl: Rtnl, record: AttachmentRecord) -> list[str]:
    """Return the faults of the host's path to a pod, in words."""
    return host_access.mismatches(
        record.shim, rtnl.find_link(name=record.shim), record.addresses, rtnl.routes(table=MAIN_TABLE)
    )
