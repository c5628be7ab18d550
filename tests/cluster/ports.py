"""Ports on loopback for servers that are killed and started again."""

import contextlib
import secrets
import socket


def free_port() -> int:
    """Return a port that nobody listens on, and that no connection gets: it lies below the ephemeral ones."""
    while True:
        port = 10000 + secrets.randbelow(20000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
