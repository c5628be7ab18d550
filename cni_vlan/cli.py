"""What people see of cni-vlan when they run it by hand."""

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cni-vlan")
def tool() -> None:
    """Attach pods to macvlan and ipvlan interfaces on 802.1q parents.

    This is a CNI plugin: a container runtime runs it, and sets CNI_COMMAND.
    """
