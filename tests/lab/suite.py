"""The Debian release that a node is made of: the machine's own, or the one that LAB_SUITE names."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))


def chosen() -> str:
    """Return the release of the nodes of this run."""
    return os.environ.get("LAB_SUITE") or own()


def own() -> str:
    """Return this machine's release."""
    return release().get("VERSION_CODENAME", "")


def release() -> dict[str, str]:
    """Return what os-release(5) says of this machine, an empty dictionary if there is no such file."""
    path = Path("/etc/os-release")
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = (line.partition("=") for line in lines)
    return {key: value.strip('"') for key, _equals, value in pairs}


@contextmanager
def sources(suite: str) -> Iterator[list[str]]:
    """Give mmdebstrap this machine's own package sources, so that a node comes from where this machine does.

    For another release they are the same with its name in place of this machine's.
    """
    found = next((path for path in _SOURCES if path.exists()), None)
    if found is None:
        yield []
        return
    with tempfile.NamedTemporaryFile("w", suffix=found.suffix) as file:
        file.write(found.read_text().replace(own(), suite))
        file.flush()
        yield [file.name]
