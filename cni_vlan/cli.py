"""The command-line tool of cni-vlan, for operators."""

import json
import os
from collections.abc import Callable
from typing import Any, NamedTuple, TextIO

import click

from cni_core.errors import CniError
from cni_core.netfile import CONF_DIR
from cni_core.run_directory import AGENT_SOCKET
from cni_net.rtnl import open_rtnl
from cni_vlan import convert, doctor, fabric, netdir, release
from cni_vlan import node as nodes
from cni_vlan.doctor import Finding, Subject, Verdict
from cni_vlan.ledger import Ledger
from cni_vlan.netdir import NetworkFile, Parsers
from cni_vlan.node import Leases, ParentUse, PoolFault, PoolUse
from cni_vlan.release import Detach, Held

_ROUTE = "{:<26}{:<18}{:<16}{:<6}{:<22}{}"
_COLOURS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}
_conf_dir = click.option(
    "--conf-dir", default=CONF_DIR, show_default=True, help="Directory of the network configurations."
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Wiring(NamedTuple):
    """The parts that the entry point supplies: cni-ipam's parsers, leases of this boot and pools; and DEL."""

    parsers: Parsers
    leases: Callable[[], Leases]
    pools: Callable[[], tuple[PoolUse, ...]]
    faults: Callable[[], tuple[PoolFault, ...]]
    detach: Detach


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cni-vlan")
def tool() -> None:
    """Inspect and maintain networks of macvlan and ipvlan interfaces on 802.1q parents.

    A container runtime sets CNI_COMMAND, and runs this program as a CNI plugin.
    """


@tool.command("validate")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.pass_obj
def validate_command(wiring: Wiring, files: tuple[str, ...]) -> None:
    """Check network configurations, and list every problem.

    FILES are .conf or .conflist files.
    """
    read = [netdir.read(file, wiring.parsers) for file in files]
    for file in read:
        _report(file)
    wrong = sum(not file.attachments for file in read)
    if wrong:
        raise click.ClickException(f"{wrong} of {len(files)} files are not valid")


def _report(file: NetworkFile) -> None:
    for text in file.problems:
        click.echo(f"{file.path}: {text}", err=True)
    for text in file.warnings:
        click.echo(f"{file.path}: warning: {text}", err=True)
    if file.attachments:
        click.echo(f"{file.path}: valid")
    elif not file.problems:
        click.echo(f"{file.path}: no plugin in it has the type {netdir.PLUGIN}", err=True)


@tool.command("convert")
@click.argument("file", type=click.File())
@click.option(
    "--out-dir", type=click.Path(file_okay=False), help="Output directory, with one .conflist per network."
)
def convert_command(file: TextIO, out_dir: str | None) -> None:
    """Convert FILE (or - for stdin) into a network list for cni-vlan.

    FILE is the output of `docker network inspect NETWORK...`, or a configuration of the reference plugins
    macvlan, ipvlan or vlan. Notes on each network go to stderr.
    """
    try:
        converted = convert.convert(json.load(file))
    except ValueError as error:
        raise click.ClickException(f"{file.name}: not JSON: {error}") from error
    except CniError as error:
        raise click.ClickException(f"{file.name}: {error.msg}") from error
    if len(converted) != 1 and not out_dir:
        raise click.ClickException(f"{len(converted)} networks: choose a directory for them with --out-dir")
    for network, notes in converted:
        for note in notes:
            click.echo(f"{network['name']}: {note}", err=True)
        _put(network, out_dir)


def _put(network: dict[str, Any], directory: str | None) -> None:
    text = json.dumps(network, indent=2)
    if directory is None:
        click.echo(text)
        return
    path = os.path.join(directory, f"{network['name']}.conflist")
    try:
        os.makedirs(directory, exist_ok=True)
        with open(path, "x", encoding="utf-8") as output:
            output.write(text + "\n")
    except OSError as error:
        raise click.ClickException(f"write {path}: {error.strerror}") from error
    click.echo(f"wrote {path}")


@tool.command("networks")
@_conf_dir
@_as_json
@click.pass_obj
def networks_command(wiring: Wiring, conf_dir: str, *, as_json: bool) -> None:
    """Show the networks on this node: parents, VLANs, pods, addresses."""
    try:
        with open_rtnl() as rtnl:
            parents = nodes.parents_in_use(nodes.read_node(rtnl, Ledger(), wiring.leases()))
        files = list(netdir.read_directory(conf_dir, wiring.parsers))
    except CniError as error:
        raise click.ClickException(error.msg) from error
    used = {network for parent in parents for network in parent.networks}
    configured = {attachment.network for file in files for attachment in file.attachments}
    idle = sorted(configured - used)
    if as_json:
        click.echo(json.dumps({"parents": [_parent_json(p) for p in parents], "idle": idle}, indent=2))
        return
    for line in nodes.tree(parents, idle):
        click.echo(line)


def _parent_json(parent: ParentUse) -> dict[str, Any]:
    pods = {network: [pod._asdict() for pod in pods] for network, pods in parent.networks.items()}
    return {**parent._asdict(), "networks": pods}


@tool.command("routes")
@_as_json
def routes_command(*, as_json: bool) -> None:
    """Show the exported prefixes, and the daemons that know them.

    These are the prefixes of networks with the key export. NEXT HOP is the address of the parent, to which
    routers send the packets. DAEMON lists the daemons that have the route, by birdc and vtysh.
    """
    try:
        with open_rtnl() as rtnl:
            found = fabric.exported(rtnl, nodes.read_node(rtnl, Ledger()))
    except CniError as error:
        raise click.ClickException(error.msg) from error
    if as_json:
        click.echo(json.dumps([route._asdict() for route in found], indent=2))
        return
    click.echo(_ROUTE.format("PREFIX", "TABLE", "PARENT", "PODS", "NEXT HOP", "DAEMON"))
    for route in found:
        hops = ",".join(route.next_hops) or ("any, by host access" if route.by_host else "none")
        table = f"{route.table}" if route.is_there else f"missing in {route.table}"
        taken = ",".join(route.daemons) or "-"
        click.echo(_ROUTE.format(route.prefix, table, route.parent, route.pods, hops, taken).rstrip())


@tool.command("doctor")
@_conf_dir
@click.option("--agent", default=AGENT_SOCKET, show_default=True, help="Socket of the agent.")
@_as_json
@click.pass_obj
def doctor_command(wiring: Wiring, conf_dir: str, agent: str, *, as_json: bool) -> None:
    """Check this node, and give advice on each problem. Changes nothing.

    The exit status is 1 if something fails; warnings do not count.
    """
    try:
        with open_rtnl() as rtnl:
            files = list(netdir.read_directory(conf_dir, wiring.parsers))
            node = nodes.read_node(rtnl, Ledger(), wiring.leases(), wiring.pools(), wiring.faults())
            found = doctor.examine(Subject(rtnl, node, files, agent))
    except CniError as error:
        raise click.ClickException(error.msg) from error
    if as_json:
        click.echo(json.dumps([{**f._asdict(), "verdict": f.verdict.value} for f in found], indent=2))
    else:
        for finding in found:
            _show(finding)
    if any(finding.verdict is Verdict.FAIL for finding in found):
        raise click.exceptions.Exit(1)


def _show(finding: Finding) -> None:
    verdict = click.style(f"{finding.verdict.value:<4}", fg=_COLOURS[finding.verdict], bold=True)
    click.echo(f"{verdict}  {finding.subject}: {finding.text}")
    if finding.advice:
        click.echo(f"      -> {finding.advice}")


@tool.command("release")
@click.argument("container")
@click.argument("ifname", required=False)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--force", is_flag=True, help="Release even if the container's network namespace exists.")
@click.option(
    "--cni-path",
    envvar="CNI_PATH",
    default="/opt/cni/bin",
    show_default=True,
    help="Directories of the IPAM plugins.",
)
@click.pass_obj
def release_command(
    wiring: Wiring, container: str, ifname: str | None, *, yes: bool, force: bool, cni_path: str
) -> None:
    """Release what a container that is gone still holds.

    Runs the DEL that its runtime did not call, for CONTAINER or for its interface IFNAME alone: removes the
    link, the addresses, and a parent without other pods. CONTAINER is the id, or the beginning of it.
    """
    found = release.find(Ledger(), container, ifname) if container else []  # every id begins with ""
    if not found:
        raise click.ClickException(f"{container}: no attachment of such a container is recorded")
    if len({held.key.container_id for held in found}) > 1:
        raise click.ClickException(f"{container}: the ids of several containers begin so, give more of it")
    alive = [held for held in found if held.is_alive]
    if alive and not force:
        raise click.ClickException(
            f"{alive[0].label} still exists, at {alive[0].sandbox}: remove the pod, or use --force"
        )
    unknown = [held for held in found if not held.sandbox]
    if unknown and not force:
        raise click.ClickException(
            f"{unknown[0].label}: it may still run, as its namespace is unknown: use --force if it does not"
        )
    if not yes:
        click.confirm(f"Release {', '.join(held.label for held in found)}?", abort=True)
    for held in found:
        _release(held, wiring.detach, cni_path)


def _release(held: Held, detach: Detach, cni_path: str) -> None:
    problem = detach(held, cni_path)
    if problem:
        raise click.ClickException(f"{held.label}: {problem}")
    click.echo(f"released {held.label}")
