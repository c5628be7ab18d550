"""Calling cni-ipam as a runtime does: as a process, or, for thousands of calls, in a forked warm process."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]


class Reply(NamedTuple):
    status: int
    document: Json
    stderr: str

    @property
    def addresses(self) -> list[str]:
        return [ip["address"] for ip in self.document["ips"]]

    @property
    def code(self) -> int:
        code: int = self.document.get("code", 0)
        return code


class Ipam:
    """One network's cni-ipam, its leases in a directory of the test."""

    def __init__(self, executable: Path, data_dir: Path, *subnets: str | Json, **keys: object) -> None:
        self.executable = executable
        self.args = ""  # CNI_ARGS
        self.data_dir = data_dir
        items = [s if isinstance(s, dict) else {"subnet": s} for s in subnets or ("10.0.0.0/24",)]
        ipam = {
            "type": "cni-ipam",
            "subnets": items,
            "dataDir": str(data_dir),
            "statusWhenFull": "fail",
            **keys,
        }
        self.conf: Json = {"cniVersion": "1.1.0", "name": "lan", "type": "cni-vlan", "ipam": ipam}

    def environment(self, verb: str, container: str, ifname: str = "eth0") -> dict[str, str]:
        return {
            "CNI_COMMAND": verb, "CNI_CONTAINERID": container, "CNI_NETNS": "/run/netns/none",
            "CNI_IFNAME": ifname, "CNI_PATH": str(self.executable.parent), "CNI_ARGS": self.args,
        }  # fmt: skip

    def call(
        self, verb: str, container: str = "c", *, before: Sequence[str] = (), extra: Json | None = None
    ) -> Reply:
        """Run one verb; `before` is what runs the executable, such as strace."""
        done = subprocess.run(
            [*before, str(self.executable)],
            env={**os.environ, **self.environment(verb, container)},
            input=json.dumps({**self.conf, **(extra or {})}),
            capture_output=True,
            text=True,
            check=False,
        )
        return Reply(done.returncode, json.loads(done.stdout or "{}"), done.stderr)

    def add(self, container: str) -> list[str]:
        reply = self.call("ADD", container)
        assert reply.status == 0, reply
        return reply.addresses

    def delete(self, container: str) -> None:
        reply = self.call("DEL", container)
        assert (reply.status, reply.document) == (0, {}), reply

    def check(self, container: str, addresses: Sequence[str]) -> Reply:
        previous = {"cniVersion": "1.1.0", "ips": [{"address": address} for address in addresses]}
        return self.call("CHECK", container, extra={"prevResult": previous})

    def tool(self, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        """Run the operator's tool."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("CNI_")}
        return subprocess.run(
            [str(self.executable), *arguments],
            env=environment,
            input=answer,
            capture_output=True,
            text=True,
            check=False,
        )

    def warm(self, verb: str, container: str, extra: Json | None = None) -> Reply:
        """Run one verb in this process, as the executable would."""
        from cni_core.plugin import ProcessIO, run
        from cni_ipam import commands

        out: list[str] = []
        body = json.dumps({**self.conf, **(extra or {})}).encode()
        io = ProcessIO(
            self.environment(verb, container),
            lambda: body,
            lambda _status, text: out.append(text),
            sys.stderr.write,
        )
        status = run("cni-ipam", lambda: commands, io, {})
        return Reply(status, json.loads("".join(out) or "{}"), "")
