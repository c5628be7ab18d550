"""What operators see and do."""

import json
from pathlib import Path

from tests.store.ipam import Ipam


def previous_boot(ipam: Ipam) -> None:
    """Make what is leased the leases of an earlier boot."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    current = ipam.data_dir / "lan" / boot
    current.rename(current.with_name("00000000-0000-4000-8000-000000000000"))


def rows(shown: str) -> list[list[str]]:
    return [line.split() for line in shown.splitlines()[1:]]


def test_leases_are_listed_with_their_owners(ipam: Ipam) -> None:
    ipam.add("old")
    previous_boot(ipam)
    ipam.add("c10")
    ipam.add("c2")

    shown = rows(ipam.tool("leases", "--data-dir", str(ipam.data_dir)).stdout)

    assert [(row[0], row[1], row[3], row[4], row[6]) for row in shown] == [
        ("10.0.0.3/24", "lan", "c10", "eth0", "leased"),
        ("10.0.0.4/24", "lan", "c2", "eth0", "leased"),
    ]


def test_void_leases_are_told_from_live_ones(ipam: Ipam) -> None:
    ipam.add("old")
    previous_boot(ipam)

    listed = json.loads(ipam.tool("leases", "--json", "--data-dir", str(ipam.data_dir)).stdout)

    assert [(lease["containerId"], lease["void"]) for lease in listed] == [("old", True)]


def test_leases_of_one_network(ipam: Ipam) -> None:
    ipam.add("c")

    shown = ipam.tool("leases", "--network", "other", "--data-dir", str(ipam.data_dir))

    assert (shown.returncode, rows(shown.stdout)) == (0, [])


def test_pools_show_how_full_they_are(executable: Path, tmp_path: Path) -> None:
    small = {"subnet": "10.0.0.0/24", "ipRange": "10.0.0.64/30", "exclude": ["10.0.0.65"]}
    ipam = Ipam(executable, tmp_path / "leases", small, "2001:db8::/64")
    ipam.add("c")

    shown = rows(ipam.tool("pools", "--data-dir", str(ipam.data_dir)).stdout)

    assert shown == [
        ["lan", "10.0.0.0/24", "3", "1", "2", "253", "[######..............]", "33%"],
        ["lan", "2001:db8::/64", "~2^64", "1", "~2^64", "2", "[#...................]", "0%"],
    ]


def test_release_asks_and_frees_the_address(ipam: Ipam) -> None:
    ipam.add("c")
    arguments = ("release", "10.0.0.2", "--data-dir", str(ipam.data_dir))

    refused = ipam.tool(*arguments, answer="n\n")
    kept = ipam.check("c", ["10.0.0.2/24"])
    done = ipam.tool(*arguments, answer="y\n")
    gone = ipam.check("c", ["10.0.0.2/24"])

    assert (refused.returncode, kept.status) == (1, 0)
    assert "Release 10.0.0.2/24 of c eth0 on lan?" in refused.stdout
    assert (done.returncode, gone.code) == (0, 120)
    assert done.stdout.endswith("released 10.0.0.2/24 of c eth0 on lan\n")


def test_release_of_what_is_not_leased_is_an_error(ipam: Ipam) -> None:
    done = ipam.tool("release", "10.0.0.9", "--yes", "--data-dir", str(ipam.data_dir))

    assert (done.returncode, done.stderr) == (1, "Error: 10.0.0.9 is not leased\n")


def test_release_wants_to_know_the_pool_if_two_have_the_address(ipam: Ipam) -> None:
    ipam.add("c")
    ipam.conf["name"] = "other"
    ipam.add("d")
    arguments = ("release", "10.0.0.2", "--yes", "--data-dir", str(ipam.data_dir))

    unclear = ipam.tool(*arguments)
    clear = ipam.tool(*arguments, "--pool", "lan")

    assert (unclear.returncode, clear.returncode) == (1, 0)
    assert "is leased in pools lan and other: choose one with --pool" in unclear.stderr
    assert ipam.check("d", ["10.0.0.2/24"]).status == 0


def test_without_arguments_it_says_what_it_is(ipam: Ipam) -> None:
    shown = ipam.tool()

    assert (shown.returncode, shown.stdout) == (0, "")
    assert shown.stderr.startswith("cni-ipam: a CNI plugin; CNI protocol versions supported: 0.1.0")


def test_an_unreadable_command_line_is_explained(ipam: Ipam) -> None:
    shown = ipam.tool("lease")

    assert shown.returncode == 2
    assert "No such command 'lease'" in shown.stderr
