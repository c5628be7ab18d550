"""Announces a new pod's addresses, once its runtime has the answer."""

from collections.abc import Callable

from cni_core.call import Call
from cni_core.context import Context
from cni_core.errors import CniError
from cni_net.announce import Announcement, announcement
from cni_net.netns import open_sandbox
from cni_vlan.events import Attached


def hear(event: object, call: Call | None, context: Context, start: Callable[[Announcement], object]) -> None:
    """Have the addresses of a new attachment announced; `start` sees to it while the caller goes on."""
    if not isinstance(event, Attached) or call is None or not event.announce:
        return
    try:
        with open_sandbox(call.netns, context.sandbox_fd, own_allowed=call.sandbox_may_be_own) as sandbox:
            later = announcement(sandbox, event.key.ifname, event.mac, event.addresses, event.announce)
    except CniError:  # the pod is gone already
        return
    if later is not None:
        try:
            start(later)
        except (OSError, RuntimeError):  # a limit of processes: neighbours learn of it without us
            later.close()
