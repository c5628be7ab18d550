"""A way from a host's namespaces to an engine on this machine, which can be cut and mended."""

import contextlib
import ctypes
import os
import socket
import threading
from typing import Self

_CLONE_NEWNET = 0x40000000
_CHUNK = 65536


class Relay:
    """Carries connections from a port of a namespace's loopback to the same port here."""

    def __init__(self, holder: int, port: int) -> None:
        self._port = port
        self._listening = _listen_in(holder, port)
        self._open: list[tuple[socket.socket, socket.socket, threading.Thread]] = []
        self._guard = threading.Lock()
        self._is_cut = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """End every connection, and take no more: the other side sees them close."""
        self._is_cut.set()
        with self._guard:
            for source, target, thread in self._open:
                for each in (source, target):
                    with contextlib.suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)
                thread.join()
            for source, _target, _thread in self._open:
                source.close()
            self._open.clear()

    def mend(self) -> None:
        self._is_cut.clear()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._listening.accept()[0]
                if self._is_cut.is_set():
                    near.close()
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self._port))
                except OSError:  # the engine is away
                    near.close()
                    continue
                with self._guard:
                    if self._is_cut.is_set():  # meanwhile
                        near.close()
                        far.close()
                        continue
                    for source, target in ((near, far), (far, near)):
                        thread = threading.Thread(target=_carry, args=(source, target), daemon=True)
                        thread.start()
                        self._open.append((source, target, thread))


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def _listen_in(holder: int, port: int) -> socket.socket:
    """Listen in the network namespace of a process: a socket belongs to the namespace that it was made in."""
    made: list[socket.socket] = []

    def listen() -> None:
        namespace = os.open(f"/proc/{holder}/ns/net", os.O_RDONLY)
        assert ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) == 0
        os.close(namespace)
        made.append(socket.create_server(("127.0.0.1", port), backlog=64))

    thread = threading.Thread(target=listen)  # ends in that namespace, and takes nobody along
    thread.start()
    thread.join()
    return made[0]
