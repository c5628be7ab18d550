"""What the agent leaves to the one-shot plugin, for it may live in a container and see other files."""

import json
import os
from typing import Any

from cni_agent.protocol import Request
from cni_ipam.store import DATA_DIR

_BUILTIN = "cni-ipam"


def declines(request: Request) -> bool:
    """Tell, before anything is touched, whether only a process on the host can do it.

    That is: an IPAM plugin to execute, a file to read that the agent may not see, leases in a place of their
    own. A configuration that cannot be read is refused here as well as there.
    """
    try:
        conf = json.loads(request.stdin)
    except (ValueError, RecursionError):
        return False
    ipam = conf.get("ipam") if isinstance(conf, dict) else None
    return isinstance(ipam, dict) and bool(ipam) and not _is_at_home(ipam, request.plugin)


def _is_at_home(ipam: dict[str, Any], plugin: str) -> bool:
    data_dir = os.path.normpath(str(ipam.get("dataDir") or DATA_DIR))
    known = plugin == _BUILTIN or ipam.get("type") in {_BUILTIN, None, ""}
    return known and not ipam.get("resolvConf") and f"{data_dir}/".startswith(f"{DATA_DIR}/")
