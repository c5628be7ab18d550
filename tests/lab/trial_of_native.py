"""Native mode on a node that stands for a machine with every link kind; run there, by its module name.

The project gets a .venv there, made of the lab's libraries; the commands are those of the README, and what
they leave is looked for from outside.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

PROJECT = Path("/opt/project")
LIBRARIES = Path("/opt/libraries")
LOOKED_AT = ("/var/lib", "/run", "/tmp")  # noqa: S108 - to see what is left there
# All kernel tests would take as long again as on the node itself: these make each kind of link.
KERNEL_TESTS = "-n 2 tests/kernel/test_modes.py tests/kernel/test_parents.py"


def make_venv() -> None:
    venv = PROJECT / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (packages,) = venv.glob("lib/python3*/site-packages")
    packages.rmdir()
    packages.symlink_to(LIBRARIES)
    (venv / ".installed").touch()


def left() -> set[str]:
    """Links, namespaces, mounts, files and processes that are there now."""
    links = {f"link {name}" for name in os.listdir("/sys/class/net")}
    namespaces = {f"namespace {path.readlink()}" for path in Path("/proc").glob("[0-9]*/ns/net")}
    mounts = {f"mount {line}" for line in Path("/proc/mounts").read_text().splitlines()}
    files = {
        f"file {path}"
        for place in LOOKED_AT
        for path in Path(place).rglob("*")
        if not path.is_relative_to("/run/netns") or path.is_file()
    }
    commands = {path.read_text() for path in Path("/proc").glob("[0-9]*/cmdline")}
    processes = {f"process {text}" for text in commands if "cni" in text or "tests" in text}
    return links | namespaces | mounts | files | processes


def make(*arguments: str) -> str:
    """Run make in native mode, as a person would; return what it said."""
    done = subprocess.run(
        ["make", *arguments], cwd=PROJECT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "using throw-away namespaces" in done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    """Nothing of the lab's own: the command has to find everything itself."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("LAB_", "CNI_", "PYTHON"))
    }


def interrupt_when(shown: str, *arguments: str) -> None:
    """Press Ctrl-C in the middle of a run: the signal goes to the whole group, as a terminal sends it."""
    process = subprocess.Popen(
        ["make", *arguments],
        cwd=PROJECT,
        env={**environment(), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if shown in line:
            os.killpg(process.pid, signal.SIGINT)
            break
    rest = process.stdout.read()
    assert process.wait() != 0, rest


def expect_nothing_new(before: set[str], what: str) -> None:
    give_up = time.monotonic() + 30
    while left() - before and time.monotonic() < give_up:
        time.sleep(0.2)  # the kernel removes namespaces a little after their last process
    new = left() - before
    assert not new, f"{what} left: {sorted(new)}"
    print(f"{what}: nothing is left", flush=True)


def main() -> None:
    make_venv()
    before = left()
    assert "all as expected" in make("demo")
    expect_nothing_new(before, "make demo")
    passed = make("kernel", f"ARGS={KERNEL_TESTS}").splitlines()[-1]
    assert re.search(r"\d+ passed", passed), passed
    assert "failed" not in passed
    print(passed)
    expect_nothing_new(before, "make kernel")
    interrupt_when("What the pods got", "demo")
    expect_nothing_new(before, "Ctrl-C in make demo")
    interrupt_when("tests/kernel", "kernel", "ARGS=-v tests/kernel/test_attach.py")
    expect_nothing_new(before, "Ctrl-C in make kernel")
    print("native mode: all as expected")


if __name__ == "__main__":
    main()
