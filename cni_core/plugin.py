"""The protocol shell: one invocation in, one JSON document and an exit status out.

The only module that reads the process's environment and stdin and writes its stdout. What a process has
as edges are parameters here, so that a long-lived server and the tests run the very same code.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, NamedTuple, NoReturn, Protocol

from cni_core.errors import CniError, IoFailure, TryAgainLater
from cni_core.invocation import Invocation, read_invocation
from cni_core.record import Record
from cni_core.result import LATEST, SUPPORTED, Result, render_result


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
    """What a process reads and writes."""

    environ: Mapping[str, str]
    read_stdin: Callable[[], bytes]
    write_stdout: Callable[[str], object]
    write_stderr: Callable[[str], object]
    run_later: Callable[[Callable[[], None]], object]
    netns_fd: int | None = None
    record: Record | None = None


Builtins = Mapping[str, Callable[[], Commands]]


def run(name: str, load: Callable[[], Commands], edges: Edges, builtins: Builtins) -> int:
    """Run one verb and return the exit status; never raises."""
    command = edges.environ.get("CNI_COMMAND")
    if not command:
        versions = ", ".join(SUPPORTED)
        edges.write_stderr(
            f"{name}: a CNI plugin; CNI protocol versions supported: {versions}\n{name} --help: for people\n"
        )
        return 0
    if command == "VERSION":
        _emit(edges, {"cniVersion": LATEST, "supportedVersions": list(SUPPORTED)})
        return 0
    version = LATEST
    record = edges.record or Record()
    try:
        invocation = read_invocation(
            edges.environ, edges.read_stdin, lambda text: _warn(edges, name, text), builtins
        )._replace(netns_fd=edges.netns_fd, record=record)
        version, record.network = invocation.cni_version, invocation.network
        result = _dispatch(load(), invocation)
    except CniError as error:
        return _fail(edges, error, version, record)
    except Exception as error:  # noqa: BLE001 - the one place that answers for bugs
        import traceback

        edges.write_stderr(traceback.format_exc())
        return _fail(edges, CniError(f"{type(error).__name__}: {error}"), version, record)
    if result is not None:
        _emit(edges, render_result(result, version))
    for callback in invocation.after_reply:
        edges.run_later(callback)
    return 0


def _dispatch(commands: Commands, invocation: Invocation) -> Result | None:
    match invocation.command:
        case "ADD":
            return commands.add(invocation)
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
    return None


def _fail(edges: Edges, error: CniError, version: str, record: Record) -> int:
    record.code = error.code
    _emit(edges, error.to_json(version))
    return 1


def _emit(edges: Edges, document: dict[str, Any]) -> None:
    edges.write_stdout(json.dumps(document) + "\n")


def _warn(edges: Edges, name: str, text: str) -> None:
    edges.write_stderr(f"{name}: {text}\n")


def process_edges() -> Edges:
    """Return the edges of this process."""
    return Edges(os.environ, _read_stdin, _write_stdout, sys.stderr.write, _run_detached)


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


def _write_stdout(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _on_sigterm(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise TryAgainLater("stopped by SIGTERM before the end; what was begun was undone")


def main(
    name: str, load: Callable[[], Commands], builtins: Builtins, command_line: Callable[[], object]
) -> int:
    """Run this process as a plugin, or, called by a person with arguments, as a command-line tool.

    A SIGTERM becomes an error, so that undo still happens.
    """
    if not os.environ.get("CNI_COMMAND") and len(sys.argv) > 1:
        command_line()
        return 0
    signal.signal(signal.SIGTERM, _on_sigterm)
    return run(name, load, process_edges(), builtins)
