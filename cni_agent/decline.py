"""The requests that the agent declines, for the one-shot plugin: in a container it sees other files."""

import json
from collections.abc import Iterator
from typing import Any

from cni_agent.protocol import Request
from cni_core.call import AttachmentKey
from cni_core.document import NAME
from cni_ipam.config import needs_host_files
from cni_vlan.ledger import Ledger

_BUILTIN = "cni-ipam"
_RENAMED = {"type": "?"}  # only the host's configuration files tell whether a network was renamed


def declines(request: Request) -> bool:
    """Return whether only a process on the host can serve a request; nothing has been changed yet.

    Such a request needs an IPAM plugin that is executed, a file that the agent may not see, or leases in a
    directory of their own. DEL and GC follow the record of the ADD, so that is examined too. A configuration
    that cannot be decoded is refused by the agent as well as by the plugin.
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
    """Yield the recorded IPAM sections that a DEL or GC will follow."""
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
