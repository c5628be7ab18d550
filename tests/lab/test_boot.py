"""A boot that fails says so."""

import subprocess
import time
from pathlib import Path

import pytest

from tests.lab import image, node

ROOT = Path(__file__).parents[2]


def without_disk_driver(built: image.Image, work: Path) -> Path:
    """The node's initramfs without its disk's module, as a release with another packing would give."""
    unpacked = work / "unpacked"
    unpacked.mkdir()
    with built.initramfs.open("rb") as archive:
        subprocess.run(["cpio", "--quiet", "-id"], cwd=unpacked, stdin=archive, check=True)
    (module,) = unpacked.glob("modules/*virtio_blk.ko")
    module.unlink()
    names = "\n".join(str(path.relative_to(unpacked)) for path in sorted(unpacked.rglob("*")))
    packed = work / "initramfs"
    with packed.open("wb") as output:
        pack = ["cpio", "--quiet", "-o", "-H", "newc"]
        subprocess.run(pack, cwd=unpacked, input=names.encode(), stdout=output, check=True)
    return packed


def test_a_node_that_finds_no_disk_ends_with_the_words_of_its_console(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    built = image.build()
    broken = built._replace(initramfs=without_disk_driver(built, tmp_path))
    start = time.monotonic()

    status = node.run(ROOT, ["true"], built=broken)

    took = time.monotonic() - start
    shown = capfd.readouterr().err
    assert status == node.LOST
    assert "the node was lost; its console ends with" in shown
    assert "lab: no disk /dev/vda" in shown
    assert "lab: modules:" in shown
    assert "No such file" not in shown
    assert "did not boot within" not in shown
    assert took < 60


def test_a_node_whose_kernel_says_nothing_is_given_up(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = image.build()
    silent = tmp_path / "initramfs"
    silent.write_bytes(built.kernel.read_bytes()[:4096])  # no initramfs: the kernel waits for a root
    monkeypatch.setattr("tests.lab.deadlines.BOOT_S", 15.0)

    status = node.run(ROOT, ["true"], built=built._replace(initramfs=silent))

    assert status == node.LOST
    shown = capfd.readouterr().err
    assert "did not boot within 15 s" in shown or "Kernel panic" in shown
