"""The message codecs of pyroute2. The only module that imports it, and it imports no more.

Its umbrella package imports every protocol it knows (135 ms here, 28 ms for the three codecs), so an empty
package of the same name and path stands in for the umbrella; whoever imports pyroute2 whole before this
module keeps it whole.
"""

import importlib.util
import sys
import types

if "pyroute2" not in sys.modules:
    _spec = importlib.util.find_spec("pyroute2")
    if _spec is None or _spec.submodule_search_locations is None:
        raise ImportError("pyroute2 is not installed")
    _umbrella = types.ModuleType("pyroute2")
    _umbrella.__path__ = list(_spec.submodule_search_locations)
    sys.modules["pyroute2"] = _umbrella

from pyroute2.netlink import nla
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

__all__ = ["ifaddrmsg", "ifinfmsg", "rtmsg"]


class _Macvlan(nla):  # type: ignore[misc] # pyroute2 is untyped
    """IFLA_INFO_DATA of a macvlan; pyroute2's lacks the queue length (linux/if_link.h)."""

    prefix = "IFLA_"
    nla_map = (
        ("IFLA_MACVLAN_UNSPEC", "none"),
        ("IFLA_MACVLAN_MODE", "uint32"),
        ("IFLA_MACVLAN_FLAGS", "uint16"),
        ("IFLA_MACVLAN_MACADDR_MODE", "uint32"),
        ("IFLA_MACVLAN_MACADDR", "l2addr"),
        ("IFLA_MACVLAN_MACADDR_DATA", "addresses"),
        ("IFLA_MACVLAN_MACADDR_COUNT", "uint32"),
        ("IFLA_MACVLAN_BC_QUEUE_LEN", "uint32"),
    )

    class addresses(nla):  # type: ignore[misc] # noqa: N801 - named by the map above
        """The list of source addresses: attributes of one type."""

        nla_map = ((4, "IFLA_MACVLAN_MACADDR", "l2addr"),)


class _Ipvlan(nla):  # type: ignore[misc] # pyroute2 is untyped
    """IFLA_INFO_DATA of an ipvlan; pyroute2's lacks the flags (linux/if_link.h)."""

    prefix = "IFLA_"
    nla_map = (
        ("IFLA_IPVLAN_UNSPEC", "none"),
        ("IFLA_IPVLAN_MODE", "uint16"),
        ("IFLA_IPVLAN_FLAGS", "uint16"),
    )


ifinfmsg.ifinfo.data_map["macvlan"] = _Macvlan
ifinfmsg.ifinfo.data_map["ipvlan"] = _Ipvlan
