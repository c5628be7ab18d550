"""What the first command of a boot makes in /run is for root alone, whichever command that is."""

import json
from pathlib import Path

from tests.lab.world import Host, network

CONF = network("lan", "eth0", "10.0.0.0/24", announce=0)


def modes(host: Host) -> dict[str, str]:
    """The mode of each directory below /run/cni-vlan, and its own."""
    listed = host.run("find", "/run/cni-vlan", "-type", "d", "-printf", "%p %m\n").stdout.splitlines()
    return dict(line.split() for line in listed)


def test_directories_are_for_root_alone(host: Host, one_shot: Path) -> None:
    host.run("mount", "-t", "tmpfs", "fresh", "/run")  # as after a boot: there is no /run/cni-vlan
    host.cni_bin = one_shot
    host.uplink()
    (pod,) = host.pods("p1")
    given = host.scratch / "lan.conf"
    given.write_text(json.dumps(CONF))

    host.run(host.find("cni-vlan"), "validate", str(given))
    after_validate = modes(host)
    pod.attach(CONF)
    after_add = modes(host)

    assert set(after_validate.values()) | set(after_add.values()) == {"700"}
    assert {"/run/cni-vlan", "/run/cni-vlan/validated"} <= after_validate.keys()
    assert "/run/cni-vlan/attachments" in after_add
