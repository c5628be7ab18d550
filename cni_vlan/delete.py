"""DEL and GC are lenient: they need no valid configuration and continue after every fault."""

from cni_core import delegate, netfile
from cni_core.call import Call, valid_attachments
from cni_core.context import Context
from cni_core.document import section
from cni_core.events import stage_ended
from cni_core.failures import Failures
from cni_net.netns import SandboxGone, open_sandbox
from cni_net.observed import Link
from cni_net.operations import DeleteLink
from cni_net.rtnl import open_rtnl
from cni_vlan import parent
from cni_vlan.attachment import IPAM_TIMEOUT_MOST_S, IPAM_TIMEOUT_S, child_alias, temporary_name
from cni_vlan.events import Detached
from cni_vlan.ledger import IndexEntry, Ledger
from cni_vlan.parent import Host
from cni_vlan.parents import shim_name
from cni_vlan.records import AttachmentRecord, lasting_conf

_RECORDED = ("ipam", "ipamTimeout", "cniVersion")


def delete(call: Call, context: Context) -> None:
    """Detach: link, then lease, then parent; a failed step does not stop the next one.

    A lease that is released over the link goes first. The record of the attachment decides, not the
    configuration, which may have changed since ADD.
    """
    ledger = Ledger()
    failures = Failures()
    entry: IndexEntry | None = None
    with failures.gathered():  # a record that cannot be read stays; the configuration decides the rest
        entry = ledger.find(call.network, call.key)
        if entry is None:
            call = _by_its_former_name(call, ledger)
            entry = ledger.find(call.network, call.key)
    recorded = _as_recorded(call, entry.record if entry else None)
    needs_link = delegate.needs_link_to_release(_ipam_type(recorded))
    if needs_link:
        _release_lease(entry, recorded, context, failures)
    with failures.gathered():
        _delete_child(call, context)
    context.emit(stage_ended("link"))
    if not needs_link:
        _release_lease(entry, recorded, context, failures)
    if entry is not None and not failures.is_temporary:  # else the next DEL needs the record
        with failures.gathered(), open_rtnl() as rtnl:
            parent.release(Host(rtnl, ledger), entry.record or _bare(call, entry))
    context.emit(stage_ended("parent"))
    failures.raise_first()
    context.emit(Detached(call.key, call.network))


def _release_lease(entry: IndexEntry | None, recorded: Call, context: Context, failures: Failures) -> None:
    """Release the addresses of an attachment, after the routes to them."""
    _remove_routes(entry, failures)
    with failures.gathered():
        _release_addresses(recorded, context)
    context.emit(stage_ended("lease"))


def _remove_routes(entry: IndexEntry | None, failures: Failures) -> None:
    with failures.gathered():
        _close_host(entry)
    with failures.gathered():
        _withdraw(entry)


def _by_its_former_name(call: Call, ledger: Ledger) -> Call:
    """Return the call for the network that the attachment was made in, if that was renamed since.

    A network was renamed if its name is no longer configured, and the call's name is. A network that is still
    configured is left alone: this may be the DEL of an ADD that was refused because the interface belongs to
    that network.
    """
    others = ledger.networks_of(call.key)
    if others:
        configured = netfile.networks(netfile.CONF_DIR)
        former = [name for name in others if name not in configured]
        if former and call.network in configured:
            return call._replace(conf={**call.conf, "name": former[0]})
    return call


def _as_recorded(call: Call, record: AttachmentRecord | None) -> Call:
    """Return a call with the IPAM section that the addresses came from, in the CNI version of the ADD.

    An older IPAM plugin that knows neither GC nor the CNI version of GC can still run a DEL.
    """
    if record is None or not record.conf:
        return call
    conf = {key: value for key, value in call.conf.items() if key not in _RECORDED}
    recorded = {key: record.conf[key] for key in _RECORDED if key in record.conf}
    return call._replace(
        command="DEL",
        conf=conf | recorded,
        container_id=record.key.container_id,
        ifname=record.key.ifname,
        netns=record.sandbox or call.netns,
    )


def _close_host(entry: IndexEntry | None) -> None:
    """Remove the host's routes to the pod, before another pod can get its addresses."""
    if entry is not None and entry.record is not None and entry.record.shim:
        from cni_vlan import shim

        with open_rtnl() as rtnl:
            shim.close_host(rtnl, Ledger(), entry.record)


