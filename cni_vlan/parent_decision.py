"""The decision about a parent: (wanted, seen) -> steps, or the error that gives the reason. Pure.

An ADD decides this way. The repair of a parent that was removed under its pods is the same decision, started
by another event.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from cni_core.errors import UplinkMissing
from cni_net.observed import Link
from cni_vlan import guards
from cni_vlan.parents import PARENT_ALIAS, Existing, Isolated, Parent, Vlan, levels
from cni_vlan.records import CREATING, OURS, ParentRecord


class Seen(NamedTuple):
    """One level of a parent: the link with its name, and its record."""

    link: Link | None
    record: ParentRecord | None = None

    @property
    def is_half_made(self) -> bool:
        """Whether an ADD was killed between creating the link and marking it."""
        return self.record is not None and self.record.link == CREATING


class Action(Enum):
    """The action for one level."""

    USE = "use what was found, as it is"
    RAISE = "bring our link up, if someone set it down"
    ADOPT = "mark the link as ours, and bring it up"
    CREATE = "create the link, mark it and bring it up"

    @property
    def is_ours(self) -> bool:
        """Whether the link is ours afterwards."""
        return self is not Action.USE


class Step(NamedTuple):
    """The step for one level; the link is None if it has to be created."""

    parent: Parent
    action: Action
    link: Link | None


def decide(wanted: Parent, seen: Mapping[str, Seen], network: str) -> tuple[Step, ...]:
    """Return a step for each level of a parent, the lowest first.

    Raises UplinkMissing, UplinkDown or ParentConflict for the lowest level at fault.
    """
    chain = levels(wanted)
    steps: list[Step] = []
    for parent in chain:
        below = steps[-1].link if steps else None
        action = _action(parent, wanted, seen[parent.name], below, network)
        steps.append(Step(parent, action, seen[parent.name].link))
    return tuple(steps)


def _action(parent: Parent, wanted: Parent, seen: Seen, below: Link | None, network: str) -> Action:
    match parent:
        case Existing():
            _check_existing(parent, wanted, seen.link, network)
            return Action.USE
        case Isolated():
            return _isolated_action(parent, seen)
        case Vlan():
            return _vlan_action(parent, seen, below, network)


def _isolated_action(parent: Isolated, seen: Seen) -> Action:
    if seen.link is None:
        return Action.CREATE
    if seen.is_half_made and seen.link.kind == "dummy" and _may_be_marked(seen.link):
        return Action.ADOPT
    guards.check_is_isolated(parent, seen.link)
    return Action.RAISE


def _vlan_action(parent: Vlan, seen: Seen, below: Link | None, network: str) -> Action:
    if seen.link is None:
        return Action.CREATE
    guards.check_is_vlan(parent, seen.link, below)
    if seen.is_half_made and _may_be_marked(seen.link):
        return Action.ADOPT
    if is_ours(seen.link):
        return Action.RAISE
    guards.check_up(seen.link, network)
    return Action.USE


def _check_existing(parent: Existing, wanted: Parent, link: Link | None, network: str) -> None:
    """Raise unless an interface exists and is up."""
    if link is None:
        if parent == wanted:
            raise UplinkMissing(f"attach to network {network}: parent {parent.name} does not exist")
        above = next(p for p in levels(wanted) if isinstance(p, Vlan) and p.uplink == parent)
        raise UplinkMissing(f"create {above.name}: its uplink {parent.name} does not exist")
    guards.check_no_loopback(link)
    guards.check_up(link, network)


def base_link(steps: Sequence[Step]) -> Link | None:
    """Return the link whose MTU bounds that of a pod: the parent, or the link it will be created on."""
    return next((step.link for step in reversed(steps) if step.link is not None), None)


def is_ours(link: Link) -> bool:
    """Return whether a link bears our mark."""
    return link.alias.startswith(PARENT_ALIAS)


def _may_be_marked(link: Link) -> bool:
    """Return whether a link bears no foreign mark."""
    return not link.alias or is_ours(link)


def _is_ours_to_delete(record: ParentRecord, link: Link) -> bool:
    """Return whether we may delete a link. A link that is still being created has no mark yet."""
    if record.link == CREATING and not link.alias:
        return link.kind in {"vlan", "dummy"}
    return record.link in {OURS, CREATING} and is_ours(link)


class Closing(NamedTuple):
    """The cleanup of a parent that carries nothing any more: its link, and its place on an uplink."""

    link: Link | None = None
    uplink: str = ""


def close(record: ParentRecord | None, link: Link | None) -> Closing:
    """Return the cleanup of a parent that carries nothing any more; `link` is the link with its name."""
    if record is None:
        return Closing()
    ours = link if link is not None and _is_ours_to_delete(record, link) else None
    return Closing(ours, record.uplink)


def rebuild(name: str, recorded: Mapping[str, ParentRecord]) -> Parent:
    """Return the parent that the records describe; an existing interface if they say no more."""
    record = recorded.get(name)
    if record is None:
        return Existing(name)
    if record.network:
        return Isolated(name, record.network)
    if record.vlan_id and record.uplink:
        return Vlan(name, rebuild(record.uplink, recorded), record.vlan_id, record.protocol)
    return Existing(name)
