"""The faults of the pools that this node shares with others, for operators. Changes nothing."""

from collections.abc import Iterator
from typing import NamedTuple

from cni_core import waiting
from cni_core.boot import boot_id
from cni_core.errors import CniError
from cni_ipam.block_store import BlockStore
from cni_ipam.holdings import HoldingsFile, State
from cni_ipam.overlaps import overlaps
from cni_ipam.place import Place
from cni_ipam.poolfile import pools

_ENGINE_S = 2.0


class Fault(NamedTuple):
    """A fault of a pool, with advice; `fatal` if pods may get no address."""

    pool: str
    text: str
    advice: str
    fatal: bool = False


def faults(data_dir: str) -> Iterator[Fault]:
    """Yield the faults of each shared pool of a data directory; asks its engine."""
    for name in pools(data_dir):
        place = Place(name, data_dir)
        cluster = HoldingsFile(place).cluster()
        if cluster is not None:
            store = BlockStore(place, cluster)
            yield from _of_engine(store)
            yield from _of_blocks(store)


def _of_engine(store: BlockStore) -> Iterator[Fault]:
    pool = store.place.pool
    try:
        with waiting.briefly(_ENGINE_S):
            engine = store.claims().engine
            for text in overlaps(engine, store.place, engine.list("pool").entries):
                yield Fault(pool, text, "an address may be in use twice; see docs/cluster.md")
    except CniError as error:
        advice = "pods go on while this node's blocks have room; see docs/cluster.md"
        yield Fault(pool, ": ".join(filter(None, [error.msg, error.details])), advice)


def _of_blocks(store: BlockStore) -> Iterator[Fault]:
    pool, holdings = store.place.pool, store.holdings.read()
    if holdings.blocks and holdings.confirmed != boot_id():
        reason = (
            "another machine has this node's identity" if holdings.is_of_this_boot else "not since the boot"
        )
        text = f"the store has not confirmed its blocks: {reason}"
        yield Fault(pool, text, "the next contact with the store confirms them: cni-ipam blocks", fatal=True)
    for held in holdings.blocks:
        used = store.used(held.block)
        if held.state is State.LOST and used:
            text = f"block {held.block.prefix} is another node's, and {used} pods here have addresses of it"
            advice = "an address may be in use twice: restart these pods (cni-ipam leases)"
            yield Fault(pool, text, advice, fatal=True)
