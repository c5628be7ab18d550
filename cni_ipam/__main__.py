"""The entry point of cni-ipam."""

from cni_core import process
from cni_core.context import Commands


def load_commands() -> Commands:
    """Return the verbs, imported when one is called, so that VERSION and protocol errors stay cheap."""
    from cni_ipam import commands

    return commands


def command_line() -> None:
    """Run the tool for operators; exits the process."""
    from cni_ipam import cluster_cli  # noqa: F401 - registers its commands
    from cni_ipam.cli import tool

    tool(prog_name="cni-ipam")


def main() -> int:
    """Run this process as cni-ipam."""
    return process.main("cni-ipam", load_commands, {}, command_line)


if __name__ == "__main__":
    raise SystemExit(main())
