"""What container runtimes record of each attachment (containernetworking/cni, libcni)."""

import os

from cni_core import statefile

RESULTS = "/var/lib/cni/results"


def sandbox_of(network: str, container_id: str, ifname: str) -> str | None:
    """Return the path of an attachment's network namespace, None if it is not recorded."""
    record = statefile.read_json(os.path.join(RESULTS, f"{network}-{container_id}-{ifname}"))
    netns = (record or {}).get("netns")
    return netns if isinstance(netns, str) else None
