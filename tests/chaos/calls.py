"""Calls of the plugins as a runtime makes them, which may be killed at any moment."""

import json
import subprocess
import tempfile
import time
from typing import NamedTuple

from tests.lab.world import Host, Json

KILLED = -1  # in the place of a CNI code
NO_ANSWER = -2  # neither success nor an error that could be read


class Outcome(NamedTuple):
    """The end of a call: its CNI code, 0 for success, and what it printed."""

    code: int
    text: str

    @property
    def document(self) -> Json:
        document: Json = json.loads(self.text or "{}")
        return document


class Call:
    """One execution of a plugin, started."""

    def __init__(self, host: Host, program: str, verb: str, conf: Json, **variables: str) -> None:
        self.verb = verb
        self._given = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open until the end of the call
        self._given.write(json.dumps(conf))
        self._given.flush()
        self._given.seek(0)
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - the same
        environment = {**host.variables, "CNI_COMMAND": verb, "CNI_PATH": host.cni_path, **variables}
        self._process = host.popen(
            program, env=environment, stdin=self._given, stdout=self._said, stderr=subprocess.DEVNULL
        )
        self._killed = False

    def kill(self) -> bool:
        """Kill it if it still runs; tell whether it did."""
        if self._process.poll() is None:
            self._process.kill()
            self._killed = True
        return self._killed

    def end(self, deadline: float) -> Outcome:
        """Wait for the end; a call that has none by the deadline is killed and has no answer."""
        try:
            status = self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return Outcome(NO_ANSWER, "no end within the deadline")
        self._said.seek(0)
        said = self._said.read()
        self._given.close()
        self._said.close()
        if status == 0:
            return Outcome(0, said)
        if self._killed and status < 0:
            return Outcome(KILLED, said)
        try:
            return Outcome(int(json.loads(said)["code"]), said)
        except (ValueError, KeyError, TypeError):
            return Outcome(NO_ANSWER, f"status {status}: {said}")
