"""Which boot of the node this is: what an earlier boot recorded is void, for no sandbox outlives its boot."""

import functools
import time

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


@functools.cache
def boot_id() -> str:
    """Return the kernel's random id of this boot (random(4)), the same in every container."""
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def boot_time() -> float:
    """Return when this boot began, in seconds since the epoch, by the clock as it is set now."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
