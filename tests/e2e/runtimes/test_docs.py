"""The commands of the documents, as they stand there, on a node."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.runtimes import bare
from tests.e2e.runtimes.bare import ROOT, links, run
from tests.e2e.runtimes.image import write_image
from tests.e2e.runtimes.installed import DIST, Containerd

PROJECT = Path(__file__).parents[3]
BLOCK = re.compile(r"^```sh *(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BUSYBOX = "docker.io/library/busybox:latest"
# In this order; what each needs to be there.
RUN = {
    "quickstart.md": "",
    "operations.md": "",
    "coming-from-the-reference-plugins.md": (
        "cp 10-vlan50.conflist /etc/cni/net.d/; mkdir -p /var/lib/cni/networks/vlan50;"
        " printf 'old\\neth0' > /var/lib/cni/networks/vlan50/192.168.50.200"
    ),
}
ELSEWHERE = {"cluster", "project"}  # needs a cluster; is for a checkout of the project
HERE = {"", "podman4"} if bare.podman_has_cni() else {""}


def blocks(document: Path) -> list[tuple[str, str]]:
    """The blocks of shell commands, with their marks."""
    return BLOCK.findall(document.read_text())


def test_every_block_is_run_or_marked() -> None:
    documents = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *(PROJECT / "docs").glob("*.md")]
    marks = {mark for document in documents for mark, _commands in blocks(document)}
    run_here = {document.name for document in documents if any(not mark for mark, _c in blocks(document))}

    assert marks == {"", "podman4", *ELSEWHERE}
    assert run_here == set(RUN)


@pytest.fixture
def desk(node: Path, containerd: Containerd, agent: None) -> Iterator[Path]:
    """Where somebody sits who has downloaded all of `dist/`, with images that need no registry."""
    del containerd, agent
    place = node / "desk"
    place.mkdir()
    for path in DIST.iterdir():
        if path.is_file():
            shutil.copy(path, place)
    write_image(place / "busybox.tar", BUSYBOX)
    run("ctr", "images", "import", place / "busybox.tar")
    if "podman4" in HERE:
        settings = ROOT / "etc/containers/containers.conf"
        settings.write_text('[network]\nnetwork_backend = "cni"\n[engine]\ncgroup_manager = "cgroupfs"\n')
        run("podman", "load", "--input", place / "busybox.tar")
    networks = ROOT / "etc/cni/net.d"
    for path in networks.iterdir():
        shutil.move(path, place)
    yield place
    shutil.rmtree(networks)
    shutil.copytree(
        place, networks, ignore=lambda _directory, names: [n for n in names if "conflist" not in n]
    )


def test_the_quickstart_and_the_operations(desk: Path) -> None:
    parts = ["set -eux", "PATH=$PATH:/opt/cni/bin"]
    for name, before in RUN.items():
        commands = [text for mark, text in blocks(PROJECT / "docs" / name) if mark in HERE]
        parts += [f"cd {desk}", before, *commands]
    script = desk / "script.sh"
    script.write_text("\n".join(parts))

    done = run("sh", script)

    assert "inet 192.168.60.2/24" in done.stdout  # ctr
    if "podman4" in HERE:
        assert "inet 192.168.60.3/24" in done.stdout
        assert "inet 192.168.80.20/24" in done.stdout
        assert "link/ether 02:00:00:00:80:20" in done.stdout
    assert "└─ demo eth0 192.168.61.2/24" in done.stdout
    run("/opt/cni/bin/cni-ipam", "release", "192.168.50.200", "--yes")
    assert "cni_verbs_total{" in done.stdout
    assert "took over 192.168.50.200/24 of old eth0" in done.stdout
    assert not {name for name in links() if name.startswith("eth0.")}
