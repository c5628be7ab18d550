"""A wire between a client and a server on loopback, on which answers get lost."""

import contextlib
import socket
import threading
from typing import Self


class Wire:
    """A port that leads to another; use it as a context.

    `lose` is what happens to the next answers: "" nothing, "cut" the connection ends instead, "hang" nothing
    comes. Requests always arrive. TLS is up by then if a request was answered before.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.lose = ""
        self.lost = 0
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        for each in (self._server, *self._sockets):
            _shut(each)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                for one, other in ((client, server), (server, client)):
                    is_answer = one is server
                    threading.Thread(target=self._pass, args=(one, other, is_answer), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, is_answer: bool) -> None:  # noqa: FBT001 - of a thread
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                if is_answer and self.lose:
                    self.lost += 1
                    if self.lose == "cut":
                        break
                    continue
                other.sendall(data)
        if not (is_answer and self.lose == "hang"):
            _shut(other)
            _shut(one)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
