"""A node of the simulation: a runtime, the plugin and the agent's task in one process, killed at any time.

Run as `python -m tests.cluster.sim_node NAME OPERATIONS SEED DATA_DIR CONFIGURATION`. It appends a line to
its journal before and after each call, so that the process that follows a killed one knows its pods, as a
runtime does.
"""

import json
import os
import random
import sys
import threading
import time
from pathlib import Path

from cni_agent.claimer import Claimer
from cni_core.errors import TryAgainLater
from tests.store.ipam import Ipam, Json

PODS_MOST = 12  # of a node; a block has 16 addresses
RETRY_S = 0.05  # a runtime does not try again at once
BATCH = 25  # calls in a phase in which pods come, or go


class SimNode:
    def __init__(self, name: str, seed: str, data_dir: Path, conf: Json) -> None:
        self.dice = random.Random(f"{seed} {name} {os.getpid()}")  # noqa: S311 - a test's dice
        self.ipam = Ipam(Path("cni-ipam"), data_dir)
        self.ipam.conf = conf
        self.name = name
        self.journal = os.open(data_dir / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.held: dict[str, str] = {}  # pod to address; "" if the end of its ADD is unknown
        self.done = 0
        self.recall(data_dir / "journal")

    def recall(self, journal: Path) -> None:
        for line in journal.read_text().splitlines():
            event = json.loads(line)
            self.done += event["at"] == "end"
            match event["verb"], event["at"]:
                case "ADD", "begin":
                    self.held[event["pod"]] = ""
                case "ADD", "end" if event["code"] == 0:
                    self.held[event["pod"]] = event["address"]
                case "DEL", "end" if event["code"] == 0:
                    self.held.pop(event["pod"], None)
                case _:
                    pass

    def step(self, *, coming: bool) -> None:
        unknown = [pod for pod, address in self.held.items() if not address]
        if unknown:
            self.call("DEL", unknown[0])
        elif coming and len(self.held) < PODS_MOST:
            self.call("ADD", f"{self.name}-{os.getpid()}-{self.done}")
        elif self.held:
            self.call("DEL", self.dice.choice(list(self.held)))

    def call(self, verb: str, pod: str) -> None:
        self.tell(verb, pod, "begin")
        if verb == "ADD":
            self.held[pod] = ""
        started = time.monotonic()
        reply = self.ipam.warm(verb, pod)
        seconds = time.monotonic() - started
        address = reply.addresses[0] if verb == "ADD" and reply.status == 0 else self.held.get(pod, "")
        self.tell(verb, pod, "end", code=reply.code, address=address, seconds=seconds)
        self.done += 1
        if reply.code == TryAgainLater.code:
            time.sleep(RETRY_S)
        if verb == "ADD" and reply.status == 0:
            self.held[pod] = address
        elif verb == "DEL" and reply.status == 0:
            self.held.pop(pod, None)

    def tell(self, verb: str, pod: str, at: str, **more: object) -> None:
        event = {"time": time.monotonic_ns(), "node": self.name, "verb": verb, "pod": pod, "at": at, **more}
        os.write(self.journal, json.dumps(event).encode() + b"\n")


def main() -> None:
    name, operations, seed, data_dir, conf = sys.argv[1:]
    claimer = Claimer(
        lambda text: print(text, file=sys.stderr, flush=True), data_dir, contact_s=0.5, empty_s=0.5
    )
    threading.Thread(target=claimer.run, daemon=True).start()
    node = SimNode(name, seed, Path(data_dir), json.loads(conf))
    while node.done < int(operations):
        node.step(coming=node.dice.random() < (0.7 if node.done // BATCH % 2 else 0.3))
        claimer.wake()
    while node.held:
        node.call("DEL", next(iter(node.held)))
    claimer.stop()


if __name__ == "__main__":
    main()
