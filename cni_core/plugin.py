"""The protocol shell: one call in, one JSON document and an exit status out.

The inputs and outputs of a process are parameters of `run`, so that a long-lived server and the tests run
the very same code; cni_core.process supplies those of a one-shot process.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cni_core import run_directory, statefile, waiting
from cni_core.call import Call, read_call
from cni_core.context import Commands, Context, Loaders, dispatch
from cni_core.errors import CniError, IoFailure, TryAgainLater
from cni_core.events import Finished, StageEnded
from cni_core.lock import locked_while_needed
from cni_core.result import LATEST, SUPPORTED
from cni_core.result_json import render_result
from cni_core.waiting import Waits

_LOCKS_S = 80.0  # for all locks of a call; the launcher waits 100


class ProcessIO(NamedTuple):
    """The inputs and outputs of a process, and its way of waiting.

    `answer` takes the exit status and the text for stdout, once, and raises OSError if nobody received them.
    `on_event` takes each event of the verb, after its answer was delivered. `attachments` is the directory of
    the locks that keep ADD and DEL of one attachment apart.
    """

    environ: Mapping[str, str]
    read_stdin: Callable[[], bytes]
    answer: Callable[[int, str], object]
    write_stderr: Callable[[str], object]
    on_event: Callable[[object, Call | None, Context], object] = lambda _event, _call, _context: None
    sandbox_fd: int | None = None
    waits: Waits = Waits()
    attachments: str = run_directory.ATTACHMENT_LOCKS


def run(name: str, load: Callable[[], Commands], io: ProcessIO, delegates: Loaders) -> int:
    """Run one verb, answer, and return the exit status; never raises."""
    command = io.environ.get("CNI_COMMAND")
    if not command:
        versions = ", ".join(SUPPORTED)
        io.write_stderr(
            f"{name}: a CNI plugin; CNI protocol versions supported: {versions}\n"
            f"{name} --help shows the tool for operators\n"
        )
        with contextlib.suppress(OSError):
            io.answer(0, "")
        return 0
    if command == "VERSION":
        return answer(io, 0, {"cniVersion": LATEST, "supportedVersions": list(SUPPORTED)})
    return _run_verb(name, load, io, delegates)


def _run_verb(name: str, load: Callable[[], Commands], io: ProcessIO, delegates: Loaders) -> int:
    def warn(text: str) -> None:
        io.write_stderr(f"{name}: {text}\n")

    events: list[object] = []
    context = Context(warn, events.append, io.environ, delegates, io.sandbox_fd)
    call: Call | None = None
    try:
        with waiting.by(io.waits._replace(until=time.monotonic() + _LOCKS_S)):
            call = read_call(io.environ, io.read_stdin)
            with _alone(name, call, io.attachments):
                _run(load(), call, context, io)
        code = 0
    except CniError as error:
        code = _fail(io, error, call)
    except Exception as error:  # noqa: BLE001 - the one place that reports bugs
        import traceback

        io.write_stderr(traceback.format_exc())
        code = _fail(io, CniError(f"{type(error).__name__}: {error}"), call)
    if code:
        events[:] = [event for event in events if isinstance(event, StageEnded)]  # the rest was undone
    # Not while the attachment is locked: a process forked by a subscriber would hold the lock.
    _deliver([*events, Finished(call.network if call else "", code)], call, context, io)
    return int(code != 0)


def _deliver(events: Sequence[object], call: Call | None, context: Context, io: ProcessIO) -> None:
    """Hand the events of a verb to the subscriber, whose faults are only warnings: the answer is out."""
    for event in events:
        try:
            io.on_event(event, call, context)
        except Exception as error:  # noqa: BLE001 - whatever it is
            context.warn(f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def _alone(name: str, call: Call, directory: str) -> Iterator[None]:
    """Run ADD and DEL of one attachment one at a time, in all processes, until they have answered.

    A runtime that gives up on an ADD calls DEL while an agent may still be in the middle of that ADD. The DEL
    would find nothing to remove yet, and succeed.
    """
    if call.command not in {"ADD", "DEL"}:
        yield
        return
    place = os.path.join(directory, f"{name}:{statefile.file_name(call.key.text)}")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked_while_needed(place, _LOCKS_S))
        except IoFailure:  # such as a /run that is full: a DEL has to go on
            if call.command == "ADD":
                raise
        yield


def _run(commands: Commands, call: Call, context: Context, io: ProcessIO) -> None:
    if call.command == "ADD":
        _answer_add(commands, call, context, io)
        return
    dispatch(commands, call.command, call, context)
    with contextlib.suppress(OSError):  # the verb is done, even if nobody hears of it
        io.answer(0, "")


def _answer_add(commands: Commands, call: Call, context: Context, io: ProcessIO) -> None:
    """Attach and answer; undo the attachment if the answer reaches nobody."""
    result = commands.add(call, context)
    try:
        io.answer(0, _text(render_result(result, call.cni_version)))
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


def _fail(io: ProcessIO, error: CniError, call: Call | None) -> int:
    """Answer with an error; return its code."""
    answer(io, 1, error.to_json(call.cni_version if call else LATEST))
    return error.code


def answer(io: ProcessIO, status: int, document: dict[str, Any]) -> int:
    """Send an answer that needs no undo if it reaches nobody."""
    with contextlib.suppress(OSError):
        io.answer(status, _text(document))
    return status


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document) + "\n"
