"""Loading all code that a verb may need, so that no pod waits for it."""

import cni_ipam.commands
import cni_ipam.config
import cni_net.parent_messages  # noqa: F401 - loaded for the first network that needs it
import cni_vlan.add
import cni_vlan.check
import cni_vlan.commands
import cni_vlan.config
import cni_vlan.delete
import cni_vlan.status
from cni_core import lock, validation
from cni_core.context import Commands, Loaders


def preloaded() -> Loaders:
    """Return the verbs of each plugin, after a first run of the steps whose first run costs most."""
    lock.preload()
    for schema in (cni_vlan.config.Schema, cni_ipam.config.Schema):
        validation.validate(schema, {}, "")
    return {"cni-ipam": _ipam, "cni-vlan": _vlan}


def _ipam() -> Commands:
    return cni_ipam.commands


def _vlan() -> Commands:
    return cni_vlan.commands
