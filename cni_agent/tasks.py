"""The tasks of the agent beside the verbs: named loops that begin and end with the server."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Protocol

_END_S = 5.0  # a task that asks an engine is not waited for longer


class Task(Protocol):
    """A loop that runs until it is stopped."""

    def run(self) -> None:
        """Do the task until it is stopped."""

    def stop(self) -> None:
        """End the task after its current step."""


@contextlib.contextmanager
def running(name: str, task: Task) -> Iterator[None]:
    """Run a task in a thread of its own during the block."""
    thread = threading.Thread(target=task.run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        task.stop()
        thread.join(_END_S)
