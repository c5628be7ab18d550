"""What `make build` packs."""

import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"


def only(pattern: str) -> Path:
    (path,) = DIST.glob(pattern)
    return path


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_checksums_are_those_of_every_artefact() -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=DIST, check=True)

    listed = {line.split()[1] for line in (DIST / "SHA256SUMS").read_text().splitlines()}
    assert {Path(name).suffix for name in listed} == {".gz", ".deb", ".whl", ".json"}


def test_the_archive_has_one_directory_of_roots_own() -> None:
    with tarfile.open(only("cni-vlan-[0-9]*-linux-*.tar.gz")) as archive:
        members = archive.getmembers()

    top = only("cni-vlan-[0-9]*-linux-*.tar.gz").name.removesuffix(".tar.gz")
    names = {member.name for member in members}
    assert all(name == top or name.startswith(f"{top}/") for name in names)
    assert {(member.uid, member.gid) for member in members} == {(0, 0)}
    for needed in ("cni-vlan", "cni-ipam", "cni-agent", "launcher", "runtime"):
        assert f"{top}/bundle/{needed}" in names
    assert f"{top}/manifests/kubernetes/base/daemonset.yaml" in names
    assert f"{top}/LICENSE" in names


def test_the_same_commit_gives_the_same_archive() -> None:
    before = only("cni-vlan-[0-9]*-linux-*.tar.gz").read_bytes()

    subprocess.run([ROOT / "tools" / "package"], check=True)

    assert only("cni-vlan-[0-9]*-linux-*.tar.gz").read_bytes() == before


@pytest.mark.parametrize(("architecture", "machine"), [("amd64", 62), ("arm64", 183)])
def test_the_launcher_is_there_for_both_architectures(architecture: str, machine: int) -> None:
    with tarfile.open(only(f"launcher-*-linux-{architecture}.tar.gz")) as archive:
        (member,) = [member for member in archive.getmembers() if member.name.endswith("/launcher")]
        program = archive.extractfile(member)
        assert program is not None
        header = program.read(20)

    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], "little") == machine  # e_machine, elf(5)
    assert member.mode & 0o111
    assert member.size < 100 * 1024


def test_the_debian_package_has_bundle_units_and_what_it_needs() -> None:
    package = str(only("*.deb"))

    fields = output("dpkg-deb", "--field", package)
    contents = output("dpkg-deb", "--contents", package)

    assert re.search(r"^Depends: libc6 \(>= [0-9.]+\), zlib1g$", fields, re.MULTILINE)
    for path in ("./usr/lib/cni-vlan/bundle/launcher", "./lib/systemd/system/cni-agent.socket"):
        assert path in contents


def test_the_bill_of_materials_has_every_library_with_its_hashes() -> None:
    bill = json.loads((DIST / "cni-vlan.cdx.json").read_text())

    pins = re.findall(r"^([\w-]+)==(\S+)", (ROOT / "requirements-run.lock").read_text(), re.MULTILINE)
    listed = {(part["name"], part["version"]): part for part in bill["components"]}
    assert bill["metadata"]["component"]["name"] == "cni-vlan"
    assert set(pins) == set(listed)
    assert all(part["purl"].startswith("pkg:pypi/") for part in listed.values())
    assert all(
        any(reference.get("hashes") for reference in part["externalReferences"]) for part in listed.values()
    )


def test_the_wheel_brings_the_commands(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(tmp_path), str(only("*.whl"))], check=True)

    environment = f"PYTHONPATH={tmp_path}"
    shown = output("env", "-C", str(tmp_path), environment, sys.executable, "-m", "cni_vlan", "--help")

    assert "doctor" in shown
    assert {path.name for path in (tmp_path / "bin").iterdir()} == {"cni-vlan", "cni-ipam", "cni-agent"}


@pytest.mark.parametrize("name", ["cni-vlan", "cni-ipam", "cni-agent"])
def test_the_bundle_s_tools_say_what_they_are_for(name: str) -> None:
    assert f"Usage: {name}" in output(str(DIST / "bundle" / name), "--help")
