"""Installing what was built: whole or not at all, again and again, and away."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "dist" / "bundle"
CONF = {"cniVersion": "1.0.0", "name": "lan", "plugins": [{"type": "cni-vlan"}]}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle that a test may change: the real executables, hard links of the rest."""
    target = tmp_path / "unpacked"
    shutil.copytree(BUNDLE, target, copy_function=os.link)
    return target


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    path = tmp_path / "host"
    path.mkdir()
    return path


def conf(tmp_path: Path) -> Path:
    path = tmp_path / "10-lan.conflist"
    path.write_text(json.dumps(CONF))
    return path


def agent(
    bundle: Path, *arguments: str | Path, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, bundle / "cni-agent", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def install(bundle: Path, prefix: Path, *arguments: str | Path) -> str:
    done = agent(bundle, "install", "--prefix", prefix, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def bundles(prefix: Path) -> set[str]:
    return {path.name for path in (prefix / "opt/cni-vlan").iterdir()} - {"current"}


def version(prefix: Path) -> str:
    done = subprocess.run(
        [prefix / "opt/cni/bin/cni-vlan", "--version"],
        env={"CNI_VLAN_BUNDLE": str(prefix / "opt/cni-vlan/current")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def hidden(prefix: Path) -> list[Path]:
    return [path for path in prefix.rglob(".*") if path.name.startswith(".")]


def test_everything_is_in_place_and_works(bundle: Path, prefix: Path, tmp_path: Path) -> None:
    install(bundle, prefix, "--conf", conf(tmp_path))

    (name,) = bundles(prefix)
    assert os.readlink(prefix / "opt/cni-vlan/current") == name
    assert version(prefix) == "cni-vlan, version 0.1.0\n"
    launcher = (bundle / "launcher").read_bytes()
    for plugin in ("cni-vlan", "cni-ipam"):
        path = prefix / "opt/cni/bin" / plugin
        assert path.read_bytes() == launcher
        assert path.stat().st_mode & 0o777 == 0o755
    network = prefix / "etc/cni/net.d/10-lan.conflist"
    assert json.loads(network.read_text()) == CONF
    assert network.stat().st_mode & 0o777 == 0o600
    assert hidden(prefix) == []


def test_again_nothing_is_replaced(bundle: Path, prefix: Path, tmp_path: Path) -> None:
    install(bundle, prefix, "--conf", conf(tmp_path))
    paths = [path for path in prefix.rglob("*") if path.is_file()]
    inodes = [path.stat().st_ino for path in paths]

    install(bundle, prefix, "--conf", conf(tmp_path))

    assert [path.stat().st_ino for path in paths] == inodes


def test_an_upgrade_keeps_the_version_before_and_no_more(bundle: Path, prefix: Path) -> None:
    install(bundle, prefix)
    (first,) = bundles(prefix)
    (bundle / "runtime" / "second").write_text("2")
    install(bundle, prefix)
    second = os.readlink(prefix / "opt/cni-vlan/current")
    (bundle / "runtime" / "third").write_text("3")

    assert bundles(prefix) == {first, second}
    install(bundle, prefix)
    third = os.readlink(prefix / "opt/cni-vlan/current")
    assert bundles(prefix) == {second, third}


def test_a_damaged_bundle_is_mended(bundle: Path, prefix: Path) -> None:
    install(bundle, prefix)
    (name,) = bundles(prefix)
    damaged = prefix / "opt/cni-vlan" / name / "cni-ipam"
    damaged.write_bytes(b"")

    install(bundle, prefix)

    assert damaged.read_bytes() == (bundle / "cni-ipam").read_bytes()


@pytest.mark.parametrize("mode", [0o644, 0o777])
def test_permissions_that_were_changed_are_mended(bundle: Path, prefix: Path, mode: int) -> None:
    install(bundle, prefix)
    (name,) = bundles(prefix)
    changed = [prefix / "opt/cni/bin/cni-vlan", prefix / "opt/cni-vlan" / name / "cni-ipam"]
    for path in changed:
        path.chmod(mode)

    install(bundle, prefix)

    assert [oct(path.stat().st_mode & 0o777) for path in changed] == ["0o755", "0o755"]


def test_a_link_that_was_planted_is_not_followed(bundle: Path, prefix: Path, tmp_path: Path) -> None:
    install(bundle, prefix)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    directory = prefix / "opt/cni/bin"
    (directory / ".cni-vlan.new").symlink_to(victim)
    (directory / "cni-vlan").unlink()
    (directory / "cni-ipam").unlink()
    (directory / "cni-ipam").symlink_to(victim)

    install(bundle, prefix)

    assert victim.read_text() == "precious"
    for plugin in ("cni-vlan", "cni-ipam"):
        assert not (directory / plugin).is_symlink()
        assert (directory / plugin).read_bytes() == (bundle / "launcher").read_bytes()


@pytest.mark.parametrize("nth", range(1, 7))
def test_killed_on_the_way_what_is_there_works_and_the_next_call_ends_it(
    bundle: Path, prefix: Path, tmp_path: Path, nth: int
) -> None:
    install(bundle, prefix)
    (bundle / "runtime" / "second").write_text("2")
    (bundle / "launcher").unlink()
    shutil.copy2(BUNDLE / "launcher", bundle / "launcher")
    with (bundle / "launcher").open("ab") as launcher:
        launcher.write(b"\0")  # another launcher, that works as well
    kill = ["-e", "trace=rename", "-e", f"inject=rename:signal=KILL:when={nth}"]
    strace = ("strace", "-f", "-qq", "-o", str(tmp_path / "trace"), *kill)

    killed = agent(bundle, "install", "--prefix", prefix, "--conf", conf(tmp_path), before=strace)
    trace = (tmp_path / "trace").read_text()
    version_then = version(prefix)
    install(bundle, prefix, "--conf", conf(tmp_path))

    # Five files are renamed: the bundle, its link, two launchers, a network.
    assert (killed.returncode != 0) == ("killed by SIGKILL" in trace) == (nth <= 5)
    assert version_then == version(prefix) == "cni-vlan, version 0.1.0\n"
    assert (prefix / "opt/cni/bin/cni-ipam").read_bytes() == (bundle / "launcher").read_bytes()
    assert len(bundles(prefix)) == 2
    assert (prefix / "etc/cni/net.d/10-lan.conflist").exists()
    assert hidden(prefix) == []


def test_uninstall_takes_ours_and_nothing_else(bundle: Path, prefix: Path, tmp_path: Path) -> None:
    install(bundle, prefix, "--conf", conf(tmp_path))
    (prefix / "opt/cni/bin/cni-ipam").write_text("somebody's")

    done = agent(bundle, "uninstall", "--prefix", prefix)

    left = {str(path.relative_to(prefix)) for path in prefix.rglob("*") if path.is_file()}
    assert done.returncode == 0
    assert left == {"opt/cni/bin/cni-ipam", "etc/cni/net.d/10-lan.conflist"}


def test_a_place_that_cannot_be_written_is_said(bundle: Path, prefix: Path) -> None:
    (prefix / "opt").touch()

    done = agent(bundle, "install", "--prefix", prefix)

    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: install {prefix}/opt/cni-vlan: ")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as systemd wants them, with a program that is there; that it is, the package's tests see."""
    directory = tmp_path / "units"
    directory.mkdir()
    for unit in (ROOT / "manifests" / "systemd").iterdir():
        text = unit.read_text().replace("/opt/cni-vlan/current/cni-agent", "/bin/true")
        (directory / unit.name).write_text(text)
    return directory


def test_systemd_finds_nothing_wrong_with_the_units(units: Path) -> None:
    found = subprocess.run(
        ["systemd-analyze", "verify", *units.iterdir()], capture_output=True, text=True, check=False
    )

    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_systemd_says_how_little_the_agent_is_exposed(units: Path) -> None:
    """At most 2.5 of 10; SECURITY.md says what is left out, and why."""
    asked = ["systemd-analyze", "security", "--offline=true", "--threshold=25"]

    found = subprocess.run([*asked, units / "cni-agent.service"], capture_output=True, text=True, check=False)

    assert "Overall exposure level" in found.stdout + found.stderr
    assert found.returncode == 0, found.stdout
