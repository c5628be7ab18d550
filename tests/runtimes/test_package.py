"""The Debian package on a node: installed, at work, removed."""

import shutil
from pathlib import Path

from tests.runtimes.bare import ROOT, links, run
from tests.runtimes.conftest import DIST


def test_it_is_installed_works_and_is_removed(node: Path) -> None:
    (package,) = DIST.glob("*.deb")
    run("dpkg", "--install", shutil.copy(package, node))
    installed = (ROOT / "opt/cni/bin/cni-vlan").read_bytes()
    conf = "/usr/share/doc/cni-vlan/examples/20-dual-stack.conflist"

    shown = run("/opt/cni/bin/cni-vlan", "validate", conf).stdout
    run("dpkg", "--remove", "cni-vlan")

    assert installed == (DIST / "launcher").read_bytes()
    assert shown == f"{conf}: valid\n"
    assert not (ROOT / "opt/cni/bin/cni-vlan").exists()
    assert not (ROOT / "opt/cni-vlan").exists()
    assert not {name for name in links() if name.startswith("eth0.")}
