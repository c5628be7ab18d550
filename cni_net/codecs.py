"""The link codec of pyroute2, for the links that are parents. The only module that imports pyroute2.

Its umbrella package imports every protocol it knows (135 ms here, 28 ms for the codecs), so an empty
package of the same name and path stands in for the umbrella. If the whole of pyroute2 was imported before
this module, it stays whole.
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

from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

__all__ = ["ifinfmsg"]
