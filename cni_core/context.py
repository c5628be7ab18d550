"""What a verb is given besides the call itself: ways to warn, to tell, to delegate and to wait."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from cni_core.call import Call
from cni_core.result import Result


class Commands(Protocol):
    """The verbs of a plugin; a module of functions satisfies it."""

    def add(self, call: Call, context: "Context", /) -> Result:
        """Attach."""

    def delete(self, call: Call, context: "Context", /) -> None:
        """Detach; success when there is nothing to do."""

    def check(self, call: Call, context: "Context", /) -> None:
        """Compare the attachment with prevResult."""

    def status(self, call: Call, context: "Context", /) -> None:
        """Raise if no ADD can work."""

    def gc(self, call: Call, context: "Context", /) -> None:
        """Remove what no valid attachment owns."""


Loaders = Mapping[str, Callable[[], Commands]]


class Context(NamedTuple):
    """What a verb may do and cannot know by itself.

    `warn` takes a line for people. `emit` takes an event (cni_core.events and those of the plugin), heard
    once the caller has its answer. `environ` is for a delegate that is executed; `delegates` are the plugins
    that run in this process instead, by their type. `sandbox_fd` is an open descriptor of the sandbox where
    the caller has one already.
    """

    warn: Callable[[str], None]
    emit: Callable[[object], None]
    environ: Mapping[str, str]
    delegates: Loaders
    sandbox_fd: int | None = None
