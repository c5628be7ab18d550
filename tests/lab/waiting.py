"""Waiting for what other processes do: for a condition, never for a time."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

_WITHIN_S = 180  # an emulated node is ten times slower; a test that fails may take its time
_LOOK_EVERY_S = 0.01


def wait_until(condition: Callable[[], object], within_s: float = _WITHIN_S) -> None:
    """Return once a condition holds; fail if it does not in time."""
    give_up = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up, "the condition did not come to hold in time"
        time.sleep(_LOOK_EVERY_S)


def waiters(lock: Path, pid: int | None = None) -> int:
    """How many processes, or whether one of them, wait for a file's lock (proc_locks(5): "->" marks them)."""
    if not lock.exists():
        return 0
    found = lock.stat()
    name = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return sum(words[1] == "->" and words[6] == name and pid in {None, int(words[5])} for words in lines)


def suspend(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """Stop a child with all its threads; SIGCONT lets it go on.

    A thread that runs on another processor sees the signal later, and may answer once more. The kernel
    reports the stop when the last thread has stopped (waitid(2), WSTOPPED).
    """
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
