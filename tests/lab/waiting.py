"""Waiting for what other processes do: for a condition, never for a time."""

import time
from collections.abc import Callable

_WITHIN_S = 180  # an emulated node is ten times slower; a test that fails may take its time
_LOOK_EVERY_S = 0.01


def wait_until(condition: Callable[[], object], within_s: float = _WITHIN_S) -> None:
    """Return once a condition holds; fail if it does not in time."""
    give_up = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up, "the condition did not come to hold in time"
        time.sleep(_LOOK_EVERY_S)
