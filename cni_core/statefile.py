"""Small state files that are whole or absent, at whatever instruction the process is killed."""

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from cni_core.errors import IoFailure

T = TypeVar("T")
_CHUNK = 65536
_ATTEMPTS = 5  # others create and remove the directory above meanwhile; below /proc none can be created

# A long-lived process's last reading of each file, by inode and times: a file is replaced, never changed.
_readings: dict[str, tuple[tuple[int, int, int], Any]] = {}
_READINGS_MOST = 512


def make_directory(path: str) -> bool:
    """Create a directory and its parents, for root alone (0700); return whether it is new."""
    reason = ""
    for _attempt in range(_ATTEMPTS):
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            reason = str(error.strerror)
            make_directory(os.path.dirname(path) or "/")
        except (OSError, ValueError) as error:
            raise IoFailure(f"create {path}: {getattr(error, 'strerror', error)}") from error
        else:
            return True
    raise IoFailure(f"create {path}: {reason}")


def write_file(path: str, text: str, *, durable: bool = False, temporary: str = "") -> None:
    """Replace a file by rename(2). A reader sees the old text or the new, after lost power too if `durable`.

    The temporary file is `.new` beside it: every writer holds the lock of the directory, and a leftover is
    overwritten. A writer without the lock names a `temporary` of its own, on the same file system.
    """
    temporary = temporary or os.path.join(os.path.dirname(path), ".new")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(fd, text.encode(errors="replace"))
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise IoFailure(f"write {path}: {error.strerror}") from error


def _write_all(fd: int, data: bytes) -> None:
    """Write everything: a disk that fills up first shortens a write, then refuses the next."""
    while data:
        data = data[os.write(fd, data) :]


def overwrite_file(path: str, text: str) -> None:
    """Overwrite a file with a short text of constant length, for a hint that a power loss may take.

    A rename over an existing file makes ext4 write it out at once (its auto_da_alloc): 90 us, and disk I/O.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _write_all(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise IoFailure(f"write {path}: {error.strerror}") from error


def read_file(path: str) -> str | None:
    """Return a file's text, None if it is absent."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO there would be waited for
        try:
            return _read_all(fd).decode(errors="replace")
        finally:
            os.close(fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IoFailure(f"read {path}: {error.strerror}") from error


def _read_all(fd: int) -> bytes:
    """Read to the end; Python's text layer would make five times as many system calls."""
    data = os.read(fd, _CHUNK)
    while len(data) % _CHUNK == 0 and (more := os.read(fd, _CHUNK)):
        data += more
    return data


def read_json(path: str) -> dict[str, Any] | None:
    """Return the object in a file; None if it is absent or, after a power loss, not a JSON object."""
    text = read_file(path)
    if text is None:
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def read_parsed(path: str, parse: Callable[[Mapping[str, Any]], T]) -> T | None:
    """Return the parsed object of a JSON file, that of {} for a damaged one, None if it is absent.

    A file that has not been replaced is not read again, so each path has one way to be parsed, and callers
    do not change what they get.
    """
    try:
        signature = _signature(path)
    except OSError:
        return None
    known = _readings.get(path)
    if known is None or known[0] != signature:
        known = (signature, parse(read_json(path) or {}))
        _remember(path, known)
    value: T = known[1]
    return value


def note_parsed(path: str, value: object) -> None:
    """Note the parsed object of a file that this process has just written, under the lock of its writers."""
    with contextlib.suppress(OSError):  # removed by hand meanwhile: the next reader finds that
        _remember(path, (_signature(path), value))


def _signature(path: str) -> tuple[int, int, int]:
    found = os.stat(path)
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _remember(path: str, reading: tuple[tuple[int, int, int], Any]) -> None:
    if len(_readings) >= _READINGS_MOST:
        _readings.clear()
    _readings[path] = reading


def remove_file(path: str) -> bool:
    """Remove a file; return whether it was there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise IoFailure(f"remove {path}: {error.strerror}") from error
    return True


def list_directory(path: str) -> list[str]:
    """Return the names in a directory, none if it is absent."""
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise IoFailure(f"list {path}: {error.strerror}") from error


def remove_directory(path: str) -> None:
    """Remove a directory if it is empty."""
    with contextlib.suppress(OSError):  # not empty or gone: both are fine
        os.rmdir(path)


def empty_directory(path: str) -> None:
    """Remove a directory and the files in it."""
    try:
        os.rmdir(path)  # most often it is empty
    except OSError:
        for name in list_directory(path):
            remove_file(f"{path}/{name}")
        remove_directory(path)


def remove_tree(path: str, budget: int) -> int:
    """Remove files and directories below a path, at most as many as the budget; return the rest of it."""
    for name in list_directory(path):
        if budget <= 0:
            return 0
        child = os.path.join(path, name)
        if os.path.isdir(child) and not os.path.islink(child):
            budget = remove_tree(child, budget)
        else:
            with contextlib.suppress(IoFailure):  # the next call tries again
                remove_file(child)
            budget -= 1
    remove_directory(path)
    return budget - 1


def file_name(key: str) -> str:
    """Return a key as a file name; a key too long for a name is cut, and made unique by its hash."""
    if len(key) <= 200:  # noqa: PLR2004 - NAME_MAX is 255 bytes, and keys are ASCII
        return key
    import hashlib

    return f"{key[:160]}~{hashlib.sha256(key.encode()).hexdigest()[:32]}"
