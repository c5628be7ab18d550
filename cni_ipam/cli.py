"""The command-line tool of cni-ipam: shows leases and pools, releases, takes over from host-local."""

import contextlib
import ipaddress
import json
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import click

from cni_core.call import Call
from cni_core.errors import CniError, InvalidConfig
from cni_core.netfile import read_plugins
from cni_ipam import config, hostlocal, inventory
from cni_ipam.inventory import LeasedAddress, Usage
from cni_ipam.lease import Lease
from cni_ipam.lease_store import Transaction
from cni_ipam.place import DATA_DIR, Place
from cni_ipam.stores import open_store

_BAR = 20  # characters
data_dir_option = click.option(
    "--data-dir", default=DATA_DIR, show_default=True, help="Directory of the leases (key dataDir)."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cni-vlan")
def tool() -> None:
    """Inspect and maintain the addresses that cni-ipam leases to pods.

    A container runtime sets CNI_COMMAND, and runs this program as a CNI plugin.
    """


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Turn a CniError into an error message of the tool."""
    try:
        yield
    except CniError as error:
        raise click.ClickException(f"{error.msg} (CNI code {error.code})") from error


@tool.command("leases")
@click.option("--network", help="Only the leases of this network.")
@json_option
@data_dir_option
def leases_command(network: str | None, *, as_json: bool, data_dir: str) -> None:
    """List the leased addresses. Void leases are from an earlier boot: their addresses are free."""
    with failures():
        every = sorted(inventory.leased_addresses(data_dir), key=inventory.by_address)
    found = [leased for leased in every if network in {None, leased.lease.network}]
    if as_json:
        click.echo(json.dumps([_lease_json(leased) for leased in found], indent=2))
        return
    rows = [_lease_row(leased) for leased in found]
    table(("ADDRESS", "NETWORK", "POD", "CONTAINER", "INTERFACE", "SINCE", "STATE"), rows)


def _lease_row(leased: LeasedAddress) -> Sequence[str]:
    lease = leased.lease
    state = "void" if leased.void else "leased"
    container = lease.key.container_id[:13]
    pod = lease.pod.label or "-"
    return leased.address, lease.network, pod, container, lease.key.ifname, lease.since, state


def _lease_json(leased: LeasedAddress) -> dict[str, Any]:
    lease = leased.lease
    return {
        "address": leased.address,
        "pool": leased.pool,
        "network": lease.network,
        "pod": lease.pod.label,
        "podUid": lease.pod.uid,
        "containerId": lease.key.container_id,
        "interface": lease.key.ifname,
        "since": lease.since,
        "void": leased.void,
    }


@tool.command("pools")
@json_option
@data_dir_option
def pools_command(*, as_json: bool, data_dir: str) -> None:
    """Show how many addresses of each subnet are leased and free."""
    with failures():
        found = list(inventory.usage(data_dir))
    if as_json:
        click.echo(json.dumps([usage._asdict() for usage in found], indent=2))
        return
    rows = [(*map(_short, usage), _bar(usage)) for usage in found]
    table(("POOL", "SUBNET", "SIZE", "USED", "FREE", "RESERVED", ""), rows)


def _short(value: object) -> str:
    """Return a number in short form: the size of an IPv6 subnet is too long for a column."""
    return f"~2^{math.log2(value):.0f}" if isinstance(value, int) and value >= 1 << 32 else str(value)


def _bar(usage: Usage) -> str:
    if not usage.size:
        return ""  # after a killed ADD: its subnet is chosen, and not used yet
    taken = usage.size - usage.free
    filled = taken * _BAR // usage.size
    if taken and not filled:
        filled = 1  # only an empty subnet is shown as empty
    return f"[{'#' * filled}{'.' * (_BAR - filled)}] {taken / usage.size:4.0%}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


@tool.command("release")
@click.argument("address")
@click.option("--pool", help="Pool of the lease, if several pools have the address.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@data_dir_option
def release_command(address: str, pool: str | None, *, yes: bool, data_dir: str) -> None:
    """Release the lease of ADDRESS.

    This also releases the other addresses of the same pod interface. A pod that still runs keeps using them,
    and another pod may get them too: release only unused addresses.
    """
    with failures():
        leased = _only_lease(address, pool, data_dir)
        lease = leased.lease
        name = f"{lease.pod.label or lease.key.container_id} {lease.key.ifname} on {lease.network}"
        if not yes:
            click.confirm(f"Release {', '.join(lease.addresses)} of {name}?", abort=True)
        store = open_store(Place(leased.pool, data_dir))
        store.transaction(lambda pool: _release_unchanged(pool, lease, address))
    click.echo(f"released {', '.join(lease.addresses)} of {name}")


def _only_lease(address: str, pool: str | None, data_dir: str) -> LeasedAddress:
    """Return the only lease of an address, or raise if there is none or several."""
    try:
        address = str(ipaddress.ip_interface(address).ip)
    except ValueError as error:
        raise click.ClickException(f"{address}: not an IP address") from error
    found = [
        leased
        for leased in inventory.leased_addresses(data_dir, void=False)
        if leased.address.partition("/")[0] == address and pool in {None, leased.pool}
    ]
    if not found:
        raise click.ClickException(f"{address} is not leased")
    if len(found) > 1:
        pools = " and ".join(leased.pool for leased in found)
        raise click.ClickException(f"{address} is leased in pools {pools}: choose one with --pool")
    return found[0]


def _release_unchanged(pool: Transaction, lease: Lease, address: str) -> None:
    if pool.lease_of(lease.key) != lease:
        raise click.ClickException(f"{address}: its lease has changed meanwhile: run the command again")
    pool.release(lease)


@tool.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--from", "source", help="host-local's directory [default: /var/lib/cni/networks/<network>].")
@click.option("--dry-run", is_flag=True, help="Only show the leases that would be taken over.")
def import_command(file: str, source: str | None, *, dry_run: bool) -> None:
    """Take over the leases of host-local for a network.

    FILE is the network's configuration (.conf or .conflist), with "host-local" or "cni-ipam" as ipam.type. No
    address changes, and host-local's directory is not modified. If there is a conflict, nothing is done.
    """
    warnings: list[str] = []
    with failures():
        conf = with_ipam(file)
        request = config.parse(Call("ADD", conf), warnings.append)
        directory = source or os.path.join(hostlocal.DATA_DIR, conf["name"])
        if not os.path.isdir(directory):
            raise click.ClickException(f"{directory}: no such directory")
        source_of = hostlocal.Source(directory, conf["name"], request.range_sets)
        takeover = open_store(request.place).transaction(
            lambda pool: hostlocal.take_over(source_of, pool, dry_run=dry_run)
        )
    for text in warnings:
        click.echo(f"warning: {text}", err=True)
    _report(takeover, dry_run=dry_run)


def with_ipam(file: str) -> dict[str, Any]:
    """Return the plugin's configuration in a network's file that has an IPAM section."""
    for conf in read_plugins(file):
        if isinstance(conf.get("ipam"), dict):
            return conf
    raise InvalidConfig(f"{file}: no plugin in it has the key ipam")


def _report(takeover: hostlocal.Takeover, *, dry_run: bool) -> None:
    for text in takeover.conflicts:
        click.echo(f"conflict: {text}", err=True)
    if takeover.conflicts:
        raise click.ClickException(f"nothing was taken over: {len(takeover.conflicts)} conflicts")
    verb = "would take over" if dry_run else "took over"
    for lease in takeover.leases:
        click.echo(f"{verb} {', '.join(lease.addresses)} of {lease.key.container_id} {lease.key.ifname}")
    for address in takeover.void:
        click.echo(f"skipped {address}: its lease is from an earlier boot")
    present, void = len(takeover.present), len(takeover.void)
    click.echo(
        f"{verb} {len(takeover.leases)} attachments;"
        f" {present} were leased here already, {void} void leases were skipped"
    )
