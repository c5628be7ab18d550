"""Taking and releasing parents: the link, its uplinks, and the ledger that says who uses them.

Every change of a parent happens under its lock; a VLAN's lock is taken before its uplink's. What is about to
be created is recorded first, so that whatever instruction a process is killed at, the next one knows whose
a link is.
"""

import contextlib
from typing import NamedTuple

from cni_core import waiting
from cni_core.errors import CniError, DuplicateAttachment, ParentConflict, UplinkDown, UplinkMissing
from cni_net.observed import Link
from cni_net.operations import CreateDummy, CreateVlan, DeleteLink, SetAlias, SetSysctl, SetUp
from cni_net.rtnl import NameTaken, Rtnl
from cni_vlan import guards
from cni_vlan.attachment import Attachment, Parent
from cni_vlan.ledger import CREATING, FOUND, OURS, Ledger, ParentState, User


class Host(NamedTuple):
    """Where parents live: the host's namespace and the ledger."""

    rtnl: Rtnl
    ledger: Ledger


def take(host: Host, attachment: Attachment, key: str, pod: str) -> Link:
    """Return the parent's link, created if it has to be, with the attachment recorded as its user.

    Raises UplinkMissing, UplinkDown, ParentConflict or InvalidConfig before anything is changed.
    """
    parent = attachment.parent
    ledger = host.ledger
    previous = ledger.find_parent(attachment.network, key)
    if previous is not None and ledger.user(previous, key) is not None:
        raise DuplicateAttachment(
            f"attach {key} to network {attachment.network}: it is attached already, on {previous}"
        )
    user = User(attachment.network, parent.name, attachment.mac, pod)
    with ledger.locked(parent.name), waiting.unwatched(), contextlib.ExitStack() as undo:
        undo.callback(_leave, host, key, user)
        _check_sharing(ledger, attachment)
        ledger.announce(key, attachment.network, parent.name)
        link = _take_link(host, parent, attachment, undo)
        state = ledger.state(parent.name) or ParentState(FOUND)
        if state.claim != attachment.claim:
            ledger.write_state(parent.name, state._replace(claim=attachment.claim))
        ledger.enter(key, user)
        undo.pop_all()
    return link


def _check_sharing(ledger: Ledger, attachment: Attachment) -> None:
    """Raise ParentConflict, naming the other network, if the parent is used in another way."""
    parent = attachment.parent.name
    state = ledger.state(parent)
    if state is None or state.claim is None:
        return
    reason = guards.sharing_conflict(attachment.claim, state.claim)
    if reason and ledger.has_users(parent):
        others = ", ".join(sorted({user.network for _key, user in ledger.users(parent)}))
        raise ParentConflict(
            f"use {parent} for network {attachment.network} as {attachment.claim.describe()}: network"
            f" {others} uses it as {state.claim.describe()}, and {reason}"
        )
    owner = ledger.mac_owner(parent, attachment.mac) if attachment.mac else ""
    if owner and ledger.user(parent, owner) is not None:
        raise ParentConflict(f"use MAC address {attachment.mac} on {parent}: {owner} has it")


def _take_link(host: Host, parent: Parent, attachment: Attachment, undo: contextlib.ExitStack) -> Link:
    """Return the link of a parent that is usable as asked, creating what may be created."""
    link = host.rtnl.find_link(name=parent.name)
    if parent.uplink is None and not parent.isolated_network:
        if link is None:
            raise UplinkMissing(
                f"attach to network {attachment.network}: parent {parent.name} does not exist"
            )
        guards.check_is_parent(parent, link, None)
        guards.check_up(link, attachment.network)
        guards.check_mtu(attachment, link)
        return link
    if parent.uplink is None:
        return _take_dummy(host, parent, attachment, link, undo)
    return _take_vlan(host, parent, attachment, link, undo)


def _take_dummy(
    host: Host,
    parent: Parent,
    attachment: Attachment,
    link: Link | None,
    undo: contextlib.ExitStack,
) -> Link:
    state = host.ledger.state(parent.name)
    if link is None:
        create = CreateDummy(parent.name, attachment.mtu)
        return _create(host, parent, create, undo)
    if state is not None and state.link == CREATING and link.kind == "dummy":
        return _adopt(host, parent, link)
    guards.check_is_parent(parent, link, None)
    guards.check_mtu(attachment, link)
    return _raise_ours(host, link)


def _take_vlan(
    host: Host,
    parent: Parent,
    attachment: Attachment,
    link: Link | None,
    undo: contextlib.ExitStack,
) -> Link:
    assert parent.uplink is not None  # noqa: S101 - for mypy; the caller has looked
    uplink = _uplink(host, parent, attachment, undo)
    state = host.ledger.state(parent.name)
    if link is None:
        guards.check_mtu(attachment, uplink)
        return _create(host, parent, CreateVlan(parent.name, uplink, parent.vlan_id, parent.protocol), undo)
    guards.check_is_parent(parent, link, uplink)
    guards.check_mtu(attachment, link)
    if state is not None and state.link == CREATING:
        return _adopt(host, parent, link)
    if link.alias == parent.alias:
        return _raise_ours(host, link)
    guards.check_up(link, attachment.network)
    return link