def _withdraw(entry: IndexEntry | None) -> None:
    """Remove the exported routes of the pod alone, before another node can get its address."""
    if entry is not None and entry.record is not None and entry.record.table:
        from cni_vlan import exporter

        with open_rtnl() as rtnl:
            exporter.withdraw(rtnl, Ledger(), entry.record)


def _bare(call: Call, entry: IndexEntry) -> AttachmentRecord:
    """Return a minimal record of an attachment whose own record was damaged."""
    name = shim_name(entry.parent) if entry.parent else ""
    return AttachmentRecord(call.key, call.network, entry.parent, shim=name)


def _release_addresses(call: Call, context: Context) -> None:
    ipam_type = _ipam_type(call)
    if ipam_type:
        delegate.ipam_run(call, context, ipam_type, "DEL", _timeout_s(call))


def _ipam_type(call: Call) -> str:
    """Return the IPAM plugin without validating the configuration, "" for none."""
    value = section(call.conf, "ipam", "type")
    return value if isinstance(value, str) else ""


def _timeout_s(call: Call) -> float:
    """Return the timeout for IPAM without validating the configuration."""
    value = call.conf.get("ipamTimeout")
    return value if isinstance(value, int | float) and 0 < value <= IPAM_TIMEOUT_MOST_S else IPAM_TIMEOUT_S


def _delete_child(call: Call, context: Context) -> None:
    """Delete the child if it exists and is ours: another container may have got the same sandbox path."""
    if not call.netns and context.sandbox_fd is None:
        return
    try:
        with open_sandbox(call.netns, context.sandbox_fd, own_allowed=call.sandbox_may_be_own) as sandbox:
            with open_rtnl(sandbox) as inside:
                for name in (call.ifname, temporary_name(call.key)):
                    link = inside.find_link(name=name)
                    if link is not None and _is_ours(link, call):
                        inside.apply([DeleteLink(link.ifindex, link.name)])
    except SandboxGone:
        return


def _is_ours(link: Link, call: Call) -> bool:
    """Return whether a link is the child that our ADD made.

    A link without a mark is ours under its temporary name, or if the result that the runtime kept lists it: a
    reference plugin made that one, before the network's type was changed.
    """
    if link.kind not in {"macvlan", "ipvlan"}:
        return False
    if link.alias:
        return link.alias == child_alias(call.network, call.container_id)
    return link.name == temporary_name(call.key) or _is_in_result(link, call)


def _is_in_result(link: Link, call: Call) -> bool:
    interfaces = section(call.conf.get("prevResult"), "interfaces")
    return any(
        section(item, "name") == link.name
        and section(item, "sandbox") == call.netns
        and str(section(item, "mac") or link.mac).lower() == link.mac
        for item in (interfaces if isinstance(interfaces, list) else [])
    )


def gc(call: Call, context: Context) -> None:
    """Release the attachments of this network that are not in the valid list; without a list, none."""
    valid = valid_attachments(call.conf)
    failures = Failures()
    if valid is not None:
        with open_rtnl() as rtnl:
            host = Host(rtnl, Ledger())
            for key in list(host.ledger.keys(call.network)):
                if key not in valid:
                    _collect(
                        host,
                        call._replace(container_id=key.container_id, ifname=key.ifname),
                        context,
                        failures,
                    )
    ipam_type = _ipam_type(call)
    if ipam_type:
        with failures.gathered():
            delegate.ipam_run(call, context, ipam_type, "GC", _timeout_s(call))
    failures.raise_first()


def _collect(host: Host, call: Call, context: Context, failures: Failures) -> None:
    """Release one attachment; its addresses too, if they came from an IPAM section other than GC's."""
    entry: IndexEntry | None = None
    with failures.gathered():  # one that cannot be read does not keep the others
        entry = host.ledger.find(call.network, call.key)
    if entry is None:
        return
    record = entry.record
    _remove_routes(entry, failures)
    if record is not None and record.conf and record.conf.get("ipam") != lasting_conf(call.conf).get("ipam"):
        lease = Failures()
        with lease.gathered():
            _release_addresses(_as_recorded(call, record), context)
        failures.add(lease)
        if lease.is_temporary:  # the next GC needs the record
            return
    with failures.gathered():
        parent.release(host, record or _bare(call, entry))
