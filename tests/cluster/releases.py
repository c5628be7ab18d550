"""The etcd of another Debian release, taken from its packages once and cached: 3.5 on a machine that has 3.4.

`python -m tests.cluster.releases trixie` prints the directory of its programs.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab import suite, tools
from tests.lab.image import cache_directory


def etcd_of(release: str) -> Path:
    """Return the directory of etcd and etcdctl of a release; they run on this one too."""
    found = cache_directory() / f"etcd-{release}"
    if not found.exists():
        tools.install("mmdebstrap")
        fresh = found.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        with tools.step(f"unpacking etcd of Debian {release}"), suite.sources(release) as sources:
            unpack = ["mmdebstrap", "--quiet", "--variant=extract", "--include=etcd-server,etcd-client"]
            subprocess.run([*unpack, release, str(fresh), *sources], check=True)
        fresh.rename(found)
    return found / "usr" / "bin"


if __name__ == "__main__":
    print(etcd_of(sys.argv[1]))
