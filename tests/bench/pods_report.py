"""What was measured of pods, as text."""

from tests.bench import report
from tests.bench.pods import Figures


def write(found: Figures) -> None:
    """Write the part of docs/performance.md that is about pods."""
    memory = (f"{when}: {mib:.1f}" for when, mib in found.memory.items())
    text = [
        f"macvlan on a veth uplink; the Go pair is Debian's `macvlan` with `host-local`. {report.machine()}.",
        "One at a time, milliseconds, medians:",
        report.table(["", "", "ADD", "to Go", "DEL", "to Go"], _alone(found)),
        _floor(*found.floor),
        "Many at once, milliseconds from the first start to the last end, and one pod's 99th percentile:",
        report.table(["pods", "", "ADD", "to Go", "ADD p99", "to Go", "DEL", "to Go"], _bursts(found)),
        "Processor time per pod in a burst of 100, the agent's included, milliseconds:",
        report.table(["", "ADD", "to Go", "DEL", "to Go"], _processor(found)),
        "ADD by launcher and agent, and that C program, with pods on the same parent, milliseconds:",
        report.table(["pods", "ADD", "to none", "C program", "to none"], _crowded(found)),
        f"Memory of the agent (PSS; peaks are resident sets; MiB): {'; '.join(memory)}.",
    ]
    report.write("pods", "\n\n".join(text))


def _floor(least: float, add: float, version: float) -> str:
    what = "A static C program that asks the kernel for the same changes, and no more"
    ours = f"launcher and agent need {add:.2f} x of that for an ADD, and {version:.2f} x for a VERSION"
    return f"{what}, needs {report.ms(least)} ms. In turns with it, {ours}, which changes nothing."


def _crowded(found: Figures) -> list[list[str]]:
    alone = found.crowded[0]
    return [
        [str(pods), *(cell for pair in zip(figures, alone, strict=True) for cell in _beside(*pair))]
        for pods, figures in found.crowded.items()
    ]


def _beside(value: float, theirs: float) -> list[str]:
    """Return milliseconds and their ratio to others."""
    return [report.ms(value), f"{value / theirs:.2f}"]


def _alone(found: Figures) -> list[list[str]]:
    rows = []
    for stack, forms in found.alone.items():
        their_add, their_delete = forms["Go pair"]
        for name, (add, delete) in forms.items():
            rows.append([stack, name, *_beside(add, their_add), *_beside(delete, their_delete)])
    return rows


def _bursts(found: Figures) -> list[list[str]]:
    rows = []
    for (name, pods), (add, delete) in found.bursts.items():
        their_add, their_delete = found.bursts["Go pair", pods]
        figures = (
            (add.wall, their_add.wall),
            (add.percentile(99), their_add.percentile(99)),
            (delete.wall, their_delete.wall),
        )
        rows.append([str(pods), name, *(cell for pair in figures for cell in _beside(*pair))])
    return rows


def _processor(found: Figures) -> list[list[str]]:
    their_add, their_delete = found.processor["Go pair"]
    return [
        [name, *_beside(add, their_add), *_beside(delete, their_delete)]
        for name, (add, delete) in found.processor.items()
    ]
