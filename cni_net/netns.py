"""Network namespaces: opening a sandbox, telling it from the host's, and entering it for a moment.

The only module that calls setns(2). A namespace belongs to the calling thread (namespaces(7)), and a socket
to the namespace it was opened in, so a thread has to be inside only to open a socket or a sysctl file.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cni_core.errors import InvalidNetns

_CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)
_OWN = "/proc/thread-self/ns/net"


class Sandbox(NamedTuple):
    """An open network namespace and the path that the runtime knows it by."""

    fd: int
    path: str

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Move this thread into the sandbox and back."""
        own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(self.fd)
            try:
                yield
            finally:
                _setns(own)
        finally:
            os.close(own)


class SandboxGone(InvalidNetns):
    """The path does not exist, or is no longer a network namespace."""


@contextlib.contextmanager
def open_sandbox(path: str, fd: int | None = None, *, own_allowed: bool = False) -> Iterator[Sandbox]:
    """Open the namespace at a path, or use an open descriptor of it.

    Raises SandboxGone if there is none, InvalidNetns if it is this process's own.
    """
    opened = _open(path) if fd is None else os.dup(fd)
    try:
        if not _is_network_namespace(opened):
            raise SandboxGone(f"open sandbox {path}: not a network namespace")
        if not own_allowed and os.path.samestat(os.fstat(opened), os.stat(_OWN)):
            raise InvalidNetns(f"open sandbox {path}: it is the network namespace of the plugin itself")
        yield Sandbox(opened, path)
    finally:
        os.close(opened)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SandboxGone(f"open sandbox {path}: {error.strerror}") from error


def _is_network_namespace(fd: int) -> bool:
    import fcntl

    try:
        return fcntl.ioctl(fd, _NS_GET_NSTYPE) == _CLONE_NEWNET
    except OSError:
        return False


@functools.cache
def _load_setns() -> Callable[[int], None]:
    native = getattr(os, "setns", None)  # Python 3.12
    if native is not None:
        return lambda fd: native(fd, _CLONE_NEWNET)
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def setns(fd: int) -> None:
        if libc.setns(fd, _CLONE_NEWNET) != 0:
            errno = ctypes.get_errno()
            raise OSError(errno, os.strerror(errno))

    return setns


def _setns(fd: int) -> None:
    try:
        _load_setns()(fd)
    except OSError as error:
        raise InvalidNetns(f"enter sandbox: {error.strerror}") from error
