"""Installing the launcher, the bundle and configurations, each as a whole or not at all.

    <prefix>/opt/cni-vlan/<hash>/        the bundle, named by the hash of its content
    <prefix>/opt/cni-vlan/current        symbolic link to the one in use
    <bin>/cni-vlan, <bin>/cni-ipam       the launcher
    <conf>/*                             configurations, last: a runtime acts on them at once

The previous bundle stays: a plugin of it may still run. Files are written under another name, synced, read
back, and renamed.
"""

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cni_core.errors import IoFailure

BUNDLES = "opt/cni-vlan"
LAUNCHER = "launcher"  # in the bundle
LAUNCHED = ("cni-vlan", "cni-ipam")
_CURRENT = "current"


class Places(NamedTuple):
    """The target directories. `prefix` is the host's root as seen from here; link targets do not have it."""

    prefix: str
    bin_dir: str
    conf_dir: str

    def below(self, path: str) -> str:
        """Return a path of the host as seen from here."""
        return os.path.join(self.prefix, path.lstrip("/"))


def install(bundle: str, confs: Sequence[str], places: Places) -> list[str]:
    """Install everything, in an order in which each step works with the files before it; return the paths.

    Raises IoFailure; then each file is unchanged, or replaced as a whole.
    """
    try:
        return list(_install(bundle, confs, places))
    except OSError as error:
        raise IoFailure(f"install {error.filename or bundle}: {error.strerror}") from error


def _install(bundle: str, confs: Sequence[str], places: Places) -> Iterator[str]:
    yield _install_bundle(bundle, places)
    for name in LAUNCHED:
        target = os.path.join(places.below(places.bin_dir), name)
        if _install_file(os.path.join(bundle, LAUNCHER), target, 0o755):
            yield target
    for conf in confs:
        target = os.path.join(places.below(places.conf_dir), os.path.basename(conf))
        if _install_file(conf, target, 0o600):
            yield target


def _install_bundle(bundle: str, places: Places) -> str:
    digest = _tree_digest(bundle)[:16]
    root = places.below(BUNDLES)
    target = os.path.join(root, digest)
    os.makedirs(root, exist_ok=True)
    if not os.path.isdir(target) or _tree_digest(target)[:16] != digest:
        working = os.path.join(root, ".new")
        shutil.rmtree(working, ignore_errors=True)
        shutil.copytree(bundle, working, symlinks=True)
        if _tree_digest(working)[:16] != digest:
            raise IoFailure(f"install {bundle}: the content as read back differs from the source")
        _sync_tree(working)
        shutil.rmtree(target, ignore_errors=True)
        os.rename(working, target)
    before = os.path.basename(os.path.realpath(os.path.join(root, _CURRENT)))
    link = os.path.join(root, f".{_CURRENT}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(link)
    os.symlink(digest, link)
    os.rename(link, os.path.join(root, _CURRENT))
    if before != digest:
        _remove_others(root, {digest, before})
    return f"/{BUNDLES}/{digest}"


def _remove_others(root: str, kept: set[str]) -> None:
    for name in os.listdir(root):
        if name not in kept and name != _CURRENT:
            shutil.rmtree(os.path.join(root, name), ignore_errors=True)


def _install_file(source: str, target: str, mode: int) -> bool:
    """Replace a file if it differs; return whether it was replaced."""
    with open(source, "rb") as file:
        content = file.read()
    if _content(target) == content and _mode(target) == mode:
        return False
    os.makedirs(os.path.dirname(target), exist_ok=True)
    # The name is harmless: runtimes read only files that end in .conf or .conflist, and nothing executes it.
    working = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.new")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(working)  # left by an install that was killed, or planted
    fd = os.open(working, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(fd, mode)
        os.fsync(fd)
    if _content(working) != content:
        raise IoFailure(f"install {target}: the content as read back differs from the source")
    os.rename(working, target)
    return True


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _mode(path: str) -> int:
    """Return the permissions of a file, -1 for a link: only the file itself counts as installed."""
    found = os.lstat(path)
    return stat.S_IMODE(found.st_mode) if stat.S_ISREG(found.st_mode) else -1


def _files(directory: str) -> Iterator[str]:
    """Yield the files below a directory, sorted by name, relative to it."""
    for parent, directories, files in os.walk(directory):
        directories.sort()
        yield from (os.path.relpath(os.path.join(parent, name), directory) for name in sorted(files))


def _tree_digest(directory: str) -> str:
    digest = hashlib.sha256()
    for name in _files(directory):
        with open(os.path.join(directory, name), "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            digest.update(f"{name}\0{mode:o}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _sync_tree(directory: str) -> None:
    for name in _files(directory):
        fd = os.open(os.path.join(directory, name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def uninstall(bundle: str, places: Places) -> list[str]:
    """Remove launchers and bundles; pods keep their interfaces, operators their configurations and leases.

    A file of our name that is not the launcher is left alone. Raises IoFailure.
    """
    try:
        return list(_uninstall(bundle, places))
    except OSError as error:
        raise IoFailure(f"uninstall {error.filename or places.prefix}: {error.strerror}") from error


def _uninstall(bundle: str, places: Places) -> Iterator[str]:
    ours = _content(os.path.join(bundle, LAUNCHER))
    for name in LAUNCHED:
        path = os.path.join(places.below(places.bin_dir), name)
        if ours is not None and _content(path) == ours:
            os.unlink(path)
            yield path
    root = places.below(BUNDLES)
    if os.path.isdir(root):
        shutil.rmtree(root)
        yield root
