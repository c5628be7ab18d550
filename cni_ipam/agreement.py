"""The holdings of this node, decided from its own disk and the engine's objects. Pure functions.

The engine decides. A block that it gives to another node is lost; one that it does not know was taken from
this node as dead, unless the engine itself was restored from a backup that is older than the claim.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from cni_core.call import AttachmentKey
from cni_ipam import objects
from cni_ipam.blocks import Block
from cni_ipam.engine import Entry, Snapshot
from cni_ipam.holdings import HeldBlock, HeldPin, Holdings, State
from cni_ipam.lease import Tenant
from cni_ipam.ranges import Interval, RangeSet, clip, to_address


class Agreement(NamedTuple):
    """The blocks and pins of a node after it has asked the engine.

    `missing` are blocks that the engine does not know: each is claimed again, so that no other node leases
    the addresses of running pods. So is each of the `missing_pins`. `surplus` are objects that this node gave
    back before the engine was restored: each is deleted, for the node that has it now.
    """

    blocks: tuple[HeldBlock, ...]
    pins: tuple[HeldPin, ...] = ()
    missing: tuple[HeldBlock, ...] = ()
    missing_pins: tuple[HeldPin, ...] = ()
    surplus: tuple[Entry, ...] = ()
    is_restored: bool = False
    warnings: tuple[str, ...] = ()

    def resolved(self, held: HeldBlock, revision: str) -> "Agreement":
        """Return the agreement after a missing block was claimed again; "" if another node was faster."""
        now = held._replace(revision=revision) if revision else held._replace(state=State.LOST)
        words = () if revision else (f"block {held.block.prefix} is another node's now",)
        return self._replace(blocks=(*self.blocks, now), warnings=(*self.warnings, *words))

    def merged(self, now: Holdings, before: Holdings) -> Holdings:
        """Return the holdings, with what calls on this node have changed since they were read."""
        fresh = {pin for pin in now.pins if pin not in before.pins}
        gone = {pin.at for pin in before.pins} - {pin.at for pin in now.pins}
        known = {pin.at for pin in fresh} | gone
        pins = tuple(pin for pin in self.pins if pin.at not in known)
        return now._replace(blocks=tuple(sorted(self.blocks, key=_by_block)), pins=(*pins, *fresh))

    @property
    def usable(self) -> list[Block]:
        """The blocks that are this node's."""
        return [held.block for held in self.blocks if held.state is not State.LOST]

    def pinned_again(self, pin: HeldPin, revision: str) -> "Agreement":
        """Return the agreement after a missing pin was made again; "" if another node has the address."""
        found = self._replace(pins=(*self.pins, pin._replace(revision=revision)))
        if revision:
            return found
        text = f"address {to_address(pin.version, pin.number)} of a pod here is another node's now"
        return found._replace(warnings=(*self.warnings, text))


def _by_block(held: HeldBlock) -> Block:
    return held.block


def agree(
    before: Holdings,
    found: Snapshot,
    pins: Snapshot,
    incarnation: str,
    *,
    was_known: bool = False,
    is_unsure: bool = False,
) -> Agreement:
    """Compare the holdings of a node with the blocks and pins of its pool in the engine.

    `was_known`: the engine had the node's own object, with this pool. Who takes a block from a node removes
    that first, so a block that is missing beside it was lost with a backup, even if the engine's revision
    does not show it. `is_unsure`: a claim left its mark.
    """
    is_older = is_restored(before, found)
    restored = was_known or is_older
    kept: list[HeldBlock] = []
    missing: list[HeldBlock] = []
    warnings: list[str] = []
    entries = {block: entry for entry in found.entries if (block := objects.block_of(entry)) is not None}
    for held in before.blocks:
        entry = entries.get(held.block)
        if entry is None:
            if held.state is not State.RELEASING:
                missing.append(held if restored else held._replace(state=State.DRAINING))
                warnings.append(_missing_words(held.block, is_restored=restored))
        elif objects.is_of(entry, incarnation):
            state = State.HELD if held.state is State.LOST else held.state
            kept.append(held._replace(revision=entry.revision, state=state))
        else:
            kept.append(held._replace(state=State.LOST))
            warnings.append(f"block {held.block.prefix} is node {entry.fields.get('node')}'s now")
    known = {held.block for held in before.blocks}
    new = [e for b, e in entries.items() if objects.is_of(e, incarnation) and b not in known]
    is_whole = before.incarnation == incarnation  # else this file never had them, or lost them
    surplus = new if is_whole and (is_older or not is_unsure) else []
    kept += [HeldBlock(block, e.revision) for block, e in entries.items() if e in new and e not in surplus]
    known_pins = _pins(before, pins, incarnation)
    if is_whole:
        own = {pin.at for pin in before.pins}
        surplus += [e for e in pins.entries if objects.is_of(e, incarnation) and objects.pinned(e) not in own]
        known_pins = tuple(pin for pin in known_pins if pin.at in own)
    there = {pin.at for pin in known_pins}
    lost = tuple(pin for pin in before.pins if pin.at not in there)
    is_backup = is_older or bool(surplus) or (was_known and bool(missing))
    return Agreement(
        tuple(kept), known_pins, tuple(missing), lost, tuple(surplus), is_backup, tuple(warnings)
    )


