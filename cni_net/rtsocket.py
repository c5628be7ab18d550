"""A blocking rtnetlink socket: encoded requests in, reply frames or the kernel's errors out.

It knows message framing (netlink(7)) and nothing of links or routes. pyroute2's own socket is not used: it
runs an asyncio loop for each request (about 0.3 ms; this one needs 0.004 ms), and importing it doubles the
startup time.
"""

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cni_core.errors import TryAgainLater

REPLACE, EXCL, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800  # NLM_F_* of a request that creates something
_NLM_F_REQUEST = 0x1
_NLM_F_ACK = 0x4
_NLM_F_DUMP = 0x300

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
HEADER_BYTES = _HEADER.size
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_DUMP_INTR = 0x10
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200
_NLMSGERR_ATTR_MSG = 1
_SOL_NETLINK = 270
_NETLINK_EXT_ACK = 11
_NETLINK_CAP_ACK = 10
_NETLINK_GET_STRICT_CHK = 12
_DEADLINE_S = 10
_DUMP_ATTEMPTS = 5
_BATCH = 128
_RECEIVE_BYTES = 1 << 16  # the kernel sends 32 KiB at most; more would be mapped anew each time


class KernelError(Exception):
    """One request was refused: its position in the batch, the errno and the kernel's own message."""

    def __init__(self, position: int, errno: int, extack: str) -> None:
        super().__init__(os.strerror(errno))
        self.position = position
        self.errno = errno
        self.extack = extack


class Request(NamedTuple):
    """A message type, its flags besides NLM_F_REQUEST, and the encoded body."""

    type: int
    flags: int
    body: bytes


class RtSocket:
    """One socket, bound to the namespace of the thread that opens it; use it from one thread at a time."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, 0))
        for option in (_NETLINK_EXT_ACK, _NETLINK_CAP_ACK, _NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        timeout = struct.pack("ll", _DEADLINE_S, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def change(self, requests: Sequence[Request]) -> None:
        """Send changes in batches; raise KernelError for the first that was refused.

        The kernel handles the requests of a batch in order, and continues after a refused one. Its answers to
        254 at once overflow the socket's buffer (ENOBUFS), so a batch has fewer.
        """
        for start in range(0, len(requests), _BATCH):
            try:
                self._change_batch(requests[start : start + _BATCH])
            except KernelError as error:
                error.position += start
                raise

    def _change_batch(self, requests: Sequence[Request]) -> None:
        first = self._send([r._replace(flags=r.flags | _NLM_F_ACK) for r in requests])
        refused: KernelError | None = None
        answered = 0
        while answered < len(requests):
            for kind, flags, sequence, payload in self._frames():
                position = sequence - first
                if kind != _NLMSG_ERROR or not 0 <= position < len(requests):
                    continue
                answered += 1
                error = _error(position, flags, payload)
                if error is not None and (refused is None or position < refused.position):
                    refused = error
        if refused is not None:
            raise refused

    def get(self, request: Request) -> bytes:
        """Send one query and return its answer, header included."""
        first = self._send([request])
        while True:
            for kind, flags, sequence, payload in self._frames():
                if sequence != first:
                    continue
                if kind == _NLMSG_ERROR:
                    raise _error(0, flags, payload) or KernelError(0, 0, "")
                return payload

    def dump(self, request: Request) -> list[bytes]:
        """Send a dump query; one that a change interrupted is repeated, then TryAgainLater."""
        for _attempt in range(_DUMP_ATTEMPTS):
            replies = self._dump_once(request)
            if replies is not None:
                return replies
        raise TryAgainLater("read kernel state: it kept changing during the dump")

    def _dump_once(self, request: Request) -> list[bytes] | None:
        first = self._send([request._replace(flags=request.flags | _NLM_F_DUMP)])
        replies: list[bytes] = []
        interrupted = False
        while True:
            for kind, flags, sequence, payload in self._frames():
                if sequence != first:
                    continue
                interrupted = interrupted or bool(flags & _NLM_F_DUMP_INTR)
                if kind == _NLMSG_ERROR:
                    raise _error(0, flags, payload) or KernelError(0, 0, "")
                if kind == _NLMSG_DONE:
                    return None if interrupted else replies
                replies.append(payload)

    def _send(self, requests: Sequence[Request]) -> int:
        first = self._sequence + 1
        frames = []
        for request in requests:
            self._sequence += 1
            length = _HEADER.size + len(request.body)
            flags = request.flags | _NLM_F_REQUEST
            frames.append(_HEADER.pack(length, request.type, flags, self._sequence, 0))
            frames.append(request.body)
        try:
            self._socket.send(b"".join(frames))
        except OSError as error:
            raise TryAgainLater(f"ask the kernel: {error.strerror}") from error
        return first

    def _frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Receive one datagram; yield type, flags, sequence and the whole frame of each message."""
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError as error:  # from SO_RCVTIMEO, if the kernel is silent
            raise TryAgainLater(f"wait for the kernel: no answer in {_DEADLINE_S} s") from error
        except OSError as error:
            raise TryAgainLater(f"read the kernel's answer: {error.strerror}") from error
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, flags, sequence, _port = _HEADER.unpack_from(data, offset)
            yield kind, flags, sequence, data[offset : offset + length]
            offset += (length + 3) & ~3


def _error(position: int, flags: int, frame: bytes) -> KernelError | None:
    """Read an nlmsgerr; None if it is the acknowledgement of success."""
    (negative,) = struct.unpack_from("=i", frame, _HEADER.size)
    if negative == 0:
        return None
    return KernelError(position, -negative, _extack(flags, frame))


def _extack(flags: int, frame: bytes) -> str:
    """Return the text of the extended acknowledgement, "" if there is none."""
    if not flags & _NLM_F_ACK_TLVS:
        return ""
    offset = _HEADER.size + 4
    (echoed,) = struct.unpack_from("=I", frame, offset)
    offset += _HEADER.size if flags & _NLM_F_CAPPED else echoed
    while offset + 4 <= len(frame):
        length, kind = struct.unpack_from("=HH", frame, offset)
        if kind == _NLMSGERR_ATTR_MSG:
            return frame[offset + 4 : offset + length].rstrip(b"\0").decode(errors="replace")
        offset += max(4, (length + 3) & ~3)
    return ""
