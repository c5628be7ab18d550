"""Commands on a node, through a port that leads to it; kubelet and the runtime need not work."""

import json
import socket
import socketserver
import subprocess
import threading

from typing_extensions import override

_HANGS_S = 600  # nothing takes so long


class _Command(socketserver.StreamRequestHandler):
    @override
    def handle(self) -> None:
        words = json.loads(self.rfile.readline())
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        self.wfile.write(json.dumps([done.returncode, done.stdout, done.stderr]).encode())


def serve(port: int) -> None:
    """Run, on the node, what comes in on a port."""
    server = socketserver.ThreadingTCPServer(("", port), _Command)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()


def run(host: str, port: int, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the node that a port leads to."""
    with socket.create_connection((host, port), _HANGS_S) as connection:
        connection.sendall(json.dumps(command).encode() + b"\n")
        with connection.makefile() as answer:
            code, output, errors = json.loads(answer.read())
    return subprocess.CompletedProcess(command, code, output, errors)
