"""Claiming blocks of a pool in the engine, and giving them back.

One process of a node does so for one pool at a time, under the lock `claim.lock`, which is taken before the
lock of the pool. The engine is never asked under the lock of the pool: leases come and go meanwhile.

The file `claiming` is there while the engine may have given this node a block that no file records yet: after
a kill, or an answer that was lost, the engine is asked what it has.
"""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

from cni_core import statefile
from cni_core.boot import boot_id
from cni_core.errors import PoolExhausted, TryAgainLater
from cni_core.lock import locked
from cni_ipam import agreement, blocks, objects
from cni_ipam.blocks import Block, Cut
from cni_ipam.cluster import Cluster
from cni_ipam.engine import Engine, EngineRefused, Entry
from cni_ipam.holdings import HeldBlock, Holdings, HoldingsFile, State
from cni_ipam.identity import Identity, identity
from cni_ipam.lease import timestamp
from cni_ipam.place import Place
from cni_ipam.poolfile import PoolFile
from cni_ipam.ranges import Interval, RangeSet, count

_ALONE_S = 6.0  # for another call's claim; an ADD waits no longer for the engine either
_ROUTE_S = 1.0  # for the routers to forget a route that was withdrawn
_RACES_MOST = 64  # lost in a row: then the pool changes too fast, and the caller tries again


