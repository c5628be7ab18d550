"""A node of the cluster without any network yet: CRI-O, kubelet and kube-proxy, and reference plugins.

Run on a lab node as `python3 -m tests.e2e.kubernetes.worker SETTINGS`, a JSON object.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from tests.e2e.kubernetes.programs import PAUSE
from tests.e2e.runtimes.installed import cable
from tests.lab.waiting import wait_until

DISK = Path("/opt/kubernetes")
MANAGEMENT = "10.0.2.15"
DIST = Path("/opt/project/dist")
CRIO = f"""\
[crio]
storage_driver = "overlay"
[crio.api]
listen = "/run/crio.sock"
[crio.runtime]
default_runtime = "runc"
cgroup_manager = "cgroupfs"
conmon_cgroup = "pod"
pinns_path = "{DISK}/bin/pinns"
default_sysctls = ["net.ipv4.ping_group_range=0 2147483647"]
log_level = "info"
[crio.runtime.runtimes.runc]
runtime_path = "/usr/sbin/runc"
monitor_path = "/usr/bin/conmon"
[crio.image]
pause_image = "{PAUSE}"
pause_command = "/pause"
[crio.network]
network_dir = "/etc/cni/net.d"
plugin_dirs = ["/opt/cni/bin"]
"""


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not (check and done.returncode), f"{command}: {done.stderr}{done.stdout}"
    return done


_services: dict[str, tuple[subprocess.Popen[bytes], tuple[str | Path, ...]]] = {}


def start(name: str, *command: str | Path) -> None:
    """Start a service; its log is in /var/log, which kubelet shows, its process id in /run."""
    with open(f"/var/log/{name}.log", "ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    _services[name] = (process, command)
    Path(f"/run/{name}.pid").write_text(f"{process.pid}\n")


def _keep_running() -> NoReturn:
    """Start again what ends, as systemd would."""
    while True:
        for name, (process, command) in list(_services.items()):
            if process.poll() is not None:
                start(name, *command)
        time.sleep(0.5)


def plug_in() -> None:
    """Name the forwarded network, and put a router with VLAN 50 behind eth0."""
    run("ip", "link", "set", "eth0", "name", "management")
    run("ip", "address", "add", f"{MANAGEMENT}/24", "dev", "management")
    run("ip", "link", "set", "management", "up")
    run("ip", "route", "add", "default", "via", "10.0.2.2")
    run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    cable(run)


def install_others() -> None:
    """Put the reference plugins and Multus where those of cni-vlan will be."""
    plugins = Path("/opt/cni/bin")
    plugins.mkdir(parents=True)
    for name in ("loopback", "portmap", "tuning", "bridge", "host-local"):
        run("cp", f"/usr/lib/cni/{name}", plugins)
    run("cp", DISK / "bin/multus", plugins)
    for path in Path("/etc/cni/net.d").glob("*"):
        path.unlink()


def start_runtime() -> None:
    Path("/etc/containers").mkdir(exist_ok=True)
    Path("/etc/containers/policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    (image,) = DIST.glob("cni-vlan-image-*.tar")
    for archive in (DISK / "pause.tar", DISK / "busybox.tar", image):
        run("podman", "--storage-driver", "overlay", "load", "-i", archive)
    Path("/etc/crio").mkdir(exist_ok=True)
    Path("/etc/crio/crio.conf").write_text(CRIO)
    start("crio", DISK / "bin/crio", "--config", "/etc/crio/crio.conf")
    wait_until(lambda: Path("/run/crio.sock").exists())


def start_kubelet(settings: dict[str, Any]) -> None:
    config = {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "containerRuntimeEndpoint": "unix:///run/crio.sock",
        "clusterDNS": ["10.96.0.10"],
        "clusterDomain": "cluster.local",
        "failSwapOn": False,
        "port": settings["kubelet"],
        "evictionHard": {"memory.available": "1Mi"},
        "resolvConf": "",
    }
    Path("/etc/kubelet.json").write_text(json.dumps(config))
    Path("/etc/kubeconfig").write_text(json.dumps(settings["kubeconfig"]))
    start(
        "kubelet", DISK / "bin/kubelet", "--config=/etc/kubelet.json", "--kubeconfig=/etc/kubeconfig",
        "--hostname-override=localhost", f"--node-ip={MANAGEMENT}",
    )  # fmt: skip


def start_proxy() -> None:
    config = {
        "kind": "KubeProxyConfiguration",
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": "/etc/kubeconfig"},
        "hostnameOverride": "localhost",
        "iptables": {"masqueradeAll": True},
        "nftables": {"masqueradeAll": True},
        "conntrack": {"maxPerCore": 0},
    }
    Path("/etc/kube-proxy.json").write_text(json.dumps(config))
    start("kube-proxy", DISK / "bin/kube-proxy", "--config=/etc/kube-proxy.json")


def main(settings: dict[str, Any]) -> None:
    DISK.mkdir(exist_ok=True)
    run("mount", "-o", "ro", "/dev/vdd", DISK)
    os.environ["PATH"] += f":{DISK}/bin"
    plug_in()
    install_others()
    start_runtime()
    start_kubelet(settings)
    start_proxy()
    print("the node runs", flush=True)
    _keep_running()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
