"""The initramfs of a node: busybox, and the modules that its kernel needs to see the root disk."""

import shutil
import subprocess
from pathlib import Path

# Inserted in this order.
MODULES = "virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk".split()
_UNPACK = {".ko": "cat", ".xz": "xz -dc", ".zst": "zstd -dc", ".gz": "gzip -dc"}  # by how a file's name ends
_HERE = Path(__file__).parent


def build(tree: Path, target: Path) -> None:
    """Write the initramfs for the kernel in a root file system."""
    work = target.with_suffix(".d")
    (work / "bin").mkdir(parents=True)
    (work / "modules").mkdir()
    for directory in ("dev", "proc", "new"):
        (work / directory).mkdir()
    shutil.copy2(tree / "bin" / "busybox", work / "bin" / "busybox")
    (modules,) = (tree / "lib" / "modules").iterdir()
    for position, name in enumerate(MODULES):
        _copy_module(modules, name, work / "modules" / f"{position}-{name}.ko")
    shutil.copy2(_HERE / "initramfs-init", work / "init")
    names = "\n".join(str(path.relative_to(work)) for path in sorted(work.rglob("*")))
    with target.open("wb") as output:
        subprocess.run(
            ["cpio", "--quiet", "-o", "-H", "newc"], cwd=work, input=names.encode(), stdout=output, check=True
        )
    shutil.rmtree(work)


def _copy_module(modules: Path, name: str, target: Path) -> None:
    """Copy a module, unpacked: busybox's insmod and older kernels read no compressed one."""
    for path in modules.rglob(f"{name}.ko*"):
        with target.open("wb") as output:
            subprocess.run([*_UNPACK[path.suffix].split(), path], stdout=output, check=True)
        return
    if f"/{name}.ko\n" not in (modules / "modules.builtin").read_text():
        raise SystemExit(f"lab: the kernel {modules.name} has no module {name}, and it is not built in")
