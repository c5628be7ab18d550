"""The events of a verb, for its subscribers: log, metrics, announcements.

Events only wake and count. The truth is on disk, where a one-shot plugin changes it without an event.
"""

import time
from typing import NamedTuple


class StageEnded(NamedTuple):
    """A stage of a verb is over; `at` is in seconds of time.perf_counter."""

    stage: str
    at: float


class Finished(NamedTuple):
    """A verb has its answer; code 0 for success."""

    network: str
    code: int


def stage_ended(stage: str) -> StageEnded:
    """Return the event of a stage that ends now."""
    return StageEnded(stage, time.perf_counter())
