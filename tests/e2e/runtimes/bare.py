"""A node root without Python: the root of this node less its Pythons, for runtimes and plugins.

The tests themselves run outside of it, on the node's own root.
"""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path("/run/bare")
STATE = ("containerd", "containers", "cni")  # below /var/lib, on a real file system: overlays do not stack
# Nothing of the lab's own: what is installed finds its own.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("CNI_", "LAB_"))}
_HANGS_S = 600  # nothing takes so long
_SHARED = ("proc", "sys", "dev", "run", "tmp")


def make(state: Path) -> None:
    """Make the root; what has to last is kept below `state`."""
    layers = state / "layers"
    for directory in (ROOT, layers / "upper", layers / "work"):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    options = f"lowerdir=/,upperdir={layers}/upper,workdir={layers}/work"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "bare", ROOT], check=True)
    for path in (*ROOT.glob("usr/bin/python3*"), *ROOT.glob("usr/lib/python3*")):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name in _SHARED:
        subprocess.run(["mount", "--rbind", f"/{name}", ROOT / name], check=True)
    for name in STATE:
        (state / name).mkdir(exist_ok=True)
        (ROOT / "var/lib" / name).mkdir(exist_ok=True)
        subprocess.run(["mount", "--bind", state / name, ROOT / "var/lib" / name], check=True)


def run(*command: str | Path, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command in the root."""
    done = subprocess.run(
        ["chroot", ROOT, *command],
        input=stdin,
        env=_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=_HANGS_S,
    )
    if check and done.returncode:
        raise AssertionError(f"{command}: {done.stderr}{done.stdout}")
    return done


def start(*command: str | Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a program in the root; the process is the program itself."""
    with log.open("ab") as output:
        return subprocess.Popen(["chroot", ROOT, *command], env=_ENVIRONMENT, stdout=output, stderr=output)


def podman_has_cni() -> bool:
    """Whether podman can be pointed at CNI plugins: version 5 of Debian 13 knows netavark alone."""
    shown = subprocess.run(["podman", "--version"], capture_output=True, text=True, check=True).stdout
    return int(shown.split()[-1].partition(".")[0]) < 5


def links() -> set[str]:
    """The network interfaces of the node."""
    return set(os.listdir("/sys/class/net"))
