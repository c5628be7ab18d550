"""The entry point of cni-vlan. Here, and only here, cni-ipam is wired in as a built-in delegate."""

from cni_core import process
from cni_core.call import Call
from cni_core.context import Commands, Context
from cni_core.events import Finished, StageEnded


def load_commands() -> Commands:
    """Return the verbs, imported when one is called, so that VERSION and protocol errors stay cheap."""
    from cni_vlan import commands

    return commands


def load_ipam_commands() -> Commands:
    """Return the verbs of cni-ipam, which run in this process instead of a child process."""
    from cni_ipam import commands

    return commands


DELEGATES = {"cni-ipam": load_ipam_commands}


def on_event(event: object, call: Call | None, context: Context) -> None:
    """Announce a new pod's addresses from a process that outlives this one."""
    if isinstance(event, StageEnded | Finished):  # before an import that these do not need
        return
    from cni_vlan import announcer

    announcer.on_event(event, call, context, lambda later: process.run_detached(later.send_all))


def command_line() -> None:
    """Run the tool for operators; exits the process."""
    from cni_ipam import config, inventory, sharing
    from cni_ipam.place import DATA_DIR
    from cni_vlan import release
    from cni_vlan.cli import Wiring, tool
    from cni_vlan.node import Leases, PoolFault, PoolUse

    def leases() -> Leases:
        held = inventory.leased_addresses(DATA_DIR, void=False)
        return {(each.lease.network, each.lease.key): each.lease.addresses for each in held}

    def pools() -> tuple[PoolUse, ...]:
        return tuple(PoolUse(u.pool, u.subnet, u.size, u.free) for u in inventory.usage(DATA_DIR))

    def faults() -> tuple[PoolFault, ...]:
        return tuple(PoolFault(*fault) for fault in sharing.faults(DATA_DIR))

    def detach(held: release.Held, cni_path: str) -> str:
        environ, stdin = release.environment(held, cni_path), release.configuration(held)
        return process.run_verb("cni-vlan", load_commands, DELEGATES, environ, stdin)

    tool(prog_name="cni-vlan", obj=Wiring({"cni-ipam": config.parse}, leases, pools, faults, detach))


def main() -> int:
    """Run this process as cni-vlan."""
    return process.main("cni-vlan", load_commands, DELEGATES, command_line, on_event)


if __name__ == "__main__":
    raise SystemExit(main())
