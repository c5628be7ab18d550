"""What many nodes ask of one etcd: at the boot of all, while pods come, and idle.

`python -m tests.cluster.traffic --nodes 1000` runs the real plugin and the agent's task for each node, one
after the other in one process, and counts at etcd: the requests, and what they cost it.
"""

import argparse
import resource
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cni_agent.claimer import Claimer
from cni_core.errors import TryAgainLater
from tests.cluster.etcds import Etcds
from tests.cluster.nodes import Node

POOL = "10.64.0.0/14"
TRIES = 5
PODS = 16  # of a node: one block more than that of its boot


class Cost(NamedTuple):
    requests: float
    processor_ms: float
    kilobytes: float

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(*(a - b for a, b in zip(self, other, strict=True)))


def cost(etcd: Etcds) -> Cost:
    """Return what etcd has done so far, by its own counts."""
    requests = processor = sent = 0.0
    with urllib.request.urlopen(etcd.metrics_url) as answer:  # noqa: S310 - ours
        for line in answer.read().decode().splitlines():
            name, _space, value = line.rpartition(" ")
            if name.startswith("grpc_server_handled_total") and '"OK"' in name:
                requests += float(value)
            elif name == "process_cpu_seconds_total":
                processor = float(value) * 1e3
            elif name == "etcd_network_client_grpc_sent_bytes_total":
                sent = float(value) / 1e3
    return Cost(requests, processor, sent)


def measured(etcd: Etcds, words: str, nodes: int, work: Callable[[], object]) -> None:
    before = cost(etcd)
    work()
    found = cost(etcd) - before
    each = [value / nodes for value in found]
    print(
        f"{words:28}{each[0]:8.1f} requests{each[1]:8.1f} ms of etcd{each[2]:9.1f} kB, for each node",
        flush=True,
    )


def add(node: Node, pod: str) -> None:
    """Start a pod as a runtime does: an error 11 is tried again."""
    reply = node.warm("ADD", pod)
    for _try in range(TRIES):
        if reply.code != TryAgainLater.code:
            break
        print(reply.document)
        reply = node.warm("ADD", pod)
    assert reply.status == 0, reply


def run(count: int) -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a connection each
    with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch, Etcds() as etcd:
        executable = Path(sys.executable).with_name("cni-ipam")
        names = [f"n{n:04}.example" for n in range(count)]
        # A file that nobody reads over http, so that each node has an engine of its own in this process.
        confs = [etcd.conf(ca_file=f"/none/{name}") for name in names]
        nodes = [
            Node(executable, Path(scratch), conf, name, POOL) for conf, name in zip(confs, names, strict=True)
        ]
        tasks = [Claimer(print, str(node.data_dir), contact_s=0) for node in nodes]

        def boot() -> None:
            for node, task in zip(nodes, tasks, strict=True):
                add(node, "first")
                task.look_after()

        def look() -> None:
            for task in tasks:
                task.look_after()

        def come() -> None:
            for node, task in zip(nodes, tasks, strict=True):
                for pod in range(PODS):
                    add(node, f"p{pod}")
                task.look_after()

        measured(etcd, "boot and first pod", count, boot)
        measured(etcd, "first news", count, look)
        measured(etcd, "idle, each 30 s", count, look)
        measured(etcd, f"{PODS} pods come, and news", count, come)
        measured(etcd, "idle, each 30 s", count, look)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    run(parser.parse_args().nodes)


if __name__ == "__main__":
    main()
