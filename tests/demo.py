"""The main job, shown: three dual-stack pods on two VLANs of one uplink, and a router between them.

Topology T20: container0 is on VLAN 10, container2 on VLAN 20, container1 on both. Everything is attached by
executing the installed plugins as a runtime would, and looked at with `ip` and `ping`.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.table import Table

from tests.lab import world
from tests.lab.world import Host, Json, Pod, Reply

ROUTER = {10: ("10.0.10.1", "2001:db8:babe:10::1"), 20: ("10.0.20.1", "2001:db8:babe:20::1")}


def network(vlan: int, *requested: str) -> Json:
    """The configuration of one VLAN, as it would lie in /etc/cni/net.d."""
    v4, v6 = ROUTER[vlan]
    subnets = [
        {"subnet": f"10.0.{vlan}.0/24", "gateway": v4},
        {"subnet": f"2001:db8:babe:{vlan}::/64", "gateway": v6},
    ]
    conf = world.network(f"macvlan{vlan}", f"eth0.{vlan}", *subnets)
    return {**conf, "runtimeConfig": {"ips": list(requested)}} if requested else conf


class Attached:
    """One attachment of the demo, with what ADD answered."""

    def __init__(self, pod: Pod, ifname: str, conf: Json) -> None:
        self.pod = pod
        self.ifname = ifname
        self.conf = conf
        self.result: Json = {}

    @property
    def addresses(self) -> list[str]:
        return [ip["address"].partition("/")[0] for ip in self.result["ips"]]


class Demo:
    """Runs the steps and counts what did not hold."""

    def __init__(self, host: Host, console: Console) -> None:
        self.host = host
        self.console = console
        self.failures = 0

    def say(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/bold]")

    def expect(self, held: object, text: str) -> None:
        """Show an expectation and whether it held."""
        mark = "[green]ok[/green]" if held else "[bold red]FAILED[/bold red]"
        self.console.print(f"  {mark:<6} {text}")
        self.failures += not held

    def answered(self, reply: Reply, text: str, took: float) -> None:
        self.expect(reply.status == 0, f"{text} [dim]({took:.1f} s)[/dim]")
        if reply.status:
            self.console.print(reply.stdout + reply.stderr, markup=False)

    def build_router(self) -> Pod:
        router = self.host.uplink()
        for family in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
            router.run("sysctl", "-qw", f"net.{family}=1")
        for vlan, (v4, v6) in ROUTER.items():
            name = f"trunk.{vlan}"
            router.ip("link", "add", "link", "trunk", "name", name, "type", "vlan", "id", str(vlan))
            router.ip("address", "add", f"{v4}/24", "dev", name)
            router.ip("address", "add", f"{v6}/64", "dev", name, "nodad")
            router.ip("link", "set", name, "up")
        return router

    def attach(self, attached: list[Attached]) -> None:
        for item in attached:
            start = time.monotonic()
            reply = item.pod.add(item.conf, item.ifname)
            where = f"{item.pod.name} {item.ifname} on VLAN {item.conf['parent'].rpartition('.')[2]}"
            self.answered(reply, f"ADD    {where}", time.monotonic() - start)
            item.result = reply.document

    def show_pods(self, attached: list[Attached]) -> None:
        table = Table("pod", "interface", "MAC", "addresses", "default route")
        for item in attached:
            link = item.pod.link(item.ifname)
            routes = [item.pod.default_route(family) for family in (4, 6)]
            via = [f"{r['gateway']} dev {r['dev']}" for r in routes if r and r["dev"] == item.ifname]
            addresses = "\n".join(item.pod.addresses(item.ifname))
            table.add_row(item.pod.name, item.ifname, link["address"], addresses, "\n".join(via))
        self.console.print(table)

    def show_vlans(self) -> None:
        table = Table("VLAN link", "on", "id", "state", "marked")
        for name, link in self.host.links().items():
            if "." in name:
                info = link["linkinfo"]["info_data"]
                table.add_row(name, link["link"], str(info["id"]), link["operstate"], link.get("ifalias", ""))
        self.console.print(table)

    def ping_matrix(self, attached: list[Attached], *, routed: bool) -> None:
        """Ping from every pod to every other one, each family; across VLANs only a router can help."""
        table = Table("from", "to", "IPv4", "IPv6", "expected")
        sources = {item.pod.name: item.pod for item in attached}
        pairs = [
            (source, item)
            for source in sources.values()
            for item in attached
            if item.pod.name != source.name and item.ifname == "eth0"
        ]
        with ThreadPoolExecutor(len(pairs)) as pool:
            answers = pool.map(lambda pair: [pair[0].ping(a) for a in pair[1].addresses], pairs)
            for (source, item), found in zip(pairs, answers, strict=True):
                here = {i.conf["name"] for i in attached if i.pod.name == source.name}
                within = item.conf["name"] in here
                expected = "reply" if within or routed else "silence"
                held = all(answer == expected for answer in found)
                self.failures += not held
                colour = "green" if held else "bold red"
                shown = [f"[{colour}]{answer}[/{colour}]" for answer in found]
                kind = "same VLAN" if within else "through the router" if routed else "no router"
                table.add_row(
                    source.name, f"{item.pod.name} {item.addresses[0]}", *shown, f"{expected}: {kind}"
                )
        self.console.print(table)

    def check(self, attached: list[Attached]) -> None:
        for item in attached:
            start = time.monotonic()
            reply = item.pod.check(item.conf, item.result, item.ifname)
            self.answered(reply, f"CHECK  {item.pod.name} {item.ifname}", time.monotonic() - start)

    def detach(self, attached: list[Attached]) -> None:
        for item in attached:
            start = time.monotonic()
            reply = item.pod.delete({**item.conf, "prevResult": item.result}, item.ifname)
            vlans = ", ".join(name for name in self.host.links() if "." in name) or "none"
            text = f"DEL    {item.pod.name} {item.ifname}; VLAN links now: {vlans}"
            self.answered(reply, text, time.monotonic() - start)

    def prove_clean(self, attached: list[Attached]) -> None:
        self.expect(set(self.host.links()) == {"lo", "eth0"}, "the host has only lo and eth0")
        pods = {item.pod.name: item.pod for item in attached}.values()
        left = [name for pod in pods for link in pod.ip("link") if (name := link["ifname"]) != "lo"]
        self.expect(not left, f"the pods have only lo{': ' + ', '.join(left) if left else ''}")
        state = [name for name in self.host.state() if not name.startswith("cni-vlan/locks")]
        self.expect(not state, f"no lease and no ledger entry is left{': ' + str(state) if state else ''}")
        self.expect(not self.host.held_locks(), "no lock is held")


def main() -> int:
    console = Console(highlight=False, emoji=False, width=_width())
    start = time.monotonic()
    with world.host() as host:
        demo = Demo(host, console)
        demo.say("A trunk on eth0, and a router with VLAN 10 and 20 at its other end")
        router = demo.build_router()
        c0, c1, c2 = host.pods("container0", "container1", "container2")
        attached = [
            Attached(c0, "eth0", network(10)),
            Attached(c1, "eth0", network(10)),
            Attached(c2, "eth0", network(20, "10.0.20.4", "2001:db8:babe:20::4")),
            Attached(c1, "eth1", network(20, "10.0.20.3", "2001:db8:babe:20::3")),
        ]
        demo.say("Attaching three pods, one of them to both VLANs")
        demo.attach(attached)
        if not all(item.result.get("ips") for item in attached):
            return 1
        demo.say("What the pods got")
        demo.show_pods(attached)
        demo.say("What was created on the host for them")
        demo.show_vlans()
        demo.say("Pings, with the router forwarding")
        demo.ping_matrix(attached, routed=True)
        demo.say("Pings, with the router not forwarding: the VLANs are apart")
        for family in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
            router.run("sysctl", "-qw", f"net.{family}=0")
        demo.ping_matrix(attached, routed=False)
        demo.say("Checking")
        demo.check(attached)
        demo.say("Detaching: each VLAN link goes with its last pod")
        demo.detach(attached)
        demo.say("Nothing is left")
        demo.prove_clean(attached)
        took = time.monotonic() - start
        verdict = "[bold green]all as expected[/bold green]"
        failures = demo.failures
        if failures:
            verdict = f"[bold red]{failures} not as expected[/bold red]"
        console.print(f"\n{verdict}, in {took:.0f} s")
        return 1 if failures else 0


def _width() -> int:
    """The width of the terminal, which a lab node is told; enough for the tables when there is none."""
    return max(int(os.environ.get("COLUMNS") or 0), 110)


if __name__ == "__main__":
    raise SystemExit(main())
