"""What may name a pool and its directory: they become paths, in every verb. Pure."""

import re

_POOL = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")


def pool_problem(pool: object) -> str:
    """Say why a pool cannot have this name, "" if it can."""
    if isinstance(pool, str) and _POOL.fullmatch(pool):
        return ""
    return "a pool is named like a network"


def data_dir_problem(data_dir: object) -> str:
    """Say why leases cannot be in this directory, "" if they can."""
    return "" if isinstance(data_dir, str) and data_dir.startswith("/") else "not an absolute path"
