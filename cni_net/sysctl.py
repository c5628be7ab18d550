"""Interface sysctls of a sandbox or the host. The only module that reads and writes below /proc/sys.

The files below /proc/sys/net belong to the namespace of the thread that opens them.
"""

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator, Sequence

from cni_core.errors import LinkFailure
from cni_core.family import Family
from cni_net.netns import Sandbox
from cni_net.operations import SetSysctl, describe

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})


_root = "/proc/sys"


def use_root(path: str) -> None:
    """Write below another mount of the host's /proc/sys: a container's own is read-only."""
    global _root  # noqa: PLW0603 - a fact of the process, set once as it starts
    _root = path


def write_sysctls(sandbox: Sandbox | None, sysctls: Sequence[SetSysctl]) -> None:
    """Write sysctls in the sandbox, or in this thread's namespace; raise LinkFailure for one that failed.

    A key that the kernel lacks is a failure only if it is needed.
    """
    with sandbox.entered() if sandbox else contextlib.nullcontext():
        groups = itertools.groupby(sysctls, lambda sysctl: (sysctl.family, sysctl.interface))
        for (family, interface), settings in groups:
            with _directory(family, interface) as directory:
                for sysctl in settings:
                    _write(directory, sysctl)


@contextlib.contextmanager
def _directory(family: Family, interface: str) -> Iterator[int]:
    """Open an interface's directory once: the lookup passes the directories of its name in all namespaces.

    With 500 namespaces that takes 0.3 ms. A kernel without IPv6 has no such directory; then nothing can be
    found below the descriptor.
    """
    try:
        fd = os.open(f"{_root}/net/ipv{family.value}/conf/{interface}", os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def read_sysctl(family: Family, interface: str, key: str) -> str:
    """Return a setting of an interface in this thread's namespace, "" if there is none."""
    try:
        with open(f"{_root}/net/ipv{family.value}/conf/{interface}/{key}", encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise LinkFailure(f"read net.ipv{family.value}.conf.{interface}.{key}: {error.strerror}") from error


def _write(directory: int, sysctl: SetSysctl) -> None:
    try:
        fd = os.open(sysctl.key, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.write(fd, sysctl.value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        if sysctl.needed or error.errno not in _ABSENT:
            raise LinkFailure(f"{describe(sysctl)}: {error.strerror}") from error
