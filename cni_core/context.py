"""The verbs of a plugin, and the context in which they run: the means to warn, emit events and delegate."""

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
        """Raise if no ADD can succeed."""

    def gc(self, call: Call, context: "Context", /) -> None:
        """Release everything that no valid attachment owns."""


Loaders = Mapping[str, Callable[[], Commands]]


class Context(NamedTuple):
    """The means that a verb is given by its process.

    `warn` takes a line for operators. `emit` takes an event (of cni_core.events or of the plugin), delivered
    once the caller has its answer. `environ` is the environment of a delegate that is executed; `delegates`
    are the plugins that run in this process instead, by their type. `sandbox_fd` is an open descriptor of the
    sandbox if the caller has one already.
    """

    warn: Callable[[str], None]
    emit: Callable[[object], None]
    environ: Mapping[str, str]
    delegates: Loaders
    sandbox_fd: int | None = None


def dispatch(commands: Commands, verb: str, call: Call, context: Context) -> None:
    """Run a verb that has no result: DEL, CHECK, STATUS or GC."""
    match verb:
        case "DEL":
            commands.delete(call, context)
        case "CHECK":
            commands.check(call, context)
        case "STATUS":
            commands.status(call, context)
        case "GC":
            commands.gc(call, context)
        case _:  # cni_core.call has refused every other
            raise AssertionError(verb)
