"""The identity of this boot: records of an earlier boot are void, since no sandbox outlives its boot.

The kernel's random id of the boot (random(4)) is not the same everywhere on a node: system containers and
some units show another one, and a container inside them shows the kernel's. So the first process that runs
plugins on the host writes the id that it sees to a file in /run, which lasts as long as the boot. All
processes that share the state directories use that id.
"""

import contextlib
import os
import re
import time

from cni_core import run_directory, statefile
from cni_core.errors import IoFailure

AGREED = run_directory.BOOT
_KERNEL = "/proc/sys/kernel/random/boot_id"
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_known: str | None = None


def is_id(text: str) -> bool:
    """Return whether a text has the form of a boot id."""
    return _ID.fullmatch(text) is not None


def boot_id() -> str:
    """Return the id of this boot: the one agreed on, else the kernel's."""
    return _known or _agreed() or _kernels()


def agree() -> None:
    """Agree on the id that this process sees, unless one is agreed on; only for processes on the host."""
    settle(_agreed() or _kernels())


def settle(sent: str) -> bool:
    """Adopt the id that a process on the host sent; return False if another one is agreed on here.

    A launcher of the first protocol sends none (""): then one has to be agreed on already.
    """
    global _known  # noqa: PLW0603 - a fact of the process
    if _known is None:
        _known = _agreed() or (_agree_on(sent) if is_id(sent) else None)
    return _known is not None and sent in {_known, ""}


def _agreed() -> str:
    with contextlib.suppress(IoFailure):
        text = (statefile.read_file(AGREED) or "").strip()
        return text if is_id(text) else ""
    return ""


def _kernels() -> str:
    with open(_KERNEL, encoding="ascii") as file:
        return file.read().strip()


def _agree_on(own: str) -> str:
    """Write the id atomically; return the agreed id, which another process may have written first."""
    temporary = f"{AGREED}.{os.urandom(8).hex()}"
    with contextlib.suppress(OSError, IoFailure):  # /run cannot be written: each uses the id that it sees
        statefile.make_directory(os.path.dirname(AGREED))
        with open(temporary, "w", encoding="ascii") as file:
            file.write(f"{own}\n")
        try:
            os.link(temporary, AGREED)
        except FileExistsError:
            if not _agreed():  # damaged
                os.replace(temporary, AGREED)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    return _agreed() or own


def boot_time() -> float:
    """Return the start of this boot, in seconds since the epoch, by the clock as it is set now."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
