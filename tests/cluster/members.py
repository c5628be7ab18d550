"""Three hosts of a cluster on one wire, each with its agent."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.agent.conftest import RunningAgent
from tests.cluster.etcds import Etcds
from tests.cluster.relay import Relay
from tests.lab import world
from tests.lab.world import Host, Json, Pod, network

GRACE_S = "1"


class Member:
    """A host of the cluster."""

    def __init__(self, host: Host, relays: list[Relay], one_shot: Path, conf: Json, wire: Host) -> None:
        self.host, self.relays, self.conf = host, relays, conf
        self.wire = wire  # another host, whose link "switch" all are plugged into
        self._executable = one_shot / "cni-agent"
        self.agent: RunningAgent | None = None

    def start(self) -> None:
        self.agent = RunningAgent(self.host, self._executable, options=("--contact", "1", "--grace", GRACE_S))

    def stop(self) -> None:
        if self.agent is not None:
            self.agent.stop()
            self.agent = None

    def cut_off(self) -> None:
        """Part this host from the engine, and from it alone."""
        for relay in self.relays:
            relay.cut()

    def connect(self) -> None:
        for relay in self.relays:
            relay.mend()

    @property
    def log(self) -> str:
        return (self.host.scratch / "agent.log").read_text()

    def blocks(self, state: str = "held") -> list[str]:
        text = self.host.run("cat", "/var/lib/cni/cni-ipam/lan/holdings", check=False).stdout or "{}"
        return [block["start"] for block in json.loads(text).get("blocks", []) if block["state"] == state]

    def attach(self, *names: str) -> list[Pod]:
        pods = self.host.pods(*names)
        for pod in pods:
            pod.attach(self.conf)
        return pods

    def tool(self, *arguments: str, check: bool = True) -> str:
        executable = str(self._executable.with_name("cni-ipam"))
        return self.host.run(executable, *arguments, check=check).stdout


@contextmanager
def three(etcd: Etcds, launchers: Path, one_shot: Path) -> Iterator[list[Member]]:
    ports = [int(endpoint.rpartition(":")[2]) for endpoint in etcd.endpoints]
    with ExitStack() as stack:
        wire = stack.enter_context(world.host(launchers))
        made = []
        for name in ("n1", "n2", "n3"):
            host = stack.enter_context(world.host(launchers))
            host.extra = {
                "CNI_VLAN_SOCKET": str(host.scratch / "agent" / "agent.sock"),
                "CNI_VLAN_BUNDLE": str(one_shot),
            }
            keys = {"store": "etcd", "endpoints": list(etcd.endpoints), "node": name}
            conf = network("lan", "eth0", "10.0.0.0/24", announce=0)
            conf["ipam"] |= {"cluster": keys}
            relays = [stack.enter_context(Relay(host.holder, port)) for port in ports]
            made.append(Member(host, relays, one_shot, conf, wire))
        _plug_in(made, wire)
        for member in made:
            member.start()
            stack.callback(member.stop)
        yield made


def _plug_in(members: list[Member], wire: Host) -> None:
    """Plug the eth0 of each host into a switch."""
    wire.run("ip", "link", "add", "switch", "type", "bridge")
    wire.run("ip", "link", "set", "switch", "up")
    for number, member in enumerate(members):
        port = f"port{number}"
        far = ["peer", "name", "eth0", "netns", str(member.host.holder)]
        wire.run("ip", "link", "add", port, "master", "switch", "type", "veth", *far)
        wire.run("ip", "link", "set", port, "up")
        member.host.run("ip", "link", "set", "eth0", "up")
