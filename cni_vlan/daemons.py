"""The routing daemons of this node, asked by their own tools. The only module that knows birdc and vtysh."""

import json
import os
from collections.abc import Iterator

_WITHIN_S = 5.0
_TOOLS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")


def present() -> list[str]:
    """Return the names of the daemons whose tools are installed."""
    return [name for name, tool in (("bird", "birdc"), ("frr", "vtysh")) if _find(tool)]


def holders(prefix: str) -> list[str]:
    """Return the names of the daemons that have taken a prefix from the kernel."""
    return list(_holders(prefix))


def _holders(prefix: str) -> Iterator[str]:
    if prefix in _ask("birdc", "-r", "show", "route", prefix, "table", "all"):
        yield "bird"
    family = "ipv6" if ":" in prefix else "ip"
    if _is_in_frr(_ask("vtysh", "-c", f"show {family} route table all {prefix} json")) or _is_in_frr(
        _ask("vtysh", "-c", f"show bgp {'ipv6' if family == 'ipv6' else 'ipv4'} unicast {prefix} json")
    ):
        yield "frr"


def _is_in_frr(text: str) -> bool:
    try:
        return bool(json.loads(text or "{}"))
    except ValueError:
        return False


def _find(tool: str) -> str:
    paths = (os.path.join(directory, tool) for directory in _TOOLS)
    return next((path for path in paths if os.access(path, os.X_OK)), "")


def _ask(tool: str, *arguments: str) -> str:
    """Return the output of a tool, "" if it is missing, fails or hangs."""
    import subprocess

    path = _find(tool)
    if not path:
        return ""
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=_WITHIN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
