"""The protocol shell: one call in, one JSON document and an exit status out.

The only module that reads the process's environment and stdin and writes its stdout. What a process reads and
writes are parameters of `run`, so that a long-lived server and the tests run the very same code.
"""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, NamedTuple

from cni_core import boot, statefile, waiting
from cni_core.call import Call, read_call
from cni_core.context import Commands, Context, Loaders
from cni_core.errors import CniError, IoFailure, TryAgainLater
from cni_core.events import Finished, StageEnded
from cni_core.lock import locked_while_needed
from cni_core.result import LATEST, SUPPORTED, render_result
from cni_core.waiting import Waits

_LOCKS_S = 80.0  # for all locks of a call; the launcher waits 100


class Edges(NamedTuple):
    """What a process reads and writes.

    `answer` takes the exit status and the text for stdout, once, and raises OSError if that reached nobody.
    `hear` takes each event of the verb, once its answer was delivered.
    """

    environ: Mapping[str, str]
    read_stdin: Callable[[], bytes]
    answer: Callable[[int, str], object]
    write_stderr: Callable[[str], object]
    hear: Callable[[object, Call | None, Context], object] = lambda _event, _call, _context: None
    sandbox_fd: int | None = None
    waits: Waits = Waits()
    attachments: str = "/run/cni-vlan/attachments"


def run(name: str, load: Callable[[], Commands], edges: Edges, delegates: Loaders) -> int:
    """Run one verb, answer, and return the exit status; never raises."""
    command = edges.environ.get("CNI_COMMAND")
    if not command:
        versions = ", ".join(SUPPORTED)
        edges.write_stderr(
            f"{name}: a CNI plugin; CNI protocol versions supported: {versions}\n"
            f"{name} --help shows the tool for operators\n"
        )
        with contextlib.suppress(OSError):
            edges.answer(0, "")
        return 0
    if command == "VERSION":
        return _answer(edges, 0, {"cniVersion": LATEST, "supportedVersions": list(SUPPORTED)})
    events: list[object] = []
    context = Context(
        lambda text: _warn(edges, name, text),
        events.append,
        edges.environ,
        delegates,
        edges.sandbox_fd,
    )
    call: Call | None = None
    try:
        with waiting.by(edges.waits._replace(until=time.monotonic() + _LOCKS_S)):
            call = read_call(edges.environ, edges.read_stdin)
            with _alone(name, call, edges.attachments):
                _run(load(), call, context, edges)
        code = 0
    except CniError as error:
        code = _fail(edges, error, call)
    except Exception as error:  # noqa: BLE001 - the one place that answers for bugs
        import traceback

        edges.write_stderr(traceback.format_exc())
        code = _fail(edges, CniError(f"{type(error).__name__}: {error}"), call)
    if code:
        events[:] = [event for event in events if isinstance(event, StageEnded)]  # the rest was undone
    # Not while the attachment is locked: a process forked by a listener would hold the lock.
    for event in (*events, Finished(call.network if call else "", code)):
        edges.hear(event, call, context)
    return int(code != 0)


@contextlib.contextmanager
def _alone(name: str, call: Call, directory: str) -> Iterator[None]:
    """Keep ADD and DEL of one attachment apart, in every process, until they have answered.

    A runtime that gives up on an ADD calls DEL, while an agent may still be in the middle of that ADD: the
    DEL would find nothing to remove yet, and succeed.
    """
    if call.command not in {"ADD", "DEL"}:
        yield
        return
    place = os.path.join(directory, f"{name}:{statefile.file_name(call.key.text)}")
    with contextlib.ExitStack() as stack:
        try:
            statefile.make_directory(directory)
            stack.enter_context(locked_while_needed(place, _LOCKS_S))
        except IoFailure:  # such as a /run that is full: a DEL has to go on
            if call.command == "ADD":
                raise
        yield


def _run(commands: Commands, call: Call, context: Context, edges: Edges) -> None:
    if call.command == "ADD":
        _answer_add(commands, call, context, edges)
        return
    _dispatch(commands, call, context)
    with contextlib.suppress(OSError):  # it is done, whoever hears of it
        edges.answer(0, "")


def _answer_add(commands: Commands, call: Call, context: Context, edges: Edges) -> None:
    """Attach and answer; an attachment that nobody hears of is undone."""
    result = commands.add(call, context)
    try:
        edges.answer(0, _text(render_result(result, call.cni_version)))
    except BaseException as error:  # the runtime was killed, or this process
        _undo_add(commands, call, context)
        if isinstance(error, OSError):
            raise TryAgainLater(f"the caller is gone: {error.strerror}") from error
        raise


def _undo_add(commands: Commands, call: Call, context: Context) -> None:
    with waiting.unwatched():
        try:
            commands.delete(call._replace(command="DEL"), context)
        except CniError as error:
            context.warn(f"undo: {error.msg}")


def _dispatch(commands: Commands, call: Call, context: Context) -> None:
    match call.command:
        case "DEL":
            commands.delete(call, context)
        case "CHECK":
            commands.check(call, context)
        case "STATUS":
            commands.status(call, context)
        case "GC":
            commands.gc(call, context)
        case _:  # read_call has refused every other
            raise AssertionError(call.command)


def _fail(edges: Edges, error: CniError, call: Call | None) -> int:
    """Answer with an error; return its code."""
    _answer(edges, 1, error.to_json(call.cni_version if call else LATEST))
    return error.code


def _answer(edges: Edges, status: int, document: dict[str, Any]) -> int:
    """Answer where nothing is to be undone if nobody hears it."""
    with contextlib.suppress(OSError):
        edges.answer(status, _text(document))
    return status


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document) + "\n"


def _warn(edges: Edges, name: str, text: str) -> None:
    edges.write_stderr(f"{name}: {text}\n")


def run_detached(callback: Callable[[], None]) -> None:
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
    name: str,
    load: Callable[[], Commands],
    delegates: Loaders,
    command_line: Callable[[], object],
    hear: Callable[[object, Call | None, Context], object] = lambda _event, _call, _context: None,
) -> int:
    """Run this process as a plugin, or, called by a person with arguments, as a command-line tool.

    A SIGTERM becomes an error, so that undo still happens.
    """
    if not os.environ.get("CNI_COMMAND") and len(sys.argv) > 1:
        command_line()
        return 0
    if sys.stdout is None and os.environ["CNI_COMMAND"] == "ADD":
        return 1  # started with it closed: nobody would learn of what was attached
    ending = _Ending()

    def read_stdin() -> bytes:
        data = _read_stdin()
        ending.begin()
        return data

    edges = Edges(os.environ, read_stdin, _write_stdout, _write_stderr, hear, waits=Waits(gone=ending.reason))
    signal.signal(signal.SIGTERM, ending.on_signal)
    try:
        boot.agree()
        return run(name, load, edges, delegates)
    except TryAgainLater as error:  # of the signal, where nothing has begun
        _answer(edges, 1, error.to_json(LATEST))
        return 1
