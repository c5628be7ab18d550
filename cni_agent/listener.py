"""The socket on which launchers find the agent."""

import contextlib
import os
import socket

_BACKLOG = 4096


class Listener:
    """A socket that is listened on; on a path, unless systemd made it."""

    def __init__(self, listening: socket.socket, path: str = "") -> None:
        self.socket = listening
        self.is_own = bool(path)
        self.path = path or str(listening.getsockname())
        self._inode = os.stat(path).st_ino if path else 0

    def leave(self) -> None:
        """Be found no more, unless another agent is found there already; systemd's socket stays its own."""
        with contextlib.suppress(FileNotFoundError):
            if self.is_own and os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)


def listen(path: str) -> Listener:
    """Listen on a path, in a directory that only root may enter, instead of an agent before."""
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    os.chmod(directory, 0o700)  # whoever made it
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    # A container's processes have the same ids each time: one that was killed here left its name.
    temporary = f"{path}.{os.urandom(4).hex()}"
    listening.bind(temporary)
    os.chmod(temporary, 0o600)
    listening.listen(_BACKLOG)
    os.rename(temporary, path)
    return Listener(listening, path)
