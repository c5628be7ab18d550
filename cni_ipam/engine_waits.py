"""The waits of pods for a cluster's engine: bounded, and told to whoever counts them."""

import contextlib
import time
from collections.abc import Callable, Iterator

from cni_core import waiting

Listener = Callable[[str, float], None]
_listener: Listener | None = None


def tell(listener: Listener) -> None:
    """Have each wait of this process told to a listener: the pool, and the seconds."""
    global _listener  # noqa: PLW0603 - a fact of the process
    _listener = listener


@contextlib.contextmanager
def counted(pool: str, at_most_s: float) -> Iterator[None]:
    """Count the block as a wait, in which no lock or answer is waited for longer than some seconds in all."""
    started = time.monotonic()
    try:
        with waiting.briefly(at_most_s):
            yield
    finally:
        if _listener is not None:
            _listener(pool, time.monotonic() - started)
