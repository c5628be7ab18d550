"""Bytes that no launcher sends: a request, an error with a name, and never a descriptor too many."""

import os
import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from cni_agent import protocol
from cni_agent.protocol import ProtocolError, Request

ENVIRONMENT = b"cni-vlan\0CNI_COMMAND=ADD\0CNI_IFNAME=eth0\0CNI_VLAN_BOOT=x\0"
STDIN = b'{"cniVersion": "1.1.0", "name": "lan"}'
VALID = [
    struct.pack("=3sBII", b"CNI", version, len(ENVIRONMENT), len(stdin)) + ENVIRONMENT + stdin
    for version in (1, 2)
    for stdin in (b"", STDIN)
]
WITHIN_S = 0.02
Change = tuple[int, int, bytes]


def changed(request: bytes, changes: Sequence[Change]) -> bytes:
    """Replace parts of a request, each given by its place, its length and what comes instead."""
    for place, length, instead in changes:
        at = place % (len(request) + 1)
        request = request[:at] + instead + request[at + length :]
    return request


CHANGES = st.tuples(st.integers(0, 200), st.integers(0, 8), st.binary(max_size=8))
HEADERS = st.builds(
    struct.Struct("=3sBII").pack,
    st.sampled_from([b"CNI", b"cni"]),
    st.integers(0, 255),
    st.integers(0, 2**32 - 1) | st.integers(0, 90),
    st.integers(0, 2**32 - 1) | st.integers(0, 90),
)
SENT = st.one_of(
    st.binary(max_size=120),
    st.sampled_from(VALID),
    st.builds(changed, st.sampled_from(VALID), st.lists(CHANGES, min_size=1, max_size=4)),
    st.builds(bytes.__add__, HEADERS, st.binary(max_size=200)),
)


class InPieces(socket.socket):
    """An end of a connection at which no more than so many bytes arrive at once."""

    most = 1

    @override
    def recv(self, size: int, flags: int = 0, /) -> bytes:
        return super().recv(min(size, self.most), flags)

    @override
    def recvmsg(self, size: int, *options: int) -> Any:
        return super().recvmsg(min(size, self.most), *options)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def receive(sent: bytes, most: int, passed: int, *, ends: bool) -> Request | ProtocolError | OSError:
    """Receive what a client sends with some descriptors, after which it ends the connection or does not."""
    ours, theirs = socket.socketpair()
    with ExitStack() as opened:
        opened.enter_context(theirs)
        agent = opened.enter_context(InPieces(fileno=ours.detach()))
        agent.most = most
        given_away = [os.open(os.devnull, os.O_RDONLY) for _ in range(passed)]
        if sent:
            socket.send_fds(theirs, [sent], given_away)
        for descriptor in given_away:
            os.close(descriptor)
        if ends:
            theirs.shutdown(socket.SHUT_WR)
        try:
            return protocol.receive_request(agent, WITHIN_S)
        except (ProtocolError, OSError) as error:
            return error


@given(SENT, st.integers(1, 70), st.integers(0, 3), st.booleans())
def test_whatever_is_sent(sent: bytes, most: int, passed: int, ends: bool) -> None:  # noqa: FBT001 - drawn
    before = descriptors()

    found = receive(sent, most, passed, ends=ends)

    if isinstance(found, Request):
        assert (found.netns_fd is not None) == (passed > 0)
        with found:
            assert found.version in {1, 2}
    assert descriptors() == before


@given(st.sampled_from(VALID), st.integers(1, 200), st.integers(0, 3))
def test_a_request_arrives_in_whatever_pieces(sent: bytes, most: int, passed: int) -> None:
    found = receive(sent, most, passed, ends=False)

    assert isinstance(found, Request)
    with found:
        assert (found.plugin, found.version) == ("cni-vlan", sent[3])
        assert found.environ == {"CNI_COMMAND": "ADD", "CNI_IFNAME": "eth0"}
        assert found.stdin in {b"", STDIN}
        assert found.boot == "x"
