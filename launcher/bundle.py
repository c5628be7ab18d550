"""The bundle's one program: it runs the executable that it was started as."""

import contextlib
import gc
import os
import sys
from typing import NoReturn


def main() -> int:
    """Run cni-vlan, cni-ipam or cni-agent, by the name of the file."""
    name = os.path.basename(sys.argv[0])
    if name == "cni-vlan":
        from cni_vlan.__main__ import main as vlan

        return vlan()
    if name == "cni-ipam":
        from cni_ipam.__main__ import main as ipam

        return ipam()
    if name == "cni-agent":
        gc.enable()
        from cni_agent.__main__ import main as agent

        agent()
    sys.stderr.write(f"{name}: start this as cni-vlan, cni-ipam or cni-agent\n")
    return 2


def leave(status: int) -> NoReturn:
    """End the process at once: a runtime would only wait while the interpreter clears its memory."""
    if sys.stderr is not None:  # started with it closed
        with contextlib.suppress(OSError):  # nobody reads it any more
            sys.stderr.flush()
    os._exit(status)


gc.disable()  # a plugin ends before there is anything to collect, and imports set off many collections
leave(main())
