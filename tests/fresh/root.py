"""A machine as somebody has it on the first day: a minimal Debian root, without python3, git or mount.

`python -m tests.fresh.root trixie make demo` makes one, clones the project into it and runs a command there.
From this machine it has the network and what the package clients are told: sources, pip's settings,
certificates.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab import suite, tools

PROJECT = Path(__file__).parents[2]
_PLACE = "/root/cni-vlan"
_PIP = (Path("/etc/pip.conf"), Path("/root/.config/pip/pip.conf"))
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_OWN_CERTIFICATES = Path("/opt/certificates.crt")  # where the root's package ca-certificates does not write
_MOUNTS = (
    "mount --bind {root} {root} && mount -t proc proc {root}/proc"
    " && mount -t sysfs sys {root}/sys && mount --rbind /dev {root}/dev"
    ' && exec chroot {root} sh -c \'cd {place} && exec "$@"\' sh "$@"'
)


@contextmanager
def fresh_root(release: str) -> Iterator[Path]:
    """Make the root of a release, with the project cloned into it."""
    tools.install("mmdebstrap", "git", "unshare")
    with tempfile.TemporaryDirectory(prefix=f"fresh-{release}-") as name:
        root = Path(name)
        with tools.step(f"making a minimal root of Debian {release}"), suite.sources(release) as sources:
            minimal = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=make"]
            subprocess.run([*minimal, release, str(root), *sources], check=True)
        _set_up_clients(root)
        _clone(root)
        yield root


def _set_up_clients(root: Path) -> None:
    for path in (*_PIP, Path("/etc/resolv.conf")):
        if path.exists():
            target = root / path.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
    if _CERTIFICATES.exists():
        shutil.copy2(_CERTIFICATES, root / _OWN_CERTIFICATES.relative_to("/"))


def _clone(root: Path) -> None:
    """Clone what is committed, and copy what is not yet."""
    place = root / _PLACE.lstrip("/")
    subprocess.run(["git", "clone", "--quiet", PROJECT, place], check=True)
    changed = ["git", "ls-files", "-z", "--modified", "--others", "--exclude-standard"]
    listed = subprocess.run(changed, cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (PROJECT / name).exists():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, place / name)
        else:
            (place / name).unlink()


def run(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the clone; its output is shown as it comes, and returned."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
    if _CERTIFICATES.exists():
        environment |= dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE"), str(_OWN_CERTIFICATES))
    script = _MOUNTS.format(root=root, place=_PLACE)
    isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]
    process = subprocess.Popen(
        [*isolated, "sh", *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    shown = []
    with process:
        for line in process.stdout:
            print(line, end="", flush=True)
            shown.append(line)
    return subprocess.CompletedProcess(process.args, process.returncode, "".join(shown))


if __name__ == "__main__":
    if os.geteuid() != 0:
        raise SystemExit("a root file system needs root: run the same command with sudo")
    with fresh_root(sys.argv[1]) as made:
        raise SystemExit(run(made, *sys.argv[2:]).returncode)
