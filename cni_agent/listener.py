"""The socket on which launchers find the agent."""

import contextlib
import os
import socket

_BACKLOG = 4096


class Listener:
    """A listening socket; it has a path of ours unless systemd made it."""

    def __init__(self, listening: socket.socket, path: str = "") -> None:
        self.socket = listening
        self.is_own = bool(path)
        self.path = path or str(listening.getsockname())
        self._inode = os.stat(path).st_ino if path else 0

    def leave(self) -> None:
        """Remove the socket's path, unless another agent listens there already or systemd made the socket."""
        with contextlib.suppress(FileNotFoundError):
            if self.is_own and os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)


def listen(path: str) -> Listener:
    """Listen on a path in a directory that only root may enter, in place of any agent before."""
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    os.chmod(directory, 0o700)  # even if somebody else made it
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    # A container's processes have the same ids each time: a killed one has left its file behind.
    temporary = f"{path}.{os.urandom(4).hex()}"
    listening.bind(temporary)
    os.chmod(temporary, 0o600)
    listening.listen(_BACKLOG)
    os.rename(temporary, path)
    return Listener(listening, path)
