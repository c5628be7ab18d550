"""The report of a conformance run, from the JUnit files that its test runs wrote."""

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

_LONGEST = 150


class Verdict(Enum):
    """What became of a test."""

    PASSED = "passed"
    FAILED = "**failed**"
    UNSUPPORTED = "not supported"


class Outcome(NamedTuple):
    verdict: Verdict
    reason: str = ""


class Judged(NamedTuple):
    """A subject and what became of each test; a test is named by section and title."""

    title: str
    required: bool
    outcomes: Mapping[tuple[str, str], Outcome]
    note: str = ""

    def number(self, verdict: Verdict, section: str = "") -> int:
        return sum(
            outcome.verdict is verdict and section in ("", name[0]) for name, outcome in self.outcomes.items()
        )

    @property
    def complete(self) -> bool:
        """Whether every test passed."""
        return self.number(Verdict.PASSED) == len(self.outcomes) > 0


def read_junit(path: Path) -> dict[tuple[str, str], Outcome]:
    """Return what a JUnit file says of each test."""
    return {
        (_words(case.get("classname", "").rpartition("test_")[2]), _title(case.get("name", ""))): _outcome(
            case
        )
        for case in ET.parse(path).iter("testcase")  # noqa: S314 - written by our own run
    }


def _words(name: str) -> str:
    return name.replace("_", " ").strip()


def _title(name: str) -> str:
    function, bracket, parameters = name.removeprefix("test_").partition("[")
    return _words(function) + (f" [{parameters}" if bracket else "")


def _outcome(case: ET.Element) -> Outcome:
    for kind, verdict in (
        ("failure", Verdict.FAILED),
        ("error", Verdict.FAILED),
        ("skipped", Verdict.UNSUPPORTED),
    ):
        found = case.find(kind)
        if found is not None:
            message = " ".join(found.get("message", "").split()).removeprefix("AssertionError: ")
            words, _assert, expression = message.partition("assert ")  # pytest explains what it evaluated
            return Outcome(verdict, (words.strip() or expression)[:_LONGEST])
    return Outcome(Verdict.PASSED)


def markdown(subjects: Sequence[Judged]) -> str:
    """Return the report; the first subject is compared with each other one."""
    lines = ["# Conformance to the CNI specification 1.1.0", ""]
    lines += [
        "`make conformance` writes this page: `conformance/spec`, judged from outside.",
        "",
        "| section |",
    ]
    lines[-1] += "".join(f" {subject.title} |" for subject in subjects)
    lines.append("|---|" + "---|" * len(subjects))
    sections = sorted({section for subject in subjects for section, _title in subject.outcomes})
    for section in [*sections, ""]:
        cells = " | ".join(_counts(subject, section) for subject in subjects)
        lines.append(f"| {section or '**all**'} | {cells} |")
    for note in dict.fromkeys(subject.note for subject in subjects if subject.note):
        lines += ["", note]
    for other in subjects[1:]:
        lines += _differences(subjects[0], other)
    for subject in subjects:
        if subject.required:
            lines += _failures(subject)
    return "\n".join([*lines, ""])


def _counts(subject: Judged, section: str) -> str:
    counts = [(verdict, subject.number(verdict, section)) for verdict in Verdict]
    return ", ".join(f"{number} {verdict.value}" for verdict, number in counts if number) or "none"


def _differences(ours: Judged, other: Judged) -> list[str]:
    """Return what one passes and the other does not, both ways."""
    lines: list[str] = []
    for one, two in ((ours, other), (other, ours)):
        names = [
            name
            for name, outcome in one.outcomes.items()
            if outcome.verdict is Verdict.PASSED and two.outcomes[name].verdict is not Verdict.PASSED
        ]
        lines += ["", f"## {one.title} passes, {two.title} does not: {len(names)}", ""]
        unsupported = sum(two.outcomes[name].verdict is Verdict.UNSUPPORTED for name in names)
        if unsupported:
            lines.append(f"- of a version that it does not support: {unsupported}")
        failed = [name for name in names if two.outcomes[name].verdict is Verdict.FAILED]
        groups = Counter((*_without_parameters(name), two.outcomes[name].reason) for name in failed)
        lines += [
            f"- {section}: {title}, {count} of them: {reason}"
            for (section, title, reason), count in sorted(groups.items())
        ]
    return lines


def _without_parameters(name: tuple[str, str]) -> tuple[str, str]:
    return name[0], name[1].partition(" [")[0]


def _failures(subject: Judged) -> list[str]:
    failed = [(name, o) for name, o in subject.outcomes.items() if o.verdict is Verdict.FAILED]
    if not failed:
        return []
    return [
        "",
        f"## What {subject.title} fails",
        "",
        *(f"- {section}: {title}: {outcome.reason}" for (section, title), outcome in failed),
    ]
