"""Leasing from a pool that nodes share, beside one of this node alone; with the store, and without it."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cni_agent.claimer import Claimer
from cni_agent.cluster_tasks import CONTACT_S
from tests.bench import report
from tests.cluster.etcds import Etcds
from tests.cluster.nodes import Node
from tests.lab.waiting import wait_until
from tests.store.ipam import Ipam

POOL = "10.64.0.0/16"
_PACE_S = 0.01  # a pod of a busy node every 10 ms


class Row(NamedTuple):
    """Milliseconds of an ADD."""

    median: float
    p99: float


Found = dict[str, dict[str, Row]]


def measure(executable: Path, directory: Path, *, pods: int) -> Found:
    """Measure ADDs in a warm process, in turns: each beside a DEL, and of more and more pods."""
    with Etcds() as etcd:
        local = Ipam(executable, directory / "local", POOL)
        shared = Node(executable, directory, etcd.conf(), "n1", POOL)
        claimer = Claimer(lambda text: print(text, flush=True), str(shared.data_dir), contact_s=CONTACT_S)
        threading.Thread(target=claimer.run, daemon=True).start()
        sides: dict[str, tuple[Ipam, Callable[[], None]]] = {
            "this node's pool": (local, lambda: None), "a shared pool": (shared, claimer.wake),
        }  # fmt: skip
        for side, _wake in sides.values():
            assert side.warm("ADD", "first").status == 0
        found = {"coming and going": _rows({n: list(_pairs(s, pods)) for n, (s, _w) in sides.items()})}
        growing: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(pods):
            for name, (side, wake) in sides.items():
                growing[name].append(_add(side, f"grow{number}"))
                wake()
            time.sleep(_PACE_S)  # the pace of a node, as measured
        found["more and more"] = _rows(growing)
        wait_until(lambda: len(shared.blocks()) * 16 > pods + 4)
        claimer.stop()
        etcd.kill(0)
        away = {name: list(_pairs(side, pods)) for name, (side, _wake) in sides.items()}
        found["coming and going, the store stopped"] = _rows(away)
    return found


def _pairs(side: Ipam, pods: int) -> Iterator[float]:
    for number in range(pods):
        yield _add(side, f"x{number}")
        assert side.warm("DEL", f"x{number}").status == 0


def _add(side: Ipam, pod: str) -> float:
    started = time.perf_counter()
    reply = side.warm("ADD", pod)
    milliseconds = (time.perf_counter() - started) * 1e3
    assert reply.status == 0, reply
    return milliseconds


def _rows(times: dict[str, list[float]]) -> dict[str, Row]:
    return {name: Row(statistics.median(t), sorted(t)[len(t) * 99 // 100]) for name, t in times.items()}


def write(found: Found) -> None:
    """Write the part of docs/performance.md that is about clusters."""
    header = ["ADD, warm", "this node's pool: median / p99", "a shared pool: median / p99", "ratio"]
    rows = []
    for name, sides in found.items():
        local, shared = sides.values()
        ratio = f"{shared.median / local.median:.2f} / {shared.p99 / local.p99:.2f}"
        cells = [f"{report.ms(row.median)} / {report.ms(row.p99)}" for row in (local, shared)]
        rows.append([name, *cells, ratio])
    text = f"Milliseconds. etcd of one member on the same machine, its data in memory. {report.machine()}."
    report.write("cluster", f"{text}\n\n{report.table(header, rows)}")
