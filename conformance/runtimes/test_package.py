"""The Debian package on a node: installed, at work, removed."""

import shutil
from pathlib import Path

from conformance.runtimes.bare import ROOT, links, run
from conformance.runtimes.conftest import DIST, install

OURS = ("opt/cni/bin/cni-vlan", "opt/cni/bin/cni-ipam", "opt/cni-vlan")


def test_it_is_installed_works_and_is_removed(node: Path) -> None:
    (package,) = DIST.glob("*.deb")
    run("dpkg", "--install", shutil.copy(package, node))
    installed = (ROOT / "opt/cni/bin/cni-vlan").read_bytes()
    conf = "/usr/share/doc/cni-vlan/examples/20-dual-stack.conflist"

    shown = run("/opt/cni/bin/cni-vlan", "validate", conf).stdout
    run("dpkg", "--remove", "cni-vlan")
    left = [path for path in OURS if (ROOT / path).exists()]
    install(node)  # as the other tests have it

    assert installed == (DIST / "launcher").read_bytes()
    assert shown == f"{conf}: valid\n"
    assert left == []
    assert not {name for name in links() if name.startswith("eth0.")}
