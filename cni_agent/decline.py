"""What the agent leaves to the one-shot plugin, for it may live in a container and see other files."""

import json
from collections.abc import Iterator
from typing import Any

from cni_agent.protocol import Request
from cni_core.call import AttachmentKey
from cni_core.document import NAME
from cni_ipam.config import needs_host_files
from cni_vlan.ledger import Ledger

_BUILTIN = "cni-ipam"
_RENAMED = {"type": "?"}  # whether a network was renamed, the host's configuration files tell


def declines(request: Request) -> bool:
    """Return whether only a process on the host can do it; nothing has been touched yet.

    That is: an IPAM plugin to execute, a file to read that the agent may not see, leases in a place of their
    own. DEL and GC go by what ADD recorded, so that is looked at too. A configuration that cannot be read is
    refused here as well as there.
    """
    try:
        conf = json.loads(request.stdin)
    except (ValueError, RecursionError):
        return False
    if not isinstance(conf, dict):
        return False
    sections = (conf.get("ipam"), *_recorded(request, conf.get("name")))
    return any(isinstance(ipam, dict) and ipam and _is_away(ipam, request.plugin) for ipam in sections)


def _recorded(request: Request, network: object) -> Iterator[object]:
    """Yield the IPAM sections by which DEL or GC releases."""
    command = request.environ.get("CNI_COMMAND")
    if request.plugin == _BUILTIN or command not in {"DEL", "GC"} or not isinstance(network, str):
        return
    ids = (network, request.environ.get("CNI_CONTAINERID", ""), request.environ.get("CNI_IFNAME", ""))
    if not NAME.fullmatch(network) or (command == "DEL" and not all(map(NAME.fullmatch, ids))):
        return
    ledger = Ledger()
    for key in [AttachmentKey(*ids[1:])] if command == "DEL" else list(ledger.keys(network)):
        entry = ledger.find(network, key)
        if entry is not None and entry.record is not None:
            yield entry.record.conf.get("ipam")
        elif entry is None and ledger.networks_of(key):
            yield _RENAMED


def _is_away(ipam: dict[str, Any], plugin: str) -> bool:
    ipam_type = ipam.get("type")
    executed = plugin != _BUILTIN and isinstance(ipam_type, str) and ipam_type not in {_BUILTIN, ""}
    return executed or needs_host_files(ipam)
