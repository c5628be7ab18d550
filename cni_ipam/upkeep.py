"""Which blocks a node claims ahead of need and which it gives back. Pure functions.

A node claims a block before its last one is full, so that no pod waits for the engine. It gives an empty
block back after a while, and at once when another node has asked for one.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from cni_ipam.blocks import Block, leasable, low_water
from cni_ipam.holdings import HeldBlock, State
from cni_ipam.ranges import Interval, clip, count

EMPTY_S = 300.0  # a block is given back after this time without a lease


class Use(NamedTuple):
    """A block of this node; how many of its addresses are leased, and how many pinned by others."""

    held: HeldBlock
    used: int
    foreign: int = 0

    @property
    def free(self) -> int:
        """How many of its addresses a pod may get."""
        return self.held.block.size - self.used - self.foreign


class Demand(NamedTuple):
    """The addresses that a network of the pool leases in one family."""

    version: int
    intervals: Sequence[Interval]


class Plan(NamedTuple):
    """The demands to claim a block for, the blocks to give back, and the lost ones to forget."""

    claim: tuple[Demand, ...] = ()
    give_back: tuple[Block, ...] = ()
    forget: tuple[Block, ...] = ()


def plan(
    uses: Sequence[Use],
    demands: Sequence[Demand],
    empty: Collection[Block],
    *,
    size: int,
    wanted: Collection[int] = (),
) -> Plan:
    """Decide on the blocks of a pool.

    `empty` are the blocks that have been without a lease for long enough, `wanted` the IP versions of which
    another node has asked for a block.
    """
    ended = [use for use in uses if use.used == 0 and use.held.state is not State.HELD]
    over = [use.held.block for use in ended if use.held.state is not State.LOST]
    held = [use for use in uses if use.held.state is State.HELD]
    spare = _spare(held, demands, empty, wanted=wanted)
    others = (demand for demand in demands if demand.version not in wanted)
    hungry = [demand for demand in others if _free(held, demand) < low_water(size)]
    return Plan(
        tuple(hungry),
        (*over, *spare),
        tuple(use.held.block for use in ended if use.held.state is State.LOST),
    )


def _free(held: Sequence[Use], demand: Demand) -> int:
    """Return the free addresses for a demand; the leased ones of a block are counted as if all were of it."""
    total = 0
    for use in held:
        if use.held.block.version == demand.version:
            parts = [part for ends in demand.intervals for part in _inside(use.held.block, ends)]
            total += max(0, count(parts) - use.used - use.foreign)
    return total


def _inside(block: Block, ends: Interval) -> list[Interval]:
    return clip(leasable([block], block.version, ()), *ends)


def _spare(
    held: Sequence[Use], demands: Sequence[Demand], empty: Collection[Block], *, wanted: Collection[int]
) -> list[Block]:
    """Return the empty blocks that this node can do without."""
    left = list(held)
    spare = []
    is_idle = not any(use.used for use in held)
    asked = set(wanted)
    for use in sorted(held, key=lambda each: each.foreign):  # another node has little of what others have
        block = use.held.block
        is_wanted = block.version in asked and use.free > 0
        if use.used or not (is_wanted or block in empty):
            continue
        rest = [other for other in left if other is not use]
        enough = 1 if is_wanted else low_water(block.size)
        touched = [demand for demand in demands if demand.version == block.version]
        kept = all(_free(rest, demand) >= max(enough, 1) for demand in touched)
        if kept or (is_wanted and is_idle):
            left = rest
            spare.append(block)
            asked.discard(block.version)  # one for each time that it is asked
    return spare
