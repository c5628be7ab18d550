"""What the lab says of machines that cannot have a node, when it gives one up, and where tests run."""

from pathlib import Path

import pytest

from tests.lab import parts
from tests.lab.deadlines import BOOT_S, overdue
from tests.lab.fitness import Machine, problem

FIT = Machine(
    is_root=True,
    has_apt=True,
    distribution="debian",
    architecture="x86_64",
    memory=4 << 30,
    disk=8 << 30,
    cache=Path("/root/.cache/cni-vlan-lab"),
)


def test_a_fit_machine_has_no_problem() -> None:
    assert problem(FIT) == ""


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (FIT._replace(is_root=False), "need root: run the same command with sudo"),
        (FIT._replace(has_apt=False, distribution="fedora"), "Debian 12 or 13, and this machine is fedora"),
        (FIT._replace(distribution="ubuntu"), "Debian 12 or 13, and this machine is ubuntu"),
        (FIT._replace(has_apt=False, distribution=""), "and this machine is no Debian"),
        (FIT._replace(architecture="aarch64"), "x86_64 alone, and this machine is aarch64"),
        (FIT._replace(memory=2 << 30), "needs 3 GiB of memory, and this machine has 2.0"),
        (FIT._replace(disk=1 << 30), "needs 4 GiB of disk, and 1.0 GiB are free"),
    ],
)
def test_an_unfit_machine_gets_one_sentence(machine: Machine, words: str) -> None:
    sentence = problem(machine)

    assert words in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("elapsed", "booted", "first_output", "words"),
    [
        (BOOT_S - 1, None, None, ""),
        (BOOT_S + 1, None, None, "did not boot within 100 s"),
        (100.0, 3.0, None, ""),
        (304.0, 3.0, None, "no output 300 s after the boot"),
        (3000.0, 3.0, 10.0, ""),
        (3604.0, 3.0, 10.0, "not done 3600 s after the boot"),
        (130.0, 0.5, None, "no output 120 s after the boot"),  # with KVM: the least that is given
        (1300.0, 0.5, 1.0, "not done 1200 s after the boot"),
    ],
)
def test_each_step_has_a_deadline_by_the_time_of_the_boot(
    elapsed: float, booted: float | None, first_output: float | None, words: str
) -> None:
    late = overdue(elapsed, booted, first_output)

    assert words in late
    assert bool(words) is bool(late)


SAMPLE = """
import pytest

@pytest.mark.parametrize("mode", [pytest.param("bridge", marks=pytest.mark.macvlan), "l2"])
def test_a_mode(mode): ...

@pytest.mark.macvlan
def test_of_macvlan(): ...

def test_of_a_vlan(): ...
"""
PYTEST = ["python3", "-m", "pytest", "-q", "-p", "no:cacheprovider"]


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # which is most of the time of a start
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    return tmp_path


@pytest.mark.parametrize(("chosen", "counts"), [(["-v"], (2, 2)), (["-k", "of_a_vlan"], (0, 1))])
def test_each_test_is_in_one_part(sample: Path, chosen: list[str], counts: tuple[int, int]) -> None:
    assert parts.counts(sample, [*PYTEST, *chosen]) == counts


@pytest.mark.parametrize(
    ("chosen", "words"),
    [(["-m", "macvlan"], "would run never or twice"), (["test_nowhere.py"], "test_nowhere.py")],
)
def test_tests_that_would_be_lost_are_told(sample: Path, chosen: list[str], words: str) -> None:
    with pytest.raises(SystemExit, match=words):
        parts.counts(sample, [*PYTEST, *chosen])
