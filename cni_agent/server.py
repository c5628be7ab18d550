"""Serving the launcher: a thread for each invocation under way, each ending in the namespace it began in."""

import contextlib
import errno
import gc
import itertools
import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from cni_agent import protocol, turn
from cni_agent.announcing import Announcing
from cni_agent.decline import declines
from cni_agent.listener import Listener
from cni_agent.workers import Workers
from cni_core import boot, plugin
from cni_core.call import Call
from cni_core.context import Context, Loaders
from cni_core.document import section
from cni_core.errors import CniError
from cni_core.events import Finished, StageEnded
from cni_core.plugin import ProcessIO
from cni_core.waiting import Waits
from cni_vlan import announcer

_AT_ONCE = 256
_THREADS = 32  # without those in a slow wait; they take turns anyway
_TIDY_EVERY = 256  # invocations
_RECEIVE_S = 10.0
_BEGIN_S = 15.0  # with _RECEIVE_S less than the launcher waits for the first answer
_SEND_S = 10.0
_DRAIN_MS = 50
_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Report(NamedTuple):
    """The report of one invocation. Times in seconds; `stages` in the order in which they ended."""

    plugin: str
    environ: Mapping[str, str]
    network: str
    code: int
    seconds: float
    stages: tuple[tuple[str, float], ...]


