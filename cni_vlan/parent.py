"""Taking and releasing parents: observe the chain of links, decide, act; and record the users.

A link is recorded as CREATING before it is created. So at whatever instruction a process is killed, the next
one knows whose a link is: a link without a mark is ours only while its record says CREATING.
"""

import contextlib
from typing import NamedTuple

from cni_core import waiting
from cni_core.errors import CniError, DuplicateAttachment, ParentConflict, UplinkDown, UplinkMissing
from cni_net.observed import Link
from cni_net.operations import CreateDummy, CreateVlan, DeleteLink, SetAlias, SetSysctl, SetUp
from cni_net.rtnl import NameTaken, Rtnl
from cni_vlan import guards
from cni_vlan.attachment import Attachment
from cni_vlan.ledger import Ledger
from cni_vlan.parent_decision import Action, Seen, Step, base_link, close, decide
from cni_vlan.parent_locks import Locks
from cni_vlan.parents import Existing, Isolated, Parent, Vlan, levels
from cni_vlan.records import CREATING, FOUND, OURS, AttachmentRecord, ParentRecord


class Host(NamedTuple):
    """The place of parents: the host's namespace and the ledger."""

    rtnl: Rtnl
    ledger: Ledger


def take(host: Host, attachment: Attachment, record: AttachmentRecord) -> Link:
    """Return the parent's link, created if needed, with the attachment recorded as its user.

    Raises UplinkMissing, UplinkDown, ParentConflict or InvalidConfig before anything is changed.
    """
    ledger, wanted = host.ledger, attachment.parent
    _check_not_attached(ledger, record)
    with ledger.locks() as held:
        held.hold(wanted.name)
        with waiting.unwatched():  # the rest is quick, and must not stop half-way
            for level in reversed(levels(wanted)[:-1]):
                if isinstance(level, Vlan):
                    held.hold(level.name)
            try:
                return _take(host, attachment, record)
            except BaseException:
                with contextlib.suppress(CniError):  # the first error counts, and the DEL tries again
                    _leave(host, held, record)
                raise


def _check_not_attached(ledger: Ledger, record: AttachmentRecord) -> None:
    before = ledger.find(record.network, record.key)
    if before is not None and before.record is not None:
        what = f"attach {record.key.text} to network {record.network}"
        raise DuplicateAttachment(f"{what}: it is attached already, on {before.parent}")


def _take(host: Host, attachment: Attachment, record: AttachmentRecord) -> Link:
    """Observe the chain of links, decide and act, under the locks of all levels that may be created."""
    ledger, wanted = host.ledger, attachment.parent
    seen = _observe(host, wanted)
    record_before = seen[wanted.name].record
    _check_sharing(ledger, attachment, record_before)
    steps = decide(wanted, seen, attachment.network)
    base = base_link(steps)
    if base is not None:
        guards.check_mtu(attachment, base)
    ledger.enter_index(record.key, record.network, wanted.name)
    link = _act(host, attachment, steps, record_before)
    ledger.enter(record)
    if record.shim:
        from cni_vlan import shim  # few networks need it, and an import slows every start

        shim.take(host.rtnl, ledger, attachment, link)
    return link


def _observe(host: Host, wanted: Parent) -> dict[str, Seen]:
    """Return the link and the record of each level."""
    return {
        level.name: Seen(
            host.rtnl.find_link(name=level.name),
            # An existing interface has a record only if pods are on it: the record holds their claim.
            host.ledger.parent(level.name) if level == wanted or not isinstance(level, Existing) else None,
        )
        for level in levels(wanted)
    }


def _check_sharing(ledger: Ledger, attachment: Attachment, record: ParentRecord | None) -> None:
    """Raise ParentConflict, naming the other user, if the parent's use or a MAC address conflicts."""
    parent = attachment.parent.name
    if record is None or record.claim is None:
        return
    reason = guards.sharing_conflict(attachment.claim, record.claim)
    if reason and ledger.has_users(parent):
        others = ", ".join(sorted({user.network for user in ledger.attachments(parent)}))
        raise ParentConflict(
            f"use {parent} for network {attachment.network} as {attachment.claim.describe()}: network"
            f" {others} uses it as {record.claim.describe()}, and {reason}"
        )
    owner = ledger.mac_owner(parent, attachment.mac) if attachment.mac else None
    if owner is not None and ledger.attachment(parent, owner) is not None:
        raise ParentConflict(f"use MAC address {attachment.mac} on {parent}: it is in use by {owner.text}")


def _act(host: Host, attachment: Attachment, steps: tuple[Step, ...], record: ParentRecord | None) -> Link:
    """Take the steps, the lowest level first; return the link of the last, whose old record is given."""
    _record_chain(host.ledger, steps)
    below: Link | None = None
    for at, step in enumerate(steps):
        above = steps[at + 1].parent.name if at + 1 < len(steps) else ""
        link = _take_step(host, step, below, attachment.mtu)
        if above and step.action.is_ours:
            host.ledger.enter_vlan(step.parent.name, above)
        below = link
    assert below is not None  # noqa: S101 - for mypy; there is at least one step
    if steps[-1].action in {Action.CREATE, Action.ADOPT}:
        record = host.ledger.parent(attachment.parent.name)
    record = record or _record(attachment.parent, FOUND)
    if record.claim != attachment.claim:
        host.ledger.write_parent(record._replace(claim=attachment.claim))
    return below


