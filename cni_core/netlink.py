"""Rtnl: what can be asked of and changed in one network namespace, in our own values.

The kernel's errno becomes an error class here and nowhere else.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Sequence

from cni_core import rtmessages, rtreplies
from cni_core.errors import (
    CniError,
    InterfaceExists,
    LinkFailure,
    ParentConflict,
    TryAgainLater,
)
from cni_core.links import CreateChild, Link, Operation, Rename, RouteEntry, SetUp
from cni_core.netns import Sandbox
from cni_core.rtsocket import KernelError, RtSocket

_MAIN_TABLE = 254
_BUSY = frozenset({errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ENOBUFS, errno.ENOMEM})
_ABSENT = frozenset({errno.ENODEV, errno.ENOENT, errno.ESRCH})


class NameTaken(LinkFailure):
    """The kernel already has what was to be created: a link of that name, or that VLAN id on that device."""


class Rtnl:
    """The links, addresses and routes of the namespace in which it was opened."""

    def __init__(self) -> None:
        self._socket = RtSocket()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def find_link(self, *, name: str = "", index: int = 0) -> Link | None:
        """Return a link by its name or index, None if there is none."""
        try:
            frame = self._socket.get(rtmessages.query_link(name=name, index=index))
        except KernelError as error:
            if error.errno in _ABSENT:
                return None
            raise _reading_failed(f"look up link {name or index}", error) from error
        return rtreplies.parse_link(frame)

    def links(self) -> list[Link]:
        """Return every link."""
        try:
            frames = self._socket.dump(rtmessages.query_link())
        except KernelError as error:
            raise _reading_failed("list links", error) from error
        return [rtreplies.parse_link(frame) for frame in frames]

    def addresses(self, index: int) -> list[str]:
        """Return the addresses of a link, in CIDR form."""
        try:
            frames = self._socket.dump(rtmessages.query_addresses(index))
        except KernelError as error:
            raise _reading_failed("list addresses", error) from error
        return [rtreplies.parse_address(frame) for frame in frames]

    def routes(self) -> list[RouteEntry]:
        """Return the unicast routes of both families, in every table."""
        found: list[RouteEntry] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                frames = self._socket.dump(rtmessages.query_routes(family))
            except KernelError as error:
                if error.errno in {errno.EAFNOSUPPORT, errno.EOPNOTSUPP}:  # a kernel without IPv6
                    continue
                raise _reading_failed("list routes", error) from error
            entries = (rtreplies.parse_route(frame) for frame in frames)
            found += [entry for entry in entries if entry is not None]
        return found

    def default_routes(self) -> list[RouteEntry]:
        """Return the default routes of the main table, the best first."""
        found = [r for r in self.routes() if r.dst.endswith("/0") and r.table == _MAIN_TABLE]
        return sorted(found, key=lambda route: route.priority)

    def apply(self, operations: Sequence[Operation]) -> None:
        """Carry out operations in one batch; raise the error of the first that the kernel refused."""
        if not operations:
            return
        try:
            self._socket.change([rtmessages.encode(operation) for operation in operations])
        except KernelError as error:
            raise _change_failed(operations[error.position], error) from error


def _reading_failed(what: str, error: KernelError) -> CniError:
    if error.errno in _BUSY:
        return TryAgainLater(f"{what}: {error}", error.extack)
    return LinkFailure(f"{what}: {error}", error.extack)


def _change_failed(operation: Operation, error: KernelError) -> CniError:
    """Return the error class for an errno; what EBUSY and the like mean depends on the operation."""
    msg = f"{operation.describe()}: {os.strerror(error.errno)}"
    match operation, error.errno:
        case Rename(_, name, _), errno.EEXIST:
            return InterfaceExists(f"add interface {name}: the name is taken in the sandbox")
        case CreateChild(parent=parent), errno.EBUSY:
            why = "the device serves another driver, such as a bridge, bond, macvlan or ipvlan"
            return ParentConflict(f"{msg}: {why}, that is no network of ours on {parent.name}")
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
    with sandbox.entered() if sandbox else contextlib.nullcontext():
        rtnl = Rtnl()
    try:
        yield rtnl
    finally:
        rtnl.close()
