"""Which addresses answer on a link: the kernel is their owner, in namespaces at the link's far end."""

import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from cni_core import waiting
from cni_core.errors import LinkFailure
from cni_core.waiting import Waits
from cni_net.netns import open_sandbox
from cni_net.probe import answering
from tests.lab import world
from tests.lab.waiting import wait_until
from tests.lab.world import Host, Pod

V4, OTHER_V4 = "10.0.0.7", "10.0.0.8"
V6, OTHER_V6 = "2001:db8::7", "2001:db8::8"
BOTH = pytest.mark.parametrize("address", [V4, V6])
MAC = "02:00:00:00:00:99"
_DEADLINE_S = 30
_SO_RCVBUFFORCE = 33


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host on which nothing is executed."""
    with world.host(tmp_path) as made:
        yield made


@pytest.fixture
def far(host: Host) -> Pod:
    """The namespace that the host's eth0 leads to, by its own `trunk`."""
    far = host.uplink()
    wait_until(lambda: host.links()["eth0"]["operstate"] == "UP")
    return far


@contextmanager
def inside(host: Host, pod: Pod | None = None) -> Iterator[None]:
    """Be in the network namespace of a host or of its pod."""
    path = f"/proc/{host.holder}/root{pod.netns}" if pod else f"/proc/{host.holder}/ns/net"
    with open_sandbox(path) as sandbox, sandbox.entered():
        yield


def probed(host: Host, *addresses: str, rounds: int = 3, link: str = "eth0") -> dict[str, str]:
    with inside(host):
        return answering(link, addresses, rounds)


@contextmanager
def probing(host: Host, *addresses: str, rounds: int = 3) -> Iterator[Future[dict[str, str]]]:
    """Probe meanwhile."""
    with ThreadPoolExecutor(1) as threads:
        yield threads.submit(probed, host, *addresses, rounds=rounds)


def give(pod: Pod, link: str, *addresses: str) -> str:
    """Give addresses to a link; return its MAC address."""
    for address in addresses:
        length = ["/64", "nodad"] if ":" in address else ["/16"]
        pod.ip("address", "add", f"{address}{length[0]}", "dev", link, *length[1:])
    return str(pod.link(link)["address"])


class Wire:
    """A link's frames, as a raw socket in its namespace hears and sends them."""

    def __init__(self, host: Host, link: str, pod: Pod | None = None) -> None:
        with inside(host, pod):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 23)
        self._socket.bind((link, 3))
        self._socket.settimeout(_DEADLINE_S)
        self.send = self._socket.send

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()

    def next_probe(self) -> str:
        """Wait for a probe, and return the address that it asks for."""
        while not (asked := asked_for(self._socket.recv(2048))):
            pass
        return asked

    def probes_so_far(self) -> list[str]:
        """The addresses that all probes that have come ask for."""
        self._socket.settimeout(0)
        found = []
        try:
            while True:
                found.append(asked_for(self._socket.recv(2048)))
        except BlockingIOError:
            return list(filter(None, found))


def asked_for(frame: bytes) -> str:
    """The address that a probe asks for, "" for another frame; the kernel probes for its link-local ones."""
    if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1" and frame[28:32] == bytes(4):
        return socket.inet_ntop(socket.AF_INET, frame[38:42])
    if frame[12:14] == b"\x86\xdd" and frame[54:55] == b"\x87" and frame[22:38] == bytes(16):
        return socket.inet_ntop(socket.AF_INET6, frame[62:78]) if frame[62:64] != b"\xfe\x80" else ""
    return ""


def arp(operation: int, sender: str, target: str, tag: str = "") -> bytes:
    """A broadcast frame with ARP from MAC, with a VLAN tag if there is one."""
    mac = MAC.replace(":", "")
    addresses = [socket.inet_aton(address).hex() for address in (sender, target)]
    header = f"ffffffffffff {mac} {tag} 0806 0001 0800 06 04 {operation:04x}"
    return bytes.fromhex(f"{header} {mac} {addresses[0]} 000000000000 {addresses[1]}")


