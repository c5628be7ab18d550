"""`python -m conformance SUBJECT.toml ... [--out DIR]`: judge CNI plugins by the specification, and report.

Each subject is put through `conformance/spec`. The report is printed, and written to DIR/report.md beside a
JUnit file for each. The exit status is 1 if a required subject does not pass every test.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from conformance import report
from conformance.spec.subject import ROOT, load


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m conformance", description=(__doc__ or "").split(": ")[1])
    parser.add_argument("subjects", nargs="+", type=Path, metavar="SUBJECT.toml")
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "conformance")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    judged = [_judge(path, arguments.out) for path in arguments.subjects]
    text = report.markdown(judged)
    (arguments.out / "report.md").write_text(text)
    Console().print(Markdown(text))
    wrong = [subject.title for subject in judged if subject.required and not subject.complete]
    for title in wrong:
        print(f"conformance: {title} does not pass every test", file=sys.stderr)
    passed = sum(subject.number(report.Verdict.PASSED) for subject in judged if subject.required)
    print(f"{passed} passed, {len(wrong)} failed")
    return 1 if wrong else 0


def _judge(path: Path, out: Path) -> report.Judged:
    subject = load(path)
    junit = out / f"{subject.name}.xml"
    junit.unlink(missing_ok=True)
    print(f"== {subject.title}", flush=True)
    # Of one that may fail only the report speaks: whoever looks for failures in the output finds ours.
    output = None if subject.required else subprocess.DEVNULL
    subprocess.run(
        [
            *[sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", "--tb=no", "-r", ""],
            *["--subject", str(path), f"--junitxml={junit}", str(ROOT / "conformance" / "spec")],
        ],
        check=False,  # the report tells
        cwd=ROOT,
        stdout=output,
    )
    return report.Judged(subject.title, subject.required, report.read_junit(junit), subject.note)


raise SystemExit(main())
