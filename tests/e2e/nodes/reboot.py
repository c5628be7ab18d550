"""A node with pods, before and after it starts again: `python3 -m tests.e2e.nodes.reboot first|again`.

What containerd, podman and the plugins keep is on /dev/vdd, which lasts.
"""

import copy
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.runtimes import bare, installed
from tests.e2e.runtimes.cri import Pod, Runtime
from tests.e2e.runtimes.image import write_image
from tests.e2e.runtimes.installed import CONFLIST, Containerd, leases
from tests.lab.waiting import wait_until
from tests.lab.world import network

STATE = Path("/mnt/state")
PODS = 5  # as many as the network has addresses
SUBNET = {"subnet": "192.168.50.0/24", "ipRange": "192.168.50.8/29", "gateway": "192.168.50.1"}
ROUTED = network("routed", "eth0", "10.50.0.0/24", mode="l3", export=True)
TAKEN = {"a": "192.168.50.8", "b": "192.168.50.9", "c": "192.168.50.10"}


def prepare(scratch: Path) -> Runtime:
    STATE.mkdir()
    subprocess.run(["mount", "/dev/vdd", STATE], check=True)
    bare.make(STATE)
    installed.cable()
    conflist = copy.deepcopy(CONFLIST)
    conflist["plugins"][0]["ipam"]["subnets"] = [{**SUBNET, "auxAddresses": TAKEN}]
    installed.install(scratch, conflist)
    image = scratch / "busybox.tar"
    write_image(image, installed.IMAGE)
    bare.start("/opt/cni-vlan/current/cni-agent", "serve", log=scratch / "agent.log")
    wait_until(installed.SOCKET.exists)
    Containerd(scratch / "containerd.log", image)
    runtime = Runtime()
    wait_until(runtime.network_is_ready)
    return runtime


def routed(verb: str) -> None:
    """Attach or detach a namespace to a network that the fabric learns, by the plugin alone."""
    if verb == "ADD":
        bare.run("ip", "netns", "add", "routed")
    variables = {"COMMAND": verb, "CONTAINERID": "routed", "NETNS": "/run/netns/routed", "IFNAME": "eth0"}
    variables["PATH"] = "/opt/cni/bin"
    environment = [f"CNI_{name}={value}" for name, value in variables.items()]
    bare.run("env", *environment, "/opt/cni/bin/cni-vlan", stdin=json.dumps(ROUTED))


def exported() -> str:
    """The routing table that a routing daemon reads."""
    return bare.run("ip", "route", "show", "table", "177", check=False).stdout.strip()


def first(runtime: Runtime) -> None:
    routed("ADD")
    assert exported() == "blackhole 10.50.0.0/24 proto 177", exported()
    pods = [Pod(runtime, f"old{number}") for number in range(PODS)]
    assert len({pod.addresses[0] for pod in pods}) == PODS
    subprocess.run(["sync"], check=True)
    print("all addresses are leased", flush=True)
    while True:
        time.sleep(60)


def again(runtime: Runtime) -> None:
    before = runtime.sandboxes()
    assert len(before) == PODS, before
    assert exported() == ""
    routed("ADD")
    assert exported() == "blackhole 10.50.0.0/24 proto 177", exported()
    print("the route is back with the first pod", flush=True)
    routed("DEL")
    assert exported() == ""
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
