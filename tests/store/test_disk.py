"""A disk that is full, or read-only: an error that says so, no lease, and a next call that works."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.store.ipam import Ipam

# A tmpfs of some pages in a mount namespace of its own; what it is filled with comes and goes between calls.
SCRIPT = """
set -e
mount -t tmpfs -o {options} disk "$1"
export CNI_NETNS=/x CNI_IFNAME=eth0 CNI_PATH=/x
run() {{ CNI_COMMAND=$1 CNI_CONTAINERID=$2 "$EXECUTABLE" <"$CONF" | tr -d '\\n' || :; echo; }}
{steps}
"""
FILL = 'dd if=/dev/zero of="$1/filler" bs=4096 status=none 2>/dev/null || :'
INODES = 'n=0; while : >"$1/filler$n"; do n=$((n+1)); done 2>/dev/null'


def documents(ipam: Ipam, options: str, steps: list[str], tmp_path: Path) -> list[dict[str, object]]:
    """Run steps of shell on a small disk; return what each verb printed."""
    ipam.data_dir.mkdir()
    conf = tmp_path / "conf.json"
    conf.write_text(json.dumps(ipam.conf))
    script = SCRIPT.format(options=options, steps="\n".join(steps))
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script, "bash", str(ipam.data_dir)],
        env={**os.environ, "EXECUTABLE": str(ipam.executable), "CONF": str(conf)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return [json.loads(line or "{}") for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("options", "fill", "reason"),
    [
        ("size=96k", FILL, "No space left on device"),
        ("size=1m,nr_inodes=40", INODES, "No space left on device"),
    ],
    ids=["blocks", "inodes"],
)
def test_a_full_disk(ipam: Ipam, tmp_path: Path, options: str, fill: str, reason: str) -> None:
    steps = [
        "run ADD one",
        fill,
        "run ADD two",
        "run DEL one",
        'rm "$1"/filler*',
        "run ADD two",
        "run ADD one",
    ]

    first, refused, freed, second, third = documents(ipam, options, steps, tmp_path)

    assert first["ips"] == [{"address": "10.0.0.2/24", "gateway": "10.0.0.1"}]
    assert refused["code"] == 5
    assert reason in str(refused["msg"])
    assert freed == {}
    assert second["ips"] == [{"address": "10.0.0.3/24", "gateway": "10.0.0.1"}]
    assert third["ips"] == [{"address": "10.0.0.4/24", "gateway": "10.0.0.1"}]


def test_a_read_only_disk(ipam: Ipam, tmp_path: Path) -> None:
    ipam.conf["cniVersion"] = "1.1.0"
    steps = [
        "run ADD one", 'mount -o remount,ro "$1"', "run ADD two", "run STATUS x", "run DEL one",
        'mount -o remount,rw "$1"', "run DEL one", "run STATUS x", "run ADD two",
    ]  # fmt: skip

    _first, refused, status, kept, freed, fine, second = documents(ipam, "size=1m", steps, tmp_path)

    assert [refused["code"], status["code"], kept["code"]] == [5, 50, 5]
    assert "Read-only file system" in str(refused["msg"])
    assert "pool lan" in str(status["msg"])
    assert (freed, fine) == ({}, {})
    assert second["ips"] == [{"address": "10.0.0.3/24", "gateway": "10.0.0.1"}]


def test_a_directory_that_cannot_be_made(ipam: Ipam, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ipam.conf["ipam"]["dataDir"] = str(tmp_path / "file" / "leases")

    refused = ipam.call("ADD", "one")

    assert refused.code == 5
    assert "Not a directory" in refused.document["msg"]
