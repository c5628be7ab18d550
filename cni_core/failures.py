"""Continuing after failures: DEL and GC do all they can, and report at the end."""

import contextlib
from collections.abc import Iterator

from cni_core.errors import CniError, DelegateError, IoFailure, TryAgainLater


class Failures:
    """The failures of steps that do not stop each other."""

    def __init__(self) -> None:
        self._errors: list[CniError] = []

    @contextlib.contextmanager
    def gathered(self) -> Iterator[None]:
        """Keep a failure of the block for the end."""
        try:
            yield
        except CniError as error:
            self._errors.append(error)
        except OSError as error:  # such as EMFILE, wherever it comes from
            self._errors.append(IoFailure(f"{error.strerror or error}"))
        except Exception as error:  # noqa: BLE001 - a bug in one step must not stop the others
            self._errors.append(CniError(f"{type(error).__name__}: {error}"))

    def add(self, others: "Failures") -> None:
        """Keep the failures of other steps too."""
        self._errors += others._errors  # noqa: SLF001 - its own class

    @property
    def is_temporary(self) -> bool:
        """Whether a step failed that may succeed when it is tried again."""
        codes = (e.own_code if isinstance(e, DelegateError) else e.code for e in self._errors)
        return TryAgainLater.code in codes

    def raise_first(self) -> None:
        """Raise the first failure, with the others in its details; nothing if there was none."""
        if not self._errors:
            return
        first, *others = self._errors
        first.details = "; ".join(filter(None, [first.details, *(error.msg for error in others)]))
        raise first
