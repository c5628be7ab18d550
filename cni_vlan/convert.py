"""Conversion of other configurations into ours: `docker network inspect`, and the reference plugins. Pure.

Each conversion returns a network list for a runtime, and notes for the operator.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cni_core.errors import InvalidConfig

_VERSION = "1.0.0"
_DRIVERS = ("macvlan", "ipvlan")
_REFERENCE = (*_DRIVERS, "vlan")
_OPTIONS = {
    "parent": "parent",
    "macvlan_mode": "mode",
    "ipvlan_mode": "mode",
    "ipvlan_flag": "flag",
}
_MTU = "com.docker.network.driver.mtu"
_USELESS = {
    "bandwidth": "needs a veth peer, which a macvlan or ipvlan does not have: remove it",
    "portmap": "does nothing here: pods have addresses of their own on the VLAN",
    "firewall": "does nothing here: the traffic of these pods does not pass the host's netfilter",
}


class Converted(NamedTuple):
    """A network list, and notes on it for the operator."""

    network: dict[str, Any]
    notes: tuple[str, ...]


def convert(document: object) -> list[Converted]:
    """Convert a document read from a file; raises InvalidConfig for an unknown format."""
    if isinstance(document, list) and all(isinstance(item, dict) and "Driver" in item for item in document):
        return [_from_docker(network) for network in document]
    if isinstance(document, dict) and "Driver" in document:
        return [_from_docker(document)]
    if isinstance(document, dict) and ("type" in document or "plugins" in document):
        return [_from_reference(document)]
    raise InvalidConfig("neither the output of docker network inspect nor a CNI network configuration")


def _from_docker(found: Mapping[str, Any]) -> Converted:
    name, driver = str(found.get("Name")), found["Driver"]
    if driver not in _DRIVERS:
        raise InvalidConfig(f"network {name}: driver {driver} is not macvlan or ipvlan")
    notes: list[str] = []
    options = {key: str(value) for key, value in (found.get("Options") or {}).items()}
    plugin: dict[str, Any] = {"type": "cni-vlan", "driver": driver}
    plugin |= {_OPTIONS[key]: value for key, value in options.items() if key in _OPTIONS and value}
    mtu = options.get(_MTU, "")
    if mtu and not mtu.isdecimal():
        raise InvalidConfig(f"network {name}: option {_MTU} {mtu}: not a number")
    if mtu:
        plugin["mtu"] = int(mtu)
    unknown = sorted(options.keys() - _OPTIONS.keys() - {_MTU})
    notes += [f"option {key} has no counterpart and is left out" for key in unknown]
    if found.get("Internal"):
        plugin["internal"] = True
    ipam = found.get("IPAM") or {}
    if ipam.get("Driver", "default") not in {"default", "null", ""}:
        notes.append(f"IPAM driver {ipam['Driver']} is not converted: the subnets are given to cni-ipam")
    subnets = [_subnet(config) for config in ipam.get("Config") or ()]
    plugin["ipam"] = {"type": "cni-ipam", **({"subnets": subnets} if subnets else {})}
    if found.get("EnableIPv6") and not any(":" in str(subnet.get("subnet")) for subnet in subnets):
        plugin["ipam"]["ipv6"] = True
    notes += _containers(found.get("Containers") or {})
    return Converted({"cniVersion": _VERSION, "name": name, "plugins": [plugin]}, tuple(notes))


def _subnet(config: Mapping[str, Any]) -> dict[str, Any]:
    keys = {
        "Subnet": "subnet",
        "IPRange": "ipRange",
        "Gateway": "gateway",
        "AuxiliaryAddresses": "auxAddresses",
    }
    return {ours: config[theirs] for theirs, ours in keys.items() if config.get(theirs)}


def _containers(containers: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    """Return a note for each address that a container has now: a pod keeps it only on request."""
    return [
        f"container {container.get('Name')} has {address}: to keep it, request it with the capability ips"
        for container in containers.values()
        for address in (container.get("IPv4Address"), container.get("IPv6Address"))
        if address
    ]


def _from_reference(found: Mapping[str, Any]) -> Converted:
    plugins = found.get("plugins", [found])
    notes: list[str] = []
    if not isinstance(plugins, list) or not all(isinstance(plugin, dict) for plugin in plugins):
        raise InvalidConfig("plugins is not a list of objects")
    if not any(plugin.get("type") in _REFERENCE for plugin in plugins):
        raise InvalidConfig(f"no plugin in it has the type {', '.join(_REFERENCE)}")
    converted = [_plugin(plugin, at, notes) for at, plugin in enumerate(plugins)]
    version = str(found.get("cniVersion") or _VERSION)
    shared = {key: found[key] for key in ("disableCheck", "disableGC", "cniVersions") if key in found}
    network = {"cniVersion": version, "name": found.get("name"), **shared, "plugins": converted}
    return Converted(network, tuple(notes))


def _plugin(plugin: Mapping[str, Any], at: int, notes: list[str]) -> dict[str, Any]:
    kind = plugin.get("type")
    if kind not in _REFERENCE:
        if kind in _USELESS:
            notes.append(f"{kind} {_USELESS[kind]}")
        return dict(plugin)
    ours = {key: value for key, value in plugin.items() if key not in {"name", "cniVersion", "type", "ipam"}}
    ours = {"type": "cni-vlan", **({"driver": "ipvlan"} if kind == "ipvlan" else {}), **ours}
    if not plugin.get("master") and not (kind == "ipvlan" and at):
        ours["parent"] = "auto"
        notes.append("there is no master: parent auto is the interface of the default route")
    if kind == "vlan":
        notes.append("pods get a macvlan on the VLAN interface, which they share in the host's namespace")
    if "ipam" in plugin:
        ours["ipam"] = _ipam(plugin["ipam"], notes)
    return ours


def _ipam(ipam: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    if ipam.get("type") != "host-local":
        return dict(ipam)
    if "dataDir" in ipam:
        notes.append(f"host-local's dataDir {ipam['dataDir']} is left out: leases are kept elsewhere")
    notes.append("to keep the leases of running pods, run: cni-ipam import FILE")
    return {**{key: value for key, value in ipam.items() if key != "dataDir"}, "type": "cni-ipam"}
