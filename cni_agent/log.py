"""A line of JSON for each verb."""

import json
import time
from typing import TextIO

from cni_agent.server import Done


class Log:
    """Lines on a stream; one write each, so that they do not mix."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, done: Done) -> None:
        """Tell of one invocation."""
        environ = done.environ
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "plugin": done.plugin,
            "verb": environ.get("CNI_COMMAND", ""),
            "network": done.network,
            "container": environ.get("CNI_CONTAINERID", ""),
            "interface": environ.get("CNI_IFNAME", ""),
            "code": done.code,
            "ms": round(done.seconds * 1e3, 2),
            "stages": {stage: round(seconds * 1e3, 2) for stage, seconds in done.stages},
        }
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()
