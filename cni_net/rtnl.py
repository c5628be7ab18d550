"""Rtnl: queries and changes of one network namespace, in our own values.

The kernel's errno becomes an error class here and nowhere else.
"""

import contextlib
import errno
import itertools
import os
from collections.abc import Collection, Iterator, Sequence

from cni_core import waiting
from cni_core.errors import (
    CniError,
    InterfaceExists,
    LinkFailure,
    ParentConflict,
    TryAgainLater,
)
from cni_core.family import Family
from cni_net import link_messages, route_messages
from cni_net.netns import Sandbox
from cni_net.observed import HostAddress, Link, RouteEntry, TableRoute, TableRule
from cni_net.operations import (
    AddAddress,
    AddBlackhole,
    AddNeighbour,
    AddRoute,
    AddRule,
    CreateChild,
    CreateDummy,
    CreateVlan,
    DeleteAddress,
    DeleteBlackhole,
    DeleteLink,
    DeleteNeighbour,
    DeleteRoute,
    DeleteRule,
    Operation,
    Rename,
    SetAlias,
    SetSysctl,
    SetUp,
    describe,
)
from cni_net.rtsocket import KernelError, Request, RtSocket
from cni_net.sysctl import write_sysctls

MAIN_TABLE = 254
_BUSY = frozenset({errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ENOBUFS, errno.ENOMEM})
_ABSENT = frozenset({errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENOENT, errno.ESRCH})
_NO_TABLE = frozenset({errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.ENOENT})  # no IPv6; no routes in it
_BOTH = (Family.IPV4, Family.IPV6)


class NameTaken(LinkFailure):
    """The object to be created exists already: a link of that name, or that VLAN id on that device."""


class Rtnl:
    """The links, addresses and routes of a sandbox, or of the namespace of the thread that uses it.

    The host's socket is opened when it is needed: most DELs change nothing there.
    """

    def __init__(self, sandbox: Sandbox | None = None) -> None:
        self._sandbox = sandbox
        self._opened: RtSocket | None = None
        if sandbox:
            with sandbox.entered():
                self._opened = RtSocket()

    @property
    def _socket(self) -> RtSocket:
        if self._opened is None:
            self._opened = RtSocket()
        return self._opened

    def close(self) -> None:
        """Close the socket."""
        if self._opened is not None:
            self._opened.close()

    def find_link(self, *, name: str = "", index: int = 0) -> Link | None:
        """Return a link by its name or index, None if there is none."""
        try:
            frame = self._socket.get(link_messages.query_link(name, index))
        except KernelError as error:
            if error.errno in _ABSENT:
                return None
            raise _reading_failed(f"look up link {name or index}", error) from error
        return link_messages.parse_link(frame)

    def links(self) -> list[Link]:
        """Return every link."""
        frames = self._dump(link_messages.query_link("", 0), "list links")
        return [link_messages.parse_link(frame) for frame in frames]

    def addresses(self, index: int) -> list[str]:
        """Return the addresses of a link, in CIDR form."""
        frames = self._dump(route_messages.query_addresses(index), "list addresses")
        return [route_messages.parse_address(frame) for frame in frames]

    def host_addresses(self) -> list[HostAddress]:
        """Return every address of the namespace."""
        frames = self._dump(route_messages.query_addresses(0), "list addresses")
        return [route_messages.parse_host_address(frame) for frame in frames]

    def routes(self, families: Collection[Family] = _BOTH, table: int = 0) -> list[RouteEntry]:
        """Return the unicast routes of some families in a table; 0 for every table."""
        found: list[RouteEntry] = []
        for family in families:
            frames = self._dump(route_messages.query_routes(family, table), "list routes", _NO_TABLE)
            found += [entry for entry in map(route_messages.parse_route, frames) if entry is not None]
        return found

    def _dump(self, query: Request, what: str, absent: Collection[int] = ()) -> list[bytes]:
        """Return the replies to a query; none if the kernel's errno says that the objects are absent."""
        try:
            return self._socket.dump(query)
        except KernelError as error:
            if error.errno in absent:
                return []
            raise _reading_failed(what, error) from error

    def default_routes(self, families: Collection[Family] = _BOTH) -> list[RouteEntry]:
        """Return the default routes of the main table, the best first."""
        found = [route for route in self.routes(families, MAIN_TABLE) if route.dst.endswith("/0")]
        return sorted(found, key=lambda route: route.priority)

    def supports(self, kind: str) -> bool:
        """Return whether the kernel can create links of a kind, loading its module if necessary.

        Raises LinkFailure without the right to create links, since the kernel then gives no answer.
        """
        try:
            self._socket.change([link_messages.probe_kind(kind)])
        except KernelError as error:
            if error.errno == errno.EPERM:
                raise _reading_failed(f"ask for links of kind {kind}", error) from error
            return error.errno != errno.EOPNOTSUPP
        return True

    def apply(self, operations: Sequence[Operation]) -> None:
        """Carry out operations in their order; raise the error of the first one that the kernel refused.

        The kernel continues a batch after a refused operation. Operations between two sysctls are one batch.
        """
        for is_sysctl, group in itertools.groupby(operations, lambda each: isinstance(each, SetSysctl)):
            if is_sysctl:
                write_sysctls(self._sandbox, [each for each in group if isinstance(each, SetSysctl)])
            else:
                self._change(list(group))

    def table(self, table: int) -> list[TableRoute]:
        """Return every route of a table, of any type."""
        from cni_net import rule_messages

        found: list[TableRoute] = []
        for family in _BOTH:
            frames = self._dump(route_messages.query_routes(family, table), f"list table {table}", _NO_TABLE)
            found += map(rule_messages.parse_table_route, frames)
        return found

    def rules(self) -> list[TableRule]:
        """Return every routing rule."""
        from cni_net import rule_messages

        found: list[TableRule] = []
        for family in _BOTH:
            frames = self._dump(rule_messages.query_rules(family), "list rules", _NO_TABLE)
            found += map(rule_messages.parse_rule, frames)
        return found

    def add_missing(self, operations: Sequence[Operation]) -> None:
        """Add objects that may be there already, one by one."""
        for operation in operations:
            with contextlib.suppress(NameTaken):
                self._change([operation])

    def remove(
        self,
        operations: Sequence[
            DeleteRoute | DeleteNeighbour | DeleteAddress | DeleteLink | DeleteBlackhole | DeleteRule
        ],
    ) -> None:
        """Delete objects that may be gone already, one by one."""
        for operation in operations:
            try:
                self._socket.change([_encode(operation)])
            except KernelError as error:
                if error.errno not in _ABSENT:
                    raise _change_failed(operation, error) from error

    def _change(self, operations: Sequence[Operation]) -> None:
        # To delete a link the kernel waits for a grace period of RCU, 7 to 20 ms.
        slow = any(isinstance(operation, DeleteLink) for operation in operations)
        try:
            with waiting.aside() if slow else contextlib.nullcontext():
                self._socket.change([_encode(operation) for operation in operations])
        except KernelError as error:
            refused = operations[error.position]
            if isinstance(refused, DeleteLink) and error.errno == errno.ENODEV and refused is operations[-1]:
                return  # gone since it was looked up, with its parent or its namespace
            raise _change_failed(refused, error) from error


