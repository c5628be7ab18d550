"""When a node is given up: each step of its run has a deadline, which grows with the time of its boot."""

BOOT_S = 100.0  # how fast this machine is, the boot itself has to show
_FIRST_OUTPUT = (100, 120.0)  # boots, but at least seconds
_WHOLE_RUN = (1200, 1200.0)


def overdue(elapsed: float, booted: float | None, first_output: float | None) -> str:
    """Say which step takes too long, "" if none does.

    All in seconds since the start; None for a step that has not ended.
    """
    if booted is None:
        return f"it did not boot within {BOOT_S:.0f} s" if elapsed > BOOT_S else ""
    if first_output is None:
        limit = _limit(_FIRST_OUTPUT, booted)
        return f"there was no output {limit:.0f} s after the boot" if elapsed - booted > limit else ""
    limit = _limit(_WHOLE_RUN, booted)
    return f"it was not done {limit:.0f} s after the boot" if elapsed - booted > limit else ""


def _limit(step: tuple[int, float], booted: float) -> float:
    boots, least = step
    return max(boots * booted, least)
