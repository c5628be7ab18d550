"""The disk image of a node, built from Debian packages once and cached by what it is made of."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.lab import initramfs, stage, suite, tools
from tests.lab.tools import step

# Of a node.
PACKAGES = (
    "bash bird2 busybox-static conmon conntrack containerd containernetworking-plugins crun curl"
    " etcd-server ethtool frr iproute2 iptables iputils-ping kmod libsqlite3-0 linux-image-cloud-amd64"
    " make mount nftables podman procps python3 runc strace tcpdump systemd traceroute util-linux"
).split()
_MMDEBSTRAP = ("mmdebstrap", "--quiet", "--variant=apt")
_SIZE = "2500M"
_KEPT_S = 24 * 3600
_HERE = Path(__file__).parent
_PROJECT = _HERE.parents[1]


class Image(NamedTuple):
    release: str
    kernel: Path
    initramfs: Path
    root: Path
    libraries: Path


def cache_directory() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "cni-vlan-lab"


def build() -> Image:
    """Return the image, building what is not in the cache."""
    tools.install("qemu-system-x86_64", "mmdebstrap", "mke2fs", "busybox", "cpio", "xz", "zstd", "ip", "git")
    release = suite.chosen()
    parts = [*PACKAGES, *initramfs.MODULES, *(_source(name) for name in ("init", "initramfs-init")), _SIZE]
    root = _cached(f"node-{release}", parts, partial(_build_root, release))
    python = (root / "python").read_text()
    lock = (_PROJECT / "requirements.lock").read_text()
    libraries = _cached(f"libraries-{python}", [lock, sys.version], partial(_build_libraries, python))
    return Image(
        f"Debian {release}",
        root / "vmlinuz",
        root / "initramfs",
        root / "root.img",
        libraries / "libraries.img",
    )


def _source(name: str) -> str:
    return (_HERE / name).read_text()


def _cached(name: str, parts: list[str], make: Callable[[Path], None]) -> Path:
    """Return a directory of the cache, made under another name first, so that it is whole or absent."""
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    target = cache_directory() / f"{name}-{digest}"
    if target.exists():
        os.utime(target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    for old in target.parent.glob(f"{name}-*"):
        if time.time() - old.stat().st_mtime > _KEPT_S:  # not that of another checkout
            shutil.rmtree(old, ignore_errors=True)
    with (target.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another line of tests may want the same
        if not target.exists():
            _make_whole(target, make)
    return target


def _make_whole(target: Path, make: Callable[[Path], None]) -> None:
    working = target.with_suffix(f".{os.getpid()}")
    working.mkdir()
    try:
        make(working)
        working.rename(target)
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _build_root(release: str, target: Path) -> None:
    tree = target / "tree"
    with step(f"building a node from Debian {release} packages (once, about 40 s)"):
        with suite.sources(release) as sources:
            subprocess.run(
                [*_MMDEBSTRAP, f"--include={','.join(PACKAGES)}", release, str(tree), *sources], check=True
            )
        shutil.copy2(_HERE / "init", tree / "sbin" / "lab-init")
        for mount_point in ("libraries", "project"):
            (tree / "opt" / mount_point).mkdir()
        (tree / "etc" / "hostname").write_text("node\n")
    with step("packing its disk image"):
        kernel = next((tree / "boot").glob("vmlinuz-*"))
        shutil.copy2(kernel, target / "vmlinuz")
        (target / "python").write_text((tree / "usr/bin/python3").readlink().name.removeprefix("python"))
        initramfs.build(tree, target / "initramfs")
        make_disk(target / "root.img", tree, _SIZE)
        shutil.rmtree(tree)


def _build_libraries(python: str, target: Path) -> None:
    with step(f"packing the libraries for the node's Python {python}"):
        with _installed(python) as libraries:
            stage.copy_libraries(libraries, target / "tree")
        make_disk(target / "libraries.img", target / "tree", "300M")
        shutil.rmtree(target / "tree")


@contextmanager
def _installed(python: str) -> Iterator[Path]:
    """Give a directory with the locked packages, compiled for a version of Python."""
    if sys.version.startswith(f"{python}."):
        yield stage.site_packages()
        return
    with tempfile.TemporaryDirectory() as name:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", name]
        wheels = ["--only-binary", ":all:", "--python-version", python, "--require-hashes"]
        subprocess.run([*install, *wheels, "--requirement", _PROJECT / "requirements.lock"], check=True)
        yield Path(name)


def make_disk(image: Path, tree: Path, size: str) -> None:
    """Write a directory tree into an ext4 image."""
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-d", tree, image, size], check=True, stdout=subprocess.DEVNULL
    )
