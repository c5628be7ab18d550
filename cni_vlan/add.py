"""ADD: strict; it stops at the first fault and undoes what it did."""

from collections.abc import Callable
from typing import Self

from cni_core import caller, delegate
from cni_core.announce import announcement
from cni_core.errors import InterfaceExists, InvalidConfig, UplinkMissing
from cni_core.invocation import Invocation
from cni_core.links import DeleteLink, Link, Rename
from cni_core.netlink import Rtnl
from cni_core.result import Result, is_ipv6
from cni_core.sysctl import write_sysctls
from cni_vlan import guards, parent, plan
from cni_vlan.attachment import Attachment, child_alias, temporary_name
from cni_vlan.world import World, open_world, previous_result, resolve


def add(invocation: Invocation) -> Result:
    """Attach the sandbox, or raise with everything as it was."""
    from cni_vlan import config

    attachment = config.parse(invocation)
    previous = previous_result(invocation)
    record = invocation.record
    record.ended("config")
    with open_world(invocation) as world, _Undo(invocation.warn) as undo:
        if world.inside.find_link(name=invocation.ifname) is not None:
            raise InterfaceExists(f"add interface {invocation.ifname}: the name is taken in the sandbox")
        attachment = resolve(attachment, world)
        link = _take_parent(attachment, invocation, world, undo)
        record.ended("parent")
        child = _create_child(attachment, link, invocation, world, undo)
        record.ended("link")
        ipam = _addresses(attachment, invocation, previous, undo)
        record.ended("lease")
        undo.push(lambda: _delete_link(world.inside, child))  # before its addresses are given back
        result = _configure(attachment, child, invocation, world, ipam)
        undo.cancel()
        record.ended("configure")
    return plan.complete(attachment, child, invocation.netns, result, previous)


class _Undo:
    """Steps that undo what was done, run in reverse when the block fails; their failures are only told."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._steps: list[Callable[[], None]] = []

    def push(self, step: Callable[[], None]) -> None:
        self._steps.append(step)

    def cancel(self) -> None:
        self._steps.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        with caller.unwatched():
            for step in reversed(self._steps):
                try:
                    step()
                except Exception as error:  # noqa: BLE001 - the other steps count, and the first error is the answer
                    self._warn(f"undo: {error}")


def _take_parent(attachment: Attachment, invocation: Invocation, world: World, undo: _Undo) -> Link:
    if attachment.link_in_container:
        name = attachment.parent.name
        link = world.inside.find_link(name=name)
        if link is None:
            raise UplinkMissing(
                f"attach to network {attachment.network}: parent {name} is not in the sandbox"
            )
        guards.check_mtu(attachment, link)
        return link
    link = parent.take(world.host, attachment, invocation.key, _pod(invocation))
    undo.push(lambda: parent.release(world.host, attachment.network, invocation.key))
    return link


def _pod(invocation: Invocation) -> str:
    """Return namespace and name of the pod, for people who read the ledger."""
    namespace = invocation.args.get("K8S_POD_NAMESPACE", "")
    name = invocation.args.get("K8S_POD_NAME", "")
    return f"{namespace}/{name}" if name else ""


def _create_child(
    attachment: Attachment, link: Link, invocation: Invocation, world: World, undo: _Undo
) -> Link:
    """Create the child under a name of its own and rename it in the sandbox.

    The kernel first makes it in the namespace of the request, where eth0 is taken on any host.
    """
    temporary = temporary_name(invocation.key)
    world.below(attachment).apply([plan.child(attachment, link, temporary, world.sandbox.fd)])
    undo.push(lambda: _delete_named(world.inside, temporary))
    child = world.inside.find_link(name=temporary)
    if child is None:
        raise UplinkMissing(f"create {invocation.ifname}: it vanished as soon as it was there")
    alias = child_alias(attachment.network, invocation.container_id)
    world.inside.apply([Rename(child.ifindex, invocation.ifname, alias)])
    undo.push(lambda: _delete_link(world.inside, child))
    return child._replace(name=invocation.ifname, alias=alias)


def _delete_named(rtnl: Rtnl, name: str) -> None:
    link = rtnl.find_link(name=name)
    if link is not None:
        rtnl.apply([DeleteLink(link.ifindex, link.name)])


def _delete_link(rtnl: Rtnl, link: Link) -> None:
    """Delete a link that may be gone already."""
    if rtnl.find_link(index=link.ifindex) is not None:
        rtnl.apply([DeleteLink(link.ifindex, link.name)])


def _addresses(
    attachment: Attachment, invocation: Invocation, previous: Result | None, undo: _Undo
) -> Result:
    """Return what IPAM gave; without IPAM, what a plugin before us in the chain was given."""
    ipam = attachment.ipam
    if ipam is None:
        return previous or Result()
    result = delegate.ipam_add(invocation, ipam.type, ipam.timeout_s)
    undo.push(lambda: delegate.ipam_run(invocation, ipam.type, "DEL", ipam.timeout_s))
    if not result.ips:
        raise InvalidConfig(f"IPAM plugin {ipam.type} returned no address")
    return result


def _configure(
    attachment: Attachment, child: Link, invocation: Invocation, world: World, ipam: Result
) -> Result:
    families = plan.default_families(attachment, ipam.ips)
    defaults = {is_ipv6(route.dst) for route in world.inside.default_routes(families)}
    configured = plan.configure(attachment, child, ipam, defaults)
    write_sysctls(world.sandbox, plan.sysctls(attachment, child.name, ipam.ips))
    world.inside.apply(configured.operations)
    if not attachment.layer3:
        addresses = [ip.address for ip in configured.result.ips]
        later = announcement(world.sandbox, child.name, child.mac, addresses, attachment.announce)
        if later is not None:
            invocation.after_reply.append(later)
    return configured.result
