"""The messages of blackhole routes and of routing rules, packed and read directly.

Layouts: rtnetlink(7), linux/fib_rules.h, whose header has the form of a route's.
"""

import ipaddress
import socket
import struct

from cni_core.family import Family
from cni_net.attributes import attribute, number, read, read_number, read_text, text
from cni_net.observed import TableRoute, TableRule
from cni_net.operations import EXPORT_PROTOCOL, AddBlackhole, AddRule, DeleteBlackhole, DeleteRule
from cni_net.rtsocket import CREATE, EXCL, HEADER_BYTES, Request

_RTM_NEWROUTE, _RTM_DELROUTE = 24, 25
_RTM_NEWRULE, _RTM_DELRULE, _RTM_GETRULE = 32, 33, 34
_RTA_DST, _RTA_TABLE = 1, 15
_FRA_IIFNAME, _FRA_PRIORITY, _FRA_TABLE, _FRA_PROTOCOL = 3, 6, 15, 21
_RTN_BLACKHOLE, _FR_ACT_TO_TBL = 6, 1
_AF = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
_ANY = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}  # noqa: S104 - a destination
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags


def change_blackhole(operation: AddBlackhole | DeleteBlackhole) -> Request:
    """Return the request that adds or deletes a blackhole route of our protocol."""
    network = ipaddress.ip_network(operation.prefix)
    family = _AF[Family.of(operation.prefix)]
    body = _RTMSG.pack(
        family, network.prefixlen, 0, 0, operation.table, EXPORT_PROTOCOL, 0, _RTN_BLACKHOLE, 0
    )
    body += number(_RTA_TABLE, operation.table)
    body += attribute(_RTA_DST, network.network_address.packed)
    if isinstance(operation, DeleteBlackhole):
        return Request(_RTM_DELROUTE, 0, body)
    return Request(_RTM_NEWROUTE, CREATE | EXCL, body)


def change_rule(operation: AddRule | DeleteRule) -> Request:
    """Return the request that adds or deletes a rule of our protocol for packets that arrive on a link."""
    body = _RTMSG.pack(_AF[operation.family], 0, 0, 0, operation.table, 0, 0, _FR_ACT_TO_TBL, 0)
    body += text(_FRA_IIFNAME, operation.parent) + number(_FRA_PRIORITY, operation.priority)
    body += number(_FRA_TABLE, operation.table) + attribute(_FRA_PROTOCOL, bytes([EXPORT_PROTOCOL]))
    if isinstance(operation, DeleteRule):
        return Request(_RTM_DELRULE, 0, body)
    return Request(_RTM_NEWRULE, CREATE | EXCL, body)


def query_rules(family: Family) -> Request:
    """Return the query of a family's rules."""
    return Request(_RTM_GETRULE, 0, _RTMSG.pack(_AF[family], 0, 0, 0, 0, 0, 0, 0, 0))


def parse_table_route(frame: bytes) -> TableRoute:
    """Read a route of any type from a reply."""
    family, length, _src, _tos, in_header, protocol, _scope, kind, _flags = _RTMSG.unpack_from(
        frame, HEADER_BYTES
    )
    found = read(frame, HEADER_BYTES + _RTMSG.size)
    to = found.get(_RTA_DST)
    prefix = f"{socket.inet_ntop(family, to) if to else _ANY[family]}/{length}"
    table = read_number(found.get(_RTA_TABLE, b"")) or in_header
    return TableRoute(prefix, table, protocol, kind == _RTN_BLACKHOLE)


def parse_rule(frame: bytes) -> TableRule:
    """Read a rule from a reply."""
    family, *_lengths, in_header, _one, _two, _action, _flags = _RTMSG.unpack_from(frame, HEADER_BYTES)
    found = read(frame, HEADER_BYTES + _RTMSG.size)
    return TableRule(
        Family.IPV4 if family == socket.AF_INET else Family.IPV6,
        read_text(found.get(_FRA_IIFNAME, b"")),
        read_number(found.get(_FRA_TABLE, b"")) or in_header,
        read_number(found.get(_FRA_PRIORITY, b"")),
        int.from_bytes(found.get(_FRA_PROTOCOL, b"")),
    )
