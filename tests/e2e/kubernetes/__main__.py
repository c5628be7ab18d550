"""Run the tests in namespaces of their own: `python -m tests.e2e.kubernetes PYTEST-ARGUMENTS`."""

import subprocess
import sys

from tests.e2e.kubernetes import programs
from tests.lab import image, tools

_PROGRAMS = "buildah busybox curl etcd ip mke2fs musl-gcc openssl sysctl tcpdump unshare".split()
# What comes to be ends with the first process; of /run the tests have one of their own.
_ISOLATED = "unshare --net --mount --pid --fork --kill-child --mount-proc".split()
_OWN_RUN = 'mount -t tmpfs run /run && exec "$@"'


def main(arguments: list[str]) -> int:
    missing = programs.missing()
    if missing:
        raise SystemExit(f"KUBERNETES names no directory with {' '.join(missing)}")
    tools.install(*_PROGRAMS)
    image.build()
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run([*_ISOLATED, "sh", "-c", _OWN_RUN, "sh", *pytest], check=False).returncode


sys.exit(main(sys.argv[1:]))
