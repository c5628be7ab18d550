"""The verbs of cni-vlan, one module each; this module is what cni_core.plugin dispatches to."""

from cni_vlan.add import add
from cni_vlan.check import check
from cni_vlan.delete import delete, gc
from cni_vlan.status import status

__all__ = ["add", "check", "delete", "gc", "status"]
