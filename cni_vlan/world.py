"""The open handles of one call: the host's namespace with its ledger, and the sandbox."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from cni_core.call import Call
from cni_core.context import Context
from cni_core.errors import UplinkMissing
from cni_core.result import Result
from cni_core.result_json import parse_result
from cni_net.netns import Sandbox, open_sandbox
from cni_net.rtnl import Rtnl, open_rtnl
from cni_vlan.attachment import Attachment
from cni_vlan.ledger import Ledger
from cni_vlan.parent import Host
from cni_vlan.parents import is_auto, resolve_auto


class World(NamedTuple):
    """The namespaces that a call observes and changes."""

    host: Host
    sandbox: Sandbox
    inside: Rtnl

    def below(self, attachment: Attachment) -> Rtnl:
        """Return the namespace of the parent: the sandbox with `linkInContainer`, else the host."""
        return self.inside if attachment.link_in_container else self.host.rtnl


@contextlib.contextmanager
def open_world(call: Call, context: Context) -> Iterator[World]:
    """Open both namespaces; raises SandboxGone or InvalidNetns if the sandbox cannot be used."""
    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(
            open_sandbox(call.netns, context.sandbox_fd, own_allowed=call.sandbox_may_be_own)
        )
        host = stack.enter_context(open_rtnl())
        inside = stack.enter_context(open_rtnl(sandbox))
        yield World(Host(host, Ledger()), sandbox, inside)


def previous_result(call: Call) -> Result | None:
    """Return prevResult, None if it is absent."""
    document = call.conf.get("prevResult")
    return None if document is None else parse_result(document, call.cni_version)


def resolve(attachment: Attachment, world: World) -> Attachment:
    """Replace `auto` with the interface of the best default route."""
    if not is_auto(attachment.parent):
        return attachment
    rtnl = world.below(attachment)
    for route in rtnl.default_routes():
        link = rtnl.find_link(index=route.oif)
        if link is not None:
            return attachment._replace(parent=resolve_auto(attachment.parent, link.name))
    raise UplinkMissing(f"find parent auto of network {attachment.network}: no default route")
