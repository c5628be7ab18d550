"""A plugin as a process. Only this module reads its environment and stdin and writes its stdout."""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from types import FrameType

from cni_core import boot
from cni_core.call import Call
from cni_core.context import Commands, Context, Loaders
from cni_core.errors import IoFailure, TryAgainLater
from cni_core.plugin import ProcessIO, answer, run
from cni_core.result import LATEST
from cni_core.waiting import Waits


def run_detached(callback: Callable[[], None]) -> None:
    """Run a callback in a child that holds none of our pipes, since a runtime waits until they close."""
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
    """The effect of SIGTERM on a one-shot: it ends or, once the verb has begun, gives up at the next wait."""

    def __init__(self) -> None:
        self._has_begun = False
        self._reason = ""

    def reason(self) -> str:
        return self._reason

    def read_stdin(self) -> bytes:
        """Return the configuration; from then on the verb has begun."""
        data = _read_stdin()
        self._has_begun = True
        return data

    def on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._reason = "interrupted by SIGTERM"
        if not self._has_begun:
            raise TryAgainLater(self._reason)


def run_verb(
    name: str, load: Callable[[], Commands], delegates: Loaders, environ: Mapping[str, str], stdin: str
) -> str:
    """Run a verb in this process, for an operator; return the message of its error, "" on success."""
    answers: list[str] = []
    io = ProcessIO(
        {**os.environ, **environ}, stdin.encode, lambda _status, text: answers.append(text), _write_stderr
    )
    return str(json.loads(answers[0])["msg"]) if run(name, load, io, delegates) else ""


def main(
    name: str,
    load: Callable[[], Commands],
    delegates: Loaders,
    command_line: Callable[[], object],
    on_event: Callable[[object, Call | None, Context], object] = lambda _event, _call, _context: None,
) -> int:
    """Run this process as a plugin, or, with arguments and without CNI_COMMAND, as a command-line tool.

    A SIGTERM becomes an error, so that the undo still happens.
    """
    if not os.environ.get("CNI_COMMAND") and len(sys.argv) > 1:
        command_line()
        return 0
    if sys.stdout is None and os.environ.get("CNI_COMMAND") == "ADD":
        return 1  # started with it closed: nobody would learn of the attachment
    ending = _Ending()
    waits = Waits(gone=ending.reason)
    io = ProcessIO(os.environ, ending.read_stdin, _write_stdout, _write_stderr, on_event, waits=waits)
    signal.signal(signal.SIGTERM, ending.on_signal)
    try:
        boot.agree()
        return run(name, load, io, delegates)
    except TryAgainLater as error:  # from the signal, before the verb began
        answer(io, 1, error.to_json(LATEST))
        return 1
