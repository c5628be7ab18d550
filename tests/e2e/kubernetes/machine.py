"""Run the cluster's node: `python3 -m tests.e2e.kubernetes.machine DISK SETTINGS`, until it is ended."""

import json
import signal
import sys
from pathlib import Path
from typing import NoReturn

from tests.lab import node

ROOT = Path(__file__).parents[3]


def _end(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(0)


def main(disk: Path, settings: dict[str, int]) -> int:
    signal.signal(signal.SIGTERM, _end)
    port, kubelet = settings["port"], settings["kubelet"]
    # Cut off from everything but these two ports. A process for each connection to the API server.
    management = node.Forwarded(
        "restrict=on"
        f",hostfwd=tcp:127.0.0.1:{kubelet}-10.0.2.15:{kubelet}"
        f",guestfwd=tcp:10.0.2.100:{port}-cmd:busybox nc 127.0.0.1 {port}"
    )
    command = ["python3", "-m", "tests.e2e.kubernetes.worker", json.dumps(settings)]
    return node.run(ROOT, command, data=disk, trunk=management)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
