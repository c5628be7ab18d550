"""Which boot of the node this is: what an earlier boot recorded is void, for no sandbox outlives its boot.

The kernel's random id of the boot (random(4)) is not the same for everybody on a node: system containers and
some units show another one, and a container inside them the kernel's. So whoever runs plugins on the host
first writes the id that it sees to a file in /run, which lasts as long as the boot, and all who share the
state directories go by that.
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


def boot_id() -> str:
    """Return the id of this boot: the one agreed on, else the kernel's."""
    return _known or _agreed() or _kernels()


def agree() -> None:
    """Agree on what this process sees, unless there is an id already: for who runs on the host."""
    settle(_agreed() or _kernels())


def settle(told: str) -> bool:
    """Go by an id that was told by who runs on the host; False if another is agreed on here.

    A launcher of the first protocol tells none, "": then there has to be one.
    """
    global _known  # noqa: PLW0603 - a fact of the process
    if _known is None:
        _known = _agreed() or (_agree_on(told) if _ID.fullmatch(told) else None)
    return _known is not None and told in {_known, ""}


def _agreed() -> str:
    with contextlib.suppress(IoFailure):
        text = (statefile.read_file(AGREED) or "").strip()
        return text if _ID.fullmatch(text) else ""
    return ""


def _kernels() -> str:
    with open(_KERNEL, encoding="ascii") as file:
        return file.read().strip()


def _agree_on(own: str) -> str:
    """Write the id, whole or not at all; return what is agreed on, which another may have written first."""
    temporary = f"{AGREED}.{os.urandom(8).hex()}"
    with contextlib.suppress(OSError, IoFailure):  # a /run that cannot be written: each goes by what it sees
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
    """Return when this boot began, in seconds since the epoch, by the clock as it is set now."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
