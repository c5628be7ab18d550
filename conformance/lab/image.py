"""The disk image of a node, built from Debian packages once and cached by what it is made of."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from conformance.lab import stage, tools
from conformance.lab.tools import step

# Of a node.
PACKAGES = (
    "bash busybox-static conmon containerd containernetworking-plugins crun curl ethtool iproute2"
    " iputils-ping kmod linux-image-cloud-amd64 mount podman procps python3 runc strace tcpdump"
    " systemd traceroute util-linux"
).split()
# What finds the root disk; inserted in this order.
BOOT_MODULES = "virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk".split()
_MMDEBSTRAP = ("mmdebstrap", "--quiet", "--variant=apt")
_SIZE = "2500M"
_HERE = Path(__file__).parent


class Image(NamedTuple):
    kernel: Path
    initramfs: Path
    root: Path
    libraries: Path


def cache_directory() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "cni-vlan-lab"


def build() -> Image:
    """Return the image, building what is not in the cache."""
    tools.install("qemu-system-x86_64", "mmdebstrap", "mke2fs", "busybox", "cpio", "ip", "git")
    suite = _suite()
    root = _cached(
        "node", [suite, *PACKAGES, *BOOT_MODULES, (_HERE / "init").read_text(), _SIZE], _build_root
    )
    lock = (_HERE.parents[1] / "requirements.lock").read_text()
    libraries = _cached("libraries", [lock, sys.version], _build_libraries)
    return Image(root / "vmlinuz", root / "initramfs", root / "root.img", libraries / "libraries.img")


def _suite() -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    raise SystemExit("lab: /etc/os-release names no release; the lab needs Debian")


def _sources() -> list[str]:
    """Return this machine's own package sources, so that the node comes from where this machine does."""
    places = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
    return [str(path) for path in places if path.exists()][:1]


def _cached(name: str, parts: list[str], make: Callable[[Path], None]) -> Path:
    """Return a directory of the cache, made under another name first, so that it is whole or absent."""
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    target = cache_directory() / f"{name}-{digest}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    for old in target.parent.glob(f"{name}-*"):
        shutil.rmtree(old)
    working = target.with_suffix(f".{os.getpid()}")
    working.mkdir()
    try:
        make(working)
        working.rename(target)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return target


def _build_root(target: Path) -> None:
    tree = target / "tree"
    with step(f"building a node from Debian {_suite()} packages (once, about 40 s)"):
        subprocess.run(
            [*_MMDEBSTRAP, f"--include={','.join(PACKAGES)}", _suite(), str(tree), *_sources()],
            check=True,
        )
        shutil.copy2(_HERE / "init", tree / "sbin" / "lab-init")
        for mount_point in ("libraries", "project"):
            (tree / "opt" / mount_point).mkdir()
        (tree / "etc" / "hostname").write_text("node\n")
    with step("packing its disk image"):
        kernel = next((tree / "boot").glob("vmlinuz-*"))
        shutil.copy2(kernel, target / "vmlinuz")
        _build_initramfs(tree, target)
        make_disk(target / "root.img", tree, _SIZE)
        shutil.rmtree(tree)


def _build_initramfs(tree: Path, target: Path) -> None:
    work = target / "initramfs.d"
    (work / "bin").mkdir(parents=True)
    (work / "modules").mkdir()
    for directory in ("dev", "new"):
        (work / directory).mkdir()
    shutil.copy2(tree / "bin" / "busybox", work / "bin" / "busybox")
    for position, module in enumerate(BOOT_MODULES):
        for path in (tree / "lib" / "modules").rglob(f"{module}.ko"):
            shutil.copy2(path, work / "modules" / f"{position}-{module}.ko")
    shutil.copy2(_HERE / "initramfs", work / "init")
    names = "\n".join(str(path.relative_to(work)) for path in sorted(work.rglob("*")))
    with (target / "initramfs").open("wb") as output:
        subprocess.run(
            ["cpio", "--quiet", "-o", "-H", "newc"], cwd=work, input=names.encode(), stdout=output, check=True
        )
    shutil.rmtree(work)


def _build_libraries(target: Path) -> None:
    with step("packing the Python libraries for the node"):
        stage.copy_libraries(target / "tree")
        make_disk(target / "libraries.img", target / "tree", "300M")
        shutil.rmtree(target / "tree")


def make_disk(image: Path, tree: Path, size: str) -> None:
    """Write a directory tree into an ext4 image."""
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-d", tree, image, size], check=True, stdout=subprocess.DEVNULL
    )
