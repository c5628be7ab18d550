"""Interface sysctls of a sandbox. The only module that writes below /proc/sys.

The files under /proc/sys/net show the namespace of the thread that opens them, and a renamed interface
keeps its values, so they are set before the link has its final name and before it is up.
"""

import errno
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


def write_sysctls(sandbox: Sandbox, sysctls: Iterable[Sysctl]) -> None:
    """Write sysctls inside the sandbox; raise LinkFailure for a needed one that cannot be written."""
    with sandbox.entered():
        for sysctl in sysctls:
            path = f"/proc/sys/net/ipv6/conf/{sysctl.interface}/{sysctl.key}"
            try:
                with open(path, "w", encoding="ascii") as file:
                    file.write(sysctl.value)
            except OSError as error:
                if sysctl.needed or error.errno not in _ABSENT:
                    name = f"net.ipv6.conf.{sysctl.interface}.{sysctl.key}"
                    raise LinkFailure(f"set {name} to {sysctl.value}: {error.strerror}") from error


def read_sysctl(sandbox: Sandbox, interface: str, key: str) -> str | None:
    """Return net.ipv6.conf.<interface>.<key>, None on a kernel without it."""
    with sandbox.entered():
        try:
            with open(f"/proc/sys/net/ipv6/conf/{interface}/{key}", encoding="ascii") as file:
                return file.read().strip()
        except OSError:
            return None
