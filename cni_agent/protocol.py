"""The messages between the launcher (launcher/launcher.c) and the agent, over a stream socket. Version 2.

Request: "CNI" and a byte with the version; two numbers, the lengths of the environment and of stdin; the
environment, as the plugin's name and the CNI_* variables, each ended by a NUL; and stdin. The variable
CNI_VLAN_BOOT is the boot as the host sees it. The sandbox's descriptor comes with the first byte, if it could
be opened.

Answers: the same four bytes; a number; the lengths of stdout and stderr; and both texts. The number is BEGUN
in one answer, when the verb starts. Until then the launcher may run the plugin itself, if the number is
DECLINED or the connection ends. In the last answer the number is the exit status. An agent that cannot send
BEGUN does not begin. A launcher sends one byte when its runtime has the answer; if the connection ends
without that byte, nobody has the answer.

A launcher of version 1 gets no BEGUN. Numbers are 32 bits in the machine's byte order: both ends are on one
host.
"""

import contextlib
import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, Self

DECLINED = 0x100
BEGUN = 0x101
LARGEST = 16 << 20  # bytes of a request
_NAME = b"CNI"
_VERSIONS = (1, 2)
_REQUEST = struct.Struct("=3sBII")
_REPLY = struct.Struct("=3sBIII")
_BOOT = "CNI_VLAN_BOOT"
_READ_S = 5.0
_QUICK_MS = 50


class ProtocolError(Exception):
    """The other end is not a launcher of ours, or stopped in the middle."""


class Request(NamedTuple):
    """One invocation as the launcher saw it; the caller closes `netns_fd`. `boot` is "" before version 2."""

    plugin: str
    environ: dict[str, str]
    stdin: bytes
    netns_fd: int | None
    version: int
    boot: str

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.netns_fd is not None:
            os.close(self.netns_fd)


def version_request() -> bytes:
    """Return the request that a launcher sends for VERSION."""
    environment = b"cni-vlan\0CNI_COMMAND=VERSION\0"
    return _REQUEST.pack(_NAME, _VERSIONS[0], len(environment), 0) + environment


def receive_status(connection: socket.socket) -> int:
    """Read an answer and return its number; raises ProtocolError or OSError."""
    data = bytearray()
    _fill(connection, data, _REPLY.size, time.monotonic() + (connection.gettimeout() or 0))
    _name, _version, status, out, err = _REPLY.unpack_from(data)
    _fill(connection, data, _REPLY.size + out + err, time.monotonic() + (connection.gettimeout() or 0))
    return int(status)


def receive_request(connection: socket.socket, within_s: float) -> Request:
    """Read a whole request within some seconds; raises ProtocolError or OSError."""
    until = time.monotonic() + within_s
    connection.settimeout(within_s)
    first, descriptors, _flags, _address = socket.recv_fds(connection, 65536, 1)
    netns_fd = descriptors[0] if descriptors else None
    try:
        data = bytearray(first)
        version, plugin, variables, stdin = _read(connection, data, until)
    except BaseException:
        if netns_fd is not None:
            os.close(netns_fd)
        raise
    return Request(plugin, variables, stdin, netns_fd, version, variables.pop(_BOOT, ""))


def _read(connection: socket.socket, data: bytearray, until: float) -> tuple[int, str, dict[str, str], bytes]:
    """Read the rest of a request whose first bytes have arrived."""
    _fill(connection, data, _REQUEST.size, until)
    name, version, environment, stdin = _REQUEST.unpack_from(data)
    if name != _NAME or version not in _VERSIONS or environment + stdin > LARGEST:
        raise ProtocolError("not a request of a known launcher version, or too large")
    start = _REQUEST.size + environment
    _fill(connection, data, start + stdin, until)
    plugin, variables = _parse_environment(bytes(data[_REQUEST.size : start]))
    return version, plugin, variables, bytes(data[start:])


def _fill(connection: socket.socket, data: bytearray, length: int, until: float) -> None:
    while len(data) < length:
        left = until - time.monotonic()
        if left <= 0:
            raise ProtocolError("the request took too long")
        connection.settimeout(left)
        part = connection.recv(min(length - len(data), 1 << 20))
        if not part:
            raise ProtocolError("the request ended in the middle")
        data += part


def _parse_environment(block: bytes) -> tuple[str, dict[str, str]]:
    plugin, *entries = block.decode(errors="surrogateescape").split("\0")
    pairs = (entry.partition("=") for entry in entries if entry)
    return plugin, {name: value for name, _equals, value in pairs}


def decline(connection: socket.socket, version: int) -> None:
    """Leave the invocation to the launcher; raises OSError if it is gone."""
    connection.sendall(_REPLY.pack(_NAME, version, DECLINED, 0, 0))


def begin(connection: socket.socket, version: int) -> bool:
    """Tell the launcher that its verb begins; False if the launcher is gone, and the verb must not begin."""
    if version == 1:
        return is_there(connection)
    try:
        connection.sendall(_REPLY.pack(_NAME, version, BEGUN, 0, 0))
    except OSError:
        return False
    return True


def is_there(connection: socket.socket) -> bool:
    """Return whether the launcher still waits."""
    poll = select.poll()
    poll.register(connection, 0)  # POLLHUP and POLLERR are always reported
    return not poll.poll(0)


def deliver(
    connection: socket.socket,
    version: int,
    status: int,
    stdout: str,
    stderr: str,
    aside: Callable[[], AbstractContextManager[None]],
) -> None:
    """Send an answer and wait until it was read; raises OSError if the launcher is gone before."""
    out, err = (text.encode(errors="surrogateescape") for text in (stdout, stderr))
    connection.sendall(_REPLY.pack(_NAME, version, status, len(out), len(err)) + out + err)
    read = select.poll()
    read.register(connection, select.POLLIN)
    is_quick = read.poll(_QUICK_MS)
    connection.settimeout(_READ_S)
    # A timeout: it is there, and its runtime reads slowly.
    with contextlib.suppress(TimeoutError), contextlib.nullcontext() if is_quick else aside():
        # ECONNRESET if it ended with bytes of ours unread (unix_release_sock of the kernel).
        if not connection.recv(1) and version > 1:
            raise ConnectionResetError(errno.ECONNRESET, "the runtime did not read the answer")
