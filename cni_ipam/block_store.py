"""Leases of a pool that many nodes share: on this node's disk, from the blocks that this node holds.

An ADD with room in a block asks nobody. One without room waits until a block is claimed, and is then done
again from the start. A DEL asks nobody; a pin that it leaves is given back later if the engine is away.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from typing_extensions import override

from cni_core.call import AttachmentKey
from cni_core.errors import AddressUnavailable, NotAvailable, PoolExhausted, TryAgainLater
from cni_core.lock import locked
from cni_ipam import engine_waits, membership
from cni_ipam.allocator import BLOCK_BITS, Choice
from cni_ipam.blocks import Block, leasable
from cni_ipam.claims import Claims
from cni_ipam.cluster import Cluster
from cni_ipam.disk_store import DiskStore
from cni_ipam.engines import open_engine
from cni_ipam.holdings import HeldPin, Holdings, HoldingsFile
from cni_ipam.lease import Lease, Tenant
from cni_ipam.lease_store import Transaction
from cni_ipam.pins import Pins
from cni_ipam.place import Place
from cni_ipam.ranges import Address, Interval, RangeSet, clip, to_address

T = TypeVar("T")
_ROUNDS_MOST = 8  # calls that find the room that one has just claimed take it
_ENGINE_S = 6.0  # an ADD does not wait longer for the engine, however many requests it needs
_UNPIN_S = 1.0  # a DEL does not wait longer for the engine


class NeedsBlock(PoolExhausted):
    """This node has no free address of a range set in its blocks."""

    def __init__(self, range_set: RangeSet, seen: Holdings, pool: str) -> None:
        where = range_set.describe()
        super().__init__(
            f"no IP addresses available in range set: {where}", f"pool {pool}: this node's blocks are full"
        )
        self.range_set = range_set
        self.seen = seen


class NeedsPin(Exception):
    """An address has to be kept in the engine before it can be leased."""

    def __init__(self, range_set: RangeSet, requested: Address | None, tenant: Tenant) -> None:
        super().__init__(str(requested))
        self.range_set = range_set
        self.requested = requested
        self.tenant = tenant


# Of a long-lived process: the part of each range set that this node holds, by pool and identity.
_held: dict[tuple[str, str], tuple[Holdings, Cluster, RangeSet]] = {}
_HELD_MOST = 256


class BlockStore(DiskStore):
    """The leases of one pool in the blocks of this node."""

    def __init__(
        self, place: Place, cluster: Cluster, warn: Callable[[str], None] = lambda _text: None
    ) -> None:
        super().__init__(place)
        self.cluster = cluster
        self.holdings = HoldingsFile(place)
        self._warn = warn

    @override
    def exists(self) -> bool:
        return super().exists() or bool(self.holdings.read().pins)

    def claims(self) -> Claims:
        """Return the way to claim and give back; asks no engine yet."""
        return Claims(self.place, self.cluster, open_engine(self.cluster.engine), self._warn)

    @override
    def transaction(self, work: Callable[[Transaction], T]) -> T:
        made: list[HeldPin] = []
        try:
            return self._until_there_is_room(work, made)
        except BaseException:
            self._abandon(made)
            raise
        finally:
            self._give_pins_back()

    def _until_there_is_room(self, work: Callable[[Transaction], T], made: list[HeldPin]) -> T:
        try:
            return super().transaction(work)
        except (NeedsBlock, NeedsPin) as need:
            with engine_waits.counted(self.place.pool, _ENGINE_S):
                return self._with_the_engine(work, need, made)

    def _with_the_engine(
        self, work: Callable[[Transaction], T], need: NeedsBlock | NeedsPin, made: list[HeldPin]
    ) -> T:
        for _round in range(_ROUNDS_MOST):
            try:
                if isinstance(need, NeedsBlock):
                    return self._claiming(work, need)
                made.append(Pins(self.claims()).pin(need.range_set, need.requested, need.tenant))
                return super().transaction(work)
            except (NeedsBlock, NeedsPin) as again:
                need = again
        raise TryAgainLater(f"lease from pool {self.place.pool}: other pods took each address kept for it")

    def _claiming(self, work: Callable[[Transaction], T], need: NeedsBlock) -> T:
        """Claim and lease in one turn, so that the calls that wait for theirs do not take it."""
        claims = self.claims()
        with claims.alone():
            for _round in range(_ROUNDS_MOST):
                if not membership.confirm(claims):
                    claims.make_room(need.range_set, need.seen)
                with locked(f"{self.directory}/lock"):
                    self.clear_marks()
                try:
                    return super().transaction(work)
                except NeedsBlock as again:
                    need = again
        raise TryAgainLater(f"lease from pool {self.place.pool}: other pods took each block claimed for it")

    def _abandon(self, made: Sequence[HeldPin]) -> None:
        """Release the pins of an ADD that fails."""
        if made:
            with contextlib.suppress(TryAgainLater):
                self.claims().change(lambda now: _released(now, made))

    def _give_pins_back(self) -> None:
        if any(pin.key is None and not pin.is_told for pin in self.holdings.read().pins):
            waits = engine_waits.counted(self.place.pool, _UNPIN_S)
            with contextlib.suppress(TryAgainLater), waits:
                Pins(self.claims()).give_back()

    @override
    def prefixes(self, choice: Choice) -> tuple[str, ...]:
        """Return the block of an address; for a pinned one outside of the blocks, the address alone."""
        first = Block(choice.range.version, choice.number, 1)
        held = (block for block in self.holdings.read().usable if block.version == first.version)
        block = next((b for b in held if b.start <= choice.number <= b.interval[1]), first)
        return (block.prefix,)

    @override
    def can_grow(self, range_sets: Sequence[RangeSet]) -> bool:
        """Return whether the cluster has a block left; raises NotAvailable without any block and engine.

        A runtime asks for STATUS every few seconds, but only a node whose blocks are full comes here.
        """
        demands = [(range_set.version, range_set.ordered) for range_set in range_sets]
        try:
            return self.claims().share_held(demands) < 1
        except TryAgainLater as error:
            if self.holdings.read().usable:  # its pods come and go: no reason to call the node not ready
                return True
            raise NotAvailable(
                f"pool {self.place.pool}: this node has no block of it: {error.msg}", error.details
            ) from error

    # What a transaction sees.

    @override
    def leasable(self, range_set: RangeSet) -> RangeSet:
        holdings = self.holdings.read()
        key = (self.directory, range_set.identity)
        known = _held.get(key)
        if known is None or known[0] is not holdings or known[1] != self.cluster:
            if len(_held) >= _HELD_MOST:
                _held.clear()
            here = RangeSet(range_set.ranges, self.leasable_parts(range_set.version))
            if known is not None:
                self.carry_marks(known[2], here)
            known = _held[key] = (holdings, self.cluster, here)
        return known[2]

    def leasable_parts(self, version: int) -> list[Interval]:
        """Return the addresses of this node's blocks but those that are pinned."""
        holdings = self.holdings.read()
        pinned = self.cluster.pinned_of(version)
        kept = [(number, number) for of, number in holdings.kept_from_pods if of == version]
        own = [(pin.number, pin.number) for pin in holdings.pins if pin.version == version]
        return leasable(holdings.usable, version, [*pinned, *kept, *own])

    @override
    def reserve(self, range_set: RangeSet, requested: Address | None, tenant: Tenant) -> Address | None:
        if requested is None:
            return self._kept(range_set, tenant) if tenant.owner else None
        number = int(requested)
        self._refuse_aside(range_set.version, number)
        found = range_set.range_of(number)
        is_refused = found is None or bool(found.reserved_as(number))  # the allocator says why
        is_here = bool(clip(self.leasable_parts(range_set.version), number, number))
        pin = self.holdings.read().pin(range_set.version, number)
        if is_refused or is_here or (pin is not None and pin.key == tenant.key and pin.revision):
            return requested
        if self.is_taken(range_set.version, number):
            return requested
        raise NeedsPin(range_set, requested, tenant)

    def _refuse_aside(self, version: int, number: int) -> None:
        for of, at, who in self.holdings.read().aside:
            if (of, at) == (version, number):
                text = f"requested IP address {to_address(version, number)} is not available"
                raise AddressUnavailable(text, f"pool {self.place.pool}: {who} has it")

    def _kept(self, range_set: RangeSet, tenant: Tenant) -> Address:
        for pin in self.holdings.read().pins:
            is_own = pin.key == tenant.key and pin.revision and pin.version == range_set.version
            if is_own and range_set.range_of(pin.number):
                return to_address(pin.version, pin.number)
        raise NeedsPin(range_set, None, tenant)

    @override
    def exhausted(self, range_set: RangeSet) -> PoolExhausted:
        return NeedsBlock(range_set, self.holdings.read(), self.place.pool)

    @override
    def release(self, lease: Lease) -> None:
        super().release(lease)
        self.unpin(lease.key)

    @override
    def kept(self) -> set[AttachmentKey]:
        return {pin.key for pin in self.holdings.read().pins if pin.key is not None}

    @override
    def unpin(self, key: AttachmentKey) -> None:
        """Release the pins of an attachment; the engine is told after the transaction."""
        now = self.holdings.read()
        mine = [pin for pin in now.pins if pin.key == key]
        if mine:
            self.holdings.write(_released(now, mine))

    def lease_as_is(self, lease: Lease) -> None:
        """Record a lease that another plugin has made, unless it is here already; raises IoFailure."""

        def work(pool: Transaction) -> None:
            if pool.lease_of(lease.key) is None:
                pool.allocate(lease)

        super().transaction(work)

    def is_empty(self, block: Block) -> bool:
        """Return whether no address of a block is leased; under the lock of the pool."""
        return not self.used(block)

    def used(self, block: Block) -> int:
        """Return the number of leased addresses of a block."""
        first, last = block.interval
        groups = range(first >> BLOCK_BITS, (last >> BLOCK_BITS) + 1)
        taken = (number for group in groups for number in self.taken(block.version, group))
        return sum(first <= number <= last for number in taken)


def _released(holdings: Holdings, pins: Sequence[HeldPin]) -> Holdings:
    for pin in pins:
        now = holdings.pin(pin.version, pin.number)
        if now is not None and now.key == pin.key:
            until = time.clock_gettime(time.CLOCK_BOOTTIME) + pin.keep_s if pin.keep_s else 0.0
            holdings = holdings.with_pin(now._replace(key=None, until=until))
    return holdings
