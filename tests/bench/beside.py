"""This build beside an earlier one, in the same run: `make bench BASE=<a checkout that is built>`."""

import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.bench import report
from tests.bench.pods import (
    DIST,
    FLOOR_UPLINK,
    Agent,
    Bench,
    Form,
    compare,
    floor,
    make_uplink,
    processor_time,
    run,
)
from tests.bench.timing import interleaved

SERIES, ROUNDS, BURSTS, PODS = 7, 31, 3, 100  # each series with agents of its own
NEW, OLD = "this build", "base"
_UPLINKS = ("up-old", "up-new", "up-old-c", "up-new-c")


class Row(NamedTuple):
    """One figure of both builds."""

    what: str
    old: float
    new: float
    ratio: float

    @classmethod
    def of(cls, what: str, old: float, new: float) -> "Row":
        return cls(what, old, new, new / old)

    @classmethod
    def median(cls, rows: "list[Row]") -> "Row":
        """Return the medians of a figure; the ratio is that of the ratios: machines vary."""
        old, new, ratio = (
            statistics.median(figures) for figures in zip(*(row[1:] for row in rows), strict=True)
        )
        return cls(rows[0].what, old, new, ratio)


class Build(NamedTuple):
    """One build: its launcher with its agent, and its one-shot plugin."""

    warm: Form
    cold: Form
    agent: Agent


def measure(directory: Path, base: Path, *, quick: bool) -> list[Row]:
    """Return the figures of both builds, which take turns, so that both see the same machine.

    They are medians of several series: one agent is up to six percent faster or slower than the next of the
    same build, by its place in memory.
    """
    bench = Bench(directory, PODS)
    for uplink in (FLOOR_UPLINK, *_UPLINKS):
        make_uplink(uplink)
    seen: dict[str, list[Row]] = {}
    for number in range(2 if quick else SERIES):
        within = directory / str(number)
        within.mkdir()
        for row in _series(bench, within, base, quick=quick):
            seen.setdefault(row.what, []).append(row)
    return [Row.median(rows) for rows in seen.values()]


def _series(bench: Bench, directory: Path, base: Path, *, quick: bool) -> list[Row]:
    builds = {OLD: _build(directory, base / "dist", "old"), NEW: _build(directory, DIST, "new")}
    memory = {name: build.agent.memory_mib() for name, build in builds.items()}
    try:
        rows = list(_rows(bench, builds, 9 if quick else ROUNDS, 1 if quick else BURSTS))
    finally:
        for build in builds.values():
            build.agent.stop()
    after = {name: build.agent.final_mib for name, build in builds.items()}
    return [*rows, Row.of("agent, idle, MiB", *_pair(memory)), Row.of("agent, peak, MiB", *_pair(after))]


def _build(directory: Path, dist: Path, name: str) -> Build:
    launcher = directory / name / "cni-vlan"
    launcher.parent.mkdir()
    shutil.copy2(dist / "launcher", launcher)
    socket = directory / name / "agent.sock"
    environ = (("CNI_VLAN_SOCKET", str(socket)), ("CNI_VLAN_BUNDLE", str(dist / "bundle")))
    forms = [
        Form(f"{name} warm", launcher, f"up-{name}", environ=environ),
        Form(f"{name} cold", dist / "bundle" / "cni-vlan", f"up-{name}-c"),
    ]
    return Build(forms[0], forms[1], Agent(dist / "bundle" / "cni-agent", socket))


def _pair(figures: dict[str, float]) -> tuple[float, float]:
    return figures[OLD], figures[NEW]


def _rows(bench: Bench, builds: dict[str, Build], rounds: int, bursts: int) -> Iterator[Row]:
    cases = {build.warm.name: bench.one_at_a_time(build.warm, "IPv4") for build in builds.values()}
    least = interleaved({**cases, "floor": floor(bench, FLOOR_UPLINK)}, rounds)
    yield Row.of("ADD, in floors", *(least[name][0] / least["floor"][0] for name in cases))
    for stack, share in (("IPv4", 1), ("dual stack", 3)):
        forms = [build.warm for build in builds.values()]
        found = compare(bench, forms, stack, rounds // share)
        for at, verb in enumerate(("ADD", "DEL")):
            yield Row.of(f"{verb}, {stack}", *(found[form.name][at] for form in forms))
    cold = [build.cold for build in builds.values()]
    found = compare(bench, cold, "IPv4", max(1, rounds // 3))
    for at, verb in enumerate(("ADD", "DEL")):
        yield Row.of(f"{verb}, one-shot", *(found[form.name][at] for form in cold))
    yield from _burst_rows(bench, builds, bursts)


def _burst_rows(bench: Bench, builds: dict[str, Build], bursts: int) -> Iterator[Row]:
    """Yield wall time and processor time of bursts of as many pods as there are."""
    seen: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _round in range(bursts):
        for name, build in builds.items():
            for verb in ("ADD", "DEL"):
                with processor_time(build.agent, PODS) as spent:
                    wall = bench.burst(build.warm, verb, PODS).wall
                seen.setdefault((verb, name), []).append((wall, spent[0]))
    for verb in ("ADD", "DEL"):
        for at, what in enumerate(("wall", "processor, each")):
            medians = (statistics.median(one[at] for one in seen[verb, name]) for name in (OLD, NEW))
            yield Row.of(f"{verb}, {PODS} at once, {what}", *medians)


def table(rows: list[Row], base: Path) -> str:
    """Return the figures as a table."""
    commit = run("git", "-C", str(base), "rev-parse", "--short", "HEAD").strip()
    cells = [[row.what, report.ms(row.old), report.ms(row.new), f"{row.ratio:.2f}"] for row in rows]
    return report.table(["milliseconds, medians", commit, NEW, "ratio"], cells)


def write(shown: str) -> None:
    """Write the part of docs/performance.md that is about an earlier build."""
    report.write("beside", f"{report.machine()}.\n\n{shown}")