class Server:
    """The agent behind one listening socket.

    `subscribers` take the report of each invocation, `warn` takes a fault of the installation. `changed`
    is called after a verb on a cluster's pool.
    """

    def __init__(
        self,
        listener: Listener,
        loaders: Loaders,
        subscribers: Sequence[Callable[[Report], None]],
        warn: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self._changed = changed
        self._warn = warn
        self._listener = listener
        self._loaders = loaders
        self._subscribers = subscribers
        self._namespace = _own_namespace()
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._stopping = threading.Event()
        self._running = 0
        self._guard = threading.Lock()
        self._announcing = Announcing()
        self._workers = Workers(self._serve_counted, _THREADS)

    def serve(self, stopping: socket.socket) -> None:
        """Serve until `stopping` is readable; then decline new requests, and finish running verbs."""
        self._listener.socket.settimeout(0)
        waiting = select.poll()
        for source in (self._listener.socket, stopping):
            waiting.register(source, select.POLLIN)
        for served in itertools.count(1):
            if stopping.fileno() in {descriptor for descriptor, _event in waiting.poll()}:
                break
            self._accept()
            if served % _TIDY_EVERY == 0:
                gc.collect()  # only this empties Python's lists of free tuples, which grow by 1 MiB
        self._drain(waiting, stopping)

    def _drain(self, waiting: select.poll, stopping: socket.socket) -> None:
        """Remove the socket, decline the launchers that are connected already, and finish running verbs."""
        self._stopping.set()
        self._listener.leave()
        waiting.unregister(stopping)
        while True:
            found = waiting.poll(_DRAIN_MS)
            if not self._is_busy() and (not found or not self._listener.is_own):
                return  # connections on systemd's socket wait for the next agent
            self._accept()

    def _is_busy(self) -> bool:
        with self._guard:
            return self._running > 0

    def _accept(self) -> bool:
        """Start a thread for a connection; False if there was none."""
        try:
            connection = self._listener.socket.accept()[0]
        except OSError as error:
            if error.errno in _NO_DESCRIPTOR:
                self._turn_away()
            return False
        if self._running >= _AT_ONCE:
            with connection, contextlib.suppress(OSError):
                protocol.decline(connection, 1)  # in the form that launchers of every version read
            return True
        with self._guard:
            self._running += 1
        if not self._workers.serve(connection):
            connection.close()  # the limit of processes: the launcher runs the one-shot plugin
            with self._guard:
                self._running -= 1
        return True

    def _turn_away(self) -> None:
        """Close a connection for which there is no descriptor, so that its launcher does not wait."""
        spare, self._spare = self._spare, -1
        if spare >= 0:
            os.close(spare)
            with contextlib.suppress(OSError):
                self._listener.socket.accept()[0].close()
        with contextlib.suppress(OSError):  # another thread may have taken it: then there is none for a while
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        if self._spare < 0:
            time.sleep(_DRAIN_MS / 1000)

    def _serve_counted(self, connection: socket.socket) -> None:
        try:
            self._serve_one(connection)
        except Exception as error:  # noqa: BLE001 - the launcher sees the connection end, and runs the one-shot plugin
            self._warn(f"{type(error).__name__}: {error}")
        finally:
            with self._guard:
                self._running -= 1
            if _own_namespace() != self._namespace:
                # A thread is still in a pod's namespace: no agent is better than one that works there.
                os.kill(os.getpid(), signal.SIGABRT)

    def _serve_one(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, protocol.ProtocolError):
            if _peer(connection) != 0:
                return
            with self._receive(connection) as request:
                connection.settimeout(_SEND_S)
                if request.environ.get("CNI_COMMAND") == "VERSION":  # a health check
                    if protocol.begin(connection, request.version):
                        self._run(connection, request)
                    return
                if not boot.settle(request.boot):
                    why = "is of another boot than the host's: mount the host's directory, or remove the file"
                    self._warn(f"{boot.AGREED} {why}")
                    protocol.decline(connection, request.version)
                    return
                with turn.taken(_BEGIN_S) as has_turn:
                    if self._stopping.is_set() or not has_turn or self._declines(request):
                        protocol.decline(connection, request.version)
                    elif protocol.begin(connection, request.version):
                        self._run(connection, request)

    def _declines(self, request: protocol.Request) -> bool:
        """Return whether the launcher has to run the plugin itself; in turn, since it reads files."""
        try:
            return request.plugin not in self._loaders or declines(request)
        except CniError:  # an unreadable record: the plugin itself reports it
            return True

    def _receive(self, connection: socket.socket) -> protocol.Request:
        """Receive a request; a client that sends nothing yet keeps nobody else out."""
        arrived = select.poll()
        arrived.register(connection, select.POLLIN)
        with contextlib.nullcontext() if arrived.poll(0) else self._workers.aside():
            return protocol.receive_request(connection, _RECEIVE_S)

    def _run(self, connection: socket.socket, request: protocol.Request) -> None:
        started = time.perf_counter()
        err: list[str] = []
        answered: list[float] = []
        stages: list[StageEnded] = []

        def answer(status: int, text: str) -> None:
            answered.append(time.perf_counter())
            with turn.aside():
                protocol.deliver(connection, request.version, status, text, "".join(err), self._workers.aside)

        def on_event(event: object, call: Call | None, context: Context) -> None:
            announcer.on_event(event, call, context, self._announcing.give)
            match event:
                case StageEnded():
                    stages.append(event)
                case Finished(network, code):
                    seconds, spans = answered[0] - started, _spans(started, stages)
                    self._publish(
                        Report(request.plugin, request.environ, network, code, seconds, spans), call
                    )
                case _:
                    pass

        waits = Waits(self._aside, lambda: _gone(connection, request))
        io = ProcessIO(
            request.environ, lambda: request.stdin, answer, err.append, on_event, request.netns_fd, waits
        )
        delegates = {name: load for name, load in self._loaders.items() if name != request.plugin}
        plugin.run(request.plugin, self._loaders[request.plugin], io, delegates)

    def _publish(self, report: Report, call: Call | None) -> None:
        if call is not None and section(call.conf, "ipam", "cluster"):
            self._changed()
        for subscriber in self._subscribers:
            subscriber(report)

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        with turn.aside(), self._workers.aside():
            yield


def _spans(started: float, ends: Sequence[StageEnded]) -> tuple[tuple[str, float], ...]:
    """Return each stage with its seconds."""
    starts = (started, *(end.at for end in ends))
    return tuple((end.stage, end.at - start) for end, start in zip(ends, starts, strict=False))


def _gone(connection: socket.socket, request: protocol.Request) -> str:
    """Return the reason why an ADD is no longer wanted; other verbs are finished even without a caller."""
    if request.environ.get("CNI_COMMAND") != "ADD" or protocol.is_there(connection):
        return ""
    return "the caller is gone"


def _peer(connection: socket.socket) -> int:
    """Return the user id of the peer (unix(7), SO_PEERCRED)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    user: int = struct.unpack("3i", credentials)[1]
    return user


def _own_namespace() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino
