"""An agent for each host, forked from a process that has loaded all: on a node a start takes seconds.

`python -m tests.lab.warm` reads lines `holder socket` and answers with the process id of an agent that is
in the holder's namespaces and listens on the socket.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_START_S = 180  # as tests.lab.waiting


class Agents:
    """The process that agents are forked from; it ends with the one that started it."""

    def __init__(self) -> None:
        self._source = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, holder: int, socket: Path) -> int:
        """Start an agent in the namespaces of a process; return its process id once it listens."""
        assert self._source.stdin is not None
        assert self._source.stdout is not None
        self._source.stdin.write(f"{holder} {socket}\n")
        self._source.stdin.flush()
        agent = int(self._source.stdout.readline())
        give_up = time.monotonic() + _START_S
        while not socket.exists():
            os.kill(agent, 0)
            assert time.monotonic() < give_up
            time.sleep(0.005)
        return agent

    def end(self) -> None:
        """End the process; agents that still run are its children no more."""
        with self._source as source:
            assert source.stdin is not None
            source.stdin.close()


def _serve_forks() -> None:
    from cni_agent.preload import preloaded

    preloaded()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        holder, socket = line.split()
        agent = os.fork()
        if agent == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _become_agent(int(holder), socket)
        print(agent, flush=True)


def _become_agent(holder: int, socket: str) -> None:
    from cni_agent import cli

    libc = ctypes.CDLL(None, use_errno=True)
    namespaces = [os.open(f"/proc/{holder}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("net", "mnt")]
    for descriptor in namespaces:
        if libc.setns(descriptor, 0):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(descriptor)
    # What is read from now on is not the next line.
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    cli.tool.main(["serve", "--socket", socket, "--metrics", f"{socket}.metrics", "--no-log"])


if __name__ == "__main__":
    _serve_forks()
