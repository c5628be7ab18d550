"""The routing daemons of this node, asked by their own tools. The only module that knows birdc and vtysh.

The tools find the daemons where the packages put them: /run/bird/bird.ctl and /run/frr.
"""

import json
import os
from collections.abc import Iterator

_WITHIN_S = 5.0
_silent: set[str] = set()  # the tools that have once hung, so that many prefixes do not wait for each of them
_TOOLS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")


def present() -> list[str]:
    """Return the names of the daemons whose tools are installed."""
    return [name for name, tool in (("bird", "birdc"), ("frr", "vtysh")) if _find(tool)]


def holders(prefix: str) -> list[str]:
    """Return the names of the daemons that have taken a prefix from the kernel.

    Not of those that were told it by a neighbour. Of FRR it is bgpd that is asked: zebra knows the routes of
    every table, whether or not it was told to do something with them.
    """
    return list(_holders(prefix))


def _holders(prefix: str) -> Iterator[str]:
    learned = ("where", "source", "=", "RTS_INHERIT")
    if prefix in _ask("birdc", "-r", "show", "route", prefix, "table", "all", *learned):
        yield "bird"
    family = "ipv6" if ":" in prefix else "ipv4"
    if _is_of_this_node(_ask("vtysh", "-d", "bgpd", "-c", f"show bgp {family} unicast {prefix} json")):
        yield "frr"


def _is_of_this_node(text: str) -> bool:
    """Tell whether bgpd has a path of its own among those that it shows."""
    try:
        shown = json.loads(text or "{}")
        return any(path.get("sourced") for path in shown.get("paths", ()))
    except (ValueError, AttributeError, TypeError):  # not JSON, or not bgpd's
        return False


def _find(tool: str) -> str:
    paths = (os.path.join(directory, tool) for directory in _TOOLS)
    return next((path for path in paths if os.access(path, os.X_OK)), "")


def _ask(tool: str, *arguments: str) -> str:
    """Return the output of a tool, "" if it is missing, fails or hangs."""
    import subprocess

    path = _find(tool)
    if not path or tool in _silent:
        return ""
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        _silent.add(tool)
        return ""
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""
