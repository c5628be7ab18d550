"""The first hour on a machine that has nothing: the README's commands in a minimal root of each release."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fresh.root import fresh_root, run
from tests.lab.tools import step

MISSING = ("python3", "git")  # Debian 13 has no mount either


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def root(request: pytest.FixtureRequest) -> Iterator[Path]:
    with fresh_root(request.param) as made:
        yield made


def timed(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    start = time.monotonic()
    with step(f"{' '.join(command)} in {root.name}"):
        done = run(root, *command)
    print(f"{' '.join(command)}: {time.monotonic() - start:.0f} s")
    return done


@pytest.mark.parametrize(
    ("before", "cure"),
    [
        ("setpriv --reuid 65534 --clear-groups", "run the same command with sudo, or first: apt-get install"),
        ("env PATH=/root/programs", "has no apt-get: install them first"),
    ],
)
def test_a_machine_that_cannot_be_set_up_is_told_so_in_one_sentence(
    root: Path, before: str, cure: str
) -> None:
    programs = root / "root/programs"
    programs.mkdir(exist_ok=True)
    for name in ("bash", "dirname", "uname", "id", "env"):
        (programs / name).unlink(missing_ok=True)
        (programs / name).symlink_to(f"/usr/bin/{name}")
    (root / "root").chmod(0o755)

    done = run(root, *before.split(), "tools/bootstrap")

    assert done.returncode == 1
    assert "lacks git" in done.stdout
    assert cure in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_the_demo_does_all_its_set_up(root: Path) -> None:
    assert [name for name in MISSING if (root / "usr/bin" / name).exists()] == []

    done = timed(root, "make", "demo")

    assert done.returncode == 0
    assert "all as expected" in done.stdout


def test_lint_types_and_unit_tests_hold_on_the_release_s_python(root: Path) -> None:
    assert timed(root, "make", "lint", "unit").returncode == 0


def test_the_bundle_is_built_with_the_release_s_python(root: Path) -> None:
    script = "make dist/bundle/cni-agent && CNI_COMMAND=VERSION dist/bundle/cni-vlan"

    done = timed(root, "sh", "-c", script)

    assert done.returncode == 0
    assert '"supportedVersions"' in done.stdout
