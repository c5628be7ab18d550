"""Any sequence of calls gives what a naive model gives: who holds what, and the last address."""

import contextlib
import ipaddress
import shutil
import tempfile
import uuid
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.strategies import booleans, integers, sampled_from
from typing_extensions import override

from tests.store.ipam import Ipam, Json

PODS = [f"pod{number}" for number in range(12)]
BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Model(RuleBasedStateMachine):
    """A range of eight addresses over the border of two blocks, sometimes with an exclusion."""

    @initialize(exclude=booleans())
    def start(self, *, exclude: bool) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="store-"))
        subnet: Json = {"subnet": "10.0.0.0/23", "gateway": "10.0.0.1"}
        ranged = {**subnet, "rangeStart": "10.0.0.252", "rangeEnd": "10.0.1.3"}
        if exclude:
            ranged["exclude"] = ["10.0.0.254/31"]
        self.ipam = Ipam(Path("cni-ipam"), self.directory)
        self.ipam.conf["ipam"] |= {"ranges": [[ranged]]}  # and STATUS fails once the pool is full
        del self.ipam.conf["ipam"]["subnets"]
        first = int(ipaddress.ip_address("10.0.0.252"))
        self.room = [n for n in range(first, first + 8) if not (exclude and n in {first + 2, first + 3})]
        self.last: int | None = None
        self.held: dict[str, int] = {}

    @override
    def teardown(self) -> None:
        with contextlib.suppress(AttributeError):  # hypothesis may end before the start
            shutil.rmtree(self.directory)

    def expected(self) -> int | None:
        """The next free address after the one given last, wrapping."""
        later = [n for n in self.room if self.last is not None and n > self.last]
        order = later + [n for n in self.room if n not in later]
        return next((n for n in order if n not in self.held.values()), None)

    @rule(pod=sampled_from(PODS))
    def add(self, pod: str) -> None:
        reply = self.ipam.warm("ADD", pod)
        number = self.expected()
        if pod in self.held:
            assert reply.code == 112
        elif number is None:
            assert reply.code == 110
        else:
            assert reply.addresses == [f"{ipaddress.ip_address(number)}/23"]
            self.held[pod] = self.last = number

    @rule(pod=sampled_from(PODS), offset=integers(0, 7))
    def add_requested(self, pod: str, offset: int) -> None:
        number = int(ipaddress.ip_address("10.0.0.252")) + offset
        address = str(ipaddress.ip_address(number))
        reply = self.ipam.warm("ADD", pod, {"runtimeConfig": {"ips": [address]}})
        if pod in self.held:
            assert reply.code == 112
        elif number not in self.room or number in self.held.values():
            assert reply.code == 111
        else:
            assert reply.addresses == [f"{address}/23"]
            self.held[pod] = number

    @rule(pod=sampled_from(PODS))
    def delete(self, pod: str) -> None:
        assert self.ipam.warm("DEL", pod).status == 0
        self.held.pop(pod, None)

    @rule(valid=sampled_from(PODS), absent=booleans())
    def collect(self, valid: str, *, absent: bool) -> None:
        attachments = {"cni.dev/valid-attachments": [{"containerID": valid, "ifname": "eth0"}]}
        assert self.ipam.warm("GC", "", {} if absent else attachments).status == 0
        if not absent:
            self.held = {pod: number for pod, number in self.held.items() if pod == valid}

    @rule()
    def reboot(self) -> None:
        pool = self.directory / "lan"
        if (pool / BOOT).exists():
            (pool / BOOT).rename(pool / str(uuid.uuid4()))
        self.held = {}

    @rule()
    def lose_the_cursor(self) -> None:
        for cursor in self.directory.glob("lan/cursors/*"):
            cursor.write_text("")
        self.last = None

    @rule()
    def status(self) -> None:
        assert self.ipam.warm("STATUS", "").code == (50 if self.expected() is None else 0)

    @invariant()
    def everyone_holds_what_was_given(self) -> None:
        for pod, number in getattr(self, "held", {}).items():
            ips = [{"address": f"{ipaddress.ip_address(number)}/23"}]
            previous = {"prevResult": {"cniVersion": "1.1.0", "ips": ips}}
            assert self.ipam.warm("CHECK", pod, previous).status == 0


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
