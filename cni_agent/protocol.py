"""The messages between the launcher (launcher/launcher.c) and the agent, over a stream socket.

Request: "CNI" and a byte 1; two numbers, the lengths of what follows: the environment, as the plugin's name
and the CNI_* variables, each ended by a NUL; and stdin. The sandbox's descriptor comes with the first byte,
if the launcher could open it. Answer: the same four bytes; the exit status, or DECLINED; the lengths of
stdout and stderr; and those. Numbers are 32 bits in the machine's order: both ends are on one host.
"""

import os
import socket
import struct
import time
from typing import NamedTuple, Self

MAGIC = b"CNI\x01"
DECLINED = 0x100
LARGEST = 16 << 20  # bytes of a request
_REQUEST = struct.Struct("=4sII")
_REPLY = struct.Struct("=4sIII")


class ProtocolError(Exception):
    """The other end is no launcher of ours, or stopped in the middle."""


class Request(NamedTuple):
    """One invocation as the launcher saw it; the caller closes `netns_fd`."""

    plugin: str
    environ: dict[str, str]
    stdin: bytes
    netns_fd: int | None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.netns_fd is not None:
            os.close(self.netns_fd)


def receive_request(connection: socket.socket, within_s: float) -> Request:
    """Read a request, whole, within some seconds; raises ProtocolError or OSError."""
    until = time.monotonic() + within_s
    connection.settimeout(within_s)
    first, descriptors, _flags, _address = socket.recv_fds(connection, 65536, 1)
    netns_fd = descriptors[0] if descriptors else None
    try:
        data = bytearray(first)
        _fill(connection, data, _REQUEST.size, until)
        magic, environment, stdin = _REQUEST.unpack_from(data)
        if magic != MAGIC or environment + stdin > LARGEST:
            raise ProtocolError("no request of a launcher of this version, or one that is too large")  # noqa: TRY301
        _fill(connection, data, _REQUEST.size + environment + stdin, until)
        plugin, variables = _parse_environment(bytes(data[_REQUEST.size : _REQUEST.size + environment]))
    except BaseException:
        if netns_fd is not None:
            os.close(netns_fd)
        raise
    return Request(plugin, variables, bytes(data[_REQUEST.size + environment :]), netns_fd)


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


def send_reply(connection: socket.socket, status: int, stdout: str = "", stderr: str = "") -> None:
    """Send an answer; raises OSError if the launcher is gone."""
    out, err = (text.encode(errors="surrogateescape") for text in (stdout, stderr))
    connection.sendall(_REPLY.pack(MAGIC, status, len(out), len(err)) + out + err)
