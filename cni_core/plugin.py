"""The protocol shell: one invocation in, one JSON document and an exit status out.

The only module that reads the process's environment and stdin and writes its stdout. What a process has
as edges are parameters here, so that a long-lived server and the tests run the very same code.
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, NamedTuple, Protocol

from cni_core import boot, caller, statefile
from cni_core.errors import CniError, IoFailure, TryAgainLater
from cni_core.invocation import Invocation, read_invocation
from cni_core.lock import locked_while_needed
from cni_core.record import Record
from cni_core.result import LATEST, SUPPORTED, Result, render_result

_ALONE_S = 90.0  # less than the launcher waits, more than an ADD may take


class Commands(Protocol):
    """The verbs of a plugin; a module of functions satisfies it."""

    def add(self, invocation: Invocation, /) -> Result:
        """Attach."""

    def delete(self, invocation: Invocation, /) -> None:
        """Detach; success when there is nothing to do."""

    def check(self, invocation: Invocation, /) -> None:
        """Compare the attachment with prevResult."""

    def status(self, invocation: Invocation, /) -> None:
        """Tell whether an ADD would work."""

    def gc(self, invocation: Invocation, /) -> None:
        """Remove what no valid attachment owns."""


class Edges(NamedTuple):
    """What a process reads and writes.

    `answer` takes the exit status and the text for stdout, once, and raises OSError if that reached nobody.
    """

    environ: Mapping[str, str]
    read_stdin: Callable[[], bytes]
    answer: Callable[[int, str], object]
    write_stderr: Callable[[str], object]
    run_later: Callable[[Callable[[], None]], object]
    netns_fd: int | None = None
    record: Record | None = None
    attachments: str = "/run/cni-vlan/attachments"


Builtins = Mapping[str, Callable[[], Commands]]


def run(name: str, load: Callable[[], Commands], edges: Edges, builtins: Builtins) -> int:
    """Run one verb, answer, and return the exit status; never raises."""
    command = edges.environ.get("CNI_COMMAND")
    if not command:
        versions = ", ".join(SUPPORTED)
        edges.write_stderr(
            f"{name}: a CNI plugin; CNI protocol versions supported: {versions}\n{name} --help: for people\n"
        )
        with contextlib.suppress(OSError):
            edges.answer(0, "")
        return 0
    if command == "VERSION":
        return _answer(edges, 0, {"cniVersion": LATEST, "supportedVersions": list(SUPPORTED)})
    record = edges.record or Record()
    version = LATEST
    try:
        invocation = read_invocation(
            edges.environ, edges.read_stdin, lambda text: _warn(edges, name, text), builtins
        )._replace(netns_fd=edges.netns_fd, record=record)
        version, record.network = invocation.cni_version, invocation.network
        with _alone(name, invocation, edges.attachments):
            status = _run(load(), invocation, edges)
        for later in invocation.after_reply:  # not while the attachment is locked: a fork would hold the lock
            edges.run_later(later)
        return status  # noqa: TRY300 - what follows is for errors
    except CniError as error:
        return _fail(edges, error, version, record)
    except Exception as error:  # noqa: BLE001 - the one place that answers for bugs
        import traceback

        edges.write_stderr(traceback.format_exc())
        return _fail(edges, CniError(f"{type(error).__name__}: {error}"), version, record)


@contextlib.contextmanager
def _alone(name: str, invocation: Invocation, directory: str) -> Iterator[None]:
    """Keep ADD and DEL of one attachment apart, in every process, until they have answered.

    A runtime that gives up on an ADD calls DEL, while an agent may still be in the middle of that ADD: the
    DEL would find nothing to remove yet, and succeed.
    """
    if invocation.command not in {"ADD", "DEL"}:
        yield
        return
    place = os.path.join(directory, f"{name}:{statefile.file_name(invocation.key)}")
    with contextlib.ExitStack() as stack:
        try:
            statefile.make_directory(directory)
            stack.enter_context(locked_while_needed(place, _ALONE_S))
        except IoFailure:  # such as a /run that is full: a DEL has to go on
            if invocation.command == "ADD":
                raise
        yield


def _run(commands: Commands, invocation: Invocation, edges: Edges) -> int:
    if invocation.command != "ADD":
        _dispatch(commands, invocation)
        with contextlib.suppress(OSError):  # it is done, whoever hears of it
            edges.answer(0, "")
        return 0
    try:
        result = commands.add(invocation)
        _answer_add(commands, invocation, result, edges)
    except BaseException:
        for later in invocation.after_reply:
            later.close()
        raise
    return 0


def _answer_add(commands: Commands, invocation: Invocation, result: Result, edges: Edges) -> None:
    try:
        edges.answer(0, _text(render_result(result, invocation.cni_version)))
    except BaseException as error:  # the runtime was killed, or us: nobody knows of what was attached
        _undo_add(commands, invocation)
        if isinstance(error, OSError):
            raise TryAgainLater(f"the caller is gone: {error.strerror}") from error
        raise


def _undo_add(commands: Commands, invocation: Invocation) -> None:
    with caller.unwatched():
        try:
            commands.delete(invocation._replace(command="DEL"))
        except CniError as error:
            invocation.warn(f"undo: {error.msg}")


def _dispatch(commands: Commands, invocation: Invocation) -> None:
    match invocation.command:
        case "DEL":
            commands.delete(invocation)
        case "CHECK":
            commands.check(invocation)
        case "STATUS":
            commands.status(invocation)
        case "GC":
            commands.gc(invocation)
        case _:  # read_invocation has refused every other
            raise AssertionError(invocation.command)


def _fail(edges: Edges, error: CniError, version: str, record: Record) -> int:
    record.code = error.code
    return _answer(edges, 1, error.to_json(version))


def _answer(edges: Edges, status: int, document: dict[str, Any]) -> int:
    """Answer where nothing is to be undone if nobody hears it."""
    with contextlib.suppress(OSError):
        edges.answer(status, _text(document))
    return status


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document) + "\n"


def _warn(edges: Edges, name: str, text: str) -> None:
    edges.write_stderr(f"{name}: {text}\n")


def process_edges(begin: Callable[[], object]) -> Edges:
    """Return the edges of this process; `begin` is called when its stdin is read."""

    def read_stdin() -> bytes:
        data = _read_stdin()
        begin()
        return data

    return Edges(os.environ, read_stdin, _write_stdout, _write_stderr, _run_detached)


def _run_detached(callback: Callable[[], None]) -> None:
    """Run a callback in a child that holds none of our pipes, for a runtime waits until they close."""
    if os.fork():
        return
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        callback()
    finally:
        os._exit(0)


def _read_stdin() -> bytes:
    try:
        return sys.stdin.buffer.read()
    except (OSError, AttributeError) as error:  # AttributeError: started with stdin closed
        raise IoFailure(f"error reading from stdin: {error}") from error


def _write_stdout(_status: int, text: str) -> None:
    data = text.encode(errors="backslashreplace")
    while data:
        data = data[os.write(1, data) :]


def _write_stderr(text: str) -> None:
    if sys.stderr is not None:  # started with it closed
        sys.stderr.write(text)


class _Ending:
    """What SIGTERM does to a one-shot: it ends, or, once it has begun, gives up at its next wait."""

    def __init__(self) -> None:
        self._has_begun = False
        self._reason = ""

    def reason(self) -> str:
        return self._reason

    def begin(self) -> None:
        self._has_begun = True

    def on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._reason = "stopped by SIGTERM before the end"
        if not self._has_begun:
            raise TryAgainLater(self._reason)


def main(
    name: str, load: Callable[[], Commands], builtins: Builtins, command_line: Callable[[], object]
) -> int:
    """Run this process as a plugin, or, called by a person with arguments, as a command-line tool.

    A SIGTERM becomes an error, so that undo still happens.
    """
    if not os.environ.get("CNI_COMMAND") and len(sys.argv) > 1:
        command_line()
        return 0
    ending = _Ending()
    edges = process_edges(ending.begin)
    signal.signal(signal.SIGTERM, ending.on_signal)
    try:
        boot.agree()
        with caller.watched(ending.reason):
            return run(name, load, edges, builtins)
    except TryAgainLater as error:  # of the signal, where nothing has begun
        return _answer(edges, 1, error.to_json(LATEST))
