"""The programs of Kubernetes: found where KUBERNETES says, unpacked once, put where nodes read them.

The directory holds them as they are, or a `kubernetes-*.tar.xz` that unpacks to `kubernetes/bin`. They are of
any release; docs/kubernetes.md says where the world gets them.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.runtimes.image import write_image
from tests.lab import image

CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
NODE = ("kubectl", "kubelet", "kube-proxy", "crio", "pinns", "crictl", "cnitool", "multus")
PAUSE, BUSYBOX = "lab.local/pause:1", "lab.local/busybox:1"
_OF_BUSYBOX = ("ask", "names", "health")  # in its image too
_HERE = Path(__file__).parent
_DIST = _HERE.parents[2] / "dist"


def directory() -> Path | None:
    """Return the directory of the programs, None if KUBERNETES names none."""
    named = os.environ.get("KUBERNETES", "")
    return Path(named).resolve() if named and Path(named).is_dir() else None


def missing() -> list[str]:
    """Return the names of the programs that are not there."""
    found = unpacked()
    return [name for name in (*CONTROL_PLANE, *NODE) if found is None or not (found / name).exists()]


def unpacked() -> Path | None:
    """Return where the programs are, unpacking an archive if it is the first time."""
    where = directory()
    if where is None:
        return None
    archives = sorted(where.glob("kubernetes-*.tar.xz"))
    return _unpack(archives[-1]) if archives else where


def _unpack(archive: Path) -> Path:
    target = image.cache_directory() / f"{archive.name.removesuffix('.tar.xz')}-{archive.stat().st_size}"
    if not target.exists():
        fresh = target.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        subprocess.run(["tar", "-xJf", archive, "-C", fresh], check=True)
        fresh.rename(target)
    return target / "kubernetes" / "bin"


def _store(archives: Sequence[Path], store: Path) -> None:
    """Put images where a runtime finds them."""
    with tempfile.TemporaryDirectory() as running:
        places = ["--storage-driver", "overlay", "--root", str(store), "--runroot", running]
        for archive in archives:
            subprocess.run(
                ["buildah", *places, "pull", "--quiet", f"oci-archive:{archive}"],
                check=True,
                stdout=subprocess.DEVNULL,
            )


def write(target: Path) -> None:
    """Write what the nodes read beside their system: programs and images."""
    (target / "bin").mkdir(parents=True)
    found = unpacked()
    assert found is not None
    for name in NODE:
        shutil.copy2(found / name, target / "bin" / name)
    for name in ("pause", *_OF_BUSYBOX):
        target_and_source = [str(target / "bin" / name), str(_HERE / f"{name}.c")]
        subprocess.run(["musl-gcc", "-static", "-Os", "-s", "-o", *target_and_source], check=True)
    archives = [target / "pause.tar", target / "busybox.tar", *_DIST.glob("cni-vlan-image-*.tar")]
    write_image(archives[0], PAUSE, files={"pause": target / "bin" / "pause"})
    beside = {f"bin/{name}": target / "bin" / name for name in _OF_BUSYBOX}
    write_image(archives[1], BUSYBOX, files=beside)
    _store(archives, target / "images")
