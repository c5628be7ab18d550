"""A store as the first release wrote it is read, and goes on, for ever."""

import tarfile
from pathlib import Path

import pytest

from tests.store.ipam import Ipam

FIXTURE = Path(__file__).with_name("format-1.tar")
SUBNETS = ({"subnet": "10.0.0.0/24", "ipRange": "10.0.0.0/30"}, "2001:db8::/64")


@pytest.fixture
def old(executable: Path, tmp_path: Path) -> Ipam:
    """Pods one and two as written on a node of then, which has not rebooted since."""
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    pool = tmp_path / "leases" / "lan"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (pool / "11111111-1111-4111-8111-111111111111").rename(pool / boot)
    return Ipam(executable, tmp_path / "leases", *SUBNETS)


def test_its_leases_hold(old: Ipam) -> None:
    assert old.check("one", ["10.0.0.2/24", "2001:db8::2/64"]).status == 0
    assert old.check("two", ["10.0.0.3/24", "2001:db8::3/64"]).status == 0


def test_what_is_taken_stays_taken_until_it_is_released(old: Ipam) -> None:
    assert old.call("ADD", "three").code == 110
    old.delete("one")
    assert old.add("three") == ["10.0.0.2/24", "2001:db8::4/64"]


def test_its_owners_are_read(old: Ipam) -> None:
    shown = old.tool("leases", "--data-dir", str(old.data_dir)).stdout

    assert shown.splitlines()[1].split() == [
        "10.0.0.2/24", "lan", "default/web-0", "one", "eth0", "2026-11-20T20:39:28Z", "leased",
    ]  # fmt: skip


def test_it_is_void_after_a_reboot(executable: Path, tmp_path: Path) -> None:
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    ipam = Ipam(executable, tmp_path / "leases", *SUBNETS)

    assert ipam.add("three") == ["10.0.0.2/24", "2001:db8::4/64"]
    assert not (tmp_path / "leases" / "lan" / "11111111-1111-4111-8111-111111111111").exists()
