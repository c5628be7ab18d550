"""Interface sysctls of a sandbox or the host. The only module that writes below /proc/sys.

The files under /proc/sys/net show the namespace of the thread that opens them, and a renamed interface
keeps its values, so they are set before the link has its final name and before it is up.
"""

import contextlib
import errno
import os
from collections.abc import Iterable
from typing import NamedTuple

from cni_core.errors import LinkFailure
from cni_core.netns import Sandbox

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})


class Sysctl(NamedTuple):
    """net.ipv6.conf.<interface>.<key> = value; `needed` if a kernel without the key is an error."""

    interface: str
    key: str
    value: str
    needed: bool = False


def write_sysctls(sandbox: Sandbox | None, sysctls: Iterable[Sysctl]) -> None:
    """Write sysctls in the sandbox, or in this thread's namespace; raise LinkFailure for one that failed.

    A key that the kernel lacks is a failure only if it is needed.
    """
    with sandbox.entered() if sandbox else contextlib.nullcontext():
        for sysctl in sysctls:
            path = f"/proc/sys/net/ipv6/conf/{sysctl.interface}/{sysctl.key}"
            try:
                fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(fd, sysctl.value.encode())
                finally:
                    os.close(fd)
            except OSError as error:
                if sysctl.needed or error.errno not in _ABSENT:
                    name = f"net.ipv6.conf.{sysctl.interface}.{sysctl.key}"
                    raise LinkFailure(f"set {name} to {sysctl.value}: {error.strerror}") from error
