"""ADD is strict: it stops at the first fault and undoes its changes."""

from cni_core import delegate
from cni_core.call import Call
from cni_core.context import Context
from cni_core.errors import InterfaceExists, InvalidConfig, UplinkMissing
from cni_core.events import stage_ended
from cni_core.family import Family
from cni_core.result import LATEST, Result
from cni_core.result_json import render_result
from cni_core.undo import Undo
from cni_net.observed import Link
from cni_net.operations import DeleteLink, Rename
from cni_net.rtnl import Rtnl
from cni_vlan import guards, parent, plan
from cni_vlan.attachment import Attachment, child_alias, temporary_name
from cni_vlan.events import Attached
from cni_vlan.parents import shim_name
from cni_vlan.records import AttachmentRecord, lasting_conf
from cni_vlan.world import World, open_world, previous_result, resolve


def add(call: Call, context: Context) -> Result:
    """Attach the sandbox, or undo every change and raise."""
    from cni_vlan import config

    attachment = config.parse(call, context.warn)
    previous = previous_result(call)
    context.emit(stage_ended("config"))
    with open_world(call, context) as world, Undo(context.warn) as undo:
        if world.inside.find_link(name=call.ifname) is not None:
            raise InterfaceExists(f"add interface {call.ifname}: the name is taken in the sandbox")
        attachment = resolve(attachment, world)
        record = _record(call, attachment)
        link = _take_parent(attachment, record, world, undo)
        context.emit(stage_ended("parent"))
        child = _create_child(attachment, link, call, world, undo)
        context.emit(stage_ended("link"))
        ipam = _addresses(attachment, call, context, previous, undo)
        context.emit(stage_ended("lease"))
        if attachment.ipam is None or not delegate.needs_link_to_release(attachment.ipam.type):
            undo.push(lambda: _delete_link(world.inside, child))  # before its addresses are released
        result = _configure(attachment, child, world, ipam)
        context.emit(stage_ended("configure"))
        answer = plan.complete(attachment, child, call.netns, result, previous)
        _publish(_completed(record, attachment, ipam, answer), attachment, child, result, world, undo)
    addresses = tuple(ip.address for ip in result.ips)
    announce = 0 if attachment.layer3 else attachment.announce
    context.emit(Attached(call.key, call.network, child.mac, addresses, announce))
    return answer


def _record(call: Call, attachment: Attachment) -> AttachmentRecord:
    """Return the record of an attachment that does not exist yet."""
    return AttachmentRecord(
        call.key,
        call.network,
        attachment.parent.name,
        attachment.mac,
        call.pod,
        call.netns,
        lasting_conf(call.conf),
        shim=shim_name(attachment.parent.name) if attachment.host_access else "",
    )


def _completed(
    record: AttachmentRecord, attachment: Attachment, ipam: Result, answer: Result
) -> AttachmentRecord:
    """Return the record of an attachment that is complete but for its routes on the host."""
    record = record._replace(result=render_result(answer, LATEST))
    if attachment.export is None:
        return record
    from cni_vlan import exports

    return exports.exported(record, attachment.export, ipam)


def _take_parent(attachment: Attachment, record: AttachmentRecord, world: World, undo: Undo) -> Link:
    if attachment.link_in_container:
        name = attachment.parent.name
        link = world.inside.find_link(name=name)
        if link is None:
            raise UplinkMissing(
                f"attach to network {attachment.network}: parent {name} is not in the sandbox"
            )
        guards.check_mtu(attachment, link)
        return link
    link = parent.take(world.host, attachment, record)
    undo.push(lambda: parent.release(world.host, record))
    return link


def _create_child(attachment: Attachment, link: Link, call: Call, world: World, undo: Undo) -> Link:
    """Create the child under a temporary name and rename it in the sandbox.

    The kernel first creates it in the namespace of the request, where any host has an eth0 already.
    """
    temporary = temporary_name(call.key)
    world.below(attachment).apply([plan.child(attachment, link, temporary, world.sandbox.fd)])
    undo.push(lambda: _delete_named(world.inside, temporary))
    child = world.inside.find_link(name=temporary)
    if child is None:
        raise UplinkMissing(f"create {call.ifname}: it disappeared right after it was created")
    alias = child_alias(attachment.network, call.container_id)
    world.inside.apply([Rename(child.ifindex, call.ifname, alias)])
    undo.push(lambda: _delete_link(world.inside, child))
    return child._replace(name=call.ifname, alias=alias)


def _delete_named(rtnl: Rtnl, name: str) -> None:
    link = rtnl.find_link(name=name)
    if link is not None:
        rtnl.apply([DeleteLink(link.ifindex, link.name)])


def _delete_link(rtnl: Rtnl, link: Link) -> None:
    """Delete a link that may be gone already."""
    if rtnl.find_link(index=link.ifindex) is not None:
        rtnl.apply([DeleteLink(link.ifindex, link.name)])


def _addresses(
    attachment: Attachment, call: Call, context: Context, previous: Result | None, undo: Undo
) -> Result:
    """Return the result of IPAM; without IPAM, that of the previous plugin in the chain."""
    ipam = attachment.ipam
    if ipam is None:
        return previous or Result()
    result = delegate.ipam_add(call, context, ipam.type, ipam.timeout_s)
    undo.push(lambda: delegate.ipam_run(call, context, ipam.type, "DEL", ipam.timeout_s))
    if not result.ips:
        raise InvalidConfig(f"IPAM plugin {ipam.type} returned no address")
    return result


def _configure(attachment: Attachment, child: Link, world: World, ipam: Result) -> Result:
    """Set up addresses and routes in the sandbox; return them as a result without interfaces."""
    families = plan.yielding_families(attachment, ipam)
    taken = {Family.of(route.dst) for route in world.inside.default_routes(families)}
    configured = plan.configure(attachment, child, ipam, taken)
    world.inside.apply(configured.operations)
    if attachment.host_access:
        from cni_vlan import shim

        shim.open_pod(world.host.rtnl, world.inside, attachment, child, configured.result)
    return configured.result


def _publish(
    record: AttachmentRecord, attachment: Attachment, child: Link, result: Result, world: World, undo: Undo
) -> None:
    """Record the pod's addresses, by which a DEL finds the host's routes to them; then add these routes."""
    host = world.host
    if not attachment.link_in_container:
        host.ledger.complete(record)
    if record.table:
        from cni_vlan import exporter

        undo.push(lambda: exporter.withdraw(host.rtnl, host.ledger, record))
        exporter.publish(host.rtnl, record)
    if attachment.host_access:
        from cni_vlan import shim

        shim.open_host(host.rtnl, attachment, child, result, undo)
