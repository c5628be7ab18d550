"""The memory of the agent: little of it, on huge pages."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import NamedTuple

_M_ARENA_MAX = -8  # malloc.h
_MADV_COLLAPSE = 25  # Linux 6.1, asm-generic/mman-common.h
_HUGE = 2 << 20  # of x86-64, and of arm64 with pages of 4 KiB
_PRESENT = 0x80  # in the last byte of an entry in pagemap (proc(5))
_ENTRY_BYTES = 8
_HOLES_MOST = 1 / 8
_ATTEMPTS = 3  # a page may be in use by somebody for a moment


def share_one_arena() -> None:
    """Let all threads allocate from one arena of glibc's malloc.

    glibc gives each new thread one of up to eight arenas for each core, and memory touched in them stays:
    6 MiB after some thousand invocations. More arenas gain nothing, since the threads take turns. Other C
    libraries have no mallopt(3), or ignore it.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_ARENA_MAX, 1)


def use_huge_pages() -> None:
    """Move loaded objects to huge pages; of their memory an eighth at most was not in use before.

    A verb touches some hundred pages all over the heap, and when the next pod comes, the processor has
    forgotten where they are: on pages of 4 KiB an ADD took a fifth longer. Older kernels refuse.
    """
    with contextlib.suppress(OSError, ValueError):  # without /proc or /sys the agent is only slower
        if not _are_off():
            for start in _full_ranges():
                _collapse(start)


def _are_off() -> bool:
    """Return whether the operator wants none: this advice works even then (madvise(2))."""
    with open("/sys/kernel/mm/transparent_hugepage/enabled", encoding="ascii") as file:
        return "[never]" in file.read()


def _collapse(start: int) -> None:
    library = ctypes.CDLL(None)
    for _attempt in range(_ATTEMPTS):
        if library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(_HUGE), _MADV_COLLAPSE) == 0:
            return


def _full_ranges() -> list[int]:
    """Return the starts of the ranges in the heap that a huge page would hold with few holes."""
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        return [start for start in _ranges() if _is_full(pagemap.fileno(), start)]


class _Mapping(NamedTuple):
    """A line of /proc/self/maps (proc(5))."""

    start: int
    end: int
    is_heap: bool

    @classmethod
    def parse(cls, line: str) -> "_Mapping":
        addresses, access, _offset, _device, inode, *name = line.split(maxsplit=5)
        start, _dash, end = addresses.partition("-")
        is_heap = access == "rw-p" and inode == "0" and name in ([], ["[heap]"])
        return cls(int(start, 16), int(end, 16), is_heap)


def _ranges() -> Iterator[int]:
    """Yield the start of each range in the heap that a huge page could hold."""
    with open("/proc/self/maps", encoding="ascii", errors="replace") as file:
        mappings = [_Mapping.parse(line.rstrip("\n")) for line in file]
    for mapping in mappings:
        if mapping.is_heap:
            first = (mapping.start + _HUGE - 1) & -_HUGE
            yield from range(first, mapping.end - _HUGE + 1, _HUGE)


def _is_full(pagemap: int, start: int) -> bool:
    size = os.sysconf("SC_PAGE_SIZE")
    entries = os.pread(pagemap, _HUGE // size * _ENTRY_BYTES, start // size * _ENTRY_BYTES)
    present = [bool(last & _PRESENT) for last in entries[_ENTRY_BYTES - 1 :: _ENTRY_BYTES]]
    return bool(present) and present.count(False) <= len(present) * _HOLES_MOST
