"""One of two nodes on a trunk; run on each as `python3 -m tests.e2e.nodes.side 1|2`.

Both have pods on VLAN 10 (macvlan) and VLAN 20 (ipvlan), with disjoint ip-ranges of one subnet, and routed
pods (ipvlan l3) whose subnet the other node, their router, has a route to.
"""

import socket
import sys
import tempfile
import time
from pathlib import Path

from tests.lab.world import Host, Pod, network

BUNDLE = Path(__file__).parents[3] / "dist" / "bundle"
INIT = 1
BOOT_S = 120  # the other node may still have to start
RANGES = {1: ("192.168.{}.0/25", "2001:db8:{}::1:0/112"), 2: ("192.168.{}.128/25", "2001:db8:{}::2:0/112")}
FIRST = {1: ("192.168.{}.1", "2001:db8:{}::1:0"), 2: ("192.168.{}.128", "2001:db8:{}::2:0")}
PORT = 7000


class Side:
    def __init__(self, number: int, host: Host) -> None:
        self.number = number
        self.other = 3 - number
        self.host = host

    def networks(self) -> list[dict[str, object]]:
        found = [network("routed", "eth0", f"10.1.{self.number}.0/24", mode="l3")]
        for vlan, mode in ((10, "bridge"), (20, "l2")):
            v4, v6 = (text.format(vlan) for text in RANGES[self.number])
            subnets = (
                {"subnet": f"192.168.{vlan}.0/24", "ipRange": v4, "gateway": f"192.168.{vlan}.254"},
                {"subnet": f"2001:db8:{vlan}::/64", "ipRange": v6, "gateway": f"2001:db8:{vlan}::ffff"},
            )
            found.append(network(f"vlan{vlan}", f"eth0.{vlan}", *subnets, mode=mode))
        return found

    def targets(self, name: str) -> list[str]:
        """The addresses of the other node's pod on a network."""
        if name == "routed":
            return [f"10.1.{self.other}.2"]
        return [text.format(name.removeprefix("vlan")) for text in FIRST[self.other]]

    def plug_in(self) -> None:
        host = self.host
        host.run("ip", "link", "set", "eth0", "up")
        host.run("ip", "address", "add", f"10.0.0.{self.number}/24", "dev", "eth0")
        host.run("ip", "route", "add", f"10.1.{self.other}.0/24", "via", f"10.0.0.{self.other}")

    def meet(self) -> None:
        """Wait until the other node is as far."""
        give_up = time.monotonic() + BOOT_S
        while time.monotonic() < give_up:
            try:
                if self.number == 1:
                    with socket.create_server(("10.0.0.1", PORT)) as server:
                        server.settimeout(BOOT_S)
                        server.accept()
                else:
                    socket.create_connection(("10.0.0.1", PORT), 5).close()
            except OSError:
                continue
            return
        raise AssertionError("the other node was not there in time")


def reached(pod: Pod, address: str) -> bool:
    give_up = time.monotonic() + BOOT_S
    while not pod.reaches(address):
        if time.monotonic() > give_up:
            return False
    return True


def main(number: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        side = Side(number, Host(INIT, BUNDLE, Path(scratch)))
        host = side.host
        side.plug_in()
        before = set(host.links())
        frames = Path(scratch) / "frames"
        with frames.open("w") as output:
            capture = host.popen("tcpdump", "-i", "eth0", "-l", "-n", "-e", "vlan and icmp", stdout=output)
        attached = [(conf, host.namespace(str(conf["name"]))) for conf in side.networks()]
        for conf, pod in attached:
            pod.attach(conf)
        for _conf, pod in attached:
            for address in side.targets(pod.name):
                assert reached(pod, address), f"{pod.name} does not reach {address}"
                print(f"node {number}: {pod.name} reaches {address}", flush=True)
        for vlan in (10, 20):
            while f"vlan {vlan}," not in frames.read_text():
                assert capture.poll() is None
            print(f"node {number}: frames of VLAN {vlan} seen", flush=True)
        side.meet()
        for conf, pod in attached:
            pod.detach(conf)
        capture.kill()
        assert set(host.links()) == before
        assert host.state() == []
        print(f"node {number}: removed", flush=True)


main(int(sys.argv[1]))