def _uplink(host: Host, parent: Parent, attachment: Attachment, undo: contextlib.ExitStack) -> Link:
    """Return the link that a VLAN sits on; one of ours is told that it is needed."""
    uplink = parent.uplink
    assert uplink is not None  # noqa: S101 - for mypy; only VLANs come here
    link = host.rtnl.find_link(name=uplink.name)
    if uplink.uplink is None or (link is not None and link.alias != uplink.alias):
        if link is None:
            raise UplinkMissing(f"create {parent.name}: its uplink {uplink.name} does not exist")
        guards.check_up(link, attachment.network)
        return link
    with host.ledger.locked(uplink.name), contextlib.ExitStack() as locked_undo:
        locked_undo.callback(_close_if_unused, host, uplink.name)
        link = _take_link(host, uplink, attachment, locked_undo)
        host.ledger.enter_vlan(uplink.name, parent.name)
        locked_undo.pop_all()
    undo.callback(_release_uplink_if_new, host, uplink.name, parent.name)
    return link


def _release_uplink_if_new(host: Host, uplink: str, vlan: str) -> None:
    """Undo what an ADD recorded of a VLAN, unless others are on it: it was recorded already, for them."""
    if host.ledger.state(vlan) is None:
        _release_uplink(host, uplink, vlan)


def _create(
    host: Host, parent: Parent, operation: CreateVlan | CreateDummy, undo: contextlib.ExitStack
) -> Link:
    uplink = parent.uplink.name if parent.uplink else ""
    host.ledger.write_state(parent.name, ParentState(CREATING, uplink))
    undo.callback(_close_if_unused, host, parent.name)
    try:
        host.rtnl.apply([operation])
    except CniError as error:
        # Not created, so a link of this name is somebody else's: the undo must not take it for ours.
        host.ledger.write_state(parent.name, ParentState(FOUND, uplink))
        if isinstance(error, NameTaken) and isinstance(operation, CreateVlan):
            raise _taken(host, operation, error) from error
        raise
    link = host.rtnl.find_link(name=parent.name)
    if link is None:
        raise UplinkMissing(f"create {parent.name}: it vanished as soon as it was there")
    return _adopt(host, parent, link)


def _taken(host: Host, vlan: CreateVlan, error: NameTaken) -> CniError:
    """Return the error for a VLAN id that the uplink has already, in a link of another name.

    The kernel knows a VLAN id once for each device, whatever namespace its link is in.
    """
    wanted = Parent(vlan.name, Parent(vlan.uplink.name), vlan.vlan_id, vlan.protocol)
    same = [link.name for link in host.rtnl.links() if guards.is_vlan_of(wanted, link, vlan.uplink)]
    where = f"as {', '.join(same)}" if same else "in another network namespace"
    return ParentConflict(f"{error.msg}: VLAN {vlan.vlan_id} is there already, {where}", error.details)


def _adopt(host: Host, parent: Parent, link: Link) -> Link:
    """Mark a link that we created as ours, and bring it up.

    The host itself has no business there: it takes no address from a router of that network.
    """
    quiet = SetSysctl(link.name, "accept_ra", "0")
    marked, up = SetAlias(link.ifindex, link.name, parent.alias), SetUp(link.ifindex, link.name)
    try:
        host.rtnl.apply([quiet, marked, up])
    except CniError as error:
        raise UplinkDown(f"bring up {parent.name}: {error.msg}", error.details) from error
    uplink = parent.uplink.name if parent.uplink else ""
    host.ledger.write_state(parent.name, ParentState(OURS, uplink))
    return link._replace(alias=parent.alias, up=True)


def _raise_ours(host: Host, link: Link) -> Link:
    """Bring a link of ours up again, if someone set it down."""
    if not link.up:
        host.rtnl.apply([SetUp(link.ifindex, link.name)])
    return link


def release(host: Host, network: str, key: str) -> None:
    """Forget an attachment, and remove what we created for it and nobody else uses; fine if there is none."""
    ledger = host.ledger
    parent = ledger.find_parent(network, key)
    if parent is None:
        return
    with ledger.locked(parent):
        user = ledger.user(parent, key) or User(network, parent)
        _leave(host, key, user)


def _leave(host: Host, key: str, user: User) -> None:
    """Remove an attachment's records, and its parent with the last of them, under the parent's lock."""
    host.ledger.leave(key, user)
    _close_if_unused(host, user.parent)
    host.ledger.forget_key(user.network, key)


def _close_if_unused(host: Host, parent: str) -> None:
    """Remove a parent's records, and its link if it is ours, under its lock, once nothing is on it."""
    ledger = host.ledger
    state = ledger.state(parent)
    if state is not None and (ledger.has_users(parent) or ledger.has_vlans(parent)):
        return
    if state is not None and state.link in (OURS, CREATING):
        link = host.rtnl.find_link(name=parent)
        if link is not None and _is_ours(state, link):
            host.rtnl.apply([DeleteLink(link.ifindex, link.name)])
    ledger.close_parent(parent)
    if state is not None and state.uplink:
        _release_uplink(host, state.uplink, parent)


def _is_ours(state: ParentState, link: Link) -> bool:
    """Tell a link of ours from one that took its name; one still being created has no mark yet."""
    if state.link == CREATING and not link.alias:
        return link.kind in {"vlan", "dummy"}
    return link.alias.startswith("cni-vlan parent:")


def _release_uplink(host: Host, uplink: str, vlan: str) -> None:
    with host.ledger.locked(uplink):
        host.ledger.leave_vlan(uplink, vlan)
        _close_if_unused(host, uplink)
