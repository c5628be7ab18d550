"""CHECK: observe the kernel's state and compare it with prevResult."""

from cni_core import delegate, libcni
from cni_core.call import Call
from cni_core.context import Context
from cni_core.errors import CheckFailed, CniError, InvalidConfig
from cni_core.result import Result
from cni_vlan import shim, verify
from cni_vlan.attachment import Attachment
from cni_vlan.ledger import IndexEntry, Ledger
from cni_vlan.parent_decision import rebuild
from cni_vlan.parents import Parent, Vlan
from cni_vlan.world import World, open_world, previous_result, resolve


def check(call: Call, context: Context) -> None:
    """Compare link, parent, addresses, routes and lease with prevResult; raise with every difference."""
    from cni_vlan import config

    attachment = config.parse(call, context.warn)
    expected = previous_result(call)
    if expected is None:
        raise InvalidConfig("required prevResult missing")
    index = _our_interface(call, expected)
    found: list[str] = []
    if attachment.ipam is not None:
        try:
            delegate.ipam_run(call, context, attachment.ipam.type, "CHECK", attachment.ipam.timeout_s)
        except CniError as error:
            found.append(verify.lease_mismatch(error))
    with open_world(call, context) as world:
        entry = None if attachment.link_in_container else world.host.ledger.find(call.network, call.key)
        attachment = _as_attached(attachment, entry, world)
        observed = _observe(attachment, call.ifname, world)
        if entry is not None and entry.record is not None and entry.record.shim:
            found += shim.mismatches(world.host.rtnl, entry.record)
    last = libcni.is_last(call.network, call.container_id, call.ifname, str(call.conf.get("type")))
    found += verify.mismatches(attachment, expected, index, observed, last=last)
    if found:
        raise CheckFailed(f"check {call.ifname}: " + "; ".join(found))


def _our_interface(call: Call, expected: Result) -> int:
    for number, interface in enumerate(expected.interfaces):
        if interface.name == call.ifname and interface.sandbox == call.netns:
            return number
    raise CheckFailed(f"check {call.ifname}: prevResult has no such interface in {call.netns}")


def _as_attached(attachment: Attachment, entry: IndexEntry | None, world: World) -> Attachment:
    """Return the attachment with the parent that it was created on.

    A chained plugin took its parent from the result that preceded ADD, and `auto` took it from a default
    route that may have changed since. Neither can be determined again, and neither matters to the pod.
    """
    if entry is None:
        return resolve(attachment, world)
    if entry.parent == attachment.parent.name:
        return attachment
    return attachment._replace(parent=_recorded(world.host.ledger, entry.parent))


def _recorded(ledger: Ledger, name: str) -> Parent:
    """Return a parent as it is recorded, even if the configuration has changed since."""
    found = {}
    at = name
    while at and at not in found:
        record = ledger.parent(at)
        if record is None:
            break
        found[at] = record
        at = record.uplink
    return rebuild(name, found)


def _observe(attachment: Attachment, ifname: str, world: World) -> verify.Observed:
    rtnl = world.below(attachment)
    link = world.inside.find_link(name=ifname)
    wanted = attachment.parent
    return verify.Observed(
        link,
        rtnl.find_link(name=wanted.name),
        rtnl.find_link(name=wanted.uplink.name) if isinstance(wanted, Vlan) else None,
        tuple(world.inside.addresses(link.ifindex)) if link else (),
        tuple(world.inside.routes()) if link else (),
    )
