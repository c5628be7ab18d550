"""What strace wrote, read: which points a thread came past, and in which call it was killed."""

import pytest

from tests.crash.points import Point, trace_of

POOL = "/var/lib/cni/cni-ipam/lan"
DONE = f'7 mkdir("{POOL}", 0700) = 0'
KILLED = "7 +++ killed by SIGKILL +++"
SYSCTL = "/proc/sys/net/ipv6/conf/eth0"
OPENED = f'7 openat(16<{SYSCTL}>, "disable_ipv6", O_WRONLY|O_CLOEXEC'
WRITTEN = f'7 write(17<{SYSCTL}/disable_ipv6>, "0", 1)'
MKDIR = Point("mkdir", POOL, 1)
OPENAT = Point("openat", f"{SYSCTL}/disable_ipv6", 1)


@pytest.mark.parametrize(
    ("lines", "died_at"),
    [
        ([DONE, KILLED], None),
        ([f'7 mkdir("{POOL}", 0700) = ?', KILLED], MKDIR),
        ([f'7 mkdir("{POOL}", 0700 <unfinished ...>', KILLED], MKDIR),
        ([f'7 mkdir("{POOL}", 0700 <unfinished ...>', "7 <... mkdir resumed>) = ?", KILLED], MKDIR),
        ([f'7 mkdir("{POOL}", 0700 <unfinished ...>', "7 <... mkdir resumed>) = 0", KILLED], None),
        ([DONE, f'7 mkdir("{POOL}", 0700) = ?', KILLED], MKDIR._replace(turn=2)),
        ([f"{OPENED}) = ?", KILLED], OPENAT),
        ([f"{OPENED}) = 17<{SYSCTL}/disable_ipv6>", KILLED], None),
        (["7 exit_group(0) = ?", "7 +++ exited with 0 +++"], None),
        (["7 exit_group(0) = ?", KILLED], Point("exit_group", "the end", 1)),
    ],
)
def test_where_a_thread_was_killed(lines: list[str], died_at: Point | None) -> None:
    assert trace_of(lines).died_at == died_at


def test_what_was_opened_is_the_same_whether_it_was_done_or_not() -> None:
    (done,) = trace_of([f"{OPENED}) = 17<{SYSCTL}/disable_ipv6>"]).numbers
    (not_done,) = trace_of([f"{OPENED} <unfinished ...>"]).numbers

    assert done == not_done == OPENAT


def test_a_call_that_the_kernel_restarts_is_one_call() -> None:
    restarted = f"{WRITTEN} = ? ERESTARTNOINTR (To be restarted)"

    found = trace_of([restarted, restarted, f"{WRITTEN} = 1", f"{WRITTEN} = 1"]).numbers

    assert list(found.values()) == [1, 4]
    assert [point.turn for point in found] == [1, 2]
