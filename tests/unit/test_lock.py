"""The lock between real processes."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cni_core.errors import IoFailure, TryAgainLater
from cni_core.lock import locked
from tests.lab.waiting import wait_until, waiters

ROOT = Path(__file__).parents[2]
COUNT = """
import sys
from cni_core.lock import locked
for _ in range(20):
    with locked(sys.argv[1]):
        number = int(open(sys.argv[2]).read())
        open(sys.argv[2], "w").write(str(number + 1))
"""
HOLD = """
import sys, time
from cni_core.lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def start(code: str, *arguments: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_no_increment_is_lost(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")

    processes = [start(COUNT, tmp_path / "lock", counter) for _ in range(8)]

    assert [process.wait(60) for process in processes] == [0] * 8
    for process in processes:
        process.communicate()
    assert counter.read_text() == "160"


def test_the_deadline_is_an_error_that_says_try_again(tmp_path: Path) -> None:
    holder = start(HOLD, tmp_path / "lock")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    started = time.monotonic()

    with pytest.raises(TryAgainLater, match=r"held by another process for 0\.2 s"):
        with locked(str(tmp_path / "lock"), 0.2):
            raise AssertionError("two hold the lock")

    assert time.monotonic() - started >= 0.2
    holder.kill()
    holder.communicate()
    with locked(str(tmp_path / "lock"), 5):
        pass  # the kernel gave back what the killed process held


TELL = """
import sys
from cni_core.lock import locked
with locked(sys.argv[1]):
    with open(sys.argv[2], "a") as told:
        told.write(sys.argv[3])
"""


def test_who_waited_longer_goes_first(tmp_path: Path) -> None:
    lock, told = tmp_path / "lock", tmp_path / "told"
    holder = start(HOLD, lock)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    queue = []
    for letter in "abcde":
        command = [sys.executable, "-c", TELL, str(lock), str(told), letter]
        queue.append(subprocess.Popen(command, cwd=ROOT))
        wait_until(lambda: waiters(lock) == len(queue))

    holder.kill()
    holder.communicate()

    assert [waiter.wait(60) for waiter in queue] == [0] * 5
    assert told.read_text() == "abcde"


def test_a_lock_file_removed_by_its_holder_locks_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(str(path)):
        path.unlink()
        with locked(str(path), 1):
            assert path.exists()


def test_a_lock_that_cannot_be_made_is_an_input_output_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(IoFailure, match=r"File exists|Not a directory"):
        with locked(str(tmp_path / "file" / "lock")):
            pass


def test_a_lock_that_stays_held_costs_one_thread_and_one_descriptor(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    holder = subprocess.Popen(
        ["flock", "--close", path, "sh", "-c", "echo held; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))

    def attempt() -> None:
        with pytest.raises(TryAgainLater), locked(path, 0.05):
            pass

    for _round in range(3):
        with ThreadPoolExecutor(20) as pool:
            for future in [pool.submit(attempt) for _ in range(20)]:
                future.result()

    after = threading.active_count(), len(os.listdir("/proc/self/fd"))
    assert after[0] <= before[0] + 1
    assert after[1] <= before[1] + 2  # its own, and the listing's
    holder.kill()
    holder.communicate()
    with locked(path, 10):
        pass
