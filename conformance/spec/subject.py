"""What is judged: executables, a configuration, and what has to run beside them.

A subject is a TOML file: `title`, `path` (the directory of the plugins), `config` (without name and version;
its uplink is `eth0`), and, if it needs one, `service` (a command), `ready` (the file that tells it is up) and
`environment`. `required`: its failures fail the run. `note`: for the report. `{root}` is the project,
`{scratch}` the host's own directory.
"""

import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.lab import world
from tests.lab.world import Host, Json

ROOT = Path(__file__).parents[2]
_START_S = 60


class Subject(NamedTuple):
    name: str
    title: str
    required: bool
    path: Path
    config: Json
    service: list[str]
    ready: str
    environment: dict[str, str]
    note: str = ""

    @property
    def plugin(self) -> str:
        return str(self.config["type"])

    @contextmanager
    def host(self) -> Iterator[Host]:
        """A host with an uplink `eth0`, on which the subject is installed and what it needs runs."""
        with world.host(ROOT / self.path) as made:
            places = {"root": str(ROOT), "scratch": str(made.scratch)}
            made.extra |= {name: value.format_map(places) for name, value in self.environment.items()}
            made.uplink()
            if not self.service:
                yield made
                return
            service = made.popen(*(word.format_map(places) for word in self.service))
            try:
                _wait_for(Path(self.ready.format_map(places)), service)
                yield made
                assert service.poll() is None, "what ran beside the plugins has ended"
            finally:
                service.kill()
                service.wait()


def _wait_for(ready: Path, service: subprocess.Popen[str]) -> None:
    give_up = time.monotonic() + _START_S
    while not ready.exists():
        assert service.poll() is None, "what has to run beside the plugins did not start"
        assert time.monotonic() < give_up
        time.sleep(0.01)


def load(path: Path) -> Subject:
    """Read a subject; raises what tomllib raises, KeyError for what it lacks."""
    read = tomllib.loads(path.read_text())
    return Subject(
        path.stem,
        read["title"],
        read.get("required", False),
        Path(read["path"]),
        read["config"],
        read.get("service", []),
        read.get("ready", ""),
        read.get("environment", {}),
        read.get("note", ""),
    )
