"""What this machine needs beside Python, installed from Debian when it is missing.

`python -m tests.lab.tools NAME ...` installs by the names of the programs.
"""

import ctypes
import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

_PACKAGES = {
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "buildah": "buildah",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "curl": "curl",
    "etcd": "etcd-server",
    "etcdctl": "etcd-client",
    "git": "git",
    "go": "golang-go golang-github-appc-cni-dev",
    "host-local": "containernetworking-plugins",
    "ip": "iproute2",
    "libpython": f"libpython{sys.version_info.major}.{sys.version_info.minor}",
    "mke2fs": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "musl-gcc": "musl-tools",
    "objdump": "binutils",
    "openssl": "openssl",
    "ping": "iputils-ping",
    "qemu-system-x86_64": "qemu-system-x86",
    "strace": "strace",
    "sysctl": "procps",
    "systemd-analyze": "systemd",
    "tcpdump": "tcpdump",
    "traceroute": "traceroute",
    "unshare": "util-linux",
    "xz": "xz-utils",
    "zstd": "zstd",
}
_PLUGINS = Path("/usr/lib/cni")  # where Debian puts the reference plugins


def install(*names: str) -> None:
    """Install those programs that are missing."""
    packages = [package for name in names if not _is_there(name) for package in _PACKAGES[name].split()]
    if not packages:
        return
    if shutil.which("apt-get") is None:
        raise SystemExit(
            f"lab: this machine lacks {' '.join(packages)} and has no apt-get: install them first"
        )
    if os.geteuid() != 0:
        raise SystemExit(f"lab: this machine lacks {' '.join(packages)}: run the same command with sudo")
    with step(f"installing {' '.join(packages)}"), Path("/var/lib/dpkg/lab.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # apt-get does not wait for another
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        apt = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
        subprocess.run([*apt, "update"], check=True, env=environment)
        subprocess.run(
            [*apt, "install", "-y", "--no-install-recommends", *packages],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
        )


def _is_there(name: str) -> bool:
    if name == "libpython":
        return _has_python_library()
    return shutil.which(name) is not None or (_PLUGINS / name).exists()


def _has_python_library() -> bool:
    """Whether PyInstaller finds the interpreter's library, which Debian's python3 does without."""
    library = str(sysconfig.get_config_var("INSTSONAME"))
    try:
        return library.endswith(".a") or ctypes.CDLL(library) is not None
    except OSError:
        return False


class step:  # noqa: N801 - used as a verb
    """Say what takes long, and how long it took."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        print(f"lab: {self.what} ...", file=sys.stderr, flush=True)
        self.start = time.monotonic()

    def __exit__(self, *exception: object) -> None:
        took = time.monotonic() - self.start
        print(f"lab: {'failed' if exception[0] else 'done'} after {took:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    install(*sys.argv[1:])
