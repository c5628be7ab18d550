"""What the agent leaves to the one-shot plugin, for it may live in a container and see other files."""

import json
from typing import Any

from cni_agent.protocol import Request
from cni_ipam.config import needs_host_files

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
    return isinstance(ipam, dict) and bool(ipam) and _is_away(ipam, request.plugin)


def _is_away(ipam: dict[str, Any], plugin: str) -> bool:
    ipam_type = ipam.get("type")
    executed = plugin != _BUILTIN and isinstance(ipam_type, str) and ipam_type not in {_BUILTIN, ""}
    return executed or needs_host_files(ipam)
