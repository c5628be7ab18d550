"""The bundle's one program: it runs the executable that it was started as."""

import os
import sys


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
        from cni_agent.__main__ import main as agent

        agent()
    sys.stderr.write(f"{name}: start this as cni-vlan, cni-ipam or cni-agent\n")
    return 2


sys.exit(main())
