"""The one place that decides where a pool's leases are kept."""

import os
from collections.abc import Callable

from cni_ipam.cluster import UNKNOWN, Cluster
from cni_ipam.disk_store import DiskStore
from cni_ipam.lease_store import LeaseStore
from cni_ipam.place import CLUSTER_FILE, HOLDINGS_FILE, Place


def open_store(
    place: Place, cluster: Cluster | None = None, warn: Callable[[str], None] = lambda _text: None
) -> LeaseStore:
    """Return the store that keeps the leases of a pool.

    A call without a configuration, such as DEL, finds the cluster that the pool was last configured with. So
    does an ADD whose configuration lost the section: other nodes lease from the pool too.
    """
    if cluster is None and not _is_marked_shared(place):
        return DiskStore(place)
    from cni_ipam.holdings import HoldingsFile

    file = HoldingsFile(place)
    if cluster is None:
        cluster = file.cluster()
        held = file.read()
        if cluster is None and not (held.blocks or held.pins):
            return DiskStore(place)
        cluster = cluster or Cluster(UNKNOWN)  # its record is damaged: what is asked for waits for an ADD
        warn(f"pool {place.pool} is still shared with other nodes: to end that, cni-ipam drain {place.pool}")
    else:
        file.record_cluster(cluster)
    from cni_ipam.block_store import BlockStore

    return BlockStore(place, cluster, warn)


def _is_marked_shared(place: Place) -> bool:
    """Return whether a pool has files of one that nodes share: most have none, and load no code for it."""
    directory = f"{place.data_dir}/{place.pool}"
    return any(os.path.lexists(f"{directory}/{name}") for name in (CLUSTER_FILE, HOLDINGS_FILE))
