"""Taking over the leases of host-local."""

import json
import os
from pathlib import Path

import pytest

from tests.store.ipam import Ipam

RANGES = {"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "2001:db8::/64"}]]}


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """Two pods of host-local, in the form that it writes them."""
    directory = tmp_path / "networks" / "lan"
    directory.mkdir(parents=True)
    for number, container in ((2, "one"), (3, "two")):
        for name in (f"10.0.0.{number}", f"2001:db8::{number}"):
            (directory / name).write_text(f"{container}\r\neth0")
    (directory / "last_reserved_ip.0").write_text("10.0.0.9")
    (directory / "lock").touch()
    return directory


def config(tmp_path: Path, kind: str = "host-local") -> str:
    ipam = {"type": kind, **RANGES}
    if kind == "cni-ipam":
        ipam["dataDir"] = str(tmp_path / "leases")
    plugins = [{"type": "macvlan", "master": "eth0", "ipam": ipam}, {"type": "tuning"}]
    path = tmp_path / "lan.conflist"
    path.write_text(json.dumps({"cniVersion": "1.0.0", "name": "lan", "plugins": plugins}))
    return str(path)


@pytest.fixture
def after(executable: Path, tmp_path: Path) -> Ipam:
    ipam = Ipam(executable, tmp_path / "leases")
    ipam.conf["ipam"] = {"type": "cni-ipam", "dataDir": str(tmp_path / "leases"), **RANGES}
    return ipam


def test_pods_keep_their_addresses_and_new_ones_come_after(after: Ipam, there: Path, tmp_path: Path) -> None:
    done = after.tool("import", config(tmp_path, "cni-ipam"), "--from", str(there))

    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "took over 10.0.0.2/24, 2001:db8::2/64 of one eth0\n"
        "took over 10.0.0.3/24, 2001:db8::3/64 of two eth0\n"
        "took over 2 attachments; 0 were leased here already, 0 void leases were skipped\n"
    )
    assert after.check("one", ["10.0.0.2/24", "2001:db8::2/64"]).status == 0
    assert after.add("new") == ["10.0.0.10/24", "2001:db8::4/64"]
    after.delete("two")
    assert after.check("two", ["10.0.0.3/24", "2001:db8::3/64"]).code == 120
    assert sorted(path.name for path in there.iterdir()) == [
        "10.0.0.2", "10.0.0.3", "2001:db8::2", "2001:db8::3", "last_reserved_ip.0", "lock",
    ]  # fmt: skip


def test_it_can_be_done_again(after: Ipam, there: Path, tmp_path: Path) -> None:
    arguments = ("import", config(tmp_path, "cni-ipam"), "--from", str(there))
    after.tool(*arguments)

    again = after.tool(*arguments)

    assert again.returncode == 0
    assert again.stdout == "took over 0 attachments; 2 were leased here already, 0 void leases were skipped\n"


def test_a_dry_run_changes_nothing(after: Ipam, there: Path, tmp_path: Path) -> None:
    done = after.tool("import", config(tmp_path, "cni-ipam"), "--from", str(there), "--dry-run")

    assert done.stdout.splitlines()[0] == "would take over 10.0.0.2/24, 2001:db8::2/64 of one eth0"
    assert after.add("new") == ["10.0.0.2/24", "2001:db8::2/64"]


def test_a_conflict_stops_all_of_it(after: Ipam, there: Path, tmp_path: Path) -> None:
    assert after.add("mine")[0] == "10.0.0.2/24"
    (there / "192.168.0.7").write_text("three\r\neth0")

    done = after.tool("import", config(tmp_path, "cni-ipam"), "--from", str(there))

    assert done.returncode == 1
    assert "conflict: 10.0.0.2 of one: leased to another here\n" in done.stderr
    assert "conflict: 192.168.0.7 of three: in no subnet of lan\n" in done.stderr
    assert "nothing was taken over: 3 conflicts" in done.stderr
    assert after.check("two", ["10.0.0.3/24", "2001:db8::3/64"]).code == 120


def test_leases_of_an_earlier_boot_stay_behind(after: Ipam, there: Path, tmp_path: Path) -> None:
    os.utime(there / "10.0.0.2", (0, 0))
    os.utime(there / "2001:db8::2", (0, 0))

    done = after.tool("import", config(tmp_path, "cni-ipam"), "--from", str(there))

    assert "skipped 10.0.0.2: its lease is from an earlier boot\n" in done.stdout
    assert done.stdout.endswith(
        "took over 1 attachments; 0 were leased here already, 2 void leases were skipped\n"
    )


def test_a_lease_without_an_interface_and_an_empty_one(after: Ipam, there: Path, tmp_path: Path) -> None:
    (there / "10.0.0.20").write_text("ancient")
    (there / "10.0.0.21").touch()

    done = after.tool("import", config(tmp_path, "cni-ipam"), "--from", str(there))

    assert "took over 10.0.0.20/24 of ancient eth0\n" in done.stdout
    assert "10.0.0.21" not in done.stdout


def test_what_the_real_host_local_has_leased(after: Ipam, tmp_path: Path) -> None:
    theirs = Ipam(Path("/usr/lib/cni/host-local"), tmp_path / "networks")
    theirs.conf["ipam"] = {"type": "host-local", "dataDir": str(tmp_path / "networks"), **RANGES}
    theirs.conf["cniVersion"] = "1.0.0"
    given = {pod: theirs.add(pod) for pod in ("one", "two", "three")}
    theirs.delete("two")

    done = after.tool("import", config(tmp_path, "cni-ipam"), "--from", str(tmp_path / "networks" / "lan"))

    assert done.returncode == 0, done.stderr
    assert after.check("one", given["one"]).status == 0
    assert after.check("three", given["three"]).status == 0
    assert after.add("four") == theirs.add("four")


@pytest.mark.parametrize("text", ['{"name": "lan", "type": "x"}', "{", '{"name": "lan", "plugins": 3}'])
def test_a_file_that_configures_no_ipam_is_an_error(after: Ipam, tmp_path: Path, text: str) -> None:
    path = tmp_path / "lan.conf"
    path.write_text(text)

    done = after.tool("import", str(path))

    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