def neighbour(kind: int, source: str, target: str, tag: str = "") -> bytes:
    """A multicast frame with neighbour discovery from MAC; its checksum is wrong."""
    mac = MAC.replace(":", "")
    sender, about = (socket.inet_pton(socket.AF_INET6, address).hex() for address in (source, target))
    header = f"333300000001 {mac} {tag} 86dd 60000000 0018 3a ff {sender} ff02{1:028x}"
    return bytes.fromhex(f"{header} {kind:02x}000000 00000000 {about}")


def test_owners_answer_and_nobody_else(host: Host, far: Pod) -> None:
    """One is the far end itself, one a pod on it."""
    (pod,) = host.pods("p1")
    macvlan = ["netns", pod.name, "type", "macvlan", "mode", "bridge"]
    far.ip("link", "add", "eth0", "link", "trunk", *macvlan)
    pod.ip("link", "set", "eth0", "up")
    ours = give(far, "trunk", "10.0.0.1", "2001:db8::1")
    theirs = give(pod, "eth0", "10.0.0.2", "2001:db8::2")
    assert ours != theirs

    found = probed(host, "10.0.0.1", "2001:db8::1", "10.0.0.2", "2001:db8::2", V4, V6)

    assert found == {"10.0.0.1": ours, "2001:db8::1": ours, "10.0.0.2": theirs, "2001:db8::2": theirs}


def test_the_answer_to_all_nodes_is_heard_on_a_link_without_ipv6(host: Host, far: Pod) -> None:
    """Its MTU is too small for it, so it is in no group; a macvlan hears only the groups that it is in."""
    mac = give(far, "trunk", V6)
    host.ip("link", "add", "lan", "mtu", "1200", "link", "eth0", "type", "macvlan", "mode", "bridge")
    host.ip("link", "set", "lan", "up")

    assert probed(host, V6, link="lan") == {V6: mac}


@pytest.mark.parametrize("prefix", ["10.0.0.{}", "2001:db8::1:{:x}"])
def test_a_block_of_256(host: Host, far: Pod, prefix: str) -> None:
    """Each is asked for once in a round, and no more once it has answered."""
    block = [prefix.format(number) for number in range(256)]
    live = [block[1], block[100], block[255]]
    mac = give(far, "trunk", *live)

    with Wire(host, "trunk", far) as wire:
        found = probed(host, *block, rounds=2)
        asked = wire.probes_so_far()

    assert found == dict.fromkeys(live, mac)
    assert Counter(asked) == {address: 1 if address in live else 2 for address in block}


def test_a_block_is_not_asked_for_at_once(host: Host, far: Pod) -> None:
    """A wait of 40 ms follows every 16, however fast the machine is."""
    block = [f"10.0.0.{number}" for number in range(256)]
    began = time.monotonic()
    with Wire(host, "trunk", far) as wire, probing(host, *block, rounds=1):
        while wire.next_probe() != block[-1]:
            pass

        assert time.monotonic() - began >= 15 * 0.04


@BOTH
def test_when_all_have_answered_it_is_over(host: Host, far: Pod, address: str) -> None:
    mac = give(far, "trunk", address)
    began = time.monotonic()

    with inside(host):
        assert answering("eth0", [address], interval_s=20) == {address: mac}
    assert time.monotonic() - began < 20


@BOTH
def test_a_probe_that_is_lost(host: Host, far: Pod, address: str) -> None:
    """The owner comes after the first one."""
    with Wire(host, "trunk", far) as wire, probing(host, address, rounds=50) as found:
        assert wire.next_probe() == address
        mac = give(far, "trunk", address)

        assert found.result() == {address: mac}
        assert wire.probes_so_far()[0] == address


@pytest.mark.parametrize(
    ("frame", "address"),
    [
        (arp(2, OTHER_V4, V4), OTHER_V4),
        (arp(1, OTHER_V4, V4), OTHER_V4),
        (arp(1, OTHER_V4, OTHER_V4, "8100 e000"), OTHER_V4),  # VLAN 0: a priority alone
        (neighbour(136, OTHER_V6, OTHER_V6), OTHER_V6),
        (neighbour(136, OTHER_V6, OTHER_V6, "8100 e000"), OTHER_V6),
    ],
    ids=["reply", "request", "priority", "advertisement", "priority6"],
)
def test_what_counts(host: Host, far: Pod, frame: bytes, address: str) -> None:
    with Wire(host, "trunk", far) as wire, probing(host, address) as found:
        wire.next_probe()
        wire.send(frame)

        assert found.result() == {address: MAC}


