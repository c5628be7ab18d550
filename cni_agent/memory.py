"""Keeping the agent small."""

import ctypes

_M_ARENA_MAX = -8  # malloc.h


def share_one_arena() -> None:
    """Let all threads allocate from one arena of glibc's malloc.

    It gives each new thread one of up to eight for each core, and what was touched in them stays: 6 MiB after
    some thousand invocations. There is nothing to gain, as the threads take turns. Another C library has no
    mallopt(3), or ignores it.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_ARENA_MAX, 1)
