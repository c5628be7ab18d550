"""A runtime's worker: random verbs for its own pods, some killed, and a record of what it saw.

Run as `python -m tests.store.worker NAME CALLS CONFIGURATION`; prints a JSON line for each call.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from tests.store.ipam import Ipam, Reply

PODS = 2
KILLED = 0.2  # of the calls
LONGEST_LIFE_S = 0.003  # of one that is killed; a call takes about 1 ms


class Worker:
    def __init__(self, name: str, conf: str) -> None:
        self.name = name
        self.dice = random.Random(name)  # noqa: S311 - a test's dice, the same in each run
        self.ipam = Ipam(Path("cni-ipam"), Path())
        self.ipam.conf = json.loads(conf)
        self.held: dict[str, str] = {}  # pod to address; "" if its ADD was killed or failed
        self.calls = 0

    def step(self) -> None:
        pod = f"{self.name}-{self.dice.randrange(PODS)}"
        if pod not in self.held:
            reply = self.call("ADD", pod)
            self.held[pod] = reply.addresses[0] if reply and not reply.status else ""
        elif self.held[pod] and self.dice.random() < 0.3:
            self.call("CHECK", pod)
        else:
            while (reply := self.call("DEL", pod)) is None:
                pass  # a runtime goes on until it succeeds
            del self.held[pod]

    def call(self, verb: str, pod: str) -> Reply | None:
        """Run a verb in a process of its own; None if it was killed before it answered."""
        ips = [{"address": self.held.get(pod, "")}]
        extra = {"prevResult": {"cniVersion": "1.1.0", "ips": ips}} if verb == "CHECK" else {}
        reading, writing = os.pipe()
        started = time.monotonic_ns()
        child = os.fork()
        if not child:
            reply = self.ipam.warm(verb, pod, extra)
            os.write(writing, json.dumps(reply).encode())
            os._exit(0)
        os.close(writing)
        if self.dice.random() < KILLED:
            time.sleep(self.dice.uniform(0, LONGEST_LIFE_S))
            os.kill(child, signal.SIGKILL)
        text = os.read(reading, 65536)
        os.close(reading)
        os.waitpid(child, 0)
        answer = Reply(*json.loads(text)) if text else None
        self.tell(started, verb, pod, answer)
        return answer

    def tell(self, started: int, verb: str, pod: str, reply: Reply | None) -> None:
        self.calls += 1
        given = reply.addresses[0] if reply and verb == "ADD" and not reply.status else None
        record = {
            "start": started, "end": time.monotonic_ns(), "verb": verb, "pod": pod,
            "code": None if reply is None else reply.code, "address": given or self.held.get(pod),
        }  # fmt: skip
        print(json.dumps(record))


def main() -> None:
    name, calls, conf = sys.argv[1:]
    worker = Worker(name, conf)
    while worker.calls < int(calls):
        worker.step()


if __name__ == "__main__":
    main()
