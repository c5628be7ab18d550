"""Serving the launcher: a thread for each invocation under way, each ending in the namespace it began in."""

import contextlib
import gc
import itertools
import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from cni_agent import protocol
from cni_agent.decline import declines
from cni_core import plugin, turn
from cni_core.plugin import Commands, Edges
from cni_core.record import Record

_AT_ONCE = 64
_TIDY_EVERY = 256  # invocations
_RECEIVE_S = 10.0
_SEND_S = 10.0
_BACKLOG = 4096

Loaders = Mapping[str, Callable[[], Commands]]


class Done(NamedTuple):
    """What is told of one invocation. Seconds; `stages` in the order in which they ended."""

    plugin: str
    environ: Mapping[str, str]
    network: str
    code: int
    seconds: float
    stages: tuple[tuple[str, float], ...]


class Server:
    """The agent behind one listening socket."""

    def __init__(self, listener: socket.socket, loaders: Loaders, tell: Callable[[Done], None]) -> None:
        self._listener = listener
        self._loaders = loaders
        self._tell = tell
        self._namespace = _own_namespace()
        self._places = threading.Semaphore(_AT_ONCE)

    def serve(self, stopping: socket.socket) -> None:
        """Serve until `stopping` can be read, then finish what runs."""
        self._listener.settimeout(0)
        waiting = select.poll()
        for source in (self._listener, stopping):
            waiting.register(source, select.POLLIN)
        for served in itertools.count(1):
            if stopping.fileno() in {descriptor for descriptor, _event in waiting.poll()}:
                break
            with contextlib.suppress(OSError):  # a caller that gave up
                connection = self._listener.accept()[0]
                self._places.acquire()
                # Not a pool's: 64 threads that were once needed hold 5 MiB for ever.
                threading.Thread(target=self._serve_in_place, args=(connection,), name="verb").start()
            if served % _TIDY_EVERY == 0:
                gc.collect()  # it alone empties Python's lists of free tuples, which grow by 1 MiB
        for _place in range(_AT_ONCE):
            self._places.acquire()

    def _serve_in_place(self, connection: socket.socket) -> None:
        try:
            self._serve_one(connection)
        finally:
            self._places.release()

    def _serve_one(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, protocol.ProtocolError):
            if _peer(connection) != 0:
                return
            with protocol.receive_request(connection, _RECEIVE_S) as request:
                connection.settimeout(_SEND_S)
                if request.plugin not in self._loaders or declines(request):
                    protocol.send_reply(connection, protocol.DECLINED)
                else:
                    self._run(connection, request)
        if _own_namespace() != self._namespace:
            os.kill(os.getpid(), signal.SIGABRT)  # better no agent than one that works in a pod's namespace

    def _run(self, connection: socket.socket, request: protocol.Request) -> None:
        started = time.perf_counter()
        record = Record()
        out: list[str] = []
        err: list[str] = []
        later: list[Callable[[], None]] = []
        edges = Edges(
            request.environ,
            lambda: request.stdin,
            out.append,
            err.append,
            later.append,
            request.netns_fd,
            record,
        )
        builtins = {name: load for name, load in self._loaders.items() if name != request.plugin}
        with turn.taken():
            status = plugin.run(request.plugin, self._loaders[request.plugin], edges, builtins)
        with contextlib.suppress(OSError):  # the launcher was killed; what was done stands, and DEL will come
            protocol.send_reply(connection, status, "".join(out), "".join(err))
        seconds = time.perf_counter() - started
        for callback in later:
            threading.Thread(target=callback, daemon=True).start()
        self._tell(
            Done(request.plugin, request.environ, record.network, record.code, seconds, record.stages())
        )


def listen(path: str) -> socket.socket:
    """Listen on a path, in a directory that only root may enter, instead of an agent before."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    temporary = f"{path}.{os.getpid()}"
    listener.bind(temporary)
    os.chmod(temporary, 0o600)
    listener.listen(_BACKLOG)
    os.rename(temporary, path)
    return listener


def _peer(connection: socket.socket) -> int:
    """Return the user id of who connected (unix(7), SO_PEERCRED)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    user: int = struct.unpack("3i", credentials)[1]
    return user


def _own_namespace() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino
