"""SIGTERM while a one-shot ADD waits, or undoes what it did: nothing of it is left."""

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab.waiting import wait_until, waiters
from tests.lab.world import Host, Json, Pod, network

CONF = network("lan", "eth0", "10.0.0.0/30", announce=0)  # one address
POOL = "/var/lib/cni/cni-ipam/lan/lock"
PARENT = "/var/lib/cni/cni-vlan/locks/eth0"
ENDS_WITHIN_S = 60
LONGER_THAN_A_LOOK_S = 1.5  # after whether the caller still waits


@pytest.fixture
def cold(host: Host, one_shot: Path) -> Host:
    host.cni_bin = one_shot
    host.uplink()
    return host


def start_add(host: Host, pod: Pod) -> subprocess.Popen[str]:
    given = host.scratch / f"conf-{pod.name}"
    given.write_text(json.dumps(CONF))
    variables = {"CNI_COMMAND": "ADD", "CNI_PATH": host.cni_path, "CNI_NETNS": pod.netns}
    variables |= {"CNI_CONTAINERID": pod.name, "CNI_IFNAME": "eth0"}
    script = f"exec {host.find('cni-vlan')} < {given}"
    return host.popen("sh", "-c", script, env={**host.variables, **variables}, stdout=subprocess.PIPE)


def answer_of(caller: subprocess.Popen[str]) -> Json:
    try:
        out, _err = caller.communicate(timeout=ENDS_WITHIN_S)
    finally:
        caller.kill()
    document: Json = json.loads(out)
    return document


def left(host: Host, *pods: Pod) -> list[str]:
    """What is kept on disk and in the sandboxes, but lock files."""
    kept = [name for name in host.state() if not name.startswith("cni-vlan/locks/")]
    return kept + [pod.name for pod in pods if pod.has_link("eth0")]


def test_stopped_while_it_waits_for_its_pool_it_undoes_what_it_did(cold: Host) -> None:
    (pod,) = cold.pods("p1")
    with cold.holding(POOL):
        caller = start_add(cold, pod)
        wait_until(lambda: pod.has_link("eth0"))
        caller.terminate()
        answer = answer_of(caller)

    assert (caller.returncode, answer["code"]) == (1, 11)
    assert "SIGTERM" in answer["msg"]
    assert left(cold, pod) == []


def test_stopped_while_it_undoes_it_undoes_all(cold: Host) -> None:
    """The pool has no address; the undo of the link is done, that of the parent waits."""
    first, second = cold.pods("p1", "p2")
    first.attach(CONF)
    with ExitStack() as parent:
        with cold.holding(POOL):
            caller = start_add(cold, second)
            wait_until(lambda: second.has_link("eth0"))
            parent.enter_context(cold.holding(PARENT))
        wait_until(lambda: waiters(cold.path(PARENT), caller.pid))
        caller.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            caller.wait(LONGER_THAN_A_LOOK_S)  # it does not give the undo up
    answer = answer_of(caller)
    first.detach(CONF)

    assert caller.returncode == 1
    assert answer["msg"].startswith("no IP addresses available")
    assert left(cold, first, second) == []