def _record_chain(ledger: Ledger, steps: tuple[Step, ...]) -> None:
    """Record the stack of parents before the first of them is created.

    A release goes down from the top. After a kill in between, a release that found no record of the top would
    leave the levels below it behind.
    """
    for step in steps[2:]:
        if ledger.parent(step.parent.name) is None:
            ledger.write_parent(_record(step.parent, FOUND))


def _take_step(host: Host, step: Step, below: Link | None, mtu: int) -> Link:
    match step.action, step.link:
        case Action.RAISE, Link(up=False) as link:
            host.rtnl.apply([SetUp(link.ifindex, link.name)])
            return link
        case Action.ADOPT, Link() as link:
            return _adopt(host, step.parent, link)
        case _, Link() as link:
            return link
        case _:
            return _create(host, step.parent, below, mtu)


def _record(parent: Parent, link: str) -> ParentRecord:
    match parent:
        case Vlan():
            return ParentRecord(
                parent.name, link, parent.uplink.name, vlan_id=parent.vlan_id, protocol=parent.protocol
            )
        case Isolated():
            return ParentRecord(parent.name, link, network=parent.network)
        case Existing():
            return ParentRecord(parent.name, link)


def _create(host: Host, parent: Parent, below: Link | None, mtu: int) -> Link:
    operation = _creation(parent, below, mtu)
    before = host.ledger.parent(parent.name) or _record(parent, FOUND)
    host.ledger.write_parent(_record(parent, CREATING)._replace(claim=before.claim))
    try:
        host.rtnl.apply([operation])
    except CniError as error:
        # Not created, so a link of this name is somebody else's: an undo must not take it for ours.
        host.ledger.write_parent(before._replace(link=FOUND))
        if isinstance(error, NameTaken) and isinstance(operation, CreateVlan):
            raise _taken(host, operation, error) from error
        raise
    link = host.rtnl.find_link(name=parent.name)
    if link is None:
        raise UplinkMissing(f"create {parent.name}: it disappeared right after it was created")
    return _adopt(host, parent, link)


def _creation(parent: Parent, below: Link | None, mtu: int) -> CreateVlan | CreateDummy:
    if isinstance(parent, Vlan) and below is not None:
        return CreateVlan(parent.name, below, parent.vlan_id, parent.protocol)
    return CreateDummy(parent.name, mtu)


def _taken(host: Host, vlan: CreateVlan, error: NameTaken) -> CniError:
    """Return the error for a VLAN id that the uplink has already, on a link with another name.

    The kernel allows a VLAN id once for each device, whichever namespace its link is in.
    """
    same = [link.name for link in host.rtnl.links() if guards.is_same_vlan(vlan, link)]
    where = f"as {', '.join(same)}" if same else "in another network namespace"
    return ParentConflict(f"{error.msg}: VLAN {vlan.vlan_id} already exists, {where}", error.details)


def _adopt(host: Host, parent: Parent, link: Link) -> Link:
    """Mark a link that we created as ours, and bring it up.

    The host itself does not take part in that network, so it accepts no address from a router there.
    """
    assert not isinstance(parent, Existing)  # noqa: S101 - for mypy; only links that we create come here
    quiet = SetSysctl(link.name, "accept_ra", "0")
    marked, up = SetAlias(link.ifindex, link.name, parent.alias), SetUp(link.ifindex, link.name)
    try:
        host.rtnl.apply([quiet, marked, up])
    except CniError as error:
        raise UplinkDown(f"bring up {parent.name}: {error.msg}", error.details) from error
    before = host.ledger.parent(parent.name)
    claim = before.claim if before is not None else None
    host.ledger.write_parent(_record(parent, OURS)._replace(claim=claim))
    return link._replace(alias=parent.alias, up=True)


def release(host: Host, record: AttachmentRecord) -> None:
    """Remove an attachment's records, and the links that we created for it and nobody else uses."""
    if not record.parent:  # the index entry was damaged
        host.ledger.forget_key(record.network, record.key)
        return
    with host.ledger.locks() as held:
        held.hold(record.parent)
        _leave(host, held, record)


def _leave(host: Host, held: Locks, record: AttachmentRecord) -> None:
    """Remove an attachment's records, and the parent after its last attachment, under the parent's lock."""
    host.ledger.leave(record)
    if record.shim:
        from cni_vlan import shim

        shim.release(host.rtnl, host.ledger, record.parent)
    _close_unused(host, held, record.parent)
    host.ledger.forget_key(record.network, record.key)


def _close_unused(host: Host, held: Locks, name: str) -> None:
    """Remove an unused parent's records, and its link if that is ours; and its uplink likewise.

    The records of the top go last: while they exist, a release that stopped half-way is repeated.
    """
    ledger = host.ledger
    held.hold(name)
    record = ledger.parent(name)
    if _is_in_use(ledger, name, record):
        return
    may_be_ours = record is not None and record.link != FOUND
    closing = close(record, host.rtnl.find_link(name=name) if may_be_ours else None)
    if closing.link is not None:
        host.rtnl.apply([DeleteLink(closing.link.ifindex, closing.link.name)])
    if closing.uplink and ledger.parent(closing.uplink) is not None:
        held.hold(closing.uplink)
        ledger.leave_vlan(closing.uplink, name)
        _close_unused(host, held, closing.uplink)
    ledger.forget_parent(name)


def _is_in_use(ledger: Ledger, name: str, record: ParentRecord | None) -> bool:
    """Return whether a parent carries pods or VLANs; without a record, only pods of this boot count."""
    if record is None:
        return next(ledger.attachments(name), None) is not None
    return ledger.has_users(name) or ledger.has_vlans(name)
