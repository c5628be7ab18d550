"""Run a node until it is ended: `python3 -m tests.e2e.kubernetes.machine DISK WIRE SETTINGS`."""

import json
import signal
import sys
from pathlib import Path
from typing import NoReturn

from tests.e2e.kubernetes.topology import API_SERVER, Place
from tests.lab import node

ROOT = Path(__file__).parents[3]


def _end(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(0)


def main(disk: Path, wire: Path, settings: dict[str, int]) -> int:
    signal.signal(signal.SIGTERM, _end)
    place, api = Place(settings["number"]), settings["api"]
    into = [
        f"hostfwd=tcp:{place.name}:{settings[name]}-{place.management}:{settings[name]}"
        for name in ("kubelet", "shell")
    ]
    # Cut off from everything but these ports. A process for each connection to the API server.
    out = f"guestfwd=tcp:{API_SERVER}:{api}-cmd:busybox nc 127.0.0.1 {api}"
    management = node.Forwarded(",".join(["restrict=on", *into, out]))
    command = ["python3", "-m", "tests.e2e.kubernetes.worker", json.dumps(settings)]
    return node.run(ROOT, command, data=disk, trunk=[management, node.Trunk(wire, place.number)])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])))
