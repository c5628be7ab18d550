"""The example networks are valid, and what is not valid is told so."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRIMARY = ROOT / "manifests" / "kubernetes" / "overlays" / "primary" / "10-pods.conflist"
EXAMPLES = [*sorted((ROOT / "manifests" / "networks").iterdir()), PRIMARY]


def validate(*files: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cni_vlan", "validate", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_valid_and_has_no_unknown_key(path: Path) -> None:
    done = validate(path)

    assert (done.returncode, done.stdout, done.stderr) == (0, f"{path}: valid\n", "")


def test_every_problem_of_every_file_is_told(tmp_path: Path) -> None:
    bad = tmp_path / "bad.conf"
    ipam = {"type": "cni-ipam", "subnets": [{"subnet": "10.0.0.1/24"}]}
    bad.write_text(json.dumps({"name": "x", "type": "cni-vlan", "mode": "bridged", "mtu": -1, "ipam": ipam}))
    other = tmp_path / "other.conf"
    other.write_text('{"name": "x", "type": "bridge"}')

    done = validate(bad, other, EXAMPLES[0])

    assert done.returncode == 1
    assert done.stdout == f"{EXAMPLES[0]}: valid\n"
    lines = done.stderr.splitlines()
    assert any("mode" in line and "bridged" in line for line in lines)
    assert any("mtu" in line for line in lines)
    assert any("10.0.0.1/24" in line for line in lines)
    assert f"{other}: no plugin in it has the type cni-vlan" in lines
    assert lines[-1] == "Error: 2 of 3 files are not valid"


def test_a_gateway_outside_of_its_subnet_is_valid_and_told(tmp_path: Path) -> None:
    path = tmp_path / "far.conf"
    subnet = {"subnet": "10.0.0.0/24", "gateway": "10.9.9.9"}
    ipam = {"type": "cni-ipam", "subnets": [subnet]}
    path.write_text(json.dumps({"cniVersion": "1.0.0", "name": "x", "type": "cni-vlan", "ipam": ipam}))

    done = validate(path)

    assert (done.returncode, done.stdout) == (0, f"{path}: valid\n")
    assert "gateway 10.9.9.9 is outside of subnet 10.0.0.0/24" in done.stderr
