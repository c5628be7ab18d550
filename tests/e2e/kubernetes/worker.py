"""A node of the cluster without any network for pods: CRI-O, kubelet and kube-proxy, and reference plugins.

Run in a container as `python3 -m tests.e2e.kubernetes.worker SETTINGS`, a JSON object.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from tests.e2e.kubernetes.programs import PAUSE
from tests.e2e.kubernetes.topology import Place
from tests.lab.waiting import wait_until

DISK = Path("/opt/kubernetes")
GROUP = Path("/sys/fs/cgroup")
CRIO = f"""\
[crio]
storage_driver = "overlay"
storage_option = ["overlay.imagestore={DISK}/images"]
[crio.api]
listen = "/run/crio.sock"
[crio.runtime]
default_runtime = "runc"
cgroup_manager = "cgroupfs"
conmon_cgroup = "pod"
pinns_path = "{DISK}/bin/pinns"
default_sysctls = ["net.ipv4.ping_group_range=0 2147483647"]
log_level = "warn"
[crio.runtime.runtimes.runc]
runtime_path = "/opt/project/tests/e2e/kubernetes/runc"
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


def install_others() -> None:
    """Put the reference plugins and Multus where those of cni-vlan will be."""
    plugins = Path("/opt/cni/bin")
    if plugins.exists():
        return  # this is not the first start
    plugins.mkdir(parents=True)
    for name in ("loopback", "portmap", "tuning", "bridge", "host-local"):
        run("cp", f"/usr/lib/cni/{name}", plugins)
    run("cp", DISK / "bin/multus", plugins)
    for path in Path("/etc/cni/net.d").glob("*"):
        path.unlink()


def start_runtime() -> None:
    Path("/etc/containers").mkdir(exist_ok=True)
    Path("/etc/containers/policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    Path("/etc/crio").mkdir(exist_ok=True)
    Path("/etc/crio/crio.conf").write_text(CRIO)
    start("crio", DISK / "bin/crio", "--config", "/etc/crio/crio.conf")


def start_kubelet(place: Place, settings: dict[str, Any]) -> None:
    config = {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "containerRuntimeEndpoint": "unix:///run/crio.sock",
        "clusterDNS": ["10.96.0.10"],
        "clusterDomain": "cluster.local",
        "failCgroupV1": False,
        "failSwapOn": False,
        "evictionHard": {"memory.available": "0%"},
        "localStorageCapacityIsolation": False,
        "imageGCHighThresholdPercent": 100,
        "containerLogMonitorInterval": "1h",
        "resolvConf": "",
        "volumeStatsAggPeriod": "-1s",
        "makeIPTablesUtilChains": False,
    }
    Path("/etc/kubelet.json").write_text(json.dumps(config))
    Path("/etc/kubeconfig").write_text(json.dumps(settings["kubeconfig"]))
    start(
        "kubelet", DISK / "bin/kubelet", "--config=/etc/kubelet.json", "--kubeconfig=/etc/kubeconfig",
        f"--hostname-override={place.name}", f"--node-ip={place.address}",
    )  # fmt: skip


def start_proxy(place: Place) -> None:
    config = {
        "kind": "KubeProxyConfiguration",
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": "/etc/kubeconfig"},
        "hostnameOverride": place.name,
        "iptables": {"masqueradeAll": True},
        "nftables": {"masqueradeAll": True},
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    Path("/etc/kube-proxy.json").write_text(json.dumps(config))
    start("kube-proxy", DISK / "bin/kube-proxy", "--config=/etc/kube-proxy.json")


def leave_the_group() -> None:
    """Leave the node's group: one with processes can hand no controllers down to those of the pods."""
    if (GROUP / "cgroup.controllers").exists():
        (GROUP / "system").mkdir()
        (GROUP / "system" / "cgroup.procs").write_text("0\n")


def is_connected() -> bool:
    return " default " in f" {run('ip', 'route').stdout}"


def main(settings: dict[str, Any]) -> None:
    leave_the_group()
    for name in [name for name in os.environ if name.startswith(("CNI_", "LAB_", "PYTHON"))]:
        del os.environ[name]  # of the tests: what is installed finds its own
    os.environ["PATH"] += f":/usr/sbin:/sbin:{DISK}/bin"
    place = Place(settings["number"])
    wait_until(is_connected)
    install_others()
    start_runtime()
    start_kubelet(place, settings)
    start_proxy(place)
    print("the node runs", flush=True)
    _keep_running()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