def _encode(operation: Operation) -> Request:  # noqa: C901 - a line for each
    match operation:
        case Rename() | SetAlias() | SetUp() | DeleteLink():
            return link_messages.change_link(operation)
        case CreateChild():
            return link_messages.create_child(operation)
        case AddAddress() | DeleteAddress():
            return route_messages.change_address(operation)
        case AddNeighbour() | DeleteNeighbour():
            return route_messages.change_neighbour(operation)
        case AddRoute():
            return route_messages.add_route(operation)
        case DeleteRoute():
            return route_messages.delete_route(operation)
        case AddBlackhole() | DeleteBlackhole() | AddRule() | DeleteRule():
            return _encode_export(operation)
        case CreateVlan() | CreateDummy():
            from cni_net import parent_messages  # only here: it imports pyroute2

            return parent_messages.create(operation)
        case SetSysctl():
            raise AssertionError(operation)  # a file, not a message


def _encode_export(operation: AddBlackhole | DeleteBlackhole | AddRule | DeleteRule) -> Request:
    from cni_net import rule_messages  # few networks are exported

    if isinstance(operation, AddBlackhole | DeleteBlackhole):
        return rule_messages.change_blackhole(operation)
    return rule_messages.change_rule(operation)


def _reading_failed(what: str, error: KernelError) -> CniError:
    if error.errno in _BUSY:
        return TryAgainLater(f"{what}: {error}", error.extack)
    return LinkFailure(f"{what}: {error}", error.extack)


def _change_failed(operation: Operation, error: KernelError) -> CniError:
    """Return the error for an errno; the meaning of EBUSY and the like depends on the operation."""
    msg = f"{describe(operation)}: {os.strerror(error.errno)}"
    match operation, error.errno:
        case Rename(_, name, _), errno.EEXIST:
            return InterfaceExists(f"add interface {name}: the name is taken in the sandbox")
        case CreateChild(parent=parent), errno.EBUSY:
            users = "a bridge, bond, macvlan or ipvlan outside of cni-vlan"
            return ParentConflict(f"{msg}: {parent.name} is in use by another driver: {users}")
        case SetUp(_, name), errno.EADDRINUSE:
            return ParentConflict(f"{msg}: its MAC address is in use on the parent of {name}")
        case _, errno.EOPNOTSUPP:
            return LinkFailure(f"{msg}: the kernel has no support for it", error.extack)
        case _, errno.EEXIST:
            return NameTaken(msg, error.extack)
        case _, number if number in _BUSY:
            return TryAgainLater(msg, error.extack)
        case _:
            return LinkFailure(msg, error.extack)


@contextlib.contextmanager
def open_rtnl(sandbox: Sandbox | None = None) -> Iterator[Rtnl]:
    """Open the namespace of this thread, or that of a sandbox."""
    rtnl = Rtnl(sandbox)
    try:
        yield rtnl
    finally:
        rtnl.close()
