"""Limiting the memory of the agent."""

import ctypes

_M_ARENA_MAX = -8  # malloc.h


def share_one_arena() -> None:
    """Let all threads allocate from one arena of glibc's malloc.

    glibc gives each new thread one of up to eight arenas for each core, and memory touched in them stays:
    6 MiB after some thousand invocations. More arenas gain nothing, since the threads take turns. Other C
    libraries have no mallopt(3), or ignore it.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_ARENA_MAX, 1)
