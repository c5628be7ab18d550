"""A node with pods, before and after it starts again: `python3 -m conformance.nodes.reboot first|again`.

What containerd, podman and the plugins keep is on /dev/vdd, which lasts.
"""

import copy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from conformance.runtimes import bare, conftest
from conformance.runtimes.conftest import CONFLIST, Containerd, leases, until
from conformance.runtimes.cri import Pod, Runtime
from conformance.runtimes.image import write_image

STATE = Path("/mnt/state")
PODS = 5  # as many as the network has addresses
SUBNET = {"subnet": "192.168.50.0/24", "ipRange": "192.168.50.8/29", "gateway": "192.168.50.1"}
TAKEN = {"a": "192.168.50.8", "b": "192.168.50.9", "c": "192.168.50.10"}


def prepare(scratch: Path) -> Runtime:
    STATE.mkdir()
    subprocess.run(["mount", "/dev/vdd", STATE], check=True)
    bare.make(STATE)
    conftest.cable()
    conflist = copy.deepcopy(CONFLIST)
    conflist["plugins"][0]["ipam"]["subnets"] = [{**SUBNET, "auxAddresses": TAKEN}]
    conftest.install(scratch, conflist)
    image = scratch / "busybox.tar"
    write_image(image, conftest.IMAGE)
    bare.start("/opt/cni-vlan/current/cni-agent", "serve", log=scratch / "agent.log")
    until(conftest.SOCKET.exists)
    Containerd(scratch / "containerd.log", image)
    runtime = Runtime()
    until(runtime.network_is_ready)
    return runtime


def first(runtime: Runtime) -> None:
    pods = [Pod(runtime, f"old{number}") for number in range(PODS)]
    assert len({pod.addresses[0] for pod in pods}) == PODS
    subprocess.run(["sync"], check=True)
    print("all addresses are leased", flush=True)
    while True:
        time.sleep(60)


def again(runtime: Runtime) -> None:
    before = runtime.sandboxes()
    assert len(before) == PODS, before
    new = Pod(runtime, "new")  # at once, with the same configuration
    assert new.addresses[0].startswith("192.168.50.")
    print("a new pod has an address", flush=True)
    for sandbox in before:
        Pod.known(runtime, sandbox).stop()
    others = [Pod(runtime, f"new{number}") for number in range(PODS - 1)]
    assert len(leases()) == PODS, leases()
    assert all(lease["pod"].startswith("default/new") for lease in leases())
    for pod in (new, *others):
        pod.stop()
    assert leases() == []
    assert "eth0.50" not in bare.links()
    print("nothing is left", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        {"first": first, "again": again}[sys.argv[1]](prepare(Path(name)))