def is_restored(before: Holdings, now: Snapshot) -> bool:
    """Return whether the engine is older than what this node has seen of it, or another one."""
    return bool(before.revision) and (now.cluster != before.engine or now.revision < before.revision)


def _missing_words(block: Block, *, is_restored: bool) -> str:
    if is_restored:
        return f"block {block.prefix} is claimed again: the engine was restored from a backup"
    return (
        f"block {block.prefix} was taken from this node: its pods keep their addresses, no pod gets a new one"
    )


def _pins(before: Holdings, found: Snapshot, incarnation: str) -> tuple[HeldPin, ...]:
    """Return the pins of this node: the engine's, with the times that only this node knows."""
    kept = []
    for entry in found.entries:
        at = objects.pinned(entry)
        if at is None or not objects.is_of(entry, incarnation):
            continue
        known = before.pin(*at)
        owner, keep_s = str(entry.fields.get("owner") or ""), objects.number_in(entry, "keep")
        fresh = HeldPin(*at, entry.revision, objects.key_of(entry), keep_s, owner=owner)
        kept.append(fresh if known is None else known._replace(revision=entry.revision))
    return tuple(kept)


def void(
    pins: Sequence[HeldPin], now: float, is_leased: Callable[[AttachmentKey], bool]
) -> tuple[HeldPin, ...]:
    """Return the pins after a boot, in which their attachments have gone; `now` is that boot's time.

    Those that have a lease in this boot have not gone: it was the record of the holdings that was lost.
    """
    return tuple(
        pin
        if pin.key is not None and is_leased(pin.key)
        else pin._replace(key=None, until=now + pin.keep_s if pin.keep_s else 0.0)
        for pin in pins
    )


def foreign(pins: Snapshot, incarnation: str, blocks: Sequence[Block]) -> Iterator[tuple[int, int]]:
    """Yield the addresses in some blocks that other nodes keep."""
    for entry in pins.entries:
        at = objects.pinned(entry)
        if at is not None and not objects.is_of(entry, incarnation):
            inside = (b.version == at[0] and b.start <= at[1] <= b.interval[1] for b in blocks)
            if any(inside):
                yield at


def band(range_set: RangeSet, pinned_addresses: Sequence[Interval]) -> list[Interval]:
    """Return the pinned addresses of a range set that may be leased, sorted."""
    return [part for first, last in range_set.ordered for part in clip(pinned_addresses, first, last)]


def may_take(entry: Entry, tenant: Tenant, incarnation: str) -> bool:
    """Return whether an attachment may have a pinned address: its own, or its owner's that nobody uses."""
    fields = entry.fields
    if objects.is_declined(entry):
        return False
    if objects.is_of(entry, incarnation) and objects.key_of(entry) == tenant.key:
        return True
    return bool(tenant.owner) and fields.get("owner") == tenant.owner and not fields.get("container")


def taken_words(entry: Entry, pool: str) -> tuple[str, str]:
    """Return message and details of the error for an address that another has."""
    fields = entry.fields
    if objects.is_declined(entry):
        who = fields.get("owner")
        return f"requested IP address {fields.get('address')} is not available", f"pool {pool}: {who} has it"
    who = f"{fields.get('owner') or fields.get('container') or 'another'} on node {fields.get('node')}"
    return f"requested IP address {fields.get('address')} is not available", f"pool {pool}: {who} has it"
