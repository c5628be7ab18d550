"""Pools of one cluster whose subnets overlap: the same address may be leased twice, on different nodes."""

from collections.abc import Iterator, Sequence

from cni_ipam import objects
from cni_ipam.engine import Engine, Entry
from cni_ipam.place import Place
from cni_ipam.poolfile import PoolFile, overlap


def overlaps(engine: Engine, place: Place, known: Sequence[Entry]) -> Iterator[str]:
    """Describe each subnet of a pool that overlaps one of another pool from which some node leases.

    `known` are the objects of all pools.
    """
    own = PoolFile(place).subnets()
    for other in known:
        found = [
            f"subnet {mine} of pool {place.pool} overlaps {theirs} of pool {other.name} in the cluster"
            for theirs in objects.subnets_of(other)
            for mine in own
            if other.name != place.pool and overlap(mine, theirs)
        ]
        if found and engine.list("block", other.name).entries:
            yield from (f"{text}: give both networks the same pool" for text in found)
