"""A host with pods to attach, as a runtime sees it: arranged with `ip`, acted on by executing the plugins.

Nothing of the code under test is imported. Each host is a process of its own in new network and mount
namespaces, so that hosts neither see each other nor the machine.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.lab.warm import Agents

DEADLINE_S = 60
REACH_S = 8
Json = dict[str, Any]
_HIDDEN = ("/var/lib/cni", "/run/netns", "/run/cni-vlan")


class Reply(NamedTuple):
    """What a plugin answered."""

    status: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Json:
        document: Json = json.loads(self.stdout)
        return document

    @property
    def code(self) -> int:
        """The CNI code of an error, 0 for success."""
        return 0 if self.status == 0 else int(self.document["code"])

    @property
    def msg(self) -> str:
        document = self.document
        return f"{document['msg']} {document.get('details', '')}".strip()


class Pod(NamedTuple):
    """A network namespace and the container id that owns it."""

    host: "Host"
    name: str

    @property
    def netns(self) -> str:
        return f"/run/netns/{self.name}"

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.host.run("ip", "netns", "exec", self.name, *command, check=check)

    def ip(self, *arguments: str) -> list[Json]:
        return self.host.ip("-n", self.name, *arguments)

    def link(self, name: str = "eth0") -> Json:
        return self.ip("link", "show", name)[0]

    def has_link(self, name: str) -> bool:
        return any(link["ifname"] == name for link in self.ip("link"))

    def addresses(self, name: str = "eth0") -> list[str]:
        """The global addresses of an interface, in CIDR form."""
        found = self.ip("address", "show", name)[0]["addr_info"]
        return [f"{a['local']}/{a['prefixlen']}" for a in found if a["scope"] == "global"]

    def routes(self, family: int = 4) -> list[Json]:
        return self.ip(f"-{family}", "route", "show", "table", "all")

    def default_route(self, family: int = 4) -> Json | None:
        return next((route for route in self.routes(family) if route["dst"] == "default"), None)

    def ping(self, address: str) -> str:
        """Ping once: `reply`, `silence`, or `unreachable` if there is no route."""
        finished = self.run("ping", "-n", "-c1", "-W2", address, check=False)
        if finished.returncode == 0:
            return "reply"
        lost = "Network is unreachable" in finished.stderr + finished.stdout
        return "unreachable" if lost else "silence"

    def reaches(self, address: str) -> bool:
        """Ping until there is a reply: neighbours, and a router just brought up, may take a moment."""
        deadline = time.monotonic() + REACH_S
        while self.ping(address) != "reply":
            if time.monotonic() > deadline:
                return False
        return True

    def sysctl(self, key: str) -> str:
        return self.run("cat", f"/proc/sys/net/{key}").stdout.strip()

    def add(self, conf: Json, ifname: str = "eth0", **environment: str) -> Reply:
        return self.host.plugin("ADD", conf, self, ifname, **environment)

    def delete(self, conf: Json, ifname: str = "eth0", **environment: str) -> Reply:
        return self.host.plugin("DEL", conf, self, ifname, **environment)

    def check(self, conf: Json, result: Json, ifname: str = "eth0", **environment: str) -> Reply:
        return self.host.plugin("CHECK", {**conf, "prevResult": result}, self, ifname, **environment)

    def attach(self, conf: Json, ifname: str = "eth0", **environment: str) -> Json:
        """ADD that has to succeed; returns its result."""
        reply = self.add(conf, ifname, **environment)
        assert reply.status == 0, f"ADD {self.name} {ifname}: {reply.stdout}{reply.stderr}"
        return reply.document

    def detach(self, conf: Json, ifname: str = "eth0", **environment: str) -> None:
        """DEL that has to succeed in silence."""
        reply = self.delete(conf, ifname, **environment)
        assert (reply.status, reply.stdout) == (0, ""), f"DEL {self.name} {ifname}: {reply}"


class Host:
    """Namespaces held by a sleeping process."""

    def __init__(self, holder: int, cni_bin: Path, scratch: Path) -> None:
        self.holder = holder
        self.cni_bin = cni_bin
        self.scratch = scratch
        self.extra: dict[str, str] = {}

    @property
    def variables(self) -> dict[str, str]:
        """The environment of what runs on this host."""
        return {"CNI_VLAN_SOCKET": str(self.socket), **os.environ, **self.extra}

    @property
    def socket(self) -> Path:
        """Where an agent of this host listens, if it has one."""
        return self.scratch / "agent.sock"

    @property
    def cni_path(self) -> str:
        return f"{self.scratch}/bin:{self.cni_bin}:/usr/lib/cni"

    def popen(self, *command: str, **options: Any) -> subprocess.Popen[str]:  # noqa: ANN401 - Popen's own
        enter = ["nsenter", f"--target={self.holder}", "--net", "--mount", "--"]
        return subprocess.Popen([*enter, *command], text=True, **options)

    def run(
        self,
        *command: str,
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", f"--target={self.holder}", "--net", "--mount", "--"]
        finished = subprocess.run(
            [*enter, *command],
            input=stdin,
            env={**self.variables, **(environment or {})},
            text=True,
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )
        if check and finished.returncode:
            raise AssertionError(f"{' '.join(command)}: {finished.stderr}{finished.stdout}")
        return finished

    def ip(self, *arguments: str) -> list[Json]:
        """Run `ip` and return what it shows; changes show nothing."""
        shown = self.run("ip", "-j", "-d", *arguments).stdout
        return [item for item in json.loads(shown or "[]") if item]

    def links(self) -> dict[str, Json]:
        return {link["ifname"]: link for link in self.ip("link")}

    def configure(self, *networks: Json) -> None:
        """Put networks where a runtime reads them, on this host alone."""
        self.run("sh", "-c", "mkdir -p /etc/cni/net.d && mount -t tmpfs hidden /etc/cni/net.d")
        for conf in networks:
            path = f"/etc/cni/net.d/{conf['name']}.conf"
            self.run("sh", "-c", f"cat > {path}", stdin=json.dumps(conf))

    def namespace(self, name: str) -> Pod:
        """Add a namespace with a loopback that is up."""
        self.run("ip", "netns", "add", name)
        self.run("ip", "-n", name, "link", "set", "lo", "up")
        return Pod(self, name)

    def pods(self, *names: str) -> list[Pod]:
        return [self.namespace(name) for name in names]

    def uplink(self, name: str = "eth0", far: str = "trunk") -> Pod:
        """Add an uplink that is up, whose far end is in a namespace of its own; return that one."""
        router = self.namespace(f"{far}-end")
        self.run("ip", "link", "add", name, "type", "veth", "peer", "name", far, "netns", router.name)
        self.run("ip", "link", "set", name, "up")
        router.run("ip", "link", "set", far, "up")
        return router

    def plugin(
        self, verb: str, conf: Json | str, pod: Pod | None = None, ifname: str = "eth0", **environment: str
    ) -> Reply:
        """Execute the plugin that a configuration names, as a runtime does."""
        name = str(conf.get("type", "cni-vlan")) if isinstance(conf, dict) else "cni-vlan"
        variables = {"CNI_COMMAND": verb, "CNI_PATH": self.cni_path}
        if pod is not None:
            variables |= {"CNI_CONTAINERID": pod.name, "CNI_NETNS": pod.netns, "CNI_IFNAME": ifname}
        text = conf if isinstance(conf, str) else json.dumps(conf)
        finished = self.run(
            self.find(name), stdin=text, environment={**variables, **environment}, check=False
        )
        return Reply(finished.returncode, finished.stdout, finished.stderr)

    def start(self, verb: str, conf: Json, pod: Pod, ifname: str = "eth0") -> subprocess.Popen[str]:
        """Start a plugin and return at once; the process is the plugin itself."""
        given = self.scratch / f"conf-{pod.name}-{ifname}"
        given.write_text(json.dumps(conf))
        variables = {"CNI_COMMAND": verb, "CNI_PATH": self.cni_path, "CNI_NETNS": pod.netns}
        variables |= {"CNI_CONTAINERID": pod.name, "CNI_IFNAME": ifname}
        script = f"exec {self.find(conf['type'])} < {given}"
        return self.popen("sh", "-c", script, env={**self.variables, **variables}, stdout=subprocess.DEVNULL)

    def find(self, name: str) -> str:
        """Return the executable of a plugin, searched as a runtime does."""
        found = shutil.which(name, path=self.cni_path)
        assert found is not None, f"{name} is not in {self.cni_path}"
        return found

    def path(self, path: str) -> Path:
        """Return a path of the host as this process sees it."""
        return Path(f"/proc/{self.holder}/root{path}")

    def state(self) -> list[str]:
        """The files that the plugins keep, but what outlives attachments: leases and ledger entries."""
        listed = self.run("find", "/var/lib/cni", "!", "-type", "d", "-printf", "%P\n").stdout.split()
        lasting = ("/lock", "/.lock", "/.ula", "/pool")
        return sorted(name for name in listed if not name.endswith(lasting) and "/cursors/" not in name)

    def cache(self, pod: Pod, *plugins: Json, ifname: str = "eth0") -> None:
        """Keep a list of plugins as the one that made an attachment, as libcni does."""
        name = plugins[0]["name"]
        text = json.dumps({"name": name, "cniVersion": plugins[0]["cniVersion"], "plugins": plugins})
        kept = {"kind": "cniCacheV1", "containerId": pod.name, "ifName": ifname, "networkName": name}
        kept |= {"netns": pod.netns, "config": base64.b64encode(text.encode()).decode()}
        path = f"/var/lib/cni/results/{name}-{pod.name}-{ifname}"
        self.run("sh", "-c", f"mkdir -p /var/lib/cni/results; cat > {path}", stdin=json.dumps(kept))

    @contextmanager
    def holding(self, lock: str) -> Iterator[None]:
        """Hold a lock as another process does, which may be for ever."""
        self.run("mkdir", "-p", str(Path(lock).parent))
        holder = self.popen("flock", "--close", lock, "sh", "-c", "echo held; exec cat", stdin=-1, stdout=-1)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield
        finally:
            holder.kill()
            holder.communicate()

    def held_locks(self) -> list[str]:
        """The lock files that some process holds."""
        listed = self.run("find", "/var/lib/cni", "-type", "f", "-name", "*lock*", "-o", "-path", "*/locks/*")
        return [
            name
            for name in listed.stdout.split()
            if self.run("flock", "--nonblock", name, "true", check=False).returncode
        ]


@contextmanager
def host(cni_bin: Path | None = None, agents: Agents | None = None) -> Iterator[Host]:
    """Make a host, with an agent if there are any; at the end all in it is gone, whatever became of it."""
    executables = cni_bin or Path(os.environ["LAB_CNI_BIN"])
    hide = " && ".join(f"mkdir -p {path} && mount -t tmpfs hidden {path}" for path in _HIDDEN)
    script = f"{hide} && mount -t sysfs sys /sys && ip link set lo up && echo ready && exec cat"
    with tempfile.TemporaryDirectory(prefix="host-") as scratch:
        (Path(scratch) / "bin").mkdir()
        holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert holder.stdin is not None
        assert holder.stdout is not None
        agent = None
        try:
            assert holder.stdout.readline() == "ready\n"
            made = Host(holder.pid, executables, Path(scratch))
            agent = agents.start(holder.pid, made.socket) if agents else None
            yield made
        finally:
            if agent:
                os.kill(agent, signal.SIGKILL)
            holder.kill()
            holder.wait()
            holder.stdin.close()
            holder.stdout.close()


def lasting(link: Json) -> Json:
    """What of a link does not change by itself: the kernel settles state and queue a little after `up`."""
    return {key: value for key, value in link.items() if key not in ("operstate", "qdisc")}


def network(name: str, parent: str = "", *subnets: str | Json, **keys: Any) -> Json:  # noqa: ANN401 - JSON
    """Return a network configuration in the Docker-style schema; a subnet is a CIDR or a whole object."""
    conf: Json = {"cniVersion": "1.1.0", "name": name, "type": "cni-vlan", **keys}
    if parent:
        conf["parent"] = parent
    if subnets:
        items: Sequence[Json] = [s if isinstance(s, dict) else {"subnet": s} for s in subnets]
        conf["ipam"] = {"type": "cni-ipam", "subnets": items}
    return conf
