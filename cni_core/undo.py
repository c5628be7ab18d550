"""Undoing changes when a later step fails."""

from collections.abc import Callable
from typing import Self

from cni_core import waiting


class Undo:
    """Steps that undo changes, run in reverse order if the block fails.

    A step that fails is a warning: the others count, and the first error is the answer. A change that a kill
    must not lose is recorded before it is made, and its step is registered there; such a step may find
    nothing to undo.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._steps: list[Callable[[], None]] = []

    def push(self, step: Callable[[], None]) -> None:
        """Register the step that undoes the next change, or the last one."""
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
