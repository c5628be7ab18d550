"""Ports on loopback for servers that are killed and started again."""

import contextlib
import os
import re
import secrets
import socket

_FIRST, _RANGE, _RANGES = 10000, 2000, 10  # below the ephemeral ports: no connection gets one
_given: set[int] = set()


def free_port() -> int:
    """Return a port that nobody listens on, and that no worker of pytest-xdist has got before."""
    worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0)
    while True:
        port = _FIRST + _RANGE * (worker % _RANGES) + secrets.randbelow(_RANGE)
        if port in _given:
            continue
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            _given.add(port)
            return port
