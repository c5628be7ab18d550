"""The protocols between systemd and a service: sd_notify(3) and sd_listen_fds(3)."""

import os
import socket

_FIRST = 3  # SD_LISTEN_FDS_START


def activated_socket() -> socket.socket | None:
    """Return the socket that systemd listened on for us, None if it did not."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        return None
    os.set_inheritable(_FIRST, False)  # noqa: FBT003 - its only parameter
    return socket.socket(fileno=_FIRST)


def notify(state: str) -> None:
    """Report a state to systemd, if it asked for that."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(state.encode(), address)
