"""The records that container runtimes keep of each attachment (containernetworking/cni, libcni)."""

import base64
import os
from typing import Any

from cni_core import statefile
from cni_core.document import decode_config, section
from cni_core.errors import CniError

RESULTS = "/var/lib/cni/results"


def sandbox_of(network: str, container_id: str, ifname: str) -> str | None:
    """Return the path of an attachment's network namespace, None if it is not recorded."""
    netns = _record(network, container_id, ifname).get("netns")
    return netns if isinstance(netns, str) else None


def is_last(network: str, container_id: str, ifname: str, plugin: str) -> bool | None:
    """Return whether the recorded list of an attachment ends with a plugin; None if nothing is recorded.

    A plugin does not know the plugins after it, which may change its interface without reporting it.
    """
    text = _record(network, container_id, ifname).get("config")
    try:
        conf = decode_config(base64.b64decode(text)) if isinstance(text, str) else {}
    except (ValueError, CniError):
        return None
    if not conf:
        return None
    plugins = conf.get("plugins", [conf])
    return isinstance(plugins, list) and bool(plugins) and section(plugins[-1], "type") == plugin


def _record(network: str, container_id: str, ifname: str) -> dict[str, Any]:
    return statefile.read_json(os.path.join(RESULTS, f"{network}-{container_id}-{ifname}")) or {}
