"""Configurations of Docker and of the reference plugins, converted; what comes out is valid."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_examples import ROOT, validate

DOCKER = {
    "Name": "pub_net",
    "Driver": "macvlan",
    "EnableIPv6": True,
    "Internal": False,
    "IPAM": {
        "Driver": "default",
        "Options": {},
        "Config": [
            {
                "Subnet": "192.168.50.0/24",
                "IPRange": "192.168.50.128/25",
                "Gateway": "192.168.50.1",
                "AuxiliaryAddresses": {"router": "192.168.50.129"},
            },
            {"Subnet": "2001:db8:50::/64", "Gateway": "2001:db8:50::1"},
        ],
    },
    "Options": {"parent": "eth0.50", "macvlan_mode": "bridge", "com.docker.network.driver.mtu": "1400"},
    "Containers": {
        "3f": {"Name": "web", "IPv4Address": "192.168.50.130/24", "IPv6Address": "2001:db8:50::2/64"}
    },
}


def convert(document: object, tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "given.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return subprocess.run(
        [sys.executable, "-m", "cni_vlan", "convert", str(path), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def converted(document: object, tmp_path: Path) -> tuple[dict[str, Any], str]:
    """The one network list that a document becomes, found valid, and the notes."""
    done = convert(document, tmp_path)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "made.conflist"
    path.write_text(done.stdout)
    assert validate(path).returncode == 0, validate(path).stderr
    network: dict[str, Any] = json.loads(done.stdout)
    return network, done.stderr


def test_a_network_of_docker(tmp_path: Path) -> None:
    network, notes = converted([DOCKER], tmp_path)

    assert network == {
        "cniVersion": "1.0.0",
        "name": "pub_net",
        "plugins": [
            {
                "type": "cni-vlan",
                "driver": "macvlan",
                "parent": "eth0.50",
                "mode": "bridge",
                "mtu": 1400,
                "ipam": {
                    "type": "cni-ipam",
                    "subnets": [
                        {
                            "subnet": "192.168.50.0/24",
                            "ipRange": "192.168.50.128/25",
                            "gateway": "192.168.50.1",
                            "auxAddresses": {"router": "192.168.50.129"},
                        },
                        {"subnet": "2001:db8:50::/64", "gateway": "2001:db8:50::1"},
                    ],
                },
            }
        ],
    }
    assert "container web has 192.168.50.130/24" in notes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"Options": {}}, {"driver": "macvlan"}),
        ({"Internal": True}, {"driver": "macvlan", "parent": "eth0.50", "mode": "bridge", "internal": True}),
        (
            {
                "Driver": "ipvlan",
                "Options": {"parent": "eth0", "ipvlan_mode": "l3", "ipvlan_flag": "private"},
            },
            {"driver": "ipvlan", "parent": "eth0", "mode": "l3", "flag": "private"},
        ),
    ],
    ids=["no parent", "internal", "ipvlan"],
)
def test_the_options_of_docker(changes: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    options = {key: value for key, value in DOCKER["Options"].items() if "mtu" not in key}  # type: ignore[attr-defined] # JSON
    network, _notes = converted({**DOCKER, "Options": options, **changes}, tmp_path)

    (plugin,) = network["plugins"]
    assert {key: plugin[key] for key in plugin if key not in ("type", "ipam")} == expected


def test_a_docker_network_without_subnets_gets_default_pools(tmp_path: Path) -> None:
    network, _notes = converted({**DOCKER, "IPAM": {"Config": []}}, tmp_path)

    assert network["plugins"][0]["ipam"] == {"type": "cni-ipam", "ipv6": True}


def test_several_networks_need_a_directory_and_nothing_is_overwritten(tmp_path: Path) -> None:
    both = [DOCKER, {**DOCKER, "Name": "other"}]
    out = tmp_path / "out"

    refused = convert(both, tmp_path)
    written = convert(both, tmp_path, "--out-dir", str(out))
    again = convert(both, tmp_path, "--out-dir", str(out))

    assert refused.returncode == 1
    assert "--out-dir" in refused.stderr
    assert written.returncode == 0
    assert sorted(path.name for path in out.iterdir()) == ["other.conflist", "pub_net.conflist"]
    assert again.returncode == 1
    assert "File exists" in again.stderr


@pytest.mark.parametrize(
    ("plugin", "expected"),
    [
        ({"type": "macvlan", "master": "eth0", "mode": "vepa"}, {"master": "eth0", "mode": "vepa"}),
        ({"type": "macvlan"}, {"parent": "auto"}),
        ({"type": "ipvlan", "master": "eth0"}, {"driver": "ipvlan", "master": "eth0"}),
        ({"type": "vlan", "master": "eth0", "vlanId": 5}, {"master": "eth0", "vlanId": 5}),
    ],
    ids=["macvlan", "no master", "ipvlan", "vlan"],
)
def test_a_reference_plugin(plugin: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    ipam = {"type": "host-local", "dataDir": "/x", "ranges": [[{"subnet": "10.0.0.0/24"}]]}

    network, notes = converted({"cniVersion": "0.4.0", "name": "lan", "ipam": ipam, **plugin}, tmp_path)

    (ours,) = network["plugins"]
    assert (network["name"], network["cniVersion"]) == ("lan", "0.4.0")
    assert ours == {
        "type": "cni-vlan",
        **expected,
        "ipam": {"type": "cni-ipam", "ranges": [[{"subnet": "10.0.0.0/24"}]]},
    }
    assert "cni-ipam import" in notes
    assert "/x" in notes


def test_a_chain_keeps_its_other_plugins(tmp_path: Path) -> None:
    chain = [{"type": "macvlan", "master": "eth0"}, {"type": "tuning", "mtu": 1400}, {"type": "portmap"}]

    network, notes = converted({"cniVersion": "1.0.0", "name": "lan", "plugins": chain}, tmp_path)

    assert network["plugins"][1:] == chain[1:]
    assert "portmap does nothing here" in notes


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "not JSON"),
        ([], "0 networks"),
        ({"x": 1}, "neither the output of docker network inspect nor"),
        ({**DOCKER, "Driver": "bridge"}, "driver bridge is not macvlan or ipvlan"),
        ({"name": "x", "type": "bridge"}, "no plugin in it has the type macvlan, ipvlan, vlan"),
        ({"name": "x", "plugins": 1}, "plugins is not a list of objects"),
        ({"name": "x", "plugins": [{"type": "macvlan"}, 1]}, "plugins is not a list of objects"),
        ({**DOCKER, "Options": {"com.docker.network.driver.mtu": "big"}}, "mtu big: not a number"),
    ],
)
def test_what_cannot_be_converted_is_told(document: object, said: str, tmp_path: Path) -> None:
    done = convert(document, tmp_path)

    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
