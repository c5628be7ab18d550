"""The verbs of cni-vlan, as cni_core.plugin dispatches to them.

Each is imported when it is called: a one-shot ADD does without the code of CHECK, STATUS and GC.
"""

from cni_core.call import Call
from cni_core.context import Context
from cni_core.result import Result


def add(call: Call, context: Context) -> Result:
    """Attach the sandbox, or raise with everything as it was."""
    from cni_vlan import add as module

    return module.add(call, context)


def delete(call: Call, context: Context) -> None:
    """Detach: link, then lease, then parent; each whatever became of the one before."""
    from cni_vlan import delete as module

    module.delete(call, context)


def check(call: Call, context: Context) -> None:
    """Compare link, parent, addresses, routes and lease with prevResult; raise with every difference."""
    from cni_vlan import check as module

    module.check(call, context)


def status(call: Call, context: Context) -> None:
    """Raise if no ADD can work."""
    from cni_vlan import status as module

    module.status(call, context)


def gc(call: Call, context: Context) -> None:
    """Release the attachments of this network that are not in the valid list; no list is no information."""
    from cni_vlan import delete as module

    module.gc(call, context)
