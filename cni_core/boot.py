"""Which boot of the node this is: what an earlier boot recorded is void, for no sandbox outlives its boot."""

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def boot_id() -> str:
    """Return the kernel's random id of this boot (random(4)), the same in every container."""
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()
