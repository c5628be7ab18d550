"""Netlink attributes (netlink(7), NLA_*): packed with their padding, and read back."""

import struct
import sys
from collections.abc import Container

_HEADER = struct.Struct("=HH")
_TYPE = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_ALL = range(_TYPE + 1)


def attribute(kind: int, payload: bytes) -> bytes:
    """Return one attribute, padded to four bytes."""
    return _HEADER.pack(_HEADER.size + len(payload), kind) + payload + bytes(-len(payload) % 4)


def number(kind: int, value: int) -> bytes:
    """Return an attribute that holds 32 bits."""
    return attribute(kind, struct.pack("=I", value))


def text(kind: int, value: str) -> bytes:
    """Return an attribute that holds a string."""
    return attribute(kind, value.encode() + b"\0")


def read(frame: bytes, offset: int = 0, wanted: Container[int] = _ALL) -> dict[int, bytes]:
    """Return the wanted attributes of a frame from an offset on, or of a nested attribute, by their type."""
    found = {}
    unpack, size = _HEADER.unpack_from, _HEADER.size  # a link has 46 of them, and each ADD reads two links
    last = len(frame) - size
    while offset <= last:
        length, kind = unpack(frame, offset)
        if length < size:
            break
        if kind & _TYPE in wanted:
            found[kind & _TYPE] = frame[offset + size : offset + length]
        offset += (length + 3) & -4
    return found


def read_text(payload: bytes) -> str:
    """Read a string."""
    return payload.rstrip(b"\0").decode(errors="replace")


def read_number(payload: bytes) -> int:
    """Read a number of two or four bytes in the machine's byte order; 0 if there is none."""
    return int.from_bytes(payload, sys.byteorder)
