"""The configuration of a network: JSON in, an Attachment out. Has no side effects.

Keys and defaults are in docs/configuration.md. All problems of a configuration are reported at once.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_network
from typing import Any, Literal, TypedDict

from cni_core.call import Call
from cni_core.document import section
from cni_core.errors import InvalidConfig, UnsupportedField
from cni_core.ifname import IFNAME_BYTES, ifname_problem
from cni_core.netconf import DnsKeys, load
from cni_core.result import ONE_PER_FAMILY
from cni_core.result_json import parse_dns
from cni_net.operations import IPVLAN_FLAGS, IPVLAN_MODES, MACVLAN_MODES
from cni_vlan.attachment import (
    EXPORT_TABLE,
    EXPORT_TABLES,
    IPAM_TIMEOUT_MOST_S,
    IPAM_TIMEOUT_S,
    Attachment,
    Claim,
    Export,
    Ipam,
)
from cni_vlan.parents import (
    AUTO,
    DEFAULT_PROTOCOL,
    VLAN_IDS,
    Existing,
    Isolated,
    Parent,
    Vlan,
    isolated_parent,
    levels,
    parse_parent,
    vlan_on,
)

_MAC = r"[0-9a-f]{2}(:[0-9a-f]{2}){5}"  # compiled at its use, which most processes have not
_MAC_DIGITS = 12
_SOURCE_MACS_MOST = 4096  # an attribute has room for 5,460
_ANNOUNCEMENTS = 3
_MTU_MAX = 65535
_QUEUE_MAX = 0xFFFFFFFF


class Schema(TypedDict, total=False):
    """The keys of a network, in addition to those of every plugin."""

    driver: Literal["macvlan", "ipvlan"]
    parent: str
    master: str
    vlan: int
    vlanId: int
    vlanProtocol: Literal["802.1q", "802.1ad"]
    uplinkVlanProtocol: Literal["802.1q", "802.1ad"]
    mode: str
    macvlan_mode: str
    ipvlan_mode: str
    flag: str
    ipvlan_flag: str
    internal: bool
    mtu: int
    mac: str
    macAddresses: list[str]
    bcqueuelen: int
    linkInContainer: bool
    announce: int
    acceptRA: bool
    hostAccess: bool
    hostRoutes: list[str]
    export: bool | str
    exportTable: int
    ipam: dict[str, Any]
    ipamTimeout: float
    dns: DnsKeys


def parse(call: Call, warn: Callable[[str], None]) -> Attachment:
    """Return the attachment that a configuration describes.

    Raises InvalidConfig with every problem, UnsupportedField for a value that its driver or mode cannot have.
    """
    conf = load(Schema, call.conf, "", warn)
    problems = _number_problems(conf)
    claim = _claim(conf, problems)
    parent = _parent(conf, call, claim.driver, problems)
    mac = _mac(conf, call, problems)
    problems += _source_mac_problems(conf, claim)
    problems += _ipam_problems(conf, call)
    problems += _host_access_problems(conf)
    problems += _export_problems(conf, claim, parent)
    if problems:
        raise InvalidConfig.of(problems)
    _check_supported(conf, claim, mac)
    return Attachment(
        network=call.network,
        parent=parent,
        claim=claim,
        mtu=conf.get("mtu", 0),
        mac=mac,
        source_macs=_source_macs(conf),
        queue_length=conf.get("bcqueuelen", 0),
        link_in_container=conf.get("linkInContainer", False),
        announce=conf.get("announce", _ANNOUNCEMENTS),
        accept_ra=conf.get("acceptRA", False),
        ipam=_ipam(conf.get("ipam", {}), conf.get("ipamTimeout", IPAM_TIMEOUT_S)),
        dns=parse_dns(conf["dns"]) if "dns" in conf else None,
        host_access=conf.get("hostAccess", False),
        host_routes=tuple(str(ip_network(text)) for text in conf.get("hostRoutes", ())),
        export=_export(conf),
    )


def _source_macs(conf: Schema) -> tuple[str, ...]:
    return tuple(text.lower() for text in conf.get("macAddresses", ()))


def _source_mac_problems(conf: Schema, claim: Claim) -> list[str]:
    """Return the problems of macAddresses."""
    macs = _source_macs(conf)
    found = [f"macAddresses {mac}: not a MAC address" for mac in macs if not re.fullmatch(_MAC, mac)]
    if len(macs) > _SOURCE_MACS_MOST:
        found.append(f"macAddresses: {len(macs)}, must be at most {_SOURCE_MACS_MOST}")
    if macs and claim.mode != "source":
        found.append("macAddresses: only for mode source")
    return found


def _ipam_problems(conf: Schema, call: Call) -> list[str]:
    """Return the problems of ipam that concern the main plugin."""
    ipam_type = conf.get("ipam", {}).get("type", "")
    if not isinstance(ipam_type, str):
        return [f"ipam.type {ipam_type!r}: not a plugin's name"]
    if not ipam_type and call.cni_version in ONE_PER_FAMILY:
        return ["ipam: required before cniVersion 0.3.0, whose results must have an address"]
    return []


def _check_supported(conf: Schema, claim: Claim, mac: str) -> None:
    """Raise UnsupportedField for a valid value that cannot work with this driver and mode."""
    if conf.get("hostAccess", False):
        from cni_vlan import host_access  # few networks need it, and an import slows every start

        reason = host_access.impossible(claim)
        if reason:
            raise UnsupportedField(f"hostAccess: {reason}")
    if mac and claim.driver == "ipvlan":
        raise UnsupportedField(f"mac {mac}: an ipvlan always has the MAC address of its parent")


def _export(conf: Schema) -> Export | None:
    wanted = conf.get("export", False)
    return Export(conf.get("exportTable", EXPORT_TABLE), each_pod=wanted == "host") if wanted else None


def _export_problems(conf: Schema, claim: Claim, parent: Parent) -> list[str]:
    """Return the problems of export and exportTable."""
    wanted, table = conf.get("export", False), conf.get("exportTable", EXPORT_TABLE)
    if not wanted:
        return ["exportTable: only with export"] if "exportTable" in conf else []
    found = []
    if wanted not in (True, "host"):
        found.append(f'export {wanted!r}: must be true, or "host" for a route to each pod')
    if claim.mode not in {"l3", "l3s"}:
        found.append(f"export: only for modes l3 and l3s; pods in mode {claim.mode} are reached on layer 2")
    if isinstance(parent, Isolated):
        found.append("export: an isolated network cannot be reached from outside")
    if conf.get("linkInContainer", False):
        found.append("export: cannot be combined with linkInContainer, which has no parent on the host")
    if not conf.get("ipam", {}).get("type"):
        found.append("export: requires ipam, since the pods' addresses are exported")
    if table not in EXPORT_TABLES:
        found.append(f"exportTable {table}: must be 1 to 252, the tables that routing daemons can read")
    return found


def _host_access_problems(conf: Schema) -> list[str]:
    """Return the problems of hostAccess and hostRoutes."""
    found = []
    if conf.get("hostAccess", False):
        if not conf.get("ipam", {}).get("type"):
            found.append("hostAccess: requires ipam, since the host needs routes to the pods' addresses")
        if conf.get("linkInContainer", False):
            found.append(
                "hostAccess: cannot be combined with linkInContainer, which has no parent on the host"
            )
    elif conf.get("hostRoutes"):
        found.append("hostRoutes: only with hostAccess")
    texts = conf.get("hostRoutes", ())
    return found + [f"hostRoutes {text}: {why}" for text in texts if (why := _host_route_problem(text))]


def _host_route_problem(text: str) -> str:
    if "%" in text:
        return "has a zone"
    try:
        network = ip_network(text)
    except ValueError as error:
        return str(error)
    return "" if network.prefixlen else "must not be a default route"


def _claim(conf: Schema, problems: list[str]) -> Claim:
    """Return driver, mode and flag; a combination that does not fit is a problem."""
    flag = conf.get("flag") or conf.get("ipvlan_flag", "")
    ipvlan_mode = conf.get("ipvlan_mode", "")
    mode = conf.get("mode") or ipvlan_mode or conf.get("macvlan_mode", "")
    wants_ipvlan = bool(ipvlan_mode or flag) or mode in IPVLAN_MODES
    driver = conf.get("driver") or ("ipvlan" if wants_ipvlan else "macvlan")
    modes = IPVLAN_MODES if driver == "ipvlan" else MACVLAN_MODES
    mode = mode or ("l2" if driver == "ipvlan" else "bridge")
    if mode not in modes:
        problems.append(f"mode {mode}: not a mode of {driver}: {', '.join(modes)}")
    if driver == "macvlan" and flag:
        problems.append(f"flag {flag}: only for ipvlan")
    flag = flag or "bridge"
    if flag not in IPVLAN_FLAGS:
        problems.append(f"flag {flag}: not a flag of ipvlan: {', '.join(IPVLAN_FLAGS)}")
    return Claim(driver, mode, flag if driver == "ipvlan" else "")


def _parent(conf: Schema, call: Call, driver: str, problems: list[str]) -> Parent:
    name = conf.get("parent") or conf.get("master") or _chained_parent(call, problems)
    vlan = conf.get("vlan", conf.get("vlanId"))
    protocol = conf.get("vlanProtocol", DEFAULT_PROTOCOL)
    uplink_protocol = conf.get("uplinkVlanProtocol", "")
    internal = conf.get("internal", False)
    if internal or not name:
        if vlan is not None and not internal:
            problems.append(f"vlan {vlan}: requires parent")
        return isolated_parent(call.network, driver)
    if name == "lo":
        problems.append("parent lo: the loopback interface cannot carry a macvlan or ipvlan")
    if any(c in "/:" or c.isspace() for c in name):
        problems.append(f"parent {name}: interface name {ifname_problem(name[:IFNAME_BYTES])}")
    own = protocol if vlan is None else uplink_protocol or DEFAULT_PROTOCOL
    parent: Parent = Existing(AUTO) if name == AUTO else parse_parent(name, own, uplink_protocol)
    if vlan is not None:
        parent = vlan_on(parent, vlan, protocol, uplink_protocol)
    problems += [problem for level in levels(parent) for problem in _level_problems(level)]
    return parent


def _level_problems(level: Parent) -> list[str]:
    """Return the problems that hold on any node: a VLAN id out of range, a name too long."""
    if isinstance(level, Vlan):
        if level.vlan_id not in VLAN_IDS:
            return [f"vlan {level.vlan_id} on {level.uplink.name}: a VLAN id is 1 to 4094"]
    elif len(level.name.encode()) > IFNAME_BYTES:
        return [f"parent {level.name}: longer than {IFNAME_BYTES} bytes"]
    return []


def _chained_parent(call: Call, problems: list[str]) -> str:
    """Return the interface of the previous plugin in a chain, as the reference ipvlan plugin does."""
    interfaces = section(call.conf.get("prevResult"), "interfaces")
    if call.command != "ADD" or not isinstance(interfaces, list):
        return ""
    names = [name for item in interfaces if (name := section(item, "name"))]
    if len(names) == 1:
        return str(names[0])
    problems.append(f"parent: required, since prevResult has {len(names)} interfaces")
    return ""


def _mac(conf: Schema, call: Call, problems: list[str]) -> str:
    """Return the requested MAC address, from the source of highest precedence that has one."""
    sources: tuple[tuple[str, Any], ...] = (
        ("runtimeConfig.mac", section(call.conf, "runtimeConfig", "mac")),
        ("CNI_ARGS MAC", call.args.get("MAC")),
        ("args.cni.mac", section(call.conf, "args", "cni", "mac")),
        ("mac", conf.get("mac", "")),
    )
    where, given = next(((where, value) for where, value in sources if value), ("", ""))
    digits = re.sub(r"[:.-]", "", str(given).lower())  # forms of Go's net.ParseMAC: 02-00-…, 0200.0000.0009
    mac = ":".join(re.findall("..", digits)) if len(digits) == _MAC_DIGITS else str(given)
    if mac and not re.fullmatch(_MAC, mac):
        problems.append(f"{where} {given}: not a MAC address")
    elif mac and (int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00"):
        problems.append(f"{where} {given}: not a unicast address")
    return mac


def _ipam(conf: Mapping[str, Any], timeout_s: float) -> Ipam | None:
    return Ipam(conf["type"], timeout_s) if conf.get("type") else None


def _number_problems(conf: Schema) -> list[str]:
    """Return a problem for each number that is out of range."""
    limits: Sequence[tuple[str, float, float, float]] = (
        ("mtu", conf.get("mtu", 0), 0, _MTU_MAX),
        ("bcqueuelen", conf.get("bcqueuelen", 0), 0, _QUEUE_MAX),
        ("announce", conf.get("announce", _ANNOUNCEMENTS), 0, _ANNOUNCEMENTS),
        ("ipamTimeout", conf.get("ipamTimeout", IPAM_TIMEOUT_S), 0.1, IPAM_TIMEOUT_MOST_S),
    )
    return [
        f"{key} {value}: must be {low:g} to {high:g}"
        for key, value, low, high in limits
        if not low <= value <= high
    ]
