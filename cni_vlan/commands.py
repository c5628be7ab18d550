"""The verbs of cni-vlan, as cni_core.plugin dispatches to them.

Each verb is imported when it is called: a one-shot ADD does not load the code of CHECK, STATUS and GC.
"""

from cni_core.call import Call
from cni_core.context import Context
from cni_core.result import Result


def add(call: Call, context: Context) -> Result:
    """Attach the sandbox, or undo every change and raise."""
    from cni_vlan import add as module

    return module.add(call, context)


def delete(call: Call, context: Context) -> None:
    """Detach: link, then lease, then parent; a failed step does not stop the next one."""
    from cni_vlan import delete as module

    module.delete(call, context)


def check(call: Call, context: Context) -> None:
    """Compare link, parent, addresses, routes and lease with prevResult; raise with every difference."""
    from cni_vlan import check as module

    module.check(call, context)


def status(call: Call, context: Context) -> None:
    """Raise if no ADD can succeed."""
    from cni_vlan import status as module

    module.status(call, context)


def gc(call: Call, context: Context) -> None:
    """Release the attachments of this network that are not in the valid list; without a list, none."""
    from cni_vlan import delete as module

    module.gc(call, context)
