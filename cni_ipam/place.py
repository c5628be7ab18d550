"""The place of a network's leases: the pool and its directory, which become paths in every verb. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from cni_core.document import NAME, section

DATA_DIR = "/var/lib/cni/cni-ipam"
CLUSTER_FILE, HOLDINGS_FILE = "cluster", "holdings"  # in the directory of a pool that nodes share


class Place(NamedTuple):
    """A pool of addresses and the directory that holds its leases; networks that name one pool share it."""

    pool: str
    data_dir: str = DATA_DIR


def pool_problem(pool: object) -> str:
    """Return the reason why a pool cannot have this name, "" if it can."""
    if isinstance(pool, str) and NAME.fullmatch(pool):
        return ""
    return "not a name of letters, digits, and _ . -"


def data_dir_problem(data_dir: object) -> str:
    """Return the reason why leases cannot be in this directory, "" if they can."""
    return "" if isinstance(data_dir, str) and data_dir.startswith("/") else "not an absolute path"


def place_of(conf: Mapping[str, Any], network: str) -> Place | None:
    """Return the place that an unvalidated configuration names: DEL and GC must not fail on the rest of it.

    None for an invalid place, in which nothing can ever have been leased.
    """
    data_dir = section(conf, "ipam", "dataDir") or DATA_DIR
    pool = section(conf, "ipam", "pool") or network
    return None if pool_problem(pool) or data_dir_problem(data_dir) else Place(pool, data_dir)
