"""The tables of all points; `python -m tests.crash.table` prints docs/crash-points.md."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tests.crash.exploration import WAYS, Outcome

if TYPE_CHECKING:
    from tests.crash.points import Point

TABLES = Path(__file__).parents[2] / "dist" / "crash-points"
_INTRODUCTION = """# Crash points

Plugin and agent, killed before the system calls of an ADD and a DEL that change something; made by
`make crash-points`, see [reliability](reliability.md). On macvlan with `hostAccess` these are all such
calls; on parents that are made for the pod, those by which other processes see parents and links. Each
process was seen to die in the call that its row names. After the kill either DEL comes, or the sandbox
goes, another pod comes, and GC is called.
"""
_HEADER = "| killed before | of | then DEL | then the next ADD and GC |\n|---|---|---|---|"


def write_table(title: str, outcomes: Iterable[Outcome]) -> None:
    words: dict[Point, dict[str, str]] = {}
    for outcome in outcomes:
        words.setdefault(outcome.point, {})[outcome.way] = outcome.words
    rows = [
        f"| {point.name} | {point.about} | {' | '.join(ways.get(way, '') for way in WAYS)} |"
        for point, ways in words.items()
    ]
    TABLES.mkdir(parents=True, exist_ok=True)
    text = "\n".join([f"## {title}", "", _HEADER, *rows, "", ""])
    (TABLES / f"{title.replace(' ', '-')}.md").write_text(text)


if __name__ == "__main__":
    print("".join([_INTRODUCTION, "\n", *(path.read_text() for path in sorted(TABLES.glob("*.md")))]), end="")
