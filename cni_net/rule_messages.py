"""The messages of blackhole routes and of routing rules, packed and read directly.

Layouts: rtnetlink(7), linux/fib_rules.h, whose header has the form of a route's.
"""

import ipaddress
import socket

from cni_core.family import Family
from cni_net.attributes import attribute, number, read, read_number, read_text, text
from cni_net.observed import TableRoute, TableRule
from cni_net.operations import EXPORT_PROTOCOL, AddBlackhole, AddRule, DeleteBlackhole, DeleteRule
from cni_net.route_messages import AF, RTA_DST, RTA_TABLE, RTM_DELROUTE, RTM_NEWROUTE, RTMSG, destination
from cni_net.rtsocket import CREATE, EXCL, HEADER_BYTES, Request

_RTM_NEWRULE, _RTM_DELRULE, _RTM_GETRULE = 32, 33, 34
_FRA_IIFNAME, _FRA_PRIORITY, _FRA_TABLE, _FRA_PROTOCOL = 3, 6, 15, 21
_RTN_BLACKHOLE, _FR_ACT_TO_TBL = 6, 1


def change_blackhole(operation: AddBlackhole | DeleteBlackhole) -> Request:
    """Return the request that adds or deletes a blackhole route of our protocol."""
    network = ipaddress.ip_network(operation.prefix)
    family = AF[Family.of(operation.prefix)]
    body = RTMSG.pack(family, network.prefixlen, 0, 0, operation.table, EXPORT_PROTOCOL, 0, _RTN_BLACKHOLE, 0)
    body += number(RTA_TABLE, operation.table)
    body += attribute(RTA_DST, network.network_address.packed)
    if isinstance(operation, DeleteBlackhole):
        return Request(RTM_DELROUTE, 0, body)
    return Request(RTM_NEWROUTE, CREATE | EXCL, body)


def change_rule(operation: AddRule | DeleteRule) -> Request:
    """Return the request that adds or deletes a rule of our protocol for packets that arrive on a link."""
    body = RTMSG.pack(AF[operation.family], 0, 0, 0, operation.table, 0, 0, _FR_ACT_TO_TBL, 0)
    body += text(_FRA_IIFNAME, operation.parent) + number(_FRA_PRIORITY, operation.priority)
    body += number(_FRA_TABLE, operation.table) + attribute(_FRA_PROTOCOL, bytes([EXPORT_PROTOCOL]))
    if isinstance(operation, DeleteRule):
        return Request(_RTM_DELRULE, 0, body)
    return Request(_RTM_NEWRULE, CREATE | EXCL, body)


def query_rules(family: Family) -> Request:
    """Return the query of a family's rules."""
    return Request(_RTM_GETRULE, 0, RTMSG.pack(AF[family], 0, 0, 0, 0, 0, 0, 0, 0))


def parse_table_route(frame: bytes) -> TableRoute:
    """Read a route of any type from a reply."""
    family, length, _src, _tos, in_header, protocol, _scope, kind, _flags = RTMSG.unpack_from(
        frame, HEADER_BYTES
    )
    found = read(frame, HEADER_BYTES + RTMSG.size)
    prefix = destination(family, found.get(RTA_DST), length)
    table = read_number(found.get(RTA_TABLE, b"")) or in_header
    return TableRoute(prefix, table, protocol, kind == _RTN_BLACKHOLE)


def parse_rule(frame: bytes) -> TableRule:
    """Read a rule from a reply."""
    family, *_lengths, in_header, _one, _two, _action, _flags = RTMSG.unpack_from(frame, HEADER_BYTES)
    found = read(frame, HEADER_BYTES + RTMSG.size)
    return TableRule(
        Family.IPV4 if family == socket.AF_INET else Family.IPV6,
        read_text(found.get(_FRA_IIFNAME, b"")),
        read_number(found.get(_FRA_TABLE, b"")) or in_header,
        read_number(found.get(_FRA_PRIORITY, b"")),
        int.from_bytes(found.get(_FRA_PROTOCOL, b"")),
    )
