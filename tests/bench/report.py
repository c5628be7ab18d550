"""docs/performance.md: each part of it between two marks is what a part of the bench measured."""

import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def ms(value: float) -> str:
    """Milliseconds in three digits."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def machine() -> str:
    """Say what the figures come from."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", info)
    cores = info.count("processor\t")
    name = model[1] if model else platform.machine()
    return f"{cores} x {name}, Linux {platform.release()}, Python {platform.python_version()}"


def write(part: str, text: str) -> None:
    """Replace a part of the document."""
    path = DOCS / "performance.md"
    before, after = f"<!-- {part} -->\n", f"<!-- end of {part} -->"
    document = path.read_text()
    start, end = document.index(before) + len(before), document.index(after)
    path.write_text(f"{document[:start]}\n{text}\n\n{document[end:]}")


def plot(name: str, title: str, x: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Draw milliseconds over what is varied into docs/<name>.svg."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = name  # so that the same figures give the same file
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for label, points in lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=label)
    axes.set(title=title, xlabel=x, ylabel="ms", yscale="log")
    axes.set_xscale("symlog", linthresh=1000)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(DOCS / f"{name}.svg", metadata={"Date": None})