class Claims:
    """The blocks and pins of one pool, as this node claims them."""

    def __init__(self, place: Place, cluster: Cluster, engine: Engine, warn: Callable[[str], None]) -> None:
        self.place = place
        self.cluster = cluster
        self.engine = engine
        self.warn = warn
        self.file = HoldingsFile(place)
        self._directory = f"{place.data_dir}/{place.pool}"

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock of the node's claims in this pool; raises TryAgainLater."""
        with locked(f"{self._directory}/claim.lock", _ALONE_S):
            yield

    @property
    def _mark(self) -> str:
        return f"{self._directory}/claiming"

    def is_unsure(self) -> bool:
        """Return whether the engine may have a block of this node that is not recorded."""
        return os.path.lexists(self._mark)

    def forget_mark(self) -> None:
        """Note that all that the engine has of this node is recorded."""
        statefile.remove_file(self._mark)

    def _pool(self) -> AbstractContextManager[None]:
        return locked(f"{self._directory}/lock")

    def change(self, change: Callable[[Holdings], Holdings]) -> Holdings:
        """Replace the holdings under the lock of the pool."""
        with self._pool():
            before = self.file.read()
            after = change(before)
            if after != before:
                self.file.write(after)
        return after

    # Blocks.

    def make_room(self, range_set: RangeSet, seen: Holdings) -> None:
        """Claim a block for a range set, alone, unless another call has just changed the holdings.

        An engine that was restored from a backup is agreed with first. Raises PoolExhausted if other nodes
        hold every block.
        """
        if self.file.read() != seen:
            return
        if self.is_doubtful():
            return
        if seen.foreign:
            self.look_for_pins()
            if self.file.read().foreign != seen.foreign:
                return
        self.change(lambda holdings: holdings._replace(draining=False))
        self.claim(range_set.version, range_set.ordered, range_set.describe())

    def is_doubtful(self) -> bool:
        """Put the holdings in doubt if the engine was restored from a backup; return whether it was."""
        seen = self.file.read()
        if not agreement.is_restored(seen, self.engine.list("want", self.place.pool)):
            return False
        self.change(lambda holdings: holdings._replace(confirmed=f"in doubt in {boot_id()}"))
        return True

    def claim(
        self, version: int, intervals: Sequence[Interval], where: str, *, may_want: bool = True
    ) -> Block:
        """Claim one more block with addresses of some intervals; with `may_want`, ask others if none is left.

        Raises PoolExhausted if other nodes hold every block, TryAgainLater after the engine was restored: the
        other nodes have to claim the blocks of their pods again first.
        """
        holdings = self.file.read()
        left = holdings.claim_after - time.clock_gettime(time.CLOCK_BOOTTIME)
        if left > 0:
            raise TryAgainLater(
                f"claim a block of pool {self.place.pool}: the store was restored from a backup",
                f"the other nodes have {left:.0f} s left to claim their blocks again",
            )
        if holdings.claim_after:
            self._note_end_of_wait(holdings)
        cut = self._cut(version, intervals, holdings)
        own = {held.block.start for held in holdings.blocks if held.block.version == version}
        block = self._claim_first(cut, own, blocks.RANDOM_TRIES)
        if block is None:  # the random ones were taken: look before the next try
            block = self._claim_first(cut, own | self._starts(version), _RACES_MOST)
        if block is None:
            if may_want:
                self._want(version)
            raise PoolExhausted(f"no IP addresses available in range set: {where}", self._holders(version))
        return block

    def _note_end_of_wait(self, holdings: Holdings) -> None:
        """Tell the nodes that join from now on that blocks are claimed again after a restore."""
        pool = self.engine.read("pool", self.place.pool)
        if pool is not None and objects.is_of_another_engine(pool, holdings.engine):
            self.engine.replace(pool, {**pool.fields, "engine": holdings.engine})
        self.change(lambda now: now._replace(claim_after=0.0))

    def _claim_first(self, cut: Cut, taken: set[int], tries: int) -> Block | None:
        """Claim the first of some candidates that nobody holds."""
        statefile.overwrite_file(self._mark, timestamp())
        for block in itertools.islice(cut.candidates(self.me().node, taken), tries):
            revision = self.create(block)
            if revision:
                self._take(HeldBlock(block, revision))
                self.forget_mark()
                self.want_no_more()
                return block
        self.forget_mark()
        return None

    def _cut(self, version: int, intervals: Sequence[Interval], holdings: Holdings) -> Cut:
        size = holdings.size or self._size(count(intervals))
        return Cut(version, blocks.usable(intervals, self.cluster.pinned_of(version)), size)

    def _size(self, addresses: int) -> int:
        """Return the size of the pool's blocks: that in the engine, whatever the configuration says."""
        entry = self.engine.read("pool", self.place.pool)
        if entry is None:
            nodes = self.engine.list("node")
            wanted = self.cluster.block_size or blocks.auto_size(addresses, len(nodes.entries))
            subnets = PoolFile(self.place).subnets()
            fields = objects.pool_fields(self.place.pool, wanted, nodes.cluster, subnets)
            entry = self.engine.create("pool", self.place.pool, fields)
            entry = entry or self.engine.read("pool", self.place.pool)
        if entry is None:
            raise EngineRefused(f"read pool {self.place.pool}: it disappeared right after it was created")
        size = objects.block_size(entry)
        self.change(lambda holdings: holdings._replace(size=size))
        return size

    def me(self) -> Identity:
        """Return the identity of this node."""
        return identity(self.place.data_dir, self.cluster.node)

    def create(self, block: Block) -> str:
        """Claim a block; return its revision, "" if another node holds it.

        An answer that was lost is asked for again: the block may be ours already.
        """
        name = block.name(self.place.pool)
        fields = objects.block_fields(self.place.pool, block, self.me(), timestamp())
        entry = self.engine.create("block", name, fields)
        if entry is None:
            entry = self.engine.read("block", name)
            if entry is None or not objects.is_of(entry, self.me().incarnation):
                return ""
        return entry.revision

    def _take(self, held: HeldBlock) -> None:
        """Record a block, with the pins of others inside it.

        A node that pins an address writes its pin and then looks for a block, this one writes the block and
        then looks for pins: one of the two sees the other.
        """
        self._note_pins(lambda holdings: holdings.with_block(held))

    def look_for_pins(self) -> None:
        """Look, alone, which addresses of this node's blocks other nodes have pinned."""
        self._note_pins(lambda holdings: holdings)

    def _note_pins(self, change: Callable[[Holdings], Holdings]) -> None:
        pins = self.engine.list("pin", self.place.pool)
        incarnation = self.me().incarnation

        def noted(holdings: Holdings) -> Holdings:
            after = change(holdings)
            own = [held.block for held in after.blocks if held.state is not State.LOST]
            foreign = tuple(sorted(agreement.foreign(pins, incarnation, own)))
            return after._replace(foreign=foreign, revision=max(after.revision, pins.revision))

        self.change(noted)

    def _starts(self, version: int) -> set[int]:
        """Return the starts of other nodes' blocks: one of ours without a record is to be found again."""
        entries = self.engine.list("block", self.place.pool).entries
        me = self.me().incarnation
        others = (entry for entry in entries if not objects.is_of(entry, me))
        found = (objects.block_of(entry) for entry in others)
        return {block.start for block in found if block is not None and block.version == version}

    def _holders(self, version: int) -> str:
        """Describe who holds the blocks of a pool."""
        held: dict[str, int] = {}
        for entry in self.engine.list("block", self.place.pool).entries:
            block = objects.block_of(entry)
            if block is not None and block.version == version:
                node = str(entry.fields.get("node"))
                held[node] = held.get(node, 0) + 1
        shown = ", ".join(f"{node} {number}" for node, number in sorted(held.items()))
        return f"pool {self.place.pool}: all {sum(held.values())} blocks are held: {shown}; they were asked"

    def total(self, version: int, intervals: Sequence[Interval]) -> int:
        """Return the number of blocks for some addresses, 0 if the size of blocks is unknown yet."""
        held = self.file.read()
        return self._cut(version, intervals, held).total if held.size else 0

    def share_held(self, demands: Sequence[tuple[int, Sequence[Interval]]]) -> float:
        """Return the share of the blocks for some addresses that nodes hold, of the family with the most.

        Changes nothing in the engine: 0 if nobody has decided on the size of blocks.
        """
        if not self.file.read().size:
            self.engine.read("pool", self.place.pool)
            return 0.0
        own = self.file.read().blocks
        return max(
            (
                (len(self._starts(version)) + sum(held.block.version == version for held in own))
                / max(1, self.total(version, intervals))
                for version, intervals in demands
            ),
            default=0.0,
        )

    def forget(self, block: Block) -> None:
        """Remove a block of another node from the holdings."""
        self.change(lambda holdings: holdings.without_block(block))

    def give_back(self, wanted: Iterable[Block], is_empty: Callable[[Block], bool]) -> Iterator[Block]:
        """Give blocks back, and yield each; not those of which an address is leased.

        The route to a block went with its last pod, which may have been this moment. So nobody here leases
        from it any more, but other nodes may have it only when the routers have forgotten that route.
        """
        with self.alone():
            begun = [block for block in wanted if self._begin_giving(block, is_empty)]
        if begun:
            time.sleep(_ROUTE_S)
        for block in begun:
            with self.alone():
                if self._finish_giving(block):
                    yield block

    def _begin_giving(self, block: Block, is_empty: Callable[[Block], bool]) -> bool:
        held = self.change(lambda holdings: _releasing(holdings, block, is_empty)).find(block)
        return held is not None and held.state is State.RELEASING

    def _finish_giving(self, block: Block) -> bool:
        held = self.file.read().find(block)
        if held is None or held.state is not State.RELEASING:
            return False
        self._delete(held)
        revision = self.engine.list("want", self.place.pool).revision  # a backup of before has the block
        self.change(
            lambda holdings: holdings.without_block(block)._replace(revision=max(holdings.revision, revision))
        )
        return True

    def _delete(self, held: HeldBlock) -> None:
        """Delete the object of a block, unless it is no longer ours."""
        name = held.block.name(self.place.pool)
        if not self.engine.delete(Entry("block", name, {}, held.revision)):
            entry = self.engine.read("block", name)
            if entry is not None and objects.is_of(entry, self.me().incarnation):
                self.engine.delete(entry)

    def _want(self, version: int) -> None:
        """Ask the other nodes for an empty block."""
        me = self.me()
        fields = {
            "pool": self.place.pool,
            "node": me.node,
            "incarnation": me.incarnation,
            "family": version,
            "since": timestamp(),
        }
        self.engine.create("want", blocks.want_name(self.place.pool, me.node), fields)

    def want_no_more(self) -> None:
        """Withdraw this node's want, if it has one."""
        entry = self.engine.read("want", blocks.want_name(self.place.pool, self.me().node))
        if entry is not None:
            self.engine.delete(entry)

    def drain(self) -> None:
        """Lease no more from any block of this node."""

        def change(holdings: Holdings) -> Holdings:
            for held in holdings.blocks:
                if held.state is State.HELD:
                    holdings = holdings.with_block(held._replace(state=State.DRAINING))
            return holdings._replace(draining=True)

        self.change(change)


def _releasing(holdings: Holdings, block: Block, is_empty: Callable[[Block], bool]) -> Holdings:
    held = holdings.find(block)
    if held is None or held.state is State.LOST or not is_empty(block):
        return holdings
    return holdings.with_block(held._replace(state=State.RELEASING))
