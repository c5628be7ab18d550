"""The one place that decides where a pool's leases are kept."""

from cni_ipam.disk_store import DiskStore
from cni_ipam.lease_store import LeaseStore
from cni_ipam.place import Place


def open_store(place: Place) -> LeaseStore:
    """Return the store that keeps the leases of a pool."""
    return DiskStore(place)
