"""Pods on VLANs and on ipvlan, in a lab node, whose kernel has both; everything is ten times slower there.

`measure` runs this module on a node, where it prints its figures as JSON in the last line.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench import report
from tests.bench.pods import GO, GO_IPVLAN, Agent, Bench, Form, compare, make_uplink, run
from tests.bench.timing import call, interleaved, timed, write_conf

ROOT = Path(__file__).parents[2]
PARENTS = (1, 100, 1000)
Figures = dict[str, Any]


def measure() -> Figures:
    """Boot a node and measure there."""
    command = [
        sys.executable,
        "-m",
        "tests.lab",
        "--mode",
        "node",
        "--",
        "python3",
        "-m",
        "tests.bench.vlans",
    ]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def on_node(directory: Path) -> Figures:
    launcher = directory / "bin" / "cni-vlan"
    launcher.parent.mkdir()
    launcher.write_bytes((ROOT / "dist" / "launcher").read_bytes())
    launcher.chmod(0o755)
    for uplink in ("go0", "our0", "go1", "our1"):
        make_uplink(uplink)
    run("ip", "link", "add", "go0.10", "link", "go0", "type", "vlan", "id", "10")
    run("ip", "link", "set", "go0.10", "up")
    bench = Bench(directory, 20)
    residents = iter(bench.pods[11:])
    agent = Agent(Path(os.environ["LAB_CNI_BIN"]) / "cni-agent")
    ours = Form("launcher + agent", launcher, "our0.10")
    kinds = {
        "macvlan on a VLAN": [Form("Go pair", GO, "go0.10"), ours],
        "ipvlan L2": [
            Form("Go pair", GO_IPVLAN, "go1", "l2"),
            Form("launcher + agent", launcher, "our1", "l2"),
        ],
    }
    alone = {}
    for kind, forms in kinds.items():
        for form in forms:  # a pod that stays, so that the VLAN does
            timed(bench.verb(form, "IPv4", "ADD", next(residents)))
        alone[kind] = compare(bench, forms, "IPv4", 11)
    crowded = with_parents(bench, ours)
    agent.stop()
    return {"alone": alone, "parents": crowded}


def with_parents(bench: Bench, form: Form) -> dict[int, float]:
    """Return the milliseconds of an ADD by the number of VLAN parents, each with a pod interface."""
    found: dict[int, float] = {}
    there = 1
    for parents in PARENTS:
        for number in range(there, parents):
            uplink = f"our0.{100 + number}"
            conf = write_conf(bench.directory, form._replace(uplink=uplink).conf("IPv4"))
            netns = f"/run/netns/{bench.pods[-1]}"
            timed(call(form.executable, "ADD", conf, f"many{number}", netns, f"v{number}"))
            conf.unlink()
        there = parents
        found[parents] = interleaved({"": bench.one_at_a_time(form, "IPv4", bench.pods[0])}, 11)[""][0]
    return found


def write(found: Figures) -> None:
    """Write the part of docs/performance.md that is about VLANs and ipvlan."""
    rows = []
    for kind, forms in found["alone"].items():
        their_add, their_delete = forms["Go pair"]
        for name, (add, delete) in forms.items():
            ratios = f"{add / their_add:.2f}", f"{delete / their_delete:.2f}"
            rows.append([kind, name, report.ms(add), ratios[0], report.ms(delete), ratios[1]])
    base = found["parents"]["1"]
    parents = (f"{count}: {report.ms(ms)} ms ({ms / base:.2f})" for count, ms in found["parents"].items())
    text = [
        "In a lab node (QEMU without hardware virtualisation, Debian's kernel); milliseconds, medians.",
        "On a VLAN the Go plugin uses a link made by hand, cni-vlan one of its own; a pod is there already.",
        report.table(["", "", "ADD", "to Go", "DEL", "to Go"], rows),
        f"ADD with so many VLAN parents on the uplink, a pod interface on each: {'; '.join(parents)}.",
    ]
    report.write("vlans", "\n\n".join(text))


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        os.environ["CNI_VLAN_BUNDLE"] = os.environ["LAB_CNI_BIN"]
        for path in ("/run/netns", "/run/cni-vlan"):
            Path(path).mkdir(exist_ok=True)
        print(json.dumps(on_node(Path(name))))
