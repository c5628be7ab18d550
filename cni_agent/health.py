"""The health check of the agent: VERSION, requested through its own socket as by a launcher."""

import socket

from cni_agent import protocol

_WITHIN_S = 1.0


def problem(path: str) -> str:
    """Return the fault of the agent that listens on a path, "" if there is none."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
            connection.settimeout(_WITHIN_S)
            connection.connect(path)
            connection.sendall(protocol.version_request())
            status = protocol.receive_status(connection)
            return (
                ""
                if status in {0, protocol.DECLINED}
                else f"{path}: unexpected status {status} in the answer to VERSION"
            )
    except (OSError, protocol.ProtocolError) as error:
        return f"{path}: {error}"
