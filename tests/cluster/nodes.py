"""Nodes on one machine: each with a state directory of its own, all in one cluster."""

import json
from pathlib import Path
from typing import Any

from cni_ipam.cluster import EngineConf
from tests.store.ipam import Ipam, Reply

Json = dict[str, Any]
POOL = "lan"


def cluster_keys(conf: EngineConf, node: str) -> Json:
    """Return the section "cluster" of a configuration."""
    keys: Json = {"store": conf.store, "node": node}
    if conf.store == "etcd":
        keys |= {"endpoints": list(conf.endpoints), "prefix": conf.prefix}
    elif conf.endpoints:
        keys["server"] = conf.endpoints[0]
    named = {
        "caFile": conf.ca_file, "certFile": conf.cert_file, "keyFile": conf.key_file,
        "tokenFile": conf.token_file, "user": conf.user, "passwordFile": conf.password_file,
    }  # fmt: skip
    return keys | {key: value for key, value in named.items() if value}


class Node(Ipam):
    """One node: its cni-ipam on a network of the pool "lan"."""

    def __init__(
        self,
        executable: Path,
        directory: Path,
        conf: EngineConf,
        name: str,
        *subnets: str | Json,
        **keys: object,
    ) -> None:
        super().__init__(
            executable,
            directory / name,
            *subnets,
            cluster=cluster_keys(conf, name),
            **{"statusWhenFull": "warn", **keys},
        )
        self.name = name

    def holdings(self) -> Json:
        """Return the file of the node's blocks, as anybody reads it; {} if there is none."""
        path = self.data_dir / POOL / "holdings"
        found: Json = json.loads(path.read_text()) if path.exists() else {}
        return found

    def blocks(self, state: str = "held") -> list[str]:
        """Return the starts of its blocks."""
        return [block["start"] for block in self.holdings().get("blocks", []) if block["state"] == state]

    def attempt(self, container: str) -> Reply:
        return self.call("ADD", container)
