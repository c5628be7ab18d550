"""cnitool, which people try a network with: its tests run on a node of their own."""

import shutil
from pathlib import Path

import pytest

from tests.e2e.kubernetes import programs
from tests.lab import image, node, tools

ROOT = Path(__file__).parents[3]
ON_THE_NODE = "python3 -m pytest -q -p no:cacheprovider -p tests.kernel.conftest".split()


def test_every_verb_does_what_it_says_alone_and_in_chains(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = programs.unpacked()
    assert found is not None, "KUBERNETES names no directory"
    tools.install("mke2fs")
    tree, disk = tmp_path / "tree", tmp_path / "cnitool.img"
    tree.mkdir()
    shutil.copy2(found / "cnitool", tree)
    image.make_disk(disk, tree, "32M")

    status = node.run(ROOT, [*ON_THE_NODE, "tests/e2e/kubernetes/cnitool.py"], data=disk)

    assert status == 0, capfd.readouterr().out
