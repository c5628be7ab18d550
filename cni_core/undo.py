"""Taking back what was done, when a later step fails."""

from collections.abc import Callable
from typing import Self

from cni_core import waiting


class Undo:
    """Steps that take back what was done, run in reverse if the block fails.

    A step that fails is a warning: the others count, and the first error is the answer. What a kill must not
    lose is recorded before it is done, and its step registered there; it may find nothing to take back.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._steps: list[Callable[[], None]] = []

    def push(self, step: Callable[[], None]) -> None:
        """Register the step that takes back what is done next, or was just done."""
        self._steps.append(step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exception: object) -> None:
        if kind is None:
            return
        with waiting.unwatched():
            for step in reversed(self._steps):
                try:
                    step()
                except Exception as error:  # noqa: BLE001 - the other steps count, and the first error is the answer
                    self._warn(f"undo: {error}")
