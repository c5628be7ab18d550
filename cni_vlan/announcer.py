"""Announces a new pod's addresses, once the runtime has its answer."""

from collections.abc import Callable

from cni_core.call import Call
from cni_core.context import Context
from cni_core.errors import CniError
from cni_net.announce import Announcement, announcement
from cni_net.netns import open_sandbox
from cni_vlan.events import Attached


def on_event(
    event: object, call: Call | None, context: Context, start: Callable[[Announcement], object]
) -> None:
    """Announce the addresses of a new attachment; `start` runs the announcement beside the caller."""
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
        except (OSError, RuntimeError):  # the limit of processes: neighbours learn of it without us
            later.close()