@pytest.mark.parametrize(
    "frame",
    [
        arp(1, "0.0.0.0", V4),  # noqa: S104 - the sender of a probe
        arp(2, V4, V4, "8100 0032"),
        arp(2, V4, V4, "88a8 0032"),
        neighbour(135, "::", V6),
        neighbour(136, V6, V6, "8100 0032"),
    ],
    ids=["probe", "vlan", "vlan-ad", "probe6", "vlan6"],
)
def test_what_does_not_count(host: Host, far: Pod, frame: bytes) -> None:
    """A probe of somebody else, and the owner of the same address in another VLAN."""
    with Wire(host, "trunk", far) as wire, probing(host, V4, V6, OTHER_V4, rounds=2) as found:
        wire.next_probe()
        wire.send(frame)
        wire.send(arp(2, OTHER_V4, OTHER_V4))  # that this came says that the first did

        assert found.result() == {OTHER_V4: MAC}


def test_what_this_host_sends_does_not_count(host: Host, far: Pod) -> None:
    asked = (V4, V6, OTHER_V4)
    with Wire(host, "trunk", far) as wire, Wire(host, "eth0") as own, probing(host, *asked) as found:
        wire.next_probe()
        own.send(arp(2, V4, V4))
        own.send(neighbour(136, V6, V6))
        wire.send(arp(2, OTHER_V4, OTHER_V4))

        assert found.result() == {OTHER_V4: MAC}


def test_other_traffic_makes_no_answer_lost(host: Host, far: Pod) -> None:
    """More than the socket's buffer holds comes while the probing thread is aside, then the answer."""
    flood = bytes.fromhex(f"ffffffffffff {MAC.replace(':', '')} 0800") + bytes(1400)

    @contextmanager
    def busy() -> Iterator[None]:
        yield
        if not sent:
            sent.extend(wire.send(frame) for frame in [*[flood] * 1000, arp(2, V4, V4)])

    sent: list[int] = []
    with Wire(host, "trunk", far) as wire, waiting.by(Waits(aside=busy)):
        assert probed(host, V4) == {V4: MAC}


@pytest.mark.usefixtures("far")
def test_all_waits_are_aside(host: Host) -> None:
    aside: list[float] = []

    @contextmanager
    def timed() -> Iterator[None]:
        began = time.monotonic()
        yield
        aside.append(time.monotonic() - began)

    with waiting.by(Waits(aside=timed)):
        probed(host, V4)

    assert sum(aside) >= 3 * 0.3 / 2


def test_a_link_that_does_not_exist(host: Host) -> None:
    with pytest.raises(LinkFailure, match=r"^probe 10\.0\.0\.7 on eth0\.50: it does not exist$"):
        probed(host, V4, link="eth0.50")


@pytest.mark.parametrize(
    ("end", "why"), [("eth0", "it is down"), ("trunk", "it has no carrier")], ids=["down", "carrier"]
)
def test_a_link_that_is_down(host: Host, far: Pod, end: str, why: str) -> None:
    before = [] if end == "eth0" else ["-n", far.name]
    host.ip(*before, "link", "set", end, "down")

    with pytest.raises(LinkFailure, match=rf"^probe 10\.0\.0\.7\.\.\. on eth0: {why}$"):
        probed(host, V4, V6)


@pytest.mark.parametrize(
    ("end", "why"), [("eth0", "Network is down"), ("trunk", "it has no carrier")], ids=["down", "carrier"]
)
def test_a_link_that_goes_down_meanwhile(host: Host, far: Pod, end: str, why: str) -> None:
    """Its silence is no answer."""
    before = [] if end == "eth0" else ["-n", far.name]
    with Wire(host, "trunk", far) as wire, probing(host, V4, rounds=50) as found:
        wire.next_probe()
        host.ip(*before, "link", "set", end, "down")

        with pytest.raises(LinkFailure, match=rf"^probe 10\.0\.0\.7 on eth0: {why}$"):
            found.result()


def test_of_no_addresses_none_answers(host: Host) -> None:
    assert probed(host, link="missing") == {}
