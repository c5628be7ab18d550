"""A line of JSON for each verb."""

import json
import os
import select
import threading
import time
from typing import Any

from cni_agent.server import Report

_LINE_MOST = select.PIPE_BUF  # a writable pipe has room for this many bytes


class Log:
    """Lines on a descriptor; one write each, so that they do not mix.

    The agent never waits for a reader: without room, lines are left out, and counted in the next one written.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._left_out = 0
        self._guard = threading.Lock()

    def write(self, report: Report) -> None:
        """Write the line of one verb."""
        environ = report.environ
        line = {
            "time": _now(),
            "plugin": report.plugin,
            "verb": environ.get("CNI_COMMAND", ""),
            "network": report.network,
            "container": environ.get("CNI_CONTAINERID", ""),
            "interface": environ.get("CNI_IFNAME", ""),
            "code": report.code,
            "ms": round(report.seconds * 1e3, 2),
            "stages": {stage: round(seconds * 1e3, 2) for stage, seconds in report.stages},
        }
        self._write(line)

    def fault(self, text: str) -> None:
        """Write a line about a fault of this installation."""
        self._write({"time": _now(), "fault": text})

    def _write(self, line: dict[str, Any]) -> None:
        with self._guard:  # no other write between the check for room and this one
            if self._left_out:
                line["left out before"] = self._left_out
            data = json.dumps(line).encode() + b"\n"
            try:
                fits = len(data) <= _LINE_MOST and self._has_room()
                written = bool(fits and os.write(self._descriptor, data))
            except OSError:
                written = False
            self._left_out = 0 if written else self._left_out + 1

    def _has_room(self) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return any(event & select.POLLOUT for _descriptor, event in poll.poll(0))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
